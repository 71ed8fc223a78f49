//! Killed in the middle of a retraining, the loop opens again and goes on.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use kaizen::core::record::Trigger;
use kaizen::core::{AuditLog as _, Event};
use kaizen::cycle::CHAMPION;
use kaizen::prelude::*;
use kaizen::store::LocalLog;

use crate::flights::host::Host;
use crate::flights::monthly_policy;
use crate::flights::question::{MODEL, days};
use crate::flights::world::World;

/// The folder in which the child process works; its presence makes the child's test run.
const CHILD: &str = "KAIZEN_CRASH_CHILD";
const DAYS: u32 = 24;

async fn open(dir: &Path, world: &World) -> Host {
    let now = days().start(world.span().0 + 21);
    Host::open(dir, monthly_policy(Triggers::default()), world, now).await.unwrap()
}

fn later(world: &World) -> Timestamp {
    days().start(world.span().0 + 23)
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_it_retrains_it_goes_on_where_it_stopped() {
    let world = World::load(Some(DAYS)).await.unwrap();
    let base = tempfile::tempdir().unwrap();
    let mut host = open(base.path(), &world).await;
    let first = host.cycle.tick(days().start(world.span().0 + 21)).await.unwrap();
    assert!(first.retraining.unwrap().release.is_some());
    drop(host);

    let mut cut_off = 0;
    for delay_ms in [0, 100, 300, 600, 1_000, 1_600] {
        let dir = tempfile::tempdir().unwrap();
        copy(base.path(), dir.path());
        kill_a_child_after(dir.path(), Duration::from_millis(delay_ms));
        cut_off += u32::from(check_that_it_goes_on(dir.path(), &world).await);
    }
    assert!(cut_off > 0, "no round was killed in the middle");
}

/// Reopens what the killed child left; says whether a retraining had been cut off.
async fn check_that_it_goes_on(dir: &Path, world: &World) -> bool {
    let mut host = open(dir, world).await;
    // The log verifies, and the champion that it names serves before anything else happens.
    LocalLog::verify(dir.join("log"), host.log.key()).await.unwrap();
    let champion = host.cycle.registry().alias(MODEL, CHAMPION).await.unwrap().unwrap();
    let served = host.router.pick("any").unwrap();
    let before = entries(&host).await;
    let requested = before.iter().filter(|e| e.event == Event::RetrainRequested).count();
    let decided = before.iter().filter(|e| matches!(e.event, Event::Decided { .. })).count();
    assert_eq!(served.release().model, champion.model);
    served.scorer().score(&world.rows.slice(0, 5)).unwrap();

    // The request that was cut off is carried through, once, and the log still verifies.
    let tick = host.cycle.tick(later(world)).await.unwrap();
    assert!(tick.retraining.is_some() || decided == requested, "the request was forgotten");
    let after = entries(&host).await;
    assert_eq!(after[..before.len()], before[..], "history was rewritten");
    let requested_after = after.iter().filter(|e| e.event == Event::RetrainRequested).count();
    let decided = after.iter().filter(|e| matches!(e.event, Event::Decided { .. })).count();
    assert_eq!(requested_after, requested, "the cut-off request is not made again");
    assert_eq!(decided, requested, "every request is decided once");
    let verified = LocalLog::verify(dir.join("log"), host.log.key()).await.unwrap();
    assert_eq!(verified.size, after.len() as u64);
    tick.retraining.is_some()
}

async fn entries(host: &Host) -> Vec<kaizen::core::Entry> {
    host.log.read(0..host.log.size().await.unwrap()).await.unwrap()
}

fn kill_a_child_after(dir: &Path, delay: Duration) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "crash::child", "--ignored", "--nocapture"])
        .env(CHILD, dir)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // The child says by a file that its retraining is about to begin.
    let ready = dir.join("ready");
    for _ in 0..1_200 {
        if ready.exists() {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(ready.exists(), "the child never began");
    std::thread::sleep(delay);
    child.kill().unwrap();
    child.wait().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "runs in a child process, which its parent kills"]
async fn child() {
    let Some(dir) = std::env::var_os(CHILD) else { return };
    let dir = Path::new(&dir);
    let world = World::load(Some(DAYS)).await.unwrap();
    let mut host = open(dir, &world).await;
    std::fs::write(dir.join("ready"), "").unwrap();
    let trigger = Trigger::Manual { reason: "a test asks".into() };
    host.cycle.retrain(later(&world), trigger).await.unwrap();
}

fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            std::fs::create_dir(&to).unwrap();
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), &to).unwrap();
        }
    }
}
