//! Files as a source: where they lie, what is read of them, and files that are none.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Float64Type, Int64Type, TimeUnit, TimestampNanosecondType};
use arrow::ipc::writer::FileWriter;
use kaizen_core::{Digest, Error, ErrorKind};
use kaizen_data::{FileSource, Format};
use kaizen_table::{During, Query, Source, SourceFile, instants, with_column};
use kaizen_testkit::source::suite;
use parquet::arrow::ArrowWriter;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use proptest::prelude::*;

use crate::cases::instants as at;

/// Rows of which row `n` has the instant `10 n`.
pub(crate) fn rows(from: i64, count: i64) -> RecordBatch {
    let range = from..from + count;
    let columns: [(&str, ArrayRef); 3] = [
        ("k", Arc::new(Int64Array::from_iter_values(range.clone().map(|n| n % 4)))),
        ("at", at(range.clone().map(|n| Some(n * 10)).collect())),
        ("x", Arc::new(range.map(|n| (n % 7 != 0).then_some(n as f64)).collect::<Float64Array>())),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.map(|(name, values)| (name, values, true)))
        .unwrap()
}

/// Encodes with at most so many rows in a group.
pub(crate) fn encoded(format: Format, batch: &RecordBatch, group: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    match format {
        Format::Parquet => {
            let notes = vec![KeyValue::new("made by".to_owned(), "a test".to_owned())];
            let properties = WriterProperties::builder()
                .set_max_row_group_row_count(Some(group))
                .set_key_value_metadata(Some(notes))
                .build();
            let mut writer =
                ArrowWriter::try_new(&mut bytes, batch.schema(), Some(properties)).unwrap();
            writer.write(batch).unwrap();
            writer.close().unwrap();
        }
        Format::Ipc => {
            let mut writer = FileWriter::try_new(&mut bytes, &batch.schema()).unwrap();
            for start in (0..batch.num_rows()).step_by(group) {
                let length = group.min(batch.num_rows() - start);
                writer.write(&batch.slice(start, length)).unwrap();
            }
            writer.finish().unwrap();
        }
        _ => {
            let values = |name: &str| batch.column_by_name(name).unwrap();
            let keys = values("k").as_primitive::<Int64Type>();
            let times = values("at").as_primitive::<TimestampNanosecondType>();
            let numbers = values("x").as_primitive::<Float64Type>();
            bytes.extend(b"k,at,x\n");
            for row in 0..batch.num_rows() {
                let number = numbers.is_valid(row).then(|| numbers.value(row).to_string());
                let (key, nanos, number) =
                    (keys.value(row), times.value(row), number.unwrap_or_default());
                let line = format!("{key},1970-01-01T00:00:00.{nanos:09}Z,{number}\n");
                bytes.extend(line.into_bytes());
            }
        }
    }
    bytes
}

pub(crate) fn put(folder: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, bytes).unwrap();
    path
}

pub(crate) fn parquet(folder: &Path, name: &str, batch: &RecordBatch) -> PathBuf {
    put(folder, name, &encoded(Format::Parquet, batch, 10))
}

pub(crate) async fn all(source: &dyn Source, query: &Query<'_>) -> RecordBatch {
    let scan = source.scan(query).await.unwrap();
    concat_batches(scan.batches[0].schema_ref(), &scan.batches).unwrap()
}

pub(crate) fn csv(name: &str, path: impl AsRef<Path>) -> kaizen_data::FileSourceBuilder {
    FileSource::builder(name, path)
        .column("k", DataType::Int64)
        .column("at", DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into())))
        .column("x", DataType::Float64)
}

