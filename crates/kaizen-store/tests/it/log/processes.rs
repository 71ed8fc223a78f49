//! What processes that have a log open do when its files are not what they were.

use std::fs;
use std::path::Path;

use kaizen_core::{AuditLog, ErrorKind};
use kaizen_store::LocalLog;
use kaizen_testkit::audit_log::entry;

use super::{all_files, append, signer};

#[tokio::test]
async fn a_running_process_writes_over_no_damaged_commit() {
    let dir = tempfile::tempdir().unwrap();
    let first = LocalLog::open(dir.path(), signer(1)).await.unwrap();
    let second = LocalLog::open(dir.path(), signer(1)).await.unwrap();
    for number in 0..3 {
        append(&first, number..number + 1).await;
    }
    let path = dir.path().join("journal");
    let whole = fs::read(&path).unwrap();
    // In the heads, in the entries, in the digests; of a commit in the middle, and of the last.
    for at in [3, 20, 30, 60, 300, 4095, 4096 + 20, 4096 + 300, 2 * 4096 + 20, 2 * 4096 + 300] {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        fs::write(&path, &bytes).unwrap();
        let refused = [
            second.append(&[entry(9)], None).await.unwrap_err(),
            second.publish().await.unwrap_err(),
            second.size().await.unwrap_err(),
        ];
        for error in refused {
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{at}: {error}");
            assert!(error.to_string().contains(path.to_str().unwrap()), "{at}: {error}");
        }
        assert_eq!(fs::read(&path).unwrap(), bytes, "{at}");
    }
    fs::write(&path, &whole).unwrap();
    assert_eq!(second.append(&[entry(3)], None).await.unwrap(), 3..4);
    assert_eq!(first.read(0..4).await.unwrap(), (0..4).map(entry).collect::<Vec<_>>());
}

fn copy_into(from: &Path, to: &Path) {
    for file in all_files(from) {
        let to = to.join(file.strip_prefix(from).unwrap());
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(file, to).unwrap();
    }
}

#[tokio::test]
async fn a_process_follows_no_log_that_went_another_way() {
    let scratch = tempfile::tempdir().unwrap();
    let (dir, fork) = (scratch.path().join("log"), scratch.path().join("fork"));
    let log = LocalLog::open(&dir, signer(1)).await.unwrap();
    append(&log, 0..300).await;
    log.publish().await.unwrap();
    copy_into(&dir, &fork);
    append(&log, 300..302).await;
    let head = log.checkpoint().await.unwrap();
    // Signed by the same key, and longer.
    let other = LocalLog::open(&fork, signer(1)).await.unwrap();
    append(&other, 1_300..1_310).await;
    other.publish().await.unwrap();
    fs::remove_file(dir.join("checkpoint.lock")).unwrap();
    fs::remove_dir_all(dir.join("tile")).unwrap();
    copy_into(&fork, &dir);
    LocalLog::verify(&dir, log.key()).await.unwrap();
    for _ in 0..2 {
        for error in [
            log.append(&[entry(9)], None).await.unwrap_err(),
            log.checkpoint().await.unwrap_err(),
            log.publish().await.unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::Corrupt);
            let shown = dir.join("checkpoint");
            assert!(error.to_string().contains(shown.to_str().unwrap()), "{error}");
        }
    }
    // One that has not seen the other way cannot tell.
    let late = LocalLog::open(&dir, signer(1)).await.unwrap();
    assert!(late.size().await.unwrap() > head.size);
}

#[tokio::test]
async fn a_log_whose_lock_is_removed_or_damaged_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let first = LocalLog::open(dir.path(), signer(1)).await.unwrap();
    let second = LocalLog::open(dir.path(), signer(1)).await.unwrap();
    let path = dir.path().join("checkpoint.lock");
    for number in 0..24 {
        match number % 4 {
            0 => fs::remove_file(&path).unwrap(),
            2 => fs::write(&path, b"nothing that is known").unwrap(),
            _ => {}
        }
        let log = if number % 3 == 0 { &first } else { &second };
        append(log, number..number + 1).await;
        for log in [&first, &second] {
            assert_eq!(log.read(number..number + 1).await.unwrap(), [entry(number)]);
        }
    }
    LocalLog::verify(dir.path(), first.key()).await.unwrap();
}

/// A copy has no lock, or one that says nothing: nothing but the journal tells how far it goes.
#[tokio::test]
async fn a_reader_of_a_copy_takes_a_damaged_commit_for_no_end_of_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let log = LocalLog::open(dir.path(), signer(1)).await.unwrap();
    for number in 0..3 {
        append(&log, number..number + 1).await;
    }
    drop(log);
    let (path, lock) = (dir.path().join("journal"), dir.path().join("checkpoint.lock"));
    let whole = fs::read(&path).unwrap();
    for has_lock in [true, false] {
        match has_lock {
            true => fs::write(&lock, "").unwrap(),
            false => fs::remove_file(&lock).unwrap(),
        }
        let open = || LocalLog::reader(dir.path(), signer(1).verifier());
        let seen = open().await.unwrap();
        assert_eq!(seen.size().await.unwrap(), 3);
        for at in [20, 300, 4096 + 20, 4096 + 300] {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            fs::write(&path, &bytes).unwrap();
            for _ in 0..2 {
                let error = open().await.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Corrupt, "{at}: {error}");
                assert!(error.to_string().contains(path.to_str().unwrap()), "{at}: {error}");
            }
        }
        fs::write(&path, &whole).unwrap();
        assert_eq!(seen.size().await.unwrap(), 3);
    }
}

/// What it has seen so far hides nothing either.
#[tokio::test]
async fn a_reader_of_a_copy_that_grows_sees_that_a_commit_after_the_last_is_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let log = LocalLog::open(dir.path(), signer(1)).await.unwrap();
    append(&log, 0..1).await;
    let copy = tempfile::tempdir().unwrap();
    let file = |name: &str| (dir.path().join(name), copy.path().join(name));
    for name in ["checkpoint", "journal"] {
        let (from, to) = file(name);
        fs::copy(from, to).unwrap();
    }
    let reader = LocalLog::reader(copy.path(), signer(1).verifier()).await.unwrap();
    assert_eq!(reader.size().await.unwrap(), 1);
    append(&log, 1..2).await;
    append(&log, 2..3).await;
    let (from, to) = file("journal");
    let mut bytes = fs::read(from).unwrap();
    bytes[4096 + 300] ^= 1;
    fs::write(to, bytes).unwrap();
    for _ in 0..2 {
        assert_eq!(reader.size().await.unwrap_err().kind(), ErrorKind::Corrupt);
    }
}
