//! The records: immutable values, each naming in its body the digests of what it was made from.
//!
//! Two sorts. *Content* ([`TrainingSet`], [`Profile`], [`Model`], [`Evaluation`], [`Release`],
//! [`Image`], [`Predictions`]) holds no instant of its making, no host and no duration, so equal
//! inputs give an equal digest. *Occurrences* ([`Run`], [`Decision`], [`Deployment`],
//! [`DriftReport`], [`Erasure`], [`RetrainRequest`]) say when, who and in which operation, so two
//! equal decisions are two records.

mod decision;
mod deployment;
mod drift_report;
mod erasure;
mod evaluation;
mod image;
mod model;
mod predictions;
mod profile;
mod release;
mod retrain_request;
mod run;
mod training_set;

use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Actor, Digest, OperationId, Timestamp};

pub use decision::{Decision, GateResult, Override};
pub use deployment::{Deployment, InForce};
pub use drift_report::{DriftReport, FeatureDrift};
pub use erasure::{Count, Erasure, Replacement};
pub use evaluation::{Comparison, Estimate, Evaluation};
pub use image::Image;
pub use model::{Algorithm, Model};
pub use predictions::Predictions;
pub use profile::{Bins, FeatureProfile, Profile};
pub use release::{FunctionRef, Release};
pub use retrain_request::{RetrainRequest, Trigger};
pub use run::Run;
pub use training_set::{Coverage, ListedFile, TrainingSet};

/// A kind of record. Its body is JSON; every digest in it names something that it was made from.
///
/// ```
/// use kaizen_core::{Digest, Record};
/// use serde::{Deserialize, Serialize};
///
/// /// A host's own record, stored and traced like Kaizen's.
/// #[derive(Clone, Debug, Serialize, Deserialize)]
/// struct Survey {
///     training_set: Digest,
///     answers: u32,
/// }
///
/// impl Record for Survey {
///     const KIND: &'static str = "survey";
/// }
/// ```
pub trait Record:
    Clone + fmt::Debug + Serialize + DeserializeOwned + Send + Sync + 'static
{
    /// The kind's name in its media type: lower case, digits and hyphens.
    const KIND: &'static str;

    /// The record that this one is a statement about, if it is one.
    fn subject(&self) -> Option<Digest> {
        None
    }
}

/// At most this many bytes in the body of a record.
pub const MAX_BODY_BYTES: u64 = 64 << 20;

/// The artefact type of a kind of record.
pub fn artifact_type(kind: &str) -> String {
    format!("application/vnd.kaizen.{kind}.v1+json")
}

/// Whether this is the artefact type of a kind of record, also of a host's own.
pub fn is_artifact_type(text: &str) -> bool {
    let kind = text.strip_prefix("application/vnd.kaizen.");
    kind.is_some_and(|kind| kind.ends_with(".v1+json"))
}

/// The media type of the body of a kind of record.
pub fn body_type(kind: &str) -> String {
    format!("application/vnd.kaizen.{kind}.body.v1+json")
}

/// What every occurrence says: when, who, and in which operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct Occurrence {
    /// When it happened.
    pub at: Timestamp,
    /// Who did it.
    pub actor: Actor,
    /// The turn of work that it belongs to.
    pub operation: OperationId,
}

impl Occurrence {
    /// Something that `actor` did at `at`, in `operation`.
    pub fn new(at: Timestamp, actor: Actor, operation: OperationId) -> Self {
        Self { at, actor, operation }
    }
}