#[tokio::test]
async fn each_format_conforms_alone_and_in_a_folder() {
    for (format, ending) in
        [(Format::Parquet, "parquet"), (Format::Ipc, "arrow"), (Format::Csv, "csv")]
    {
        let folder = tempfile::tempdir().unwrap();
        let whole = rows(0, 95);
        let one = put(folder.path(), &format!("one.{ending}"), &encoded(format, &whole, 10));
        suite(&csv("f", &one).open().await.unwrap(), &whole).await;
        let empty =
            put(folder.path(), &format!("empty.{ending}"), &encoded(format, &rows(0, 0), 10));
        if format != Format::Csv {
            suite(&csv("f", &empty).open().await.unwrap(), &rows(0, 0)).await;
        }
        let many = folder.path().join("many");
        for n in 0..5 {
            let name = format!("deep/{n}.{ending}");
            put(&many, &name, &encoded(format, &rows(n * 19, 19), 10));
        }
        put(&many, "_SUCCESS", b"");
        put(&many, "deep/.part.crc", b"x");
        put(&many, "notes.txt", b"x");
        let source = csv("f", &many).open().await.unwrap();
        suite(&source, &whole).await;
        let scan = source.read(&["k"]).await.unwrap();
        let paths: Vec<&str> = scan.files.iter().map(|file| file.path.as_str()).collect();
        assert_eq!(paths[0], format!("deep/0.{ending}"));
        // Of CSV files the declared columns are in it too.
        let of_files = scan.digest == Digest::of_json(&scan.files).unwrap();
        assert_eq!((paths.len(), of_files), (5, format != Format::Csv));
        for file in &scan.files {
            let bytes = std::fs::read(many.join(&file.path)).unwrap();
            assert_eq!((file.size, file.digest), (bytes.len() as u64, Digest::of(&bytes)));
        }
        let glob = csv("f", many.join(format!("**/[0-9]?{ending}")));
        assert_eq!(glob.open().await.unwrap_err().kind(), ErrorKind::NotFound);
        let glob = csv("f", many.join(format!("*/?.{ending}"))).open().await.unwrap();
        suite(&glob, &whole).await;
        let url = format!("file://{}", many.display());
        suite(&csv("f", url).open().await.unwrap(), &whole).await;
    }
}

#[tokio::test]
async fn folders_that_name_values_are_columns() {
    let folder = tempfile::tempdir().unwrap();
    let names = [
        "year=2012/city=New%20York",
        "year=2013/city=Bonn",
        "year=__HIVE_DEFAULT_PARTITION__/city=Bonn",
    ];
    for (n, name) in names.iter().enumerate() {
        parquet(folder.path(), &format!("{name}/part.parquet"), &rows(n as i64 * 10, 10));
    }
    let source = FileSource::open("f", folder.path()).await.unwrap();
    let years = (0..30).map(|n| [Some(2012), Some(2013), None][n / 10]);
    let years: ArrayRef = Arc::new(years.collect::<Int64Array>());
    let cities: ArrayRef = Arc::new(StringArray::from_iter_values(
        (0..30).map(|n| ["New York", "Bonn", "Bonn"][n / 10]),
    ));
    let expected = with_column(&with_column(&rows(0, 30), "year", years).unwrap(), "city", cities);
    suite(&source, &expected.unwrap()).await;
    let alone = all(&source, &Query::columns(&["city"])).await;
    assert_eq!(alone.num_rows(), 30);

    let one =
        FileSource::builder("f", folder.path()).partition("year", "2013").open().await.unwrap();
    assert_eq!(all(&one, &Query::columns(&["k", "at", "x"])).await, rows(10, 10));
    assert_eq!((one.reads().hashed, one.reads().files), (1, 1), "others are not opened");
    let none = FileSource::builder("f", folder.path()).partition("year", "1999").open().await;
    assert_eq!(none.unwrap_err().kind(), ErrorKind::NotFound);

    parquet(folder.path(), "year=2014/part.parquet", &rows(0, 1));
    let odd = source.read(&["k"]).await.unwrap_err();
    assert!(
        odd.to_string().contains("year=2014/part.parquet") && odd.to_string().contains("`city`"),
        "{odd}"
    );
}

#[tokio::test]
async fn only_groups_of_rows_in_the_span_are_decoded() {
    let folder = tempfile::tempdir().unwrap();
    for n in 0..3 {
        parquet(folder.path(), &format!("{n}.parquet"), &rows(n * 100, 100));
    }
    let source = FileSource::open("f", folder.path()).await.unwrap();
    let during = During { column: "at", span: 955..1_255 };
    let query = Query { during: Some(during), ..Query::columns(&["k", "at", "x"]) };
    let first = source.scan(&query).await.unwrap();
    assert_eq!(all(&source, &query).await, rows(96, 30));
    let reads = source.reads();
    assert_eq!((reads.hashed, reads.groups), (6, 8), "{reads:?}");
    assert_eq!(reads.groups + reads.skipped, 60, "{reads:?}");
    // The digest is that of everything, whatever part was asked for.
    assert_eq!(first.digest, source.read(&["x"]).await.unwrap().digest);
    // The time need not be among the columns.
    let query = Query { columns: &["k"], ..query };
    assert_eq!(all(&source, &query).await, rows(96, 30).project(&[0]).unwrap());
    let before = source.reads();
    all(&source, &Query::columns(&["k", "at", "x"])).await;
    all(&source, &query).await;
    let after = source.reads();
    assert_eq!(after.files - before.files, 3, "columns that were decoded are kept: {after:?}");
}

