//! Random views, sources and spines, chosen so that ties, boundaries and collisions are common.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BooleanArray, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray,
    TimestampNanosecondArray,
};
use kaizen_core::{DataType, Timestamp};
use kaizen_table::{Aggregate, FeatureView, Known};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

/// A question and the rows that answer it.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) view: FeatureView,
    pub(crate) source: RecordBatch,
    pub(crate) spine: RecordBatch,
}

/// Keys of one entity: text that concatenates equally, and a number.
type Key = (Option<&'static str>, Option<i64>);

/// A row of the source: key, event, known at, number, text, flag.
type Row = (Key, Option<i64>, Option<i64>, Option<i32>, Option<&'static str>, Option<bool>);

fn key() -> impl Strategy<Value = Key> {
    let text = prop_oneof![Just("1"), Just("11"), Just("")];
    let number = prop_oneof![Just(1_i64), Just(11), Just(111)];
    (option::weighted(0.95, text), option::weighted(0.95, number))
}

/// Whole seconds, or a nanosecond beside one: where boundaries lie.
pub(crate) fn instant(seconds: std::ops::Range<i64>) -> impl Strategy<Value = i64> {
    (seconds, -1_i64..=1).prop_map(|(seconds, beside)| seconds * 1_000_000_000 + beside)
}

fn row() -> impl Strategy<Value = Row> {
    (
        key(),
        option::weighted(0.95, instant(-10..20)),
        option::weighted(0.8, instant(-10..30)),
        option::weighted(0.8, -5_i32..100),
        option::weighted(0.8, prop_oneof![Just("a"), Just("b"), Just("")]),
        option::weighted(0.8, any::<bool>()),
    )
}

fn known() -> impl Strategy<Value = Known> {
    prop_oneof![
        Just(Known::AtEvent),
        (0_u32..10).prop_map(|seconds| Known::After { seconds }),
        Just(Known::Column("known".to_owned())),
        option::of(instant(0..15)).prop_map(|until| Known::Backfilled {
            column: "known".to_owned(),
            until: until.map(Timestamp::from_nanos),
        }),
    ]
}

fn view() -> impl Strategy<Value = FeatureView> {
    let features = (any::<bool>(), vec((0_usize..3, any::<bool>(), 1_u32..15), 0..4));
    (known(), option::of(1_u32..12), 1_usize..3, features).prop_map(
        |(known, ttl, keys, (columns, windows))| {
            let mut view =
                FeatureView::builder("v").source("s").event_time("event").known(known).key("text");
            if keys == 2 {
                view = view.key("number");
            }
            if let Some(ttl) = ttl {
                view = view.ttl_seconds(ttl);
            }
            if columns || windows.is_empty() {
                view = view
                    .column("amount", DataType::Float64)
                    .column_as("whole", "amount", DataType::Int64)
                    .column("word", DataType::Utf8)
                    .column("flag", DataType::Bool);
            }
            for (place, (aggregate, flags, seconds)) in windows.into_iter().enumerate() {
                let aggregate = [Aggregate::Count, Aggregate::Sum, Aggregate::Mean][aggregate];
                let column = if flags { "flag" } else { "amount" };
                view = view.window(&format!("w{place}"), aggregate, column, seconds);
            }
            view.build().unwrap()
        },
    )
}

/// A source of up to so many rows and a spine of up to so many, whose instants lie in a range.
pub(crate) fn case(
    rows: usize,
    asked: usize,
    seconds: std::ops::Range<i64>,
) -> impl Strategy<Value = Case> {
    let spine = vec((key(), instant(seconds)), 0..asked);
    (view(), vec(row(), 0..rows), spine).prop_map(|(view, rows, asked)| Case {
        view,
        source: source(rows),
        spine: spine_of(asked),
    })
}

pub(crate) fn instants(values: Vec<Option<i64>>) -> ArrayRef {
    Arc::new(TimestampNanosecondArray::from(values).with_timezone("UTC"))
}

fn source(rows: Vec<Row>) -> RecordBatch {
    let column = |value: fn(&Row) -> Option<i64>| rows.iter().map(value).collect::<Vec<_>>();
    let columns: [(&str, ArrayRef); 7] = [
        ("text", Arc::new(rows.iter().map(|row| row.0.0).collect::<StringArray>())),
        ("number", Arc::new(Int64Array::from(column(|row| row.0.1)))),
        ("event", instants(column(|row| row.1))),
        ("known", instants(column(|row| row.2))),
        ("amount", Arc::new(rows.iter().map(|row| row.3).collect::<Int32Array>())),
        ("word", Arc::new(rows.iter().map(|row| row.4).collect::<StringArray>())),
        ("flag", Arc::new(rows.iter().map(|row| row.5).collect::<BooleanArray>())),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

fn spine_of(rows: Vec<(Key, i64)>) -> RecordBatch {
    let columns: [(&str, ArrayRef); 3] = [
        ("text", Arc::new(rows.iter().map(|row| row.0.0).collect::<StringArray>())),
        ("number", Arc::new(rows.iter().map(|row| row.0.1).collect::<Int64Array>())),
        ("at", instants(rows.iter().map(|row| Some(row.1)).collect())),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

/// When a row of the source may first be seen; written apart from the library on purpose.
pub(crate) fn known_at(view: &FeatureView, source: &RecordBatch) -> Vec<Option<i64>> {
    let event = kaizen_table::instants(source, "event").unwrap();
    let known = kaizen_table::instants(source, "known").unwrap();
    (0..source.num_rows())
        .map(|row| {
            let at = event.is_valid(row).then(|| event.value(row))?;
            Some(match view.known() {
                Known::AtEvent => at,
                Known::After { seconds } => at + i64::from(*seconds) * 1_000_000_000,
                Known::Column(_) if known.is_valid(row) => at.max(known.value(row)),
                Known::Column(_) => at,
                Known::Backfilled { until: Some(until), .. }
                    if known.is_valid(row) && known.value(row) > until.nanos().unwrap() =>
                {
                    at.max(known.value(row))
                }
                Known::Backfilled { .. } => at,
            })
        })
        .collect()
}

/// The rows of the source that were known by then.
pub(crate) fn known_by(view: &FeatureView, source: &RecordBatch, nanos: i64) -> RecordBatch {
    let known = known_at(view, source);
    let mask: BooleanArray =
        known.iter().map(|known| Some(known.is_some_and(|known| known <= nanos))).collect();
    arrow::compute::filter_record_batch(source, &mask).unwrap()
}

/// Equal to the last bit of every float.
pub(crate) fn assert_same_bits(left: &RecordBatch, right: &RecordBatch) {
    assert_eq!(left.schema(), right.schema());
    assert_eq!(left.num_rows(), right.num_rows());
    for (place, (left_values, right_values)) in
        left.columns().iter().zip(right.columns()).enumerate()
    {
        let name = left.schema().field(place).name().clone();
        assert_eq!(left_values, right_values, "feature `{name}`");
        let bits = |values: &ArrayRef| {
            let floats = values.as_any().downcast_ref::<Float64Array>()?;
            Some(floats.iter().map(|x| x.map(f64::to_bits)).collect::<Vec<_>>())
        };
        assert_eq!(bits(left_values), bits(right_values), "feature `{name}`");
    }
}
