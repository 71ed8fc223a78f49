//! Bad tables at the join: each gets an error that names what is at fault, or its plain answer.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Float16Array, Float64Array, Int64Array, ListArray, RecordBatch,
    StringArray, TimestampSecondArray, UInt64Array,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType as ArrowType, Int32Type, Schema, TimeUnit};
use kaizen_core::{DataType, Error, ErrorKind};
use kaizen_data::point_in_time::Index;
use kaizen_table::{Aggregate, FeatureView, FeatureViewBuilder, Window, numbers, with_column};

use crate::cases::instants;
use crate::rule::{Row, S, bitemporal, source, spine, view};

fn good() -> RecordBatch {
    source(&[(Some(0), Some(0), Some(1.0))])
}

fn x(view: FeatureViewBuilder) -> FeatureView {
    view.column("x", DataType::Float64).build().unwrap()
}

fn naive(rows: usize) -> ArrayRef {
    Arc::new(TimestampSecondArray::from(vec![0; rows]))
}

fn with(batch: &RecordBatch, name: &str, values: ArrayRef) -> RecordBatch {
    with_column(batch, name, values).unwrap()
}

fn assert_named(error: &Error, kind: ErrorKind, parts: &[&str]) {
    let message = error.to_string();
    assert_eq!(error.kind(), kind, "{message}");
    for part in parts {
        assert!(message.contains(part), "{message} lacks {part}");
    }
}

#[test]
fn a_naive_time_is_refused_wherever_it_stands() {
    let view = x(bitemporal());
    let asked = spine(vec![Some("a")], vec![0]);
    for name in ["event", "known"] {
        let error = Index::new(&view, &with(&good(), name, naive(1))).unwrap_err();
        let column = format!("column `{name}`: naive timestamps; declare their time zone");
        assert_named(&error, ErrorKind::Invalid, &["view `v`, source `s`", &column]);
    }
    let index = Index::new(&view, &good()).unwrap();
    let error = index.features(&with(&asked, "at", naive(1)), "at").unwrap_err();
    assert_named(&error, ErrorKind::Invalid, &["view `v`", "column `at`: naive"]);
}

#[test]
fn a_question_without_an_instant_is_refused_by_its_row() {
    let index = Index::new(&x(view()), &good()).unwrap();
    let asked = spine(vec![Some("a"); 3], vec![0; 3]);
    let asked = with(&asked, "at", instants(vec![Some(0), None, Some(1)]));
    let error = index.features(&asked, "at").unwrap_err();
    assert_named(&error, ErrorKind::Invalid, &["view `v`", "column `at`: row 1 has no instant"]);
}

#[test]
fn instants_that_nanoseconds_cannot_tell_are_refused() {
    let far = TimestampSecondArray::from(vec![i64::MAX / 1_000]).with_timezone("UTC");
    let far: ArrayRef = Arc::new(far);
    let error = Index::new(&x(view()), &with(&good(), "event", Arc::clone(&far))).unwrap_err();
    assert_named(&error, ErrorKind::Invalid, &["column `event`: instants outside 1678 to 2262"]);
    let index = Index::new(&x(view()), &good()).unwrap();
    let asked = with(&spine(vec![Some("a")], vec![0]), "at", far);
    let error = index.features(&asked, "at").unwrap_err();
    assert_named(&error, ErrorKind::Invalid, &["column `at`: instants outside 1678 to 2262"]);
}

#[test]
fn a_time_that_is_no_instant_is_refused() {
    let dates = cast(&Int64Array::from(vec![0]), &ArrowType::Date64).unwrap();
    for (values, found) in [
        (Arc::new(Int64Array::from(vec![0])) as ArrayRef, "Int64"),
        (Arc::new(StringArray::from(vec!["2013-01-01T00:00:00Z"])), "Utf8"),
        (dates, "Date64"),
    ] {
        let error = Index::new(&x(view()), &with(&good(), "event", values)).unwrap_err();
        let part = format!("column `event`: holds {found}, not instants");
        assert_named(&error, ErrorKind::Invalid, &[&part]);
    }
}

