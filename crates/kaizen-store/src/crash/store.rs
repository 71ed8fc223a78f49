//! Artefacts: streams, collections and manifests that are removed.

use kaizen_core::record::Occurrence;
use kaizen_core::{Actor, AuditLog, Clock, OperationId, SystemClock, stream};
use kaizen_testkit::MemoryLog;

use super::*;
use crate::{Retention, collect, fsck};

/// A disk that fails after so many operations, and what the machine does then.
struct Fault {
    disk: Arc<FailingDisk>,
    dir: PathBuf,
    what: String,
    then: Then,
    _scratch: tempfile::TempDir,
}

impl Fault {
    fn new(operations: u32, torn: bool, then: Then) -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let what = format!("{operations} operations, torn {torn}, {then:?}");
        let dir = scratch.path().join("store");
        Self { disk: Arc::default(), dir, what, then, _scratch: scratch }
    }

    async fn open(&self) -> LocalStore {
        LocalStore::open_on(self.dir.clone(), self.disk.clone()).await.unwrap()
    }

    /// The store after the fault.
    async fn recover(&self, store: LocalStore) -> LocalStore {
        self.disk.fail_after(None, false);
        if self.then == Then::PowerCut {
            self.disk.lose_what_was_not_flushed();
        }
        if self.then == Then::GoesOn { store } else { self.open().await }
    }

    /// Makes every blob a day older.
    fn age(&self) {
        for entry in fs::read_dir(self.dir.join("blobs/sha256")).unwrap() {
            let file = File::options().write(true).open(entry.unwrap().path()).unwrap();
            let put = file.metadata().unwrap().modified().unwrap();
            file.set_modified(put - std::time::Duration::from_secs(24 * 3600)).unwrap();
        }
    }

    async fn is_sound(&self, store: &LocalStore, log: Option<&dyn AuditLog>) {
        let checked = fsck(store, log).await.unwrap();
        assert!(checked.is_sound(), "{}: {:?}", self.what, checked.problems);
    }
}

/// Puts a stream of many pieces, with the disk failing after `operations`.
async fn stream_survives(operations: u32, torn: bool, then: Then) -> bool {
    let fault = Fault::new(operations, torn, then);
    let store = fault.open().await;
    let bytes: Vec<u8> = (0..1_500_000_u32).map(|i| (i % 251) as u8).collect();
    let digest = Digest::of(&bytes);
    let pieces = || stream::chunked(bytes.clone().into(), 100_000);
    fault.disk.fail_after(Some(operations), torn);
    let put = store.put_stream(pieces(), None).await;
    let again = store.put_stream(pieces(), Some(&digest)).await;
    let store = fault.recover(store).await;
    let there = store.size_of(&digest).await.unwrap();
    if put.is_ok() {
        assert_eq!(there, Some(bytes.len() as u64), "{}", fault.what);
    }
    fault.is_sound(&store, None).await;
    assert_eq!(store.put_stream(pieces(), None).await.unwrap(), digest);
    assert_eq!(store.get_blob(&digest).await.unwrap(), bytes, "{}", fault.what);
    put.is_err() || again.is_err()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_survives_a_failure_at_every_file_operation() {
    for (torn, then) in CASES {
        let mut operations = 0;
        while stream_survives(operations, torn, then).await {
            operations += 1;
        }
        assert!(operations > 5, "a stream takes {operations} operations");
    }
}

/// Collects garbage, with the disk failing after `operations`.
async fn collection_survives(operations: u32, torn: bool, then: Then) -> bool {
    let fault = Fault::new(operations, torn, then);
    let store = fault.open().await;
    let log = MemoryLog::default();
    let payload = |text: &str| Payload::new("rows", "text/plain", text.to_owned());
    let kept = store.put(&release(1), &[payload("kept")]).await.unwrap();
    for version in 2..5 {
        store.put(&release(version), &[payload(&format!("rows {version}"))]).await.unwrap();
    }
    fault.age();
    let retention = Retention { also: [kept].into(), grace_s: 3600, ..Retention::default() };
    let at = SystemClock.now().plus_seconds(1_000_000);
    let now = Occurrence::new(at, Actor::system("test"), OperationId::new("collect", at));
    fault.disk.fail_after(Some(operations), torn);
    let collected = collect(&store, &log, &retention, &now, false).await;
    let store = fault.recover(store).await;
    fault.is_sound(&store, Some(&log)).await;
    assert_eq!(store.get::<Release>(&kept).await.unwrap().record, release(1), "{}", fault.what);
    // What came back with the power cut bears the date of its return.
    fault.age();
    // Done again, it ends, and each digest has one tombstone.
    collect(&store, &log, &retention, &now, false).await.unwrap();
    assert_eq!(store.manifests().await.unwrap(), [kept], "{}", fault.what);
    assert_eq!(store.blobs().await.unwrap().len(), 3, "{}", fault.what);
    assert_eq!(log.size().await.unwrap(), 9, "{}", fault.what);
    fault.is_sound(&store, Some(&log)).await;
    collected.is_err()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collection_survives_a_failure_at_every_file_operation() {
    for (torn, then) in CASES {
        let mut operations = 0;
        while collection_survives(operations, torn, then).await {
            operations += 1;
        }
        assert!(operations > 10, "a collection takes {operations} operations");
    }
}
