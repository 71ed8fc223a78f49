//! The clauses of `docs/point-in-time.md` on windows.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::compute::take_record_batch;
use kaizen_core::DataType;
use kaizen_data::point_in_time::Index;
use kaizen_table::{Aggregate, FeatureView, FeatureViewBuilder, Window, numbers};
use kaizen_testkit::point_in_time::{assert_agree, oracle};

use crate::cases::{assert_same_bits, instants};
use crate::rule::{Row, S, bitemporal, source, spine, view};

/// The windows of the entity `a` as of each instant, after a look at the oracle's.
fn asked(view: &FeatureView, source: &RecordBatch, at: &[i64]) -> RecordBatch {
    let spine = spine(vec![Some("a"); at.len()], at.to_vec());
    let found = Index::new(view, source).unwrap().features(&spine, "at").unwrap();
    assert_agree(view, &found, &oracle(view, source, &spine, "at").unwrap());
    found
}

/// One window of numbers as of each instant.
fn one(
    view: FeatureViewBuilder,
    window: Window,
    source: &RecordBatch,
    at: &[i64],
) -> Vec<Option<f64>> {
    let view = view.window_as("w", window).build().unwrap();
    numbers(&asked(&view, source, at), "w").unwrap().iter().collect()
}

fn row(event: i64, known: i64, value: f64) -> Row {
    (Some(event), Some(known), Some(value))
}

fn plain(event: i64, value: f64) -> Row {
    (Some(event), None, Some(value))
}

const NOTHING: Option<f64> = None;

#[test]
fn a_window_is_open_at_its_start_and_closed_at_its_end() {
    let rows = source(&[plain(0, 1.0)]);
    let count = || Window::new(Aggregate::Count, "x", 10);
    let found = one(view(), count(), &rows, &[-1, 0, 10 * S - 1, 10 * S]);
    assert_eq!(found, [0.0, 1.0, 1.0, 0.0].map(Some));
}

#[test]
fn a_window_counts_what_it_sees_and_not_what_is_known_too_late() {
    let rows = source(&[row(0, 4 * S, 1.0), row(S, 40 * S, 2.0)]);
    let sum = Window::new(Aggregate::Sum, "x", 10);
    // The second row becomes known after it has left.
    let found = one(bitemporal(), sum, &rows, &[3 * S, 4 * S, 9 * S, 39 * S, 40 * S]);
    assert_eq!(found, [None, Some(1.0), Some(1.0), None, None]);
}

#[test]
fn the_ttl_does_not_bound_a_window() {
    let rows = source(&[plain(0, 1.0)]);
    let sum = Window::new(Aggregate::Sum, "x", 10);
    assert_eq!(one(view().ttl_seconds(1), sum, &rows, &[9 * S]), [Some(1.0)]);
}

#[test]
fn a_window_with_hops_begins_at_a_whole_hop() {
    let rows = source(&[plain(0, 1.0), plain(1, 2.0), plain(7 * S, 4.0)]);
    let sum = || Window::new(Aggregate::Sum, "x", 10).hop_seconds(5);
    // As of 10 to just before 15 it begins after 0, as of 15 after 5, as of 20 after 10.
    let at = [9 * S, 10 * S, 15 * S - 1, 15 * S, 20 * S - 1, 20 * S];
    let expected = [Some(7.0), Some(6.0), Some(6.0), Some(4.0), Some(4.0), None];
    assert_eq!(one(view(), sum(), &rows, &at), expected);
    // Before the epoch hops are rounded down as well.
    let early = source(&[plain(-10 * S, 1.0), plain(-10 * S + 1, 2.0)]);
    assert_eq!(one(view(), sum(), &early, &[-1, 0, 5 * S]), [Some(3.0), Some(2.0), NOTHING]);
}

#[test]
fn the_newest_rows_of_a_window_with_hops_are_exact() {
    let rows = source(&[plain(11 * S, 1.0), plain(11 * S + 1, 2.0), row(12 * S, 14 * S, 4.0)]);
    let sum = || Window::new(Aggregate::Sum, "x", 10).hop_seconds(5);
    let at = [11 * S - 1, 11 * S, 11 * S + 1, 12 * S, 14 * S];
    let found = one(bitemporal(), sum(), &rows, &at);
    assert_eq!(found, [None, Some(1.0), Some(3.0), Some(3.0), Some(7.0)]);
}

#[test]
fn a_window_of_one_hop_and_one_without_hops_differ_only_in_where_they_begin() {
    let rows = source(&[plain(3 * S, 1.0)]);
    let count = || Window::new(Aggregate::Count, "x", 5);
    assert_eq!(one(view(), count(), &rows, &[8 * S - 1, 8 * S]), [Some(1.0), Some(0.0)]);
    let hopping = one(view(), count().hop_seconds(5), &rows, &[8 * S, 10 * S - 1, 10 * S]);
    assert_eq!(hopping, [Some(1.0), Some(1.0), Some(0.0)]);
}

