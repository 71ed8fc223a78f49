//! The clauses of `docs/point-in-time.md` on rows: which are seen, and which is the latest.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, Float64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
    TimestampSecondArray,
};
use kaizen_core::{DataType, Timestamp};
use kaizen_data::point_in_time::Index;
use kaizen_table::{FeatureView, FeatureViewBuilder, Known, numbers};
use kaizen_testkit::point_in_time::{assert_agree, oracle};

use crate::cases::instants;

/// A second.
pub(crate) const S: i64 = 1_000_000_000;

/// Event, known at, value.
pub(crate) type Row = (Option<i64>, Option<i64>, Option<f64>);

/// Rows of the entity `a`.
pub(crate) fn source(rows: &[Row]) -> RecordBatch {
    let columns: [(&str, ArrayRef); 4] = [
        ("k", Arc::new(StringArray::from(vec!["a"; rows.len()]))),
        ("event", instants(rows.iter().map(|row| row.0).collect())),
        ("known", instants(rows.iter().map(|row| row.1).collect())),
        ("x", Arc::new(rows.iter().map(|row| row.2).collect::<Float64Array>())),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

pub(crate) fn spine(keys: Vec<Option<&str>>, at: Vec<i64>) -> RecordBatch {
    let columns: [(&str, ArrayRef); 2] = [
        ("k", Arc::new(StringArray::from(keys))),
        ("at", instants(at.into_iter().map(Some).collect())),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

pub(crate) fn view() -> FeatureViewBuilder {
    FeatureView::builder("v").source("s").key("k").event_time("event")
}

/// A view whose source says when its rows became known.
pub(crate) fn bitemporal() -> FeatureViewBuilder {
    view().known(Known::Column("known".to_owned()))
}

/// The answers to a spine, after a look at the oracle's.
pub(crate) fn answers(
    view: FeatureViewBuilder,
    source: &RecordBatch,
    spine: &RecordBatch,
) -> Vec<Option<f64>> {
    let view = view.column("x", DataType::Float64).build().unwrap();
    let found = Index::new(&view, source).unwrap().features(spine, "at").unwrap();
    assert_agree(&view, &found, &oracle(&view, source, spine, "at").unwrap());
    numbers(&found, "x").unwrap().iter().collect()
}

/// What the entity `a` has as of each instant.
fn of_a(view: FeatureViewBuilder, rows: &[Row], at: &[i64]) -> Vec<Option<f64>> {
    answers(view, &source(rows), &spine(vec![Some("a"); at.len()], at.to_vec()))
}

/// A row that happened at `event` and became known at `known`.
fn row(event: i64, known: i64, value: f64) -> Row {
    (Some(event), Some(known), Some(value))
}

/// A row of a source that does not say when it became known.
fn plain(event: i64, value: f64) -> Row {
    (Some(event), None, Some(value))
}

#[test]
fn every_row_gets_one_answer_in_its_place() {
    let columns: [(&str, ArrayRef); 3] = [
        ("k", Arc::new(StringArray::from(vec![Some("a"), None, Some("b")]))),
        ("event", instants(vec![Some(0), Some(0), Some(5)])),
        ("x", Arc::new(Float64Array::from(vec![1.0, 9.0, 2.0]))),
    ];
    let source = RecordBatch::try_from_iter(columns).unwrap();
    let asked = vec![Some("b"), Some("a"), Some("z"), None, Some("a"), Some("b"), Some("a")];
    let found = answers(view(), &source, &spine(asked, vec![9, 3, 3, 3, 3, 4, -1]));
    assert_eq!(found, [Some(2.0), Some(1.0), None, None, Some(1.0), None, None]);
}

#[test]
fn equal_rows_of_the_spine_are_all_answered() {
    let found = of_a(view(), &[plain(0, 1.0)], &[5, 5, 5, -1, 5]);
    assert_eq!(found, [Some(1.0), Some(1.0), Some(1.0), None, Some(1.0)]);
}

#[test]
fn an_entity_that_was_never_seen_has_nothing() {
    let asked = spine(vec![Some("z"), Some("")], vec![5, 5]);
    assert_eq!(answers(view(), &source(&[plain(0, 1.0)]), &asked), [None, None]);
    assert_eq!(of_a(view(), &[], &[0]), [None]);
}

#[test]
fn a_row_of_the_same_instant_is_seen_and_a_later_one_is_not() {
    let found = of_a(view(), &[plain(7 * S, 1.0)], &[7 * S, 7 * S - 1, 0]);
    assert_eq!(found, [Some(1.0), None, None]);
}

#[test]
fn rows_of_the_future_alone_leave_the_row_without_features() {
    let rows = [plain(8 * S, 1.0), plain(9 * S, 2.0)];
    assert_eq!(of_a(view().ttl_seconds(60), &rows, &[7 * S]), [None]);
}

#[test]
fn a_nanosecond_is_enough_to_tell_instants_apart() {
    let rows = [plain(S, 1.0), plain(S + 1, 2.0), plain(S + 2, 3.0)];
    let found = of_a(view(), &rows, &[S - 1, S, S + 1, S + 2]);
    assert_eq!(found, [None, Some(1.0), Some(2.0), Some(3.0)]);
}

#[test]
fn instants_are_compared_as_instants_whatever_their_zone_and_unit() {
    let event = TimestampSecondArray::from(vec![100]).with_timezone("-05:00");
    let columns: [(&str, ArrayRef); 3] = [
        ("k", Arc::new(StringArray::from(vec!["a"]))),
        ("event", Arc::new(event)),
        ("x", Arc::new(Float64Array::from(vec![3.0]))),
    ];
    let source = RecordBatch::try_from_iter(columns).unwrap();
    let at = TimestampMicrosecondArray::from(vec![100_000_000, 99_999_999]);
    let columns: [(&str, ArrayRef); 2] = [
        ("k", Arc::new(StringArray::from(vec!["a", "a"]))),
        ("at", Arc::new(at.with_timezone("+09:00"))),
    ];
    let spine = RecordBatch::try_from_iter(columns).unwrap();
    assert_eq!(answers(view(), &source, &spine), [Some(3.0), None]);
}

#[test]
fn nothing_wraps_at_the_ends_of_time() {
    let first = [plain(i64::MIN, 1.0)];
    assert_eq!(of_a(view(), &first, &[i64::MIN, i64::MAX]), [Some(1.0), Some(1.0)]);
    let young = view().ttl_seconds(u32::MAX);
    assert_eq!(of_a(young, &first, &[i64::MIN, i64::MAX]), [Some(1.0), None]);
    let after = || view().known(Known::After { seconds: 1 });
    let last = [plain(i64::MAX - 5, 1.0)];
    assert_eq!(of_a(after(), &last, &[i64::MAX - 1, i64::MAX]), [None, Some(1.0)]);
}

#[test]
fn a_row_without_an_event_time_is_ignored() {
    let timeless = (None, Some(S), Some(1.0));
    assert_eq!(of_a(bitemporal(), &[timeless, row(0, S, 2.0)], &[3 * S]), [Some(2.0)]);
    assert_eq!(of_a(view(), &[timeless], &[3 * S]), [None]);
}

#[test]
fn without_more_said_a_row_is_known_as_it_happens() {
    let rows = [row(S, 9 * S, 1.0)];
    assert_eq!(of_a(view(), &rows, &[S]), [Some(1.0)]);
}

#[test]
fn a_source_may_be_known_a_fixed_time_after_the_event() {
    let after = || view().known(Known::After { seconds: 4 });
    let rows = [plain(0, 1.0), plain(2 * S, 2.0)];
    let found = of_a(after(), &rows, &[4 * S - 1, 4 * S, 6 * S - 1, 6 * S]);
    assert_eq!(found, [None, Some(1.0), Some(1.0), Some(2.0)]);
}

#[test]
fn a_late_correction_is_seen_when_it_is_known_and_no_earlier() {
    let rows = [row(S, S, 1.0), row(2 * S, 10 * S, 2.0)];
    let found = of_a(bitemporal(), &rows, &[5 * S, 10 * S - 1, 10 * S]);
    assert_eq!(found, [Some(1.0), Some(1.0), Some(2.0)]);
    // The same event, written anew.
    let rows = [row(S, 2 * S, 1.0), row(S, 9 * S, 2.0)];
    assert_eq!(of_a(bitemporal(), &rows, &[8 * S, 9 * S]), [Some(1.0), Some(2.0)]);
}

#[test]
fn a_row_is_not_seen_before_it_happens_even_if_it_was_known() {
    let rows = [row(5 * S, S, 1.0)];
    assert_eq!(of_a(bitemporal(), &rows, &[4 * S, 5 * S]), [None, Some(1.0)]);
}

#[test]
fn a_missing_known_at_counts_as_the_event_time() {
    let found = of_a(bitemporal(), &[plain(5 * S, 2.0)], &[5 * S - 1, 5 * S]);
    assert_eq!(found, [None, Some(2.0)]);
}

#[test]
fn a_bulk_load_counts_as_known_when_it_happened() {
    let loaded = |until| view().known(Known::Backfilled { column: "known".to_owned(), until });
    let rows = [row(S, 90 * S, 1.0), row(2 * S, 90 * S, 2.0)];
    assert_eq!(of_a(loaded(None), &rows, &[S, 2 * S]), [Some(1.0), Some(2.0)]);
    // The same source, taken at its word, hides all of it.
    assert_eq!(of_a(bitemporal(), &rows, &[S, 2 * S]), [None, None]);
    // In what was loaded the column breaks ties.
    let tied = [row(S, 91 * S, 1.0), row(S, 90 * S, 2.0), plain(S, 3.0)];
    assert_eq!(of_a(loaded(None), &tied, &[S]), [Some(1.0)]);
}

#[test]
fn after_a_bulk_load_the_column_is_taken_at_its_word() {
    let until = Timestamp::from_nanos(90 * S);
    let loaded =
        || view().known(Known::Backfilled { column: "known".to_owned(), until: Some(until) });
    let rows = [
        row(S, 90 * S, 1.0),
        // Known a moment after the load: a late correction.
        row(2 * S, 90 * S + 1, 2.0),
        plain(3 * S, 3.0),
        row(95 * S, 97 * S, 4.0),
    ];
    let at = [S, 2 * S, 3 * S, 95 * S, 97 * S];
    let expected = [Some(1.0), Some(1.0), Some(3.0), Some(3.0), Some(4.0)];
    assert_eq!(of_a(loaded(), &rows, &at), expected);
    assert_eq!(of_a(loaded(), &rows[..2], &[90 * S, 90 * S + 1]), [Some(1.0), Some(2.0)]);
    for (far, expected) in [(i64::MAX, Some(2.0)), (i64::MIN, None)] {
        let until = Some(Timestamp::from_micros(far));
        let view = view().known(Known::Backfilled { column: "known".to_owned(), until });
        assert_eq!(of_a(view, &rows[..2], &[2 * S]), [expected]);
    }
}

#[test]
fn the_latest_by_event_time_counts_however_late_it_became_known() {
    // A late row of an older event does not replace a newer one.
    let rows = [row(2 * S, 2 * S, 2.0), row(S, 9 * S, 1.0)];
    assert_eq!(of_a(bitemporal(), &rows, &[10 * S]), [Some(2.0)]);
    let unsorted = [plain(3 * S, 3.0), plain(S, 1.0), plain(2 * S, 2.0)];
    assert_eq!(of_a(view(), &unsorted, &[9 * S]), [Some(3.0)]);
}

#[test]
fn of_one_event_the_last_known_counts() {
    let rows = [row(S, 5 * S, 5.0), row(S, 4 * S, 4.0)];
    assert_eq!(of_a(bitemporal(), &rows, &[9 * S, 4 * S]), [Some(5.0), Some(4.0)]);
    // What was known before it happened decides ties as well.
    let rows = [row(5 * S, 2 * S, 2.0), row(5 * S, S, 1.0)];
    assert_eq!(of_a(bitemporal(), &rows, &[5 * S]), [Some(2.0)]);
}

#[test]
fn a_missing_known_at_wins_no_tie() {
    let rows = [row(5 * S, S, 1.0), plain(5 * S, 2.0)];
    assert_eq!(of_a(bitemporal(), &rows, &[5 * S]), [Some(1.0)]);
}

#[test]
fn what_is_still_tied_goes_to_the_last_in_the_source() {
    assert_eq!(of_a(view(), &[plain(S, 1.0), plain(S, 2.0)], &[S]), [Some(2.0)]);
    let known = [row(S, 2 * S, 1.0), row(S, 2 * S, 2.0)];
    assert_eq!(of_a(bitemporal(), &known, &[3 * S]), [Some(2.0)]);
    let unknown = [plain(S, 2.0), plain(S, 1.0)];
    assert_eq!(of_a(bitemporal(), &unknown, &[3 * S]), [Some(1.0)]);
}

#[test]
fn an_age_of_exactly_the_ttl_still_counts() {
    let found = of_a(view().ttl_seconds(10), &[plain(0, 1.0)], &[10 * S, 10 * S + 1]);
    assert_eq!(found, [Some(1.0), None]);
}

#[test]
fn a_ttl_of_zero_is_an_error_and_none_is_no_end() {
    let error = view().column("x", DataType::Float64).ttl_seconds(0).build().unwrap_err();
    assert!(error.to_string().contains("a TTL of 0 keeps nothing"), "{error}");
    assert_eq!(of_a(view(), &[plain(i64::MIN, 1.0)], &[i64::MAX]), [Some(1.0)]);
}

#[test]
fn the_ttl_is_asked_of_the_latest_row_by_its_event_time() {
    // Known just now, and too old all the same.
    let late = [row(S, 9 * S, 1.0)];
    assert_eq!(of_a(bitemporal().ttl_seconds(3), &late, &[9 * S]), [None]);
}

#[test]
fn a_missing_value_stays_missing() {
    let gap = (Some(2 * S), None, None);
    assert_eq!(of_a(view(), &[plain(S, 1.0), gap], &[3 * S, 2 * S - 1]), [None, Some(1.0)]);
}

#[test]
fn a_value_that_is_no_number_is_given_as_it_is() {
    let found = of_a(view(), &[plain(S, f64::NAN), plain(2 * S, -0.0)], &[S, 2 * S]);
    assert!(found[0].unwrap().is_nan());
    assert!(found[1].unwrap().is_sign_negative());
}
