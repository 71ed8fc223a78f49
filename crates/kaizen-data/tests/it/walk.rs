//! Sources larger than memory: walked span by span, the answers are those of all rows at once.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use arrow::array::{Array, ArrayRef, Float64Array, Int64Array, RecordBatch};
use kaizen_core::{DataType, ErrorKind, Result};
use kaizen_data::point_in_time::Index;
use kaizen_data::{FeatureStore, MemorySource, TrainingData};
use kaizen_table::{
    Aggregate, FeatureService, FeatureView, Known, LabelView, Source, Window, with_column,
};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::cases::{Case, assert_same_bits, case, instant, instants};
use crate::cut_source::CutSource;

const S: i64 = 1_000_000_000;

fn service(views: Vec<FeatureView>) -> FeatureService {
    FeatureService::new("service", 1, vec![], views).unwrap()
}

/// The view under test, beside others of its source that share its order, its event time, or
/// neither: windows with hops, an end by TTL alone, another key, another event time.
fn views(view: &FeatureView) -> Vec<FeatureView> {
    let like = |name: &str| {
        let mut like = FeatureView::builder(name).source("s").known(view.known().clone());
        for key in view.keys() {
            like = like.key(key);
        }
        like
    };
    let hops = Window::new(Aggregate::Sum, "amount", 6).hop_seconds(3);
    let hops = like("hops").event_time("event").window_as("hops", hops);
    let young = like("young").event_time("event").ttl_seconds(2);
    let young = young.column_as("young", "word", DataType::Utf8);
    let other = FeatureView::builder("other").source("s").event_time("event").key("number");
    let other = other.column_as("other", "flag", DataType::Bool);
    let late = like("late").event_time("known").column_as("late", "amount", DataType::Float64);
    let others = [hops, young, other, late].map(|other| other.build().unwrap());
    std::iter::once(view.clone()).chain(others).collect()
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

/// The features of a view as a walk gives them, and all at once.
async fn both(service: &FeatureService, case: &Case, cuts: Vec<i64>) -> [RecordBatch; 2] {
    let walked = Arc::new(CutSource::new("s", case.source.clone(), cuts));
    let whole = Arc::new(CutSource::new("s", case.source.clone(), vec![]));
    let stores = [walked, whole].map(|source| FeatureStore::new(vec![source as Arc<dyn Source>]));
    let mut found = Vec::new();
    for store in &stores {
        found.push(store.features(service, &case.spine, "at").await.unwrap());
    }
    found.try_into().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_500))]

    #[test]
    fn a_walk_answers_as_all_rows_at_once(
        case in case(60, 30, -12..40),
        cuts in vec(instant(-12..35), 1..8),
    ) {
        let service = service(views(&case.view));
        let [walked, whole] = run(both(&service, &case, cuts));
        assert_same_bits(&walked, &whole);
    }
}

async fn trained(case: &Case, cuts: Vec<i64>, label_cuts: Vec<i64>) -> Result<TrainingData> {
    let rows = case.spine.num_rows() as i64;
    let ids: ArrayRef = Arc::new((0..rows).collect::<Int64Array>());
    let spine = with_column(&case.spine, "id", Arc::clone(&ids)).unwrap();
    // Two labels of each, of which the first may be corrected by the second.
    let twice: ArrayRef = Arc::new((0..2 * rows).map(|row| row % rows).collect::<Int64Array>());
    let late = (0..2 * rows).map(|row| Some(f64::from(u8::from(row * 7 % 5 < 2))));
    let known = (0..2 * rows).map(|row| Some((row * 11 % 23) * S)).collect();
    let columns: [(&str, ArrayRef); 3] = [
        ("id", twice),
        ("late", Arc::new(late.collect::<Float64Array>())),
        ("label_known", instants(known)),
    ];
    let labels = RecordBatch::try_from_iter(columns).unwrap();
    let source = CutSource::new("s", case.source.clone(), cuts);
    let labels = CutSource::new("labels", labels, label_cuts);
    let store = FeatureStore::new(vec![Arc::new(source), Arc::new(labels)]);
    let view = LabelView::new("late", "labels", vec!["id".into()], "late", "label_known")?;
    let view = view.with_maturity_seconds(4);
    let service = service(vec![case.view.clone()]);
    store.training_set(&service, &view, &spine, "at", "1970-01-01T00:00:20Z".parse()?).await
}

