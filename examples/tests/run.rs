//! Runs the short examples and looks at what they print.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::path::PathBuf;
use std::process::Command;

/// Cargo builds a package's examples before it runs its tests, into a folder beside them.
fn run(example: &str) -> String {
    let tests = std::env::current_exe().unwrap();
    let target: PathBuf = tests.ancestors().nth(2).unwrap().join("examples").join(example);
    let output = Command::new(&target)
        .output()
        .unwrap_or_else(|error| panic!("{}: {error}; build with `cargo test`", target.display()));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    text
}

#[test]
fn point_in_time_answers_as_of_the_instant() {
    let text = run("point_in_time");
    let rows: Vec<&str> = text.lines().filter(|line| line.contains(":00   ")).collect();
    assert_eq!(rows, ["01:00   4.0   1", "03:00   9.9   2", "07:00   4.2   2", "15:00   —     0"]);
}

#[test]
fn features_online_are_served_as_they_would_be_trained_on() {
    let text = run("online_features");
    assert_eq!(text.matches("payments_1h").count(), 7, "two answers of three cards, and the check");
    assert!(text.contains("fraud: 6 rows served"), "{text}");
    let last = text.lines().last().unwrap_or_default();
    assert!(last.contains("spent_24h") && last.contains('6'), "{text}");
}

#[test]
fn drift_is_silent_first_and_then_alarms() {
    let text = run("drift");
    let alarm = text.lines().last().unwrap();
    let days: u32 = alarm.split_whitespace().nth(2).unwrap().parse().unwrap();
    assert!(alarm.starts_with("alarm after") && (1..=15).contains(&days), "{text}");
}

#[test]
fn packing_twice_gives_one_digest() {
    let text = run("package");
    let digests: Vec<&str> =
        text.split_whitespace().filter(|word| word.starts_with("sha256:")).collect();
    assert!(digests.len() >= 2 && digests[0] == digests[1], "{text}");
}
