//! Collection of garbage: what goes, what stays, and what happens meanwhile.

mod meanwhile;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::{Arc, Mutex};

use kaizen_core::record::{self, Decision, Deployment, Occurrence, Release};
use kaizen_core::{
    Actor, AliasChange, ArtifactStore, AuditLog, Bytes, Clock, Descriptor, Digest, Entry, Error,
    ErrorKind, Event, Manifest, OperationId, Payload, Records, Result, SystemClock, Timestamp,
    async_trait,
};
use kaizen_store::{Collected, LocalStore, ObjectArtifacts, Retention, collect, fsck};
use kaizen_testkit::{Doubled, ManualClock, MemoryLog, MemoryStore, StoreDouble};

/// An instant at which everything that the tests put is old.
fn later() -> Timestamp {
    SystemClock.now().plus_seconds(30 * 24 * 3600)
}

/// A store in memory, with a clock that stands at the beginning.
fn memory() -> (Arc<ManualClock>, MemoryStore) {
    let clock = Arc::new(ManualClock::at(Timestamp::from_micros(0)));
    (Arc::clone(&clock), MemoryStore::with_clock(clock))
}

/// Makes every blob in a directory a day older.
fn age(dir: &std::path::Path) {
    for entry in fs::read_dir(dir.join("blobs/sha256")).unwrap() {
        let file = fs::File::options().write(true).open(entry.unwrap().path()).unwrap();
        let put = file.metadata().unwrap().modified().unwrap();
        file.set_modified(put - std::time::Duration::from_secs(24 * 3600)).unwrap();
    }
}

fn occurrence(at: Timestamp) -> Occurrence {
    Occurrence::new(at, Actor::system("collector"), OperationId::new("collect", at))
}

/// Nothing but what is in use.
fn strict() -> Retention {
    let mut retention = Retention::default();
    (retention.versions, retention.rollbacks) = (Some(1), Some(0));
    (retention.spoken_of_s, retention.grace_s) = (0, 1);
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

async fn what_nothing_reaches_goes(store: &dyn ArtifactStore, age: impl Fn()) -> Collected {
    let log = MemoryLog::default();
    let (ids, decisions) = three(store, &log).await;
    let loose = store.put_blob("a blob that no record names".into()).await.unwrap();
    age();
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
    let (clock, memory) = memory();
    let first = what_nothing_reaches_goes(&local, || age(dir.path())).await;
    let wait = || std::thread::sleep(std::time::Duration::from_millis(1100));
    assert_eq!(what_nothing_reaches_goes(&objects, wait).await, first);
    assert_eq!(what_nothing_reaches_goes(&memory, || clock.set(later())).await, first);
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
        let (clock, store) = memory();
        let log = MemoryLog::default();
        let (ids, _) = three(&store, &log).await;
        clock.set(later());
        let mut retention = strict();
        change(&mut retention, ids);
        collect(&store, &log, &retention, &occurrence(later()), false).await.unwrap();
        assert_eq!(there(&store, &ids).await, expected, "{retention:?}");
    }
    let (clock, store) = memory();
    let log = MemoryLog::default();
    let (ids, _) = three(&store, &log).await;
    let mut retention = strict();
    (retention.grace_s, retention.spoken_of_s) = (10, 100);
    let at = Timestamp::from_micros(50_000_000);
    clock.set(at);
    let at = occurrence(at);
    collect(&store, &log, &retention, &at, false).await.unwrap();
    assert_eq!(there(&store, &ids).await, [true; 3], "the log spoke of them a short time ago");
}

#[tokio::test]
async fn live_deployments_and_those_before_them_stay() {
    let (clock, store) = memory();
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
    clock.set(later());
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
    let mut retention = strict();
    retention.grace_s = 24 * 3600;
    // The caller's clock may be ahead: what counts is the store's.
    let now = occurrence(now.plus_seconds(10 * 24 * 3600));
    let done = collect(&store, &log, &retention, &now, false).await.unwrap();
    assert_eq!(done.removed, [(old, 11)]);
    assert_eq!(done.unfinished_bytes, 11);
    assert!(!left_behind.exists());
    assert!(store.contains(&again).await.unwrap() && store.contains(&named).await.unwrap());
    assert_eq!(there(&store, &[young]).await, [true]);
    assert!(done.young >= 5, "{done:?}");
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
    // Nor while it is lost, and nobody knows what it reached.
    fs::remove_file(&path).unwrap();
    let error = collect(&store, &log, &strict(), &occurrence(later()), false).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
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
    for grace_s in [0, -1] {
        let mut retention = strict();
        retention.grace_s = grace_s;
        let error =
            collect(&store, &log, &retention, &occurrence(later()), false).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
    }
}

