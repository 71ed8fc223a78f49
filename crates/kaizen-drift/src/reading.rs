//! What a monitor says after a block.

use kaizen_core::record::{DriftReport, FeatureDrift, Occurrence};
use kaizen_core::{Digest, TimeBlocks};
use serde::{Deserialize, Serialize};

/// What a monitor found after a block of time.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reading {
    /// The block that was looked at.
    #[serde(with = "kaizen_core::serde_int")]
    pub block: i64,
    /// The evidence against "nothing has drifted".
    pub evidence: f64,
    /// Whether the evidence is at least `1 / alpha`.
    pub alarm: bool,
    /// How many blocks were looked at since the reference was set, this one included.
    pub looks: u32,
    /// The probability of any alarm, ever, if nothing drifts.
    pub alpha: f64,
    /// Each feature's own evidence, strongest first. One feature alone reaches `1 / alpha` with
    /// probability `alpha`; that is not yet an alarm, which accounts for their number. An alarm
    /// while none is strong comes from a contrast: many features moved a little, together.
    pub features: Vec<FeatureDrift>,
}

impl Reading {
    /// The record of this reading, for the store.
    pub fn report(
        &self,
        occurrence: Occurrence,
        profile: Digest,
        model: Digest,
        unit: TimeBlocks,
    ) -> DriftReport {
        DriftReport {
            occurrence,
            profile,
            model,
            unit,
            block_start: unit.start(self.block),
            looks: self.looks,
            alpha: self.alpha,
            evidence: self.evidence,
            alarm: self.alarm,
            features: self.features.clone(),
        }
    }
}
