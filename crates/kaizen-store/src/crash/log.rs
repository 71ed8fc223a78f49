//! The audit log on a failing disk.

use std::fs;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kaizen_core::record::Occurrence;
use kaizen_core::{Actor, AuditLog, Checkpoint, Entry, ErrorKind, Event, OperationId};
use kaizen_testkit::audit_log::entry;

use super::{CASES, FailingDisk, Meddling, Then};
use crate::files::Files;
use crate::local_log::lock_file;
use crate::merkle::{leaf_hash, root, verify_consistency};
use crate::{Ed25519Signer, LocalLog};

/// A log on a failing disk, and what is known to be in it.
struct Trial {
    what: String,
    disk: Arc<FailingDisk>,
    signer: Arc<Ed25519Signer>,
    dir: PathBuf,
    log: LocalLog,
    /// Another process that has the log open, and goes on when the first is killed.
    heir: Option<LocalLog>,
    entries: Vec<Entry>,
    heads: Vec<Checkpoint>,
    /// What `checkpoint.lock` was before the last append.
    record: Vec<u8>,
}

impl Trial {
    async fn begin(dir: PathBuf, what: String) -> Self {
        let signer = Arc::new(Ed25519Signer::from_seed("crash", [9; 32]).unwrap());
        let disk = Arc::new(FailingDisk::default());
        let log = Self::opened(&dir, &signer, &disk).await;
        let (heir, entries, heads) = (None, Vec::new(), Vec::new());
        let record = fs::read(dir.join("checkpoint.lock")).unwrap();
        Self { what, disk, signer, dir, log, heir, entries, heads, record }
    }

    /// Four commits fill the journal.
    async fn opened(dir: &Path, signer: &Arc<Ed25519Signer>, disk: &Arc<FailingDisk>) -> LocalLog {
        let files: Arc<dyn Files> = disk.clone();
        let builder = LocalLog::builder(dir, signer.clone()).journal_bytes(16 << 10).on(files);
        builder.open().await.unwrap()
    }

    /// Appends so many; those that failed are given back.
    async fn append(&mut self, length: u64) -> Vec<Entry> {
        let next = self.entries.len() as u64;
        let more: Vec<_> = (next..next + length).map(entry).collect();
        self.record = fs::read(self.dir.join("checkpoint.lock")).unwrap();
        match self.log.append(&more, None).await {
            Ok(range) => {
                assert_eq!(range, next..next + length, "{}", self.what);
                self.entries.extend(more);
                self.heads.push(self.log.checkpoint().await.unwrap());
                Vec::new()
            }
            Err(_) => more,
        }
    }

    /// Everything that was acknowledged is there, and every head goes over into the last one.
    async fn check(&self) {
        let what = &self.what;
        let verified = LocalLog::verify(&self.dir, &self.signer.verifier()).await;
        let size = verified.unwrap_or_else(|error| panic!("{what}: {error:?}")).size;
        assert_eq!(size as usize, self.entries.len(), "{what}");
        assert_eq!(self.log.read(0..size).await.unwrap(), self.entries, "{what}");
        let head = self.log.checkpoint().await.unwrap();
        let leaves: Vec<_> =
            self.entries.iter().map(|entry| leaf_hash(entry.to_bytes().unwrap())).collect();
        assert_eq!(head.root, root(&leaves), "{what}");
        for old in &self.heads {
            let proof = self.log.consistency_proof(old.size, head.size).await.unwrap();
            verify_consistency(old.size, head.size, &proof, &old.root, &head.root)
                .unwrap_or_else(|error| panic!("{what}: {error:?}"));
        }
    }

    /// The record is not flushed: after a power cut it is an earlier one. Who only reads finds
    /// everything all the same.
    async fn check_without_key(&self) {
        let (what, path) = (&self.what, self.dir.join("checkpoint.lock"));
        fs::write(&path, &self.record).unwrap();
        lock_file::age(&path);
        let log = LocalLog::reader(&self.dir, self.signer.verifier()).await;
        let log = log.unwrap_or_else(|error| panic!("{what}: {error:?}"));
        let (first, known) = (log.first().await.unwrap(), self.entries.len() as u64);
        let read = log.read(first..known).await;
        let read = read.unwrap_or_else(|error| panic!("{what}: {error:?}"));
        assert_eq!(read, self.entries[first as usize..]);
    }

