//! What is wanted of decoded rows: some columns, of a span of time.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::SchemaRef;
use kaizen_core::{Context, ErrorKind, Result};
use kaizen_table::{During, Query, instants};

use crate::parquet_file::project;

/// The columns and the span of a [`Query`], to be sent to another thread.
#[derive(Clone, Debug)]
pub(crate) struct Selection {
    pub(crate) columns: Vec<String>,
    pub(crate) during: Option<(String, Range<i64>)>,
}

impl Selection {
    pub(crate) fn of(query: &Query<'_>) -> Self {
        let during = query.during.as_ref();
        Self {
            columns: query.columns.iter().map(|name| (*name).to_owned()).collect(),
            during: during.map(|during| (during.column.to_owned(), during.span.clone())),
        }
    }

    /// These columns of all rows.
    pub(crate) fn columns(columns: &[&str]) -> Self {
        Self::of(&Query::columns(columns))
    }

    /// The columns to decode: those asked for, and that of the time.
    pub(crate) fn decoded(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.columns.iter().map(String::as_str).collect();
        if let Some((time, _)) = &self.during
            && !names.contains(&time.as_str())
        {
            names.push(time);
        }
        names
    }

    /// What is given of no rows.
    pub(crate) fn empty(&self, schema: &SchemaRef) -> Result<RecordBatch> {
        let decoded = project(&RecordBatch::new_empty(Arc::clone(schema)), &self.decoded())?;
        self.apply(&decoded)
    }

    /// The rows of the span, with the columns asked for, of rows with the columns to decode.
    pub(crate) fn apply(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let names: Vec<&str> = self.columns.iter().map(String::as_str).collect();
        let Some((time, span)) = &self.during else { return project(batch, &names) };
        let during = During { column: time, span: span.clone() };
        let at = instants(batch, time)?;
        let inside = |row: usize| at.is_valid(row) && during.contains(at.value(row));
        let inside: BooleanArray = (0..at.len()).map(|row| Some(inside(row))).collect();
        let projected = project(batch, &names)?;
        if inside.true_count() == inside.len() {
            return Ok(projected);
        }
        filter_record_batch(&projected, &inside).context(ErrorKind::Internal, "rows of a span")
    }
}
