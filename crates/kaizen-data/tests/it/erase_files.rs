//! Erasure from sources and stores that are files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, Float64Array, RecordBatch, StringArray};
use kaizen_core::record::{Count, Erasure, Occurrence};
use kaizen_core::{
    Actor, ArtifactStore, AuditLog as _, DataType, Digest, ErrorKind, OperationId, Records as _,
    Result, Silent, Timestamp,
};
use kaizen_data::{
    Erase, FeatureStore, FileSource, Format, Online, PushSource, TrainingData, open_online,
};
use kaizen_table::{Aggregate, FeatureService, FeatureView, LabelView, Source};
use kaizen_testkit::{MemoryLog, MemoryStore};

use crate::cases::instants;
use crate::files::encoded;
use crate::online::{S, second};

const CUSTOMERS: usize = 20;
const ERASED: &str = "C-007";

fn texts(values: impl Iterator<Item = usize>) -> ArrayRef {
    Arc::new(values.map(|row| Some(format!("C-{:03}", row % CUSTOMERS))).collect::<StringArray>())
}

/// One row each second, of one customer after the other.
fn rows(from: usize, count: usize) -> RecordBatch {
    let range = || from..from + count;
    RecordBatch::try_from_iter([
        ("customer", texts(range())),
        ("event_time", instants(range().map(|row| Some(row as i64 * S)).collect())),
        ("x", Arc::new(range().map(|row| row as f64).collect::<Float64Array>()) as ArrayRef),
    ])
    .unwrap()
}

fn outcomes() -> RecordBatch {
    let known = instants(vec![Some(300 * S); CUSTOMERS]);
    let came_back = (0..CUSTOMERS).map(|row| Some(row % 2 == 0)).collect::<BooleanArray>();
    RecordBatch::try_from_iter([
        ("customer", texts(0..CUSTOMERS)),
        ("came_back", Arc::new(came_back) as ArrayRef),
        ("known_at", known),
    ])
    .unwrap()
}

fn view(name: &str) -> FeatureView {
    let view = FeatureView::builder(name).source(name).key("customer");
    let view = view.column_as(&format!("{name}_x"), "x", DataType::Float64);
    view.window(&format!("{name}_n"), Aggregate::Count, "x", 100).build().unwrap()
}

fn service() -> FeatureService {
    FeatureService::new("service", 1, vec![], vec![view("orders"), view("clicks")]).unwrap()
}

/// The rows to ask for: every customer at one second.
fn asked(at: i64) -> RecordBatch {
    let at = instants(vec![Some(at * S); CUSTOMERS]);
    RecordBatch::try_from_iter([("customer", texts(0..CUSTOMERS)), ("at", at)]).unwrap()
}

/// A folder of Parquet files, a pushed source in another, and an embedded online store.
struct World {
    folder: tempfile::TempDir,
    features: FeatureStore,
    clicks: Arc<PushSource>,
    online: Online,
    artifacts: MemoryStore,
    log: MemoryLog,
    training_set: Digest,
}

async fn orders(folder: &Path) -> Arc<FileSource> {
    Arc::new(FileSource::open("orders", folder.join("orders")).await.unwrap())
}

impl World {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        std::fs::create_dir(path.join("orders")).unwrap();
        let tables = [
            ("orders/1.parquet", rows(0, 50)),
            ("orders/2.parquet", rows(50, 50)),
            // Nobody in it is erased.
            ("orders/3.parquet", rows(100, 5)),
            ("outcomes.parquet", outcomes()),
        ];
        for (name, rows) in tables {
            std::fs::write(path.join(name), encoded(Format::Parquet, &rows, 1_000)).unwrap();
        }
        let orders = orders(path).await;
        let outcomes = FileSource::open("outcomes", path.join("outcomes.parquet")).await.unwrap();
        let clicks = PushSource::open("clicks", path.join("clicks"), rows(0, 0).schema());
        let clicks = Arc::new(clicks.await.unwrap());
        for from in [0, 40, 80] {
            clicks.push(&rows(from, 40)).await.unwrap();
        }
        let url = format!("redb:{}", path.join("online.redb").display());
        let online = Online::new(open_online(&url).await.unwrap());
        online.materialize(&view("orders"), &*orders, second(200), &Silent).await.unwrap();
        online.follow(&view("clicks"), &*clicks, second(200)).await.unwrap();
        let features =
            FeatureStore::new(vec![orders, Arc::clone(&clicks) as _, Arc::new(outcomes)])
                .keep_indices_in(path.join("indices"));
        let labels = vec!["customer".into()];
        let labels = LabelView::new("came_back", "outcomes", labels, "came_back", "known_at");
        let labels = labels.unwrap();
        let (service, asked) = (service(), asked(200));
        let data = features.training_set(&service, &labels, &asked, "at", second(400)).await;
        let artifacts = MemoryStore::default();
        let training_set = data.unwrap().save(&artifacts).await.unwrap();
        let log = MemoryLog::default();
        Self { folder, features, clicks, online, artifacts, log, training_set }
    }

    async fn erase(&self, online: &[&Online]) -> Result<Digest> {
        let erase =
            Erase { features: &self.features, online, artifacts: &self.artifacts, log: &self.log };
        let names: ArrayRef = Arc::new(StringArray::from(vec![ERASED]));
        let entities = RecordBatch::try_from_iter([("customer", names)]).unwrap();
        let at = Timestamp::from_nanos(500 * S);
        let operation = OperationId::new("request 17", at);
        erase.forget(&entities, Occurrence::new(at, Actor::person("ada"), operation), "asked").await
    }

    /// The bytes of every file of a source or of its indices.
    fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut files = BTreeMap::new();
        for part in ["orders", "clicks", "indices"] {
            for file in std::fs::read_dir(self.folder.path().join(part)).unwrap() {
                let path = file.unwrap().path();
                files.insert(path.clone(), std::fs::read(&path).unwrap());
            }
        }
        let outcomes = self.folder.path().join("outcomes.parquet");
        files.insert(outcomes.clone(), std::fs::read(&outcomes).unwrap());
        files
    }
}

