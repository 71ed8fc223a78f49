use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kaizen_core::{AuditLog, ErrorKind};
use kaizen_store::merkle::{leaf_hash, verify_consistency, verify_inclusion};
use kaizen_store::{Ed25519Signer, LocalLog};
use kaizen_testkit::audit_log::entry;

fn signer(seed: u8) -> Arc<Ed25519Signer> {
    Arc::new(Ed25519Signer::from_seed("kaizen.test/log", [seed; 32]).unwrap())
}

async fn append(log: &LocalLog, numbers: std::ops::Range<u64>) {
    let entries: Vec<_> = numbers.map(entry).collect();
    log.append(&entries, None).await.unwrap();
}

fn all_files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut waiting = vec![dir.to_owned()];
    while let Some(dir) = waiting.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                waiting.push(path);
            } else if !path.to_str().unwrap().ends_with(".lock") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

#[tokio::test]
async fn a_changed_byte_anywhere_is_noticed_and_its_file_named() {
    let dir = tempfile::tempdir().unwrap();
    let signer = signer(1);
    let log = LocalLog::open(dir.path(), signer.clone()).await.unwrap();
    append(&log, 0..1).await;
    append(&log, 1..3).await;
    let key = signer.verifier();
    let files = all_files(dir.path());
    let names: Vec<_> = files.iter().map(|f| f.strip_prefix(dir.path()).unwrap()).collect();
    let expected = [
        "checkpoint",
        "tile/0/000.p/1",
        "tile/0/000.p/3",
        "tile/entries/000.p/1",
        "tile/entries/000.p/3",
    ];
    assert_eq!(names, expected.map(Path::new));
    for path in files {
        let whole = fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << (at % 8);
            fs::write(&path, bytes).unwrap();
            let error = LocalLog::verify(dir.path(), &key).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{} byte {at}", path.display());
            let named = error.to_string().contains(path.to_str().unwrap());
            assert!(named, "{} byte {at}: {error}", path.display());
        }
        for bytes in [&whole[..whole.len() - 1], &[&whole[..], b"\n"].concat()] {
            fs::write(&path, bytes).unwrap();
            let error = LocalLog::verify(dir.path(), &key).await.unwrap_err();
            assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
        }
        fs::write(&path, whole).unwrap();
        LocalLog::verify(dir.path(), &key).await.unwrap();
    }
}

#[tokio::test]
async fn a_changed_or_missing_file_of_a_larger_log_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let signer = signer(1);
    let log = LocalLog::open(dir.path(), signer.clone()).await.unwrap();
    append(&log, 0..250).await;
    append(&log, 250..600).await;
    append(&log, 600..601).await;
    let key = signer.verifier();
    LocalLog::verify(dir.path(), &key).await.unwrap();
    let files = all_files(dir.path());
    assert!(files.len() >= 10, "{files:?}");
    for path in files {
        let whole = fs::read(&path).unwrap();
        for at in [0, whole.len() / 3, whole.len() - 1] {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x10;
            fs::write(&path, bytes).unwrap();
            let error = LocalLog::verify(dir.path(), &key).await.unwrap_err();
            let named = error.to_string().contains(path.to_str().unwrap());
            assert!(named, "{} byte {at}: {error}", path.display());
        }
        let shown = path.to_str().unwrap().to_owned();
        fs::remove_file(&path).unwrap();
        match LocalLog::verify(dir.path(), &key).await {
            Err(error) => assert!(error.to_string().contains(&shown), "{shown}: {error}"),
            // An older partial form may go.
            Ok(_) => assert!(shown.contains(".p/"), "{shown}"),
        }
        fs::write(&path, whole).unwrap();
    }
}

#[tokio::test]
async fn reading_an_altered_entry_is_corrupt() {
    let dir = tempfile::tempdir().unwrap();
    let log = LocalLog::open(dir.path(), signer(1)).await.unwrap();
    append(&log, 0..4).await;
    let path = dir.path().join("tile/entries/000.p/4");
    let text = fs::read(&path).unwrap();
    let at = text.windows(6).position(|w| w == b"champi").unwrap();
    let mut altered = text.clone();
    altered[at] = b'k';
    fs::write(&path, altered).unwrap();
    let error = log.read(0..4).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    let reopened = LocalLog::open(dir.path(), signer(1)).await.unwrap_err();
    assert_eq!(reopened.kind(), ErrorKind::Corrupt);
}

