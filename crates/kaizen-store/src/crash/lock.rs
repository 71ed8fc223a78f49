//! What becomes of a log whose `checkpoint.lock` is not what its writers left.

use std::fs;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kaizen_core::record::Occurrence;
use kaizen_core::{Actor, AuditLog, ErrorKind, OperationId, Signer};
use kaizen_testkit::audit_log::entry;

use super::{FailingDisk, Meddling};
use crate::files::{Disk, Files as _};
use crate::local_log::lock_file;
use crate::merkle::root;
use crate::note;
use crate::{Ed25519Signer, LocalLog};

fn signer() -> Arc<Ed25519Signer> {
    Arc::new(Ed25519Signer::from_seed("crash", [9; 32]).unwrap())
}

async fn append(log: &LocalLog, number: u64) {
    assert_eq!(log.append(&[entry(number)], None).await.unwrap(), number..number + 1);
}

async fn append_all(log: &LocalLog, numbers: Range<u64>) {
    let entries: Vec<_> = numbers.clone().map(entry).collect();
    assert_eq!(log.append(&entries, None).await.unwrap(), numbers);
}

async fn holds(log: &LocalLog, size: u64) {
    assert_eq!(log.size().await.unwrap(), size);
    assert_eq!(log.read(0..size).await.unwrap(), (0..size).map(entry).collect::<Vec<_>>());
}

#[tokio::test]
async fn an_older_record_after_a_power_cut_hides_nothing_and_is_held_against_the_log() {
    for publishes in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("checkpoint.lock");
        let log = LocalLog::open(dir.path(), signer()).await.unwrap();
        append(&log, 0).await;
        let record = fs::read(&path).unwrap();
        append(&log, 1).await;
        if publishes {
            log.publish().await.unwrap();
        }
        append(&log, 2).await;
        let later = fs::read(&path).unwrap();
        let running = LocalLog::reader(dir.path(), signer().verifier()).await.unwrap();
        fs::write(&path, &record).unwrap();
        lock_file::age(&path);
        holds(&LocalLog::reader(dir.path(), signer().verifier()).await.unwrap(), 3).await;
        holds(&running, 3).await;
        // It has not what was committed.
        fs::write(&path, &later).unwrap();
        lock_file::age(&path);
        let journal = fs::read(dir.path().join("journal")).unwrap();
        fs::write(dir.path().join("journal"), vec![0; journal.len()]).unwrap();
        let error = LocalLog::reader(dir.path(), signer().verifier()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        fs::write(dir.path().join("journal"), journal).unwrap();
        fs::write(&path, &record).unwrap();
        lock_file::age(&path);
        append(&LocalLog::open(dir.path(), signer()).await.unwrap(), 3).await;
        holds(&running, 4).await;
    }
}

#[tokio::test]
async fn nobody_writes_over_a_commit_of_which_the_record_does_not_tell() {
    for publishes in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("checkpoint.lock");
        let one = LocalLog::open(dir.path(), signer()).await.unwrap();
        append(&one, 0).await;
        let other = LocalLog::open(dir.path(), signer()).await.unwrap();
        append(&other, 1).await;
        let record = fs::read(&path).unwrap();
        append(&one, 2).await;
        if publishes {
            one.publish().await.unwrap();
        }
        fs::write(&path, record).unwrap();
        append(&other, 3).await;
        holds(&other, 4).await;
        holds(&one, 4).await;
        LocalLog::verify(dir.path(), one.key()).await.unwrap();
    }
}

