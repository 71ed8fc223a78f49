use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Record;
use crate::{Digest, Signature, serde_int};

/// A trained model: what it takes, what it was made from, and where its weights are.
///
/// Payload `encoder.json`: the preprocessing that turns a row of the signature into numbers. The
/// weights are a `ModelPack` manifest of their own, the subject of this one; its weight layer is
/// the same blob in the container image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Model {
    /// The model's name, the same for all its versions.
    pub name: String,
    /// The training set.
    pub training_set: Digest,
    /// How it was trained.
    pub algorithm: Algorithm,
    /// The seed of everything that was drawn.
    #[serde(with = "serde_int")]
    pub seed: u64,
    /// What it takes and gives.
    pub signature: Signature,
    /// The digest of the feature service whose columns it takes.
    pub service: Digest,
    /// The format of the weights, such as `forust-json`; a loader of that name reads them.
    pub format: String,
    /// The `ModelPack` manifest that holds the weights.
    pub weights: Digest,
}

/// The name of an algorithm and its settings, as text for people and for comparison.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Algorithm {
    /// The name, such as `gradient_boosting`.
    pub name: String,
    /// The settings.
    pub settings: BTreeMap<String, String>,
}

impl Model {
    /// The name of the payload that holds the preprocessing.
    pub const ENCODER: &'static str = "encoder.json";
}

impl Record for Model {
    const KIND: &'static str = "model";

    fn subject(&self) -> Option<Digest> {
        Some(self.weights)
    }
}
