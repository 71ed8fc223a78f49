//! What was not yet known does not matter.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Int64Array, RecordBatch};
use arrow::compute::filter_record_batch;
use kaizen_core::Timestamp;
use kaizen_data::{FeatureStore, MemorySource};
use kaizen_table::{FeatureService, LabelView, with_column};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use crate::cases::{Case, assert_same_bits, case, instant, instants, known_by};

/// Instants and labels of the rows of a spine.
type Labels = Vec<(Option<i64>, Option<bool>)>;

fn labels() -> impl Strategy<Value = Labels> {
    vec((option::weighted(0.9, instant(-12..40)), option::weighted(0.9, any::<bool>())), 20)
}

fn label_source(labels: &Labels, cutoff: Option<i64>) -> RecordBatch {
    let ids: Int64Array = (0..labels.len() as i64).collect();
    let columns: [(&str, ArrayRef); 3] = [
        ("id", Arc::new(ids)),
        ("late", Arc::new(labels.iter().map(|label| label.1).collect::<BooleanArray>())),
        ("label_known", instants(labels.iter().map(|label| label.0).collect())),
    ];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let keep = |label: &(Option<i64>, Option<bool>)| {
        Some(cutoff.is_none_or(|cutoff| label.0.is_some_and(|known| known <= cutoff)))
    };
    filter_record_batch(&batch, &labels.iter().map(keep).collect::<BooleanArray>()).unwrap()
}

fn store(features: RecordBatch, labels: RecordBatch) -> FeatureStore {
    let features = MemorySource::new("s", features);
    FeatureStore::new(vec![Arc::new(features), Arc::new(MemorySource::new("labels", labels))])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Deletes, for each row of a training set, every value that was not yet known at the row's own
    /// instant, and every label that was not known at the cut-off: the row stays as it was.
    #[test]
    fn deleting_what_was_not_yet_known_changes_no_training_row(
        case in case(30, 20, -12..30),
        labels in labels(),
        cutoff in -5_i64..30,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(unchanged(case, labels, cutoff));
    }
}

async fn unchanged(case: Case, labels: Labels, cutoff: i64) {
    let Case { view, source, spine } = case;
    let ids: Int64Array = (0..spine.num_rows() as i64).collect();
    let spine = with_column(&spine, "id", Arc::new(ids)).unwrap();
    let service = FeatureService::new("service", 1, vec![], vec![view.clone()]).unwrap();
    let late = LabelView::new("late", "labels", vec!["id".into()], "late", "label_known").unwrap();
    let nanos = cutoff * 1_000_000_000;
    let cutoff = Timestamp::from_nanos(nanos);
    let whole = store(source.clone(), label_source(&labels, None));
    let whole = whole.training_set(&service, &late, &spine, "at", cutoff).await.unwrap();
    let asked_at = kaizen_table::instants(&spine, "at").unwrap();
    let mut kept = 0;
    for row in 0..spine.num_rows() {
        let seen = known_by(&view, &source, asked_at.value(row));
        let blind = store(seen, label_source(&labels, Some(nanos)));
        let one = spine.slice(row, 1);
        let one = blind.training_set(&service, &late, &one, "at", cutoff).await.unwrap();
        let expected = asked_at.value(row) <= nanos
            && labels[row].0.is_some_and(|known| known <= nanos)
            && labels[row].1.is_some();
        assert_eq!(one.rows.num_rows(), usize::from(expected), "row {row}");
        if expected {
            assert_same_bits(&one.rows, &whole.rows.slice(kept, 1));
            assert_eq!(one.labels()[0], whole.labels()[kept]);
            kept += 1;
        }
    }
    assert_eq!(whole.rows.num_rows(), kept);
    assert_eq!(whole.record.rows + whole.record.unlabelled, spine.num_rows() as u64);
}