#[tokio::test]
async fn spans_have_about_so_many_rows_and_every_row_is_in_one() {
    let folder = tempfile::tempdir().unwrap();
    for n in 0..3 {
        parquet(folder.path(), &format!("{n}.parquet"), &rows(n * 100, 100));
    }
    let source = FileSource::open("f", folder.path()).await.unwrap();
    assert_eq!(source.spans("at", 300).await.unwrap().len(), 1);
    let spans = source.spans("at", 45).await.unwrap();
    assert!((7..10).contains(&spans.len()), "{spans:?}");
    let mut found = Vec::new();
    for span in spans {
        let during = Some(During { column: "at", span });
        let part = all(&source, &Query { during, ..Query::columns(&["k", "at", "x"]) }).await;
        assert!(part.num_rows() <= 45);
        found.push(part);
    }
    assert_eq!(concat_batches(&found[0].schema(), &found).unwrap(), rows(0, 300));
    let error = source.spans("no such", 10).await.unwrap_err();
    assert!(error.to_string().contains("`no such`"), "{error}");
}

#[tokio::test]
async fn what_was_read_can_be_read_again_or_is_named() {
    let folder = tempfile::tempdir().unwrap();
    for n in 0..3 {
        parquet(folder.path(), &format!("{n}.parquet"), &rows(n * 10, 10));
    }
    let source = FileSource::open("f", folder.path()).await.unwrap();
    let first = source.read(&["k"]).await.unwrap();
    let added = parquet(folder.path(), "3.parquet", &rows(30, 10));
    assert_eq!(source.read(&["k"]).await.unwrap().files.len(), 4, "a new file is seen");
    let pinned = Query { files: Some(&first.files), ..Query::columns(&["k"]) };
    for _ in 0..2 {
        let again = source.scan(&pinned).await.unwrap();
        assert_eq!((again.digest, again.batches), (first.digest, first.batches.clone()));
        std::fs::remove_file(&added).ok();
    }
    parquet(folder.path(), "1.parquet", &rows(10, 9));
    let changed = source.scan(&pinned).await.unwrap_err();
    assert_eq!(changed.kind(), ErrorKind::Conflict);
    assert!(changed.to_string().contains("1.parquet"), "{changed}");
    std::fs::remove_file(folder.path().join("1.parquet")).unwrap();
    let gone = source.scan(&pinned).await.unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::NotFound);
    assert!(gone.to_string().contains("1.parquet"), "{gone}");
    let outside = SourceFile { path: "../x.parquet".to_owned(), ..first.files[0].clone() };
    let query = Query { files: Some(std::slice::from_ref(&outside)), ..Query::columns(&["k"]) };
    assert_eq!(source.scan(&query).await.unwrap_err().kind(), ErrorKind::Invalid);
}

#[tokio::test]
async fn files_that_differ_in_their_columns_are_named() {
    let narrow: ArrayRef = Arc::new(Int32Array::from(vec![1, 2]));
    let cases = [
        (with_column(&rows(0, 2), "k", narrow.clone()).unwrap(), "column `k` holds Int32"),
        (rows(0, 2).project(&[0, 1]).unwrap(), "column `x`"),
        (with_column(&rows(0, 2), "extra", narrow).unwrap(), "column `extra`"),
    ];
    for (odd, part) in cases {
        let folder = tempfile::tempdir().unwrap();
        parquet(folder.path(), "a.parquet", &rows(0, 2));
        parquet(folder.path(), "b.parquet", &odd);
        let source = FileSource::open("f", folder.path()).await.unwrap();
        for error in
            [source.read(&["at"]).await.unwrap_err(), source.spans("at", 1).await.unwrap_err()]
        {
            assert_eq!(error.kind(), ErrorKind::Invalid);
            let text = error.to_string();
            assert!(text.contains("b.parquet") && text.contains(part), "{text}");
        }
        // The order of columns is no difference.
        parquet(folder.path(), "b.parquet", &rows(2, 2).project(&[2, 0, 1]).unwrap());
        assert_eq!(all(&source, &Query::columns(&["k", "at", "x"])).await, rows(0, 4));
    }
}