#[test]
fn what_is_missing_or_no_number_does_not_count_in_a_window() {
    let gap = (Some(S), None, None);
    let rows = source(&[plain(0, 2.0), gap, plain(2 * S, f64::NAN), plain(3 * S, 4.0)]);
    let of = |aggregate| one(view(), Window::new(aggregate, "x", 60), &rows, &[9 * S])[0];
    assert_eq!(of(Aggregate::Count), Some(2.0));
    assert_eq!(of(Aggregate::Sum), Some(6.0));
    assert_eq!(of(Aggregate::Mean), Some(3.0));
    assert_eq!(of(Aggregate::Last), Some(4.0));
    assert_eq!(of(Aggregate::Distinct), Some(2.0));
}

#[test]
fn sums_are_exact_before_they_are_rounded_once() {
    let rows = source(&[plain(0, 1e100), plain(S, 1.0), plain(2 * S, -1e100)]);
    let view = view()
        .window("sum", Aggregate::Sum, "x", 10)
        .window("mean", Aggregate::Mean, "x", 10)
        .build()
        .unwrap();
    let at = spine(vec![Some("a"); 2], vec![2 * S, 10 * S]);
    let found = Index::new(&view, &rows).unwrap().features(&at, "at").unwrap();
    let of = |name| numbers(&found, name).unwrap().iter().collect::<Vec<_>>();
    assert_eq!(of("sum"), [Some(1.0), Some(-1e100)]);
    assert_eq!(of("mean"), [Some(1.0 / 3.0), Some(-5e99)]);
}

#[test]
fn the_order_of_a_source_does_not_change_a_bit_of_a_sum() {
    let values = [0.1, 0.2, 0.3, 1e16, -1e16, 7e-9];
    let rows: Vec<Row> =
        values.iter().enumerate().map(|(place, x)| plain(place as i64, *x)).collect();
    let view = view()
        .window("sum", Aggregate::Sum, "x", 10)
        .window("mean", Aggregate::Mean, "x", 10)
        .window("std", Aggregate::StandardDeviation, "x", 10)
        .build()
        .unwrap();
    let spine = spine(vec![Some("a")], vec![S]);
    let of = |rows: &RecordBatch| Index::new(&view, rows).unwrap().features(&spine, "at").unwrap();
    let expected = of(&source(&rows));
    for order in [[5, 4, 3, 2, 1, 0], [2, 0, 5, 1, 4, 3]] {
        let order = arrow::array::UInt32Array::from(order.to_vec());
        assert_same_bits(&of(&take_record_batch(&source(&rows), &order).unwrap()), &expected);
    }
}

/// Six numbers, one of them twice, of which the last to become known is not the latest.
fn six() -> RecordBatch {
    source(&[
        row(S, S, 5.0),
        row(2 * S, 3 * S, -2.0),
        row(3 * S, 3 * S, 5.0),
        row(3 * S, 4 * S, 9.0),
        row(4 * S, 5 * S, 0.0),
        row(0, 6 * S, 7.0),
    ])
}

fn of_six(aggregate: Aggregate, at: &[i64]) -> Vec<Option<f64>> {
    one(bitemporal(), Window::new(aggregate, "x", 60), &six(), at)
}

/// Before all, of one row, of all.
const AT: [i64; 3] = [-1, S, 9 * S];

#[test]
fn a_count_is_of_values_and_zero_if_there_are_none() {
    assert_eq!(of_six(Aggregate::Count, &AT), [0.0, 1.0, 6.0].map(Some));
}

#[test]
fn a_sum_and_a_mean_of_nothing_are_missing() {
    assert_eq!(of_six(Aggregate::Sum, &AT), [None, Some(5.0), Some(24.0)]);
    assert_eq!(of_six(Aggregate::Mean, &AT), [None, Some(5.0), Some(4.0)]);
}

#[test]
fn the_least_and_the_greatest_of_nothing_are_missing() {
    assert_eq!(of_six(Aggregate::Min, &AT), [None, Some(5.0), Some(-2.0)]);
    assert_eq!(of_six(Aggregate::Max, &AT), [None, Some(5.0), Some(9.0)]);
}

#[test]
fn a_standard_deviation_is_of_the_sample_and_needs_two_values() {
    // Of 5, -2, 5, 9, 0, 7: the squares of the distances from 4 add up to 88.
    let found = of_six(Aggregate::StandardDeviation, &AT);
    assert_eq!(found[..2], [None, None]);
    assert!((found[2].unwrap() - (88.0_f64 / 5.0).sqrt()).abs() < 1e-12);
}

