//! Predictions on their way out and back.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray};
use kaizen_core::record::Predictions;
use kaizen_core::{Digest, ErrorKind, Records as _, Timestamp};
use kaizen_data::{PredictionLog, save_predictions};
use kaizen_table::{PredictionSink, PredictionSource, numbers, prediction, texts, with_column};
use kaizen_testkit::MemoryStore;

use crate::cases::instants;

fn rows(ids: &[&str], at: i64) -> RecordBatch {
    let text = |values: Vec<&str>| Arc::new(StringArray::from(values)) as ArrayRef;
    RecordBatch::try_from_iter([
        (prediction::ID, text(ids.to_vec())),
        (prediction::AT, instants(vec![Some(at * 1_000_000_000); ids.len()])),
        (prediction::MODEL, text(vec!["sha256:1"; ids.len()])),
        (prediction::SCORE, Arc::new(Float64Array::from(vec![0.5; ids.len()])) as ArrayRef),
    ])
    .unwrap()
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_nanos(seconds * 1_000_000_000)
}

async fn ids(log: &PredictionLog, from: i64, to: i64) -> Vec<String> {
    let batches = log.read(at(from), at(to)).await.unwrap();
    let id = |batch: &RecordBatch| {
        let ids = texts(batch, prediction::ID).unwrap();
        ids.iter().map(|id| id.unwrap().to_owned()).collect::<Vec<_>>()
    };
    batches.iter().flat_map(id).collect()
}

#[tokio::test]
async fn what_was_written_is_read_in_its_order_flushed_or_not() {
    let folder = tempfile::tempdir().unwrap();
    let log = PredictionLog::open(folder.path().join("new")).await.unwrap();
    assert!(ids(&log, 0, 100).await.is_empty());
    assert_eq!(log.flush().await.unwrap(), None);
    log.write(&rows(&["a", "b"], 10)).await.unwrap();
    log.write(&rows(&["c"], 5)).await.unwrap();
    assert_eq!(ids(&log, 0, 100).await, ["a", "b", "c"]);
    let path = log.flush().await.unwrap().unwrap();
    assert!(path.is_file());
    log.write(&rows(&["d"], 20)).await.unwrap();
    assert_eq!(ids(&log, 0, 100).await, ["a", "b", "c", "d"]);
    assert_eq!(ids(&log, 5, 10).await, ["c"], "the start is in, the end is not");
    assert_eq!(ids(&log, 10, 20).await, ["a", "b"]);
    assert_eq!(ids(&log, 20, 21).await, ["d"]);
    log.flush().await.unwrap().unwrap();
    assert_eq!(ids(&log, 20, 21).await, ["d"]);

    // Another reader; and a file that was never finished.
    let cut_off = folder.path().join("new/.predictions-0000000009.parquet.7-0.tmp");
    std::fs::write(&cut_off, b"PAR").unwrap();
    let again = PredictionLog::open(folder.path().join("new")).await.unwrap();
    assert_eq!(ids(&again, 0, 100).await, ["a", "b", "c", "d"]);
    again.write(&rows(&["e"], 1)).await.unwrap();
    let next = again.flush().await.unwrap().unwrap();
    assert!(next.ends_with("predictions-0000000003.parquet"), "{next:?}");
    assert!(!cut_off.exists(), "what was cut off is cleared away");
}

#[test]
fn a_flush_whose_caller_goes_away_shows_no_row_twice() {
    // The only thread for work on files is busy while the caller waits, and goes away.
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_all().max_blocking_threads(1).build().unwrap();
    runtime.block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let log = PredictionLog::open(folder.path()).await.unwrap();
        log.write(&rows(&["a", "b"], 1)).await.unwrap();
        let (sender, busy) = std::sync::mpsc::channel::<()>();
        let thread = tokio::task::spawn_blocking(move || busy.recv());
        let flush = tokio::time::timeout(std::time::Duration::from_millis(300), log.flush());
        assert!(flush.await.is_err(), "the caller is gone");
        drop(sender);
        assert!(thread.await.unwrap().is_err());
        assert_eq!(ids(&log, 0, 9).await, ["a", "b"]);
        log.flush().await.unwrap();
        assert_eq!(ids(&log, 0, 9).await, ["a", "b"]);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    });
}

