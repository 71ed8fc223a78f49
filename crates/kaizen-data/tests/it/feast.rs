//! Situations that Feast's own tests are about, with the answers of our rule.
//!
//! The data is ours. Each case names the test whose situation it takes. Where the answer differs
//! from Feast's by design, the case says so.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, TimestampSecondArray};
use kaizen_core::{DataType, ErrorKind, Field};
use kaizen_data::point_in_time::Index;
use kaizen_data::{FeatureStore, MemorySource};
use kaizen_table::{FeatureService, FeatureView, FeatureViewBuilder, Known, numbers};
use kaizen_testkit::point_in_time::{assert_agree, oracle};

/// An hour, in seconds.
pub(crate) const HOUR: i64 = 3_600;
const DAY: i64 = 24 * HOUR;

pub(crate) fn seconds(values: Vec<Option<i64>>) -> ArrayRef {
    Arc::new(TimestampSecondArray::from(values).with_timezone("UTC"))
}

/// Driver, hour of the event, hour of the creation, trips.
pub(crate) type Stats = (i64, i64, Option<i64>, i64);

pub(crate) fn stats(rows: &[Stats]) -> RecordBatch {
    let columns: [(&str, ArrayRef); 4] = [
        ("driver", Arc::new(rows.iter().map(|row| Some(row.0)).collect::<Int64Array>())),
        ("event", seconds(rows.iter().map(|row| Some(row.1 * HOUR)).collect())),
        ("created", seconds(rows.iter().map(|row| Some(row.2? * HOUR)).collect())),
        ("trips", Arc::new(rows.iter().map(|row| Some(row.3)).collect::<Int64Array>())),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

/// Drivers and the hours as of which they are asked about.
pub(crate) fn asked(rows: &[(i64, i64)]) -> RecordBatch {
    let columns: [(&str, ArrayRef); 2] = [
        ("driver", Arc::new(rows.iter().map(|row| Some(row.0)).collect::<Int64Array>())),
        ("at", seconds(rows.iter().map(|row| Some(row.1 * HOUR)).collect())),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

fn view() -> FeatureViewBuilder {
    FeatureView::builder("driver_stats").source("stats").key("driver").event_time("event")
}

/// Bitemporal, our default wherever a source has a column of creation.
fn created() -> FeatureViewBuilder {
    view().known(Known::Column("created".to_owned()))
}

/// Like Feast's default: creation breaks ties and hides nothing.
fn backfilled() -> FeatureViewBuilder {
    view().known(Known::Backfilled { column: "created".to_owned(), until: None })
}

fn trips(view: FeatureViewBuilder, source: &[Stats], spine: &[(i64, i64)]) -> Vec<Option<i64>> {
    let view = view.column("trips", DataType::Int64).build().unwrap();
    let (source, spine) = (stats(source), asked(spine));
    let found = Index::new(&view, &source).unwrap().features(&spine, "at").unwrap();
    assert_agree(&view, &found, &oracle(&view, &source, &spine, "at").unwrap());
    numbers(&found, "trips").unwrap().iter().map(|x| x.map(|x| x as i64)).collect()
}

/// `test_ibis.py::test_point_in_time_join`: a customer asked about twice, one whose only row is
/// older than the TTL, one with two versions of the same event.
#[test]
fn several_customers_one_too_old_and_one_with_two_versions() {
    let rows = [
        (1, 0, Some(0), 100),
        (1, 48, Some(48), 200),
        (1, 72, Some(72), 300),
        (2, -24 * 300, Some(-24 * 300), 400),
        (3, 24, Some(72), 500),
        (3, 24, Some(48), 600),
    ];
    let spine = [(1, 24), (1, 48), (2, 24), (3, 72)];
    let ttl = 10 * DAY as u32;
    let expected = [Some(100), Some(200), None, Some(500)];
    assert_eq!(trips(created().ttl_seconds(ttl), &rows, &spine), expected);
    // An hour before the second version was written, Feast's oracle gives it; we give the first.
    assert_eq!(trips(backfilled(), &rows, &[(3, 71)]), [Some(500)]);
    assert_eq!(trips(created(), &rows, &[(3, 71), (3, 47)]), [Some(600), None]);
}

/// `test_dask_non_entity.py`, snapshot of all entities at an end: we ask for each as of that end.
#[test]
fn a_snapshot_of_all_entities_as_of_one_instant() {
    let rows = [
        (1, 34, Some(34), 10),
        (1, 34, Some(35), 20),
        (1, -14, Some(-14), 5),
        (2, 36, Some(36), 30),
        (2, 59, Some(59), 40),
        (3, 9, Some(9), 50),
    ];
    let spine = [(1, 58), (2, 58), (3, 58)];
    let found = trips(created().ttl_seconds(DAY as u32), &rows, &spine);
    // The third is older than a day: the entity keeps its row, without a value.
    assert_eq!(found, [Some(20), Some(30), None]);
}

/// `test_dask_non_entity.py`: views of one source with TTLs of their own.
#[tokio::test]
async fn each_view_has_its_own_ttl() {
    let source = MemorySource::new("stats", stats(&[(1, 1, Some(1), 10), (1, 6, Some(6), 20)]));
    let of = |name: &str, feature: &str, hours: i64| {
        FeatureView::builder(name)
            .source("stats")
            .key("driver")
            .event_time("event")
            .ttl_seconds((hours * HOUR) as u32)
            .column_as(feature, "trips", DataType::Int64)
            .build()
            .unwrap()
    };
    let views = vec![of("short", "lately", 1), of("long", "ever", 24)];
    let service = FeatureService::new("drivers", 1, vec![], views).unwrap();
    let store = FeatureStore::new(vec![Arc::new(source)]);
    let spine = asked(&[(1, 6), (1, 7), (1, 8), (1, 30), (1, 31), (1, 0)]);
    let found = store.features(&service, &spine, "at").await.unwrap();
    let of = |name| numbers(&found, name).unwrap().iter().collect::<Vec<_>>();
    assert_eq!(of("lately"), [Some(20.0), Some(20.0), None, None, None, None]);
    assert_eq!(of("ever"), [Some(20.0), Some(20.0), Some(20.0), Some(20.0), None, None]);
    assert_eq!(found.num_rows(), 6);
}

/// `test_filter_by_created_timestamp.py`, default and flag: with Feast the later version is given
/// unless the flag is set; here it is hidden unless the source is declared as loaded in bulk.
#[test]
fn a_version_written_after_the_instant_is_hidden_by_default() {
    let rows = [(1, 10, Some(12), 4), (1, 10, Some(48), 6)];
    assert_eq!(trips(created(), &rows, &[(1, 24)]), [Some(4)]);
    assert_eq!(trips(backfilled(), &rows, &[(1, 24)]), [Some(6)]);
}

/// `test_filter_by_created_timestamp.py`, null creation: with Feast's flag such a row is excluded.
/// Here it loses the tie, and alone counts as known when it happened.
#[test]
fn a_missing_creation_loses_the_tie_and_alone_counts_as_the_event() {
    let rows = [(1, 10, Some(12), 4), (1, 10, None, 6)];
    assert_eq!(trips(created(), &rows, &[(1, 24), (1, 11)]), [Some(4), Some(6)]);
    assert_eq!(trips(created(), &rows[1..], &[(1, 24)]), [Some(6)]);
}

/// `test_filter_by_created_timestamp.py`, all candidates too new.
#[test]
fn a_row_is_kept_when_all_that_happened_is_not_known_yet() {
    let rows = [(1, 10, Some(48), 4), (1, 11, Some(72), 6)];
    assert_eq!(trips(created(), &rows, &[(1, 24)]), [None]);
}

/// `test_filter_by_created_timestamp.py`, rows without a valid version.
#[test]
fn an_entity_without_a_known_version_does_not_borrow_from_another() {
    let rows = [(1, 10, Some(12), 4), (2, 10, Some(48), 6)];
    assert_eq!(trips(created(), &rows, &[(1, 24), (2, 24)]), [Some(4), None]);
    assert_eq!(trips(created(), &rows, &[(2, 24), (1, 24)]), [None, Some(4)]);
}

/// `test_historical_features_with_no_ttl`: Feast writes "no end" as a TTL of 0; here it is left out
/// and 0 is an error.
#[test]
fn without_a_ttl_the_oldest_row_still_counts() {
    let rows = [(1, -24 * 10_000, Some(-24 * 10_000), 10)];
    assert_eq!(trips(created(), &rows, &[(1, 24 * 10_000)]), [Some(10)]);
    assert!(view().column("trips", DataType::Int64).ttl_seconds(0).build().is_err());
}

/// `test_historical_features_containing_backfills`: a duplicate that was written later, and a
/// backfill of an older event that was written after a newer one.
#[test]
fn a_backfill_replaces_its_own_event_and_not_a_newer_one() {
    let rows = [
        (1001, 0, Some(0), 10),
        (1001, 0, Some(24), 20),
        (1002, 0, Some(24), 30),
        (1002, 24, Some(0), 40),
    ];
    let spine = [(1001, 48), (1002, 48)];
    assert_eq!(trips(created(), &rows, &spine), [Some(20), Some(40)]);
    assert_eq!(trips(backfilled(), &rows, &spine), [Some(20), Some(40)]);
    // Between the two, what was written at hour 24 is not known yet.
    assert_eq!(trips(created(), &rows, &[(1001, 12), (1002, 12)]), [Some(10), None]);
}

/// `test_historical_features_filter_by_created_timestamp`: the same rows asked as of each hour.
#[test]
fn corrections_appear_one_after_the_other() {
    let rows = [(1, 1, Some(2), 10), (1, 1, Some(4), 20), (1, 3, Some(6), 30), (1, 2, Some(7), 40)];
    let spine: Vec<(i64, i64)> = (0..9).map(|hour| (1, hour)).collect();
    let expected =
        [None, None, Some(10), Some(10), Some(20), Some(20), Some(30), Some(30), Some(30)];
    assert_eq!(trips(created(), &rows, &spine), expected);
}

/// `feature_records.py::find_latest_record`: a range that is closed at both ends.
#[test]
fn the_range_of_the_ttl_is_closed_at_both_ends() {
    let rows = [(1, 2, Some(2), 10)];
    let ttl = created().ttl_seconds(3 * HOUR as u32);
    assert_eq!(
        trips(ttl, &rows, &[(1, 1), (1, 2), (1, 5), (1, 6)]),
        [None, Some(10), Some(10), None]
    );
}

/// `test_historical_features_with_shared_batch_source` and `_field_mapping`: two views of one
/// source under other names, one of which has a row that the other has too.
#[tokio::test]
async fn views_that_share_a_source_do_not_disturb_each_other() {
    let source = stats(&[(1, 1, Some(1), 10), (1, 2, Some(5), 20)]);
    let source = MemorySource::new("stats", source);
    let renamed = |name: &str, feature: &str, known: Known| {
        FeatureView::builder(name)
            .source("stats")
            .key("driver")
            .event_time("event")
            .known(known)
            .column_as(feature, "trips", DataType::Int64)
            .build()
            .unwrap()
    };
    let views = vec![
        renamed("strict", "known_trips", Known::Column("created".to_owned())),
        renamed("plain", "trips", Known::AtEvent),
    ];
    let service = FeatureService::new("drivers", 1, vec![], views).unwrap();
    let store = FeatureStore::new(vec![Arc::new(source)]);
    let found = store.features(&service, &asked(&[(1, 3), (1, 5)]), "at").await.unwrap();
    let of = |name| numbers(&found, name).unwrap().iter().collect::<Vec<_>>();
    assert_eq!(of("known_trips"), [Some(10.0), Some(20.0)]);
    assert_eq!(of("trips"), [Some(20.0), Some(20.0)]);
}

/// `test_historical_features_with_missing_request_data`: what the caller must bring is asked for by
/// name.
#[tokio::test]
async fn request_data_that_is_missing_is_named() {
    let source = MemorySource::new("stats", stats(&[(1, 1, Some(1), 10)]));
    let view = view().column("trips", DataType::Int64).build().unwrap();
    let request = vec![Field::new("val_to_add", DataType::Int64)];
    let service = FeatureService::new("drivers", 1, request, vec![view]).unwrap();
    let store = FeatureStore::new(vec![Arc::new(source)]);
    let error = store.features(&service, &asked(&[(1, 3)]), "at").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("column `val_to_add` is missing"), "{error}");
}

/// Feast's default local store gave fewer rows than were asked; see `docs/point-in-time.md`.
#[test]
fn every_question_has_its_row_whatever_became_of_it() {
    let rows = [(1, 10, Some(10), 1), (2, 50, Some(50), 2), (3, 1, Some(1), 3)];
    let spine = [(3, 20), (1, 20), (2, 20), (9, 20), (1, 20), (1, 20)];
    let expected = [None, Some(1), None, None, Some(1), Some(1)];
    assert_eq!(trips(created().ttl_seconds(11 * HOUR as u32), &rows, &spine), expected);
}
