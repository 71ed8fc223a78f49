//! The clauses of `docs/point-in-time.md` on labels.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Int64Array, RecordBatch};
use kaizen_core::Timestamp;
use kaizen_data::{FeatureStore, MemorySource};
use kaizen_table::LabelView;

use crate::cases::instants;
use crate::rule::S;

/// Entity, label, second in which it became known.
type Told = (i64, Option<bool>, Option<i64>);

/// The label of each entity as of a second.
async fn known_by(told: &[Told], maturity: u32, asked: &[i64], second: i64) -> Vec<Option<bool>> {
    let columns: [(&str, ArrayRef); 3] = [
        ("id", Arc::new(told.iter().map(|told| Some(told.0)).collect::<Int64Array>())),
        ("late", Arc::new(told.iter().map(|told| told.1).collect::<BooleanArray>())),
        ("known_at", instants(told.iter().map(|told| Some(told.2? * S)).collect())),
    ];
    let source = MemorySource::new("outcomes", RecordBatch::try_from_iter(columns).unwrap());
    let view = LabelView::new("late", "outcomes", vec!["id".into()], "late", "known_at").unwrap();
    let view = view.with_maturity_seconds(maturity);
    let asked: ArrayRef = Arc::new(Int64Array::from(asked.to_vec()));
    let asked = RecordBatch::try_from_iter([("id", asked)]).unwrap();
    let store = FeatureStore::new(vec![Arc::new(source)]);
    let found = store.labels(&view, &asked, Timestamp::from_nanos(second * S)).await.unwrap();
    assert_eq!(found.len(), asked.num_rows());
    found.iter().collect()
}

#[tokio::test]
async fn a_label_is_known_from_its_instant_on() {
    let told = [(1, Some(true), Some(5)), (2, Some(false), Some(5))];
    assert_eq!(known_by(&told, 0, &[2, 1, 3], 4).await, [None, None, None]);
    assert_eq!(known_by(&told, 0, &[2, 1, 3], 5).await, [Some(false), Some(true), None]);
}

#[tokio::test]
async fn a_label_without_a_known_at_is_never_known() {
    let told = [(1, Some(true), None)];
    assert_eq!(known_by(&told, 0, &[1], 1_000_000).await, [None]);
}

#[tokio::test]
async fn the_label_that_became_known_last_counts() {
    let told = [(1, Some(true), Some(9)), (1, Some(false), Some(5))];
    assert_eq!(known_by(&told, 0, &[1], 8).await, [Some(false)]);
    assert_eq!(known_by(&told, 0, &[1], 9).await, [Some(true)]);
    // Of two that became known together, the last in the source; and one may be taken back.
    let told = [(1, Some(false), Some(5)), (1, Some(true), Some(5)), (1, None, Some(7))];
    assert_eq!(known_by(&told, 0, &[1], 5).await, [Some(true)]);
    assert_eq!(known_by(&told, 0, &[1], 7).await, [None]);
}

#[tokio::test]
async fn a_label_younger_than_its_maturity_is_left_out() {
    let told = [(1, Some(true), Some(5)), (1, Some(false), Some(14)), (2, Some(true), Some(6))];
    // The age counts from when a label first became known; the last by then is taken.
    assert_eq!(known_by(&told, 10, &[1, 2], 14).await, [None, None]);
    assert_eq!(known_by(&told, 10, &[1, 2], 15).await, [Some(false), None]);
    assert_eq!(known_by(&told, 10, &[1, 2], 16).await, [Some(false), Some(true)]);
}
