//! Logs that let go of their oldest entries, and parts of logs.

mod readers;

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use kaizen_core::record::{Occurrence, Release};
use kaizen_core::{
    Actor, AliasChange, ArtifactStore, AuditLog, Digest, Entry, ErrorKind, Event, OperationId,
    Payload, Records, Result, Timestamp, async_trait,
};
use kaizen_store::merkle::{leaf_hash, root, verify_consistency};
use kaizen_store::{
    Ed25519Signer, LocalLog, LogRetention, ObjectLog, Registry, Retention, WitnessPolicy, collect,
    lineage, verify_tiles,
};
use kaizen_testkit::audit_log::{self, entry};
use kaizen_testkit::{
    Doubled, LogDouble, ManualClock, MemoryLog, MemoryStore, StoreDouble, Story, story,
};
use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreExt as _};

fn signer() -> Arc<Ed25519Signer> {
    Arc::new(Ed25519Signer::from_seed("kaizen.test/log", [1; 32]).unwrap())
}

const PRUNE: &str = "prune";

fn by(day: i64) -> Occurrence {
    let at = Timestamp::from_micros(1_362_096_000_000_000).plus_seconds(86_400 * day);
    Occurrence::new(at, Actor::person("ada"), OperationId::new(PRUNE, at))
}

#[tokio::test]
async fn logs_that_can_be_pruned_conform() {
    audit_log::pruning_suite(&MemoryLog::default()).await;
    let dir = tempfile::tempdir().unwrap();
    let local = LocalLog::open(dir.path(), signer()).await.unwrap();
    audit_log::pruning_suite(&local).await;
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let object = ObjectLog::open(store.clone(), "log", signer()).await.unwrap();
    audit_log::pruning_suite(&object).await;
    // Others see the same.
    let local = LocalLog::reader(dir.path(), signer().verifier()).await.unwrap();
    let object = ObjectLog::open(store.clone(), "log", signer()).await.unwrap();
    let logs: [&dyn AuditLog; 2] = [&local, &object];
    for log in logs {
        assert_eq!(log.first().await.unwrap(), 700);
        assert_eq!(log.read(700..1_000).await.unwrap().len(), 300);
        assert_eq!(log.read(0..1).await.unwrap_err().kind(), ErrorKind::NotFound);
    }
    let verified = LocalLog::verify(dir.path(), local.key()).await.unwrap();
    assert_eq!((verified.pruned, verified.size), (700, 1_003));
    let verified = ObjectLog::verify(store, "log", local.key()).await.unwrap();
    assert_eq!((verified.pruned, verified.size), (700, 1_003));
}

