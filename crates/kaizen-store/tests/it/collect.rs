//! Collection of garbage: what goes, what stays, and what happens meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use kaizen_core::record::{Decision, Deployment, Occurrence, Release};
use kaizen_core::{
    Actor, AliasChange, ArtifactStore, AuditLog, Checkpoint, Clock, Digest, Entry, ErrorKind,
    Event, OperationId, Payload, Records, Result, SystemClock, Timestamp, async_trait,
};
use kaizen_store::{Collected, LocalStore, ObjectArtifacts, Retention, collect, fsck};
use kaizen_testkit::{ManualClock, MemoryLog, MemoryStore};

/// An instant at which everything that the tests put is old.
fn later() -> Timestamp {
    SystemClock.now().plus_seconds(30 * 24 * 3600)
}

fn occurrence(at: Timestamp) -> Occurrence {
    Occurrence::new(at, Actor::system("collector"), OperationId::new("collect", at))
}

/// Nothing but what is in use.
fn strict() -> Retention {
    let mut retention = Retention::default();
    (retention.versions, retention.rollbacks) = (Some(1), Some(0));
    retention.spoken_of_s = 0;
    retention
}

async fn say(log: &dyn AuditLog, event: Event, subject: Digest) {
    let at = Timestamp::from_micros(1);
    let (actor, operation) = (Actor::system("test"), OperationId::new("test", at));
    let entry = Entry { at, actor, operation, event, subject, evidence: Vec::new() };
    log.append(&[entry], None).await.unwrap();
}

/// A registered version: a release stands for the model, with weights of its own and a file that
/// all share.
async fn register(store: &dyn ArtifactStore, log: &dyn AuditLog, version: u32) -> Digest {
    let model = Release {
        name: "late".into(),
        version,
        model: Digest::of("model"),
        service: Digest::of("service"),
        functions: Vec::new(),
    };
    let weights = Payload::new("weights", "application/octet-stream", format!("weights {version}"));
    let shared = Payload::new("labels", "text/plain", "labels that all versions share");
    let id = store.put(&model, &[weights, shared]).await.unwrap();
    say(log, Event::Registered { name: "late".into(), version }, id).await;
    id
}

async fn promote(log: &dyn AuditLog, from: Option<u32>, to: u32, id: Digest) {
    let (name, alias) = ("late".to_owned(), "champion".to_owned());
    let change = AliasChange::Promotion;
    say(log, Event::AliasMoved { name, alias, from, to, change }, id).await;
}

/// A statement about a version: the decision that it beats the champion.
async fn decide(store: &dyn ArtifactStore, model: Digest, champion: Option<Digest>) -> Digest {
    let decision = Decision {
        occurrence: occurrence(Timestamp::from_micros(1)),
        model,
        champion,
        evaluation: Digest::of("evaluation"),
        gates: Vec::new(),
        overridden: None,
    };
    store.put(&decision, &[]).await.unwrap()
}

/// Three versions: the first was champion, the second is, the third only registered.
async fn three(store: &dyn ArtifactStore, log: &dyn AuditLog) -> ([Digest; 3], [Digest; 2]) {
    let mut ids = [Digest::of("none"); 3];
    for (version, id) in (1..).zip(&mut ids) {
        *id = register(store, log, version).await;
    }
    let decisions = [decide(store, ids[0], None).await, decide(store, ids[1], Some(ids[0])).await];
    promote(log, None, 1, ids[0]).await;
    promote(log, Some(1), 2, ids[1]).await;
    (ids, decisions)
}

async fn there(store: &dyn ArtifactStore, ids: &[Digest]) -> Vec<bool> {
    let mut found = Vec::new();
    for id in ids {
        found.push(store.get::<Release>(id).await.is_ok());
    }
    found
}

async fn tombstones(log: &dyn AuditLog) -> BTreeSet<Digest> {
    let size = log.size().await.unwrap();
    let entries = log.read(0..size).await.unwrap();
    let buried = entries.iter().filter(|entry| matches!(entry.event, Event::Removed { .. }));
    buried.map(|entry| entry.subject).collect()
}

