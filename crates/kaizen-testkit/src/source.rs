//! The conformance suite of the port [`Source`].
#![allow(clippy::panic, reason = "a suite fails by panicking")]

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use kaizen_core::ErrorKind;
use kaizen_table::{Scan, Source};

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

    let lacking = [names[0], "no such column"];
    match source.read(&lacking).await {
        Ok(_) => panic!("a column that the source lacks is an error"),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Invalid, "a missing column: {error:?}");
            assert!(error.to_string().contains("`no such column`"), "the error names it: {error}");
        }
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
