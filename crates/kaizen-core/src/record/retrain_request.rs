use serde::{Deserialize, Serialize};

use super::{Occurrence, Record};
use crate::Digest;

/// A demand for a new model, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetrainRequest {
    /// When, who, in which operation.
    #[serde(flatten)]
    pub occurrence: Occurrence,
    /// The name under which the model's versions are counted.
    pub model: String,
    /// The digest of the policy under which it is to be carried through.
    pub policy: Digest,
    /// The champion at that time, if there was one.
    pub champion: Option<Digest>,
    /// What set it off.
    pub trigger: Trigger,
}

/// What set a retraining off.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Trigger {
    /// There is no champion yet.
    NoChampion,
    /// A drift alarm.
    Drift {
        /// The report.
        report: Digest,
    },
    /// The value in money fell below what the champion was promoted on.
    ValueFell {
        /// The report of the monitor of value.
        report: Digest,
    },
    /// The calendar.
    Schedule,
    /// A person asked.
    Manual {
        /// Why.
        reason: String,
    },
}

impl Trigger {
    /// The report of the alarm, if an alarm set it off.
    pub fn report(&self) -> Option<Digest> {
        match self {
            Self::Drift { report } | Self::ValueFell { report } => Some(*report),
            _ => None,
        }
    }
}

impl Record for RetrainRequest {
    const KIND: &'static str = "retrain-request";
}
