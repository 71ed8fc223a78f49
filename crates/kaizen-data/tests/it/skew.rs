//! What was served against what is so: honest serving gives no difference, a fault is named.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray,
};
use arrow::compute::concat_batches;
use arrow::datatypes::Float64Type;
use kaizen_core::{DataType, Error, ErrorKind, Field, Silent, Timestamp, async_trait};
use kaizen_data::skew::{self, SkewReport};
use kaizen_data::{FeatureStore, MemoryOnlineStore, MemorySource, Online, ServedLog, ServedSink};
use kaizen_table::{Aggregate, FeatureService, FeatureView, Functions, OnDemand, with_column};

use crate::cases::instants;

const S: i64 = 1_000_000_000;

/// A row a second, of ten entities.
fn events(rows: i64) -> RecordBatch {
    let word = |row: i64| ["calm", "fresh", "gale"][(row % 3) as usize];
    let columns: [(&str, ArrayRef); 5] = [
        ("k", Arc::new((0..rows).map(|row| row % 10).collect::<Int64Array>())),
        ("event_time", instants((0..rows).map(|row| Some(row * S)).collect())),
        ("x", Arc::new((0..rows).map(|row| row as f64 / 8.0).collect::<Float64Array>())),
        ("word", Arc::new((0..rows).map(|row| Some(word(row))).collect::<StringArray>())),
        ("up", Arc::new((0..rows).map(|row| Some(row % 4 == 0)).collect::<BooleanArray>())),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

fn view() -> FeatureView {
    FeatureView::builder("v")
        .source("s")
        .key("k")
        .ttl_seconds(60)
        .column("x", DataType::Float64)
        .column("word", DataType::Utf8)
        .column("up", DataType::Bool)
        .window("n", Aggregate::Count, "x", 50)
        .build()
        .unwrap()
}

fn service() -> FeatureService {
    let scaled = OnDemand {
        name: "scaled".to_owned(),
        version: 1,
        inputs: vec![Field::new("x", DataType::Float64), Field::new("scale", DataType::Float64)],
        outputs: vec![Field::new("scaled", DataType::Float64)],
    };
    let request = vec![Field::new("scale", DataType::Float64)];
    let service = FeatureService::new("wind", 3, request, vec![view()]).unwrap();
    service.with_on_demand(vec![scaled]).unwrap()
}

fn functions(shift: f64) -> Functions {
    Functions::default().with("scaled", 1, move |rows| {
        let (x, scale) = (rows.column(0), rows.column(1));
        let (x, scale) = (x.as_primitive::<Float64Type>(), scale.as_primitive::<Float64Type>());
        let scaled = x.iter().zip(scale).map(|(x, scale)| Some(x? * scale? + shift));
        Ok(vec![Arc::new(scaled.collect::<Float64Array>()) as ArrayRef])
    })
}

fn request(at: i64) -> RecordBatch {
    let columns: [(&str, ArrayRef); 3] = [
        ("k", Arc::new((0..12).collect::<Int64Array>())),
        ("scale", Arc::new((0..12).map(f64::from).collect::<Float64Array>())),
        ("at", instants(vec![Some(at); 12])),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

fn store(shift: f64) -> FeatureStore {
    let source = MemorySource::new("s", events(1_000));
    FeatureStore::new(vec![Arc::new(source)]).with_functions(functions(shift))
}

/// What is served at 999 s by a view that was brought forward with `rows` rows of the source.
async fn served(rows: i64) -> RecordBatch {
    let online = Online::new(Arc::new(MemoryOnlineStore::default())).with_functions(functions(0.0));
    let source = MemorySource::new("s", events(rows));
    let until = Timestamp::from_nanos(999 * S);
    online.materialize(&view(), &source, until, &Silent).await.unwrap();
    online.features(&service(), &request(999 * S), "at").await.unwrap()
}

async fn checked(store: &FeatureStore, served: &RecordBatch) -> SkewReport {
    let report = skew::check(store, &service(), served, "at").await.unwrap();
    let json = serde_json::to_string(&report).unwrap();
    assert_eq!(serde_json::from_str::<SkewReport>(&json).unwrap(), report);
    report
}

#[tokio::test]
async fn honest_serving_has_no_skew() {
    let report = checked(&store(0.0), &served(1_000).await).await;
    assert!(report.is_clean(), "{report}");
    assert_eq!((report.rows, report.features.len()), (12, 5));
    assert!(report.features.iter().all(|feature| feature.equal == 12));
    assert_eq!(report.features[0].greatest_difference, Some(0.0));
    let names: Vec<_> = report.features.iter().map(|feature| feature.name.as_str()).collect();
    assert_eq!(names, ["x", "word", "up", "n", "scaled"]);
}

#[tokio::test]
async fn a_view_of_a_stale_source_is_named_with_its_features() {
    // The last 20 rows had not come when the view was brought forward.
    let report = checked(&store(0.0), &served(980).await).await;
    let of = |name: &str| report.features.iter().find(|feature| feature.name == name).unwrap();
    let x = of("x");
    assert_eq!((x.equal, x.differing), (2, 10));
    assert_eq!((x.greatest_difference, x.mean_difference), (Some(2.5), Some(-2.5)));
    assert_eq!(x.examples.len(), 5);
    assert_eq!((x.examples[0].row, x.examples[0].served.as_deref()), (0, Some("121.25")));
    assert_eq!(x.examples[0].offline.as_deref(), Some("123.75"));
    assert!(of("word").skewed() > 0 && of("n").skewed() == 10 && of("scaled").skewed() > 0);
    let text = report.to_string();
    assert!(text.starts_with("wind: 12 rows served\nfeature"), "{text}");
    assert!(text.contains("row 0: served 121.25, offline 123.75"), "{text}");
    println!("{text}");

    // So old that the TTL hides it: missing where offline it is not.
    let report = checked(&store(0.0), &served(900).await).await;
    assert_eq!((report.features[0].missing_served, report.features[0].differing), (10, 0));
    assert_eq!(report.features[0].examples[0].served, None);
}

#[tokio::test]
async fn a_function_of_another_code_is_named_and_nothing_else() {
    let report = checked(&store(0.5), &served(1_000).await).await;
    let skewed: Vec<_> = report.features.iter().filter(|feature| feature.skewed() > 0).collect();
    assert_eq!(skewed.len(), 1);
    assert_eq!((skewed[0].name.as_str(), skewed[0].differing), ("scaled", 10));
    assert_eq!(skewed[0].mean_difference, Some(-0.5));
}

#[tokio::test]
async fn rows_that_were_not_served_so_are_refused() {
    let store = store(0.0);
    let served = served(1_000).await;
    let without = served.project(&[0, 1, 2, 3, 4, 5, 7]).unwrap();
    let error = skew::check(&store, &service(), &without, "at").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("column `n`"), "{error}");
    let word: ArrayRef = Arc::new(Int64Array::from(vec![1; 12]));
    let odd = with_column(&served, "word", word).unwrap();
    let error = skew::check(&store, &service(), &odd, "at").await.unwrap_err();
    assert!(error.to_string().contains("column `word`"), "{error}");
    // Missing and NaN on both sides are the same; no rows have no skew.
    let none = skew::check(&store, &service(), &served.slice(0, 0), "at").await.unwrap();
    assert!(none.is_clean() && none.rows == 0 && none.features[0].mean_difference.is_none());
    assert!(served.column_by_name("x").unwrap().null_count() > 0);
}

/// Keeps what it is given, unless it fails.
#[derive(Debug, Default)]
struct Sink {
    rows: Mutex<Vec<RecordBatch>>,
    fails: AtomicBool,
}

#[async_trait]
impl ServedSink for Sink {
    async fn log(&self, rows: &RecordBatch) -> kaizen_core::Result<()> {
        if self.fails.load(Ordering::SeqCst) {
            return Err(Error::new(ErrorKind::Unavailable, "the disk is full"));
        }
        self.rows.lock().unwrap().push(rows.clone());
        Ok(())
    }
}

#[tokio::test]
async fn what_is_served_is_logged_and_a_failing_log_loses_no_answer() {
    let sink = Arc::new(Sink::default());
    let log = Arc::new(ServedLog::start(Arc::clone(&sink) as _).unwrap());
    let online = Online::new(Arc::new(MemoryOnlineStore::default())).with_functions(functions(0.0));
    let online = online.log_served_to(&service(), Arc::clone(&log));
    let source = MemorySource::new("s", events(1_000));
    let until = Timestamp::from_nanos(900 * S);
    online.materialize(&view(), &source, until, &Silent).await.unwrap();
    for at in 900..920 {
        online.features(&service(), &request(at * S), "at").await.unwrap();
    }
    // Another service is not logged.
    let other = FeatureService::new("other", 1, vec![], vec![view()]).unwrap();
    online.features(&other, &request(900 * S), "at").await.unwrap();
    log.flush().await.unwrap();
    let logged = sink.rows.lock().unwrap().clone();
    assert!(logged.len() < 20, "many answers are handed over at once");
    let served = concat_batches(&logged[0].schema(), &logged).unwrap();
    assert_eq!((served.num_rows(), log.lost()), (240, 0));
    // What came after 900 s was served without.
    let report = checked(&store(0.0), &served).await;
    let x = &report.features[0];
    assert!(x.equal > 0 && x.differing > 0 && x.missing_served == 0, "{report}");
    assert!(checked(&store(0.0), &served.slice(0, 12)).await.is_clean());

    sink.fails.store(true, Ordering::SeqCst);
    online.features(&service(), &request(900 * S), "at").await.unwrap();
    log.flush().await.unwrap();
    assert_eq!(log.lost(), 12);
}

#[test]
fn a_log_needs_a_runtime() {
    let error = ServedLog::start(Arc::new(Sink::default())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
}
