//! An erased entity is gone everywhere, whatever fails on the way, and the log says so.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray,
};
use arrow::compute::filter_record_batch;
use arrow::datatypes::SchemaRef;
use kaizen_core::record::{Count, Erasure, Occurrence, TrainingSet};
use kaizen_core::{
    Actor, ArtifactStore, AuditLog, Bytes, Checkpoint, DataType, Digest, Entry, Error, ErrorKind,
    Event, OperationId, Records as _, Result, Silent, Timestamp, async_trait,
};
use kaizen_data::{Erase, FeatureStore, MemoryOnlineStore, MemorySource, Online, TrainingData};
use kaizen_table::{
    FeatureService, FeatureView, LabelView, OnlineEntry, OnlinePage, OnlineStore, Query, Scan,
    Source, with_column,
};
use kaizen_testkit::{MemoryLog, MemoryStore};

use crate::cases::instants;

const S: i64 = 1_000_000_000;
/// Customers `C-000` to `C-059`; the one who is erased is not the first or the last.
const CUSTOMERS: usize = 60;
const ERASED: &str = "C-041";

fn name(row: usize) -> String {
    format!("C-{:03}", row % CUSTOMERS)
}

fn texts(values: impl Iterator<Item = String>) -> ArrayRef {
    Arc::new(values.map(Some).collect::<StringArray>())
}

fn seconds(values: impl Iterator<Item = i64>) -> ArrayRef {
    instants(values.map(|second| Some(second * S)).collect())
}

/// Three rows of each customer.
fn spending() -> RecordBatch {
    let rows = || 0..3 * CUSTOMERS;
    let spent = rows().map(|row| (row * 37 % 101) as f64).collect::<Float64Array>();
    RecordBatch::try_from_iter([
        ("customer", texts(rows().map(name))),
        ("event_time", seconds(rows().map(|row| row as i64))),
        ("spent", Arc::new(spent) as ArrayRef),
    ])
    .unwrap()
}

/// Each customer in two shops.
fn visits() -> RecordBatch {
    let rows = || 0..2 * CUSTOMERS;
    let shops = rows().map(|row| (row / CUSTOMERS) as i64).collect::<Int64Array>();
    let minutes = rows().map(|row| (row * 53 % 97) as i64).collect::<Int64Array>();
    RecordBatch::try_from_iter([
        ("shop", Arc::new(shops) as ArrayRef),
        ("customer", texts(rows().map(name))),
        ("event_time", seconds(rows().map(|_| 0))),
        ("minutes", Arc::new(minutes)),
    ])
    .unwrap()
}

fn shops() -> RecordBatch {
    RecordBatch::try_from_iter([
        ("shop", Arc::new(Int64Array::from(vec![0, 1])) as ArrayRef),
        ("event_time", seconds([0, 0].into_iter())),
        ("size", Arc::new(Float64Array::from(vec![10.0, 20.0]))),
    ])
    .unwrap()
}

fn outcomes() -> RecordBatch {
    let came_back = (0..CUSTOMERS).map(|row| Some(row % 3 == 0)).collect::<BooleanArray>();
    RecordBatch::try_from_iter([
        ("customer", texts((0..CUSTOMERS).map(name))),
        ("came_back", Arc::new(came_back) as ArrayRef),
        ("known_at", seconds((0..CUSTOMERS).map(|_| 400))),
    ])
    .unwrap()
}

fn spending_view() -> FeatureView {
    let view = FeatureView::builder("spending").source("spending").key("customer");
    view.column("spent", DataType::Float64).build().unwrap()
}

/// Named by more than the customer.
fn visits_view() -> FeatureView {
    let view = FeatureView::builder("visits").source("visits").key("shop").key("customer");
    view.column("minutes", DataType::Int64).build().unwrap()
}

fn shops_view() -> FeatureView {
    let view = FeatureView::builder("shops").source("shops").key("shop");
    view.column("size", DataType::Float64).build().unwrap()
}

fn labels() -> LabelView {
    LabelView::new("came_back", "outcomes", vec!["customer".into()], "came_back", "known_at")
        .unwrap()
}