#[tokio::test]
async fn two_models_with_different_features_share_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let log = PredictionLog::open(folder.path()).await.unwrap();
    let wind: ArrayRef = Arc::new(Float64Array::from(vec![9.0]));
    let word: ArrayRef = Arc::new(StringArray::from(vec!["calm"]));
    log.write(&rows(&["a"], 1)).await.unwrap();
    log.write(&with_column(&rows(&["b"], 2), "wind", wind).unwrap()).await.unwrap();
    log.flush().await.unwrap();
    let found = log.read(at(0), at(9)).await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(numbers(&found[0], "wind").unwrap().iter().collect::<Vec<_>>(), [None, Some(9.0)]);
    // A column that changes its type begins a file of its own.
    let wind: ArrayRef = Arc::new(Float64Array::from(vec![8.0]));
    log.write(&with_column(&rows(&["c"], 3), "wind", wind).unwrap()).await.unwrap();
    log.write(&with_column(&rows(&["d"], 4), "wind", word).unwrap()).await.unwrap();
    log.flush().await.unwrap();
    assert_eq!(ids(&log, 0, 9).await, ["a", "b", "c", "d"]);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 3);
}

#[tokio::test]
async fn bad_rows_and_bad_files_are_named_and_nothing_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let log = PredictionLog::open(folder.path().join("log")).await.unwrap();
    log.write(&rows(&["a"], 1)).await.unwrap();
    let without = rows(&["b"], 1).project(&[0, 1, 2]).unwrap();
    let error = log.write(&without).await.unwrap_err();
    assert!(error.to_string().contains("column `score` is missing"), "{error}");
    let gap: ArrayRef = Arc::new(StringArray::from(vec![None::<&str>]));
    let unnamed = with_column(&rows(&["b"], 1), prediction::ID, gap).unwrap();
    let error = log.write(&unnamed).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("prediction_id"), "{error}");
    assert_eq!(ids(&log, 0, 9).await, ["a"]);

    // The folder is gone: the rows wait until it is back.
    std::fs::remove_dir_all(folder.path().join("log")).unwrap();
    assert_eq!(log.flush().await.unwrap_err().kind(), ErrorKind::Unavailable);
    std::fs::create_dir(folder.path().join("log")).unwrap();
    log.flush().await.unwrap().unwrap();
    assert_eq!(ids(&log, 0, 9).await, ["a"]);

    let path = folder.path().join("log/predictions-0000000002.parquet");
    std::fs::write(path, b"not parquet").unwrap();
    let error = log.read(at(0), at(9)).await.unwrap_err();
    assert!(error.to_string().contains("predictions-0000000002.parquet"), "{error}");
}

#[tokio::test]
async fn ten_thousand_small_writes_are_one_file() {
    let folder = tempfile::tempdir().unwrap();
    let log = PredictionLog::open(folder.path()).await.unwrap();
    for second in 0..10_000 {
        log.write(&rows(&["x"], second)).await.unwrap();
    }
    log.flush().await.unwrap();
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    assert_eq!(ids(&log, 100, 200).await.len(), 100);
}

#[tokio::test]
async fn predictions_become_a_record() {
    let store = MemoryStore::default();
    let models = [Digest::of("new"), Digest::of("old")].map(|digest| digest.to_string());
    let models: ArrayRef = Arc::new(StringArray::from(models.to_vec()));
    let rows = with_column(&rows(&["a", "b"], 1), prediction::MODEL, models).unwrap();
    let id = save_predictions(&store, &rows, at(0), at(9)).await.unwrap();
    let stored = store.get::<Predictions>(&id).await.unwrap();
    assert_eq!(stored.record.rows, 2);
    let mut expected = [Digest::of("new"), Digest::of("old")];
    expected.sort_unstable();
    assert_eq!(stored.record.models, expected);
    stored.payload(&store, Predictions::ROWS).await.unwrap();
    let odd: ArrayRef = Arc::new(StringArray::from(vec!["champion", "champion"]));
    let odd = with_column(&rows, prediction::MODEL, odd).unwrap();
    let error = save_predictions(&store, &odd, at(0), at(9)).await.unwrap_err();
    assert!(error.to_string().contains("champion"), "{error}");
}
