//! On-demand features: computed after the look-ups, each row by itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int32Array, Int64Array, RecordBatch,
    StringArray,
};
use arrow::compute::kernels::aggregate::sum;
use arrow::datatypes::{Float64Type, SchemaRef};
use kaizen_core::{DataType, ErrorKind, Field, Result, Timestamp, async_trait};
use kaizen_data::{FeatureStore, MemorySource};
use kaizen_table::{
    FeatureService, FeatureView, Functions, LabelView, OnDemand, Query, Scan, Source, with_column,
};

use crate::cases::{assert_same_bits, instants};

const S: i64 = 1_000_000_000;
const ROWS: usize = 300;

fn field(name: &str, data_type: DataType) -> Field {
    Field::new(name, data_type)
}

fn ids() -> ArrayRef {
    Arc::new((0..ROWS as i64).collect::<Int64Array>())
}

/// One wind of each row's own; some are missing, one is NaN.
fn winds() -> RecordBatch {
    let wind = |row: usize| match row {
        7 => Some(f64::NAN),
        row if row % 10 == 3 => None,
        row => Some((row % 7) as f64),
    };
    let winds: ArrayRef = Arc::new((0..ROWS).map(wind).collect::<Float64Array>());
    let event = instants(vec![Some(0); ROWS]);
    RecordBatch::try_from_iter([("id", ids()), ("event_time", event), ("wind", winds)]).unwrap()
}

fn outcomes() -> RecordBatch {
    let late: ArrayRef =
        Arc::new((0..ROWS).map(|row| Some(row * 7 % 10 < 5)).collect::<BooleanArray>());
    let known = instants(vec![Some(5 * S); ROWS]);
    RecordBatch::try_from_iter([("id", ids()), ("late", late), ("known_at", known)]).unwrap()
}

/// The distance is narrower than declared: it is widened for the functions.
fn spine() -> RecordBatch {
    let distance: ArrayRef =
        Arc::new((0..ROWS as i32).map(|row| Some(row * 3)).collect::<Int32Array>());
    let at = instants(vec![Some(S); ROWS]);
    RecordBatch::try_from_iter([("id", ids()), ("distance", distance), ("at", at)]).unwrap()
}

fn definitions() -> Vec<OnDemand> {
    let strain = OnDemand {
        name: "strain".to_owned(),
        version: 2,
        inputs: vec![field("wind", DataType::Float64), field("distance", DataType::Int64)],
        outputs: vec![field("strain", DataType::Float64)],
    };
    let word = OnDemand {
        name: "word".to_owned(),
        version: 1,
        inputs: vec![field("strain", DataType::Float64)],
        outputs: vec![field("word", DataType::Utf8), field("calm", DataType::Bool)],
    };
    vec![strain, word]
}

fn service() -> FeatureService {
    let view =
        FeatureView::builder("v").source("winds").key("id").column("wind", DataType::Float64);
    let request = vec![field("distance", DataType::Int64)];
    FeatureService::new("flights", 1, request, vec![view.build().unwrap()])
        .unwrap()
        .with_on_demand(definitions())
        .unwrap()
}

fn strain(rows: &RecordBatch) -> Result<Vec<ArrayRef>> {
    let wind = rows.column(0).as_primitive::<Float64Type>();
    let distance = kaizen_table::numbers(rows, "distance")?;
    let strain = wind.iter().zip(&distance).map(|(wind, distance)| Some(wind? * distance?));
    Ok(vec![Arc::new(strain.collect::<Float64Array>())])
}

fn word(rows: &RecordBatch) -> Result<Vec<ArrayRef>> {
    let strain = rows.column(0).as_primitive::<Float64Type>();
    let word =
        |strain: Option<f64>| strain.map(|strain| if strain > 500.0 { "hard" } else { "easy" });
    let calm = strain.iter().map(|strain| Some(strain.is_none_or(|strain| strain < 10.0)));
    let calm: ArrayRef = Arc::new(calm.collect::<BooleanArray>());
    Ok(vec![Arc::new(strain.iter().map(word).collect::<StringArray>()), calm])
}

fn functions() -> Functions {
    Functions::default().with("strain", 2, strain).with("word", 1, word)
}

fn store() -> FeatureStore {
    FeatureStore::new(vec![
        Arc::new(MemorySource::new("winds", winds())),
        Arc::new(MemorySource::new("outcomes", outcomes())),
    ])
}

fn label_view() -> LabelView {
    LabelView::new("late", "outcomes", vec!["id".into()], "late", "known_at").unwrap()
}

fn cutoff() -> Timestamp {
    Timestamp::from_nanos(10 * S)
}

