//! Customers, in every place that can hold them, of which each can fail.

use std::collections::BTreeMap;
use std::future::Future;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use arrow::array::{
    ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray,
};
use arrow::compute::filter_record_batch;
use arrow::datatypes::SchemaRef;
use kaizen_core::record::{Occurrence, TrainingSet};
use kaizen_core::{
    Actor, ArtifactStore, AuditLog, ByteStream, Bytes, DataType, Digest, Entry, Error, ErrorKind,
    Event, OperationId, Records as _, Result, Silent, Timestamp, async_trait,
};
use kaizen_data::{Erase, FeatureStore, MemoryOnlineStore, MemorySource, Online, TrainingData};
use kaizen_table::{
    Aggregate, FeatureService, FeatureView, LabelView, OnlineEntry, OnlinePage, OnlineStore, Query,
    Scan, Source,
};
use kaizen_testkit::{Doubled, LogDouble, MemoryLog, MemoryStore, StoreDouble};

use crate::cases::instants;

pub(crate) const S: i64 = 1_000_000_000;
/// Customers `C-000` to `C-059`; the one who is erased is not the first or the last.
pub(crate) const CUSTOMERS: usize = 60;
pub(crate) const ERASED: &str = "C-041";

pub(crate) fn name(row: usize) -> String {
    format!("C-{:03}", row % CUSTOMERS)
}

pub(crate) fn texts(values: impl Iterator<Item = String>) -> ArrayRef {
    Arc::new(values.map(Some).collect::<StringArray>())
}

pub(crate) fn seconds(values: impl Iterator<Item = i64>) -> ArrayRef {
    instants(values.map(|second| Some(second * S)).collect())
}

