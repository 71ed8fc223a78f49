//! Files in object stores, of which SeaweedFS and Azurite are the judges.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use arrow::compute::{concat_batches, filter_record_batch};
use kaizen_core::{Digest, ErrorKind};
use kaizen_data::{FileSource, FileSourceBuilder, Format};
use kaizen_table::{During, Query, Source, with_column};
use kaizen_testkit::source::suite;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _};

use crate::files::{all, encoded, rows};

/// The key of the account that Azurite and every client of it knows.
const AZURITE_KEY: &str =
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// A folder of a bucket, which no other test uses.
struct Judge {
    store: Arc<dyn ObjectStore>,
    url: String,
    folder: String,
    options: Vec<(&'static str, String)>,
}

impl Judge {
    fn of(test: &str, url: &str, options: Vec<(&'static str, String)>) -> Option<Self> {
        let url = kaizen_testkit::judge::variable(url)?;
        let parsed = url::Url::parse(&url).unwrap();
        let (store, _) = object_store::parse_url_opts(&parsed, options.clone()).unwrap();
        let folder = format!("{test}-{}", std::process::id());
        let url = format!("{url}/{folder}");
        Some(Self { store: store.into(), url, folder, options })
    }

    fn s3(test: &str) -> Option<Self> {
        let variable = |name: &str| std::env::var(name).unwrap_or_default();
        let options = vec![
            ("aws_endpoint", variable("KAIZEN_S3_ENDPOINT")),
            ("aws_access_key_id", variable("KAIZEN_S3_KEY")),
            ("aws_secret_access_key", variable("KAIZEN_S3_SECRET")),
            ("aws_region", "us-east-1".to_owned()),
            ("allow_http", "true".to_owned()),
        ];
        Self::of(test, "KAIZEN_S3_URL", options)
    }

    fn azure(test: &str) -> Option<Self> {
        let options = vec![
            ("azure_storage_account_name", "devstoreaccount1".to_owned()),
            ("azure_storage_account_key", AZURITE_KEY.to_owned()),
            ("azure_endpoint", std::env::var("KAIZEN_AZURE_ENDPOINT").unwrap_or_default()),
            ("allow_http", "true".to_owned()),
        ];
        Self::of(test, "KAIZEN_AZURE_URL", options)
    }

    async fn put(&self, name: &str, bytes: Vec<u8>) {
        self.store.put(&self.path(name), bytes.into()).await.unwrap();
    }

    async fn delete(&self, name: &str) {
        self.store.delete(&self.path(name)).await.unwrap();
    }

    fn path(&self, name: &str) -> Path {
        Path::parse(format!("{}/{name}", self.folder)).unwrap()
    }

    fn builder(&self, name: &str) -> FileSourceBuilder {
        let mut builder = FileSource::builder("far", format!("{}/{name}", self.url));
        for (key, value) in &self.options {
            builder = builder.option(*key, value);
        }
        builder
    }
}

fn parquet(from: i64, count: i64) -> Vec<u8> {
    encoded(Format::Parquet, &rows(from, count), 10)
}

async fn folders_are_read_as_tables(judge: Judge) {
    for (n, name) in ["day=1/c=a%20b/x.parquet", "day=2/c=c/y.parquet"].iter().enumerate() {
        judge.put(&format!("t/{name}"), parquet(n as i64 * 50, 50)).await;
    }
    judge.put("t/_SUCCESS", vec![]).await;
    let source = judge.builder("t").open().await.unwrap();
    let days: ArrayRef = Arc::new(Int64Array::from_iter_values((0..100).map(|n| 1 + n / 50)));
    let cities = (0..100).map(|n| if n < 50 { "a b" } else { "c" });
    let cities: ArrayRef = Arc::new(arrow::array::StringArray::from_iter_values(cities));
    let expected = with_column(&rows(0, 100), "day", days).unwrap();
    suite(&source, &with_column(&expected, "c", cities).unwrap()).await;
    let one = judge.builder("t").partition("day", "2").open().await.unwrap();
    assert_eq!(all(&one, &Query::columns(&["k", "at", "x"])).await, rows(50, 50));
    let glob = judge.builder("t/**/x.parquet").open().await.unwrap();
    assert_eq!(all(&glob, &Query::columns(&["k", "at", "x"])).await, rows(0, 50));
    let file = judge.builder("t/day=2/c=c/y.parquet").open().await.unwrap();
    suite(&file, &rows(50, 50)).await;
    let none = judge.builder("nothing").open().await.unwrap_err();
    assert_eq!(none.kind(), ErrorKind::NotFound, "{none:?}");
    let wrong = judge.builder("t").option("aws_secret_access_key", "wrong");
    let wrong = wrong.option("azure_storage_account_key", "d3Jvbmc=").open().await;
    assert!(wrong.is_err());
}

async fn only_what_is_asked_for_is_decoded(judge: Judge) {
    for n in 0..3 {
        judge.put(&format!("t/{n}.parquet"), parquet(n * 100, 100)).await;
    }
    judge.put("ipc/t.arrow", encoded(Format::Ipc, &rows(0, 100), 10)).await;
    let source = judge.builder("t").open().await.unwrap();
    let during = Some(During { column: "at", span: 955..1_255 });
    let query = Query { during, ..Query::columns(&["k", "at", "x"]) };
    assert_eq!(all(&source, &query).await, rows(96, 30));
    assert_eq!((source.reads().groups, source.reads().skipped), (4, 26));
    assert!(source.spans("at", 45).await.unwrap().len() > 5);
    let ipc = judge.builder("ipc/t.arrow").open().await.unwrap();
    assert_eq!(all(&ipc, &query).await, rows(96, 4));
}

async fn what_was_read_is_read_again_or_named(judge: Judge) {
    for n in 0..3 {
        judge.put(&format!("t/{n}.parquet"), parquet(n * 10, 10)).await;
    }
    let source = judge.builder("t").open().await.unwrap();
    let first = source.read(&["k"]).await.unwrap();
    assert_eq!(first.files[1].digest, Digest::of(parquet(10, 10)));
    judge.put("t/3.parquet", parquet(30, 10)).await;
    assert_eq!(source.read(&["k"]).await.unwrap().files.len(), 4);
    let pinned = Query { files: Some(&first.files), ..Query::columns(&["k"]) };
    assert_eq!(source.scan(&pinned).await.unwrap().batches, first.batches);
    judge.put("t/1.parquet", parquet(10, 9)).await;
    let changed = source.scan(&pinned).await.unwrap_err();
    assert_eq!(changed.kind(), ErrorKind::Conflict, "{changed:?}");
    assert!(changed.to_string().contains("1.parquet"), "{changed}");
    judge.delete("t/1.parquet").await;
    let gone = source.scan(&pinned).await.unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::NotFound, "{gone:?}");
    assert!(gone.to_string().contains("1.parquet"), "{gone}");
    let one = judge.builder("t/2.parquet").open().await.unwrap();
    judge.delete("t/2.parquet").await;
    let gone = one.read(&["k"]).await.unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::NotFound, "{gone:?}");
    assert!(gone.to_string().contains("2.parquet"), "{gone}");
}