#[tokio::test]
async fn functions_are_computed_in_order_after_the_look_ups() {
    let store = store().with_functions(functions());
    let found = store.features(&service(), &spine(), "at").await.unwrap();
    let schema = found.schema();
    let names: Vec<_> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    assert_eq!(names, ["id", "distance", "at", "wind", "strain", "word", "calm"]);
    let strains = kaizen_table::numbers(&found, "strain").unwrap();
    assert_eq!((strains.value(5), strains.is_null(13)), (75.0, true));
    assert_eq!(kaizen_table::texts(&found, "word").unwrap().value(299), "hard");
    // A row alone has the same features as beside the others.
    for row in [0, 7, 13, 299] {
        let alone = store.features(&service(), &spine().slice(row, 1), "at").await.unwrap();
        assert_same_bits(&alone, &found.slice(row, 1));
    }
    let data =
        store.training_set(&service(), &label_view(), &spine(), "at", cutoff()).await.unwrap();
    assert_eq!(data.record.features, service().columns());
    assert_eq!(data.rows.num_columns(), 8);
    // None of the rows is asked: every column is there all the same.
    let empty = store.features(&service(), &spine().slice(0, 0), "at").await.unwrap();
    assert_eq!((empty.num_rows(), empty.schema()), (0, found.schema()));
}

/// A source that counts its readings.
#[derive(Debug)]
struct Counted(MemorySource, AtomicUsize);

#[async_trait]
impl Source for Counted {
    fn name(&self) -> &str {
        self.0.name()
    }

    async fn schema(&self) -> Result<SchemaRef> {
        self.0.schema().await
    }

    async fn scan(&self, query: &Query<'_>) -> Result<Scan> {
        self.1.fetch_add(1, Ordering::SeqCst);
        self.0.scan(query).await
    }
}

#[tokio::test]
async fn a_function_that_is_not_there_is_named_before_anything_is_read() {
    let winds = Arc::new(Counted(MemorySource::new("winds", winds()), AtomicUsize::new(0)));
    let outcomes =
        Arc::new(Counted(MemorySource::new("outcomes", outcomes()), AtomicUsize::new(0)));
    let sources: Vec<Arc<dyn Source>> = vec![Arc::clone(&winds) as _, Arc::clone(&outcomes) as _];
    let old = Functions::default().with("strain", 1, strain).with("word", 1, word);
    let store = FeatureStore::new(sources).with_functions(old);
    let asked = store.features(&service(), &spine(), "at").await.unwrap_err();
    let made = store.training_set(&service(), &label_view(), &spine(), "at", cutoff()).await;
    for error in [asked, made.unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::NotFound);
        let text = error.to_string();
        assert!(text.contains("feature service `flights`: function `strain` 2"), "{text}");
        assert!(text.contains("there are: `strain` 1, `word` 1"), "{text}");
    }
    let read = [&winds, &outcomes].map(|source| source.1.load(Ordering::SeqCst));
    assert_eq!(read, [0, 0]);
}

#[tokio::test]
async fn a_function_that_looks_at_other_rows_is_refused() {
    let share = |rows: &RecordBatch| -> Result<Vec<ArrayRef>> {
        let distance = kaizen_table::numbers(rows, "distance")?;
        let all = sum(&distance).unwrap_or(1.0);
        Ok(vec![Arc::new(distance.unary::<_, Float64Type>(|distance| distance / all))])
    };
    let store = store().with_functions(functions().with("strain", 2, share));
    let made = store.training_set(&service(), &label_view(), &spine(), "at", cutoff()).await;
    let error = made.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused, "{error:?}");
    assert!(error.to_string().contains("function `strain` 2: row 0: output `strain`"), "{error}");
}

#[tokio::test]
async fn what_a_function_gives_is_checked_for_leaks_and_for_shape() {
    // Rows are early when the row number times seven ends in 5 to 9; the function knows it.
    let telling = |rows: &RecordBatch| -> Result<Vec<ArrayRef>> {
        let distance = kaizen_table::numbers(rows, "distance")?;
        let late = |distance: f64| f64::from(u8::from(distance / 3.0 * 7.0 % 10.0 < 5.0));
        Ok(vec![Arc::new(distance.unary::<_, Float64Type>(late))])
    };
    let leaking = store().with_functions(functions().with("strain", 2, telling));
    let made = leaking.training_set(&service(), &label_view(), &spine(), "at", cutoff()).await;
    let error = made.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(error.to_string().contains("feature `strain`"), "{error}");

    let short = |_: &RecordBatch| -> Result<Vec<ArrayRef>> {
        Ok(vec![Arc::new(Float64Array::from(vec![1.0]))])
    };
    let store = store().with_functions(functions().with("strain", 2, short));
    let error = store.features(&service(), &spine(), "at").await.unwrap_err();
    assert!(
        error.to_string().contains("function `strain` 2: output `strain` is 1 values"),
        "{error}"
    );
    let brings = with_column(&spine(), "calm", ids()).unwrap();
    let error = store.features(&service(), &brings, "at").await.unwrap_err();
    assert!(error.to_string().contains("column `calm`, which would be"), "{error}");
    let texts: ArrayRef = Arc::new(StringArray::from(vec!["far"; ROWS]));
    let texts = with_column(&spine(), "distance", texts).unwrap();
    let error = store.features(&service(), &texts, "at").await.unwrap_err();
    assert!(error.to_string().contains("column `distance`"), "{error}");
}