/// Three rows of each customer.
pub(crate) fn spending() -> RecordBatch {
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
pub(crate) fn visits() -> RecordBatch {
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

pub(crate) fn shops() -> RecordBatch {
    RecordBatch::try_from_iter([
        ("shop", Arc::new(Int64Array::from(vec![0, 1])) as ArrayRef),
        ("event_time", seconds([0, 0].into_iter())),
        ("size", Arc::new(Float64Array::from(vec![10.0, 20.0]))),
    ])
    .unwrap()
}

pub(crate) fn outcomes() -> RecordBatch {
    let came_back = (0..CUSTOMERS).map(|row| Some(row % 3 == 0)).collect::<BooleanArray>();
    RecordBatch::try_from_iter([
        ("customer", texts((0..CUSTOMERS).map(name))),
        ("came_back", Arc::new(came_back) as ArrayRef),
        ("known_at", seconds((0..CUSTOMERS).map(|_| 400))),
    ])
    .unwrap()
}

pub(crate) fn spending_view() -> FeatureView {
    let view = FeatureView::builder("spending").source("spending").key("customer");
    view.column("spent", DataType::Float64).build().unwrap()
}

/// Named by more than the customer.
pub(crate) fn visits_view() -> FeatureView {
    let view = FeatureView::builder("visits").source("visits").key("shop").key("customer");
    view.column("minutes", DataType::Int64).build().unwrap()
}

/// Of the source of another view, and not named by the customer.
pub(crate) fn shop_minutes_view() -> FeatureView {
    let view = FeatureView::builder("shop_minutes").source("visits").key("shop");
    view.window("shop_minutes", Aggregate::Sum, "minutes", 1_000).build().unwrap()
}

pub(crate) fn shops_view() -> FeatureView {
    let view = FeatureView::builder("shops").source("shops").key("shop");
    view.column("size", DataType::Float64).build().unwrap()
}

pub(crate) fn labels() -> LabelView {
    LabelView::new("came_back", "outcomes", vec!["customer".into()], "came_back", "known_at")
        .unwrap()
}

/// Which mutation fails, counted over everything that can, and whether it was done all the same.
#[derive(Debug, Default)]
pub(crate) struct Fault {
    /// Mutations until the fault, itself included; 0 for none.
    pub(crate) left: AtomicU64,
    pub(crate) done: AtomicBool,
    /// A part that removes nothing, or the empty text.
    pub(crate) refusing: Mutex<&'static str>,
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
pub(crate) struct FaultySource(&'static str, pub(crate) Mutex<RecordBatch>, Arc<Fault>);

impl FaultySource {
    pub(crate) fn rows(&self) -> RecordBatch {
        self.1.lock().unwrap().clone()
    }

    pub(crate) fn remove(&self, entities: &RecordBatch) -> u64 {
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
pub(crate) struct FaultyOnline(MemoryOnlineStore, Arc<Fault>);

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
pub(crate) struct FaultyStore(MemoryStore, Arc<Fault>);

#[async_trait]
impl StoreDouble for FaultyStore {
    fn inner(&self) -> &dyn ArtifactStore {
        &self.0
    }

    async fn put_stream(&self, bytes: ByteStream, expected: Option<&Digest>) -> Result<Digest> {
        self.1.guard(self.0.put_stream(bytes, expected)).await
    }

    async fn put_manifest(&self, manifest: Bytes) -> Result<Digest> {
        self.1.guard(self.0.put_manifest(manifest)).await
    }

    async fn remove_blob(&self, digest: &Digest) -> Result<bool> {
        self.1.refuses("artifacts")?;
        self.1.guard(self.0.remove_blob(digest)).await
    }
}

#[derive(Debug)]
pub(crate) struct FaultyLog(MemoryLog, Arc<Fault>);

#[async_trait]
impl LogDouble for FaultyLog {
    fn inner(&self) -> &dyn AuditLog {
        &self.0
    }

    async fn append(&self, entries: &[Entry], expected: Option<u64>) -> Result<Range<u64>> {
        self.1.guard(self.0.append(entries, expected)).await
    }
}

/// Everything that holds customers.
pub(crate) struct World {
    pub(crate) fault: Arc<Fault>,
    pub(crate) sources: Vec<Arc<FaultySource>>,
    pub(crate) features: FeatureStore,
    pub(crate) online: Online,
    pub(crate) entries: Arc<FaultyOnline>,
    pub(crate) artifacts: Doubled<FaultyStore>,
    pub(crate) log: Doubled<FaultyLog>,
    /// Training sets with the customer, of which the first two have one blob of rows.
    pub(crate) with: Vec<Digest>,
    /// One without.
    pub(crate) without: Digest,
}

pub(crate) fn service() -> FeatureService {
    let views = vec![spending_view(), visits_view(), shops_view()];
    FeatureService::new("service", 1, vec![], views).unwrap()
}

pub(crate) fn spine(rows: Range<usize>) -> RecordBatch {
    let shop = rows.clone().map(|row| (row % 2) as i64).collect::<Int64Array>();
    RecordBatch::try_from_iter([
        ("customer", texts(rows.clone().map(name))),
        ("shop", Arc::new(shop) as ArrayRef),
        ("at", seconds(rows.map(|row| 200 + row as i64 % 50))),
    ])
    .unwrap()
}

pub(crate) async fn training(
    features: &FeatureStore,
    rows: Range<usize>,
    cutoff: i64,
) -> TrainingData {
    let cutoff = Timestamp::from_nanos(cutoff * S);
    let (service, labels, spine) = (service(), labels(), spine(rows));
    features.training_set(&service, &labels, &spine, "at", cutoff).await.unwrap()
}

impl World {
    pub(crate) async fn new() -> Self {
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
        let views = [spending_view(), visits_view(), shops_view(), shop_minutes_view()];
        for (view, source) in views.iter().zip([0, 1, 2, 1]) {
            let until = Timestamp::from_nanos(150 * S);
            online.materialize(view, &*sources[source], until, &Silent).await.unwrap();
        }
        let artifacts = Doubled(FaultyStore(MemoryStore::default(), Arc::clone(&fault)));
        let log = Doubled(FaultyLog(MemoryLog::default(), Arc::clone(&fault)));
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

    pub(crate) async fn erase(
        &self,
        entities: &RecordBatch,
        occurrence: Occurrence,
    ) -> Result<Digest> {
        let erase = Erase {
            features: &self.features,
            online: &[&self.online],
            artifacts: &self.artifacts,
            log: &self.log,
        };
        erase.forget(entities, occurrence, "request 17").await
    }

    pub(crate) async fn entries(&self) -> Vec<Entry> {
        self.log.read(0..self.log.size().await.unwrap()).await.unwrap()
    }

    /// Everything that the stores hold, to compare.
    pub(crate) async fn contents(&self) -> Contents {
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
    pub(crate) async fn check_erased(&self) {
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

pub(crate) type Contents = (BTreeMap<String, RecordBatch>, Vec<(String, Bytes)>, Vec<Digest>, u64);

pub(crate) fn customer(name: &str) -> RecordBatch {
    let names: ArrayRef = Arc::new(StringArray::from(vec![name]));
    RecordBatch::try_from_iter([("customer", names)]).unwrap()
}

pub(crate) fn operation(name: &str) -> OperationId {
    OperationId::new(name, Timestamp::from_nanos(600 * S))
}

pub(crate) fn occurrence(second: i64) -> Occurrence {
    let at = Timestamp::from_nanos(second * S);
    Occurrence::new(at, Actor::person("ada"), OperationId::new("erase request 17", at))
}