async fn objects_forget(judge: Judge) {
    for (format, ending) in [(Format::Parquet, "parquet"), (Format::Ipc, "arrow")] {
        for n in 0..3 {
            let bytes = encoded(format, &rows(n * 10, 10), 4);
            judge.put(&format!("{ending}/{n}.{ending}"), bytes).await;
        }
        let source = judge.builder(ending).open().await.unwrap();
        let one: ArrayRef = Arc::new(Int64Array::from(vec![1]));
        let entities = RecordBatch::try_from_iter([("k", one)]).unwrap();
        assert_eq!(source.forget(&entities.slice(0, 0)).await.unwrap(), 0);
        assert_eq!(source.forget(&entities).await.unwrap(), 8);
        assert_eq!(source.forget(&entities).await.unwrap(), 0);
        let mask = (0..30).map(|n| Some(n % 4 != 1)).collect();
        let expected = filter_record_batch(&rows(0, 30), &mask).unwrap();
        let found = all(&source, &Query::columns(&["k", "at", "x"])).await;
        assert_eq!(found, concat_batches(&expected.schema(), [&expected]).unwrap());
    }
}

macro_rules! on_both {
    ($($s3:ident, $azure:ident => $test:ident;)*) => {$(
        #[tokio::test]
        async fn $s3() {
            if let Some(judge) = Judge::s3(stringify!($test)) {
                $test(judge).await;
            }
        }

        #[tokio::test]
        async fn $azure() {
            if let Some(judge) = Judge::azure(stringify!($test)) {
                $test(judge).await;
            }
        }
    )*};
}

on_both! {
    s3_folders_are_read_as_tables, azure_folders_are_read_as_tables => folders_are_read_as_tables;
    s3_only_what_is_asked_for_is_decoded, azure_only_what_is_asked_for_is_decoded =>
        only_what_is_asked_for_is_decoded;
    s3_what_was_read_is_read_again_or_named, azure_what_was_read_is_read_again_or_named =>
        what_was_read_is_read_again_or_named;
    s3_objects_forget, azure_objects_forget => objects_forget;
}
