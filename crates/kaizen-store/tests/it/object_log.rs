//! The log in an object store: in memory, and in S3 and Azure where a judge is there.

mod faulty;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use kaizen_core::record::Occurrence;
use kaizen_core::{Actor, AuditLog, Bytes, Entry, ErrorKind, OperationId};
use kaizen_store::merkle::{leaf_hash, root, verify_consistency, verify_inclusion};
use kaizen_store::{Ed25519Signer, LocalLog, LogSigners, ObjectLog, WitnessPolicy};
use kaizen_testkit::audit_log::{self, entry};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _};

use faulty::{Fault, Faulty};

fn signer(seed: u8) -> Arc<Ed25519Signer> {
    Arc::new(Ed25519Signer::from_seed("kaizen.test/log", [seed; 32]).unwrap())
}

async fn open(store: &Arc<dyn ObjectStore>) -> ObjectLog {
    ObjectLog::open(store.clone(), "a/log", signer(1)).await.unwrap()
}

fn memory() -> Arc<dyn ObjectStore> {
    Arc::new(InMemory::new())
}

/// Everything in the log is what it should be, seen by a process that knows nothing yet.
async fn check(store: &Arc<dyn ObjectStore>, entries: &[Entry], what: &str) {
    let log = open(store).await;
    assert_eq!(log.size().await.unwrap(), entries.len() as u64, "{what}");
    assert_eq!(log.read(0..entries.len() as u64).await.unwrap(), entries, "{what}");
    let head = log.checkpoint().await.unwrap();
    let leaves: Vec<_> = entries.iter().map(|entry| leaf_hash(entry.to_bytes().unwrap())).collect();
    assert_eq!(head.root, root(&leaves), "{what}");
}

/// It is whole for the verifier of logs on disk too.
async fn check_a_copy(store: &Arc<dyn ObjectStore>, what: &str) {
    let (log, dir) = (open(store).await, tempfile::tempdir().unwrap());
    let head = log.export(dir.path().join("log")).await.unwrap();
    let verified = LocalLog::verify(dir.path().join("log"), log.key()).await;
    let verified = verified.unwrap_or_else(|error| panic!("{what}: {error:?}"));
    assert_eq!(verified.root, head.root, "{what}");
}

async fn conforms(store: Arc<dyn ObjectStore>) {
    audit_log::suite(&open(&store).await).await;
    let log = open(&store).await;
    audit_log::suite(&log).await;
    let size = log.size().await.unwrap();
    let entries = log.read(0..size).await.unwrap();
    check(&store, &entries, "after the suite").await;
    check_a_copy(&store, "after the suite").await;
}

#[tokio::test]
async fn a_log_in_memory_conforms() {
    conforms(memory()).await;
}