/// Bundles of entries that lie below a directory.
fn bundles(dir: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(dir.join("tile/entries")) else { return Vec::new() };
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn what_stays_of_a_pruned_log_is_proven_and_checked_and_what_lacks_is_named() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path().join("log");
    let log = LocalLog::open(&dir, signer()).await.unwrap();
    let entries: Vec<_> = (0..2_000).map(entry).collect();
    log.append(&entries[..900], None).await.unwrap();
    let old = log.checkpoint().await.unwrap();
    log.append(&entries[900..], None).await.unwrap();
    log.prune(1_024, &by(0)).await.unwrap();
    assert_eq!(bundles(&dir), ["004", "005", "006", "007.p"]);

    let head = log.checkpoint().await.unwrap();
    for log in [log.clone(), LocalLog::open(&dir, signer()).await.unwrap()] {
        let proof = log.consistency_proof(old.size, head.size).await.unwrap();
        verify_consistency(old.size, head.size, &proof, &old.root, &head.root).unwrap();
        // Whoever has an entry that went can still have it proven.
        for index in [0, 700, 1_024, 1_999] {
            let bytes = entries[index as usize].to_bytes().unwrap();
            let proof = log.proof(index).await.unwrap();
            proof.verify(&bytes, log.key(), &WitnessPolicy::none()).unwrap();
        }
    }
    let said = log.read(2_000..2_001).await.unwrap().remove(0);
    let leaves: Vec<_> =
        entries[..1_024].iter().map(|entry| leaf_hash(entry.to_bytes().unwrap())).collect();
    assert_eq!((said.event, said.subject), (Event::Pruned { first: 1_024 }, root(&leaves)));
    let whole = LocalLog::verify(&dir, log.key()).await.unwrap();
    assert_eq!((whole.pruned, whole.size), (1_024, 2_001));

    // A copy says the same, and is gone on with.
    let copy = scratch.path().join("copy");
    log.export(&copy).await.unwrap();
    assert_eq!(LocalLog::verify(&copy, log.key()).await.unwrap(), whole);
    assert_eq!(verify_tiles(&copy, log.key(), |_, _| Ok(())).await.unwrap(), whole);
    let going_on = LocalLog::open(&copy, signer()).await.unwrap();
    assert_eq!(going_on.first().await.unwrap(), 1_024);
    going_on.append(&[entry(1)], Some(2_001)).await.unwrap();

    for (name, remove) in [
        ("tile/entries/004", true),
        ("tile/entries/006", false),
        ("tile/0/001", true),
        ("tile/0/002", false),
        ("pruned", false),
    ] {
        let path = dir.join(name);
        let bytes = std::fs::read(&path).unwrap();
        if remove {
            std::fs::remove_file(&path).unwrap();
        } else {
            let mut changed = bytes.clone();
            changed[bytes.len() / 2] ^= 1;
            std::fs::write(&path, changed).unwrap();
        }
        let error = LocalLog::verify(&dir, log.key()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{name}: {error}");
        assert!(error.to_string().contains(name) || !remove, "{name}: {error}");
        std::fs::write(&path, bytes).unwrap();
    }
    // Without the mark nothing says that bundles may lack.
    std::fs::remove_file(dir.join("pruned")).unwrap();
    let error = LocalLog::verify(&dir, log.key()).await.unwrap_err();
    assert!(error.to_string().contains("tile/entries/000"), "{error}");
}

#[tokio::test]
async fn a_mark_that_points_elsewhere_is_not_believed() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path().join("log");
    let log = LocalLog::open(&dir, signer()).await.unwrap();
    log.append(&(0..600).map(entry).collect::<Vec<_>>(), None).await.unwrap();
    // An entry that gives another root, as no log of ours writes it.
    let Occurrence { at, actor, operation } = by(0);
    let (event, subject) = (Event::Pruned { first: 256 }, Digest::of("another"));
    let forged = Entry { at, actor, operation, event, subject, evidence: vec![] };
    log.append(&[forged], None).await.unwrap();
    log.publish().await.unwrap();
    for mark in ["600\n", "599\n", "9999\n", "x\n", "0600\n", "600", "", &"6".repeat(99)] {
        std::fs::write(dir.join("pruned"), mark).unwrap();
        let error = LocalLog::verify(&dir, log.key()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{mark:?}: {error}");
        assert!(error.to_string().contains("pruned"), "{mark:?}: {error}");
    }
}

#[tokio::test]
async fn a_part_of_a_log_is_checked_by_itself() {
    let scratch = tempfile::tempdir().unwrap();
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let local = LocalLog::open(scratch.path().join("log"), signer()).await.unwrap();
    let object = ObjectLog::open(store, "log", signer()).await.unwrap();
    let entries: Vec<_> = (0..1_500).map(entry).collect();
    local.append(&entries, None).await.unwrap();
    object.append(&entries, None).await.unwrap();
    let key = signer().verifier();
    for (turn, part) in [300..500, 0..1_500, 512..768, 1_400..1_500, 7..7].into_iter().enumerate() {
        let dirs =
            [("a", turn), ("b", turn)].map(|(name, n)| scratch.path().join(format!("{name}{n}")));
        let heads = [
            local.export_range(&dirs[0], part.clone()).await.unwrap(),
            object.export_range(&dirs[1], part.clone()).await.unwrap(),
        ];
        for (dir, head) in dirs.iter().zip(heads) {
            let found = LocalLog::verify_range(dir, part.clone(), &key).await.unwrap();
            assert_eq!(found.checkpoint, head);
            let whole = LocalLog::verify(dir, &key).await;
            assert_eq!(whole.is_ok(), part == (0..1_500), "a part is not taken for the whole");
            if part == (300..500) {
                assert_eq!(bundles(dir), ["001"]);
                let more = LocalLog::verify_range(dir, 300..513, &key).await.unwrap_err();
                assert!(more.to_string().contains("tile/entries/002"), "{more}");
                let path = dir.join("tile/entries/001");
                let mut bytes = std::fs::read(&path).unwrap();
                bytes[900] ^= 1;
                std::fs::write(&path, bytes).unwrap();
                let error = LocalLog::verify_range(dir, part.clone(), &key).await.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
            }
        }
    }
    let beyond = local.export_range(scratch.path().join("c"), 1_400..1_600).await.unwrap_err();
    assert_eq!(beyond.kind(), ErrorKind::NotFound);
    local.prune(512, &by(0)).await.unwrap();
    let gone = local.export_range(scratch.path().join("d"), 300..600).await.unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::NotFound, "{gone}");
}

