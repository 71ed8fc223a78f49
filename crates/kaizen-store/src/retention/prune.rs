//! Pruning a log of what is kept no longer.

use std::collections::BTreeMap;

use kaizen_core::record::Occurrence;
use kaizen_core::{ArtifactStore, AuditLog, Digest, Entry, Error, Event, Result};

use super::{LogRetention, STEP};
use crate::closure::{Body, Found, find_manifest, read_body};
use crate::collect::{Retention, Roots};
use crate::registry::latest_snapshot;
use crate::tiles::WIDTH;

/// What a log was pruned of, or would be, and what kept it from more.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogPruned {
    /// The first entry that could be read before.
    pub from: u64,
    /// The first that can be read now: those before it are gone.
    pub to: u64,
    /// So many entries at the beginning are older than is to be kept, pruned ones among them.
    pub expired: u64,
    /// What needs expired entries that therefore stay: the first of them, and for what; by that.
    pub held_by: Vec<(u64, String)>,
    /// What the log said was removed, and says again as the entry goes: a record in the store still
    /// names it.
    pub said_again: Vec<Digest>,
}

impl LogRetention {
    /// Lets go of the oldest entries: of whole bundles of 256 that are older than is to be kept.
    ///
    /// Kept is more, where something needs it: from the first entry about the versions, the holders
    /// of aliases and the deployments that `retention` keeps, just as [`collect`](crate::collect)
    /// keeps them in the store; from the first about a request for training that is still open; and
    /// all that the newest snapshot of the registry does not cover, so take one before. What the
    /// log was to be asked for by [`Retention::spoken_of_s`] stays too.
    ///
    /// An entry of the log says what goes, before it goes. A removal of a blob that a record in the
    /// store still names is said again. Proofs of all that stays, and of the tree, are had as
    /// before. Pruning that was cut off can be done again. With `dry_run` nothing is changed.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`] if the log keeps every entry; otherwise those of the log and of
    /// the store.
    pub async fn prune(
        &self,
        store: &dyn ArtifactStore,
        log: &dyn AuditLog,
        retention: &Retention,
        occurrence: &Occurrence,
        dry_run: bool,
    ) -> Result<LogPruned> {
        let from = log.first().await?;
        let mut roots = Roots::default();
        roots.read(store, log).await?;
        let spoken_of = occurrence.at.plus_seconds(-retention.spoken_of_s.max(0));
        let keep_from = self.keep_from(occurrence.at).min(spoken_of);
        let (_, expired) = super::expired(log, from..roots.size(), keep_from).await?;
        let mut held_by = roots.needs(retention);
        held_by.push(match latest_snapshot(store, log, from..roots.size()).await? {
            Some(fold) => (fold.size(), "no snapshot of the registry covers more".to_owned()),
            None => (0, "there is no snapshot of the registry".to_owned()),
        });
        held_by.sort_unstable();
        held_by.retain(|(index, _)| *index < expired);
        let least = held_by.first().map_or(expired, |(index, _)| *index);
        let to = (least / WIDTH * WIDTH).max(from);
        let mut said_again = tombstones(store, log, from..to).await?;
        // What the log has spoken of since as if it were there is to be missed.
        said_again.retain(|entry| roots.is_buried(&entry.subject));
        let pruned = LogPruned {
            from,
            to,
            expired,
            held_by,
            said_again: said_again.iter().map(|entry| entry.subject).collect(),
        };
        if dry_run {
            return Ok(pruned);
        }
        let again: Vec<_> = said_again.into_iter().map(|entry| again(entry, occurrence)).collect();
        for page in again.chunks(STEP as usize) {
            log.append(page, None).await?;
        }
        // Also if nothing more goes: what was cut off is ended.
        if to > 0 {
            log.prune(to, occurrence).await?;
        }
        Ok(pruned)
    }
}

fn again(said: Entry, occurrence: &Occurrence) -> Entry {
    let Occurrence { at, actor, operation } = occurrence.clone();
    Entry { at, actor, operation, ..said }
}

/// The tombstones among these entries of what a record in the store still names, by digest.
async fn tombstones(
    store: &dyn ArtifactStore,
    log: &dyn AuditLog,
    range: std::ops::Range<u64>,
) -> Result<Vec<Entry>> {
    let mut buried = BTreeMap::new();
    let mut next = range.start;
    while next < range.end {
        let end = range.end.min(next + STEP);
        for entry in log.read(next..end).await? {
            if let Event::Removed { .. } = entry.event {
                buried.insert(entry.subject, entry);
            }
        }
        next = end;
    }
    let mut needed = BTreeMap::new();
    let manifests = if buried.is_empty() { Vec::new() } else { store.manifests().await? };
    for id in manifests {
        let Found::Manifest(manifest, _) = find_manifest(store, &id).await? else {
            let message = format!("pruning: manifest {id}: it is listed, and cannot be read");
            return Err(Error::corrupt(message));
        };
        let body = match read_body(store, &manifest, true).await? {
            Body::Names(named) => named,
            Body::Missing => Vec::new(),
        };
        let named = manifest.blobs().chain(&manifest.subject).map(|blob| blob.digest).chain(body);
        for digest in named {
            if let Some(entry) = buried.remove(&digest)
                && !store.contains(&digest).await?
            {
                needed.insert(digest, entry);
            }
        }
    }
    Ok(needed.into_values().collect())
}
