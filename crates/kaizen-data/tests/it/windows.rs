//! Windows: every aggregate against every row asked, and online against offline.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray,
};
use arrow::datatypes::{Float64Type, Int64Type};
use arrow::util::display::array_value_to_string;
use kaizen_core::{DataType, Silent, Timestamp};
use kaizen_data::point_in_time::Index;
use kaizen_data::{MemoryOnlineStore, MemorySource, Online};
use kaizen_stats::{ExactMoments, ExactSum, rank_of};
use kaizen_table::{Aggregate, FeatureService, FeatureView, Known, Value, Window, with_column};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use crate::cases::{assert_same_bits, instant, instants, known_at, known_by};

const S: i64 = 1_000_000_000;

/// Key, event, known at, number, whole number, text, flag.
type Row = (
    Option<i64>,
    Option<i64>,
    Option<i64>,
    Option<f64>,
    Option<i64>,
    Option<&'static str>,
    Option<bool>,
);

fn number() -> impl Strategy<Value = f64> {
    prop_oneof![
        8 => (-30_i32..30).prop_map(|tenths| f64::from(tenths) / 10.0),
        2 => prop_oneof![Just(1e100), Just(-1e100), Just(1e15), Just(1e15 + 1.0), Just(-0.0)],
        1 => prop_oneof![Just(f64::INFINITY), Just(f64::NEG_INFINITY), Just(f64::from_bits(3))],
        1 => Just(f64::NAN),
    ]
}

fn row() -> impl Strategy<Value = Row> {
    (
        option::weighted(0.97, 0_i64..2),
        option::weighted(0.97, instant(-20..30)),
        option::weighted(0.8, instant(-20..40)),
        option::weighted(0.85, number()),
        option::weighted(0.85, -3_i64..3),
        option::weighted(0.85, prop_oneof![Just("a"), Just("b"), Just(""), Just("äöü€")]),
        option::weighted(0.85, any::<bool>()),
    )
}

/// Rows, of which some come several times.
fn rows() -> impl Strategy<Value = Vec<Row>> {
    (vec(row(), 0..50), vec(any::<prop::sample::Index>(), 0..6)).prop_map(|(mut rows, again)| {
        for index in again {
            if !rows.is_empty() {
                rows.push(rows[index.index(rows.len())]);
            }
        }
        rows
    })
}

