//! The port of data at rest.

use std::fmt;
use std::ops::Range;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use kaizen_core::{Digest, Error, ErrorKind, Result, async_trait, serde_int};
use serde::{Deserialize, Serialize};

/// One file of a source, as it was when it was read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SourceFile {
    /// Where it is, from the source's own root.
    pub path: String,
    /// How many bytes it has.
    #[serde(with = "serde_int")]
    pub size: u64,
    /// The digest of its bytes.
    pub digest: Digest,
}

/// What to read of a source.
#[derive(Clone, Debug, Default)]
pub struct Query<'a> {
    /// These columns, in this order.
    pub columns: &'a [&'a str],
    /// Only the rows of this span of time; all rows if `None`.
    pub during: Option<During<'a>>,
    /// Only these files, exactly as they were; those that there are now if `None`. One that is gone
    /// is [`ErrorKind::NotFound`], one that has changed [`ErrorKind::Conflict`], by name.
    pub files: Option<&'a [SourceFile]>,
}

impl<'a> Query<'a> {
    /// These columns of every row.
    pub fn columns(columns: &'a [&'a str]) -> Self {
        Self { columns, during: None, files: None }
    }
}

/// A span of time of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct During<'a> {
    /// The column of instants. A row without one is in no span.
    pub column: &'a str,
    /// The span in nanoseconds UTC: from the start, to before the end; an end of `i64::MAX`
    /// includes that instant.
    pub span: Range<i64>,
}

impl During<'_> {
    /// Whether an instant, in nanoseconds UTC, is in the span.
    pub fn contains(&self, nanos: i64) -> bool {
        nanos >= self.span.start && (nanos < self.span.end || self.span.end == i64::MAX)
    }
}

/// What one reading of a source gave.
#[derive(Clone, Debug)]
pub struct Scan {
    /// The digest of the whole data that was read from, whatever part of it was asked for: the same
    /// digest, the same rows.
    pub digest: Digest,
    /// The files that the data is in, ordered by path; none if it is not in files.
    pub files: Vec<SourceFile>,
    /// The rows in the source's order, with the columns that were asked for; at least one batch.
    pub batches: Vec<RecordBatch>,
}

/// A table somewhere, read by columns and by spans of time.
///
/// `kaizen_testkit::source` is the conformance suite.
#[async_trait]
pub trait Source: fmt::Debug + Send + Sync {
    /// The name under which feature views know it.
    fn name(&self) -> &str;

    /// The columns that it has.
    async fn schema(&self) -> Result<SchemaRef>;

    /// Reads what is asked for. A column that it lacks is [`ErrorKind::Invalid`], named.
    async fn scan(&self, query: &Query<'_>) -> Result<Scan>;

    /// Reads these columns of every row.
    async fn read(&self, columns: &[&str]) -> Result<Scan> {
        self.scan(&Query::columns(columns)).await
    }

    /// Spans of the time in column `time`, in ascending order, that together hold every instant and
    /// of which each has at most about `rows` rows, as far as the source can tell: each can then be
    /// read alone, by [`Query::during`]. One span if it cannot tell, or has no more rows than that.
    async fn spans(&self, _time: &str, _rows: u64) -> Result<Vec<Range<i64>>> {
        Ok(std::iter::once(i64::MIN..i64::MAX).collect())
    }

    /// Removes every row that has the keys of a row of `entities`, whose columns are the keys, and
    /// gives how many it were. [`ErrorKind::Unsupported`] if the source cannot; with no entities it
    /// removes nothing, and only says whether it could.
    async fn forget(&self, _entities: &RecordBatch) -> Result<u64> {
        Err(Error::new(
            ErrorKind::Unsupported,
            format!("source `{}`: it cannot forget", self.name()),
        ))
    }
}
