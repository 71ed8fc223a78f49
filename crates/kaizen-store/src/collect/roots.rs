//! What the log says must be kept.

use std::collections::{BTreeMap, BTreeSet};

use kaizen_core::record::InForce;
use kaizen_core::{AliasChange, ArtifactStore, AuditLog, Digest, Entry, Event, Result, Timestamp};

use super::needed::Needed;
use super::{GARBAGE, PAGE, Retention};
use crate::closure::speaks_of_record;
use crate::registry::{Fold, latest_snapshot};

/// What the entries of the log come to, for a collection.
#[derive(Debug, Default)]
pub(crate) struct Roots {
    size: u64,
    /// So many entries are covered by a snapshot of the registry, in place of those that the log
    /// was pruned of.
    covered: u64,
    needed: Needed,
    /// The models of a name, version by version.
    versions: BTreeMap<String, Vec<Digest>>,
    /// The holders of an alias of a name to which rollbacks lead; the last holds it.
    holders: BTreeMap<(String, String), Vec<Digest>>,
    /// What was done at each target, in order.
    targets: BTreeMap<String, Vec<(String, Digest)>>,
    /// The snapshots of the registry, the newest last.
    snapshots: Vec<Digest>,
    /// The one that tells of what the log was pruned of. Newer ones may be damaged, or written by a
    /// later version of this library.
    base: Option<Digest>,
    /// When a digest was last spoken of, other than to remove it.
    spoken_of: BTreeMap<Digest, Timestamp>,
    /// What was a record in the store.
    records: BTreeSet<Digest>,
    buried: BTreeMap<Digest, Tombstone>,
    /// Of what the last word is that it is there after all.
    restored: BTreeSet<Digest>,
}

/// The last word of the log on a digest is that it was removed.
#[derive(Clone, Copy, Debug)]
struct Tombstone {
    at: Timestamp,
    /// Whether a collection says so, and not an erasure or a person.
    as_garbage: bool,
}

impl Roots {
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Whether the log says that the digest was removed, and not since that it is there.
    pub(crate) fn is_buried(&self, digest: &Digest) -> bool {
        self.buried.contains_key(digest)
    }

    /// Whether a collection says that the digest was removed.
    pub(super) fn is_garbage(&self, digest: &Digest) -> bool {
        self.buried.get(digest).is_some_and(|tombstone| tombstone.as_garbage)
    }

    /// Whether the last word of the log on the digest is that it is there after all.
    pub(super) fn is_restored(&self, digest: &Digest) -> bool {
        self.restored.contains(digest)
    }

    /// Whether a blob that was put at this instant has its tombstone: it was there before it.
    pub(super) fn has_tombstone(&self, digest: &Digest, put: Timestamp) -> bool {
        self.buried.get(digest).is_some_and(|tombstone| put <= tombstone.at)
    }

    /// Whether the digest was a record, and must be in the store.
    pub(super) fn is_record(&self, digest: &Digest) -> bool {
        self.records.contains(digest) && !self.is_buried(digest)
    }

    /// Reads what is new in the log, at first the whole; what it was pruned of, from a snapshot of
    /// the registry.
    pub(crate) async fn read(
        &mut self,
        store: &dyn ArtifactStore,
        log: &dyn AuditLog,
    ) -> Result<()> {
        let (first, end) = (log.first().await?, log.size().await?);
        if self.size < first {
            *self = Self::default();
            if let Some((snapshot, fold)) = latest_snapshot(store, log, first..end).await? {
                self.begin(&fold);
                self.base = Some(snapshot);
            }
            self.size = first;
        }
        while self.size < end {
            let next = end.min(self.size + PAGE);
            for entry in log.read(self.size..next).await? {
                self.needed.apply(self.size, &entry);
                self.apply(entry);
                self.size += 1;
            }
        }
        Ok(())
    }

    /// Begins with what the registry came to.
    fn begin(&mut self, fold: &Fold) {
        let versions = fold.models().map(|(name, models)| (name.clone(), models));
        self.versions = versions.collect();
        let holders = fold.holders();
        let holders = holders.map(|((name, alias), held)| ((name.clone(), alias.clone()), held));
        self.holders = holders.collect();
        self.covered = fold.size();
    }

