use serde::{Deserialize, Serialize};

use super::Record;
use crate::Digest;

/// Everything that a prediction needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// The name that it is served under.
    pub name: String,
    /// The version of the model, from 1.
    pub version: u32,
    /// The model, and with it the preprocessing and the weights.
    pub model: Digest,
    /// The digest of the feature service whose columns the model takes.
    pub service: Digest,
    /// The functions that run on request. A host that lacks one refuses to load the release.
    pub functions: Vec<FunctionRef>,
}

/// A function by name and version.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FunctionRef {
    /// The name.
    pub name: String,
    /// The version.
    pub version: u32,
}

impl Record for Release {
    const KIND: &'static str = "release";
}
