//! Conformance suites, oracles, fakes, fault injectors and synthetic data.
//!
//! *You are here:* beside the loop. Whoever writes a store, an estimator or a target runs the suite
//! of its port from here; Kaizen's own implementations do.\
//! *Takes:* an implementation of a port.\
//! *Gives:* a panic that names the broken rule, or nothing.\
//! *Touches the world through:* nothing; the fakes keep all in memory.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! // Here would stand your own store.
//! let store = kaizen_testkit::MemoryStore::default();
//! kaizen_testkit::artifact_store::suite(&store).await;
//! # }
//! ```

pub mod artifact_store;
pub mod audit_log;
mod doubles;
pub mod drifting;
pub mod estimator;
mod fakes;
pub mod judge;
pub mod online_store;
pub mod point_in_time;
pub mod source;
mod story;
pub mod target;

pub use doubles::{Doubled, LogDouble, StoreDouble};
pub use fakes::{FaultyLog, ManualClock, MemoryLog, MemoryStore};
pub use story::{Story, story};