async fn what_nothing_reaches_goes(store: &dyn ArtifactStore) -> Collected {
    let log = MemoryLog::default();
    let (ids, decisions) = three(store, &log).await;
    let loose = store.put_blob("a blob that no record names".into()).await.unwrap();
    let before = store.blobs().await.unwrap();
    let at = occurrence(later());
    let dry = collect(store, &log, &strict(), &at, true).await.unwrap();
    assert_eq!(store.blobs().await.unwrap(), before, "a dry run removes nothing");
    assert!(tombstones(&log).await.is_empty(), "and says nothing");
    let done = collect(store, &log, &strict(), &at, false).await.unwrap();
    assert_eq!((&done.removed, done.bytes, done.kept), (&dry.removed, dry.bytes, dry.kept));
    let removed: BTreeSet<_> = done.removed.iter().map(|(digest, _)| *digest).collect();
    assert_eq!(tombstones(&log).await, removed, "each has a tombstone");
    assert_eq!(there(store, &ids).await, [false, true, true]);
    assert!(removed.contains(&loose) && removed.contains(&decisions[0]));
    assert!(!removed.contains(&decisions[1]), "what is said of the champion stays");
    assert!(!store.contains(&Digest::of("weights 1")).await.unwrap());
    let left: BTreeMap<_, _> = store.blobs().await.unwrap().into_iter().collect();
    assert!(before.iter().all(|(d, _)| left.contains_key(d) != removed.contains(d)));
    // Once more: nothing is left to do, and nothing more is said.
    let size = log.size().await.unwrap();
    let again = collect(store, &log, &strict(), &at, false).await.unwrap();
    assert!(again.removed.is_empty());
    assert_eq!(log.size().await.unwrap(), size);
    // A blob that was taken can come back.
    assert_eq!(register(store, &log, 1).await, ids[0]);
    done
}

#[tokio::test]
async fn what_no_alias_and_no_version_reaches_goes_from_every_store() {
    let dir = tempfile::tempdir().unwrap();
    let local = LocalStore::open(dir.path()).await.unwrap();
    let objects = ObjectArtifacts::in_memory().await.unwrap();
    let clock = Arc::new(ManualClock::at(Timestamp::from_micros(0)));
    let memory = MemoryStore::with_clock(clock);
    let first = what_nothing_reaches_goes(&local).await;
    assert_eq!(what_nothing_reaches_goes(&objects).await, first);
    assert_eq!(what_nothing_reaches_goes(&memory).await, first);
    assert!(fsck(&local, None).await.unwrap().problems.is_empty());
    assert!(fsck(&objects, None).await.unwrap().problems.is_empty());
}

#[tokio::test]
async fn retention_keeps_versions_rollbacks_and_what_was_spoken_of_lately() {
    type Change = fn(&mut Retention, [Digest; 3]);
    let changes: [(Change, [bool; 3]); 6] = [
        (|_, _| {}, [false, true, true]),
        (|retention, _| retention.versions = None, [true, true, true]),
        (|retention, _| retention.versions = Some(0), [false, true, false]),
        (|retention, _| retention.rollbacks = Some(1), [true, true, true]),
        (|retention, _| retention.rollbacks = None, [true, true, true]),
        (|retention, ids| retention.also = BTreeSet::from([ids[0]]), [true, true, true]),
    ];
    for (change, expected) in changes {
        let store = MemoryStore::with_clock(Arc::new(ManualClock::at(Timestamp::from_micros(0))));
        let log = MemoryLog::default();
        let (ids, _) = three(&store, &log).await;
        let mut retention = strict();
        change(&mut retention, ids);
        collect(&store, &log, &retention, &occurrence(later()), false).await.unwrap();
        assert_eq!(there(&store, &ids).await, expected, "{retention:?}");
    }
    let store = MemoryStore::with_clock(Arc::new(ManualClock::at(Timestamp::from_micros(0))));
    let log = MemoryLog::default();
    let (ids, _) = three(&store, &log).await;
    let mut retention = strict();
    (retention.grace_s, retention.spoken_of_s) = (10, 100);
    let at = occurrence(Timestamp::from_micros(50_000_000));
    collect(&store, &log, &retention, &at, false).await.unwrap();
    assert_eq!(there(&store, &ids).await, [true; 3], "the log spoke of them a short time ago");
}

#[tokio::test]
async fn live_deployments_and_those_before_them_stay() {
    let store = MemoryStore::with_clock(Arc::new(ManualClock::at(Timestamp::from_micros(0))));
    let log = MemoryLog::default();
    let mut releases = Vec::new();
    let mut previous = None;
    for version in 1..=4 {
        let release = Release {
            name: "served".into(),
            version,
            model: Digest::of("model"),
            service: Digest::of("service"),
            functions: Vec::new(),
        };
        let release = store.put(&release, &[]).await.unwrap();
        let deployment = Deployment {
            occurrence: occurrence(Timestamp::from_micros(i64::from(version))),
            target: "local".into(),
            slots: BTreeMap::from([("blue".to_owned(), release)]),
            weights: BTreeMap::new(),
            previous,
        };
        let id = store.put(&deployment, &[]).await.unwrap();
        let deployed = |step: &str| Event::Deployed { target: "local".into(), step: step.into() };
        say(&log, deployed("shifted"), id).await;
        if version == 3 {
            // The third is undone: the second is in force again, and the fourth comes after it.
            say(&log, deployed("rolled_back"), previous.unwrap()).await;
        } else {
            previous = Some(id);
        }
        releases.push(release);
    }
    collect(&store, &log, &strict(), &occurrence(later()), false).await.unwrap();
    assert_eq!(there(&store, &releases).await, [false, true, false, true]);
}

