//! The ports of served predictions: where they go, and where they come back from.

use std::fmt;

use arrow::array::RecordBatch;
use kaizen_core::{Result, Timestamp, async_trait};

/// The names of the columns of a table of predictions; the features stand beside them.
pub mod prediction {
    /// Text: names the prediction, so that its label can be joined later.
    pub const ID: &str = "prediction_id";
    /// Instant: when it was made.
    pub const AT: &str = "at";
    /// Text: the digest of the model that made it.
    pub const MODEL: &str = "model";
    /// 64-bit float: what the model answered.
    pub const SCORE: &str = "score";
}

/// Takes predictions as they are made.
#[async_trait]
pub trait PredictionSink: fmt::Debug + Send + Sync {
    /// Keeps these rows; columns as in [`prediction`], and the features.
    async fn write(&self, rows: &RecordBatch) -> Result<()>;
}

/// Gives predictions back.
#[async_trait]
pub trait PredictionSource: fmt::Debug + Send + Sync {
    /// The predictions made in `[from, to)`, in the order in which they were written.
    async fn read(&self, from: Timestamp, to: Timestamp) -> Result<Vec<RecordBatch>>;
}