async fn refusal(builder: kaizen_data::FileSourceBuilder) -> Error {
    match builder.open().await {
        Err(error) => error,
        Ok(source) => source.read(&["k", "at", "x"]).await.unwrap_err(),
    }
}

#[tokio::test]
async fn what_cannot_be_read_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let ipc = encoded(Format::Ipc, &rows(0, 20), 10);
    let mut blocks = ipc.clone();
    let end = ipc.len();
    blocks[400..600].fill(0xff);
    let at = |name: &str, bytes: &[u8]| put(folder.path(), name, bytes);
    let text = "k,at,x\n1,1970-01-01T00:00:00Z,2\n";
    let cases = [
        (at("empty.arrow", b""), ErrorKind::Invalid, "is empty"),
        (at("empty.csv", b""), ErrorKind::Invalid, "is empty"),
        (at("text.arrow", text.as_bytes()), ErrorKind::Invalid, "not an Arrow IPC file"),
        (at("cut.arrow", &ipc[..end - 20]), ErrorKind::Corrupt, "cut off"),
        (at("short.arrow", &ipc[..6]), ErrorKind::Corrupt, "cut off"),
        (at("blocks.arrow", &blocks), ErrorKind::Corrupt, "blocks.arrow"),
        (at("missing.csv", b"k,at\n1,2\n"), ErrorKind::Invalid, "column `x` is missing"),
        (at("number.csv", b"k,at,x\nq,,\n"), ErrorKind::Invalid, "column `k`"),
        (at("naive.csv", b"k,at,x\n1,1970-01-01T00:00:00,\n"), ErrorKind::Invalid, "time zone"),
        (at("when.csv", b"k,at,x\n1,,\n1,noon,\n"), ErrorKind::Invalid, "column `at`, row 2"),
        (at("twice.csv", b"k,at,x,k\n1,,,2\n"), ErrorKind::Invalid, "column `k` stands twice"),
        (at("ragged.csv", b"k,at,x\n1,\n"), ErrorKind::Invalid, "ragged.csv"),
        (at("binary.csv", b"k,at,x\n\xff\xfe,,\n"), ErrorKind::Invalid, "binary.csv"),
        (at("what.bin", b"abc"), ErrorKind::Invalid, "does not say its format"),
        (folder.path().join("none.csv"), ErrorKind::NotFound, "nothing is there"),
    ];
    for (path, kind, part) in cases {
        let error = refusal(csv("f", &path)).await;
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let text = format!("{error:#}");
        assert_eq!(error.kind(), kind, "{text}");
        assert!(text.contains(&name) && text.contains(part), "{text}: {name}: {part}");
        assert!(text.contains("source `f`"), "{text}");
    }
    let bare = FileSource::open("f", folder.path().join("number.csv")).await.unwrap_err();
    assert!(bare.to_string().contains("declare"), "{bare}");
    let empty = tempfile::tempdir().unwrap();
    let none = FileSource::open("f", empty.path()).await.unwrap_err();
    assert_eq!(none.kind(), ErrorKind::NotFound);
    let zone = refusal(csv("f", empty.path()).time_zone("Mars/Base")).await;
    assert!(zone.to_string().contains("Mars/Base"), "{zone}");
    let mixed = refusal(csv("f", folder.path())).await;
    assert!(mixed.to_string().contains("set the format"), "{mixed}");
    let scheme = refusal(csv("f", "ftp://example.com/x.csv")).await;
    assert_eq!(scheme.kind(), ErrorKind::Unsupported);
    let gcp = refusal(csv("f", "gs://bucket/x.csv")).await;
    assert!(gcp.to_string().contains("feature `gcp`"), "{gcp}");
    let option = refusal(csv("f", "s3://bucket/x.csv").option("aws_endpiont", "x")).await;
    assert!(option.to_string().contains("`aws_endpiont`"), "{option}");
}

