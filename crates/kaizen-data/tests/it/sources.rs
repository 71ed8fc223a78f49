//! Sources, and files that are none.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, Float64Array, Int16Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use kaizen_core::{DataType, Digest, Error, ErrorKind};
use kaizen_data::{FeatureStore, FileSource, Format, MemorySource};
use kaizen_table::{FeatureService, FeatureView, Source, numbers};
use kaizen_testkit::source::suite;
use parquet::arrow::ArrowWriter;

use crate::cases::instants;

fn table() -> RecordBatch {
    let columns: [(&str, ArrayRef); 4] = [
        ("carrier", Arc::new(StringArray::from(vec![Some("UA"), None, Some("")]))),
        ("delay", Arc::new(Int16Array::from(vec![Some(-3), Some(20), None]))),
        ("wind", Arc::new(Float64Array::from(vec![0.5, f64::NAN, -0.0]))),
        ("naive", Arc::new(TimestampMicrosecondArray::from(vec![1, 2, 3]))),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

fn parquet(path: &Path, batch: &RecordBatch) {
    let file = std::fs::File::create(path).unwrap();
    let mut writer = ArrowWriter::try_new(file, batch.schema(), None).unwrap();
    writer.write(batch).unwrap();
    writer.close().unwrap();
}

#[tokio::test]
async fn memory_conforms() {
    suite(&MemorySource::new("m", table()), &table()).await;
    suite(&MemorySource::new("m", table().slice(1, 0)), &table().slice(0, 0)).await;
}

#[tokio::test]
async fn parquet_conforms() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.parquet");
    parquet(&path, &table());
    let source = FileSource::open("t", &path).await.unwrap();
    suite(&source, &table()).await;
    let scan = source.read(&[]).await.unwrap();
    assert_eq!(scan.batches[0].num_rows(), 3, "rows without columns are rows");
    let empty = folder.path().join("empty.parquet");
    parquet(&empty, &table().slice(0, 0));
    suite(&FileSource::open("e", &empty).await.unwrap(), &table().slice(0, 0)).await;
}

#[tokio::test]
async fn the_digest_is_that_of_the_bytes_that_were_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.parquet");
    parquet(&path, &table());
    let source = FileSource::open("t", &path).await.unwrap();
    let first = source.read(&["delay"]).await.unwrap();
    assert_eq!(first.digest, Digest::of(std::fs::read(&path).unwrap()));
    parquet(&path, &table().slice(0, 2));
    let second = source.read(&["delay"]).await.unwrap();
    assert_eq!(second.digest, Digest::of(std::fs::read(&path).unwrap()));
    assert_eq!((first.batches[0].num_rows(), second.batches[0].num_rows()), (3, 2));
    std::fs::remove_file(&path).unwrap();
    let gone = source.read(&["delay"]).await.unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::NotFound);
    assert!(gone.to_string().contains("source `t`") && gone.to_string().contains("t.parquet"));
}

#[tokio::test]
async fn a_changed_file_is_joined_anew() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.parquet");
    let write = |values: Vec<f64>| {
        let columns: [(&str, ArrayRef); 3] = [
            ("k", Arc::new(StringArray::from(vec!["a"; values.len()]))),
            ("event_time", instants(vec![Some(0); values.len()])),
            ("x", Arc::new(Float64Array::from(values))),
        ];
        parquet(&path, &RecordBatch::try_from_iter(columns).unwrap());
    };
    let view = FeatureView::builder("v").source("t").key("k").column("x", DataType::Float64);
    let service = FeatureService::new("s", 1, vec![], vec![view.build().unwrap()]).unwrap();
    let keys: ArrayRef = Arc::new(StringArray::from(vec!["a"]));
    let asked = RecordBatch::try_from_iter([("k", keys), ("at", instants(vec![Some(9)]))]).unwrap();
    write(vec![1.0]);
    let store = FeatureStore::new(vec![Arc::new(FileSource::open("t", &path).await.unwrap())]);
    for _ in 0..2 {
        let found = store.features(&service, &asked, "at").await.unwrap();
        assert_eq!(numbers(&found, "x").unwrap().value(0), 1.0);
    }
    write(vec![1.0, 2.0]);
    let found = store.features(&service, &asked, "at").await.unwrap();
    assert_eq!(numbers(&found, "x").unwrap().value(0), 2.0);
}

async fn refusal(path: &Path) -> Error {
    match FileSource::builder("t", path).format(Format::Parquet).open().await {
        Err(error) => error,
        Ok(source) => source.read(&["carrier", "delay", "wind"]).await.unwrap_err(),
    }
}

#[tokio::test]
async fn what_is_not_parquet_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let whole = folder.path().join("whole.parquet");
    parquet(&whole, &table());
    let whole = std::fs::read(whole).unwrap();
    let mut footer = whole.clone();
    let end = footer.len();
    footer[end - 40..end - 8].fill(0xff);
    let mut pages = whole.clone();
    pages[4..200].fill(0x5a);
    let cases = [
        (at("x.csv", b"carrier,delay\nUA,3\n"), ErrorKind::Invalid, "not a Parquet file"),
        (at("none.parquet", b""), ErrorKind::Invalid, "is empty"),
        (at("cut.parquet", &whole[..end / 2]), ErrorKind::Corrupt, "cut off"),
        (at("magic.parquet", b"PAR1"), ErrorKind::Corrupt, "footer"),
        (at("footer.parquet", &footer), ErrorKind::Corrupt, "footer"),
        (at("pages.parquet", &pages), ErrorKind::Corrupt, "columns"),
        (folder.path().join("missing"), ErrorKind::NotFound, "missing"),
    ];
    for (path, kind, part) in cases {
        let error = refusal(&path).await;
        assert_eq!(error.kind(), kind, "{error:?}");
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        assert!(error.to_string().contains(&name), "{error} names {name}");
        assert!(error.to_string().contains(part), "{error} says {part}");
    }
}
