//! An erased entity is gone everywhere, whatever fails on the way, and the log says so.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use arrow::array::{Array, ArrayRef, Int64Array, RecordBatch, StringArray};
use kaizen_core::record::{Count, Erasure, Occurrence, TrainingSet, artifact_type, body_type};
use kaizen_core::{
    ArtifactStore, AuditLog, ByteStream, Bytes, Descriptor, Digest, Entry, ErrorKind, Event,
    Manifest, Record as _, Records as _, Result, Silent, Timestamp, async_trait, media_type,
    stream,
};
use kaizen_data::{Erase, FeatureStore, Online, TrainingData};
use kaizen_table::{FeatureService, OnlineEntry, OnlineStore, Source, with_column};
use kaizen_testkit::{Doubled, StoreDouble};

use crate::cases::instants;
use crate::customers::*;

#[tokio::test]
async fn an_erased_entity_is_gone_everywhere_and_the_receipt_says_so() {
    let world = World::new().await;
    let receipt = world.erase(&customer(ERASED), occurrence(600)).await.unwrap();
    world.check_erased().await;

    let record = world.artifacts.get::<Erasure>(&receipt).await.unwrap().record;
    assert_eq!(record.occurrence, occurrence(600));
    assert_eq!(record.keys, ["customer"]);
    let counts = |counts: [(&str, u64); 3]| {
        counts.map(|(name, count)| (name.to_owned(), Count(count))).into()
    };
    let expected: BTreeMap<String, Count> =
        counts([("outcomes", 1), ("spending", 3), ("visits", 2)]);
    assert_eq!(record.sources, expected);
    let online: BTreeMap<String, Count> = [("spending", 1), ("visits", 2)]
        .map(|(name, count)| (name.to_owned(), Count(count)))
        .into();
    assert_eq!(record.online, online);
    let olds: BTreeSet<Digest> = record.training_sets.iter().map(|set| set.old).collect();
    assert_eq!(olds, world.with.iter().copied().collect());
    for set in &record.training_sets {
        let old = world.artifacts.get::<TrainingSet>(&set.old).await.unwrap().record;
        let new = TrainingData::load(&world.artifacts, &set.new).await.unwrap();
        assert_eq!(old.rows - set.rows.0, new.record.rows);
        assert_eq!(
            TrainingSet { rows: old.rows, ..new.record.clone() },
            old,
            "else it is the same"
        );
        assert!(set.rows.0 > 0);
    }

    let log = world.entries().await;
    let (last, tombstones) = log.split_last().unwrap();
    assert_eq!((&last.event, last.subject), (&Event::Erased, receipt));
    let news: BTreeSet<Digest> = record.training_sets.iter().map(|set| set.new).collect();
    assert_eq!(last.evidence.iter().copied().collect::<BTreeSet<_>>(), news);
    assert!(!tombstones.is_empty());
    for entry in tombstones {
        assert_eq!(entry.event, Event::Removed { reason: "request 17".into() });
        assert!(!entry.evidence.is_empty(), "what stands in its place");
        assert!(!world.artifacts.contains(&entry.subject).await.unwrap());
    }

    // Once more, and for somebody who is not there: nothing changes.
    let size = world.log.size().await.unwrap();
    let again = world.erase(&customer(ERASED), occurrence(600)).await.unwrap();
    assert_eq!((again, world.log.size().await.unwrap()), (receipt, size));
    let nobody = world.erase(&customer("C-999"), occurrence(700)).await.unwrap();
    let record = world.artifacts.get::<Erasure>(&nobody).await.unwrap().record;
    assert!(record.training_sets.is_empty() && record.sources.values().all(|count| count.0 == 0));
    world.check_erased().await;
}

#[tokio::test]
async fn an_erasure_leaves_no_index_of_the_rows_that_were() {
    let mut world = World::new().await;
    let folder = tempfile::tempdir().unwrap();
    // A new one, which has nothing in memory.
    let ports = world.sources.iter().map(|source| Arc::clone(source) as Arc<dyn Source>);
    world.features = FeatureStore::new(ports.collect()).keep_indices_in(folder.path());
    training(&world.features, 0..120, 500).await;
    let files = || std::fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(files(), 3, "one order for each source of features");
    std::fs::write(folder.path().join(".x.order.1-0.tmp"), ERASED).unwrap();
    std::fs::write(folder.path().join("another's"), "stays").unwrap();
    world.erase(&customer(ERASED), occurrence(600)).await.unwrap();
    assert_eq!(files(), 1, "and nothing else is touched");
    training(&world.features, 0..120, 500).await;
    assert_eq!(files(), 4, "they are made again");
}

