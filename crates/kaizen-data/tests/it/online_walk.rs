//! Sources that are read span by span into an online store, and only where they may have changed.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use arrow::array::{ArrayRef, Float64Array, RecordBatch};
use kaizen_core::{Bytes, DataType, ErrorKind, Silent, Timestamp};
use kaizen_data::{MemoryOnlineStore, Online};
use kaizen_table::{Aggregate, FeatureView, Known, OnlineStore, numbers, with_column};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::cases::{case, instant, instants};
use crate::cut_source::CutSource;
use crate::online::{Failing, S, events, request, second, service, view};

/// Everything that a store holds.
async fn held(store: &dyn OnlineStore) -> Vec<(String, Bytes, Bytes)> {
    let mut held = Vec::new();
    for space in store.spaces().await.unwrap() {
        let page = store.page(&space, None, 1_000_000).await.unwrap();
        held.extend(page.entries.into_iter().map(|(key, value)| (space.clone(), key, value)));
    }
    held
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    /// Whatever the spans, however few rows fit in memory, and wherever a call is cut off.
    #[test]
    fn a_walk_writes_the_same_bytes_as_one_reading(
        case in case(60, 1, -12..30),
        cuts in vec(instant(-12..25), 1..8),
        mut steps in vec(-12_i64..32, 1..4),
        size in 1_usize..20,
        most in 1_u64..40,
        fails in 0_usize..12,
    ) {
        steps.sort_unstable();
        let whole = CutSource::new("s", case.source.clone(), vec![]);
        let walked = CutSource::new("s", case.source.clone(), cuts);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (one, other) = (Arc::new(MemoryOnlineStore::default()), Arc::new(Failing::after(fails)));
            let at_once = Online::new(Arc::clone(&one) as _).rows_per_write(size);
            let by_spans = Online::new(Arc::clone(&other) as _).rows_per_write(size);
            let by_spans = by_spans.rows_in_memory(most);
            let view = &case.view;
            for until in steps.into_iter().map(second) {
                let expected = at_once.materialize(view, &whole, until, &Silent).await.unwrap();
                match by_spans.materialize(view, &walked, until, &Silent).await {
                    Ok(written) => assert_eq!(written, expected),
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
                        other.repair();
                        by_spans.materialize(view, &walked, until, &Silent).await.unwrap();
                    }
                }
                assert_eq!(held(&other.store).await, held(one.as_ref()).await);
            }
        });
    }
}

fn known(view_known: Known) -> FeatureView {
    let view = FeatureView::builder("v").source("s").key("k").known(view_known);
    let view = view.column("x", DataType::Float64);
    view.window("n", Aggregate::Count, "x", 20).build().unwrap()
}

/// One row a second, known two seconds later.
fn rows(count: i64) -> RecordBatch {
    let known = (0..count).map(|row| Some((row + 2) * S)).collect();
    with_column(&events(count), "known", instants(known)).unwrap()
}

fn every_ten_seconds(rows: RecordBatch) -> CutSource {
    CutSource::new("s", rows, (1..10).map(|cut| cut * 10 * S).collect())
}

#[tokio::test]
async fn only_what_can_have_become_known_since_is_read() {
    for (known_at, first) in [(Known::AtEvent, 50), (Known::After { seconds: 2 }, 48)] {
        let view = known(known_at);
        let source = every_ten_seconds(rows(100));
        let online = Online::new(Arc::new(MemoryOnlineStore::default()));
        let written = online.materialize(&view, &source, second(49), &Silent).await.unwrap();
        assert_eq!((written, source.rows_read.load(Ordering::SeqCst)), (first, first as usize));
        assert_eq!(source.most_read.load(Ordering::SeqCst), 10);
        source.rows_read.store(0, Ordering::SeqCst);
        let written = online.materialize(&view, &source, second(52), &Silent).await.unwrap();
        assert_eq!((written, source.rows_read.load(Ordering::SeqCst)), (3, 3));
        let found = online.features(&service(view), &request(vec![7], 52 * S), "at").await.unwrap();
        assert_eq!(numbers(&found, "x").unwrap().value(0), (first + 2) as f64 / 10.0);
    }
}

#[tokio::test]
async fn a_known_at_column_is_read_by_spans_and_twice_only_if_much_is_new() {
    let view = known(Known::Column("known".to_owned()));
    let source = every_ten_seconds(rows(100));
    let online = Online::new(Arc::new(MemoryOnlineStore::default())).rows_in_memory(10);
    online.materialize(&view, &source, second(61), &Silent).await.unwrap();
    // Once to find the 60 rows, and of each ten of them the one span that they are in.
    assert_eq!(source.rows_read.load(Ordering::SeqCst), 160);
    assert_eq!(source.most_read.load(Ordering::SeqCst), 10);
    source.rows_read.store(0, Ordering::SeqCst);
    online.materialize(&view, &source, second(65), &Silent).await.unwrap();
    assert_eq!(source.rows_read.load(Ordering::SeqCst), 100);
    assert_eq!(source.most_read.load(Ordering::SeqCst), 10);
}

/// The table with another value in a row.
fn edited(rows: &RecordBatch, row: usize) -> RecordBatch {
    let x = numbers(rows, "x").unwrap();
    let x = x.iter().enumerate().map(|(at, x)| if at == row { Some(-1.0) } else { x });
    let x: ArrayRef = Arc::new(x.collect::<Float64Array>());
    with_column(rows, "x", x).unwrap()
}

