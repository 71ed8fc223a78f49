//! The conformance suite of the port [`Source`].
#![allow(clippy::panic, reason = "a suite fails by panicking")]

use arrow::array::{Array, BooleanArray, RecordBatch};
use arrow::compute::{concat_batches, filter_record_batch};
use kaizen_core::{Digest, ErrorKind};
use kaizen_table::{During, Query, Scan, Source, SourceFile, instants};

/// Checks a source that holds exactly these rows, of which there are at least two columns with
/// distinct names.
pub async fn suite(source: &dyn Source, expected: &RecordBatch) {
    assert!(!source.name().is_empty(), "a source has a name");
    let fields = expected.schema();
    let names: Vec<&str> = fields.fields().iter().map(|field| field.name().as_str()).collect();
    assert!(names.len() >= 2, "the suite needs two columns");

    let schema = source.schema().await.unwrap_or_else(|error| panic!("schema: {error:?}"));
    let found: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    assert_eq!(found, names, "the schema has the source's columns in their order");
    for (found, field) in schema.fields().iter().zip(fields.fields()) {
        assert_eq!(found.data_type(), field.data_type(), "column `{}`", field.name());
    }

    let all = read(source, &names).await;
    assert_rows(&all, expected, &names, "all columns are read in the source's order of rows");
    let backwards: Vec<&str> = names.iter().rev().copied().collect();
    let reversed = read(source, &backwards).await;
    assert_rows(&reversed, expected, &backwards, "columns come in the order asked for");
    let last = &names[names.len() - 1..];
    let one = read(source, last).await;
    assert_rows(&one, expected, last, "one column is read alone");
    for scan in [&reversed, &one, &read(source, &names).await] {
        assert_eq!(scan.digest, all.digest, "the same data has the same digest, however read");
    }

    spans(source, expected, &names, all.digest).await;
    pinned(source, expected, &names, &all.files).await;
    forgets_nothing(source, expected).await;
    assert_eq!(read(source, &names).await.digest, all.digest, "reading changes nothing");

    let lacking = [names[0], "no such column"];
    match source.read(&lacking).await {
        Ok(_) => panic!("a column that the source lacks is an error"),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Invalid, "a missing column: {error:?}");
            assert!(error.to_string().contains("`no such column`"), "the error names it: {error}");
        }
    }
}

/// Each span of time is read alone, and the spans together are all of time.
async fn spans(source: &dyn Source, expected: &RecordBatch, names: &[&str], digest: Digest) {
    let zoned = |name: &&&str| instants(expected, name).is_ok();
    let Some(time) = names.iter().find(zoned).copied() else { return };
    let at = instants(expected, time).unwrap_or_else(|error| panic!("{error:?}"));
    for rows in [u64::MAX, 1 + at.len() as u64 / 3, 1] {
        let spans = source.spans(time, rows).await;
        let spans = spans.unwrap_or_else(|error| panic!("spans of `{time}`: {error:?}"));
        let ends = (spans.first().map(|span| span.start), spans.last().map(|span| span.end));
        assert_eq!(ends, (Some(i64::MIN), Some(i64::MAX)), "spans hold every instant");
        assert!(
            spans.windows(2).all(|pair| pair[0].end == pair[1].start),
            "a span begins where the one before it ends: {spans:?}"
        );
        for span in spans {
            let during = During { column: time, span: span.clone() };
            let inside = |row| at.is_valid(row) && during.contains(at.value(row));
            let mask: BooleanArray = (0..at.len()).map(|row| Some(inside(row))).collect();
            let wanted = filter_record_batch(expected, &mask);
            let wanted = wanted.unwrap_or_else(|error| panic!("{error}"));
            let last = &names[names.len() - 1..];
            for columns in [names, last] {
                let query = Query { during: Some(during.clone()), ..Query::columns(columns) };
                let scan = source.scan(&query).await;
                let scan = scan.unwrap_or_else(|error| panic!("reading {span:?}: {error:?}"));
                assert_rows(&scan, &wanted, columns, "a span has the rows whose instant is in it");
                assert_eq!(scan.digest, digest, "the digest is of the whole data, however read");
            }
        }
    }
}

/// What was read is read again, by the files that it was in.
async fn pinned(source: &dyn Source, expected: &RecordBatch, names: &[&str], files: &[SourceFile]) {
    assert!(files.windows(2).all(|pair| pair[0].path < pair[1].path), "files are ordered by path");
    let Some(first) = files.first() else { return };
    let scan = source.scan(&Query { files: Some(files), ..Query::columns(names) }).await;
    let scan = scan.unwrap_or_else(|error| panic!("reading its own files: {error:?}"));
    assert_rows(&scan, expected, names, "the same files have the same rows");
    assert_eq!(scan.files, files, "the files that were asked for are those that were read");
    let mut other = files.to_vec();
    other[0].digest = Digest::of("other bytes");
    let changed = Query { files: Some(&other), ..Query::columns(names) };
    fails(source, &changed, ErrorKind::Conflict, &first.path).await;
    other[0].path.push_str(".none");
    let gone = Query { files: Some(&other), ..Query::columns(names) };
    fails(source, &gone, ErrorKind::NotFound, &other[0].path).await;
}

async fn fails(source: &dyn Source, query: &Query<'_>, kind: ErrorKind, path: &str) {
    match source.scan(query).await {
        Ok(_) => panic!("a file that is not as it was is {kind:?}"),
        Err(error) => {
            assert_eq!(error.kind(), kind, "a file that is not as it was: {error:?}");
            assert!(error.to_string().contains(path), "the error names it: {error}");
        }
    }
}

/// Without entities nothing is forgotten, whether the source could or not.
async fn forgets_nothing(source: &dyn Source, expected: &RecordBatch) {
    let none = expected.slice(0, 0).project(&[0]);
    let none = none.unwrap_or_else(|error| panic!("{error}"));
    match source.forget(&none).await {
        Ok(removed) => assert_eq!(removed, 0, "without entities nothing is removed"),
        Err(error) => assert_eq!(error.kind(), ErrorKind::Unsupported, "{error:?}"),
    }
}

async fn read(source: &dyn Source, columns: &[&str]) -> Scan {
    let scan = source.read(columns).await;
    scan.unwrap_or_else(|error| panic!("reading {columns:?}: {error:?}"))
}

fn assert_rows(scan: &Scan, expected: &RecordBatch, columns: &[&str], rule: &str) {
    let Some(first) = scan.batches.first() else {
        panic!("a scan has a batch, if only an empty one")
    };
    let whole = concat_batches(first.schema_ref(), &scan.batches);
    let whole =
        whole.unwrap_or_else(|error| panic!("batches of one scan have one schema: {error}"));
    let schema = whole.schema();
    let found: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    assert_eq!(found, columns, "{rule}");
    for name in columns {
        assert_eq!(whole.column_by_name(name), expected.column_by_name(name), "{rule}: `{name}`");
    }
}