#[tokio::test]
async fn the_feature_store_goes_on_after_an_erasure() {
    let world = World::new().await;
    world.erase(&customer(ERASED), occurrence(600)).await.unwrap();
    let until = Timestamp::from_nanos(300 * S);
    for (view, source) in [spending_view(), visits_view()].iter().zip(&world.sources) {
        world.online.materialize(view, &**source, until, &Silent).await.unwrap();
    }
    let asked = with_column(&spine(35..45), "at", instants(vec![Some(300 * S); 10])).unwrap();
    let service =
        FeatureService::new("two", 1, vec![], vec![spending_view(), visits_view()]).unwrap();
    let offline = world.features.features(&service, &asked, "at").await.unwrap();
    let online = world.online.features(&service, &asked, "at").await.unwrap();
    assert_eq!(online, offline);
    for column in ["spent", "minutes"] {
        let values = offline.column_by_name(column).unwrap();
        let missing: Vec<usize> = (0..10).filter(|row| values.is_null(*row)).collect();
        assert_eq!(missing, [6], "{column} of C-041, and of nobody else");
    }
    assert_eq!(training(&world.features, 0..120, 500).await.record.unlabelled, 2);
}

/// Brings the view of visits that is not named by customers forward, and checks its past.
async fn materialise_shops(world: &World, until: i64) -> Result<u64> {
    let online = Online::new(Arc::clone(&world.entries) as Arc<dyn OnlineStore>).check_past();
    let (view, until) = (shop_minutes_view(), Timestamp::from_nanos(until * S));
    online.materialize(&view, &*world.sources[1], until, &Silent).await
}

#[tokio::test]
async fn a_view_of_other_keys_is_materialised_on_after_an_erasure() {
    let world = World::new().await;
    world.erase(&customer(ERASED), occurrence(600)).await.unwrap();
    materialise_shops(&world, 300).await.unwrap();
    // What changes otherwise is still seen.
    world.sources[1].remove(&customer("C-001"));
    for until in [300, 400] {
        let error = materialise_shops(&world, until).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict, "{error:?}");
    }
    // Until it is forgotten in a view which it names.
    let shops: ArrayRef = Arc::new(Int64Array::from(vec![0, 1]));
    let customers: ArrayRef = Arc::new(StringArray::from(vec!["C-001"; 2]));
    let gone = RecordBatch::try_from_iter([("shop", shops), ("customer", customers)]).unwrap();
    assert_eq!(world.online.forget("visits", &gone).await.unwrap(), 2);
    materialise_shops(&world, 400).await.unwrap();
}