#[tokio::test]
async fn an_index_that_lacks_or_alters_entries_makes_a_collection_remove_nothing_more() {
    type Change = fn(&mut Vec<serde_json::Value>, &str);
    let changes: [Change; 3] = [
        // One digit of the digest, one letter of the kind, and the whole entry.
        |entries, id| {
            for entry in entries.iter_mut().filter(|entry| entry["digest"] == id) {
                let digit = if id.ends_with('0') { "1" } else { "0" };
                entry["digest"] = format!("{}{digit}", &id[..id.len() - 1]).into();
            }
        },
        |entries, id| {
            for entry in entries.iter_mut().filter(|entry| entry["digest"] == id) {
                entry["mediaType"] = "application/vnd.oci.image.manifesu.v1+json".into();
            }
        },
        |entries, id| entries.retain(|entry| entry["digest"] != id),
    ];
    for change in changes {
        let dir = tempfile::tempdir().unwrap();
        let store = LocalStore::open(dir.path()).await.unwrap();
        let log = MemoryLog::default();
        let (ids, decisions) = three(&store, &log).await;
        age(dir.path());
        let path = dir.path().join("index.json");
        let mut index: serde_json::Value =
            serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        for id in [ids[1], decisions[1]] {
            change(index["manifests"].as_array_mut().unwrap(), &id.to_string());
        }
        fs::write(&path, serde_json::to_vec(&index).unwrap()).unwrap();
        let store = LocalStore::open(dir.path()).await.unwrap();
        collect(&store, &log, &strict(), &occurrence(later()), false).await.unwrap();
        assert_eq!(there(&store, &ids).await, [false, true, true]);
        assert!(store.contains(&Digest::of("weights 2")).await.unwrap());
        assert!(store.get::<Decision>(&decisions[1]).await.is_ok(), "what is said of it stays");
    }
}

#[tokio::test]
async fn a_body_that_is_lost_makes_a_collection_remove_nothing() {
    let (clock, store) = memory();
    let log = MemoryLog::default();
    let (ids, _) = three(&store, &log).await;
    clock.set(later());
    let body = store.manifest(&ids[1]).await.unwrap().config.digest;
    let bytes = store.get_blob(&body).await.unwrap();
    store.remove_blob(&body).await.unwrap();
    let before = store.blobs().await.unwrap();
    let at = occurrence(later());
    let error = collect(&store, &log, &strict(), &at, false).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains(&body.hex()), "{error}");
    assert_eq!(store.blobs().await.unwrap(), before);
    assert!(tombstones(&log).await.is_empty());
    // A tombstone says that it is not missed; and it may come back.
    say(&log, Event::Removed { reason: "asked for".into() }, body).await;
    collect(&store, &log, &strict(), &at, true).await.unwrap();
    store.put_blob(bytes).await.unwrap();
    collect(&store, &log, &strict(), &at, false).await.unwrap();
    assert_eq!(there(&store, &ids).await, [false, true, true]);
}

#[tokio::test]
async fn a_body_that_is_no_json_names_nothing_and_stops_no_collection() {
    // Whatever the media type says of it.
    let other = |media: &str, bytes: &str, size: Option<u64>| {
        let mut body = Descriptor::of(media, bytes.as_bytes());
        body.size = size.unwrap_or(body.size);
        body
    };
    let too_large = Some(record::MAX_BODY_BYTES + 1);
    let deep = "[".repeat(200) + &"]".repeat(200);
    for (body, bytes) in [
        (other("application/octet-stream", "no JSON", None), "no JSON"),
        (other("a/b+json; charset=utf-8", "no JSON", None), "no JSON"),
        (other("a/b+json", &deep, None), &deep),
        (other("a/b+json", "{}", too_large), "{}"),
    ] {
        let (clock, store) = memory();
        let log = MemoryLog::default();
        let (ids, _) = three(&store, &log).await;
        let mut manifest = Manifest::new(body.clone(), Vec::new());
        manifest.artifact_type = Some(record::artifact_type("note"));
        manifest.subject = Some(store.describe(&ids[1]).await.unwrap());
        store.put_blob(bytes.to_owned().into()).await.unwrap();
        let note = store.put_manifest(manifest.to_bytes().unwrap().into()).await.unwrap();
        clock.set(later());
        collect(&store, &log, &strict(), &occurrence(later()), false).await.unwrap();
        assert_eq!(there(&store, &ids).await, [false, true, true]);
        assert!(
            store.contains(&note).await.unwrap() && store.contains(&body.digest).await.unwrap()
        );
    }
}