#[test]
fn a_missing_column_is_named_beside_those_there_are() {
    let view = x(bitemporal());
    for (kept, missing) in
        [([1, 2, 3], "k"), ([0, 2, 3], "event"), ([0, 1, 3], "known"), ([0, 1, 2], "x")]
    {
        let error = Index::new(&view, &good().project(&kept).unwrap()).unwrap_err();
        let part = format!("column `{missing}` is missing; there are ");
        assert_named(&error, ErrorKind::Invalid, &["source `s`", &part]);
    }
    let index = Index::new(&view, &good()).unwrap();
    let asked = spine(vec![Some("a")], vec![0]);
    let error = index.features(&asked, "when").unwrap_err();
    assert_named(&error, ErrorKind::Invalid, &["column `when` is missing; there are k, at"]);
    let error = index.features(&asked.project(&[1]).unwrap(), "at").unwrap_err();
    assert_named(&error, ErrorKind::Invalid, &["column `k` is missing"]);
}

#[test]
fn values_of_another_type_are_refused_by_column() {
    let text: ArrayRef = Arc::new(StringArray::from(vec!["one"]));
    let half: ArrayRef = Arc::new(Float64Array::from(vec![0.5]));
    let large: ArrayRef = Arc::new(UInt64Array::from(vec![u64::MAX]));
    let cases = [
        (Arc::clone(&text), DataType::Float64, "column `x`: holds Utf8, not numbers"),
        (text, DataType::Int64, "column `x`: holds Utf8, not integers"),
        (Arc::clone(&half), DataType::Int64, "column `x`: holds Float64, not integers"),
        (Arc::clone(&half), DataType::Bool, "column `x`: 0.5 is neither 0 nor 1"),
        (half, DataType::Utf8, "column `x`: holds Float64, not text"),
        (large, DataType::Int64, "column `x`: an integer beyond 63 bits"),
    ];
    for (values, data_type, part) in cases {
        let view = view().column("x", data_type).build().unwrap();
        let error = Index::new(&view, &with(&good(), "x", values)).unwrap_err();
        assert_named(&error, ErrorKind::Invalid, &["source `s`", part]);
    }
    let words = Window::new(Aggregate::Count, "x", 60).holds(DataType::Utf8);
    let view = view().window_as("w", words).build().unwrap();
    let error = Index::new(&view, &good()).unwrap_err();
    assert_named(&error, ErrorKind::Invalid, &["column `x`: holds Float64, not text"]);
}

#[test]
fn a_type_that_cannot_name_an_entity_is_refused() {
    let list = ListArray::from_iter_primitive::<Int32Type, _, _>([Some([Some(1)])]);
    let half = Float16Array::from_iter_values([Default::default()]);
    for values in [Arc::new(list) as ArrayRef, Arc::new(half)] {
        let error = Index::new(&x(view()), &with(&good(), "k", values)).unwrap_err();
        assert_named(&error, ErrorKind::Unsupported, &["key column `k`", "cannot name an entity"]);
    }
}

#[test]
fn a_key_of_another_kind_than_the_sources_is_refused() {
    let index = Index::new(&x(view()), &good()).unwrap();
    let asked = spine(vec![Some("a")], vec![0]);
    for values in [
        Arc::new(Int64Array::from(vec![1])) as ArrayRef,
        Arc::new(BooleanArray::from(vec![true])),
        Arc::new(Float64Array::from(vec![f64::NAN])),
    ] {
        let error = index.features(&with(&asked, "k", values), "at").unwrap_err();
        assert_named(&error, ErrorKind::Invalid, &["view `v`: key column `k`", "has Utf8"]);
    }
}