#[tokio::test]
async fn what_another_version_has_laid_out_is_erased_and_holds_up_nothing() {
    let world = World::new().await;
    let space = format!("spending@{}/v2", spending_view().digest().unwrap().hex());
    let entry = |key: &'static [u8], value: &'static str| OnlineEntry {
        space: space.clone(),
        key: Bytes::from_static(key),
        value: Some(Bytes::from(value)),
    };
    let entries = vec![entry(&[0], r#"{"until":1}"#), entry(b"\x01C-041", "rows")];
    world.entries.put(entries).await.unwrap();
    // Whoever is erased: nobody can tell who is in there.
    world.erase(&customer("C-001"), occurrence(600)).await.unwrap();
    assert!(!world.entries.spaces().await.unwrap().contains(&space));
}

/// Erases with a fault at one mutation, and then again. Returns whether the fault came.
async fn survives(nth: u64, done: bool, same_operation: bool, reference: &Erasure) -> bool {
    let world = World::new().await;
    world.fault.done.store(done, Ordering::SeqCst);
    world.fault.left.store(nth, Ordering::SeqCst);
    let first = world.erase(&customer(ERASED), occurrence(600)).await;
    let what = format!("mutation {nth}, done {done}, same operation {same_operation}: {first:?}");
    let failed = first.is_err();
    assert_eq!(failed, world.fault.left.swap(0, Ordering::SeqCst) == 0, "{what}");

    // Whatever is missing already has its tombstone already.
    let log = world.entries().await;
    for id in world.artifacts.manifests().await.unwrap() {
        for layer in world.artifacts.manifest(&id).await.unwrap().layers {
            if !world.artifacts.contains(&layer.digest).await.unwrap() {
                assert!(log.iter().any(|entry| entry.subject == layer.digest), "{what}");
            }
        }
    }
    let again = if same_operation { occurrence(600) } else { occurrence(601) };
    let receipt = world.erase(&customer(ERASED), again).await;
    assert!(receipt.is_ok(), "{what}: {receipt:?}");
    let receipt = receipt.unwrap();
    world.check_erased().await;
    materialise_shops(&world, 300).await.unwrap();
    let record = world.artifacts.get::<Erasure>(&receipt).await.unwrap().record;
    let erased = world.entries().await.into_iter().filter(|entry| entry.event == Event::Erased);
    assert!(erased.map(|entry| entry.subject).any(|subject| subject == receipt), "{what}");
    if same_operation {
        // The receipt of both attempts together, but perhaps for the step that was cut off.
        assert_eq!(record.training_sets, reference.training_sets, "{what}");
        let short = |counts: &BTreeMap<String, Count>, of: &BTreeMap<String, Count>| {
            assert_eq!(counts.keys().collect::<Vec<_>>(), of.keys().collect::<Vec<_>>(), "{what}");
            let less = |name: &&String| counts[*name].0 < of[*name].0;
            assert!(counts.iter().all(|(name, count)| count.0 <= of[name].0), "{what}");
            counts.keys().filter(less).count()
        };
        let sources = short(&record.sources, &reference.sources);
        assert!(sources + short(&record.online, &reference.online) <= 1, "{what}");
    }
    failed
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_erasure_survives_a_failure_at_every_step() {
    let world = World::new().await;
    let reference = world.erase(&customer(ERASED), occurrence(600)).await.unwrap();
    let reference = world.artifacts.get::<Erasure>(&reference).await.unwrap().record;
    for done in [false, true] {
        for same_operation in [true, false] {
            let mut nth = 1;
            while survives(nth, done, same_operation, &reference).await {
                nth += 1;
            }
            assert!(nth > 20, "an erasure is {nth} mutations");
        }
    }
}

#[tokio::test]
async fn what_cannot_be_erased_from_is_named_before_anything_changes() {
    for (part, message) in [
        ("visits", "visits: it removes nothing"),
        ("outcomes", "outcomes: it removes nothing"),
        ("online", "online: it removes nothing"),
        ("artifacts", "artifacts: it removes nothing"),
    ] {
        let world = World::new().await;
        let before = world.contents().await;
        *world.fault.refusing.lock().unwrap() = part;
        let error = world.erase(&customer(ERASED), occurrence(600)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused, "{error:?}");
        assert!(error.to_string().contains(message), "{error}");
        assert!(world.contents().await == before, "{part}: nothing has changed");
    }
}

#[tokio::test]
async fn keys_that_name_nobody_are_refused() {
    let world = World::new().await;
    let before = world.contents().await;
    let one = |name: &str, values: ArrayRef| RecordBatch::try_from_iter([(name, values)]).unwrap();
    let text = |values: Vec<Option<&str>>| Arc::new(StringArray::from(values)) as ArrayRef;
    let many = (0..100_001).map(|row| row.to_string());
    let cases = [
        (one("customer", Arc::new(Int64Array::from(vec![41]))), ErrorKind::Invalid, "`customer`"),
        (one("custmer", text(vec![Some(ERASED)])), ErrorKind::Invalid, "`custmer`"),
        (one("customer", text(vec![Some(ERASED), None])), ErrorKind::Invalid, "a key is missing"),
        (one("customer", text(vec![])), ErrorKind::Invalid, "there are none"),
        (one("customer", texts(many)), ErrorKind::Limit, "100001 entities"),
        (
            RecordBatch::new_empty(Arc::new(arrow::datatypes::Schema::empty())),
            ErrorKind::Invalid,
            "there are none",
        ),
    ];
    for (entities, kind, part) in cases {
        let error = world.erase(&entities, occurrence(600)).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error:?}");
        assert!(error.to_string().contains(part), "{error}");
    }
    let erase = Erase {
        features: &world.features,
        online: &[],
        artifacts: &world.artifacts,
        log: &world.log,
    };
    let long = "x".repeat(1_001);
    let error = erase.forget(&customer(ERASED), occurrence(600), &long).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Limit, "{error:?}");
    assert!(world.contents().await == before, "nothing has changed");
}

#[tokio::test]
async fn another_erasure_in_the_same_operation_is_refused_or_has_its_own_receipt() {
    let world = World::new().await;
    let first = world.erase(&customer(ERASED), occurrence(600)).await.unwrap();
    let second = world.erase(&customer("C-042"), occurrence(600)).await.unwrap();
    assert_ne!(first, second);
    let record = world.artifacts.get::<Erasure>(&second).await.unwrap().record;
    assert_eq!(record.sources["spending"], Count(3), "its own rows alone");
}

/// Rows that were removed come back, as those of a training set that is made once more.
#[tokio::test]
async fn a_training_set_that_came_back_stays_until_somebody_in_it_is_erased() {
    let world = World::new().await;
    let kept = training(&world.features, 30..50, 500).await;
    let id = kept.save(&world.artifacts).await.unwrap();
    world.erase(&customer(ERASED), occurrence(600)).await.unwrap();
    let rows = world.artifacts.manifest(&id).await.unwrap().layers[0].digest;
    assert!(!world.artifacts.contains(&rows).await.unwrap());
    assert_eq!(kept.save(&world.artifacts).await.unwrap(), id);

    // C-001 is in other sets, and not in this one.
    let other = Occurrence { operation: operation("18"), ..occurrence(700) };
    world.erase(&customer("C-001"), other).await.unwrap();
    assert_eq!(TrainingData::load(&world.artifacts, &id).await.unwrap().rows, kept.rows);
    for old in &world.with {
        let gone = TrainingData::load(&world.artifacts, old).await.unwrap_err();
        assert_eq!(gone.kind(), ErrorKind::NotFound, "{gone}");
    }

    // Whoever is in it is erased from it again, with another entry, whatever the operation.
    let removals = |log: Vec<Entry>| log.into_iter().filter(|entry| entry.subject == rows).count();
    assert_eq!(removals(world.entries().await), 1);
    for (operation, count) in [("erase request 17", 2), ("19", 3)] {
        let occurrence = Occurrence { operation: self::operation(operation), ..occurrence(600) };
        world.erase(&customer(ERASED), occurrence).await.unwrap();
        assert_eq!(removals(world.entries().await), count, "{operation}");
        assert!(!world.artifacts.contains(&rows).await.unwrap());
        kept.save(&world.artifacts).await.unwrap();
    }
}

/// A store in which others have put things, too.
#[derive(Debug)]
struct Shared<'a> {
    store: &'a dyn ArtifactStore,
    /// What is listed as manifests besides.
    listed: Vec<Digest>,
    /// Of this blob it gives other bytes.
    damaged: Option<Digest>,
}