#[tokio::test]
async fn a_log_in_an_object_store_is_verified_where_it_lies() {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let log = ObjectLog::open(store.clone(), "log", signer()).await.unwrap();
    log.append(&(0..700).map(entry).collect::<Vec<_>>(), None).await.unwrap();
    log.publish().await.unwrap();
    log.append(&(700..710).map(entry).collect::<Vec<_>>(), None).await.unwrap();
    let key = signer().verifier();
    let found = ObjectLog::verify(store.clone(), "log", &key).await.unwrap();
    assert_eq!((found.published, found.size, found.pruned), (700, 710, 0));
    for name in ["checkpoint", "journal", "tile/entries/001", "tile/0/001", "tile/1/000.p/2"] {
        let path = object_store::path::Path::parse(format!("log/{name}")).unwrap();
        let whole = store.get(&path).await.unwrap().bytes().await.unwrap();
        let mut bytes = whole.to_vec();
        bytes[whole.len() / 2] ^= 1;
        store.put(&path, bytes.into()).await.unwrap();
        let error = ObjectLog::verify(store.clone(), "log", &key).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{name}: {error}");
        assert!(error.to_string().contains(name), "{name}: {error}");
        store.delete(&path).await.unwrap();
        let error = ObjectLog::verify(store.clone(), "log", &key).await.unwrap_err();
        assert!(error.to_string().contains(name), "{name}: {error}");
        store.put(&path, whole.into()).await.unwrap();
    }
    ObjectLog::verify(store.clone(), "log", &key).await.unwrap();
    let none = ObjectLog::verify(store, "elsewhere", &key).await.unwrap_err();
    assert_eq!(none.kind(), ErrorKind::NotFound);
}

/// A log of two years with a model's history in it, and the store to it.
struct World {
    store: Arc<MemoryStore>,
    log: Arc<dyn AuditLog>,
    story: Story,
    /// A blob that was removed, and is named still.
    erased: Digest,
}

impl World {
    async fn fill(log: &dyn AuditLog, day: i64, count: u64) {
        let Occurrence { at, actor, .. } = by(day);
        let entries: Vec<_> = (0..count)
            .map(|number| Entry {
                at,
                actor: actor.clone(),
                operation: OperationId::new("fill", at),
                event: Event::Configured,
                subject: Digest::of(format!("{day} {number}")),
                evidence: vec![],
            })
            .collect();
        log.append(&entries, None).await.unwrap();
    }