#[tokio::test]
async fn another_key_a_missing_checkpoint_and_an_older_one_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let log = LocalLog::open(dir.path(), signer(1)).await.unwrap();
    append(&log, 0..2).await;
    let checkpoint = dir.path().join("checkpoint");
    let old = fs::read(&checkpoint).unwrap();
    append(&log, 2..3).await;

    let error = LocalLog::open(dir.path(), signer(2)).await.unwrap_err();
    assert!(error.to_string().contains("checkpoint"), "{error}");
    assert!(LocalLog::verify(dir.path(), &signer(2).verifier()).await.is_err());

    // An older checkpoint is a shorter log, and only a witness can tell; it must still verify.
    fs::write(&checkpoint, old).unwrap();
    assert_eq!(log.size().await.unwrap(), 2);
    LocalLog::verify(dir.path(), &signer(1).verifier()).await.unwrap();

    fs::remove_file(&checkpoint).unwrap();
    let error = LocalLog::open(dir.path(), signer(1)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "a log that lost its head does not start anew");
    let error = LocalLog::verify(dir.path(), &signer(1).verifier()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn proofs_from_tiles_hold_for_every_entry_and_every_earlier_log() {
    let dir = tempfile::tempdir().unwrap();
    let log = LocalLog::open(dir.path(), signer(1)).await.unwrap();
    let mut heads = vec![log.checkpoint().await.unwrap()];
    let mut done = 0;
    for length in [1, 2, 252, 1, 1, 255, 90] {
        append(&log, done..done + length).await;
        done += length;
        heads.push(log.checkpoint().await.unwrap());
    }
    let entries = log.read(0..done).await.unwrap();
    for head in &heads[1..] {
        let steps = [0, 1, head.size / 2, 254, 255, 256, 257, head.size - 1];
        for index in steps.into_iter().filter(|index| *index < head.size) {
            let proof = log.inclusion_proof(index, head.size).await.unwrap();
            let leaf = leaf_hash(entries[index as usize].to_bytes().unwrap());
            verify_inclusion(&leaf, index, head.size, &proof, &head.root).unwrap();
        }
        for old in heads.iter().filter(|old| old.size <= head.size) {
            let proof = log.consistency_proof(old.size, head.size).await.unwrap();
            verify_consistency(old.size, head.size, &proof, &old.root, &head.root).unwrap();
        }
    }
    assert_eq!(log.inclusion_proof(0, done + 1).await.unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(log.inclusion_proof(9, 9).await.unwrap_err().kind(), ErrorKind::Invalid);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn appenders_at_once_lose_nothing_and_keep_their_order() {
    let dir = tempfile::tempdir().unwrap();
    let mut tasks = Vec::new();
    for task in 0..6_u64 {
        // Three logs on one directory, as three processes would have, with two tasks each.
        let log = LocalLog::open(dir.path(), signer(1)).await.unwrap();
        let logs = [log.clone(), log];
        tasks.extend(logs.into_iter().enumerate().map(|(half, log)| {
            tokio::spawn(async move {
                let first = 1_000 * task + 500 * half as u64;
                for number in (first..first + 24).step_by(3) {
                    append(&log, number..number + 3).await;
                }
            })
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    let verified = LocalLog::verify(dir.path(), &signer(1).verifier()).await.unwrap();
    assert_eq!(verified.size, 12 * 24);
    let log = LocalLog::open(dir.path(), signer(1)).await.unwrap();
    let entries = log.read(0..verified.size).await.unwrap();
    for task in 0..6_u64 {
        for half in 0..2 {
            let first = 1_000 * task + 500 * half;
            let expected: Vec<_> = (first..first + 24).map(entry).collect();
            let found: Vec<_> = entries.iter().filter(|e| expected.contains(e)).collect();
            assert_eq!(found, expected.iter().collect::<Vec<_>>());
        }
    }
    for three in entries.chunks(3) {
        let first = (0..6000).map(entry).position(|e| e == three[0]).unwrap() as u64;
        assert_eq!(three, (first..first + 3).map(entry).collect::<Vec<_>>(), "appends are whole");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_appends_that_expect_the_same_size_one_wins() {
    let dir = tempfile::tempdir().unwrap();
    let mut logs = Vec::new();
    for _ in 0..2 {
        let log = LocalLog::open(dir.path(), signer(1)).await.unwrap();
        logs.extend([log.clone(), log]);
    }
    for size in 0..12 {
        let mut tasks = Vec::new();
        for (number, log) in logs.iter().cloned().enumerate() {
            let entries = [entry(size * 10 + number as u64)];
            tasks.push(tokio::spawn(async move { log.append(&entries, Some(size)).await }));
        }
        let mut won = 0;
        for task in tasks {
            match task.await.unwrap() {
                Ok(range) => {
                    assert_eq!(range, size..size + 1);
                    won += 1;
                }
                Err(error) => assert_eq!(error.kind(), ErrorKind::Conflict, "{error}"),
            }
        }
        assert_eq!(won, 1);
    }
}

#[tokio::test]
async fn an_append_that_nobody_waits_for_still_happens() {
    let dir = tempfile::tempdir().unwrap();
    let log = LocalLog::open(dir.path(), signer(1)).await.unwrap();
    let entries = [entry(1), entry(2)];
    let mut append = log.append(&entries, None);
    std::future::poll_fn(|context| {
        let _ = append.as_mut().poll(context);
        std::task::Poll::Ready(())
    })
    .await;
    drop(append);
    for _ in 0..500 {
        if log.size().await.unwrap() == 2 {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
        tokio::task::yield_now().await;
    }
    assert_eq!(log.read(0..2).await.unwrap(), entries);
}
