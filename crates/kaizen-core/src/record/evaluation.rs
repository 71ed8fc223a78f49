use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Record;
use crate::{Digest, TimeBlocks, serde_int};

/// How well a model does on rows that it was not trained on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// The model.
    pub model: Digest,
    /// The rows.
    pub training_set: Digest,
    /// How many rows were scored.
    #[serde(with = "serde_int")]
    pub rows: u64,
    /// The unit of independence that the intervals resample.
    pub unit: TimeBlocks,
    /// How many units there were.
    pub units: u32,
    /// The confidence of every interval, such as 0.95.
    pub confidence: f64,
    /// Each metric by its name, such as `auc`, `log_loss`, `brier`, `value`.
    pub metrics: BTreeMap<String, Estimate>,
    /// The same rows scored by the champion, if there was one.
    pub comparison: Option<Comparison>,
}

/// A number with the interval that it may lie in.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The best guess.
    pub value: f64,
    /// The lower end of the interval.
    pub low: f64,
    /// The upper end of the interval.
    pub high: f64,
}

/// Champion against challenger, on the same rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// The model that was compared with.
    pub champion: Digest,
    /// Its own metrics.
    pub metrics: BTreeMap<String, Estimate>,
    /// Challenger minus champion, with intervals of the paired difference.
    pub differences: BTreeMap<String, Estimate>,
}

impl Record for Evaluation {
    const KIND: &'static str = "evaluation";

    fn subject(&self) -> Option<Digest> {
        Some(self.model)
    }
}
