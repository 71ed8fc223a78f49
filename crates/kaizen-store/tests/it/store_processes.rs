//! Two processes that put into one directory at once, killed at random.

use std::fs;
use std::io::Write as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use kaizen_core::record::Release;
use kaizen_core::{ArtifactStore, Digest, Payload, Records, stream};
use kaizen_store::{LocalStore, fsck};
use kaizen_testkit::artifact_store::release;
use rand::{Rng as _, SeedableRng as _};

/// Says to the test, run by itself, that it is to write and be killed.
const VICTIM: &str = "KAIZEN_STORE_VICTIM";

fn size(version: u32) -> usize {
    1 + (version % 100) as usize * 997
}

/// Where a process writes down what was acknowledged.
fn said(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("said-{number}"))
}

/// Waits until something is in this file; not for ever, for the process may have died.
fn wait_for(path: &Path) {
    for _ in 0..5_000 {
        if fs::metadata(path).is_ok_and(|metadata| metadata.len() > 0) {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Puts records until it is killed, and writes down which puts were acknowledged.
async fn write_until_killed(dir: &Path, seed: u64) {
    let store = LocalStore::open(dir.join("store")).await.unwrap();
    let mut acknowledged =
        fs::File::options().append(true).create(true).open(said(dir, seed)).unwrap();
    let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    loop {
        let version = random.random_range(0..20_000);
        let rows = vec![version as u8; size(version)];
        let layer = if version % 3 == 0 {
            let pieces = stream::chunked(rows.into(), 10_000);
            store.put_payload("rows", "text/plain", pieces).await.unwrap()
        } else {
            let payload = Payload::new("rows", "text/plain", rows);
            store.put_blob(payload.bytes.clone()).await.unwrap();
            payload.descriptor()
        };
        let id = store.put_with(&release(version), vec![layer]).await.unwrap();
        writeln!(acknowledged, "{id}").unwrap();
    }
}

async fn two_processes_are_killed(rounds: u64) {
    let test = std::thread::current().name().unwrap().to_owned();
    if let Some(victim) = std::env::var_os(VICTIM) {
        let victim = victim.into_string().unwrap();
        let (seed, dir) = victim.split_once(':').unwrap();
        return write_until_killed(Path::new(dir), seed.parse().unwrap()).await;
    }
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(7);
    let mut at_work = 0;
    for round in 0..rounds {
        let start = |writer: u64| {
            Command::new(std::env::current_exe().unwrap())
                .args([&test, "--exact", "--nocapture", "--include-ignored"])
                .env(VICTIM, format!("{}:{}", 2 * round + writer, dir.display()))
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap()
        };
        let mut writers = [start(0), start(1)];
        for (writer, number) in writers.iter_mut().zip(2 * round..) {
            // Every fourth time at any time, also while it opens the store.
            if !round.is_multiple_of(4) {
                wait_for(&said(dir, number));
            }
            std::thread::sleep(Duration::from_millis(random.random_range(5..40)));
            writer.kill().unwrap();
            // Killed, and not ended by an error of its own.
            assert_eq!(writer.wait().unwrap().signal(), Some(9));
        }
        let store = LocalStore::open(dir.join("store")).await.unwrap();
        let listed = store.manifests().await.unwrap();
        for writer in [2 * round, 2 * round + 1] {
            let Ok(said) = fs::read_to_string(said(dir, writer)) else { continue };
            at_work += u64::from(!said.is_empty());
            for line in said.lines().filter(|line| line.len() == 71) {
                let id: Digest = line.parse().unwrap();
                assert!(listed.contains(&id), "round {round}: {id} was acknowledged");
            }
        }
        // It reads everything.
        if round % 4 == 3 {
            let checked = fsck(&store, None).await.unwrap();
            assert!(checked.is_sound(), "round {round}: {:?}", checked.problems);
        }
    }
    let store = LocalStore::open(dir.join("store")).await.unwrap();
    let manifests = store.manifests().await.unwrap();
    println!("{} records after {rounds} rounds, by {at_work} processes", manifests.len());
    assert!(3 * at_work > 2 * rounds, "a third of them, of two a round");
    for id in manifests {
        let stored = store.get::<Release>(&id).await.unwrap();
        let rows = stored.payload(&store, "rows").await.unwrap();
        assert_eq!(rows.len(), size(stored.record.version));
    }
}

#[tokio::test]
async fn two_processes_that_are_killed_at_random_lose_nothing_that_was_acknowledged() {
    two_processes_are_killed(200).await;
}
