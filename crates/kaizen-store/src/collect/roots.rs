//! What the log says must be kept.

use std::collections::{BTreeMap, BTreeSet};

use kaizen_core::{AliasChange, AuditLog, Digest, Entry, Event, Result, Timestamp};

use super::{PAGE, Retention};

/// What the entries of the log come to, for a collection.
#[derive(Debug, Default)]
pub(super) struct Roots {
    size: u64,
    /// The models of a name, version by version.
    versions: BTreeMap<String, Vec<Digest>>,
    /// The holders of an alias of a name to which rollbacks lead; the last holds it.
    holders: BTreeMap<(String, String), Vec<Digest>>,
    targets: BTreeMap<String, Target>,
    /// When a digest was last spoken of, other than to remove it.
    spoken_of: BTreeMap<Digest, Timestamp>,
    buried: BTreeSet<Digest>,
}

/// What runs at a target.
#[derive(Debug, Default)]
struct Target {
    /// Its last deployment, whatever it did.
    last: Option<Digest>,
    /// The shifts that no rollback has undone; the last is in force.
    in_force: Vec<Digest>,
}

impl Roots {
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Whether the log says that the digest was removed.
    pub(super) fn is_buried(&self, digest: &Digest) -> bool {
        self.buried.contains(digest)
    }

    /// Reads the whole log.
    pub(super) async fn read(&mut self, log: &dyn AuditLog) -> Result<()> {
        let end = log.size().await?;
        while self.size < end {
            let next = end.min(self.size + PAGE);
            for entry in log.read(self.size..next).await? {
                self.apply(entry);
            }
            self.size = next;
        }
        Ok(())
    }

    fn apply(&mut self, entry: Entry) {
        let subject = entry.subject;
        match entry.event {
            Event::Removed { .. } => {
                self.buried.insert(subject);
                return;
            }
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
                let target = self.targets.entry(target).or_default();
                target.last = Some(subject);
                match step.as_str() {
                    "shifted" => target.in_force.push(subject),
                    "rolled_back" => drop(target.in_force.pop()),
                    _ => {}
                }
            }
            _ => {}
        }
        for digest in entry.evidence.into_iter().chain([subject]) {
            let last = self.spoken_of.entry(digest).or_insert(entry.at);
            *last = entry.at.max(*last);
        }
    }

    /// What must be kept at this instant.
    pub(super) fn kept(&self, retention: &Retention, now: Timestamp) -> BTreeSet<Digest> {
        let mut kept = retention.also.clone();
        for models in self.versions.values() {
            kept.extend(last(models, retention.versions));
        }
        for holders in self.holders.values() {
            let most = retention.rollbacks.map(|rollbacks| rollbacks.saturating_add(1));
            kept.extend(last(holders, most));
        }
        for target in self.targets.values() {
            // The one in force, and the one that a rollback leads to.
            kept.extend(last(&target.in_force, Some(2)));
            kept.extend(target.last);
        }
        let since = now.plus_seconds(-retention.spoken_of_s.max(0));
        let recent = self.spoken_of.iter().filter(|(_, at)| **at >= since);
        kept.extend(recent.map(|(digest, _)| *digest));
        kept
    }
}

/// The last so many.
fn last(digests: &[Digest], most: Option<u32>) -> impl Iterator<Item = Digest> + '_ {
    let most = most.map_or(usize::MAX, |most| most as usize);
    digests.iter().rev().take(most).copied()
}
