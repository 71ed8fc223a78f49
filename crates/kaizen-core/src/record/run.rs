use serde::{Deserialize, Serialize};

use super::{Occurrence, Record};
use crate::Digest;

/// A pipeline step that ran: what went in and what came out.
///
/// Its subject is the key of the step (the digest of its name, version, settings and inputs), so
/// whoever would run the same step finds this record instead.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// When, who, in which operation.
    #[serde(flatten)]
    pub occurrence: Occurrence,
    /// The step's name.
    pub step: String,
    /// The blob that holds the step's key, as JSON.
    pub key: Digest,
    /// What went in.
    pub inputs: Vec<Digest>,
    /// What came out.
    pub output: Digest,
}

impl Record for Run {
    const KIND: &'static str = "run";

    fn subject(&self) -> Option<Digest> {
        Some(self.key)
    }
}
