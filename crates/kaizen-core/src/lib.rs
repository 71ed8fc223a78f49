//! Digests, records, events and ports: the words in which every other crate of Kaizen speaks.
//!
//! *You are here:* below the loop. data → train → eval → store → package → deploy → serve → drift
//! all stand on this crate.\
//! *Takes:* nothing; it has no Arrow, no async runtime and does no I/O.\
//! *Gives:* [`Digest`], [`Record`] and the record types, [`Event`] and [`Entry`], [`Error`].\
//! *Touches the world through:* the ports that it defines: [`ArtifactStore`], [`AuditLog`],
//! [`Clock`], [`Signer`], [`Target`], [`Progress`].
//!
//! Everything is a digest:
//!
//! ```
//! use kaizen_core::Digest;
//!
//! let digest = Digest::of(b"hello");
//! assert!(digest.to_string().starts_with("sha256:2cf24dba5fb0a30e"));
//! assert!(digest.check(b"hellp", "greeting").is_err());
//! ```
//!
//! Three kinds of thing exist in Kaizen: *records* (immutable values that name their parents by
//! digest, module [`record`]), *stages* (the other crates) and *ports* (the traits above).

mod artifact;
mod audit;
mod compute;
mod digest;
mod error;
mod oci;
mod progress;
pub mod record;
mod schema;
mod shown;
mod signer;
pub mod stream;
mod target;
mod time;

pub use artifact::{ArtifactStore, Payload, Records, Stored};
pub use audit::{Actor, AliasChange, AuditLog, Checkpoint, Entry, Event, OperationId};
pub use compute::compute;
pub use digest::{Digest, Digester};
pub use error::{Context, Error, ErrorKind, Result};
pub use oci::{Descriptor, Manifest, media_type};
pub use progress::{Progress, Silent};
pub use record::Record;
pub use schema::{DataType, Field, Signature};
pub use shown::one_line;
pub use signer::Signer;
pub use stream::ByteStream;
pub use target::{SlotStatus, Target};
pub use time::{Clock, SystemClock, TimeBlocks, Timestamp, serde_int};

// The types that appear in this crate's own signatures.
pub use async_trait::async_trait;
pub use bytes::Bytes;
