//! What becomes of a log whose `checkpoint.lock` is not what its writers left.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

use kaizen_core::record::Occurrence;
use kaizen_core::{Actor, AuditLog, ErrorKind, OperationId, Signer};
use kaizen_testkit::audit_log::entry;

use super::Meddling;
use crate::files::{Disk, Files as _};
use crate::local_log::lock_file;
use crate::{Ed25519Signer, LocalLog};

fn signer() -> Arc<Ed25519Signer> {
    Arc::new(Ed25519Signer::from_seed("crash", [9; 32]).unwrap())
}

async fn append(log: &LocalLog, number: u64) {
    assert_eq!(log.append(&[entry(number)], None).await.unwrap(), number..number + 1);
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

/// Removes the lock of the log for which it signs.
#[derive(Debug)]
struct Removing(Ed25519Signer, std::path::PathBuf);

#[kaizen_core::async_trait]
impl Signer for Removing {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn public_key(&self) -> [u8; 32] {
        self.0.public_key()
    }

    async fn sign(&self, message: &[u8]) -> kaizen_core::Result<[u8; 64]> {
        if self.1.exists() {
            fs::remove_file(&self.1).unwrap();
            // Another writer comes before this one has its signature.
            append(&LocalLog::open(self.1.parent().unwrap(), signer()).await?, 0).await;
        }
        self.0.sign(message).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_lost_the_lock_while_its_commit_was_signed_writes_over_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("checkpoint.lock");
    let key = Ed25519Signer::from_seed("crash", [9; 32]).unwrap();
    let log = LocalLog::open(dir.path(), Arc::new(Removing(key, path))).await.unwrap();
    let error = log.append(&[entry(9)], None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    holds(&log, 1).await;
    LocalLog::verify(dir.path(), log.key()).await.unwrap();
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