    fn apply(&mut self, entry: Entry) {
        let subject = entry.subject;
        if speaks_of_record(&entry.event) {
            self.records.insert(subject);
            // It was put just before; a tag may be on what is long gone.
            self.buried.remove(&subject);
            self.restored.remove(&subject);
        }
        match entry.event {
            Event::Removed { reason } => {
                let tombstone = Tombstone { at: entry.at, as_garbage: reason == GARBAGE };
                self.buried.insert(subject, tombstone);
                self.restored.remove(&subject);
                return;
            }
            Event::Restored => {
                self.buried.remove(&subject);
                self.restored.insert(subject);
                return;
            }
            Event::Registered { .. } | Event::AliasMoved { .. } if self.size < self.covered => {}
            Event::Registered { name, .. } => {
                self.versions.entry(name).or_default().push(subject);
            }
            Event::AliasMoved { name, alias, change, .. } => {
                let holders = self.holders.entry((name, alias)).or_default();
                if change == AliasChange::Rollback {
                    holders.pop();
                    // It holds the alias now, whatever this fold made of those before.
                    if holders.last() != Some(&subject) {
                        holders.push(subject);
                    }
                } else {
                    holders.push(subject);
                }
            }
            Event::Deployed { target, step } => {
                self.targets.entry(target).or_default().push((step, subject));
            }
            Event::Folded { .. } => {
                self.snapshots.push(subject);
                self.buried.remove(&subject);
                self.restored.remove(&subject);
            }
            _ => {}
        }
        for digest in entry.evidence.into_iter().chain([subject]) {
            let last = self.spoken_of.entry(digest).or_insert(entry.at);
            *last = entry.at.max(*last);
        }
    }

    /// What is alive, and why.
    fn live(&self, retention: &Retention) -> impl Iterator<Item = (String, Digest)> {
        let also = retention.also.iter().map(|digest| (format!("{digest}, by request"), *digest));
        let versions = self.versions.iter().flat_map(|(name, models)| {
            let numbered =
                (1..).zip(models.iter().copied()).skip(beyond(models, retention.versions));
            numbered.map(move |(number, model)| (format!("version {number} of `{name}`"), model))
        });
        let holders = self.holders.iter().flat_map(|((name, alias), holders)| {
            let most = retention.rollbacks.map(|rollbacks| rollbacks.saturating_add(1));
            let held = holders.iter().copied().skip(beyond(holders, most));
            held.map(move |model| (format!("alias `{alias}` of `{name}`"), model))
        });
        let targets = self.targets.iter().flat_map(|(name, steps)| {
            let mut in_force = InForce::default();
            for (step, deployment) in steps.iter().rev() {
                in_force.earlier(step, *deployment);
            }
            // The one in force, and the one that a rollback leads to.
            let mut all: Vec<_> = in_force.shifts().iter().copied().take(2).collect();
            all.extend(in_force.current().into_iter().chain(in_force.last()));
            all.into_iter().map(move |deployment| (format!("a deployment at `{name}`"), deployment))
        });
        also.chain(versions).chain(holders).chain(targets)
    }

    /// What needs entries of the log, with the first that it needs; by that.
    pub(crate) fn needs(&self, retention: &Retention) -> Vec<(u64, String)> {
        let live = self.live(retention);
        let about = live.filter_map(|(why, digest)| Some((self.needed.first_about(&digest)?, why)));
        let open = self.needed.open().map(|(why, index)| (index, why));
        let mut needs: Vec<_> = about.chain(open).collect();
        needs.sort_unstable();
        needs.dedup();
        needs
    }

    /// The newest snapshot of the registry that is there, and the one that a pruned log needs.
    pub(super) fn snapshots(&self, there: &BTreeSet<Digest>) -> impl Iterator<Item = Digest> {
        let newest = self.snapshots.iter().rfind(|snapshot| there.contains(snapshot));
        newest.copied().into_iter().chain(self.base)
    }

    /// What must be kept at this instant.
    pub(super) fn kept(&self, retention: &Retention, now: Timestamp) -> BTreeSet<Digest> {
        let mut kept: BTreeSet<_> = self.live(retention).map(|(_, digest)| digest).collect();
        let since = now.plus_seconds(-retention.spoken_of_s.max(0));
        let recent = self.spoken_of.iter().filter(|(_, at)| **at >= since);
        kept.extend(recent.map(|(digest, _)| *digest));
        kept
    }
}

/// How many come before the last so many.
fn beyond(digests: &[Digest], most: Option<u32>) -> usize {
    digests.len().saturating_sub(most.map_or(usize::MAX, |most| most as usize))
}
