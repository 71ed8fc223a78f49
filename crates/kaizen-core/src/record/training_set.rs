use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Record;
use crate::{Digest, Field, Timestamp, serde_int};

/// The rows that a model is trained or evaluated on: features as they were known at each row's
/// instant, labels as they were known at the cut-off.
///
/// Payload `rows.parquet`: one row per labelled example, in the order in which they were asked
/// for. Payload `definitions.json`: the feature service and the label view.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrainingSet {
    /// The digest of the feature service.
    pub service: Digest,
    /// The digest of the label view.
    pub label_view: Digest,
    /// The digests of the data that each source gave.
    pub sources: BTreeMap<String, Digest>,
    /// No label that became known later is in it.
    pub cutoff: Timestamp,
    /// How many rows it has.
    #[serde(with = "serde_int")]
    pub rows: u64,
    /// How many rows were left out because their label was not known at the cut-off.
    #[serde(with = "serde_int")]
    pub unlabelled: u64,
    /// The feature columns.
    pub features: Vec<Field>,
    /// The column of the label.
    pub label: String,
    /// The column of each row's instant.
    pub time: String,
}

impl TrainingSet {
    /// The name of the payload that holds the rows.
    pub const ROWS: &'static str = "rows.parquet";
    /// The name of the payload that holds the definitions.
    pub const DEFINITIONS: &'static str = "definitions.json";
}

impl Record for TrainingSet {
    const KIND: &'static str = "training-set";
}
