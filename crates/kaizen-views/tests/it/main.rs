//! The crate as its users see it.

#![allow(clippy::clone_on_ref_ptr, reason = "it lets an `Arc<T>` become an `Arc<dyn Port>`")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "tests")]

mod card;
mod collected;
mod judges;
mod openlineage;
mod provenance;

use std::sync::Arc;

use kaizen_core::Timestamp;
use kaizen_store::Registry;
use kaizen_testkit::{ManualClock, MemoryLog, MemoryStore, Story, story};

/// The history of `kaizen_testkit::story`, in memory.
struct World {
    store: Arc<MemoryStore>,
    /// The clock of the store.
    clock: Arc<ManualClock>,
    log: Arc<MemoryLog>,
    registry: Registry,
    story: Story,
}

impl World {
    async fn new() -> Self {
        let clock = Arc::new(ManualClock::at(Timestamp::from_micros(0)));
        let store = Arc::new(MemoryStore::with_clock(clock.clone()));
        let log = Arc::new(MemoryLog::default());
        let story = story(&*store, &*log).await.unwrap();
        let registry = Registry::new(store.clone(), log.clone());
        Self { store, clock, log, registry, story }
    }
}