#[tokio::test]
async fn a_commit_during_which_the_lock_is_removed_is_not_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("checkpoint.lock");
    let log = LocalLog::open(dir.path(), signer()).await.unwrap();
    append(&log, 0).await;
    let removes = path.clone();
    let disk = Meddling::overwriting(move |file, offset, bytes| {
        file.write_all_at(bytes, offset)?;
        fs::remove_file(&removes)
    });
    let builder = LocalLog::builder(dir.path(), signer()).on(Arc::new(disk));
    let meddled = builder.open().await.unwrap();
    let error = meddled.append(&[entry(1)], None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    // As it was whole, it has happened; and everybody knows.
    append(&log, 2).await;
    holds(&meddled, 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_waits_for_a_lock_that_was_removed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("checkpoint.lock");
    let log = LocalLog::open(dir.path(), signer()).await.unwrap();
    append(&log, 0).await;
    // Another writer was stopped while it had it, and somebody removed the file.
    let stopped = fs::File::open(&path).unwrap();
    stopped.lock().unwrap();
    fs::remove_file(&path).unwrap();
    let entries = [entry(1)];
    let appending = log.append(&entries, None);
    let appended = tokio::time::timeout(std::time::Duration::from_secs(20), appending).await;
    assert_eq!(appended.expect("it waits for nobody").unwrap(), 1..2);
}

/// Removes the lock of the log for which it signs, and has another writer append so many entries.
#[derive(Debug)]
struct Removing {
    key: Ed25519Signer,
    lock: PathBuf,
    entries: Range<u64>,
}

#[kaizen_core::async_trait]
impl Signer for Removing {
    fn name(&self) -> &str {
        self.key.name()
    }

    fn public_key(&self) -> [u8; 32] {
        self.key.public_key()
    }

    async fn sign(&self, message: &[u8]) -> kaizen_core::Result<[u8; 64]> {
        if self.lock.exists() {
            fs::remove_file(&self.lock).unwrap();
            // Another writer comes before this one has its signature.
            let log = LocalLog::open(self.lock.parent().unwrap(), signer()).await?;
            append_all(&log, self.entries.clone()).await;
            log.publish().await?;
        }
        self.key.sign(message).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_lost_the_lock_while_its_commit_was_signed_writes_over_nothing() {
    // In the journal; in tiles, as there are too many; and where there is no journal.
    for (more, has_journal) in [(1, true), (60, true), (1, false)] {
        let dir = tempfile::tempdir().unwrap();
        let first = LocalLog::open(dir.path(), signer()).await.unwrap();
        append_all(&first, 0..250).await;
        first.publish().await.unwrap();
        drop(first);
        fs::remove_file(dir.path().join("journal")).unwrap();
        let lock = dir.path().join("checkpoint.lock");
        let key = Ed25519Signer::from_seed("crash", [9; 32]).unwrap();
        let signer = Arc::new(Removing { key, lock, entries: 250..300 });
        let builder = LocalLog::builder(dir.path(), signer).journal_bytes(8 << 10);
        let log = builder.open().await.unwrap();
        if has_journal {
            fs::write(dir.path().join("journal"), vec![0; 8 << 10]).unwrap();
        }
        let wrong: Vec<_> = (1000..1000 + more).map(entry).collect();
        let error = log.append(&wrong, None).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        holds(&log, 300).await;
        LocalLog::verify(dir.path(), log.key()).await.unwrap();
    }
}

#[tokio::test]
async fn readers_miss_nothing_while_a_log_is_settled_after_a_power_cut_or_that_fails() {
    for has_record in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("checkpoint.lock");
        let log = LocalLog::open(dir.path(), signer()).await.unwrap();
        append(&log, 0).await;
        let record = fs::read(&path).unwrap();
        append_all(&log, 1..3).await;
        drop(log);
        fs::write(&path, &record).unwrap();
        lock_file::age(&path);
        if !has_record {
            fs::remove_file(&path).unwrap();
        }
        let disk = Arc::new(FailingDisk::default());
        for operations in 0.. {
            disk.fail_after(Some(operations), false);
            let builder = LocalLog::builder(dir.path(), signer()).on(disk.clone());
            let opened = builder.open().await;
            holds(&LocalLog::reader(dir.path(), signer().verifier()).await.unwrap(), 3).await;
            if opened.is_ok() {
                assert!(operations > 5, "settling takes {operations} operations");
                break;
            }
        }
    }
}

/// Commits of which the last is damaged, and `checkpoint.lock` as it was while that was written,
/// from an earlier run of the machine.
#[tokio::test]
async fn damage_is_kept_where_an_older_record_says_that_something_was_unfinished() {
    let dir = tempfile::tempdir().unwrap();
    let (lock, kept) = (dir.path().join("checkpoint.lock"), dir.path().join("kept"));
    let copies = (lock.clone(), kept.clone());
    let disk = Meddling::overwriting(move |file, offset, bytes| {
        fs::copy(&copies.0, &copies.1)?;
        file.write_all_at(bytes, offset)
    });
    let builder = LocalLog::builder(dir.path(), signer()).on(Arc::new(disk));
    let log = builder.open().await.unwrap();
    append(&log, 0).await;
    let unfinished = fs::read(&kept).unwrap();
    append(&log, 1).await;
    let journal = dir.path().join("journal");
    let mut bytes = fs::read(&journal).unwrap();
    bytes[4096 + 200] ^= 1;
    for (number, record) in [unfinished, fs::read(&kept).unwrap()].into_iter().enumerate() {
        fs::write(&journal, &bytes).unwrap();
        fs::write(&lock, record).unwrap();
        lock_file::age(&lock);
        // Nobody can tell any more.
        let verified = LocalLog::verify(dir.path(), log.key()).await.unwrap();
        assert!(verified.cut_off && verified.size == 1, "{number}");
        holds(&LocalLog::open(dir.path(), signer()).await.unwrap(), 1).await;
        let torn = dir.path().join("journal.torn");
        assert_eq!(fs::read(&torn).unwrap(), bytes[4096..8192], "{number}");
        fs::remove_file(torn).unwrap();
        // What was settled is published; as it was before:
        fs::remove_dir_all(dir.path().join("tile")).unwrap();
        let empty = signer().seal_now(&note::checkpoint_text("crash", 0, &root(&[])));
        fs::write(dir.path().join("checkpoint"), empty).unwrap();
    }
}

#[tokio::test]
async fn a_commit_that_was_cut_off_is_passed_over_and_that_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Meddling::overwriting(|file, offset, bytes| {
        file.write_all_at(&bytes[..300], offset)?;
        Err(std::io::Error::other("cut off"))
    });
    let log = LocalLog::open(dir.path(), signer()).await.unwrap();
    append(&log, 0).await;
    let cut_off = LocalLog::builder(dir.path(), signer()).on(Arc::new(disk)).open().await.unwrap();
    append(&log, 1).await;
    cut_off.append(&[entry(2)], None).await.unwrap_err();
    drop((log, cut_off));
    let verified = LocalLog::verify(dir.path(), signer().verifier()).await.unwrap();
    assert!(verified.cut_off && verified.size == 2);
    drop(LocalLog::open(dir.path(), signer()).await.unwrap());
    let verified = LocalLog::verify(dir.path(), signer().verifier()).await.unwrap();
    assert!(!verified.cut_off && verified.size == 2);
    assert!(!dir.path().join("journal.torn").exists(), "it was known");
}

#[tokio::test]
async fn verify_waits_for_no_writer_that_keeps_the_lock() {
    let dir = tempfile::tempdir().unwrap();
    let log = LocalLog::open(dir.path(), signer()).await.unwrap();
    append(&log, 0).await;
    let stopped = fs::File::open(dir.path().join("checkpoint.lock")).unwrap();
    stopped.lock().unwrap();
    assert_eq!(LocalLog::verify(dir.path(), log.key()).await.unwrap().size, 1);
}

#[tokio::test]
async fn a_bundle_that_another_process_has_pruned_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let removes = |path: &Path| {
        Disk.remove(path)?;
        // Somebody was there before.
        Disk.remove(path)
    };
    let disk = Meddling {
        overwrites: Box::new(|file, offset, bytes| file.write_all_at(bytes, offset)),
        removes: Box::new(removes),
    };
    let builder = LocalLog::builder(dir.path(), signer()).on(Arc::new(disk));
    let log = builder.open().await.unwrap();
    log.append(&(0..600).map(entry).collect::<Vec<_>>(), None).await.unwrap();
    let at = entry(0).at;
    let occurrence = Occurrence::new(at, Actor::system("test"), OperationId::new("prune", at));
    log.prune(512, &occurrence).await.unwrap();
    assert_eq!(log.first().await.unwrap(), 512);
    assert!(!dir.path().join("tile/entries/001").exists());
}
