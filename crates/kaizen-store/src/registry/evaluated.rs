//! The evaluations that the log knows.

use std::collections::BTreeMap;

use kaizen_core::record::Evaluation;
use kaizen_core::{ArtifactStore, AuditLog, Digest, Event, Records as _, Result, Stored};

use super::PAGE;

/// The evaluations of which the log has an entry. Anybody can put a statement about a model into a
/// store, and a copy brings those of others along; what has no entry has not happened, and nothing
/// of it is read. No snapshot holds them.
#[derive(Clone, Debug, Default)]
pub(super) struct Evaluated {
    /// With their last entries.
    known: BTreeMap<Digest, u64>,
    /// Up to this entry the log was read.
    read: u64,
}

impl Evaluated {
    /// Reads what is new in the log. Of a log that was pruned it knows what is left, whenever it
    /// has read the rest.
    pub(super) async fn read_on(&mut self, log: &dyn AuditLog) -> Result<()> {
        let (first, size) = (log.first().await?, log.size().await?);
        self.known.retain(|_, last| *last >= first);
        self.read = self.read.max(first);
        while self.read < size {
            let end = size.min(self.read + PAGE);
            for (index, entry) in (self.read..).zip(log.read(self.read..end).await?) {
                if entry.event == Event::Evaluated {
                    self.known.insert(entry.subject, index);
                }
            }
            self.read = end;
        }
        Ok(())
    }

    /// The evaluations of a model that the log knows, ordered by digest, without those that were
    /// collected. One that the log knows and that cannot be read is an error.
    pub(super) async fn of(
        &self,
        store: &dyn ArtifactStore,
        model: &Digest,
    ) -> Result<Vec<Stored<Evaluation>>> {
        let mut found = Vec::new();
        for id in store.referrers(model).await? {
            if self.known.contains_key(&id) {
                found.extend(store.find::<Evaluation>(&id).await?);
            }
        }
        Ok(found)
    }
}
