use serde::{Deserialize, Serialize};

use super::{Occurrence, Record};
use crate::Digest;

/// Whether a model may take the champion's place, and on what evidence.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// When, who, in which operation.
    #[serde(flatten)]
    pub occurrence: Occurrence,
    /// The model that was judged.
    pub model: Digest,
    /// The champion that it was judged against: a promotion fails if that has changed.
    pub champion: Option<Digest>,
    /// The evaluation that the gates read.
    pub evaluation: Digest,
    /// What each gate found, in order.
    pub gates: Vec<GateResult>,
    /// A person's decision against the gates.
    pub overridden: Option<Override>,
}

/// What one gate found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GateResult {
    /// What the gate demands.
    pub gate: String,
    /// Whether it was met.
    pub passed: bool,
    /// The figures, in one sentence.
    pub evidence: String,
}

/// A person's decision against the gates.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Override {
    /// Who.
    pub person: String,
    /// Why.
    pub reason: String,
}

impl Decision {
    /// Whether the model may be promoted: every gate passed, or a person overrode them. No gate at
    /// all approves nothing.
    pub fn approved(&self) -> bool {
        self.overridden.is_some()
            || (!self.gates.is_empty() && self.gates.iter().all(|gate| gate.passed))
    }
}

impl Record for Decision {
    const KIND: &'static str = "decision";

    fn subject(&self) -> Option<Digest> {
        Some(self.model)
    }
}