#[test]
fn no_rows_on_either_side_are_no_error() {
    let view = x(bitemporal());
    let empty = |batch: &RecordBatch| batch.slice(0, 0);
    let asked = spine(vec![Some("a"), None], vec![0, 0]);
    let index = Index::new(&view, &empty(&good())).unwrap();
    let found = index.features(&asked, "at").unwrap();
    assert_eq!((found.num_rows(), found.column(0).null_count()), (2, 2));
    assert_eq!(index.features(&empty(&asked), "at").unwrap().num_rows(), 0);
    let index = Index::new(&view, &good()).unwrap();
    assert_eq!(index.features(&empty(&asked), "at").unwrap().num_columns(), 1);
    // A table without rows has its columns all the same, or an error says which it lacks.
    let error = Index::new(&view, &RecordBatch::new_empty(Arc::new(Schema::empty()))).unwrap_err();
    assert_named(&error, ErrorKind::Invalid, &["column `k` is missing"]);
}

#[test]
fn unsorted_and_duplicate_rows_and_those_of_the_far_future_are_answered() {
    let year_2200 = 7_258_118_400 * S;
    let rows: [Row; 6] = [
        (Some(3 * S), None, Some(3.0)),
        (Some(year_2200), None, Some(9.0)),
        (Some(S), None, Some(1.0)),
        (Some(3 * S), None, Some(3.0)),
        (Some(2 * S), None, Some(2.0)),
        (Some(S), None, Some(1.0)),
    ];
    let index = Index::new(&x(view()), &source(&rows)).unwrap();
    let at = vec![year_2200, 0, 2 * S, 2 * S, i64::MAX, S];
    let found = index.features(&spine(vec![Some("a"); 6], at), "at").unwrap();
    let found: Vec<_> = numbers(&found, "x").unwrap().iter().collect();
    assert_eq!(found, [Some(9.0), None, Some(2.0), Some(2.0), Some(9.0), Some(1.0)]);
}

#[test]
fn ten_thousand_columns_are_read_by_name() {
    const COLUMNS: usize = 10_000;
    let mut columns: Vec<(String, ArrayRef)> = vec![
        ("k".to_owned(), Arc::new(StringArray::from(vec!["a", "b"]))),
        ("event".to_owned(), instants(vec![Some(0), Some(S)])),
    ];
    let mut view = view();
    for place in 0..COLUMNS {
        let values = Float64Array::from(vec![place as f64, -1.0]);
        columns.push((format!("c{place}"), Arc::new(values)));
        view = view.column(&format!("c{place}"), DataType::Float64);
    }
    let view = view.build().unwrap();
    let source = RecordBatch::try_from_iter(columns).unwrap();
    let index = Index::new(&view, &source).unwrap();
    let asked = spine(vec![Some("b"), Some("a")], vec![0, 0]);
    let found = index.features(&asked, "at").unwrap();
    assert_eq!(found.num_columns(), COLUMNS);
    for place in [0, 1, COLUMNS - 1] {
        let values = numbers(&found, &format!("c{place}")).unwrap();
        assert_eq!(values.iter().collect::<Vec<_>>(), [None, Some(place as f64)]);
    }
    // One of them is missing: the error names it and not all the others.
    let error = Index::new(&view, &source.project(&(0..COLUMNS + 1).collect::<Vec<_>>()).unwrap())
        .unwrap_err();
    assert_named(&error, ErrorKind::Invalid, &["column `c9999` is missing"]);
    assert!(error.to_string().len() < 1_000);
}

#[test]
fn instants_as_keys_that_nanoseconds_cannot_tell_are_refused() {
    let far = TimestampSecondArray::from(vec![i64::MAX / 1_000]).with_timezone("UTC");
    let far: ArrayRef = Arc::new(far);
    let error = Index::new(&x(view()), &with(&good(), "k", Arc::clone(&far))).unwrap_err();
    assert_named(&error, ErrorKind::Invalid, &["key column `k`", "outside 1678 to 2262"]);
    let unit = ArrowType::Timestamp(TimeUnit::Millisecond, Some("+01:00".into()));
    let near = cast(&Int64Array::from(vec![0]), &unit).unwrap();
    let index = Index::new(&x(view()), &with(&good(), "k", near)).unwrap();
    let asked = with(&spine(vec![Some("a")], vec![0]), "k", far);
    let error = index.features(&asked, "at").unwrap_err();
    assert_named(&error, ErrorKind::Invalid, &["key column `k`", "outside 1678 to 2262"]);
}
