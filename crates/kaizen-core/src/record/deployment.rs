use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Occurrence, Record};
use crate::Digest;

/// What runs where after a change: the state of a target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deployment {
    /// When, who, in which operation.
    #[serde(flatten)]
    pub occurrence: Occurrence,
    /// The target's name.
    pub target: String,
    /// The release in each slot.
    pub slots: BTreeMap<String, Digest>,
    /// The weight of each slot; a slot that is not named has none.
    pub weights: BTreeMap<String, u32>,
    /// The deployment that this one replaced.
    pub previous: Option<Digest>,
}

impl Record for Deployment {
    const KIND: &'static str = "deployment";
}
