//! The clauses of `docs/point-in-time.md` on what is counted.

use arrow::array::RecordBatch;
use kaizen_core::DataType;
use kaizen_core::record::Coverage;
use kaizen_data::point_in_time::Index;
use kaizen_table::{Aggregate, FeatureViewBuilder, with_column};
use kaizen_testkit::point_in_time::coverage;

use crate::rule::{Row, S, bitemporal, source, spine, view};

/// The coverage of the entity `a` as of each instant, after a look at the oracle's.
fn counted(view: FeatureViewBuilder, source: &RecordBatch, at: &[i64]) -> Coverage {
    let view = view.column("x", DataType::Float64).build().unwrap();
    let spine = spine(vec![Some("a"); at.len()], at.to_vec());
    let (_, found) =
        Index::new(&view, source).unwrap().features_with_coverage(&spine, "at").unwrap();
    assert_eq!(found, coverage(&view, source, &spine, "at").unwrap());
    assert_eq!(found.found + found.expired + found.unknown, at.len() as u64);
    found
}

fn row(event: i64, known: i64) -> Row {
    (Some(event), Some(known), Some(1.0))
}

#[test]
fn every_row_is_found_or_expired_or_unknown() {
    let rows = source(&[row(S, S), row(4 * S, 4 * S)]);
    let at = [0, S, 3 * S, 3 * S + 1, 4 * S, 9 * S];
    let found = counted(view().ttl_seconds(2), &rows, &at);
    assert_eq!((found.found, found.expired, found.unknown), (3, 2, 1));
    assert_eq!((found.hidden, found.ignored), (0, 0));
    // Without a TTL nothing expires.
    let found = counted(view(), &rows, &at);
    assert_eq!((found.found, found.expired, found.unknown), (5, 0, 1));
}

#[test]
fn a_row_with_a_missing_key_is_unknown() {
    let view = view().column("x", DataType::Float64).build().unwrap();
    let rows = source(&[row(S, S)]);
    let asked = spine(vec![None, Some("z"), Some("a")], vec![S; 3]);
    let (_, found) =
        Index::new(&view, &rows).unwrap().features_with_coverage(&asked, "at").unwrap();
    assert_eq!(found, coverage(&view, &rows, &asked, "at").unwrap());
    assert_eq!((found.found, found.unknown), (1, 2));
}

#[test]
fn rows_from_which_something_is_hidden_are_counted_beside() {
    // As of 1 all is known, as of 2 to 8 something is hidden, as of 9 no more.
    let rows = source(&[row(S, S), row(2 * S, 9 * S)]);
    let found = counted(bitemporal(), &rows, &[S, 2 * S, 8 * S, 9 * S]);
    assert_eq!((found.found, found.unknown, found.hidden), (4, 0, 2));
    // A source that was loaded in bulk and is taken at its word: everything is hidden.
    let loaded = source(&[row(S, 90 * S), row(2 * S, 90 * S)]);
    let found = counted(bitemporal(), &loaded, &[0, S, 2 * S, 90 * S]);
    assert_eq!((found.found, found.unknown, found.hidden), (1, 3, 2));
}

#[test]
fn rows_of_the_source_that_nobody_can_see_are_counted_as_ignored() {
    let rows = source(&[(None, Some(S), Some(1.0)), row(S, S), (None, None, None)]);
    assert_eq!(counted(view(), &rows, &[S]).ignored, 2);
    let keys = arrow::array::StringArray::from(vec![None, None, Some("a")]);
    let rows = with_column(&rows, "k", std::sync::Arc::new(keys)).unwrap();
    // The first lacks both and is counted once.
    assert_eq!(counted(view(), &rows, &[S]).ignored, 3);
}

#[test]
fn a_view_of_windows_alone_counts_its_rows_as_well() {
    let view = view().window("n", Aggregate::Count, "x", 1).build().unwrap();
    let rows = source(&[row(S, S)]);
    let asked = spine(vec![Some("a"); 3], vec![0, S, 50 * S]);
    let (_, found) =
        Index::new(&view, &rows).unwrap().features_with_coverage(&asked, "at").unwrap();
    assert_eq!(found, coverage(&view, &rows, &asked, "at").unwrap());
    assert_eq!((found.found, found.unknown), (2, 1));
}
