//! The same bytes however many threads the process has.
//!
//! `ThreadPool::install` governs rayon, but candle's matrix product asks the environment how many
//! threads it may use; so this starts processes.

use std::process::Command;

use kaizen_core::Digest;
use kaizen_table::Estimator;
use kaizen_testkit::estimator::separable;
use kaizen_train::{GradientBoosting, LogisticRegression};

const THREADS: &str = "RAYON_NUM_THREADS";
const CHILD: &str = "KAIZEN_TRAIN_TEST_CHILD";

fn digests() -> String {
    let (x, y) = separable();
    let boosting = GradientBoosting { trees: 20, subsample: 0.7, ..Default::default() };
    let estimators: [&dyn Estimator; 2] = [&boosting, &LogisticRegression::default()];
    let digest = |estimator: &&dyn Estimator| {
        Digest::of(estimator.fit(x.view(), y.view(), 1).unwrap().to_bytes().unwrap()).to_string()
    };
    estimators.iter().map(digest).collect::<Vec<_>>().join(" ")
}

#[test]
fn one_two_and_five_threads_give_the_same_bytes() {
    if std::env::var_os(CHILD).is_some() {
        println!("digests: {}", digests());
        return;
    }
    let here = digests();
    for threads in ["1", "2", "5"] {
        let name = "threads::one_two_and_five_threads_give_the_same_bytes";
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture"])
            .env(THREADS, threads)
            .env(CHILD, "1")
            .output()
            .unwrap();
        let printed = String::from_utf8(child.stdout).unwrap();
        assert!(printed.contains(&format!("digests: {here}")), "{threads} threads: {printed}");
    }
}
