//! The join equals its oracle, on random cases of every kind.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Float64Array, Int32Array, RecordBatch, StringArray,
    TimestampNanosecondArray,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType as ArrowType, TimeUnit};
use kaizen_core::{DataType, Timestamp};
use kaizen_data::point_in_time::Index;
use kaizen_table::{Aggregate, FeatureView, FeatureViewBuilder, Known, Window};
use kaizen_testkit::point_in_time::{assert_agree, coverage, oracle};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use crate::cases::instant;
use crate::key_columns::{KeyColumn, choice, key_column};

/// What the cases of a test are like.
#[derive(Clone, Copy, Debug)]
struct Kind {
    keys: usize,
    rows: usize,
    asked: usize,
    /// Whether one entity has most of the rows.
    dominated: bool,
    /// Where the instants lie, as an offset from the epoch in nanoseconds.
    around: i64,
    windows: usize,
    hops: bool,
}

const PLAIN: Kind =
    Kind { keys: 1, rows: 40, asked: 20, dominated: false, around: 0, windows: 0, hops: false };

/// The last and the first instants that there are are among those around these.
const LAST: i64 = i64::MAX - 20_000_000_000;
const FIRST: i64 = i64::MIN + 6_000_000_000;

/// The values of a source's row, in columns that views read.
#[derive(Clone, Debug)]
struct Values {
    whole: Option<i32>,
    number: Option<f64>,
    word: Option<&'static str>,
    flag: Option<bool>,
}

fn values() -> impl Strategy<Value = Values> {
    let numbers = select(vec![0.0, -0.0, 1.0, 2.0, -3.0, 100.0, f64::NAN]);
    let words = select(vec!["", "a", "b", "é"]);
    (
        option::weighted(0.8, -5_i32..100),
        option::weighted(0.8, numbers),
        option::weighted(0.8, words),
        option::weighted(0.8, any::<bool>()),
    )
        .prop_map(|(whole, number, word, flag)| Values { whole, number, word, flag })
}

fn known() -> impl Strategy<Value = Known> {
    // An instant far outside of what nanoseconds can tell is one that no row reaches, or all do.
    let far = select(vec![i64::MAX, i64::MIN]).prop_map(Timestamp::from_micros);
    let until = prop_oneof![8 => instant(0..15).prop_map(Timestamp::from_nanos), 1 => far];
    prop_oneof![
        Just(Known::AtEvent),
        (0_u32..10).prop_map(|seconds| Known::After { seconds }),
        Just(Known::Column("known".to_owned())),
        option::of(until).prop_map(|until| Known::Backfilled { column: "known".to_owned(), until }),
    ]
}

/// A window with what it aggregates, and how long its hops are, if it has any.
fn window(hops: bool) -> impl Strategy<Value = Window> {
    let any_type = vec![
        ("whole", DataType::Float64),
        ("whole", DataType::Int64),
        ("number", DataType::Float64),
        ("word", DataType::Utf8),
        ("flag", DataType::Bool),
    ];
    let numbers = vec!["whole", "number", "flag"];
    let lengths = (1_u32..6, 1_u32..4, any::<bool>());
    (select(aggregates()), select(any_type), select(numbers), lengths).prop_map(
        move |(aggregate, (column, holds), number, (hop, hops_in_it, in_hops))| {
            let length = hop * hops_in_it;
            let window = match aggregate.takes_any_type() {
                true => Window::new(aggregate, column, length).holds(holds),
                false => Window::new(aggregate, number, length),
            };
            match hops && in_hops {
                true => window.hop_seconds(hop),
                false => window,
            }
        },
    )
}

fn aggregates() -> Vec<Aggregate> {
    vec![
        Aggregate::Count,
        Aggregate::Sum,
        Aggregate::Mean,
        Aggregate::Min,
        Aggregate::Max,
        Aggregate::StandardDeviation,
        Aggregate::First,
        Aggregate::Last,
        Aggregate::Distinct,
        Aggregate::ApproximateDistinct,
        Aggregate::Quantile { per_mille: 0 },
        Aggregate::Quantile { per_mille: 333 },
        Aggregate::Quantile { per_mille: 500 },
        Aggregate::Quantile { per_mille: 1_000 },
    ]
}

fn with_windows(mut view: FeatureViewBuilder, windows: Vec<Window>) -> FeatureViewBuilder {
    for (place, window) in windows.into_iter().enumerate() {
        view = view.window_as(&format!("w{place}"), window);
    }
    view
}

fn view(kind: Kind) -> impl Strategy<Value = FeatureView> {
    let windows = vec(window(kind.hops), kind.windows.min(1)..=kind.windows);
    (known(), option::of(1_u32..12), windows).prop_map(move |(known, ttl, windows)| {
        let mut view = FeatureView::builder("v").source("s").event_time("event").known(known);
        for place in 0..kind.keys {
            view = view.key(format!("key{place}"));
        }
        if let Some(ttl) = ttl {
            view = view.ttl_seconds(ttl);
        }
        view = view
            .column_as("a", "whole", DataType::Float64)
            .column_as("b", "whole", DataType::Int64)
            .column_as("c", "number", DataType::Float64)
            .column_as("d", "word", DataType::Utf8)
            .column_as("e", "flag", DataType::Bool);
        with_windows(view, windows).build().unwrap()
    })
}

/// Keys, event and known-at of a row; the keys and instant of a question.
type Row = (Vec<Option<usize>>, Option<i64>, Option<i64>, Values);
type Asked = (Vec<Option<usize>>, i64);