#[test]
fn first_and_last_are_by_event_then_known_then_order() {
    // The row of 7 happened first and became known last.
    let at = [-1, S, 3 * S, 4 * S, 5 * S, 6 * S];
    assert_eq!(
        of_six(Aggregate::First, &at),
        [None, Some(5.0), Some(5.0), Some(5.0), Some(5.0), Some(7.0)]
    );
    assert_eq!(
        of_six(Aggregate::Last, &at),
        [None, Some(5.0), Some(5.0), Some(9.0), Some(0.0), Some(0.0)]
    );
}

#[test]
fn different_values_are_counted_by_value() {
    assert_eq!(of_six(Aggregate::Distinct, &AT), [0.0, 1.0, 5.0].map(Some));
    let zeros = source(&[plain(0, 0.0), plain(1, -0.0), plain(2, f64::NAN)]);
    let distinct = || Window::new(Aggregate::Distinct, "x", 60);
    assert_eq!(one(view(), distinct(), &zeros, &[S]), [Some(1.0)]);
}

#[test]
fn a_sketch_of_different_values_is_within_its_bound() {
    let rows: Vec<Row> = (0..20_000).map(|n| plain(n, f64::from((n % 5_000) as i32))).collect();
    let window = Window::new(Aggregate::ApproximateDistinct, "x", 60);
    let found = one(view(), window, &source(&rows), &[-1, 0, 9, 19_999]);
    assert_eq!(found[..3], [0.0, 1.0, 10.0].map(Some));
    assert!((found[3].unwrap() - 5_000.0).abs() <= 250.0, "{found:?}");
}

#[test]
fn a_quantile_is_within_one_percent_of_the_value_of_its_rank() {
    let rows: Vec<Row> = (1..=100).map(|n| plain(n, f64::from((n * 37 % 101) as i32))).collect();
    let of = |per_mille| {
        one(view(), Window::new(Aggregate::Quantile { per_mille }, "x", 60), &source(&rows), &[S])
            [0]
        .unwrap()
    };
    // The values are 1 to 100; the rank, from 0, is q × 99 rounded down.
    for (per_mille, exact) in [(0, 1.0), (500, 50.0), (950, 95.0), (990, 99.0), (1_000, 100.0)] {
        assert!((of(per_mille) - exact).abs() <= 0.01 * exact, "{per_mille}: {}", of(per_mille));
    }
    assert_eq!(of_six(Aggregate::Quantile { per_mille: 500 }, &[-1]), [None]);
}

#[test]
fn windows_hold_any_type_where_the_aggregate_takes_it() {
    let columns: [(&str, ArrayRef); 4] = [
        ("k", Arc::new(StringArray::from(vec!["a"; 4]))),
        ("event", instants([0, 1, 2, 3].map(Some).to_vec())),
        ("word", Arc::new(StringArray::from(vec![Some("x"), Some(""), None, Some("x")]))),
        ("big", Arc::new(Int64Array::from(vec![i64::MAX, i64::MAX - 1, i64::MAX, i64::MAX]))),
    ];
    let rows = RecordBatch::try_from_iter(columns).unwrap();
    let words = |aggregate| Window::new(aggregate, "word", 60).holds(DataType::Utf8);
    let big = |aggregate| Window::new(aggregate, "big", 60).holds(DataType::Int64);
    let view = view()
        .window_as("words", words(Aggregate::Distinct))
        .window_as("first", words(Aggregate::First))
        .window_as("count", words(Aggregate::Count))
        .window_as("bigs", big(Aggregate::Distinct))
        .window_as("last", big(Aggregate::Last))
        .build()
        .unwrap();
    let found = asked(&view, &rows, &[S]);
    let whole = |name| numbers(&found, name).unwrap().value(0);
    assert_eq!((whole("words"), whole("count"), whole("bigs")), (2.0, 3.0, 2.0));
    assert_eq!(found.column(1).as_string::<i32>().value(0), "x");
    let last = found.column(4).as_primitive::<arrow::datatypes::Int64Type>();
    assert_eq!(last.value(0), i64::MAX);
}

#[test]
fn a_window_with_infinities_has_what_their_arithmetic_gives() {
    let rows = source(&[plain(0, f64::INFINITY), plain(1, 1.0), plain(2, f64::NEG_INFINITY)]);
    let of = |aggregate| one(view(), Window::new(aggregate, "x", 60), &rows, &[1])[0].unwrap();
    assert_eq!(of(Aggregate::Sum), f64::INFINITY);
    assert_eq!(of(Aggregate::Mean), f64::INFINITY);
    assert_eq!((of(Aggregate::Min), of(Aggregate::Max)), (1.0, f64::INFINITY));
    assert!(of(Aggregate::StandardDeviation).is_nan());
    let all = one(view(), Window::new(Aggregate::Sum, "x", 60), &rows, &[2])[0];
    assert!(all.unwrap().is_nan());
}
