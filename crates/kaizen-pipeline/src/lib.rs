//! Reusable pipelines: typed steps, cached by content, resumable.
//!
//! *You are here:* beside the loop. Whoever turns it runs each expensive stage as a step: data →
//! **train** → eval.\
//! *Takes:* a [`Step`] (name, version, settings), the digests that go in, and the work.\
//! *Gives:* an [`Outcome`]: the digest that came out, and whether it was there already.\
//! *Touches the world through:* [`ArtifactStore`](kaizen_core::ArtifactStore) and
//! [`AuditLog`](kaizen_core::AuditLog).
//!
//! A step whose name, version, settings and inputs were seen before is not run again:
//!
//! ```
//! # use std::sync::Arc;
//! use kaizen_core::record::Occurrence;
//! use kaizen_core::{Actor, Digest, OperationId, Records, Timestamp};
//! use kaizen_pipeline::{Pipeline, Step};
//! # use kaizen_testkit::{MemoryLog, MemoryStore};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), kaizen_core::Error> {
//! # use serde::{Deserialize, Serialize};
//! /// What the step makes.
//! #[derive(Clone, Debug, Serialize, Deserialize)]
//! struct Count {
//!     words: usize,
//! }
//!
//! impl kaizen_core::Record for Count {
//!     const KIND: &'static str = "count";
//! }
//!
//! let store = Arc::new(MemoryStore::default());
//! let now: Timestamp = "2013-03-01T00:00:00Z".parse()?;
//! let occurrence = Occurrence::new(now, Actor::system("docs"), OperationId::new("docs", now));
//! let pipeline = Pipeline::new(store.clone(), Arc::new(MemoryLog::default()), occurrence);
//!
//! let step = Step::new("count", 1, &"by spaces")?;
//! let text = Digest::of("better every day");
//! let count = async || store.put(&Count { words: 3 }, &[]).await;
//! let first = pipeline.run::<Count>(&step, &[text], count).await?;
//! let again = pipeline.run::<Count>(&step, &[text], async || unreachable!()).await?;
//! assert!(!first.cached && again.cached);
//! assert_eq!(first.output, again.output);
//! # Ok(())
//! # }
//! ```

mod flight;
mod journal;
mod pipeline;
mod step;

pub use pipeline::{Outcome, Pipeline};
pub use step::Step;