async fn customers(source: &dyn Source) -> Vec<String> {
    let batches = source.read(&["customer"]).await.unwrap().batches;
    let names = batches.iter().flat_map(|batch| batch.column(0).as_string::<i32>().iter());
    names.flatten().map(str::to_owned).collect()
}

fn holds(bytes: &[u8]) -> bool {
    bytes.windows(ERASED.len()).any(|part| part == ERASED.as_bytes())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entity_is_erased_from_files_pushed_rows_and_an_embedded_store() {
    let world = World::new().await;
    let before = world.files();
    let receipt = world.erase(&[&world.online]).await.unwrap();
    let receipt = world.artifacts.get::<Erasure>(&receipt).await.unwrap().record;
    let counts = |counts: &[(&str, u64)]| -> BTreeMap<String, Count> {
        counts.iter().map(|(name, count)| ((*name).to_owned(), Count(*count))).collect()
    };
    assert_eq!(receipt.sources, counts(&[("clicks", 6), ("orders", 5), ("outcomes", 1)]));
    assert_eq!(receipt.online, counts(&[("clicks", 1), ("orders", 1)]));
    assert_eq!(receipt.training_sets.len(), 1);

    // Files: no byte of it, and those without the customer are the same.
    let after = world.files();
    let third = world.folder.path().join("orders/3.parquet");
    assert_eq!(before[&third], after[&third]);
    assert!(before.values().any(|bytes| holds(bytes)));
    for (path, bytes) in &after {
        assert!(!holds(bytes), "{}", path.display());
    }
    let gone = TrainingData::load(&world.artifacts, &world.training_set).await.unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::NotFound);
    let new = receipt.training_sets[0].new;
    let rows_left = TrainingData::load(&world.artifacts, &new).await.unwrap().record.rows;
    assert_eq!(rows_left, CUSTOMERS as u64 - 1);

    // Opened anew, all goes on: rows are pushed and followed, online equals offline.
    let World { folder, features, clicks, online, .. } = world;
    drop((features, clicks, online));
    let path = folder.path();
    let orders = orders(path).await;
    let clicks = PushSource::open("clicks", path.join("clicks"), rows(0, 0).schema());
    let clicks = Arc::new(clicks.await.unwrap());
    for (source, left) in [(&*orders as &dyn Source, 100), (&*clicks, 114)] {
        let names = customers(source).await;
        assert_eq!(names.len(), left);
        assert!(!names.iter().any(|name| name == ERASED));
    }
    let url = format!("redb:{}", path.join("online.redb").display());
    let online = Online::new(open_online(&url).await.unwrap());
    assert_eq!(clicks.push(&rows(120, 3)).await.unwrap(), 120..123, "offsets stay");
    online.materialize(&view("orders"), &*orders, second(210), &Silent).await.unwrap();
    assert_eq!(online.follow(&view("clicks"), &*clicks, second(210)).await.unwrap(), 3);
    let features = FeatureStore::new(vec![orders, clicks]);
    let offline = features.features(&service(), &asked(210), "at").await.unwrap();
    assert_eq!(online.features(&service(), &asked(210), "at").await.unwrap(), offline);
    for (column, gone) in [("orders_x", 1), ("clicks_x", 1)] {
        assert_eq!(offline.column_by_name(column).unwrap().null_count(), gone, "{column}");
    }
}

/// Also one that the erased entity is not in.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_training_set_is_not_reproduced_from_files_that_were_erased_from() {
    let world = World::new().await;
    let labels = vec!["customer".into()];
    let labels = LabelView::new("came_back", "outcomes", labels, "came_back", "known_at").unwrap();
    // Only the first five customers.
    let (service, others) = (service(), asked(200).slice(0, 5));
    let of_others = world.features.training_set(&service, &labels, &others, "at", second(400));
    let of_others = of_others.await.unwrap().save(&world.artifacts).await.unwrap();
    let stored = TrainingData::load(&world.artifacts, &of_others).await.unwrap();
    assert_eq!(world.features.reproduce(&stored).await.unwrap(), stored);
    world.erase(&[&world.online]).await.unwrap();
    let stored = TrainingData::load(&world.artifacts, &of_others).await.unwrap();
    let error = world.features.reproduce(&stored).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error:#}");
    println!("{error:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_is_named_before_anything_changes() {
    let world = World::new().await;
    let path = world.folder.path().join("features.kz");
    world.online.export(&[view("orders")], &path).await.unwrap();
    let snapshot = open_online(&format!("snapshot:{}", path.display())).await.unwrap();
    let snapshot = Online::new(snapshot);
    let (before, bytes) = (world.files(), std::fs::read(&path).unwrap());
    let error = world.erase(&[&world.online, &snapshot]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused, "{error:?}");
    assert!(error.to_string().contains("features.kz"), "{error}");
    assert!(error.to_string().contains("a snapshot is only read"), "{error}");
    assert!(world.files() == before && std::fs::read(&path).unwrap() == bytes);
    assert_eq!(world.log.size().await.unwrap(), 0);
    let manifests = world.artifacts.manifests().await.unwrap();
    assert_eq!(manifests, [world.training_set]);
    let found = world.online.features(&service(), &asked(200), "at").await.unwrap();
    assert_eq!(found.column_by_name("orders_x").unwrap().null_count(), 0);
}
