//! Situations that Chronon's own tests are about: windows that hop, and labels that arrive later.
//!
//! The data is ours. Each case names the test whose situation it takes.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use kaizen_core::{DataType, Timestamp};
use kaizen_data::point_in_time::Index;
use kaizen_data::{FeatureStore, MemorySource};
use kaizen_table::{Aggregate, FeatureService, FeatureView, LabelView, Window, numbers};
use kaizen_testkit::point_in_time::{assert_agree, oracle};

use crate::feast::{HOUR, asked, seconds, stats};

/// A window of an hour's length with hops of five minutes, over events one a minute.
fn sawtooth(events: &RecordBatch, at: &[i64]) -> Vec<Option<f64>> {
    let window = Window::new(Aggregate::Count, "x", HOUR as u32).hop_seconds(300);
    let view = FeatureView::builder("saw").source("s").key("k").event_time("event");
    let view = view.window_as("n", window).build().unwrap();
    let columns: [(&str, ArrayRef); 2] = [
        ("k", Arc::new(Int64Array::from(vec![1; at.len()]))),
        ("at", seconds(at.iter().copied().map(Some).collect())),
    ];
    let spine = RecordBatch::try_from_iter(columns).unwrap();
    let found = Index::new(&view, events).unwrap().features(&spine, "at").unwrap();
    assert_agree(&view, &found, &oracle(&view, events, &spine, "at").unwrap());
    numbers(&found, "n").unwrap().iter().collect()
}

fn one_a_minute(minutes: i64) -> RecordBatch {
    let columns: [(&str, ArrayRef); 3] = [
        ("k", Arc::new(Int64Array::from(vec![1; minutes as usize]))),
        ("event", seconds((0..minutes).map(|minute| Some(minute * 60)).collect())),
        ("x", Arc::new(Float64Array::from(vec![1.0; minutes as usize]))),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

/// Chronon's `SawtoothAggregatorTest`: the length grows from the window's own to a hop more, and
/// falls back at each hop.
#[test]
fn a_sawtooth_grows_by_a_hop_and_falls_back() {
    let events = one_a_minute(240);
    let at: Vec<i64> = (120..131).map(|minute| minute * 60).collect();
    let expected = [60, 61, 62, 63, 64, 60, 61, 62, 63, 64, 60];
    assert_eq!(sawtooth(&events, &at), expected.map(|n| Some(f64::from(n))));
    // A second before a hop and at it.
    assert_eq!(sawtooth(&events, &[125 * 60 - 1, 125 * 60]), [Some(64.0), Some(60.0)]);
}

/// Chronon's `SawtoothOnlineAggregatorTest`: what is asked between two uploads, at the first
/// instants, and when nothing is left.
#[test]
fn a_sawtooth_at_the_edges_of_its_data() {
    let events = one_a_minute(10);
    let at = [-1, 0, 59, 9 * 60, 64 * 60, 65 * 60 - 1, 65 * 60, 69 * 60 + 59, 70 * 60];
    let expected = [0, 1, 1, 10, 9, 9, 4, 4, 0];
    assert_eq!(sawtooth(&events, &at), expected.map(|n| Some(f64::from(n))));
}

/// Chronon's `GroupByIncrementalTest`: the same answer whatever the order of the rows.
#[test]
fn a_sawtooth_of_shuffled_rows_is_the_same() {
    let events = one_a_minute(120);
    let order: UInt32Array = (0..120).map(|row| row * 37 % 120).collect();
    let shuffled = take_record_batch(&events, &order).unwrap();
    let at: Vec<i64> = (0..200).map(|step| step * 47).collect();
    assert_eq!(sawtooth(&shuffled, &at), sawtooth(&events, &at));
}

/// Chronon's `FeatureWithLabelJoinTest`: labels that arrive later join the features of their own
/// instant, not those of the day on which the label arrived.
#[tokio::test]
async fn a_late_label_joins_the_features_of_its_own_instant() {
    let features = MemorySource::new("stats", stats(&[(1, 1, Some(1), 10), (1, 50, Some(50), 20)]));
    let labels: [(&str, ArrayRef); 3] = [
        ("driver", Arc::new(Int64Array::from(vec![1]))),
        ("tipped", Arc::new(BooleanArray::from(vec![true]))),
        ("told", seconds(vec![Some(60 * HOUR)])),
    ];
    let labels = MemorySource::new("tips", RecordBatch::try_from_iter(labels).unwrap());
    let view = FeatureView::builder("driver_stats").source("stats").key("driver");
    let view = view.event_time("event").column("trips", DataType::Int64).build().unwrap();
    let service = FeatureService::new("drivers", 1, vec![], vec![view]).unwrap();
    let tipped = LabelView::new("t", "tips", vec!["driver".into()], "tipped", "told").unwrap();
    let store = FeatureStore::new(vec![Arc::new(features), Arc::new(labels)]);
    let spine = asked(&[(1, 2)]);
    let at = |hour: i64| Timestamp::from_nanos(hour * HOUR * 1_000_000_000);
    let early = store.training_set(&service, &tipped, &spine, "at", at(59)).await.unwrap();
    assert_eq!((early.record.rows, early.record.unlabelled), (0, 1));
    let late = store.training_set(&service, &tipped, &spine, "at", at(60)).await.unwrap();
    assert_eq!(numbers(&late.rows, "trips").unwrap().values(), &[10.0]);
    assert_eq!(late.labels(), [true]);
}
