use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Occurrence, Record};
use crate::{Digest, serde_int};

/// The receipt of an erasure: what was removed of one entity, and where. It does not say which
/// entity, for the receipt is kept for ever.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Erasure {
    /// When, who, in which operation.
    #[serde(flatten)]
    pub occurrence: Occurrence,
    /// The columns that name the entity.
    pub keys: Vec<String>,
    /// Rows that were removed, by source.
    pub sources: BTreeMap<String, Count>,
    /// Entries that were removed, by feature view.
    pub online: BTreeMap<String, Count>,
    /// Training sets that were written anew without it.
    pub training_sets: Vec<Replacement>,
}

/// A count of rows or entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Count(#[serde(with = "serde_int")] pub u64);

/// A training set whose rows were removed, and what stands in its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replacement {
    /// The training set that held the entity; its rows are gone.
    pub old: Digest,
    /// The same without the entity.
    pub new: Digest,
    /// How many rows were left out.
    pub rows: Count,
}

impl Record for Erasure {
    const KIND: &'static str = "erasure";
}
