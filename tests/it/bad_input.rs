//! Bad input gets a clear error that names the thing at fault, and nothing is lost.

use std::path::Path;
use std::sync::Arc;

use kaizen::arrow::array::{ArrayRef, Float64Array, StringArray, TimestampSecondArray};
use kaizen::core::record::Occurrence;
use kaizen::core::{Entry, Event, OperationId, Signature};
use kaizen::data::{Format, MemorySource};
use kaizen::package::{ModelParts, load_model, save_model};
use kaizen::prelude::*;
use kaizen::store::{Ed25519Signer, LocalLog, LocalStore};
use kaizen::table::RecordBatch;

fn weather(source: &str) -> FeatureService {
    let view = FeatureView::builder("weather")
        .source(source)
        .key("origin")
        .event_time("time")
        .column("temp", DataType::Float64)
        .build()
        .unwrap();
    FeatureService::new("s", 1, vec![], vec![view]).unwrap()
}

fn table(columns: &[(&str, ArrayRef)]) -> RecordBatch {
    RecordBatch::try_from_iter(columns.iter().cloned()).unwrap()
}

fn instants(zone: Option<&str>) -> ArrayRef {
    let seconds = TimestampSecondArray::from(vec![60]);
    Arc::new(seconds.with_timezone_opt(zone.map(Arc::<str>::from)))
}

fn airport() -> ArrayRef {
    Arc::new(StringArray::from(vec!["JFK"]))
}

async fn ask(source: Arc<dyn Source>, time: &str, asked: ArrayRef) -> Error {
    let name = source.name().to_owned();
    let request = table(&[("origin", airport()), (time, asked)]);
    FeatureStore::new(vec![source]).features(&weather(&name), &request, time).await.unwrap_err()
}

#[tokio::test]
async fn a_csv_where_parquet_is_expected() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("weather.csv");
    std::fs::write(&path, "origin,time,temp\nJFK,2013-01-01T00:00:00Z,39.0\n").unwrap();
    let parquet = FileSource::builder("weather", &path).format(Format::Parquet);
    let error = match parquet.open().await {
        Err(error) => error,
        Ok(source) => ask(Arc::new(source), "at", instants(Some("UTC"))).await,
    };
    let text = format!("{error:#}");
    assert!(text.contains("weather.csv") && text.contains("Parquet"), "{text}");
}

#[tokio::test]
async fn a_missing_column() {
    let rows = table(&[("origin", airport()), ("time", instants(Some("UTC")))]);
    let source = Arc::new(MemorySource::new("weather", rows));
    let error = ask(source, "at", instants(Some("UTC"))).await;
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(format!("{error:#}").contains("`temp`"), "{error:#}");
}

#[tokio::test]
async fn a_naive_timestamp_in_the_source_or_in_the_question() {
    let rows = |zone| {
        let temp: ArrayRef = Arc::new(Float64Array::from(vec![39.0]));
        let rows = table(&[("origin", airport()), ("time", instants(zone)), ("temp", temp)]);
        Arc::new(MemorySource::new("weather", rows))
    };
    let error = ask(rows(None), "at", instants(Some("UTC"))).await;
    let text = format!("{error:#}");
    assert!(text.contains("`time`") && text.contains("naive"), "{text}");
    let error = ask(rows(Some("UTC")), "at", instants(None)).await;
    let text = format!("{error:#}");
    assert!(text.contains("`at`") && text.contains("naive"), "{text}");
}

#[tokio::test]
async fn a_truncated_blob() {
    let dir = tempfile::tempdir().unwrap();
    let store = LocalStore::open(dir.path()).await.unwrap();
    let blob = store.put_blob("a payload of some length".into()).await.unwrap();
    let path = store.blob_path(&blob);
    let bytes = std::fs::read(&path).unwrap();
    write_over(&path, &bytes[..10]);
    let error = LocalStore::open(dir.path()).await.unwrap().get_blob(&blob).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(format!("{error:#}").contains(&blob.hex()), "{error:#}");
    // What is whole is still there.
    let other = store.put_blob("another".into()).await.unwrap();
    assert_eq!(store.get_blob(&other).await.unwrap(), "another");
}

#[tokio::test]
async fn a_tampered_model() {
    let dir = tempfile::tempdir().unwrap();
    let store = LocalStore::open(dir.path()).await.unwrap();
    let inputs = vec![Field::new("x", DataType::Float64)];
    let parts = ModelParts {
        name: "m".into(),
        training_set: Digest::of("set"),
        algorithm: kaizen::core::record::Algorithm {
            name: "constant".into(),
            settings: Default::default(),
        },
        seed: 1,
        signature: Signature::new(inputs, vec![]).unwrap(),
        service: Digest::of("service"),
        format: "constant".into(),
        encoder: "{}".into(),
        weights: "0.25".into(),
    };
    let model = save_model(&store, parts).await.unwrap();
    let whole = load_model(&store, &model).await.unwrap();
    let weights = store.manifest(&whole.record.weights).await.unwrap().layers[0].digest;
    let path = store.blob_path(&weights);
    let mut bytes = std::fs::read(&path).unwrap();
    let at = bytes.windows(4).position(|four| four == b"0.25").unwrap();
    bytes[at + 2] = b'9';
    write_over(&path, &bytes);
    let error = load_model(&store, &model).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(format!("{error:#}").contains(&weights.hex()), "{error:#}");
}

#[tokio::test]
async fn a_log_with_one_changed_byte() {
    let dir = tempfile::tempdir().unwrap();
    let signer = Arc::new(Ed25519Signer::from_seed("example.com/log", [7; 32]).unwrap());
    let log = LocalLog::open(dir.path(), signer).await.unwrap();
    let at: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    let Occurrence { at, actor, operation } =
        Occurrence::new(at, Actor::person("ada"), OperationId::new("test", at));
    let subject = Digest::of("subject");
    let entry =
        Entry { at, actor, operation, event: Event::Trained, subject, evidence: vec![subject] };
    log.append(&[entry.clone(), entry], None).await.unwrap();
    log.publish().await.unwrap();
    LocalLog::verify(dir.path(), log.key()).await.unwrap();
    for file in files(dir.path()) {
        let whole = std::fs::read(&file).unwrap();
        // Once everything is published the journal holds nothing; and what processes tell each
        // other in the lock is no part of the log.
        if ["journal", "checkpoint.lock"].iter().any(|name| file.ends_with(name)) {
            continue;
        }
        let mut bytes = whole.clone();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        write_over(&file, &bytes);
        let error = LocalLog::verify(dir.path(), log.key()).await.map(|found| found.size);
        let text = format!("{:#}", error.unwrap_err());
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        assert!(text.contains(&name), "{file:?}: {text}");
        write_over(&file, &whole);
    }
    LocalLog::verify(dir.path(), log.key()).await.unwrap();
}

/// Blobs and tiles may be read-only; an attacker with the right to the folder does not mind.
fn write_over(path: &Path, bytes: &[u8]) {
    std::fs::remove_file(path).unwrap();
    std::fs::write(path, bytes).unwrap();
}

fn files(dir: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => found.push(path),
        }
    }
    found.sort();
    found
}