/// How many rows without a key lie in the spans up to that of the last of the questions; in the
/// first span, if there are none.
fn ignored(source: &RecordBatch, asked: &RecordBatch, cuts: &[i64]) -> u64 {
    let at = kaizen_table::instants(asked, "at").unwrap();
    let last = at.values().iter().max().copied().unwrap_or(i64::MIN);
    let end = cuts.iter().filter(|cut| **cut > last).min().copied().unwrap_or(i64::MAX);
    let event = kaizen_table::instants(source, "event").unwrap();
    let keys = source.column_by_name("text").unwrap();
    let unseen =
        |row: &usize| event.is_valid(*row) && event.value(*row) < end && keys.is_null(*row);
    (0..source.num_rows()).filter(unseen).count() as u64
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// No view here has an end, so every span up to the last question is read, and the record is the
    /// same too, but for rows that nobody can see: of these, those without an event time and those
    /// after the last question are not counted.
    #[test]
    fn a_training_set_of_a_walk_has_the_same_rows_and_coverage(
        case in case(50, 25, -12..30),
        cuts in vec(instant(-12..35), 1..6),
        label_cuts in vec(instant(-2..25), 1..4),
    ) {
        let endless = FeatureView::builder("endless").source("s").event_time("event");
        let endless = endless.known(case.view.known().clone()).key("text");
        let endless = endless.column("amount", DataType::Float64);
        let endless = endless.window("sum", Aggregate::Sum, "amount", 7).build().unwrap();
        let case = Case { view: endless, ..case };
        let walked = run(trained(&case, cuts.clone(), label_cuts)).unwrap();
        let whole = run(trained(&case, vec![], vec![])).unwrap();
        assert_same_bits(&walked.rows, &whole.rows);
        let (mut record, expected) = (walked.record.clone(), whole.record);
        for (name, coverage) in &mut record.coverage {
            let asked = coverage.found + coverage.expired + coverage.unknown;
            prop_assert_eq!(asked, expected.rows);
            prop_assert_eq!(coverage.ignored, ignored(&case.source, &walked.rows, &cuts));
            coverage.ignored = expected.coverage[name].ignored;
        }
        prop_assert_eq!(record, expected);
    }
}

