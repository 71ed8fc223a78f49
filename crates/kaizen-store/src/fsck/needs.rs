//! What needs which blob, and what the log says of it.

use std::collections::{BTreeMap, BTreeSet};

use kaizen_core::{AuditLog, Digest, Event, Result};

use super::{Checked, Fault, Need, Problem, Read, blob_file};
use crate::closure::{makes_record, speaks_of_record};

/// How many entries are read from the log at once.
const PAGE: u64 = 512;

/// At most this many of those that need a blob are named.
const MAX_NEEDS: usize = 16;

/// What the log says of each digest.
#[derive(Debug, Default)]
pub(crate) struct Spoken {
    /// So many entries the log had.
    pub(crate) size: u64,
    /// The last entry that says it was removed.
    removed: BTreeMap<Digest, u64>,
    /// The last entry whose subject is this record, which therefore was in the store.
    records: BTreeMap<Digest, u64>,
    /// The last entry that says it was made.
    made: BTreeMap<Digest, u64>,
}

impl Spoken {
    /// What a log says, if there is one.
    pub(super) async fn of(log: Option<&dyn AuditLog>) -> Result<Self> {
        match log {
            Some(log) => Self::read(log).await,
            None => Ok(Self::default()),
        }
    }

    pub(crate) async fn read(log: &dyn AuditLog) -> Result<Self> {
        let mut spoken = Self::default();
        let (mut next, end) = (log.first().await?, log.size().await?);
        while next < end {
            let page = next..end.min(next + PAGE);
            for (index, entry) in page.clone().zip(log.read(page.clone()).await?) {
                let subject = entry.subject;
                match entry.event {
                    Event::Removed { .. } => drop(spoken.removed.insert(subject, index)),
                    Event::Restored => drop(spoken.removed.remove(&subject)),
                    event if speaks_of_record(&event) => {
                        if makes_record(&event) {
                            spoken.made.insert(subject, index);
                        }
                        spoken.records.insert(subject, index);
                    }
                    // Their subjects need not be records.
                    _ => {}
                }
            }
            next = page.end;
        }
        spoken.size = end;
        Ok(spoken)
    }

    /// What was removed by an entry before this one, and not spoken of since as if it were there;
    /// with that entry.
    pub(crate) fn removed_before(&self, end: u64) -> BTreeMap<Digest, u64> {
        let old = self.removed.iter().filter(|(digest, removed)| {
            **removed < end && self.records.get(digest).is_none_or(|spoken| spoken < removed)
        });
        old.map(|(digest, removed)| (*digest, *removed)).collect()
    }

    /// Whether the last word on a record is that it was removed.
    pub(super) fn is_removed(&self, record: &Digest) -> bool {
        let spoken = self.records.get(record);
        self.removed.get(record).is_some_and(|removed| spoken.is_none_or(|spoken| spoken < removed))
    }

    /// The last log entry that speaks of a record.
    pub(super) fn speaks_of(&self, record: &Digest) -> Vec<Need> {
        self.records.get(record).map(|index| Need::Entry(*index)).into_iter().collect()
    }

    /// Whether a blob that a manifest names was removed, and the manifest not made again since.
    pub(crate) fn excuses(&self, blob: &Digest, manifest: &Digest) -> bool {
        let made = self.made.get(manifest);
        self.removed.get(blob).is_some_and(|removed| made.is_none_or(|made| made < removed))
    }
}

/// What is needed and not there.
#[derive(Default)]
pub(super) struct Missing {
    /// What needs it.
    pub(super) needed_by: BTreeMap<Digest, Vec<Need>>,
    /// What a tombstone says was removed.
    pub(super) removed: BTreeSet<Digest>,
}

impl Missing {
    pub(super) fn find(blobs: &BTreeMap<Digest, u64>, read: &Read, spoken: &Spoken) -> Self {
        let mut missing = Self::default();
        for (id, (manifest, _)) in &read.manifests {
            for blob in manifest.blobs().filter(|blob| !blobs.contains_key(&blob.digest)) {
                let is_removed = spoken.excuses(&blob.digest, id);
                missing.add(&blob.digest, Need::Manifest(*id), is_removed);
            }
        }
        for (record, index) in spoken.records.iter().filter(|(id, _)| !blobs.contains_key(*id)) {
            missing.add(record, Need::Entry(*index), spoken.is_removed(record));
        }
        missing
    }

    fn add(&mut self, digest: &Digest, need: Need, is_removed: bool) {
        if is_removed {
            self.removed.insert(*digest);
        } else {
            self.needed_by.entry(*digest).or_default().push(need);
        }
    }
}

/// Adds what is missing, and says of what is damaged who needs it.
pub(super) fn check(
    checked: &mut Checked,
    blobs: &BTreeMap<Digest, u64>,
    read: &Read,
    spoken: &Spoken,
) {
    let mut needs: BTreeMap<Digest, Vec<Need>> = BTreeMap::new();
    for (id, (manifest, _)) in &read.manifests {
        for blob in manifest.blobs() {
            if read.damaged.contains(&blob.digest) {
                needs.entry(blob.digest).or_default().push(Need::Manifest(*id));
                continue;
            }
            let Some(size) = blobs.get(&blob.digest).filter(|size| **size != blob.size) else {
                continue;
            };
            checked.problems.push(Problem {
                file: blob_file(id),
                fault: Fault::Damaged,
                digest: Some(*id),
                detail: format!("it gives {} {} bytes, not {size}", blob.digest, blob.size),
                needed_by: spoken.speaks_of(id),
            });
        }
    }
    for (record, index) in spoken.records.iter().filter(|(id, _)| read.damaged.contains(*id)) {
        needs.entry(*record).or_default().push(Need::Entry(*index));
    }
    for problem in &mut checked.problems {
        if matches!(problem.fault, Fault::Damaged | Fault::Unreadable)
            && let Some(of) = problem.digest.and_then(|digest| needs.get(&digest))
        {
            problem.needed_by = of.iter().take(MAX_NEEDS).copied().collect();
        }
    }
    let missing = Missing::find(blobs, read, spoken);
    checked.removed = missing.removed.len() as u64;
    checked.problems.extend(missing.needed_by.into_iter().map(|(digest, of)| Problem {
        file: blob_file(&digest),
        fault: Fault::Missing,
        digest: Some(digest),
        detail: String::new(),
        needed_by: of.into_iter().take(MAX_NEEDS).collect(),
    }));
}
