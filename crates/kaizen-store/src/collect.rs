//! Collection of garbage: what no alias, no deployment and no rule of retention reaches goes.

mod needed;
mod roots;

use std::collections::{BTreeMap, BTreeSet};

use kaizen_core::record::Occurrence;
use kaizen_core::{
    ArtifactStore, AuditLog, Digest, Entry, Error, ErrorKind, Event, Result, Timestamp,
};

use crate::closure::{MAX_RECORDS, named_in_body, read_manifest};
pub(crate) use roots::Roots;

/// How many entries are read from the log, and how many tombstones appended, at once.
const PAGE: u64 = 512;

/// How many blobs are removed in one step.
const BATCH: usize = 256;

/// How often everything is looked at anew because the log has moved on.
const TRIES: u32 = 16;

/// What is kept beyond what aliases and live deployments reach.
///
/// By default all versions, everything of which the log has spoken in the last 30 days, every
/// model that a rollback may lead to, and what was put in the last day.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Retention {
    /// The last so many versions of every name; all if `None`.
    pub versions: Option<u32>,
    /// How many rollbacks of an alias must remain possible; as many as ever if `None`.
    pub rollbacks: Option<u32>,
    /// What the log has spoken of in the last so many seconds, as subject or as evidence.
    pub spoken_of_s: i64,
    /// What was put in the last so many seconds. It must be longer than any writer takes from its
    /// first blob to its manifest and its entry in the log.
    pub grace_s: i64,
    /// Further digests: records, or blobs that no record names.
    pub also: BTreeSet<Digest>,
}

impl Default for Retention {
    fn default() -> Self {
        let day = 24 * 3600;
        Self {
            versions: None,
            rollbacks: None,
            spoken_of_s: 30 * day,
            grace_s: day,
            also: BTreeSet::new(),
        }
    }
}

/// What a collection took, or would take.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Collected {
    /// What went, or would go, with its size in bytes, ordered by digest; manifests too.
    pub removed: Vec<(Digest, u64)>,
    /// The sum of those sizes.
    pub bytes: u64,
    /// How many blobs and manifests are kept because something reaches them.
    pub kept: u64,
    /// How many nothing reaches, but which were put too short a time ago.
    pub young: u64,
    /// Bytes of puts that never ended.
    pub unfinished_bytes: u64,
}

/// Removes from a store what nothing reaches any more.
///
/// The roots are the holders of every alias with those that a rollback leads to, the live
/// deployments with those before them, and what the [`Retention`] says. Kept is what a root
/// reaches: its blobs, what it is about, what its body names, and what is said about any of these.
/// What a record merely came after (the deployment `previous`, the `champion` that it beat) is not
/// reached by it. What was put within the grace period is kept, with all that it reaches.
///
/// A tombstone for each digest is appended to the log before the first of them is removed, by
/// compare-and-set on the log that the roots were read from. A collection that is cut off leaves
/// a store that [`fsck`](crate::fsck) calls sound; the next one goes on. With `dry_run` nothing is
/// appended or removed. `occurrence` gives the instant, the actor and the operation.
///
/// # Errors
///
/// [`ErrorKind::Corrupt`] or [`ErrorKind::NotFound`] if a record that is kept cannot be read: then
/// nothing is removed, for what it reaches is not known. [`ErrorKind::Conflict`] if the log never
/// stands still. [`ErrorKind::Unsupported`] if the store does not know when it was put what.
pub async fn collect(
    store: &dyn ArtifactStore,
    log: &dyn AuditLog,
    retention: &Retention,
    occurrence: &Occurrence,
    dry_run: bool,
) -> Result<Collected> {
    let collection = Collection { store, log, retention, occurrence };
    let mut gone = BTreeMap::new();
    for _ in 0..TRIES {
        let mut roots = Roots::default();
        roots.read(store, log).await?;
        let (mut found, doomed) = collection.mark(&roots).await?;
        if dry_run {
            return Ok(found);
        }
        let Some(seen) = collection.bury(&roots, &found).await? else { continue };
        let all_seen_to = collection.remove(&found, &doomed, seen, &mut gone).await?;
        if !all_seen_to {
            continue;
        }
        let taken = found.removed.iter().filter(|(digest, _)| gone.contains_key(digest)).count();
        found.young += (found.removed.len() - taken) as u64;
        found.removed = gone.into_iter().collect();
        found.bytes = found.removed.iter().map(|(_, size)| size).sum();
        found.unfinished_bytes = store.remove_unfinished(collection.before()).await?;
        return Ok(found);
    }
    Err(Error::conflict(format!("collection: the log moved on {TRIES} times")))
}

struct Collection<'a> {
    store: &'a dyn ArtifactStore,
    log: &'a dyn AuditLog,
    retention: &'a Retention,
    occurrence: &'a Occurrence,
}

/// What is to go: manifests first, so that none is left without its blobs.
struct Doomed {
    manifests: Vec<Digest>,
    blobs: Vec<Digest>,
}