#[tokio::test]
async fn what_is_put_at_the_same_time_stays() {
    let dir = tempfile::tempdir().unwrap();
    let store = LocalStore::open(dir.path()).await.unwrap();
    let log = MemoryLog::default();
    let now = SystemClock.now();
    let old = store.put_blob("an old blob".into()).await.unwrap();
    let again = store.put_blob("an old blob that is put again".into()).await.unwrap();
    let named = store.put_blob("weights 7".into()).await.unwrap();
    let left_behind = dir.path().join("blobs/sha256/.1-0.tmp");
    fs::write(&left_behind, "half a blob").unwrap();
    for path in [
        store.blob_path(&old),
        store.blob_path(&again),
        store.blob_path(&named),
        left_behind.clone(),
    ] {
        let file = fs::File::options().write(true).open(path).unwrap();
        let put = file.metadata().unwrap().modified().unwrap();
        file.set_modified(put - std::time::Duration::from_secs(100_000)).unwrap();
    }
    store.put_blob("an old blob that is put again".into()).await.unwrap();
    // A record that is being made: nobody has spoken of it yet, and it names an old blob.
    let young = register(&store, &MemoryLog::default(), 7).await;
    let done = collect(&store, &log, &strict(), &occurrence(now), false).await.unwrap();
    assert_eq!(done.removed, [(old, 11)]);
    assert_eq!(done.unfinished_bytes, 11);
    assert!(!left_behind.exists());
    assert!(store.contains(&again).await.unwrap() && store.contains(&named).await.unwrap());
    assert_eq!(there(&store, &[young]).await, [true]);
    assert!(done.young >= 5, "{done:?}");
}

/// A log in which somebody else is faster, once.
#[derive(Debug)]
struct Meddled {
    inner: MemoryLog,
    model: Digest,
    done: AtomicBool,
}

#[async_trait]
impl AuditLog for Meddled {
    async fn append(&self, entries: &[Entry], expected: Option<u64>) -> Result<Range<u64>> {
        if expected.is_some() && !self.done.swap(true, Ordering::SeqCst) {
            promote(&self.inner, Some(2), 1, self.model).await;
        }
        self.inner.append(entries, expected).await
    }

    async fn size(&self) -> Result<u64> {
        self.inner.size().await
    }

    async fn read(&self, indices: Range<u64>) -> Result<Vec<Entry>> {
        self.inner.read(indices).await
    }

    async fn checkpoint(&self) -> Result<Checkpoint> {
        self.inner.checkpoint().await
    }
}

#[tokio::test]
async fn an_alias_that_moves_meanwhile_keeps_its_model() {
    let store = MemoryStore::with_clock(Arc::new(ManualClock::at(Timestamp::from_micros(0))));
    let inner = MemoryLog::default();
    let (ids, _) = three(&store, &inner).await;
    let log = Meddled { inner, model: ids[0], done: AtomicBool::new(false) };
    collect(&store, &log, &strict(), &occurrence(later()), false).await.unwrap();
    assert_eq!(there(&store, &ids).await, [true, false, true]);
    assert!(!tombstones(&log).await.contains(&ids[0]));
}

#[tokio::test]
async fn nothing_is_removed_while_what_is_kept_cannot_be_read() {
    let dir = tempfile::tempdir().unwrap();
    let store = LocalStore::open(dir.path()).await.unwrap();
    let log = MemoryLog::default();
    let (ids, _) = three(&store, &log).await;
    let blobs = store.blobs().await.unwrap();
    let path = store.blob_path(&ids[1]);
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[1..]).unwrap();
    let error = collect(&store, &log, &strict(), &occurrence(later()), false).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().contains(&ids[1].hex()), "{error}");
    fs::write(&path, &whole).unwrap();
    assert_eq!(store.blobs().await.unwrap(), blobs);
    assert!(tombstones(&log).await.is_empty());
    // A store that removes nothing, and one that does not know when, say so.
    let unknowing = MemoryStore::default();
    unknowing.put_blob("a blob".into()).await.unwrap();
    let error =
        collect(&unknowing, &log, &strict(), &occurrence(later()), false).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}