    async fn enter(&self, day: i64, event: Event, subject: Digest) {
        let Occurrence { at, actor, operation } = by(day);
        let entry = Entry { at, actor, operation, event, subject, evidence: vec![] };
        self.log.append(&[entry], None).await.unwrap();
    }

    async fn new(log: Arc<dyn AuditLog>) -> Self {
        let clock = Arc::new(ManualClock::at(by(0).at));
        let store = Arc::new(MemoryStore::with_clock(clock.clone()));
        let release = |version| Release {
            name: "x".into(),
            version,
            model: Digest::of("x"),
            service: Digest::of("x"),
            functions: vec![],
        };
        let payload = Payload::new("rows", "text/plain", "ada, 36");
        let erased = payload.descriptor().digest;
        store.put(&release(1), &[payload]).await.unwrap();
        store.remove_blob(&erased).await.unwrap();
        Self::fill(&*log, -9, 40).await;
        let reason = "erased: ada".to_owned();
        let removed = Event::Removed { reason };
        let Occurrence { at, actor, operation } = by(-8);
        let entry =
            Entry { at, actor, operation, event: removed, subject: erased, evidence: vec![] };
        log.append(&[entry], None).await.unwrap();
        Self::fill(&*log, -7, 260).await;
        let story = story(&*store, &*log).await.unwrap();
        let world = Self { store, log, story, erased };
        Self::fill(&*world.log, 20, 300).await;
        // Any records do, as models and as deployments.
        let third = world.store.put(&release(3), &[]).await.unwrap();
        let name = || Story::NAME.to_owned();
        world.enter(21, Event::Registered { name: name(), version: 3 }, third).await;
        let alias = Story::ALIAS.to_owned();
        let change = AliasChange::Promotion;
        let moved = Event::AliasMoved { name: name(), alias, from: Some(2), to: 3, change };
        world.enter(21, moved, third).await;
        for number in 0..2 {
            let shifted = Event::Deployed { target: "here".into(), step: "shifted".into() };
            let deployment = world.store.put(&release(10 + number), &[]).await.unwrap();
            world.enter(22, shifted, deployment).await;
        }
        Self::fill(&*world.log, 30, 300).await;
        world.registry().snapshot(by(31)).await.unwrap();
        Self::fill(&*world.log, 40, 100).await;
        Self::fill(&*world.log, 700, 20).await;
        clock.set(by(700).at);
        world
    }

    fn registry(&self) -> Registry {
        Registry::new(self.store.clone(), self.log.clone())
    }
}

fn few() -> Retention {
    let mut few = Retention::default();
    (few.versions, few.rollbacks) = (Some(1), Some(0));
    few
}

#[tokio::test]
async fn pruning_stops_before_what_something_needs_and_says_what_that_is() {
    let world = World::new(Arc::new(MemoryLog::default())).await;
    let (store, log, kept) = (&*world.store, &*world.log, LogRetention::default());
    let size = log.size().await.unwrap();

    let all = Retention::default();
    let dry = kept.prune(store, log, &all, &by(710), true).await.unwrap();
    assert_eq!((dry.from, dry.to, dry.expired), (0, 256, size - 20));
    let why: Vec<_> = dry.held_by.iter().map(|(_, why)| why.as_str()).collect();
    for held in ["version 1 of `late`", "alias `champion` of `late`", "a deployment at `here`"] {
        assert!(why.contains(&held), "{held}: {why:?}");
    }
    assert!(dry.held_by.is_sorted() && dry.held_by[0].0 > 300, "{:?}", dry.held_by);
    assert_eq!(log.size().await.unwrap(), size, "a look changes nothing");

    // Nothing at all is old enough, or it is asked for.
    let early = kept.prune(store, log, &few(), &by(100), true).await.unwrap();
    assert_eq!((early.to, early.expired), (0, 0));
    let mut asked = few();
    asked.spoken_of_s = 86_400 * 800;
    assert_eq!(kept.prune(store, log, &asked, &by(710), true).await.unwrap().to, 0);
    let mut also = few();
    also.also.insert(Digest::of("-9 7"));
    let held = kept.prune(store, log, &also, &by(710), true).await.unwrap();
    assert_eq!((held.to, held.held_by[0].0), (0, 7));

    let done = kept.prune(store, log, &few(), &by(710), false).await.unwrap();
    assert_eq!((done.from, done.to, log.first().await.unwrap()), (0, 512, 512));
    assert_eq!(done.held_by[0].1, "alias `champion` of `late`");
    assert_eq!(done.said_again, [world.erased]);
    let said = log.read(size..size + 2).await.unwrap();
    assert_eq!(said[0].event, Event::Removed { reason: "erased: ada".into() });
    assert_eq!(said[1].event, Event::Pruned { first: 512 });
    // Once more: there is nothing to do.
    let again = kept.prune(store, log, &few(), &by(711), false).await.unwrap();
    assert_eq!((again.from, again.to), (512, 512));
    assert_eq!(log.size().await.unwrap(), size + 2);
}