#[tokio::test]
async fn csv_takes_delimiters_texts_for_missing_values_and_local_times() {
    let folder = tempfile::tempdir().unwrap();
    let text = "\u{feff}x;other;at;k\n\"1.5\";a;2013-11-03 01:30:00;NA\nNA;b;2013-03-10T02:30;7\n;;2013-07-01T00:00:00Z;\n";
    let path = put(folder.path(), "t.csv", text.as_bytes());
    let builder = csv("f", &path).delimiter(b';').null_text("NA").time_zone("America/New_York");
    let source = builder.open().await.unwrap();
    let found = all(&source, &Query::columns(&["k", "at", "x"])).await;
    assert_eq!(
        found.column(0).as_primitive::<Int64Type>().iter().collect::<Vec<_>>(),
        [None, Some(7), None]
    );
    let expected: Vec<i64> =
        ["2013-11-03T05:30:00Z", "2013-03-10T07:30:00Z", "2013-07-01T00:00:00Z"]
            .map(|text| text.parse::<kaizen_core::Timestamp>().unwrap().nanos().unwrap())
            .to_vec();
    assert_eq!(found.column(1).as_primitive::<TimestampNanosecondType>().values(), &expected);
    assert_eq!(found.column(2).null_count(), 2);
}

#[tokio::test]
async fn naive_times_are_refused_as_time_unless_their_zone_is_declared() {
    let folder = tempfile::tempdir().unwrap();
    let second = 1_000_000;
    // An hour of the night in which clocks in New York went back.
    let local: Vec<i64> = (0..20).map(|n| (1_383_440_400 + n * 600) * second).collect();
    let naive: ArrayRef = Arc::new(TimestampMicrosecondArray::from(local));
    let table = with_column(&rows(0, 20), "at", naive).unwrap();
    let during = Some(During { column: "at", span: i64::MIN..1_383_460_200_000_000_000 });
    for format in [Format::Parquet, Format::Ipc] {
        let path = put(folder.path(), "t.bin", &encoded(format, &table, 5));
        let query = Query { during: during.clone(), ..Query::columns(&["at"]) };
        let plain = FileSource::builder("f", &path).format(format).open().await.unwrap();
        assert_eq!(all(&plain, &Query::columns(&["k", "at", "x"])).await, table);
        let error = plain.scan(&query).await.unwrap_err();
        assert!(error.to_string().contains("column `at`: naive"), "{error}");
        let zoned = FileSource::builder("f", &path).format(format).time_zone("America/New_York");
        let zoned = zoned.open().await.unwrap();
        let found = all(&zoned, &Query::columns(&["at"])).await;
        let expected: Vec<i64> = (0..20)
            // From 1:00 to 2:00 the earlier of two, four hours behind UTC; five from then on.
            .map(|n| 1_383_440_400 + n * 600 + if n < 6 { 4 } else { 5 } * 3_600)
            .map(|seconds| seconds * 1_000_000_000)
            .collect();
        assert_eq!(instants(&found, "at").unwrap().values(), &expected);
        let inside = expected.iter().filter(|at| **at < 1_383_460_200_000_000_000).count();
        assert_eq!(all(&zoned, &query).await.num_rows(), inside);
    }
}

#[tokio::test]
async fn ten_thousand_columns_and_future_times_are_data() {
    let folder = tempfile::tempdir().unwrap();
    let value: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
    let names: Vec<String> = (0..9_999).map(|n| format!("c{n}")).collect();
    let columns = names.iter().map(|name| (name.as_str(), Arc::clone(&value)));
    let future = at(vec![Some(i64::MAX), Some(i64::MAX - 1)]);
    let wide = RecordBatch::try_from_iter(columns.chain([("at", future)])).unwrap();
    let path = parquet(folder.path(), "wide.parquet", &wide);
    let source = FileSource::open("f", &path).await.unwrap();
    let during = Some(During { column: "at", span: i64::MAX - 1..i64::MAX });
    let found = all(&source, &Query { during, ..Query::columns(&["c17", "c9998"]) }).await;
    assert_eq!((found.num_rows(), found.num_columns()), (2, 2));
    let everything: Vec<&str> = names.iter().map(String::as_str).collect();
    assert_eq!(all(&source, &Query::columns(&everything)).await.num_columns(), 9_999);
    let more = (0..20_001).map(|n| (format!("c{n}"), Arc::clone(&value)));
    let wider = RecordBatch::try_from_iter(more).unwrap();
    for (format, name) in [(Format::Parquet, "wider.parquet"), (Format::Ipc, "wider.arrow")] {
        let path = put(folder.path(), name, &encoded(format, &wider, 10));
        let error = FileSource::open("f", &path).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Limit);
        assert!(error.to_string().contains(name), "{error}");
    }
}