impl Collection<'_> {
    fn before(&self) -> Timestamp {
        self.occurrence.at.plus_seconds(-self.retention.grace_s.max(0))
    }

    /// Finds what is kept, and what is to go.
    async fn mark(&self, roots: &Roots) -> Result<(Collected, Doomed)> {
        let manifests: BTreeSet<_> = self.store.manifests().await?.into_iter().collect();
        let blobs = self.store.blobs().await?;
        let there: BTreeSet<_> = blobs.iter().map(|(digest, _)| *digest).collect();
        let before = self.before();
        let mut marked = Marked { manifests: &manifests, there: &there, kept: BTreeSet::new() };
        let kept = roots.kept(self.retention, self.occurrence.at);
        marked.spread(self.store, kept).await?;
        // What is being made just now: its maker has not spoken of it yet.
        let mut young = BTreeSet::new();
        for (digest, _) in blobs.iter().filter(|(digest, _)| !marked.kept.contains(digest)) {
            if self.store.stored_at(digest).await?.is_none_or(|at| at >= before) {
                young.insert(*digest);
            }
        }
        let reached = marked.kept.len();
        let fresh = young.iter().filter(|digest| manifests.contains(digest)).copied();
        marked.spread(self.store, fresh.collect()).await?;
        let mut found = Collected { kept: reached as u64, ..Collected::default() };
        let mut doomed = Doomed { manifests: Vec::new(), blobs: Vec::new() };
        for (digest, size) in blobs {
            if marked.kept.contains(&digest) || young.contains(&digest) {
                continue;
            }
            let kind =
                if manifests.contains(&digest) { &mut doomed.manifests } else { &mut doomed.blobs };
            kind.push(digest);
            found.bytes += size;
            found.removed.push((digest, size));
        }
        found.young = there.len() as u64 - found.kept - found.removed.len() as u64;
        Ok((found, doomed))
    }

    /// Appends the tombstones that are not in the log yet; the size of the log after them, or
    /// `None` if it was not the one that the roots were read from.
    async fn bury(&self, roots: &Roots, found: &Collected) -> Result<Option<u64>> {
        let mut seen = roots.size();
        let tombstone = |subject: &Digest| Entry {
            at: self.occurrence.at,
            actor: self.occurrence.actor.clone(),
            operation: self.occurrence.operation.clone(),
            event: Event::Removed { reason: "garbage: nothing reaches it".to_owned() },
            subject: *subject,
            evidence: Vec::new(),
        };
        let removed = found.removed.iter().map(|(digest, _)| digest);
        let fresh: Vec<_> = removed.filter(|d| !roots.is_buried(d)).map(tombstone).collect();
        for entries in fresh.chunks(PAGE as usize) {
            match self.log.append(entries, Some(seen)).await {
                Ok(indices) => seen = indices.end,
                Err(error) if error.kind() == ErrorKind::Conflict => return Ok(None),
                Err(error) => return Err(error),
            }
        }
        Ok((self.log.size().await? == seen).then_some(seen))
    }

    /// Removes what is to go; whether all of it was seen to. If the log speaks of any of it
    /// meanwhile, the rest stays until everything has been looked at anew.
    async fn remove(
        &self,
        found: &Collected,
        doomed: &Doomed,
        mut seen: u64,
        gone: &mut BTreeMap<Digest, u64>,
    ) -> Result<bool> {
        let before = self.before();
        let size_of = |digest: &Digest| {
            let at = found.removed.binary_search_by_key(digest, |(doomed, _)| *doomed);
            at.ok().map(|at| found.removed[at].1)
        };
        let manifests = doomed.manifests.chunks(BATCH);
        for batch in manifests.chain(doomed.blobs.chunks(BATCH)) {
            let size = self.log.size().await?;
            for entry in self.log.read(seen..size).await? {
                let mut named = std::iter::once(&entry.subject).chain(&entry.evidence);
                if named.any(|digest| size_of(digest).is_some()) {
                    return Ok(false);
                }
            }
            seen = size;
            for digest in self.store.remove_stale(batch, before).await? {
                gone.extend(size_of(&digest).map(|size| (digest, size)));
            }
        }
        Ok(true)
    }
}

/// What has been reached so far.
struct Marked<'a> {
    manifests: &'a BTreeSet<Digest>,
    there: &'a BTreeSet<Digest>,
    kept: BTreeSet<Digest>,
}

impl Marked<'_> {
    /// Marks what these reach.
    async fn spread(&mut self, store: &dyn ArtifactStore, from: BTreeSet<Digest>) -> Result<()> {
        let mut waiting: Vec<_> = from.into_iter().collect();
        let mut records = 0;
        while let Some(next) = waiting.pop() {
            if !self.there.contains(&next) || !self.kept.insert(next) {
                continue;
            }
            if !self.manifests.contains(&next) {
                continue;
            }
            records += 1;
            if records > MAX_RECORDS {
                let message = format!("collection: over {MAX_RECORDS} records are reached");
                return Err(Error::new(ErrorKind::Limit, message));
            }
            let (manifest, _) = read_manifest(store, &next).await?;
            waiting.extend(manifest.blobs().chain(&manifest.subject).map(|blob| blob.digest));
            waiting.extend(named_in_body(store, &manifest, false).await?);
            waiting.extend(store.referrers(&next).await?);
        }
        Ok(())
    }
}
