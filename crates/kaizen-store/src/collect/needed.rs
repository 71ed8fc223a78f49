//! From where on entries of the log are needed.

use std::collections::BTreeMap;

use kaizen_core::{Digest, Entry, Event, OperationId};

/// Where the log first speaks of what, and which requests are still open.
#[derive(Debug, Default)]
pub(super) struct Needed {
    /// The first entry about each digest.
    first_about: BTreeMap<Digest, u64>,
    /// The requests for a training that nothing has closed.
    open: BTreeMap<OperationId, u64>,
}

impl Needed {
    pub(super) fn apply(&mut self, index: u64, entry: &Entry) {
        self.first_about.entry(entry.subject).or_insert(index);
        match entry.event {
            Event::RetrainRequested => {
                self.open.entry(entry.operation.clone()).or_insert(index);
            }
            Event::Decided { .. } | Event::RetrainAbandoned { .. } | Event::AliasMoved { .. } => {
                self.open.remove(&entry.operation);
            }
            _ => {}
        }
    }

    /// The first entry about a digest.
    pub(super) fn first_about(&self, digest: &Digest) -> Option<u64> {
        self.first_about.get(digest).copied()
    }

    /// The open requests, by name, with the entry of each.
    pub(super) fn open(&self) -> impl Iterator<Item = (String, u64)> + '_ {
        self.open.iter().map(|(operation, index)| (format!("open request `{operation}`"), *index))
    }
}