    async fn cut(&mut self, then: Then) {
        if then == Then::PowerCut {
            self.disk.lose_what_was_not_flushed();
            self.heir = None;
            self.check_without_key().await;
        }
        if then != Then::GoesOn {
            // What it left is no damage.
            let verified = LocalLog::verify(&self.dir, &self.signer.verifier()).await;
            let verified = verified.unwrap_or_else(|error| panic!("{}: {error:?}", self.what));
            assert!(verified.size as usize >= self.entries.len(), "{}", self.what);
        }
        if then != Then::GoesOn {
            self.log = match self.heir.take() {
                Some(heir) => heir,
                None => Self::opened(&self.dir, &self.signer, &self.disk).await,
            };
        }
    }

    /// Some of the appends may have happened that were not acknowledged: `in_flight`, or none.
    async fn find(&mut self, in_flight: Vec<Entry>) {
        let size = self.log.size().await;
        let size = size.unwrap_or_else(|error| panic!("{}: {error:?}", self.what));
        if size as usize == self.entries.len() + in_flight.len() {
            // All of it had reached the disk before the failure: the append has happened.
            self.entries.extend(in_flight);
        }
    }
}

/// What happens when the disk fails, and what at some later time; and whether another process has
/// the log open all the time.
type Case = (bool, Then, Then, bool);

