//! Real flights: what the schedule alone tells of lateness.

use std::collections::BTreeMap;
use std::fs::File;
use std::sync::Arc;

use kaizen_core::record::TrainingSet;
use kaizen_core::{DataType, Digest, Field};
use kaizen_table::arrow::array::Float64Array;
use kaizen_table::arrow::compute::{cast, concat_batches, filter_record_batch};
use kaizen_table::arrow::datatypes::DataType as ArrowType;
use kaizen_table::{Estimator, RecordBatch, numbers, with_column};
use kaizen_train::{GradientBoosting, LogisticRegression, Training, train};
use ndarray::Array1;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

/// 1 January 2013 as a day after the epoch, a Tuesday.
const NEW_YEAR: f64 = 15_706.0;

/// The share of (late, punctual) pairs that the scores put in order; ties count half.
pub(crate) fn auc(scores: &Array1<f64>, rows: &RecordBatch) -> f64 {
    let late = numbers(rows, "late").unwrap();
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|a, b| scores[*a].total_cmp(&scores[*b]));
    let (mut below, mut pairs, mut lates) = (0.0, 0.0, 0.0);
    for tied in order.chunk_by(|a, b| scores[*a] == scores[*b]) {
        let late_here = tied.iter().map(|row| late.value(*row)).sum::<f64>();
        let punctual_here = tied.len() as f64 - late_here;
        pairs += late_here * (below + punctual_here / 2.0);
        below += punctual_here;
        lates += late_here;
    }
    pairs / (lates * below)
}

/// The first eight weeks of the year, with the day of the year from 0 and the weekday.
fn flights() -> RecordBatch {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/data/flights.parquet");
    let file = File::open(path).unwrap();
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap();
    let batches: Vec<_> = reader.map(|batch| batch.unwrap()).collect();
    let all = concat_batches(&batches[0].schema(), &batches).unwrap();
    let date = all.column_by_name("date").unwrap();
    let date = cast(&cast(date, &ArrowType::Int32).unwrap(), &ArrowType::Float64).unwrap();
    let all = with_column(&all, "day", date).unwrap();
    let day = numbers(&all, "day").unwrap();
    let weekday: Float64Array = day.iter().map(|day| day.map(|day| (day + 3.0) % 7.0)).collect();
    let all = with_column(&all, "weekday", Arc::new(weekday)).unwrap();
    between(&all, 0.0, 56.0)
}

fn between(rows: &RecordBatch, from: f64, until: f64) -> RecordBatch {
    let day = numbers(rows, "day").unwrap();
    let inside = |day: Option<f64>| day.map(|day| (from..until).contains(&(day - NEW_YEAR)));
    filter_record_batch(rows, &day.iter().map(inside).collect()).unwrap()
}

#[test]
fn the_schedule_tells_something_and_trees_no_less_than_a_line() {
    let rows = flights();
    let (past, future) = (between(&rows, 0.0, 42.0), between(&rows, 42.0, 56.0));
    let texts = ["carrier", "origin", "dest"].map(|name| Field::new(name, DataType::Utf8));
    let numbers = ["distance", "sched_dep_minute", "weekday"];
    let numbers = numbers.map(|name| Field::new(name, DataType::Int64));
    let record = TrainingSet {
        coverage: BTreeMap::new(),
        service: Digest::of("schedule"),
        label_view: Digest::of("late"),
        sources: BTreeMap::new(),
        cutoff: "2013-02-12T05:00:00Z".parse().unwrap(),
        rows: past.num_rows() as u64,
        unlabelled: 0,
        features: texts.into_iter().chain(numbers).collect(),
        label: "late".to_owned(),
        time: "sched_dep".to_owned(),
    };
    let quality = |estimator: Arc<dyn Estimator>| {
        let training = Training::new("schedule", estimator, 1);
        let trained = train(&training, Digest::of("past"), &record, &past).unwrap();
        auc(&trained.score(&future).unwrap(), &future)
    };
    let trees = quality(Arc::new(GradientBoosting::default()));
    let line = quality(Arc::new(LogisticRegression::default()));
    println!("AUC on {} flights: trees {trees:.4}, line {line:.4}", future.num_rows());
    assert!((0.58..0.75).contains(&trees), "{trees}");
    assert!((0.58..0.75).contains(&line), "{line}");
    assert!(trees >= line - 0.01, "trees {trees}, line {line}");
}