fn source(rows: &[Row]) -> RecordBatch {
    let columns: [(&str, ArrayRef); 7] = [
        ("k", Arc::new(rows.iter().map(|row| row.0).collect::<Int64Array>())),
        ("event", instants(rows.iter().map(|row| row.1).collect())),
        ("known", instants(rows.iter().map(|row| row.2).collect())),
        ("x", Arc::new(rows.iter().map(|row| row.3).collect::<Float64Array>())),
        ("n", Arc::new(rows.iter().map(|row| row.4).collect::<Int64Array>())),
        ("word", Arc::new(rows.iter().map(|row| row.5).collect::<StringArray>())),
        ("flag", Arc::new(rows.iter().map(|row| row.6).collect::<BooleanArray>())),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

fn asked(rows: Vec<(i64, i64)>) -> RecordBatch {
    let columns: [(&str, ArrayRef); 2] = [
        ("k", Arc::new(rows.iter().map(|row| row.0).collect::<Int64Array>())),
        ("at", instants(rows.iter().map(|row| Some(row.1)).collect())),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

fn aggregate() -> impl Strategy<Value = Aggregate> {
    prop_oneof![
        Just(Aggregate::Count),
        Just(Aggregate::Sum),
        Just(Aggregate::Mean),
        Just(Aggregate::Min),
        Just(Aggregate::Max),
        Just(Aggregate::StandardDeviation),
        Just(Aggregate::First),
        Just(Aggregate::Last),
        Just(Aggregate::Distinct),
        Just(Aggregate::ApproximateDistinct),
        (0_u16..=1_000).prop_map(|per_mille| Aggregate::Quantile { per_mille }),
    ]
}

fn window() -> impl Strategy<Value = Window> {
    let column = prop_oneof![
        3 => Just(("x", DataType::Float64)),
        1 => Just(("n", DataType::Int64)),
        1 => Just(("n", DataType::Float64)),
        1 => Just(("word", DataType::Utf8)),
        1 => Just(("flag", DataType::Bool)),
    ];
    let hops = option::of((1_u32..5, 1_u32..6));
    (aggregate(), column, 1_u32..20, hops).prop_map(
        |(aggregate, (column, holds), seconds, hops)| {
            let (column, holds) = match aggregate.takes_any_type() {
                true => (column, holds),
                false => ("x", DataType::Float64),
            };
            match hops {
                Some((hop, times)) => Window::new(aggregate, column, hop * times).hop_seconds(hop),
                None => Window::new(aggregate, column, seconds),
            }
            .holds(holds)
        },
    )
}

fn view_of(windows: &[Window], columns: bool, ttl: Option<u32>, known: Known) -> FeatureView {
    let mut view = FeatureView::builder("v").source("s").key("k").event_time("event").known(known);
    if let Some(ttl) = ttl {
        view = view.ttl_seconds(ttl);
    }
    if columns {
        view = view.column("x", DataType::Float64).column("word", DataType::Utf8);
    }
    for (place, window) in windows.iter().enumerate() {
        view = view.window_as(&format!("w{place}"), window.clone());
    }
    view.build().unwrap()
}

fn view() -> impl Strategy<Value = FeatureView> {
    let known = prop_oneof![
        1 => Just(Known::AtEvent),
        1 => (0_u32..10).prop_map(|seconds| Known::After { seconds }),
        3 => Just(Known::Column("known".to_owned())),
        1 => option::of(instant(0..15)).prop_map(|until| Known::Backfilled {
            column: "known".to_owned(),
            until: until.map(Timestamp::from_nanos),
        }),
    ];
    (vec(window(), 1..9), any::<bool>(), option::of(1_u32..12), known)
        .prop_map(|(windows, columns, ttl, known)| view_of(&windows, columns, ttl, known))
}

/// A value with what decides which row is the first: event, known-at column, place in the source.
type Ranked = ((i64, Option<i64>, usize), usize);

/// The rows of the source that a window holds for an entity at an instant.
fn inside(
    view: &FeatureView,
    source: &RecordBatch,
    window: &Window,
    key: i64,
    at: i64,
) -> Vec<Ranked> {
    let keys = source["k"].as_primitive::<Int64Type>();
    let event = kaizen_table::instants(source, "event").unwrap();
    let known = kaizen_table::instants(source, "known").unwrap();
    let uses_column = view.known().column().is_some();
    let known_at = known_at(view, source);
    let values = &source[window.column.as_str()];
    let nanos = |seconds: u32| i128::from(seconds) * i128::from(S);
    let mut begin = i128::from(at) - nanos(window.seconds);
    if let Some(hop) = window.hop_seconds.map(nanos) {
        begin -= begin.rem_euclid(hop);
    }
    let counts = |row: usize| {
        let floats = values.as_primitive_opt::<Float64Type>();
        values.is_valid(row) && floats.is_none_or(|floats| !floats.value(row).is_nan())
    };
    (0..source.num_rows())
        .filter(|row| keys.is_valid(*row) && keys.value(*row) == key && counts(*row))
        .filter(|row| known_at[*row].is_some_and(|known| known <= at))
        .filter(|row| i128::from(event.value(*row)) > begin && event.value(*row) <= at)
        .map(|row| {
            let known = (uses_column && known.is_valid(row)).then(|| known.value(row));
            ((event.value(row), known, row), row)
        })
        .collect()
}

/// Checks one window of one probe: whole numbers and selections exactly, floats to the bit,
/// sketches within their bounds.
fn check(source: &RecordBatch, window: &Window, rows: &[Ranked], found: &ArrayRef, row: usize) {
    let values = &source[window.column.as_str()];
    let numbers = || {
        let of = |(_, row): &Ranked| match values.as_primitive_opt::<Float64Type>() {
            Some(floats) => floats.value(*row),
            None => values.as_primitive::<Int64Type>().value(*row) as f64,
        };
        rows.iter().map(of)
    };
    let text = |row: usize| match values.as_primitive_opt::<Float64Type>() {
        Some(floats) => (floats.value(row) + 0.0).to_bits().to_string(),
        None => array_value_to_string(values, row).unwrap(),
    };
    let different: BTreeSet<String> = rows.iter().map(|(_, row)| text(*row)).collect();
    let integer = || found.as_primitive::<Int64Type>().value(row);
    let bits = |number: Option<f64>| {
        let floats = found.as_primitive::<Float64Type>();
        let found = floats.is_valid(row).then(|| floats.value(row));
        assert_eq!(
            found.map(f64::to_bits),
            number.map(f64::to_bits),
            "{window:?}: {found:?} {number:?}"
        );
    };
    let any = !rows.is_empty();
    match window.aggregate {
        Aggregate::Count => assert_eq!(integer(), rows.len() as i64, "{window:?}"),
        Aggregate::Distinct => assert_eq!(integer(), different.len() as i64, "{window:?}"),
        Aggregate::ApproximateDistinct => {
            // Few values, so that the sketch is nearly exact.
            let exact = different.len() as f64;
            assert!((integer() as f64 - exact).abs() <= 1.0 + exact * 0.08, "{window:?}");
        }
        Aggregate::Sum => bits(any.then(|| numbers().collect::<ExactSum>().value())),
        Aggregate::Mean => {
            bits(any.then(|| numbers().collect::<ExactSum>().value() / rows.len() as f64));
        }
        Aggregate::StandardDeviation => {
            bits(numbers().collect::<ExactMoments>().standard_deviation());
        }
        Aggregate::Min => bits(numbers().min_by(f64::total_cmp)),
        Aggregate::Max => bits(numbers().max_by(f64::total_cmp)),
        Aggregate::First | Aggregate::Last => {
            let wanted = match window.aggregate {
                Aggregate::First => rows.iter().min(),
                _ => rows.iter().max(),
            };
            assert_eq!(found.is_valid(row), wanted.is_some(), "{window:?}");
            if let Some((_, wanted)) = wanted {
                let values = arrow::compute::cast(values, found.data_type()).unwrap();
                assert_eq!(found.slice(row, 1).to_data(), values.slice(*wanted, 1).to_data());
            }
        }
        Aggregate::Quantile { per_mille } => {
            let mut sorted: Vec<f64> = numbers().collect();
            sorted.sort_by(f64::total_cmp);
            let exact = rank_of(sorted.len() as u64, per_mille).map(|rank| sorted[rank as usize]);
            assert_eq!(found.is_valid(row), exact.is_some(), "{window:?}");
            if let Some(exact) = exact {
                let found = found.as_primitive::<Float64Type>().value(row);
                let near = (found - exact).abs() <= 0.01 * exact.abs();
                assert!(found == exact || near, "{window:?}: {found} for {exact}");
            }
        }
        other => unreachable!("{other:?}"),
    }
}

fn check_all(view: &FeatureView, source: &RecordBatch, spine: &RecordBatch, found: &RecordBatch) {
    let keys = spine["k"].as_primitive::<Int64Type>();
    let at = kaizen_table::instants(spine, "at").unwrap();
    for feature in view.features() {
        let Value::Window(window) = &feature.value else { continue };
        for row in 0..spine.num_rows() {
            let rows = inside(view, source, window, keys.value(row), at.value(row));
            check(source, window, &rows, &found[feature.field.name.as_str()], row);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_500))]

    #[test]
    fn every_aggregate_is_that_of_the_rows_inside(
        view in view(),
        rows in rows(),
        spine in vec((0_i64..3, instant(-25..45)), 0..20),
    ) {
        let (source, spine) = (source(&rows), asked(spine));
        let found = Index::new(&view, &source).unwrap().features(&spine, "at").unwrap();
        check_all(&view, &source, &spine, &found);
    }

    /// Rows arrive late, out of order and twice; the view is brought forward step by step, in
    /// writes of any size; requests ask at any instant from what is kept on.
    #[test]
    fn windows_online_equal_windows_offline(
        view in view(),
        rows in rows(),
        spine in vec((0_i64..3, instant(-25..45)), 1..12),
        mut steps in vec(-25_i64..45, 1..5),
        keep in 0_u32..8,
        size in 1_usize..25,
    ) {
        steps.sort_unstable();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(equal(&view, &source(&rows), &asked(spine), &steps, keep, size));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// So many that they are counted by entity and swept by several threads.
    #[test]
    fn many_questions_are_answered_as_few_are(
        view in view(),
        rows in rows(),
        spine in vec((-1_i64..4, instant(-25..45)), 1..200),
        ascending in any::<bool>(),
    ) {
        let mut many: Vec<(i64, i64)> = spine.into_iter().cycle().take(5_000).collect();
        if ascending {
            many.sort_unstable();
        }
        let (index, many) = (Index::new(&view, &source(&rows)).unwrap(), asked(many));
        let found = index.features(&many, "at").unwrap();
        for start in (0..5_000).step_by(1_000) {
            let few = index.features(&many.slice(start, 1_000), "at").unwrap();
            assert_same_bits(&found.slice(start, 1_000), &few);
        }
    }
}

async fn equal(
    view: &FeatureView,
    source: &RecordBatch,
    spine: &RecordBatch,
    steps: &[i64],
    keep: u32,
    size: usize,
) {
    let service = FeatureService::new("service", 1, vec![], vec![view.clone()]).unwrap();
    let store = Arc::new(MemoryOnlineStore::default());
    let online = Online::new(store).rows_per_write(size).keep_seconds(keep);
    for (place, step) in steps.iter().enumerate() {
        let nanos = step * S;
        let arrived = known_by(view, source, nanos);
        let data = if place % 2 == 0 { source.clone() } else { arrived.clone() };
        let rows = MemorySource::new("s", data);
        online.materialize(view, &rows, Timestamp::from_nanos(nanos), &Silent).await.unwrap();
        let at = kaizen_table::instants(spine, "at").unwrap();
        // No earlier than the first materialisation: nothing was kept before.
        let kept = (nanos - i64::from(keep) * S).max(steps[0] * S - i64::from(keep) * S);
        let later = at.values().iter().map(|at| Some((*at).max(kept))).collect();
        let asked = with_column(spine, "at", instants(later)).unwrap();
        let expected = Index::new(view, &arrived).unwrap().features(&asked, "at").unwrap();
        let found = online.features(&service, &asked, "at").await.unwrap();
        let looked_up: Vec<usize> = (asked.num_columns()..found.num_columns()).collect();
        assert_same_bits(&found.project(&looked_up).unwrap(), &expected);
    }
}

/// All aggregates over hops of an hour: what is kept does not grow with the rows.
#[tokio::test]
async fn tiles_are_kept_instead_of_rows() {
    let hour = 3_600;
    let of = |aggregate, column: &str, holds| {
        Window::new(aggregate, column, 24 * hour).hop_seconds(hour).holds(holds)
    };
    let windows = [
        of(Aggregate::Count, "x", DataType::Float64),
        of(Aggregate::Mean, "x", DataType::Float64),
        of(Aggregate::Max, "x", DataType::Float64),
        of(Aggregate::Last, "word", DataType::Utf8),
    ];
    let view = view_of(&windows, false, None, Known::AtEvent);
    let service = FeatureService::new("service", 1, vec![], vec![view.clone()]).unwrap();
    let sizes = [10, 1_000].map(|per_hour: i64| {
        let rows: Vec<Row> = (0..48 * per_hour)
            .map(|row| {
                let event = row * i64::from(hour) * S / per_hour;
                (Some(0), Some(event), None, Some(row as f64 / 10.0), None, Some("word"), None)
            })
            .collect();
        (source(&rows), 48 * i64::from(hour) * S)
    });
    let mut bytes = Vec::new();
    for (source, end) in sizes {
        let store = Arc::new(MemoryOnlineStore::default());
        let online = Online::new(Arc::clone(&store) as Arc<dyn kaizen_table::OnlineStore>);
        let rows = MemorySource::new("s", source.clone());
        online.materialize(&view, &rows, Timestamp::from_nanos(end), &Silent).await.unwrap();
        let spine = asked(vec![(0, end), (0, end + 7 * S), (0, end + 3 * 3_600 * S)]);
        let found = online.features(&service, &spine, "at").await.unwrap();
        check_all(&view, &source, &spine, &found);
        let mut total = 0;
        for space in kaizen_table::OnlineStore::spaces(&*store).await.unwrap() {
            let page = kaizen_table::OnlineStore::page(&*store, &space, None, 10).await.unwrap();
            total += page.entries.iter().map(|(_, value)| value.len()).max().unwrap_or(0);
        }
        bytes.push(total);
    }
    println!("bytes of 25 hours, 10 and 1,000 rows an hour: {bytes:?}");
    assert!(bytes[1] < bytes[0] + 1_000, "{bytes:?}");
}