/// Appends around the border of a tile, with the disk failing after `operations`. Returns whether
/// it failed at all.
async fn survives(operations: u32, (torn, then, later, heir): Case) -> bool {
    let scratch = tempfile::tempdir().unwrap();
    let what =
        format!("{operations} operations, torn {torn}, {then:?}, later {later:?}, heir {heir}");
    let mut trial = Trial::begin(scratch.path().join("log"), what.clone()).await;
    // More than the journal holds: published at once.
    assert!(trial.append(253).await.is_empty());
    if heir {
        trial.heir = Some(Trial::opened(&trial.dir, &trial.signer, &trial.disk).await);
    }

    trial.disk.fail_after(Some(operations), torn);
    let mut in_flight = Vec::new();
    for length in [1, 1, 4, 3, 60, 1, 2] {
        in_flight = trial.append(length).await;
        if !in_flight.is_empty() {
            break;
        }
    }
    let mut failed = !in_flight.is_empty();
    if !failed {
        failed = trial.log.publish().await.is_err();
    }
    trial.disk.fail_after(None, false);
    trial.cut(then).await;
    trial.find(in_flight).await;
    trial.check().await;

    // In other portions, over whatever lies beyond.
    for length in [2, 1, 1, 5, 1, 1, 1] {
        let next = trial.entries.len() as u64;
        let more: Vec<_> = (next..next + length).map(|number| entry(1_000 + number)).collect();
        let range = trial.log.append(&more, Some(next)).await;
        range.unwrap_or_else(|error| panic!("{what}: {error:?}"));
        trial.entries.extend(more);
        if length > 1 && later != Then::GoesOn {
            trial.cut(later).await;
            trial.check().await;
        }
    }
    trial.cut(later).await;
    trial.check().await;
    failed
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_survives_a_failure_at_every_file_operation() {
    // A process that goes on may find out only later what the disk has lost; and so may one that
    // goes on from what another had written when it was killed.
    let later = [false, true].into_iter().flat_map(|torn| {
        [
            (torn, Then::GoesOn, Then::PowerCut, false),
            (torn, Then::Killed, Then::PowerCut, false),
            (torn, Then::Killed, Then::PowerCut, true),
        ]
    });
    let cases = CASES.into_iter().map(|(torn, then)| (torn, then, Then::GoesOn, false));
    let mut trials = tokio::task::JoinSet::new();
    for case in cases.chain(later) {
        trials.spawn(async move {
            let mut operations = 0;
            while survives(operations, case).await {
                operations += 1;
            }
            assert!(operations > 30, "the appends take {operations} operations");
        });
    }
    trials.join_all().await;
}

/// Makes a journal, with the disk failing after `operations`; goes on, and then the power fails.
async fn journal_survives(operations: u32, torn: bool, killed: bool) -> bool {
    let scratch = tempfile::tempdir().unwrap();
    let what = format!("{operations} operations, torn {torn}, killed {killed}");
    let mut trial = Trial::begin(scratch.path().join("log"), what).await;
    if killed {
        trial.heir = Some(Trial::opened(&trial.dir, &trial.signer, &trial.disk).await);
    }
    trial.disk.fail_after(Some(operations), torn);
    let in_flight = trial.append(1).await;
    trial.disk.fail_after(None, false);
    let failed = !in_flight.is_empty();
    if killed {
        trial.cut(Then::Killed).await;
    }
    trial.find(in_flight).await;
    for _ in 0..2 {
        assert!(trial.append(1).await.is_empty(), "{}", trial.what);
    }
    trial.cut(Then::PowerCut).await;
    trial.check().await;
    failed
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_journal_has_its_name_on_disk_before_a_commit_in_it_is_acknowledged() {
    for torn in [false, true] {
        for killed in [false, true] {
            let mut operations = 0;
            while journal_survives(operations, torn, killed).await {
                operations += 1;
            }
            assert!(operations > 5, "a journal and a commit take {operations} operations");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tile_that_cannot_be_written_is_named() {
    let mut named = 0;
    for operations in 0.. {
        let scratch = tempfile::tempdir().unwrap();
        let mut trial = Trial::begin(scratch.path().join("log"), String::new()).await;
        assert!(trial.append(253).await.is_empty());
        trial.disk.fail_after(Some(operations), false);
        let more: Vec<_> = (253..900).map(entry).collect();
        let Err(error) = trial.log.append(&more, None).await else { break };
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        if let Some(path) = &trial.disk.state().not_written {
            assert!(error.to_string().contains(path.to_str().unwrap()), "{path:?}: {error}");
            named += 1;
        }
    }
    assert!(named > 6, "bundles and tiles: {named}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nobody_sees_a_commit_before_it_is_flushed() {
    let dir = tempfile::tempdir().unwrap();
    let signer = Arc::new(Ed25519Signer::from_seed("crash", [9; 32]).unwrap());
    let reader = LocalLog::open(dir.path(), signer.clone()).await.unwrap();
    reader.append(&[entry(0)], None).await.unwrap();
    let (written, seen) = sync_channel(1);
    let (fail, failing) = sync_channel(1);
    let failing = Mutex::new(failing);
    let disk = Arc::new(Meddling::overwriting(move |file, offset, bytes| {
        file.write_all_at(bytes, offset)?;
        written.send(()).unwrap();
        failing.lock().unwrap().recv().unwrap();
        // The pages count as clean now, and are gone when the machine needs the memory.
        file.write_all_at(&vec![0; bytes.len()], offset)?;
        Err(io::Error::other("the flush failed"))
    }));
    let writer = LocalLog::builder(dir.path(), signer).on(disk).open().await.unwrap();
    let writing = {
        let writer = writer.clone();
        tokio::spawn(async move { writer.append(&[entry(1)], None).await })
    };
    let seen = tokio::task::spawn_blocking(move || seen.recv_timeout(Duration::from_secs(30)));
    seen.await.unwrap().unwrap();
    // What it wrote is in the journal for this machine.
    let without_key = LocalLog::reader(dir.path(), reader.key()).await.unwrap();
    for log in [&reader, &writer, &without_key] {
        assert_eq!(log.size().await.unwrap(), 1);
        assert_eq!(log.read(0..1).await.unwrap(), [entry(0)]);
        assert_eq!(log.read(0..2).await.unwrap_err().kind(), ErrorKind::NotFound);
    }
    fail.send(()).unwrap();
    assert_eq!(writing.await.unwrap().unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(reader.append(&[entry(2)], None).await.unwrap(), 1..2);
    for log in [&reader, &writer, &without_key] {
        assert_eq!(log.read(0..2).await.unwrap(), [entry(0), entry(2)]);
    }
    LocalLog::verify(dir.path(), reader.key()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_go_on_while_publications_fail() {
    let scratch = tempfile::tempdir().unwrap();
    let mut trial = Trial::begin(scratch.path().join("log"), String::new()).await;
    assert!(trial.append(600).await.is_empty());
    let without_key = LocalLog::reader(&trial.dir, trial.signer.verifier()).await.unwrap();
    for operations in 0..60 {
        let reading = {
            let log = trial.log.clone();
            tokio::spawn(async move {
                for _ in 0..20 {
                    match log.read(0..600).await {
                        Ok(read) => assert_eq!(read.len(), 600),
                        // It is up to readers too to bring to an end what was cut off.
                        Err(error) => assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}"),
                    }
                }
            })
        };
        trial.disk.fail_after(Some(operations), false);
        let in_flight = trial.append(600).await;
        reading.await.unwrap();
        // Whoever has no key reads whatever state this was left in.
        assert_eq!(without_key.read(0..600).await.unwrap(), trial.entries[..600]);
        trial.disk.fail_after(None, false);
        let done = in_flight.is_empty();
        trial.find(in_flight).await;
        if done {
            break;
        }
    }
    assert!(trial.append(1).await.is_empty());
    trial.check().await;
}

/// Prunes, with the disk failing after `operations`. Returns whether it failed at all.
async fn survives_pruning(operations: u32, torn: bool, then: Then) -> bool {
    let scratch = tempfile::tempdir().unwrap();
    let what = format!("{operations} operations, torn {torn}, {then:?}");
    let mut trial = Trial::begin(scratch.path().join("log"), what.clone()).await;
    assert!(trial.append(900).await.is_empty());
    assert!(trial.append(3).await.is_empty());
    let at = entry(2_000).at;
    let occurrence = Occurrence::new(at, Actor::system("test"), OperationId::new("prune", at));

    trial.disk.fail_after(Some(operations), torn);
    let failed = trial.log.prune(512, &occurrence).await.is_err();
    trial.disk.fail_after(None, false);
    trial.cut(then).await;
    // Whoever goes on sees to what the failure left in the journal.
    trial.log.size().await.unwrap_or_else(|error| panic!("{what}: {error}"));
    for again in [false, true] {
        if again {
            trial
                .log
                .prune(512, &occurrence)
                .await
                .unwrap_or_else(|error| panic!("{what}: {error}"));
        }
        let first = trial.log.first().await.unwrap_or_else(|error| panic!("{what}: {error}"));
        assert!(first == 512 || first == 0 && !again, "{what}");
        let verified = LocalLog::verify(&trial.dir, &trial.signer.verifier()).await;
        let verified = verified.unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(verified.pruned, first, "{what}");
        let read = trial.log.read(first..903).await.unwrap();
        assert_eq!(read, trial.entries[first as usize..], "{what}");
        // It says so before anything goes.
        let said = trial.log.read(903..verified.size).await.unwrap();
        assert!(said.iter().all(|entry| entry.event == Event::Pruned { first: 512 }), "{what}");
        assert!(first == 0 || !said.is_empty(), "{what}");
        for old in &trial.heads {
            let head = trial.log.checkpoint().await.unwrap();
            let proof = trial.log.consistency_proof(old.size, head.size).await.unwrap();
            verify_consistency(old.size, head.size, &proof, &old.root, &head.root).unwrap();
        }
    }
    // What was pruned is gone for good.
    trial.disk.lose_what_was_not_flushed();
    for bundle in ["000", "001", "002"] {
        let there = trial.dir.join("tile/entries").join(bundle).exists();
        assert_eq!(there, bundle == "002", "{what}");
    }
    let verified = LocalLog::verify(&trial.dir, &trial.signer.verifier()).await;
    let verified = verified.unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(verified.pruned, 512, "{what}");
    failed
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pruning_survives_a_failure_at_every_file_operation() {
    for (torn, then) in CASES {
        let mut operations = 0;
        while survives_pruning(operations, torn, then).await {
            operations += 1;
        }
        assert!(operations > 8, "pruning takes {operations} operations");
    }
}
