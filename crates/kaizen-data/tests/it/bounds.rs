//! Odd sizes and odd rows: nothing is lost, and what cannot be is said.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch};
use arrow::datatypes::{Field as ArrowField, Schema};
use kaizen_core::{DataType, ErrorKind, Field, Timestamp};
use kaizen_data::{FeatureStore, MemorySource, TrainingData};
use kaizen_table::{FeatureService, FeatureView, LabelView};
use kaizen_testkit::MemoryStore;

use crate::cases::{assert_same_bits, instants};

const S: i64 = 1_000_000_000;

/// So many columns of three rows, named `c0` and on.
fn wide(columns: usize) -> RecordBatch {
    let mut fields = vec![ArrowField::new("id", arrow::datatypes::DataType::Int64, true)];
    let mut values: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(vec![1, 2, 3]))];
    let event = instants(vec![Some(S), Some(2 * S), Some(3 * S)]);
    fields.push(ArrowField::new("event_time", event.data_type().clone(), true));
    values.push(event);
    for column in 0..columns {
        let column_values = [0.0, 1.0, 2.0].map(|row| row + column as f64);
        fields.push(ArrowField::new(
            format!("c{column}"),
            arrow::datatypes::DataType::Float64,
            true,
        ));
        values.push(Arc::new(Float64Array::from(column_values.to_vec())));
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), values).unwrap()
}

fn service(columns: usize) -> FeatureService {
    let mut view = FeatureView::builder("v").source("s").key("id");
    for column in 0..columns {
        view = view.column(&format!("c{column}"), DataType::Float64);
    }
    FeatureService::new("wide", 1, vec![], vec![view.build().unwrap()]).unwrap()
}

fn outcomes() -> RecordBatch {
    let columns: [(&str, ArrayRef); 3] = [
        ("id", Arc::new(Int64Array::from(vec![1, 2, 3]))),
        ("late", Arc::new(BooleanArray::from(vec![true, false, true]))),
        ("known_at", instants(vec![Some(5 * S); 3])),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

fn store(columns: usize) -> FeatureStore {
    FeatureStore::new(vec![
        Arc::new(MemorySource::new("s", wide(columns))),
        Arc::new(MemorySource::new("outcomes", outcomes())),
    ])
}

fn labels() -> LabelView {
    LabelView::new("late", "outcomes", vec!["id".into()], "late", "known_at").unwrap()
}

fn spine(rows: Vec<(i64, i64)>) -> RecordBatch {
    let ids: ArrayRef = Arc::new(rows.iter().map(|row| row.0).collect::<Int64Array>());
    let at = instants(rows.iter().map(|row| Some(row.1)).collect());
    RecordBatch::try_from_iter([("id", ids), ("at", at)]).unwrap()
}

#[tokio::test]
async fn a_service_of_ten_thousand_columns_is_trained_stored_and_read() {
    let (store, service) = (store(10_000), service(10_000));
    let asked = spine(vec![(3, 4 * S), (1, 4 * S), (9, 4 * S)]);
    let cutoff = Timestamp::from_nanos(10 * S);
    let data = store.training_set(&service, &labels(), &asked, "at", cutoff).await.unwrap();
    assert_eq!((data.record.rows, data.record.features.len()), (2, 10_000));
    let last = kaizen_table::numbers(&data.rows, "c9999").unwrap();
    assert_eq!(last.values(), &[10_001.0, 9_999.0]);
    let artifacts = MemoryStore::default();
    let id = data.save(&artifacts).await.unwrap();
    assert_eq!(TrainingData::load(&artifacts, &id).await.unwrap(), data);
}

#[tokio::test]
async fn more_columns_than_can_be_stored_are_a_limit() {
    let fields = (0..20_000).map(|n| Field::new(format!("r{n}"), DataType::Float64)).collect();
    let service = FeatureService::new("wider", 1, fields, vec![]).unwrap();
    let mut fields: Vec<_> = spine(vec![]).schema().fields().iter().cloned().collect();
    let mut columns = spine(vec![]).columns().to_vec();
    for n in 0..20_000 {
        let float = arrow::datatypes::DataType::Float64;
        fields.push(Arc::new(ArrowField::new(format!("r{n}"), float, true)));
        columns.push(Arc::new(Float64Array::from(Vec::<f64>::new())));
    }
    let asked = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap();
    let cutoff = Timestamp::from_nanos(10 * S);
    let data = store(1).training_set(&service, &labels(), &asked, "at", cutoff).await.unwrap();
    let error = data.save(&MemoryStore::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Limit);
    assert!(error.to_string().contains("20003 columns"), "{error}");
}

#[tokio::test]
async fn nobody_asks() {
    let (store, service) = (store(2), service(2));
    let cutoff = Timestamp::from_nanos(10 * S);
    let data = store.training_set(&service, &labels(), &spine(vec![]), "at", cutoff).await.unwrap();
    assert_eq!((data.record.rows, data.record.unlabelled), (0, 0));
    assert_eq!((data.rows.num_columns(), data.labels().len()), (5, 0));
    let artifacts = MemoryStore::default();
    let id = data.save(&artifacts).await.unwrap();
    let loaded = TrainingData::load(&artifacts, &id).await.unwrap();
    assert_eq!(loaded, data);
    assert_eq!(store.reproduce(&loaded).await.unwrap(), data);
}

#[tokio::test]
async fn rows_that_ask_twice_are_answered_twice_and_later_ones_than_now_as_now() {
    let (store, service) = (store(2), service(2));
    let far = i64::MAX - 1;
    let asked = spine(vec![(2, 4 * S), (2, 4 * S), (2, far), (2, i64::MIN), (2, 4 * S)]);
    let found = store.features(&service, &asked, "at").await.unwrap();
    assert_eq!(found.num_rows(), 5);
    for row in [1, 4] {
        assert_same_bits(&found.slice(row, 1), &found.slice(0, 1));
    }
    let c0 = kaizen_table::numbers(&found, "c0").unwrap();
    assert_eq!(c0.iter().collect::<Vec<_>>()[..4], [Some(1.0), Some(1.0), Some(1.0), None]);
    // A training set keeps the duplicates and leaves out what asks after the cut-off.
    let cutoff = Timestamp::from_nanos(10 * S);
    let data = store.training_set(&service, &labels(), &asked, "at", cutoff).await.unwrap();
    assert_eq!((data.record.rows, data.record.unlabelled), (4, 1));
}