/// Which mutation fails, counted over everything that can, and whether it was done all the same.
#[derive(Debug, Default)]
struct Fault {
    /// Mutations until the fault, itself included; 0 for none.
    left: AtomicU64,
    done: AtomicBool,
    /// A part that removes nothing, or the empty text.
    refusing: Mutex<&'static str>,
}

impl Fault {
    async fn guard<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let next = |left: u64| left.checked_sub(1);
        let now = self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, next) == Ok(1);
        if now && !self.done.load(Ordering::SeqCst) {
            return Err(Error::new(ErrorKind::Unavailable, "cut off before, by a fault"));
        }
        let result = work.await;
        if now {
            result?;
            return Err(Error::new(ErrorKind::Unavailable, "cut off after, by a fault"));
        }
        result
    }

    fn refuses(&self, part: &str) -> Result<()> {
        match *self.refusing.lock().unwrap() == part {
            true => Err(Error::refused(format!("{part}: it removes nothing"))),
            false => Ok(()),
        }
    }
}

/// A table of which customers can be removed.
#[derive(Debug)]
struct FaultySource(&'static str, Mutex<RecordBatch>, Arc<Fault>);

impl FaultySource {
    fn rows(&self) -> RecordBatch {
        self.1.lock().unwrap().clone()
    }

    fn remove(&self, entities: &RecordBatch) -> u64 {
        let rows = self.rows();
        let names = |batch: &RecordBatch| -> Vec<String> {
            let names = batch.column_by_name("customer").unwrap().as_string::<i32>();
            names.iter().flatten().map(str::to_owned).collect()
        };
        let gone = names(entities);
        let kept = names(&rows).into_iter().map(|name| Some(!gone.contains(&name)));
        let left = filter_record_batch(&rows, &kept.collect()).unwrap();
        let removed = rows.num_rows() - left.num_rows();
        *self.1.lock().unwrap() = left;
        removed as u64
    }
}

#[async_trait]
impl Source for FaultySource {
    fn name(&self) -> &str {
        self.0
    }

    async fn schema(&self) -> Result<SchemaRef> {
        Ok(self.rows().schema())
    }

    async fn scan(&self, query: &Query<'_>) -> Result<Scan> {
        MemorySource::new(self.0, self.rows()).scan(query).await
    }

    async fn forget(&self, entities: &RecordBatch) -> Result<u64> {
        self.2.refuses(self.0)?;
        if entities.num_rows() == 0 {
            return Ok(0);
        }
        self.2.guard(async { Ok(self.remove(entities)) }).await
    }
}

#[derive(Debug)]
struct FaultyOnline(MemoryOnlineStore, Arc<Fault>);

#[async_trait]
impl OnlineStore for FaultyOnline {
    async fn get(&self, space: &str, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>> {
        self.0.get(space, keys).await
    }

    async fn put(&self, entries: Vec<OnlineEntry>) -> Result<()> {
        self.1.refuses("online")?;
        if entries.is_empty() {
            return self.0.put(entries).await;
        }
        self.1.guard(self.0.put(entries)).await
    }

    async fn spaces(&self) -> Result<Vec<String>> {
        self.0.spaces().await
    }

    async fn page(&self, space: &str, after: Option<&Bytes>, most: usize) -> Result<OnlinePage> {
        self.0.page(space, after, most).await
    }
}

#[derive(Debug)]
struct FaultyStore(MemoryStore, Arc<Fault>);

#[async_trait]
impl ArtifactStore for FaultyStore {
    async fn put_blob(&self, bytes: Bytes) -> Result<Digest> {
        self.1.guard(self.0.put_blob(bytes)).await
    }

    async fn get_blob(&self, digest: &Digest) -> Result<Bytes> {
        self.0.get_blob(digest).await
    }

    async fn contains(&self, digest: &Digest) -> Result<bool> {
        self.0.contains(digest).await
    }

    async fn put_manifest(&self, manifest: Bytes) -> Result<Digest> {
        self.1.guard(self.0.put_manifest(manifest)).await
    }

    async fn referrers(&self, subject: &Digest) -> Result<Vec<Digest>> {
        self.0.referrers(subject).await
    }

    async fn manifests(&self) -> Result<Vec<Digest>> {
        self.0.manifests().await
    }

    async fn remove_blob(&self, digest: &Digest) -> Result<bool> {
        self.1.refuses("artifacts")?;
        self.1.guard(self.0.remove_blob(digest)).await
    }
}

#[derive(Debug)]
struct FaultyLog(MemoryLog, Arc<Fault>);

#[async_trait]
impl AuditLog for FaultyLog {
    async fn append(&self, entries: &[Entry], expected: Option<u64>) -> Result<Range<u64>> {
        self.1.guard(self.0.append(entries, expected)).await
    }

    async fn size(&self) -> Result<u64> {
        self.0.size().await
    }

    async fn read(&self, indices: Range<u64>) -> Result<Vec<Entry>> {
        self.0.read(indices).await
    }

    async fn checkpoint(&self) -> Result<Checkpoint> {
        self.0.checkpoint().await
    }
}

/// Everything that holds customers.
struct World {
    fault: Arc<Fault>,
    sources: Vec<Arc<FaultySource>>,
    features: FeatureStore,
    online: Online,
    entries: Arc<FaultyOnline>,
    artifacts: FaultyStore,
    log: FaultyLog,
    /// Training sets with the customer, of which the first two have one blob of rows.
    with: Vec<Digest>,
    /// One without.
    without: Digest,
}

fn service() -> FeatureService {
    let views = vec![spending_view(), visits_view(), shops_view()];
    FeatureService::new("service", 1, vec![], views).unwrap()
}

fn spine(rows: Range<usize>) -> RecordBatch {
    let shop = rows.clone().map(|row| (row % 2) as i64).collect::<Int64Array>();
    RecordBatch::try_from_iter([
        ("customer", texts(rows.clone().map(name))),
        ("shop", Arc::new(shop) as ArrayRef),
        ("at", seconds(rows.map(|row| 200 + row as i64 % 50))),
    ])
    .unwrap()
}

async fn training(features: &FeatureStore, rows: Range<usize>, cutoff: i64) -> TrainingData {
    let cutoff = Timestamp::from_nanos(cutoff * S);
    let (service, labels, spine) = (service(), labels(), spine(rows));
    features.training_set(&service, &labels, &spine, "at", cutoff).await.unwrap()
}

impl World {
    async fn new() -> Self {
        let fault = Arc::new(Fault::default());
        let tables = [
            ("spending", spending()),
            ("visits", visits()),
            ("shops", shops()),
            ("outcomes", outcomes()),
        ];
        let source = |(name, rows): (&'static str, RecordBatch)| {
            Arc::new(FaultySource(name, Mutex::new(rows), Arc::clone(&fault)))
        };
        let sources: Vec<_> = tables.map(source).into();
        let ports = sources.iter().map(|source| Arc::clone(source) as Arc<dyn Source>);
        let features = FeatureStore::new(ports.collect());
        let entries = FaultyOnline(MemoryOnlineStore::default(), Arc::clone(&fault));
        let entries = Arc::new(entries);
        let online = Online::new(Arc::clone(&entries) as Arc<dyn OnlineStore>);
        for (view, source) in [spending_view(), visits_view(), shops_view()].iter().zip(&sources) {
            let until = Timestamp::from_nanos(150 * S);
            online.materialize(view, &**source, until, &Silent).await.unwrap();
        }
        let artifacts = FaultyStore(MemoryStore::default(), Arc::clone(&fault));
        let log = FaultyLog(MemoryLog::default(), Arc::clone(&fault));
        let mut with = Vec::new();
        for (rows, cutoff) in [(0..120, 500), (0..120, 501), (30..90, 500)] {
            with.push(training(&features, rows, cutoff).await.save(&artifacts).await.unwrap());
        }
        let rows = |id: &Digest| {
            let (artifacts, id) = (&artifacts, *id);
            async move { artifacts.manifest(&id).await.unwrap().layers[0].digest }
        };
        assert_eq!(rows(&with[0]).await, rows(&with[1]).await, "one blob, two records");
        let without = training(&features, 0..30, 500).await;
        let without = without.save(&artifacts).await.unwrap();
        Self { fault, sources, features, online, entries, artifacts, log, with, without }
    }

    async fn erase(&self, entities: &RecordBatch, occurrence: Occurrence) -> Result<Digest> {
        let erase = Erase {
            features: &self.features,
            online: &[&self.online],
            artifacts: &self.artifacts,
            log: &self.log,
        };
        erase.forget(entities, occurrence, "request 17").await
    }

    async fn entries(&self) -> Vec<Entry> {
        self.log.read(0..self.log.size().await.unwrap()).await.unwrap()
    }

    /// Everything that the stores hold, to compare.
    async fn contents(&self) -> Contents {
        let mut rows = BTreeMap::new();
        for source in &self.sources {
            rows.insert(source.name().to_owned(), source.rows());
        }
        let mut entries = Vec::new();
        for space in self.entries.spaces().await.unwrap() {
            let page = self.entries.page(&space, None, usize::MAX).await.unwrap();
            entries.extend(page.entries.into_iter().map(|(key, _)| (space.clone(), key)));
        }
        let manifests = self.artifacts.manifests().await.unwrap();
        (rows, entries, manifests, self.log.size().await.unwrap())
    }

    /// That nothing but the log's hint of it is left of the customer, and all else is there.
    async fn check_erased(&self) {
        let (rows, entries, ..) = self.contents().await;
        for (source, left) in [("spending", 177), ("visits", 118), ("shops", 2), ("outcomes", 59)] {
            assert_eq!(rows[source].num_rows(), left, "{source}");
            if let Some(customers) = rows[source].column_by_name("customer") {
                assert!(customers.as_string::<i32>().iter().all(|name| name != Some(ERASED)));
            }
        }
        let count = |view: &str| {
            let of_view =
                |(space, key): &&(String, Bytes)| space.starts_with(view) && key.len() > 1;
            entries.iter().filter(of_view).count()
        };
        assert_eq!([count("spending@"), count("visits@"), count("shops@")], [59, 118, 2]);
        let holds =
            |bytes: &[u8]| bytes.windows(ERASED.len()).any(|part| part == ERASED.as_bytes());
        assert!(!entries.iter().any(|(_, key)| holds(key)), "no key online has the customer");

        let log = self.entries().await;
        for id in self.artifacts.manifests().await.unwrap() {
            let manifest = self.artifacts.manifest(&id).await.unwrap();
            let body = self.artifacts.get_blob(&manifest.config.digest).await.unwrap();
            let bytes = manifest.to_bytes().unwrap();
            assert!(!holds(&bytes) && !holds(&body), "no record has the customer");
            for layer in &manifest.layers {
                let there = self.artifacts.contains(&layer.digest).await.unwrap();
                let removed = |e: &&Entry| {
                    e.subject == layer.digest && matches!(e.event, Event::Removed { .. })
                };
                assert_eq!(log.iter().any(|entry| removed(&entry)), !there, "tombstones tell all");
            }
            let Ok(data) = TrainingData::load(&self.artifacts, &id).await else { continue };
            let customers = data.rows.column_by_name("customer").unwrap().as_string::<i32>();
            assert!(customers.iter().all(|name| name != Some(ERASED)), "{id}");
        }
        for old in &self.with {
            let gone = TrainingData::load(&self.artifacts, old).await.unwrap_err();
            assert_eq!(gone.kind(), ErrorKind::NotFound, "{gone}");
            self.artifacts.get::<TrainingSet>(old).await.unwrap();
        }
        TrainingData::load(&self.artifacts, &self.without).await.unwrap();
        assert!(!holds(&serde_json::to_vec(&log).unwrap()), "the log does not have the customer");
    }
}

type Contents = (BTreeMap<String, RecordBatch>, Vec<(String, Bytes)>, Vec<Digest>, u64);

fn customer(name: &str) -> RecordBatch {
    let names: ArrayRef = Arc::new(StringArray::from(vec![name]));
    RecordBatch::try_from_iter([("customer", names)]).unwrap()
}

fn operation(name: &str) -> OperationId {
    OperationId::new(name, Timestamp::from_nanos(600 * S))
}

fn occurrence(second: i64) -> Occurrence {
    let at = Timestamp::from_nanos(second * S);
    Occurrence::new(at, Actor::person("ada"), OperationId::new("erase request 17", at))
}

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