#[async_trait]
impl StoreDouble for Shared<'_> {
    fn inner(&self) -> &dyn ArtifactStore {
        self.store
    }

    async fn manifests(&self) -> Result<Vec<Digest>> {
        let mut all = self.store.manifests().await?;
        all.extend(&self.listed);
        Ok(all)
    }

    async fn get_stream(&self, digest: &Digest) -> Result<ByteStream> {
        match self.damaged == Some(*digest) {
            true => Ok(stream::chunked("x".into(), 1)),
            false => self.store.get_stream(digest).await,
        }
    }
}

#[tokio::test]
async fn what_others_put_into_the_store_stops_no_erasure() {
    let world = World::new().await;
    let erase = async |store: &Doubled<Shared<'_>>| {
        let (features, online) = (&world.features, [&world.online]);
        let erase = Erase { features, online: &online, artifacts: store, log: &world.log };
        erase.forget(&customer(ERASED), occurrence(600), "request 17").await
    };
    let mut store = Doubled(Shared { store: &world.artifacts, listed: vec![], damaged: None });
    // Damage may be to a training set that holds the customer, or to a receipt of this operation.
    store.listed = vec![world.artifacts.put_blob("damaged".into()).await.unwrap()];
    assert_eq!(erase(&store).await.unwrap_err().kind(), ErrorKind::Corrupt);
    let body = world.artifacts.put_blob(r#"{"no":"receipt"}"#.into()).await.unwrap();
    for size in [16, 1, 1 << 40] {
        let config = Descriptor::new(body_type(Erasure::KIND), body, size);
        let mut foreign = Manifest::new(config, Vec::new());
        foreign.artifact_type = Some(artifact_type(Erasure::KIND));
        let bytes = foreign.to_bytes().unwrap().into();
        world.artifacts.put_manifest(bytes).await.unwrap();
    }
    (store.listed, store.damaged) = (vec![], Some(body));
    assert_eq!(erase(&store).await.unwrap_err().kind(), ErrorKind::Corrupt);

    // An image of another tool, and what was collected after it was listed.
    let blob = format!(r#"{{"mediaType":"a/b","digest":"sha512:{}","size":2}}"#, "0".repeat(128));
    let kind = media_type::MANIFEST;
    let other =
        format!(r#"{{"schemaVersion":2,"mediaType":"{kind}","config":{blob},"layers":[{blob}]}}"#);
    let other = world.artifacts.put_blob(other.into()).await.unwrap();
    (store.listed, store.damaged) = (vec![other, Digest::of("collected meanwhile")], None);
    let receipt = erase(&store).await.unwrap();
    let record = world.artifacts.get::<Erasure>(&receipt).await.unwrap().record;
    assert_eq!((record.training_sets.len(), &record.sources["spending"]), (3, &Count(3)));
    for old in &world.with {
        let gone = TrainingData::load(&world.artifacts, old).await.unwrap_err();
        assert_eq!(gone.kind(), ErrorKind::NotFound, "{gone}");
    }
}