fn rows(kind: Kind) -> impl Strategy<Value = Vec<Row>> {
    let key = vec(choice(kind.dominated), kind.keys);
    let event = option::weighted(0.95, instant(-10..20));
    vec((key, event, option::weighted(0.8, instant(-10..30)), values()), 0..=kind.rows)
}

fn questions(kind: Kind) -> impl Strategy<Value = Vec<Asked>> {
    vec((vec(choice(kind.dominated), kind.keys), instant(-12..30)), 0..=kind.asked)
}

/// Views, sources and spines of this kind, and the key columns of both.
fn case(kind: Kind) -> impl Strategy<Value = (FeatureView, RecordBatch, RecordBatch)> {
    let zones = vec(select(vec!["UTC", "+09:00", "-05:30"]), 3);
    // Coarser instants only where rounding them cannot leave the range.
    let unit = match kind.around {
        0 => select(vec![TimeUnit::Nanosecond, TimeUnit::Microsecond, TimeUnit::Second]).boxed(),
        _ => Just(TimeUnit::Nanosecond).boxed(),
    };
    let tables = (rows(kind), questions(kind), zones, unit);
    (view(kind), vec(key_column(), kind.keys), tables).prop_map(
        move |(view, keys, (rows, asked, zones, unit))| {
            let around = kind.around;
            (
                view,
                source(&keys, &rows, around, &zones, unit),
                spine(&keys, &asked, around, zones[2]),
            )
        },
    )
}

fn source(
    keys: &[KeyColumn],
    rows: &[Row],
    around: i64,
    zones: &[&str],
    unit: TimeUnit,
) -> RecordBatch {
    let mut columns: Vec<(String, ArrayRef)> = Vec::new();
    for (place, key) in keys.iter().enumerate() {
        let choices: Vec<_> = rows.iter().map(|row| row.0[place]).collect();
        columns.push((format!("key{place}"), key.source(&choices)));
    }
    let of = |value: fn(&Row) -> Option<i64>| rows.iter().map(value).collect::<Vec<_>>();
    let words: StringArray = rows.iter().map(|row| row.3.word).collect();
    let whole: Int32Array = rows.iter().map(|row| row.3.whole).collect();
    let numbers: Float64Array = rows.iter().map(|row| row.3.number).collect();
    let flags: BooleanArray = rows.iter().map(|row| row.3.flag).collect();
    columns.push(("event".to_owned(), at(of(|row| row.1), around, zones[0], unit)));
    columns.push(("known".to_owned(), at(of(|row| row.2), around, zones[1], unit)));
    columns.push(("whole".to_owned(), Arc::new(whole)));
    columns.push(("number".to_owned(), Arc::new(numbers)));
    columns.push(("word".to_owned(), Arc::new(words)));
    columns.push(("flag".to_owned(), Arc::new(flags)));
    RecordBatch::try_from_iter(columns).unwrap()
}

fn spine(keys: &[KeyColumn], asked: &[Asked], around: i64, zone: &str) -> RecordBatch {
    let mut columns: Vec<(String, ArrayRef)> = Vec::new();
    for (place, key) in keys.iter().enumerate() {
        let choices: Vec<_> = asked.iter().map(|row| row.0[place]).collect();
        columns.push((format!("key{place}"), key.spine(&choices)));
    }
    let instants = asked.iter().map(|row| Some(row.1)).collect();
    columns.push(("at".to_owned(), at(instants, around, zone, TimeUnit::Nanosecond)));
    RecordBatch::try_from_iter(columns).unwrap()
}

fn at(nanos: Vec<Option<i64>>, around: i64, zone: &str, unit: TimeUnit) -> ArrayRef {
    let moved = nanos.into_iter().map(|nanos| Some(nanos?.saturating_add(around)));
    let moved: ArrayRef = Arc::new(moved.collect::<TimestampNanosecondArray>().with_timezone(zone));
    cast(&moved, &ArrowType::Timestamp(unit, Some(zone.into()))).unwrap()
}

fn equal((view, source, spine): (FeatureView, RecordBatch, RecordBatch)) {
    let index = Index::new(&view, &source).unwrap();
    let (found, counted) = index.features_with_coverage(&spine, "at").unwrap();
    assert_agree(&view, &found, &oracle(&view, &source, &spine, "at").unwrap());
    assert_eq!(counted, coverage(&view, &source, &spine, "at").unwrap());
}

// In all more than ten thousand cases; split, so that they run side by side.
proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_500))]

    #[test]
    fn the_latest_row_of_an_entity_with_one_key(case in case(PLAIN)) {
        equal(case);
    }

    #[test]
    fn the_latest_row_of_an_entity_with_three_keys(case in case(Kind { keys: 3, ..PLAIN })) {
        equal(case);
    }

    #[test]
    fn windows_of_an_entity_with_two_keys(
        case in case(Kind { keys: 2, windows: 4, ..PLAIN }),
    ) {
        equal(case);
    }

    #[test]
    fn windows_with_hops(case in case(Kind { windows: 4, hops: true, ..PLAIN })) {
        equal(case);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_500))]

    #[test]
    fn one_entity_with_most_of_the_rows(
        case in case(Kind { rows: 60, dominated: true, windows: 3, hops: true, ..PLAIN }),
    ) {
        equal(case);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn rows_around_the_last_instant_there_is(
        case in case(Kind { around: LAST, windows: 2, hops: true, ..PLAIN }),
    ) {
        equal(case);
    }

    #[test]
    fn rows_around_the_first_instant_there_is(
        case in case(Kind { around: FIRST, windows: 2, hops: true, ..PLAIN }),
    ) {
        equal(case);
    }
}