#[tokio::test]
async fn a_past_that_was_edited_is_a_conflict_where_it_is_read() {
    let past = |edited_row| every_ten_seconds(edited(&rows(100), edited_row));
    let source = every_ten_seconds(rows(100));
    let by_column = known(Known::Column("known".to_owned()));
    for (view, check, refused) in
        [(by_column, false, true), (known(Known::AtEvent), true, true), (view(), false, false)]
    {
        let store = Arc::new(MemoryOnlineStore::default());
        let online = Online::new(Arc::clone(&store) as _);
        let online = if check { online.check_past() } else { online };
        online.materialize(&view, &source, second(50), &Silent).await.unwrap();
        let before = held(store.as_ref()).await;
        let outcome = online.materialize(&view, &past(20), second(60), &Silent).await;
        assert_eq!(outcome.is_err(), refused, "{outcome:?}");
        if let Err(error) = outcome {
            assert_eq!(error.kind(), ErrorKind::Conflict);
            assert!(error.to_string().contains("the past has changed"), "{error}");
            assert!(error.to_string().contains("view `v`, source `s`"), "{error}");
            assert_eq!(held(store.as_ref()).await, before, "nothing is written");
            // What is not known yet may still change.
            online.materialize(&view, &past(70), second(60), &Silent).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_past_that_is_to_be_checked_is_also_where_nothing_is_new() {
    let source = every_ten_seconds(rows(100));
    let edited = every_ten_seconds(edited(&rows(100), 20));
    for view in [view(), known(Known::Column("known".to_owned()))] {
        let store: Arc<dyn OnlineStore> = Arc::new(MemoryOnlineStore::default());
        let online = Online::new(Arc::clone(&store)).check_past();
        online.materialize(&view, &source, second(50), &Silent).await.unwrap();
        for until in [50, 30].map(second) {
            assert_eq!(online.materialize(&view, &source, until, &Silent).await.unwrap(), 0);
            let error = online.materialize(&view, &edited, until, &Silent).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Conflict, "{error:?}");
            let unchecked = Online::new(Arc::clone(&store));
            assert_eq!(unchecked.materialize(&view, &edited, until, &Silent).await.unwrap(), 0);
        }
    }
}

/// Of each span more rows are pending than their instants are held, and in any order.
#[tokio::test]
async fn far_more_new_rows_than_fit_in_memory_are_written_as_if_they_did() {
    let known_at = (0..20_000).map(|row| Some((row + row * 7_919 % 4_000) * S)).collect();
    let rows = with_column(&events(20_000), "known", instants(known_at)).unwrap();
    let view = known(Known::Column("known".to_owned()));
    let mut stores = Vec::new();
    for cuts in [vec![], vec![5_000 * S, 9_000 * S, 16_000 * S]] {
        let walked = !cuts.is_empty();
        let source = CutSource::new("s", rows.clone(), cuts);
        let store = Arc::new(MemoryOnlineStore::default());
        let online = Online::new(Arc::clone(&store) as _).rows_in_memory(3_000);
        let online = online.rows_per_write(1_000);
        online.materialize(&view, &source, second(30_000), &Silent).await.unwrap();
        assert_eq!(source.rows_read.load(Ordering::SeqCst) > 20_000, walked);
        stores.push(held(store.as_ref()).await);
    }
    assert!(stores[0] == stores[1], "the same bytes");
}

#[tokio::test]
async fn a_source_that_changes_while_it_is_walked_is_a_conflict_and_what_is_written_stays() {
    let source = every_ten_seconds(rows(100));
    source.changes_after.store(3, Ordering::SeqCst);
    let online = Online::new(Arc::new(MemoryOnlineStore::default())).rows_per_write(5);
    let error = online.materialize(&view(), &source, second(90), &Silent).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error:?}");
    let until = online.materialized_until(&view()).await.unwrap();
    assert_eq!(until, Some(second(24)));
    let again = every_ten_seconds(rows(100));
    let written = online.materialize(&view(), &again, second(90), &Silent).await.unwrap();
    assert_eq!(written, 66);
}

#[tokio::test]
async fn rows_that_are_known_at_the_end_of_time_are_written_together() {
    let last = i64::MAX / S * S - 50 * S;
    let at = (0..100).map(|row| Some(last + row * S / 2)).collect();
    let rows = with_column(&events(100), "event_time", instants(at)).unwrap();
    let source = CutSource::new("s", rows, (1..5).map(|cut| last + cut * 10 * S).collect());
    let view = known(Known::After { seconds: 45 });
    let store = Arc::new(Failing::after(2));
    let online = Online::new(Arc::clone(&store) as _).rows_per_write(4);
    let end = Timestamp::from_nanos(i64::MAX);
    assert!(online.materialize(&view, &source, end, &Silent).await.is_err());
    store.repair();
    online.materialize(&view, &source, end, &Silent).await.unwrap();
    let whole = Arc::new(MemoryOnlineStore::default());
    let online = Online::new(Arc::clone(&whole) as _).rows_per_write(4);
    online.materialize(&view, &source, end, &Silent).await.unwrap();
    assert_eq!(held(&store.store).await, held(whole.as_ref()).await);
}