#[tokio::test]
async fn no_snapshot_no_pruning_and_none_of_an_open_request() {
    let (store, log) = (MemoryStore::default(), MemoryLog::default());
    World::fill(&log, 0, 600).await;
    let kept = LogRetention::default();
    let none = kept.prune(&store, &log, &few(), &by(710), false).await.unwrap();
    assert_eq!((none.to, none.held_by.len()), (0, 1));
    assert!(none.held_by[0].1.contains("snapshot"), "{none:?}");
    let Occurrence { at, actor, operation } = by(1);
    let (event, subject) = (Event::RetrainRequested, Digest::of("a request"));
    log.append(&[Entry { at, actor, operation, event, subject, evidence: vec![] }], None)
        .await
        .unwrap();
    World::fill(&log, 2, 600).await;
    let (store, log) = (Arc::new(store), Arc::new(log));
    Registry::new(store.clone(), log.clone()).snapshot(by(3)).await.unwrap();
    let open = kept.prune(&*store, &*log, &few(), &by(710), false).await.unwrap();
    assert_eq!((open.to, open.held_by[0].0), (512, 600));
    assert!(open.held_by[0].1.contains("open request `prune@"), "{open:?}");
}

#[tokio::test]
async fn registry_collection_and_lineage_go_on_with_a_pruned_log() {
    let dir = tempfile::tempdir().unwrap();
    let local = LocalLog::open(dir.path(), signer()).await.unwrap();
    let world = World::new(Arc::new(local.clone())).await;
    let (store, log) = (&*world.store, &*world.log);
    let reader = world.registry();
    let before = reader.versions(Story::NAME).await.unwrap();
    let history = reader.history(Story::NAME, Story::ALIAS).await.unwrap();
    LogRetention::default().prune(store, log, &few(), &by(710), false).await.unwrap();
    assert_eq!(log.first().await.unwrap(), 512);
    assert_eq!(LocalLog::verify(dir.path(), local.key()).await.unwrap().pruned, 512);

    for registry in [&reader, &world.registry()] {
        assert_eq!(registry.versions(Story::NAME).await.unwrap(), before);
        assert_eq!(registry.history(Story::NAME, Story::ALIAS).await.unwrap(), history);
        assert_eq!(registry.check_snapshots().await.unwrap(), 1);
    }
    let back = world.registry().rollback(Story::NAME, Story::ALIAS, 3, &[], by(711)).await.unwrap();
    assert_eq!(back.version, 2);
    // What the log says no more, but the registry knows, is kept in the store.
    let found = collect(store, log, &Retention::default(), &by(712), false).await.unwrap();
    for model in world.story.models {
        assert!(found.removed.iter().all(|(gone, _)| *gone != model), "{found:?}");
        assert!(store.contains(&model).await.unwrap());
    }
    let lineage =
        lineage(store, &world.story.models[1]).await.unwrap().with_log(log).await.unwrap();
    assert!(lineage.steps().iter().any(|step| step.id == world.story.sets[1]));

    // Without the snapshot nobody knows the names, and that is said.
    let fold = log.read(512..log.size().await.unwrap()).await.unwrap();
    let snapshot = fold.iter().find(|entry| matches!(entry.event, Event::Folded { .. }));
    store.remove_blob(&snapshot.unwrap().subject).await.unwrap();
    let error = world.registry().names().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().contains("pruned below entry 512"), "{error}");
}

