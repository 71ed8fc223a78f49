//! Pruning a log of what is kept no longer.

use std::collections::BTreeMap;

use kaizen_core::record::Occurrence;
use kaizen_core::{ArtifactStore, AuditLog, Context, Digest, Entry, Error, ErrorKind, Result};

use super::{LogRetention, STEP};
use crate::closure::{Body, Found, find_manifest, read_body};
use crate::collect::{Retention, Roots};
use crate::fsck::Spoken;
use crate::registry::latest_snapshot;
use crate::tiles::WIDTH;

/// How often removals are looked for anew because the log has moved on.
const TRIES: u32 = 16;

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
    /// store still names is said again, unless the log has said since that the blob, or the record,
    /// is there: then it is to be missed. Proofs of all that stays, and of the tree, are had as
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
            Some((_, fold)) => (fold.size(), "no snapshot of the registry covers more".to_owned()),
            None => (0, "there is no snapshot of the registry".to_owned()),
        });
        held_by.sort_unstable();
        held_by.retain(|(index, _)| *index < expired);
        let least = held_by.first().map_or(expired, |(index, _)| *index);
        let to = (least / WIDTH * WIDTH).max(from);
        let removals = Removals { store, log, roots: &roots, to };
        let said_again = removals.say_again(occurrence, dry_run).await?;
        let pruned = LogPruned { from, to, expired, held_by, said_again };
        if dry_run {
            return Ok(pruned);
        }
        // Also if nothing more goes: what was cut off is ended.
        if to > 0 {
            log.prune(to, occurrence).await?;
        }
        Ok(pruned)
    }
}

/// What was removed, as the entries say that are to go.
struct Removals<'a> {
    store: &'a dyn ArtifactStore,
    log: &'a dyn AuditLog,
    roots: &'a Roots,
    to: u64,
}

impl Removals<'_> {
    /// Says again what is to be known still; gives what that is. What is put meanwhile, and said to
    /// be there, is not called removed: entries go on a log of which all was seen.
    async fn say_again(&self, occurrence: &Occurrence, dry_run: bool) -> Result<Vec<Digest>> {
        let mut said = Vec::new();
        'anew: for _ in 0..TRIES {
            let spoken = Spoken::read(self.log).await?;
            let tombstones = self.needed(&spoken).await?;
            if dry_run {
                return Ok(tombstones.into_keys().collect());
            }
            let mut seen = spoken.size;
            let mut entries = Vec::new();
            for (digest, index) in tombstones {
                let old = self.log.read(index..index + 1).await?.pop();
                let old = old.context(ErrorKind::Corrupt, format!("log: no entry {index}"))?;
                let Occurrence { at, actor, operation } = occurrence.clone();
                entries.push((digest, Entry { at, actor, operation, ..old }));
            }
            for page in entries.chunks(STEP as usize) {
                let again: Vec<_> = page.iter().map(|(_, entry)| entry.clone()).collect();
                match self.log.append(&again, Some(seen)).await {
                    Ok(indices) => seen = indices.end,
                    Err(error) if error.kind() == ErrorKind::Conflict => continue 'anew,
                    Err(error) => return Err(error),
                }
                said.extend(page.iter().map(|(digest, _)| *digest));
            }
            said.sort_unstable();
            return Ok(said);
        }
        Err(Error::conflict(format!("pruning: the log moved on {TRIES} times")))
    }

    /// What a record in the store still names and does not have, and is not to be missed: the log
    /// has not spoken since as if it were there, nor of a record that names it as made again. With
    /// the entry that says so, if it is one of those that go.
    async fn needed(&self, spoken: &Spoken) -> Result<BTreeMap<Digest, u64>> {
        let mut buried = spoken.removed_before(self.to);
        buried.retain(|digest, _| self.roots.is_buried(digest));
        let mut needed = BTreeMap::new();
        let manifests = match buried.is_empty() {
            true => Vec::new(),
            false => self.store.manifests().await?,
        };
        for id in manifests {
            let manifest = match find_manifest(self.store, &id).await? {
                Found::Manifest(manifest, _) => manifest,
                // Of another tool. What it names and does not have, nobody misses.
                Found::Other(error) if error.kind() == ErrorKind::Unsupported => continue,
                Found::Other(_) | Found::Missing => {
                    let message =
                        format!("pruning: manifest {id}: it is listed, and cannot be read");
                    return Err(Error::corrupt(message));
                }
            };
            let body = match read_body(self.store, &manifest, true).await? {
                Body::Names(named) => named,
                Body::Missing => Vec::new(),
            };
            for blob in manifest.blobs() {
                if !spoken.excuses(&blob.digest, &id) {
                    // It was put again with its record, so it is a loss if it is gone.
                    buried.remove(&blob.digest);
                    needed.remove(&blob.digest);
                }
            }
            let named = manifest.blobs().chain(&manifest.subject).map(|blob| blob.digest);
            for digest in named.chain(body) {
                if let Some(index) = buried.remove(&digest)
                    && !self.store.contains(&digest).await?
                {
                    needed.insert(digest, index);
                }
            }
        }
        Ok(needed)
    }
}
