//! Rolls releases out on targets, and back.
//!
//! *You are here:* data → train → eval → store → package → **deploy** → serve → drift.\
//! *Takes:* the digest of a [`Release`](kaizen_core::record::Release).\
//! *Gives:* a [`Deployment`](kaizen_core::record::Deployment) for each change, and its entry in the
//! log.\
//! *Touches the world through:* [`Target`](kaizen_core::Target),
//! [`ArtifactStore`](kaizen_core::ArtifactStore), [`AuditLog`](kaizen_core::AuditLog).
//!
//! ```
//! use std::sync::Arc;
//!
//! use kaizen_core::record::Occurrence;
//! use kaizen_core::{Actor, Digest, OperationId, Target, Timestamp};
//! use kaizen_deploy::BlueGreen;
//! use kaizen_testkit::target::MemoryTarget;
//! use kaizen_testkit::{MemoryLog, MemoryStore};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> kaizen_core::Result<()> {
//! let (first, second) = (Digest::of("release 1"), Digest::of("release 2"));
//! let target = Arc::new(MemoryTarget::new("shop", [first, second]));
//! let store = Arc::new(MemoryStore::default());
//! let rollout = BlueGreen::new(target.clone(), store, Arc::new(MemoryLog::default()));
//!
//! let at: Timestamp = "2013-03-01T00:00:00Z".parse()?;
//! let turn = || Occurrence::new(at, Actor::person("Ada"), OperationId::new("rollout", at));
//! rollout.release(&first, turn(), &[]).await?;
//! rollout.release(&second, turn(), &[]).await?;
//! assert_eq!(target.status().await?["green"].weight, 100);
//!
//! rollout.rollback(turn(), &[]).await?;
//! assert_eq!(target.status().await?["blue"].weight, 100);
//! # Ok(())
//! # }
//! ```

mod blue_green;
mod journal;

pub use blue_green::{BlueGreen, SmokeCheck};