/// A store in which a blob is put again just before a removal, or whose removals fail.
#[derive(Debug)]
struct Busy {
    inner: MemoryStore,
    clock: Arc<ManualClock>,
    again: Bytes,
    /// A removal with this blob among others fails.
    fails_at: Mutex<Option<Digest>>,
}

#[async_trait]
impl StoreDouble for Busy {
    fn inner(&self) -> &dyn ArtifactStore {
        &self.inner
    }

    async fn remove_stale(&self, digests: &[Digest], before: Timestamp) -> Result<Vec<Digest>> {
        let fails_at = *self.fails_at.lock().unwrap();
        if fails_at.is_some_and(|digest| digests.contains(&digest)) {
            return Err(Error::new(ErrorKind::Unavailable, "cut off, by an injected fault"));
        }
        if digests.contains(&Digest::of(&self.again)) {
            self.inner.put_blob(self.again.clone()).await?;
        }
        self.inner.remove_stale(digests, before).await
    }
}

/// What the log says last of a digest, of its removals and returns.
async fn last_word(log: &dyn AuditLog, digest: Digest) -> Option<Event> {
    let size = log.size().await.unwrap();
    let entries = log.read(0..size).await.unwrap().into_iter();
    let mut of_it = entries.filter(|entry| entry.subject == digest).map(|entry| entry.event);
    of_it.rfind(|event| matches!(event, Event::Removed { .. } | Event::Restored))
}

#[tokio::test]
async fn a_tombstone_of_what_stays_is_taken_back() {
    let (clock, inner) = memory();
    let again = Bytes::from_static(b"put again just now");
    let store = Doubled(Busy { inner, clock, again, fails_at: Mutex::default() });
    let log = MemoryLog::default();
    let (ids, _) = three(&store, &log).await;
    let stays = store.put_blob(store.again.clone()).await.unwrap();
    store.clock.set(later());
    let at = occurrence(later());
    // Put again between the tombstone and the removal.
    let done = collect(&store, &log, &strict(), &at, false).await.unwrap();
    assert!(done.removed.iter().all(|(digest, _)| *digest != stays));
    assert_eq!(last_word(&log, stays).await, Some(Event::Restored));
    for (gone, _) in &done.removed {
        assert!(matches!(last_word(&log, *gone).await, Some(Event::Removed { .. })));
    }
    // Cut off between the tombstone and the removal; then the record is made again.
    store.clock.set(later().plus_seconds(1000));
    let mut retention = strict();
    retention.versions = Some(0);
    let weights = Digest::of("weights 3");
    *store.fails_at.lock().unwrap() = Some(weights);
    collect(&store, &log, &retention, &at, false).await.unwrap_err();
    assert!(matches!(last_word(&log, weights).await, Some(Event::Removed { .. })));
    *store.fails_at.lock().unwrap() = None;
    assert_eq!(register(&store, &log, 3).await, ids[2]);
    collect(&store, &log, &strict(), &at, false).await.unwrap();
    assert!(store.get::<Release>(&ids[2]).await.is_ok());
    assert_eq!(last_word(&log, weights).await, Some(Event::Restored));
}

/// Takes every manifest out of the index.
fn unlist(dir: &std::path::Path) {
    let path = dir.join("index.json");
    let mut index: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    index["manifests"] = serde_json::json!([]);
    fs::write(&path, index.to_string()).unwrap();
}

