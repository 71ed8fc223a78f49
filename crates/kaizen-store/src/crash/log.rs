//! The audit log on a failing disk.

use std::sync::Arc;

use kaizen_core::record::Occurrence;
use kaizen_core::{Actor, AuditLog, Checkpoint, Entry, Event, OperationId};
use kaizen_testkit::audit_log::entry;

use super::{CASES, FailingDisk, Then};
use crate::files::Files;
use crate::merkle::{leaf_hash, root, verify_consistency};
use crate::{Ed25519Signer, LocalLog};

/// A log on a failing disk, and what is known to be in it.
struct Trial {
    what: String,
    disk: Arc<FailingDisk>,
    signer: Arc<Ed25519Signer>,
    dir: std::path::PathBuf,
    log: LocalLog,
    entries: Vec<Entry>,
    heads: Vec<Checkpoint>,
}

impl Trial {
    async fn begin(dir: std::path::PathBuf, what: String) -> Self {
        let signer = Arc::new(Ed25519Signer::from_seed("crash", [9; 32]).unwrap());
        let disk = Arc::new(FailingDisk::default());
        let log = Self::opened(&dir, &signer, &disk).await;
        Self { what, disk, signer, dir, log, entries: Vec::new(), heads: Vec::new() }
    }

    /// Four commits fill the journal.
    async fn opened(
        dir: &std::path::Path,
        signer: &Arc<Ed25519Signer>,
        disk: &Arc<FailingDisk>,
    ) -> LocalLog {
        let files: Arc<dyn Files> = disk.clone();
        let builder = LocalLog::builder(dir, signer.clone()).journal_bytes(16 << 10).on(files);
        builder.open().await.unwrap()
    }

    /// Appends so many; those that failed are given back.
    async fn append(&mut self, length: u64) -> Vec<Entry> {
        let next = self.entries.len() as u64;
        let more: Vec<_> = (next..next + length).map(entry).collect();
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

    async fn cut(&mut self, then: Then) {
        if then == Then::PowerCut {
            self.disk.lose_what_was_not_flushed();
        }
        if then != Then::GoesOn {
            self.log = Self::opened(&self.dir, &self.signer, &self.disk).await;
        }
    }
}

/// Appends around the border of a tile, with the disk failing after `operations`. Returns whether
/// it failed at all.
async fn survives(operations: u32, torn: bool, then: Then, later: Then) -> bool {
    let scratch = tempfile::tempdir().unwrap();
    let what = format!("{operations} operations, torn {torn}, {then:?}, later {later:?}");
    let mut trial = Trial::begin(scratch.path().join("log"), what.clone()).await;
    // More than the journal holds: published at once.
    assert!(trial.append(253).await.is_empty());

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
    let size = trial.log.size().await.unwrap_or_else(|error| panic!("{what}: {error:?}"));
    if size as usize == trial.entries.len() + in_flight.len() {
        // All of it had reached the disk before the failure: the append has happened.
        trial.entries.extend(in_flight);
    }
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
    // A process that goes on may find out only later what the disk has lost.
    let later = [(false, Then::GoesOn, Then::PowerCut), (true, Then::GoesOn, Then::PowerCut)];
    let cases = CASES.into_iter().map(|(torn, then)| (torn, then, Then::GoesOn));
    for (torn, then, later) in cases.chain(later) {
        let mut operations = 0;
        while survives(operations, torn, then, later).await {
            operations += 1;
        }
        assert!(operations > 30, "the appends take {operations} operations");
    }
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
    for bundle in ["000", "001", "002"] {
        let there = trial.dir.join("tile/entries").join(bundle).exists();
        assert_eq!(there, bundle == "002", "{what}");
    }
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
