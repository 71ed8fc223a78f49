//! A training set made once more: the same bytes, or an error that says what is gone.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch};
use arrow::datatypes::Float64Type;
use kaizen_core::{DataType, Digest, ErrorKind, Field, Result, Timestamp};
use kaizen_data::{FeatureStore, MemorySource, TrainingData};
use kaizen_table::{
    Aggregate, FeatureService, FeatureView, Functions, LabelView, OnDemand, Source,
};
use kaizen_testkit::MemoryStore;

use crate::cases::instants;
use crate::cut_source::CutSource;

const S: i64 = 1_000_000_000;
const ROWS: i64 = 400;

/// A row a second of so many entities, from a second on.
fn values(from: i64, rows: i64) -> RecordBatch {
    let seconds = from..from + rows;
    let columns: [(&str, ArrayRef); 3] = [
        ("k", Arc::new(seconds.clone().map(|row| row % 10).collect::<Int64Array>())),
        ("event_time", instants(seconds.clone().map(|row| Some(row * S)).collect())),
        ("x", Arc::new(seconds.map(|row| (row * 31 % 17) as f64).collect::<Float64Array>())),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

fn outcomes() -> RecordBatch {
    let columns: [(&str, ArrayRef); 3] = [
        ("id", Arc::new((0..ROWS).collect::<Int64Array>())),
        ("late", Arc::new((0..ROWS).map(|row| Some(row * 13 % 7 < 3)).collect::<BooleanArray>())),
        ("known_at", instants((0..ROWS).map(|row| Some((row + 5) * S)).collect())),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

fn spine() -> RecordBatch {
    let columns: [(&str, ArrayRef); 3] = [
        ("id", Arc::new((0..ROWS).collect::<Int64Array>())),
        ("k", Arc::new((0..ROWS).map(|row| row * 7 % 11).collect::<Int64Array>())),
        ("at", instants((0..ROWS).map(|row| Some(row * S + 1)).collect())),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

fn service() -> FeatureService {
    let view = FeatureView::builder("v").source("values").key("k").ttl_seconds(60);
    let view = view.column("x", DataType::Float64).window("mean", Aggregate::Mean, "x", 30);
    let twice = OnDemand {
        name: "twice".to_owned(),
        version: 1,
        inputs: vec![Field::new("x", DataType::Float64)],
        outputs: vec![Field::new("twice", DataType::Float64)],
    };
    let service = FeatureService::new("service", 1, vec![], vec![view.build().unwrap()]).unwrap();
    service.with_on_demand(vec![twice]).unwrap()
}

fn times(factor: f64) -> Functions {
    Functions::default().with("twice", 1, move |rows| {
        let x = kaizen_table::numbers(rows, "x")?;
        Ok(vec![Arc::new(x.unary::<_, Float64Type>(|x| x * factor)) as ArrayRef])
    })
}

fn labels() -> LabelView {
    LabelView::new("late", "outcomes", vec!["id".into()], "late", "known_at").unwrap()
}

struct World {
    values: Arc<CutSource>,
    outcomes: Arc<CutSource>,
    store: FeatureStore,
    artifacts: MemoryStore,
}

/// Values in two files and three spans.
fn world() -> World {
    let values_of = CutSource::new("values", values(0, 200), vec![150 * S, 300 * S]);
    values_of.put("part-1.arrow", values(200, 200));
    let values = Arc::new(values_of);
    let outcomes = Arc::new(CutSource::new("outcomes", outcomes(), vec![]));
    let sources: Vec<Arc<dyn Source>> = vec![Arc::clone(&values) as _, Arc::clone(&outcomes) as _];
    let store = FeatureStore::new(sources).with_functions(times(2.0));
    World { values, outcomes, store, artifacts: MemoryStore::default() }
}

impl World {
    async fn train(&self) -> TrainingData {
        let cutoff = Timestamp::from_nanos(380 * S);
        let made = self.store.training_set(&service(), &labels(), &spine(), "at", cutoff).await;
        made.unwrap()
    }

    async fn saved(&self, data: &TrainingData) -> Digest {
        data.save(&self.artifacts).await.unwrap()
    }

    async fn again(&self, id: Digest) -> Result<TrainingData> {
        let stored = TrainingData::load(&self.artifacts, &id).await.unwrap();
        self.store.reproduce(&stored).await
    }
}

#[tokio::test]
async fn the_same_call_gives_the_same_bytes_and_another_file_others() {
    let world = world();
    let data = world.train().await;
    let files = data.files.as_ref().unwrap();
    let paths: Vec<_> = files["values"].iter().map(|file| file.path.as_str()).collect();
    assert_eq!(paths, ["part-0.arrow", "part-1.arrow"]);
    assert_eq!(data.record.sources["outcomes"], files["outcomes"][0].digest);
    let id = world.saved(&data).await;
    assert_eq!(world.saved(&world.train().await).await, id);
    world.values.put("part-2.arrow", values(400, 10));
    assert_ne!(world.saved(&world.train().await).await, id);
}

#[tokio::test]
async fn a_stored_training_set_is_made_again_whatever_has_come_since() {
    let world = world();
    let data = world.train().await;
    assert_eq!((data.record.rows, data.record.unlabelled), (376, 24));
    let id = world.saved(&data).await;
    // Another file is no concern of the old ones, though it has newer values of the same instants.
    world.values.put("part-2.arrow", values(100, 300));
    let again = world.again(id).await.unwrap();
    assert_eq!(again, data);
    assert_eq!(world.saved(&again).await, id);
    // So is a part of it.
    let part = data.from(Timestamp::from_nanos(100 * S)).unwrap();
    let part_id = world.saved(&part).await;
    assert_eq!(world.saved(&world.again(part_id).await.unwrap()).await, part_id);
}

#[tokio::test]
async fn what_is_gone_or_has_changed_is_named() {
    let world = world();
    let id = world.saved(&world.train().await).await;
    let error_of = |kind, parts: &'static [&'static str]| {
        let world = &world;
        async move {
            let error = world.again(id).await.unwrap_err();
            assert_eq!(error.kind(), kind, "{error:?}");
            for part in parts {
                assert!(error.to_string().contains(part), "{part}: {error}");
            }
        }
    };
    world.values.put("part-1.arrow", values(201, 200));
    error_of(ErrorKind::Conflict, &["`values` cannot be read as it was", "`part-1.arrow`"]).await;
    world.values.remove("part-1.arrow");
    error_of(ErrorKind::NotFound, &["source `values`", "file `part-1.arrow`"]).await;
    world.values.put("part-1.arrow", values(200, 200));
    world.again(id).await.unwrap();
    world.outcomes.put("part-0.arrow", outcomes().slice(0, 399));
    error_of(ErrorKind::Conflict, &["source `outcomes`", "`part-0.arrow`"]).await;

    let stored = TrainingData::load(&world.artifacts, &id).await.unwrap();
    let lost = FeatureStore::new(vec![]).with_functions(times(2.0));
    let error = lost.reproduce(&stored).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("source `outcomes`"), "{error}");
}

#[tokio::test]
async fn a_source_in_memory_is_compared_by_its_digest() {
    let memory = |values: RecordBatch| {
        let values = MemorySource::new("values", values);
        let outcomes = MemorySource::new("outcomes", outcomes());
        let sources: Vec<Arc<dyn Source>> = vec![Arc::new(values), Arc::new(outcomes)];
        FeatureStore::new(sources).with_functions(times(2.0))
    };
    let store = memory(values(0, 400));
    let cutoff = Timestamp::from_nanos(380 * S);
    let data = store.training_set(&service(), &labels(), &spine(), "at", cutoff).await.unwrap();
    assert_eq!(store.reproduce(&data).await.unwrap(), data);
    let error = memory(values(0, 401)).reproduce(&data).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    let text = error.to_string();
    assert!(
        text.contains("source `values` cannot be read as it was: its data has changed"),
        "{text}"
    );
}

#[tokio::test]
async fn a_function_that_changed_without_a_version_is_found_out() {
    let world = world();
    let data = world.train().await;
    let sources: Vec<Arc<dyn Source>> = vec![world.values as _, world.outcomes as _];
    let other = FeatureStore::new(sources).with_functions(times(2.5));
    let error = other.reproduce(&data).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.to_string().contains("column `twice` comes out otherwise"), "{error}");
}
