use serde::{Deserialize, Serialize};

use super::Record;
use crate::{Digest, Timestamp, serde_int};

/// What a release answered over a stretch of time, with the features it saw.
///
/// Payload `rows.parquet`: columns `prediction_id`, `at`, `model`, `score` and the features.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Predictions {
    /// The models that answered, ascending.
    pub models: Vec<Digest>,
    /// The first instant, inclusive.
    pub from: Timestamp,
    /// The last instant, exclusive.
    pub to: Timestamp,
    /// How many rows.
    #[serde(with = "serde_int")]
    pub rows: u64,
}

impl Predictions {
    /// The name of the payload that holds the rows.
    pub const ROWS: &'static str = "rows.parquet";
}

impl Record for Predictions {
    const KIND: &'static str = "predictions";
}