/// A row a second, of two entities; the value is the second.
fn seconds(rows: i64) -> RecordBatch {
    let columns: [(&str, ArrayRef); 3] = [
        ("k", Arc::new((0..rows).map(|row| row % 2).collect::<Int64Array>())),
        ("event_time", instants((0..rows).map(|row| Some(row * S)).collect())),
        ("x", Arc::new((0..rows).map(|row| row as f64).collect::<Float64Array>())),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

fn asked(at: Vec<i64>) -> RecordBatch {
    let keys: ArrayRef = Arc::new(Int64Array::from(vec![0; at.len()]));
    let at = instants(at.into_iter().map(Some).collect());
    RecordBatch::try_from_iter([("k", keys), ("at", at)]).unwrap()
}

fn view() -> FeatureView {
    let view = FeatureView::builder("v").source("s").key("k").ttl_seconds(10);
    view.column("x", DataType::Float64).window("n", Aggregate::Count, "x", 20).build().unwrap()
}

#[tokio::test]
async fn only_the_spans_are_read_that_a_question_needs() {
    let cuts = (1..100).map(|cut| cut * 10 * S).collect();
    let source = Arc::new(CutSource::new("s", seconds(1_000), cuts));
    let store = FeatureStore::new(vec![Arc::clone(&source) as _]);
    let found = store.features(&service(vec![view()]), &asked(vec![505 * S, 512 * S]), "at").await;
    let x = kaizen_table::numbers(&found.unwrap(), "x").unwrap();
    assert_eq!(x.values(), &[504.0, 512.0]);
    // From 20 s before the first question, to the second.
    assert_eq!(source.rows_read.load(Ordering::SeqCst), 40);
    assert_eq!(source.most_read.load(Ordering::SeqCst), 10);
    // Nobody asks: the types are there, and a span was read for them.
    let none = store.features(&service(vec![view()]), &asked(vec![]), "at").await.unwrap();
    assert_eq!((none.num_rows(), none.num_columns()), (0, 4));
    // Questions before and after all rows, unordered, in one call.
    let far = asked(vec![i64::MAX, 3 * S, i64::MIN, 999 * S, 0]);
    let found = store.features(&service(vec![view()]), &far, "at").await.unwrap();
    let x = kaizen_table::numbers(&found, "x").unwrap();
    assert_eq!(x.iter().collect::<Vec<_>>(), [None, Some(2.0), None, Some(998.0), Some(0.0)]);
}

/// Rows that nobody sees yet are counted as hidden where they are read: not in spans that lie
/// before what any view looks back to.
#[tokio::test]
async fn what_is_hidden_in_spans_that_are_not_read_is_not_counted() {
    let columns: [(&str, ArrayRef); 4] = [
        ("k", Arc::new(Int64Array::from(vec![Some(0), Some(0), None]))),
        ("event_time", instants(vec![Some(S), Some(55 * S), Some(S)])),
        ("known", instants(vec![Some(900 * S), Some(55 * S), None])),
        ("x", Arc::new(Float64Array::from(vec![1.0, 2.0, 3.0]))),
    ];
    let rows = RecordBatch::try_from_iter(columns).unwrap();
    let view = FeatureView::builder("v").source("s").key("k").ttl_seconds(10);
    let view = view.known(Known::Column("known".into())).column("x", DataType::Float64);
    let labels: [(&str, ArrayRef); 3] = [
        ("id", Arc::new(Int64Array::from(vec![0, 1]))),
        ("late", Arc::new(Float64Array::from(vec![1.0, 0.0]))),
        ("label_known", instants(vec![Some(70 * S); 2])),
    ];
    let labels = RecordBatch::try_from_iter(labels).unwrap();
    let label_view = LabelView::new("late", "labels", vec!["id".into()], "late", "label_known");
    let label_view = label_view.unwrap();
    let service = service(vec![view.build().unwrap()]);
    let ids: ArrayRef = Arc::new(Int64Array::from(vec![0, 1]));
    let spine = with_column(&asked(vec![60 * S, 80 * S]), "id", ids).unwrap();
    let mut found = Vec::new();
    for cuts in [vec![], vec![20 * S]] {
        let sources: [CutSource; 2] = [
            CutSource::new("s", rows.clone(), cuts),
            CutSource::new("labels", labels.clone(), vec![]),
        ];
        let store = FeatureStore::new(sources.into_iter().map(|s| Arc::new(s) as _).collect());
        let cutoff = "1970-01-01T00:05:00Z".parse().unwrap();
        let data = store.training_set(&service, &label_view, &spine, "at", cutoff).await.unwrap();
        let coverage = data.record.coverage["v"];
        found.push((coverage.found, coverage.expired, coverage.hidden, coverage.ignored));
    }
    assert_eq!(found, [(1, 1, 2, 1), (1, 1, 0, 0)]);
}

#[tokio::test]
async fn what_is_known_late_is_carried_until_it_is() {
    let columns: [(&str, ArrayRef); 4] = [
        ("k", Arc::new(Int64Array::from(vec![0, 0, 0]))),
        ("event_time", instants(vec![Some(S), Some(2 * S), Some(50 * S)])),
        ("known", instants(vec![Some(S), Some(70 * S), Some(90 * S)])),
        ("x", Arc::new(Float64Array::from(vec![1.0, 2.0, 50.0]))),
    ];
    let rows = RecordBatch::try_from_iter(columns).unwrap();
    let view = FeatureView::builder("v").source("s").key("k").known(Known::Column("known".into()));
    let view = view.column("x", DataType::Float64).build().unwrap();
    let source = CutSource::new("s", rows, vec![10 * S, 20 * S, 60 * S, 80 * S]);
    let store = FeatureStore::new(vec![Arc::new(source)]);
    let asked = asked(vec![15 * S, 69 * S, 70 * S, 85 * S, 90 * S]);
    let found = store.features(&service(vec![view]), &asked, "at").await.unwrap();
    assert_eq!(kaizen_table::numbers(&found, "x").unwrap().values(), &[1.0, 1.0, 2.0, 2.0, 50.0]);
}

#[tokio::test]
async fn a_source_that_changes_during_a_walk_is_a_conflict() {
    let source = Arc::new(CutSource::new("s", seconds(100), vec![30 * S, 60 * S]));
    source.changes_after.store(2, Ordering::SeqCst);
    let store = FeatureStore::new(vec![source as _]);
    let asked = asked(vec![10 * S, 40 * S, 70 * S]);
    let error = store.features(&service(vec![view()]), &asked, "at").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert_eq!(error.to_string(), "source `s`: it changed between two reads");
}

/// 200,000 rows of 50 entities, at most 1,000 of them in memory at once.
#[tokio::test]
async fn many_spans_are_walked_with_what_is_carried() {
    let rows = 200_000_i64;
    let keys: ArrayRef = Arc::new((0..rows).map(|row| row * 7_919 % 50).collect::<Int64Array>());
    let source = with_column(&seconds(rows), "k", keys).unwrap();
    let cuts = (1..200).map(|cut| cut * 1_000 * S).collect();
    let walked = Arc::new(CutSource::new("s", source.clone(), cuts));
    let store = FeatureStore::new(vec![Arc::clone(&walked) as _]);
    let at = (0..5_000).map(|row| row * 104_729 % rows * S).collect();
    let asked = asked(at);
    let view = FeatureView::builder("v").source("s").key("k").column("x", DataType::Float64);
    let view = view.window("n", Aggregate::Sum, "x", 900).build().unwrap();
    let found = store.features(&service(vec![view.clone()]), &asked, "at").await.unwrap();
    let expected = Index::new(&view, &source).unwrap().features(&asked, "at").unwrap();
    assert_same_bits(&found.project(&[2, 3]).unwrap(), &expected);
    assert_eq!(walked.most_read.load(Ordering::SeqCst), 1_000);
    // A source that cannot tell spans is read whole, however many rows it has.
    let memory = MemorySource::new("s", source);
    let store = FeatureStore::new(vec![Arc::new(memory)]).rows_in_memory(1);
    let again = store.features(&service(vec![view]), &asked, "at").await.unwrap();
    assert_same_bits(&again, &found);
}

/// What a store that keeps its orders in this folder says of rows whose values are moved by this.
async fn kept_in(folder: &std::path::Path, shift: f64) -> RecordBatch {
    let x: ArrayRef =
        Arc::new((0..5_000).map(|row| f64::from(row) + shift).collect::<Float64Array>());
    let source = MemorySource::new("s", with_column(&seconds(5_000), "x", x).unwrap());
    let store = FeatureStore::new(vec![Arc::new(source)]).keep_indices_in(folder);
    let other =
        FeatureView::builder("other").source("s").key("k").window("m", Aggregate::Sum, "x", 9);
    let views = vec![view(), other.build().unwrap()];
    store.features(&service(views), &asked(vec![400 * S, 4_999 * S]), "at").await.unwrap()
}

#[tokio::test]
async fn orders_are_kept_in_files_and_replaced_when_the_data_is_other() {
    let folder = tempfile::tempdir().unwrap();
    let inside = folder.path().join("indices");
    let files = || {
        let entries = std::fs::read_dir(&inside).unwrap().map(|entry| entry.unwrap().path());
        entries.collect::<Vec<_>>()
    };
    let plain = kept_in(&folder.path().join("elsewhere"), 0.0).await;
    let first = kept_in(&inside, 0.0).await;
    assert_same_bits(&first, &plain);
    let [file] = files().try_into().unwrap();
    let bytes = std::fs::read(&file).unwrap();
    let written = || std::fs::metadata(&file).unwrap().modified().unwrap();
    let then = written();
    // Read by another store, and not written again.
    assert_same_bits(&kept_in(&inside, 0.0).await, &plain);
    assert_eq!(written(), then);
    // Of other data: replaced. Damaged: made again.
    let shifted = kept_in(&inside, 0.5).await;
    assert_eq!(kaizen_table::numbers(&shifted, "x").unwrap().values(), &[400.5, 4998.5]);
    assert_eq!(files().len(), 1);
    assert_ne!(std::fs::read(&file).unwrap(), bytes);
    std::fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
    assert_same_bits(&kept_in(&inside, 0.0).await, &plain);
    assert_eq!(std::fs::read(&file).unwrap(), bytes);
    // A folder that cannot be one costs nothing but a warning.
    assert_same_bits(&kept_in(&file.join("no folder"), 0.0).await, &plain);
}