/// A collection takes a manifest out of the index before it looks whether it was put meanwhile.
#[tokio::test]
async fn a_record_that_a_collection_left_unlisted_is_listed_again() {
    let dir = tempfile::tempdir().unwrap();
    let (store, log) = (LocalStore::open(dir.path()).await.unwrap(), MemoryLog::default());
    let id = register(&store, &log, 1).await;
    unlist(dir.path());
    assert!(store.manifests().await.unwrap().is_empty());
    assert!(!fsck(&store, Some(&log)).await.unwrap().is_sound());
    let at = occurrence(later());
    collect(&store, &log, &Retention::default(), &at, true).await.unwrap();
    assert!(store.manifests().await.unwrap().is_empty(), "a dry run does nothing");
    collect(&store, &log, &Retention::default(), &at, false).await.unwrap();
    assert_eq!(store.manifests().await.unwrap(), [id]);
    assert!(fsck(&store, Some(&log)).await.unwrap().problems.is_empty());

    // It had its tombstone, and nothing but the put says that it is there again.
    say(&log, Event::Removed { reason: "garbage: nothing reaches it".into() }, id).await;
    unlist(dir.path());
    collect(&store, &log, &Retention::default(), &at, false).await.unwrap();
    assert_eq!(store.manifests().await.unwrap(), [id]);
    assert!(fsck(&store, Some(&log)).await.unwrap().problems.is_empty());
    // One that lost a payload for good is not listed, and stops nothing.
    store.remove_blob(&Digest::of("weights 1")).await.unwrap();
    say(&log, Event::Removed { reason: "erased".into() }, Digest::of("weights 1")).await;
    unlist(dir.path());
    let garbage = store.put_blob("nobody needs it".into()).await.unwrap();
    age(dir.path());
    collect(&store, &log, &Retention::default(), &at, false).await.unwrap();
    assert!(store.manifests().await.unwrap().is_empty());
    assert!(!store.contains(&garbage).await.unwrap());
}

#[tokio::test]
async fn what_is_put_again_and_removed_again_has_a_second_tombstone() {
    let (clock, store) = memory();
    let log = MemoryLog::default();
    let at = |number: i64| Timestamp::from_micros(number * 100_000_000);
    let blob = Digest::of("made twice");
    for round in 1..4_u64 {
        store.put_blob("made twice".into()).await.unwrap();
        clock.set(at(2 * round as i64));
        for _ in 0..2 {
            let now = occurrence(at(2 * round as i64));
            collect(&store, &log, &strict(), &now, false).await.unwrap();
            assert!(!store.contains(&blob).await.unwrap());
            assert_eq!(log.size().await.unwrap(), round);
        }
        clock.set(at(2 * round as i64 + 1));
    }
}

#[tokio::test]
async fn the_newest_snapshot_of_the_registry_stays_and_older_ones_go() {
    let (clock, store) = memory();
    let log = MemoryLog::default();
    let mut snapshots = Vec::new();
    for (size, text) in [(0, "an old snapshot"), (1, "the newest snapshot")] {
        let blob = store.put_blob(text.into()).await.unwrap();
        say(&log, Event::Folded { size }, blob).await;
        snapshots.push(blob);
    }
    clock.set(later());
    let at = occurrence(later());
    let done = collect(&store, &log, &strict(), &at, false).await.unwrap();
    assert_eq!(done.removed, [(snapshots[0], 15)]);
    assert!(store.contains(&snapshots[1]).await.unwrap());
    assert_eq!(tombstones(&log).await, BTreeSet::from([snapshots[0]]));
}

#[tokio::test]
async fn the_deployment_in_force_stays_after_a_rollout_in_steps_was_rolled_back() {
    let (clock, store) = memory();
    let log = MemoryLog::default();
    let steps = ["shifted", "started", "shifted", "shifted", "rolled_back", "started"];
    let mut ids = Vec::new();
    for (number, step) in (0..).zip(steps) {
        let deployment = Deployment {
            occurrence: occurrence(Timestamp::from_micros(number)),
            target: "local".into(),
            slots: BTreeMap::new(),
            weights: BTreeMap::new(),
            previous: None,
        };
        let id = store.put(&deployment, &[]).await.unwrap();
        say(&log, Event::Deployed { target: "local".into(), step: step.into() }, id).await;
        ids.push(id);
    }
    clock.set(later());
    collect(&store, &log, &strict(), &occurrence(later()), false).await.unwrap();
    let mut there = Vec::new();
    for id in &ids {
        there.push(store.contains(id).await.unwrap());
    }
    assert_eq!(there, [true, false, true, false, true, true]);
}
