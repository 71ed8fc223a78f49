//! The evaluations that the log knows.

use std::collections::BTreeSet;

use kaizen_core::record::Evaluation;
use kaizen_core::{ArtifactStore, AuditLog, Digest, Event, Records as _, Result, Stored};

/// So many entries of the log are read at once.
const PAGE: u64 = 4_096;

/// The evaluations of which the log has an entry. Anybody can put a statement about a model into a
/// store, and a copy brings those of others along; what has no entry has not happened, and nothing
/// of it is read.
///
/// ```
/// # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
/// # runtime.block_on(async {
/// use kaizen_store::Evaluated;
/// use kaizen_testkit::{MemoryLog, MemoryStore, story};
///
/// let (store, log) = (MemoryStore::default(), MemoryLog::default());
/// let story = story(&store, &log).await?;
/// let evaluated = Evaluated::read(&log).await?;
/// let found = evaluated.of(&store, &story.models[0]).await?;
/// assert_eq!(found[0].record.model, story.models[0]);
/// # Ok::<(), kaizen_core::Error>(())
/// # }).unwrap();
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Evaluated(BTreeSet<Digest>);

impl Evaluated {
    /// Reads the log, as far back as it goes: of a log that was pruned, what is left.
    ///
    /// # Errors
    ///
    /// As reading the log.
    pub async fn read(log: &dyn AuditLog) -> Result<Self> {
        let mut known = BTreeSet::new();
        let (mut start, size) = (log.first().await?, log.size().await?);
        while start < size {
            let end = size.min(start + PAGE);
            let entries = log.read(start..end).await?.into_iter();
            let evaluated = entries.filter(|entry| entry.event == Event::Evaluated);
            known.extend(evaluated.map(|entry| entry.subject));
            start = end;
        }
        Ok(Self(known))
    }

    /// The evaluations of a model that the log knows, ordered by digest, without those that were
    /// collected.
    ///
    /// # Errors
    ///
    /// As reading the store; [`ErrorKind::Corrupt`](kaizen_core::ErrorKind::Corrupt) for one that the
    /// log knows and that cannot be read.
    pub async fn of(
        &self,
        store: &dyn ArtifactStore,
        model: &Digest,
    ) -> Result<Vec<Stored<Evaluation>>> {
        let mut found = Vec::new();
        for id in store.referrers(model).await? {
            if self.0.contains(&id) {
                found.extend(store.find::<Evaluation>(&id).await?);
            }
        }
        Ok(found)
    }
}