#[tokio::test]
async fn a_file_larger_than_is_read_at_once_is_read_in_ranges() {
    let folder = tempfile::tempdir().unwrap();
    let count = 10_000_000_i64;
    // Noise does not shrink.
    let noise = (0..count).map(|n| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15_u64 as i64)) as f64);
    let columns: [(&str, ArrayRef); 2] = [
        ("at", at((0..count).map(Some).collect())),
        ("x", Arc::new(Float64Array::from_iter_values(noise))),
    ];
    let table = RecordBatch::try_from_iter(columns).unwrap();
    let bytes = encoded(Format::Parquet, &table, 1_000_000);
    assert!(bytes.len() > 64 << 20, "{}", bytes.len());
    let path = put(folder.path(), "large.parquet", &bytes);
    let source = FileSource::open("f", &path).await.unwrap();
    let during = Some(During { column: "at", span: 2_500_000..2_500_100 });
    let query = Query { during, ..Query::columns(&["x"]) };
    let scan = source.scan(&query).await.unwrap();
    assert_eq!(scan.digest, Digest::of(&bytes));
    assert_eq!(scan.batches[0].column(0), &table.column(1).slice(2_500_000, 100));
    let reads = source.reads();
    assert_eq!((reads.hashed, reads.groups, reads.skipped), (1, 1, 9));
    source.scan(&query).await.unwrap();
    assert_eq!(source.reads().hashed, 1, "the digest is kept while the file is the same");
}

/// Reads all columns that a file says it has: any answer but a panic.
async fn survives(format: Format, bytes: &[u8]) {
    let folder = tempfile::tempdir().unwrap();
    let path = put(folder.path(), "t.bin", bytes);
    let Ok(source) = csv("f", &path).format(format).open().await else { return };
    let Ok(schema) = source.schema().await else { return };
    let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    let _ = source.read(&names).await;
    let _ = source.spans("at", 3).await;
    let during = Some(During { column: "at", span: 5..50 });
    let _ = source.scan(&Query { during, ..Query::columns(&["k"]) }).await;
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn hostile_bytes_are_an_error_and_no_panic(
        which in 0..3_usize,
        noise in prop::collection::vec(any::<u8>(), 0..200),
        places in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..12),
        cut in prop::option::of(any::<prop::sample::Index>()),
        random in prop::bool::weighted(0.2),
    ) {
        let format = [Format::Parquet, Format::Ipc, Format::Csv][which];
        let mut bytes = encoded(format, &rows(0, 12), 5);
        for (place, byte) in places {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        if let Some(cut) = cut {
            let cut = cut.index(bytes.len());
            let end = bytes.len().min(cut + 16);
            bytes.drain(cut..end);
        }
        if random {
            bytes = noise;
        }
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(survives(format, &bytes));
    }
}

/// What decides the rows of the same bytes.
#[tokio::test]
async fn other_ways_to_read_the_same_bytes_have_other_digests() {
    let folder = tempfile::tempdir().unwrap();
    let text = b"k,at,x\n1,2013-01-01T05:00:00,a\n2,2013-01-01T06:00:00,NA\n";
    let path = put(folder.path(), "f.csv", text);
    let described = || {
        let at = DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into()));
        let source = FileSource::builder("f", &path).column("k", DataType::Int64);
        source.column("at", at).column("x", DataType::Utf8)
    };
    let mut digests = Vec::new();
    for source in [
        described().time_zone("UTC"),
        described().time_zone("America/New_York"),
        described().time_zone("UTC").null_text("NA"),
        described().time_zone("UTC").column("k2", DataType::Int64),
    ] {
        let Ok(source) = source.open().await else { continue };
        digests.push(source.read(&["k"]).await.unwrap().digest);
        assert_eq!(source.read(&["x", "at"]).await.unwrap().digest, *digests.last().unwrap());
    }
    assert_eq!(digests.len(), 3, "a column that is not in the file is refused");
    digests.sort();
    digests.dedup();
    assert_eq!(digests.len(), 3);
    let again = described().time_zone("America/New_York").open().await.unwrap();
    assert!(digests.contains(&again.read(&["k"]).await.unwrap().digest));
}

