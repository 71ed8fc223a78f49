//! Entities that are forgotten in files.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray};
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::DataType;
use kaizen_core::ErrorKind;
use kaizen_data::{FileSource, Format};
use kaizen_table::{Query, Source, with_column};

use crate::files::{all, csv, encoded, parquet, put, rows};

fn without_ones(from: i64, count: i64) -> RecordBatch {
    let mask = (from..from + count).map(|n| Some(n % 4 != 1)).collect();
    arrow::compute::filter_record_batch(&rows(from, count), &mask).unwrap()
}

#[tokio::test]
async fn files_forget_and_keep_everything_else() {
    let one: ArrayRef = Arc::new(Int32Array::from(vec![1]));
    let entities = RecordBatch::try_from_iter([("k", one)]).unwrap();
    for (format, ending) in [(Format::Parquet, "parquet"), (Format::Ipc, "arrow")] {
        let folder = tempfile::tempdir().unwrap();
        for n in 0..3 {
            put(folder.path(), &format!("{n}.{ending}"), &encoded(format, &rows(n * 10, 10), 4));
        }
        let others = arrow::compute::filter_record_batch(
            &rows(0, 40),
            &(0..40).map(|n| Some(n % 4 == 0)).collect(),
        )
        .unwrap();
        let untouched = put(folder.path(), &format!("9.{ending}"), &encoded(format, &others, 4));
        let before = std::fs::metadata(&untouched).unwrap().modified().unwrap();
        let source = FileSource::open("f", folder.path()).await.unwrap();
        let first = source.read(&["k"]).await.unwrap();
        assert_eq!(source.forget(&entities.slice(0, 0)).await.unwrap(), 0);
        assert_eq!(source.read(&["k"]).await.unwrap().digest, first.digest);
        assert_eq!(source.forget(&entities).await.unwrap(), 8);
        assert_eq!(source.forget(&entities).await.unwrap(), 0);
        let names = ["k", "at", "x"];
        let expected = concat_batches(&others.schema(), [&without_ones(0, 30), &others]).unwrap();
        assert_eq!(all(&source, &Query::columns(&names)).await, expected);
        assert_eq!(std::fs::metadata(&untouched).unwrap().modified().unwrap(), before);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 4, "nothing is left behind");
        if format == Format::Parquet {
            let file = std::fs::File::open(folder.path().join("0.parquet")).unwrap();
            let reader =
                parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(file);
            let notes =
                reader.unwrap().metadata().file_metadata().key_value_metadata().cloned().unwrap();
            assert!(notes.iter().any(|note| note.key == "made by"), "{notes:?}");
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let bytes = encoded(Format::Csv, &rows(0, 10), 10);
    let path = put(folder.path(), "t.csv", &bytes);
    let source = csv("f", &path).open().await.unwrap();
    for entities in [entities.clone(), entities.slice(0, 0)] {
        assert_eq!(source.forget(&entities).await.unwrap_err().kind(), ErrorKind::Unsupported);
    }
    assert_eq!(std::fs::read(&path).unwrap(), bytes);
}

#[tokio::test]
async fn keys_in_the_names_of_folders_are_forgotten_too() {
    let folder = tempfile::tempdir().unwrap();
    for city in ["Bonn", "Rome"] {
        parquet(folder.path(), &format!("city={city}/t.parquet"), &rows(0, 8));
    }
    let source = FileSource::open("f", folder.path()).await.unwrap();
    let columns: [(&str, ArrayRef); 2] = [
        ("city", Arc::new(StringArray::from(vec!["Rome"]))),
        ("k", Arc::new(Int64Array::from(vec![2]))),
    ];
    let entities = RecordBatch::try_from_iter(columns).unwrap();
    assert_eq!(source.forget(&entities).await.unwrap(), 2);
    assert_eq!(all(&source, &Query::columns(&["city", "k"])).await.num_rows(), 14);
    let naming = RecordBatch::try_from_iter([("no such", entities.column(0).clone())]).unwrap();
    let error = source.forget(&naming).await.unwrap_err();
    assert!(error.to_string().contains("`no such`"), "{error}");
}

#[test]
fn an_unsigned_key_type_is_kept() {
    // What is written and read again has the type that it had.
    let small = cast(rows(0, 3).column(0), &DataType::UInt8).unwrap();
    let table = with_column(&rows(0, 3), "k", small).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = parquet(folder.path(), "t.parquet", &table);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let source = FileSource::open("f", &path).await.unwrap();
        let entities =
            RecordBatch::try_from_iter([("k", Arc::new(Int64Array::from(vec![1])) as ArrayRef)]);
        assert_eq!(source.forget(&entities.unwrap()).await.unwrap(), 1);
        let schema = source.schema().await.unwrap();
        assert_eq!(schema.field(0).data_type(), &DataType::UInt8);
    });
}

#[tokio::test]
async fn a_rewriting_that_was_cut_off_leaves_nothing_that_is_read() {
    let folder = tempfile::tempdir().unwrap();
    for n in 0..2 {
        parquet(folder.path(), &format!("{n}.parquet"), &rows(n * 10, 10));
    }
    put(folder.path(), ".0.parquet.77-0.tmp", b"PAR1 cut off");
    for pattern in ["*", "**", "?.parquet"] {
        let source = FileSource::builder("f", folder.path().join(pattern)).format(Format::Parquet);
        let source = source.open().await.unwrap();
        assert_eq!(all(&source, &Query::columns(&["k", "at", "x"])).await, rows(0, 20));
    }
    let source = FileSource::open("f", folder.path()).await.unwrap();
    let keys: ArrayRef = Arc::new(Int64Array::from(vec![1]));
    source.forget(&RecordBatch::try_from_iter([("k", keys)]).unwrap()).await.unwrap();
    let names = std::fs::read_dir(folder.path()).unwrap();
    let mut names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["0.parquet", "1.parquet"], "what was left is cleared away");
}