#[tokio::test]
async fn a_log_without_its_private_key_is_read_and_not_written() {
    let dir = tempfile::tempdir().unwrap();
    let key = signer().verifier();
    let none = LocalLog::reader(dir.path().join("none"), &key).await.unwrap_err();
    assert_eq!(none.kind(), ErrorKind::NotFound);
    assert!(!dir.path().join("none").exists());
    let log = LocalLog::open(dir.path().join("log"), signer()).await.unwrap();
    log.append(&(0..300).map(entry).collect::<Vec<_>>(), None).await.unwrap();
    let files = || {
        let mut found: Vec<_> = walk(dir.path());
        found.sort();
        found
    };
    let before = files();
    let reader = LocalLog::reader(dir.path().join("log"), &key).await.unwrap();
    assert_eq!(reader.size().await.unwrap(), 300);
    assert_eq!(reader.read(0..300).await.unwrap(), (0..300).map(entry).collect::<Vec<_>>());
    assert_eq!(reader.key(), &key);
    let bytes = entry(299).to_bytes().unwrap();
    let proof = reader.proof(299).await.unwrap();
    proof.verify(&bytes, &key, &WitnessPolicy::none()).unwrap();
    for error in [
        reader.append(&[entry(300)], None).await.unwrap_err(),
        reader.publish().await.unwrap_err(),
        reader.prune(256, &by(0)).await.unwrap_err(),
        reader.add_cosignatures("— x AAAAAAAA", &WitnessPolicy::none()).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
    }
    assert_eq!(files(), before, "nothing was written");
    // It sees what others append.
    log.append(&[entry(300)], None).await.unwrap();
    assert_eq!(reader.size().await.unwrap(), 301);
}

fn walk(dir: &Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(walk(&path)),
            false => found.push((path.clone(), std::fs::read(&path).unwrap())),
        }
    }
    found
}

#[tokio::test]
async fn a_tombstone_that_was_taken_back_is_not_said_again() {
    let world = World::new(Arc::new(MemoryLog::default())).await;
    let (store, log) = (&*world.store, &*world.log);
    world.enter(702, Event::Restored, world.erased).await;
    let pruned = LogRetention::default().prune(store, log, &few(), &by(710), true).await.unwrap();
    assert_eq!((pruned.to, pruned.said_again), (512, vec![]));
}

#[tokio::test]
async fn what_was_lost_after_its_record_was_made_again_is_not_called_removed() {
    let world = World::new(Arc::new(MemoryLog::default())).await;
    let (store, log) = (&*world.store, &*world.log);
    let mut release = None;
    for id in store.manifests().await.unwrap() {
        let named = store.manifest(&id).await.unwrap().layers;
        release = release.or(named.iter().any(|l| l.digest == world.erased).then_some(id));
    }
    // Put again with its record; then the blob is lost.
    world.enter(702, Event::Released, release.unwrap()).await;
    let pruned = LogRetention::default().prune(store, log, &few(), &by(710), false).await.unwrap();
    assert_eq!((pruned.to, pruned.said_again), (512, vec![]));
}

