//! The port of data at rest.

use std::fmt;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use kaizen_core::{Digest, Result, async_trait};

/// What one reading of a source gave.
#[derive(Clone, Debug)]
pub struct Scan {
    /// The digest of the data that was read: the same digest, the same rows.
    pub digest: Digest,
    /// The rows in the source's order, with the columns that were asked for.
    pub batches: Vec<RecordBatch>,
}

/// A table somewhere, read by columns.
///
/// `kaizen_testkit::source` is the conformance suite.
#[async_trait]
pub trait Source: fmt::Debug + Send + Sync {
    /// The name under which feature views know it.
    fn name(&self) -> &str;

    /// The columns that it has.
    async fn schema(&self) -> Result<SchemaRef>;

    /// Reads these columns of every row. A column that it lacks is
    /// [`ErrorKind::Invalid`](kaizen_core::ErrorKind::Invalid), named.
    async fn read(&self, columns: &[&str]) -> Result<Scan>;
}
