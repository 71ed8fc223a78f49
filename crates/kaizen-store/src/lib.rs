//! Artefacts, the registry of models and the audit log.
//!
//! *You are here:* data → train → eval → **store** → package → deploy → serve → drift.\
//! *Takes:* records and their payloads, entries of the log, decisions.\
//! *Gives:* [`LocalStore`] and [`ObjectArtifacts`] (an OCI image layout on disk and in object
//! stores), [`copy`], [`collect`] and [`fsck`] over them, [`LocalLog`] and [`ObjectLog`] (a
//! transparency log with signed checkpoints), [`Registry`] (names, versions and aliases, folded from
//! the log), [`lineage`].\
//! *Touches the world through:* a directory each, or an object store. [`Ed25519Signer::generate`]
//! and the opening of what lies in an object store alone draw randomness, from the operating system.
//!
//! Store a record, say so in the log, and verify the log:
//!
//! ```
//! # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
//! # runtime.block_on(async {
//! # let scratch = tempfile::tempdir().unwrap();
//! # let dir = scratch.path();
//! use std::sync::Arc;
//! use kaizen_core::record::Release;
//! use kaizen_core::{Actor, AuditLog, Digest, Entry, Event, OperationId, Records};
//! use kaizen_store::{Ed25519Signer, LocalLog, LocalStore};
//!
//! let store = LocalStore::open(dir.join("store")).await?;
//! let release = Release {
//!     name: "late".into(),
//!     version: 1,
//!     model: Digest::of("a model"),
//!     service: Digest::of("a feature service"),
//!     functions: vec![],
//! };
//! let id = store.put(&release, &[]).await?;
//! assert_eq!(store.get::<Release>(&id).await?.record, release);
//!
//! let signer = Arc::new(Ed25519Signer::generate("example.com/models", dir.join("key")).await?);
//! let log = LocalLog::open(dir.join("log"), signer.clone()).await?;
//! let at = "2013-03-01T00:00:00Z".parse()?;
//! let entry = Entry {
//!     at,
//!     actor: Actor::system("cycle"),
//!     operation: OperationId::new("release", at),
//!     event: Event::Released,
//!     subject: id,
//!     evidence: vec![],
//! };
//! assert_eq!(log.append(&[entry], None).await?, 0..1);
//!
//! let verified = LocalLog::verify(dir.join("log"), &signer.verifier()).await?;
//! assert_eq!(verified.size, 1);
//! # Ok::<(), kaizen_core::Error>(())
//! # }).unwrap();
//! ```

mod closure;
mod collect;
mod copy;
#[cfg(test)]
mod crash;
mod files;
mod fsck;
mod hashes;
mod head;
mod index;
mod lineage;
mod local_log;
mod local_store;
mod log_keys;
mod log_signers;
pub mod merkle;
mod note;
mod object_artifacts;
mod object_log;
mod objects;
mod pruning;
mod queue;
mod random;
mod registry;
mod retention;
mod signer;
mod signing;
mod tail;
mod tiles;
mod tlog_proof;
mod verify;
mod witness;

pub use collect::{Collected, Retention, collect};
pub use copy::{Copied, CopyOptions, Link, SkipReason, Skipped, copy};
pub use fsck::{Checked, Fault, Layout, Need, Problem, fsck};
pub use lineage::{
    Lineage, LineageIndex, LineageStep, Said, ancestors, children, descendants, lineage,
};
pub use local_log::{LocalLog, LocalLogBuilder, verify_tiles};
pub use local_store::{LocalStore, read_file};
pub use log_keys::LogKeys;
pub use log_signers::LogSigners;
pub use note::{VerifierKey, open_checkpoint, open_note};
pub use object_artifacts::ObjectArtifacts;
pub use object_log::ObjectLog;
pub use registry::{AliasMove, OverrideMark, Registry, Search, TagChange, Version, VersionState};
pub use retention::{LogPruned, LogRetention, LogRetentionReport};
pub use signer::Ed25519Signer;
pub use tlog_proof::{Proven, TlogProof};
pub use verify::Verified;
pub use witness::{Cosignature, WitnessKey, WitnessPolicy};