#[tokio::test]
async fn a_value_in_the_path_of_the_only_file_is_in_the_digest() {
    let folder = tempfile::tempdir().unwrap();
    parquet(folder.path(), "region=1/f.parquet", &rows(0, 5));
    let source = FileSource::open("f", folder.path()).await.unwrap();
    let first = source.read(&["region", "k"]).await.unwrap();
    std::fs::rename(folder.path().join("region=1"), folder.path().join("region=2")).unwrap();
    let second = source.read(&["region", "k"]).await.unwrap();
    assert_ne!((first.digest, &first.batches), (second.digest, &second.batches));
    assert_ne!(first.digest, second.digest);
    assert_eq!(first.files[0].digest, second.files[0].digest);
}

/// An order that was kept of the rows as one zone reads them does not serve another.
#[tokio::test]
async fn a_kept_order_is_not_used_for_another_time_zone() {
    let folder = tempfile::tempdir().unwrap();
    let path = put(folder.path(), "f.csv", b"k,at,x\n1,2013-01-01T00:00:00,7\n");
    let view = kaizen_table::FeatureView::builder("v").source("f").key("k").event_time("at");
    let view = view.column("x", kaizen_core::DataType::Int64).build().unwrap();
    let service = kaizen_table::FeatureService::new("s", 1, vec![], vec![view]).unwrap();
    let asked: [(&str, ArrayRef); 2] = [
        ("k", Arc::new(Int64Array::from(vec![1]))),
        // A second before noon of 1 January 2013, UTC.
        ("asked", at(vec![Some(1_357_041_599_000_000_000)])),
    ];
    let asked = RecordBatch::try_from_iter(asked).unwrap();
    for (zone, known) in [("UTC", true), ("Etc/GMT+12", false), ("UTC", true)] {
        let instant = DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into()));
        let source = FileSource::builder("f", &path).column("k", DataType::Int64);
        let source = source.column("at", instant).column("x", DataType::Int64).time_zone(zone);
        let source = source.open().await.unwrap();
        let store = kaizen_data::FeatureStore::new(vec![Arc::new(source)]);
        let store = store.keep_indices_in(folder.path().join("indices"));
        let found = store.features(&service, &asked, "asked").await.unwrap();
        assert_eq!(found.column_by_name("x").unwrap().is_valid(0), known, "{zone}");
    }
}

#[tokio::test]
async fn the_folders_before_a_pattern_are_columns_too() {
    let folder = tempfile::tempdir().unwrap();
    for year in [2012, 2013] {
        parquet(folder.path(), &format!("year={year}/a.parquet"), &rows(0, 5));
    }
    let pattern = folder.path().join("year=2013/*.parquet");
    let source = FileSource::open("f", &pattern).await.unwrap();
    let years: ArrayRef = Arc::new(Int64Array::from(vec![2013; 5]));
    suite(&source, &with_column(&rows(0, 5), "year", years).unwrap()).await;
    let nothing = FileSource::open("f", folder.path().join("year=1999/*.parquet")).await;
    assert_eq!(nothing.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn what_may_be_a_secret_is_in_no_debug_and_no_message() {
    let folder = tempfile::tempdir().unwrap();
    parquet(folder.path(), "f.parquet", &rows(0, 5));
    let builder = || {
        let path = folder.path().join("f.parquet");
        FileSource::builder("f", path).option("aws_secret_access_key", "hush")
    };
    assert!(format!("{:?}", builder()).contains("aws_secret_access_key"));
    let source = builder().open().await.unwrap();
    let shown = format!("{:?} {source:?}", builder());
    assert!(!shown.contains("hush"), "{shown}");
    let store = kaizen_data::FeatureStore::new(vec![Arc::new(source)]);
    assert!(!format!("{store:?}").contains("hush"));
    for url in ["s3://id:hush@bucket/a.parquet", "ftp://id:hush@host/a", "s3://id:hush@[/a"] {
        let builder = FileSource::builder("f", url);
        let shown = format!("{builder:?}");
        let error = builder.open().await.unwrap_err();
        let said = format!("{shown} {error:#} {error:?}");
        assert!(!said.contains("hush"), "{said}");
    }
}
