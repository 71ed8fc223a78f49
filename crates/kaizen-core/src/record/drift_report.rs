use serde::{Deserialize, Serialize};

use super::{Occurrence, Record};
use crate::{Digest, TimeBlocks, Timestamp};

/// What a monitor found after a block of time, against the reference that it watches.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DriftReport {
    /// When, who, in which operation.
    #[serde(flatten)]
    pub occurrence: Occurrence,
    /// The reference.
    pub profile: Digest,
    /// The model whose inputs are watched.
    pub model: Digest,
    /// The unit of independence: the monitor steps once for each.
    pub unit: TimeBlocks,
    /// The first instant of the block that was looked at last.
    pub block_start: Timestamp,
    /// How many blocks were looked at since the reference was set.
    pub looks: u32,
    /// The probability of any alarm, ever, if nothing drifts.
    pub alpha: f64,
    /// The evidence against "nothing has drifted": the alarm sounds when it reaches `1 / alpha`.
    pub evidence: f64,
    /// Whether the alarm sounded.
    pub alarm: bool,
    /// Each feature's own evidence, strongest first.
    pub features: Vec<FeatureDrift>,
}

/// What a monitor found of one feature.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FeatureDrift {
    /// The feature's name.
    pub name: String,
    /// The evidence that this feature drifted, as an e-value.
    pub evidence: f64,
    /// The population stability index of the block against the reference.
    pub psi: f64,
}

impl Record for DriftReport {
    const KIND: &'static str = "drift-report";

    fn subject(&self) -> Option<Digest> {
        Some(self.model)
    }
}