#[tokio::test]
async fn proofs_hold_from_tiles_and_from_the_journal() {
    let store = memory();
    let log = open(&store).await;
    let mut heads = vec![log.checkpoint().await.unwrap()];
    let mut done = 0;
    for length in [1, 255, 300, 600, 1] {
        let entries: Vec<_> = (done..done + length).map(entry).collect();
        log.append(&entries, Some(done)).await.unwrap();
        done += length;
        heads.push(log.checkpoint().await.unwrap());
    }
    let fresh = open(&store).await;
    for log in [&log, &fresh] {
        for head in &heads {
            for index in [0, 1, 255, 256, 300, 555, 1155].into_iter().filter(|i| *i < head.size) {
                let proof = log.inclusion_proof(index, head.size).await.unwrap();
                let leaf = leaf_hash(entry(index).to_bytes().unwrap());
                verify_inclusion(&leaf, index, head.size, &proof, &head.root).unwrap();
            }
            let last = &heads[heads.len() - 1];
            let proof = log.consistency_proof(head.size, last.size).await.unwrap();
            verify_consistency(head.size, last.size, &proof, &head.root, &last.root).unwrap();
        }
    }
    let proof = fresh.proof(700).await.unwrap();
    let bytes = entry(700).to_bytes().unwrap();
    proof.verify(&bytes, log.key(), &WitnessPolicy::none()).unwrap();
    assert_eq!(log.inclusion_proof(0, done + 1).await.unwrap_err().kind(), ErrorKind::Invalid);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn writers_that_race_lose_nothing_and_each_append_is_whole() {
    let store = memory();
    let mut tasks = Vec::new();
    for task in 0..4_u64 {
        let log = open(&store).await;
        tasks.push(tokio::spawn(async move {
            for number in 0..30 {
                let first = task * 10_000 + number * 50;
                let entries: Vec<_> = (first..first + 1 + 40 * (number % 2)).map(entry).collect();
                let range = log.append(&entries, None).await.unwrap();
                assert_eq!(log.read(range).await.unwrap(), entries);
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    let log = open(&store).await;
    let size = log.size().await.unwrap();
    assert_eq!(size, 4 * 15 * 42);
    let entries = log.read(0..size).await.unwrap();
    for task in 0..4 {
        let of_task = |number: &u64| (task * 10_000..(task + 1) * 10_000).contains(number);
        let numbers: Vec<u64> = entries
            .iter()
            .map(|found| (found.at.micros() - entry(0).at.micros()) as u64 / 1_000_000)
            .filter(of_task)
            .collect();
        assert!(numbers.is_sorted() && numbers.len() == 15 * 42);
    }
    check(&store, &entries, "after the race").await;
    check_a_copy(&store, "after the race").await;
}

#[tokio::test]
async fn of_two_that_expect_the_same_size_one_wins() {
    let store = memory();
    let logs = [open(&store).await, open(&store).await];
    for size in 0..10 {
        let entries = [[entry(size)], [entry(1_000 + size)]];
        let appends =
            logs.iter().zip(&entries).map(|(log, entries)| log.append(entries, Some(size)));
        let outcomes = futures_util::future::join_all(appends).await;
        let won = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
        assert_eq!(won, 1);
        for error in outcomes.into_iter().filter_map(|outcome| outcome.err()) {
            assert_eq!(error.kind(), ErrorKind::Conflict, "{error:?}");
        }
    }
}

/// Appends and publishes, with the call after `calls` failing. Returns whether one failed.
async fn survives(calls: u64, fault: Fault, anew: bool) -> bool {
    let what = format!("{calls} calls, {fault:?}, anew {anew}");
    let faulty = Faulty::new(fault);
    let store: Arc<dyn ObjectStore> = faulty.clone();
    let mut log = open(&store).await;
    let mut entries: Vec<Entry> = (0..250).map(entry).collect();
    log.append(&entries, None).await.unwrap();
    log.publish().await.unwrap();
    let old = log.checkpoint().await.unwrap();

    faulty.left.store(calls, Ordering::SeqCst);
    for length in [1, 3, 2] {
        let next = entries.len() as u64;
        let more: Vec<_> = (next..next + length).map(entry).collect();
        match log.append(&more, None).await {
            Ok(range) => assert_eq!(range, next..next + length, "{what}"),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Unavailable, "{what}: {error:?}");
                let size = open(&store).await.size().await.unwrap();
                if size == next {
                    continue;
                }
                assert_eq!(size, next + length, "{what}: whole, or not at all");
            }
        }
        entries.extend(more);
        let _ = log.publish().await;
    }
    let failed = faulty.left.swap(u64::MAX, Ordering::SeqCst) > u64::MAX / 2;
    if anew {
        log = open(&store).await;
    }
    check(&store, &entries, &what).await;
    for portion in [[entry(900), entry(901)], [entry(902), entry(903)]] {
        log.append(&portion, Some(entries.len() as u64)).await.unwrap();
        entries.extend(portion);
        log.publish().await.unwrap();
    }
    check(&store, &entries, &what).await;
    if calls.is_multiple_of(8) {
        check_a_copy(&store, &what).await;
    }
    let head = log.checkpoint().await.unwrap();
    let proof = log.consistency_proof(old.size, head.size).await.unwrap();
    verify_consistency(old.size, head.size, &proof, &old.root, &head.root).unwrap();
    failed
}

#[tokio::test]
async fn a_log_survives_a_failure_at_every_call_of_the_store() {
    let late = (0..5).map(Fault::Late);
    for fault in [Fault::Before, Fault::After, Fault::Retried].into_iter().chain(late) {
        for anew in [false, true] {
            let mut calls = 0;
            while survives(calls, fault, anew).await {
                calls += 1;
            }
            assert!(calls > 20, "the appends take {calls} calls");
        }
    }
}

#[tokio::test]
async fn an_append_that_was_done_without_being_heard_of_is_acknowledged_once() {
    for fault in [Fault::After, Fault::Retried] {
        let faulty = Faulty::new(fault);
        let store: Arc<dyn ObjectStore> = faulty.clone();
        let log = open(&store).await;
        // The look at the journal succeeds, the write does not.
        faulty.left.store(1, Ordering::SeqCst);
        assert_eq!(log.append(&[entry(0)], None).await.unwrap(), 0..1, "{fault:?}");
        assert_eq!(log.size().await.unwrap(), 1, "{fault:?}");
    }
}

#[tokio::test]
async fn pruning_survives_a_failure_at_every_call_of_the_store() {
    let at = entry(2_000).at;
    let by = Occurrence::new(at, Actor::system("test"), OperationId::new("prune", at));
    for fault in [Fault::Before, Fault::After, Fault::Retried, Fault::Late(2)] {
        let mut calls = 0;
        loop {
            let what = format!("{calls} calls, {fault:?}");
            let faulty = Faulty::new(fault);
            let store: Arc<dyn ObjectStore> = faulty.clone();
            let log = open(&store).await;
            let entries: Vec<_> = (0..900).map(entry).collect();
            log.append(&entries, None).await.unwrap();
            faulty.left.store(calls, Ordering::SeqCst);
            let _ = log.prune(512, &by).await;
            let failed = faulty.left.swap(u64::MAX, Ordering::SeqCst) > u64::MAX / 2;
            for (again, log) in [(false, open(&store).await), (true, log)] {
                if again {
                    log.prune(512, &by).await.unwrap_or_else(|error| panic!("{what}: {error}"));
                }
                let first = log.first().await.unwrap();
                assert!(first == 512 || first == 0 && !again, "{what}");
                assert_eq!(
                    log.read(first..900).await.unwrap(),
                    entries[first as usize..],
                    "{what}"
                );
                let found = ObjectLog::verify(store.clone(), "a/log", log.key()).await;
                let found = found.unwrap_or_else(|error| panic!("{what}: {error}"));
                assert_eq!(found.pruned, first, "{what}");
            }
            for (bundle, stays) in [("000", false), ("001", false), ("002", true)] {
                let path = Path::from(format!("a/log/tile/entries/{bundle}"));
                assert_eq!(store.head(&path).await.is_ok(), stays, "{what}");
            }
            if !failed {
                break;
            }
            calls += 1;
        }
        assert!(calls > 10, "pruning takes {calls} calls");
    }
}

#[tokio::test]
async fn a_write_that_comes_late_is_committed_once() {
    for calls in 0..8 {
        let faulty = Faulty::new(Fault::Late(calls));
        let store: Arc<dyn ObjectStore> = faulty.clone();
        let log = open(&store).await;
        // The look at the journal succeeds, the write is still under way when it is given up.
        faulty.left.store(1, Ordering::SeqCst);
        assert_eq!(log.append(&[entry(0)], Some(0)).await.unwrap(), 0..1, "{calls}");
        for next in 1..4 {
            assert_eq!(log.append(&[entry(next)], None).await.unwrap(), next..next + 1, "{calls}");
        }
        check(&store, &(0..4).map(entry).collect::<Vec<_>>(), &format!("{calls}")).await;
    }
}

#[tokio::test]
async fn a_commit_that_many_others_follow_before_its_answer_is_lost_is_known_again() {
    let faulty = Faulty::new(Fault::Slow);
    let store: Arc<dyn ObjectStore> = faulty.clone();
    let log = open(&store).await;
    faulty.left.store(1, Ordering::SeqCst);
    let append = tokio::spawn(async move { log.append(&[entry(0)], Some(0)).await });
    faulty.slow.done.notified().await;
    let mut entries = vec![entry(0)];
    // More writers than the journal names; the first entry is in tiles by then.
    for next in 1..100 {
        let other = open(&store).await;
        other.append(&[entry(next)], Some(next)).await.unwrap();
        entries.push(entry(next));
        if next == 50 {
            other.publish().await.unwrap();
        }
    }
    faulty.slow.lost.notify_one();
    assert_eq!(append.await.unwrap().unwrap(), 0..1);
    check(&store, &entries, "once").await;
}

/// What lies in a store, to be put back.
async fn objects(store: &Arc<dyn ObjectStore>) -> Vec<(Path, Bytes)> {
    let mut found = Vec::new();
    for name in ["a/log/checkpoint", "a/log/journal"] {
        let path = Path::from(name);
        let bytes = store.get(&path).await.unwrap().bytes().await.unwrap();
        found.push((path, bytes));
    }
    found
}

async fn put_back(store: &Arc<dyn ObjectStore>, objects: &[(Path, Bytes)]) {
    for (path, bytes) in objects {
        store.put(path, bytes.clone().into()).await.unwrap();
    }
}

#[tokio::test]
async fn a_log_that_went_back_or_forked_is_not_followed() {
    for (published, fork) in [(false, 0), (false, 2), (false, 40), (true, 0), (true, 700)] {
        let what = format!("published {published}, {fork} others");
        let store = memory();
        let log = open(&store).await;
        log.append(&(0..300).map(entry).collect::<Vec<_>>(), None).await.unwrap();
        let old = objects(&store).await;
        log.append(&(300..320).map(entry).collect::<Vec<_>>(), None).await.unwrap();
        if published {
            log.publish().await.unwrap();
            log.inclusion_proof(5, 300).await.unwrap();
        }
        put_back(&store, &old).await;
        if fork > 0 {
            // Somebody who has not seen more takes it for the log.
            let other = open(&store).await;
            let others: Vec<_> = (0..fork).map(|number| entry(5_000 + number)).collect();
            other.append(&others, Some(300)).await.unwrap();
            if published {
                other.publish().await.unwrap();
            }
        }
        for _ in 0..2 {
            let error = log.append(&[entry(320)], None).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{what}: {error}");
            assert!(error.to_string().contains("journal"), "{what}: {error}");
            assert_eq!(log.size().await.unwrap_err().kind(), ErrorKind::Corrupt, "{what}");
        }
    }
}

#[tokio::test]
async fn programs_that_open_a_new_log_at_once_open_the_same_one() {
    for turn in 0..200 {
        let faulty = Faulty::new(Fault::Before);
        faulty.calls.store(31 * turn, Ordering::SeqCst);
        let store: Arc<dyn ObjectStore> = faulty;
        let opened = (0..4).map(|_| ObjectLog::open(store.clone(), "a/log", signer(1)));
        for log in futures_util::future::join_all(opened).await {
            log.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn lawful_appends_that_wait_together_are_committed() {
    let store = memory();
    let log = open(&store).await;
    let long = |number| {
        let event = kaizen_core::Event::Ran { step: "s".repeat(65_000) };
        Entry { event, ..entry(number) }
    };
    let portion: Vec<_> = (0..900).map(long).collect();
    // Together more than the longest frame.
    let appends = (0..5).map(|_| log.append(&portion, None));
    let mut starts = Vec::new();
    for range in futures_util::future::join_all(appends).await {
        starts.push(range.unwrap().start);
    }
    starts.sort_unstable();
    assert_eq!(starts, [0, 900, 1_800, 2_700, 3_600]);
}

#[tokio::test]
async fn a_store_without_conditional_writes_is_refused() {
    for fault in [Fault::NoConditions, Fault::Refused] {
        let store: Arc<dyn ObjectStore> = Faulty::new(fault);
        let error = ObjectLog::open(store, "log", signer(1)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{fault:?}: {error:?}");
    }
}

#[tokio::test]
async fn a_changed_or_missing_object_is_named() {
    let store = memory();
    let log = open(&store).await;
    log.append(&(0..300).map(entry).collect::<Vec<_>>(), None).await.unwrap();
    log.publish().await.unwrap();
    log.append(&[entry(300)], None).await.unwrap();
    for name in ["checkpoint", "journal", "tile/0/001.p/44", "tile/entries/001.p/44"] {
        let path = Path::parse(format!("a/log/{name}")).unwrap();
        let whole = store.get(&path).await.unwrap().bytes().await.unwrap();
        let mut bytes = whole.to_vec();
        let middle = bytes.len() / 2;
        bytes[if name == "journal" { 200 } else { middle }] ^= 1;
        store.put(&path, bytes.into()).await.unwrap();
        let error = ObjectLog::open(store.clone(), "a/log", signer(1)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{name}: {error:?}");
        assert!(
            error.to_string().contains(name) || name.starts_with("tile/0"),
            "{name}: {error:?}"
        );
        store.delete(&path).await.unwrap();
        let error = ObjectLog::open(store.clone(), "a/log", signer(1)).await.unwrap_err();
        assert!(error.to_string().contains(name), "{name}: {error:?}");
        store.put(&path, whole.into()).await.unwrap();
    }
    let other = ObjectLog::open(store.clone(), "a/log", signer(2)).await.unwrap_err();
    assert_eq!(other.kind(), ErrorKind::Corrupt);
    check(&store, &(0..301).map(entry).collect::<Vec<_>>(), "whole again").await;
}

#[tokio::test]
async fn a_key_is_rotated_in_an_object_store_too() {
    let store = memory();
    open(&store).await.append(&[entry(0)], None).await.unwrap();
    let signers = LogSigners::from(signer(2)).accepting(signer(1).verifier());
    let log = ObjectLog::open(store.clone(), "a/log", signers).await.unwrap();
    log.append(&[entry(1)], Some(1)).await.unwrap();
    log.publish().await.unwrap();
    let log = ObjectLog::open(store, "a/log", signer(2)).await.unwrap();
    assert_eq!(log.read(0..2).await.unwrap(), [entry(0), entry(1)]);
}

#[tokio::test]
async fn an_export_goes_into_an_empty_directory_and_a_local_log_goes_on_with_it() {
    let store = memory();
    let log = open(&store).await;
    log.append(&(0..600).map(entry).collect::<Vec<_>>(), None).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let to = dir.path().join("copy");
    let exported = log.export(&to).await.unwrap();
    assert_eq!(exported.size, 600);
    let again = log.export(&to).await.unwrap_err();
    assert_eq!(again.kind(), ErrorKind::AlreadyExists);
    let local = LocalLog::open(&to, signer(1)).await.unwrap();
    local.append(&[entry(600)], Some(600)).await.unwrap();
    let verified = LocalLog::verify(&to, local.key()).await.unwrap();
    assert_eq!((verified.published, verified.size), (600, 601));
}

/// The key of the account that Azurite and every client of it knows.
const AZURITE_KEY: &str =
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// A judge's store, below a folder that no other test uses.
fn judge(url: &str, options: Vec<(&'static str, String)>) -> Option<Arc<dyn ObjectStore>> {
    let url = kaizen_testkit::judge::variable(url)?;
    let (store, _) = object_store::parse_url_opts(&url.parse().unwrap(), options).unwrap();
    let folder = format!("log-{}", std::process::id());
    Some(Arc::new(object_store::prefix::PrefixStore::new(store, folder)))
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_default()
}

#[tokio::test]
async fn a_log_in_s3_conforms() {
    let options = vec![
        ("aws_endpoint", variable("KAIZEN_S3_ENDPOINT")),
        ("aws_access_key_id", variable("KAIZEN_S3_KEY")),
        ("aws_secret_access_key", variable("KAIZEN_S3_SECRET")),
        ("aws_region", "us-east-1".to_owned()),
        ("allow_http", "true".to_owned()),
    ];
    let Some(store) = judge("KAIZEN_S3_URL", options) else { return };
    conforms(store).await;
}

#[tokio::test]
async fn a_log_in_azure_conforms() {
    let options = vec![
        ("azure_storage_account_name", "devstoreaccount1".to_owned()),
        ("azure_storage_account_key", AZURITE_KEY.to_owned()),
        ("azure_endpoint", variable("KAIZEN_AZURE_ENDPOINT")),
        ("allow_http", "true".to_owned()),
    ];
    let Some(store) = judge("KAIZEN_AZURE_URL", options) else { return };
    conforms(store).await;
}