#[tokio::test]
async fn the_snapshot_that_a_pruned_log_needs_is_not_collected_for_a_newer_one_that_tells_nothing()
{
    let world = World::new(Arc::new(MemoryLog::default())).await;
    let (store, log) = (&*world.store, &*world.log);
    LogRetention::default().prune(store, log, &few(), &by(710), false).await.unwrap();
    let later = store.put_blob(r#"{"format": 99, "fold": {}}"#.into()).await.unwrap();
    world.enter(711, Event::Folded { size: log.size().await.unwrap() }, later).await;
    let mut strict = few();
    strict.spoken_of_s = 0;
    let found = collect(store, log, &strict, &by(712), false).await.unwrap();
    assert!(!found.removed.is_empty());
    let versions = world.registry().versions(Story::NAME).await.unwrap();
    assert_eq!(versions.len(), 3, "a registry that is opened anew knows what went");
}

/// A store in which another tool keeps a manifest of which we can make nothing.
#[derive(Debug)]
struct Shared {
    inner: Arc<MemoryStore>,
    other: Digest,
}

#[async_trait]
impl StoreDouble for Shared {
    fn inner(&self) -> &dyn ArtifactStore {
        &*self.inner
    }

    async fn manifests(&self) -> Result<Vec<Digest>> {
        let mut all = self.inner.manifests().await?;
        all.push(self.other);
        Ok(all)
    }
}

#[tokio::test]
async fn a_manifest_of_another_tool_stops_no_pruning() {
    let world = World::new(Arc::new(MemoryLog::default())).await;
    let config = world.store.put_blob("{}".into()).await.unwrap();
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "config": {"mediaType": "application/json", "digest": config, "size": 2},
        "layers": [{"mediaType": "a/b", "digest": format!("sha512:{}", "0".repeat(128)), "size": 1}],
    });
    let other = world.store.put_blob(manifest.to_string().into()).await.unwrap();
    assert_eq!(world.store.manifest(&other).await.unwrap_err().kind(), ErrorKind::Unsupported);
    let store = Doubled(Shared { inner: world.store.clone(), other });
    let retention = LogRetention::default();
    let pruned = retention.prune(&store, &*world.log, &few(), &by(710), false).await.unwrap();
    assert_eq!((pruned.to, pruned.said_again), (512, vec![world.erased]));
}

/// A log in which somebody else is faster, once: what was removed is there again.
#[derive(Debug)]
struct Meddled {
    inner: MemoryLog,
    restored: std::sync::Mutex<Option<Entry>>,
}

#[async_trait]
impl LogDouble for Meddled {
    fn inner(&self) -> &dyn AuditLog {
        &self.inner
    }

    async fn append(&self, entries: &[Entry], expected: Option<u64>) -> Result<Range<u64>> {
        let tombstone = entries.iter().any(|entry| matches!(entry.event, Event::Removed { .. }));
        let restored = if tombstone { self.restored.lock().unwrap().take() } else { None };
        if let Some(restored) = restored {
            self.inner.append(&[restored], None).await?;
        }
        self.inner.append(entries, expected).await
    }
}

#[tokio::test]
async fn what_comes_back_while_its_removal_is_said_again_is_not_called_removed() {
    let inner = MemoryLog::default();
    let meddled = Arc::new(Doubled(Meddled { inner, restored: std::sync::Mutex::default() }));
    let world = World::new(meddled.clone()).await;
    let (store, log) = (&*world.store, &*world.log);
    let Occurrence { at, actor, operation } = by(702);
    let (event, subject) = (Event::Restored, world.erased);
    let restored = Entry { at, actor, operation, event, subject, evidence: vec![] };
    *meddled.restored.lock().unwrap() = Some(restored);
    let pruned = LogRetention::default().prune(store, log, &few(), &by(710), false).await.unwrap();
    assert_eq!((pruned.to, pruned.said_again), (512, vec![]));
    let entries = log.read(512..log.size().await.unwrap()).await.unwrap();
    let last = entries.iter().rfind(|entry| entry.subject == world.erased).unwrap();
    assert_eq!(last.event, Event::Restored);
}
