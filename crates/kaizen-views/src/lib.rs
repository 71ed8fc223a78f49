//! What other tools read of the log and the records: OpenLineage events, SLSA provenance, model
//! cards.
//!
//! *You are here:* data → train → eval → **store** → package → deploy → serve → drift.\
//! *Takes:* a store, a log and a registry.\
//! *Gives:* [`OpenLineage`] run events, a [`Statement`] of [`Provenance`] in a signed [`Envelope`],
//! a [`ModelCard`] in Markdown and HTML.\
//! *Touches the world through:* the ports of core, and only to read.
//!
//! Nothing here is kept: a view is made anew from what the log and the records say, and equal logs
//! give equal bytes.
//!
//! ```
//! # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
//! # runtime.block_on(async {
//! use kaizen_store::Ed25519Signer;
//! use kaizen_views::{Envelope, IN_TOTO};
//!
//! let signer = Ed25519Signer::from_seed("example.com/models", [7; 32])?;
//! let envelope = Envelope::seal(IN_TOTO, b"{}", &signer).await?;
//! assert_eq!(envelope.open(&[signer.verifier()])?, b"{}");
//! # Ok::<(), kaizen_core::Error>(())
//! # }).unwrap();
//! ```

mod card;
mod dsse;
mod gather;
mod openlineage;
mod provenance;

pub use card::{CardOptions, Deployed, Drifted, Gated, ModelCard};
pub use dsse::{Envelope, EnvelopeSignature, IN_TOTO, pae};
pub use openlineage::{Dataset, Job, OpenLineage, Run, RunEvent, RunState};
pub use provenance::{
    BuildDefinition, Builder, Parameters, Provenance, Resource, RunDetails, RunMetadata,
    SLSA_PROVENANCE, STATEMENT, Statement, provenance,
};
