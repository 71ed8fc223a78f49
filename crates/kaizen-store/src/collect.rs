//! Collection of garbage: what no alias, no deployment and no rule of retention reaches goes.

mod arrivals;
mod census;
mod needed;
mod roots;

use std::collections::{BTreeMap, BTreeSet};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use kaizen_core::record::Occurrence;
use kaizen_core::{
    ArtifactStore, AuditLog, Digest, Entry, Error, ErrorKind, Event, Manifest, Result, Timestamp,
};

use crate::closure::{Body, read_body};
use arrivals::Arrivals;
use census::Census;
pub(crate) use roots::Roots;

/// How many entries are read from the log, and how many tombstones appended, at once.
const PAGE: u64 = 512;

/// How many blobs are removed in one step.
const BATCH: usize = 256;

/// How many blobs are read at the same time.
const REQUESTS: usize = 16;

/// The reason that a tombstone of a collection gives.
const GARBAGE: &str = "garbage: nothing reaches it";

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
    /// What was put in the last so many seconds, by the clock of the store; at least one. It must
    /// be longer than any writer takes from its first blob to its manifest and its entry in the
    /// log; on an object store never less than a minute while others write.
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
/// deployments with those before them, the newest snapshot of the registry, and what the
/// [`Retention`] says. Kept is what a root reaches: its blobs, what it is about, what its body
/// names, and what is said about any of these. What a record merely came after (the deployment
/// `previous`, the `champion` that it beat) is not reached by it. What was put within the grace
/// period is kept, with all that it reaches.
///
/// What is a record, and what it is about, is told from its bytes: every blob of at most 4 MiB is
/// read, and the index is not relied upon. What a manifest reaches that is put while the collection
/// runs is kept too, as far as it was put before the last look ahead of each removal.
///
/// A tombstone for each digest is appended to the log before it is removed, by compare-and-set on a
/// log that speaks of none of what is to go. If a blob was put again in between and stays, an entry
/// [`Event::Restored`] takes its tombstone back; where the collection was cut off, the next one
/// does. The next collection goes on where one was cut off. With `dry_run` nothing is appended or
/// removed. `occurrence` gives the instant to which `spoken_of_s` counts back, the actor and the
/// operation; ages of blobs are those of the store's own clock.
///
/// # Errors
///
/// [`ErrorKind::Corrupt`], [`ErrorKind::NotFound`] or [`ErrorKind::Limit`] if a record that is
/// kept, or may be kept, is damaged or missing, or cannot be read, and no tombstone says that it
/// was removed: then nothing is removed, for what it reaches is not known. [`ErrorKind::Invalid`]
/// if the grace period is not positive. [`ErrorKind::Conflict`] if the log never stands still.
/// [`ErrorKind::Unsupported`] if the store does not know when it was put what.
pub async fn collect(
    store: &dyn ArtifactStore,
    log: &dyn AuditLog,
    retention: &Retention,
    occurrence: &Occurrence,
    dry_run: bool,
) -> Result<Collected> {
    let grace_s = retention.grace_s;
    if grace_s <= 0 {
        let message = format!("collection: a grace period of {grace_s} seconds keeps nothing");
        return Err(Error::invalid(message));
    }
    let before = store.now().await?.plus_seconds(-grace_s);
    let collection = Collection { store, log, retention, occurrence, before };
    let mut gone = BTreeMap::new();
    let mut roots = Roots::default();
    for _ in 0..TRIES {
        roots.read(store, log).await?;
        let taken = gone.keys().filter(|digest| roots.is_restored(digest)).copied().collect();
        if collection.bury_again(taken, &mut roots).await? {
            continue;
        }
        let arrivals = Arrivals::of(store).await?;
        let Marks { mut found, doomed, wrongly_buried, records } = collection.mark(&roots).await?;
        if dry_run {
            return Ok(found);
        }
        collection.list_again(records.into_iter().filter(|id| !arrivals.lists(id))).await?;
        let restored = collection.entries(&Event::Restored, wrongly_buried.iter().copied());
        let Some(seen) = collection.append(&restored, roots.size(), &found).await? else {
            continue;
        };
        // Another collection may have removed it before it could see that entry.
        if collection.bury_again(wrongly_buried, &mut roots).await? {
            continue;
        }
        if !collection.remove(&roots, &found, &doomed, seen, arrivals, &mut gone).await? {
            continue;
        }
        let taken = found.removed.iter().filter(|(digest, _)| gone.contains_key(digest)).count();
        found.young += (found.removed.len() - taken) as u64;
        found.removed = gone.into_iter().collect();
        found.bytes = found.removed.iter().map(|(_, size)| size).sum();
        found.unfinished_bytes = store.remove_unfinished(before).await?;
        return Ok(found);
    }
    Err(Error::conflict(format!("collection: the log moved on {TRIES} times")))
}

struct Collection<'a> {
    store: &'a dyn ArtifactStore,
    log: &'a dyn AuditLog,
    retention: &'a Retention,
    occurrence: &'a Occurrence,
    /// What was put before this instant is old.
    before: Timestamp,
}

/// What a look at everything comes to.
struct Marks {
    found: Collected,
    doomed: Doomed,
    /// What an earlier collection called removed and did not remove, and which is kept now.
    wrongly_buried: Vec<Digest>,
    /// The records that are kept, of which the log speaks or said wrongly that they were removed.
    records: Vec<Digest>,
}

/// What is to go: manifests first, so that none is left without its blobs. With each, whether it
/// has its tombstone.
#[derive(Default)]
struct Doomed {
    manifests: Vec<(Digest, bool)>,
    blobs: Vec<(Digest, bool)>,
}

impl Collection<'_> {
    /// Finds what is kept, and what is to go.
    async fn mark(&self, roots: &Roots) -> Result<Marks> {
        let blobs = self.store.dated_blobs().await?;
        let sizes = blobs.iter().map(|(digest, size, _)| (*digest, *size));
        let census = Census::read(self.store, sizes).await?;
        let there = blobs.iter().map(|(digest, ..)| *digest).collect();
        let mut wanted = roots.kept(self.retention, self.occurrence.at);
        wanted.extend(roots.snapshots(&there));
        let kept = BTreeSet::new();
        let mut marked = Marked { store: self.store, roots, census: &census, there, kept };
        marked.spread(wanted).await?;
        let reached = marked.kept.len() as u64;
        // What is being made just now: its maker has not spoken of it yet.
        let is_young = |put: Timestamp| put >= self.before;
        let young = blobs.iter().filter(|(_, _, put)| is_young(*put));
        let young = young.map(|(digest, ..)| *digest);
        marked.spread(young.filter(|digest| census.is_manifest(digest)).collect()).await?;
        let mut found = Collected { kept: reached, ..Collected::default() };
        let (mut doomed, mut wrongly_buried) = (Doomed::default(), Vec::new());
        for (digest, size, put) in &blobs {
            if marked.kept.contains(digest) || is_young(*put) {
                wrongly_buried.extend(roots.is_garbage(digest).then_some(*digest));
                continue;
            }
            let kind = match census.is_manifest(digest) {
                true => &mut doomed.manifests,
                false => &mut doomed.blobs,
            };
            kind.push((*digest, roots.has_tombstone(digest, *put)));
            found.bytes += size;
            found.removed.push((*digest, *size));
        }
        found.young = blobs.len() as u64 - found.kept - found.removed.len() as u64;
        let records = marked.kept.into_iter().filter(|id| roots.is_record(id));
        let records = records.chain(wrongly_buried.iter().copied());
        let records = records.filter(|id| census.manifest(id).is_some()).collect();
        Ok(Marks { found, doomed, wrongly_buried, records })
    }

    /// Lists these records again: a collection was cut off after it had taken them out of the
    /// index, and before it saw that they were put meanwhile.
    async fn list_again(&self, records: impl IntoIterator<Item = Digest>) -> Result<()> {
        let store = self.store;
        let listing = records.into_iter().map(|id| async move {
            let bytes = store.get_bounded(&id, Manifest::MAX_BYTES as u64).await?;
            match store.put_manifest(bytes).await {
                // A blob of it was erased, or is damaged: `fsck` says so, if it is a fault.
                Err(error) if [ErrorKind::NotFound, ErrorKind::Invalid].contains(&error.kind()) => {
                    tracing::warn!(%id, %error, "a record is not listed");
                    Ok(())
                }
                listed => listed.map(drop),
            }
        });
        let listing: Vec<_> = listing.collect();
        stream::iter(listing).buffer_unordered(REQUESTS).try_collect().await
    }

    /// Says again that these were removed, of which the log says that they are there, if they are
    /// not; whether any is not. The log is read anew.
    async fn bury_again(&self, digests: Vec<Digest>, roots: &mut Roots) -> Result<bool> {
        if digests.is_empty() {
            return Ok(false);
        }
        let removed = Event::Removed { reason: GARBAGE.to_owned() };
        for _ in 0..TRIES {
            roots.read(self.store, self.log).await?;
            let mut gone = Vec::new();
            for digest in digests.iter().filter(|digest| roots.is_restored(digest)) {
                gone.extend((!self.store.contains(digest).await?).then_some(*digest));
            }
            let mut seen = roots.size();
            let tombstones = self.entries(&removed, gone);
            let mut pages = tombstones.chunks(PAGE as usize).peekable();
            while let Some(page) = pages.peek() {
                match self.log.append(page, Some(seen)).await {
                    Ok(indices) => seen = indices.end,
                    Err(error) if error.kind() == ErrorKind::Conflict => break,
                    Err(error) => return Err(error),
                }
                pages.next();
            }
            if pages.peek().is_none() {
                return Ok(!tombstones.is_empty());
            }
        }
        Err(Error::conflict(format!("collection: the log moved on {TRIES} times")))
    }

    /// Removes what is to go; whether all of it was seen to. If the log speaks of any of it
    /// meanwhile, or a manifest that reaches any of it is put, the rest stays until everything has
    /// been looked at anew.
    async fn remove(
        &self,
        roots: &Roots,
        found: &Collected,
        doomed: &Doomed,
        mut seen: u64,
        mut arrivals: Arrivals,
        gone: &mut BTreeMap<Digest, u64>,
    ) -> Result<bool> {
        let removed = Event::Removed { reason: GARBAGE.to_owned() };
        let of_manifests = doomed.manifests.len().div_ceil(BATCH);
        let batches = doomed.manifests.chunks(BATCH).chain(doomed.blobs.chunks(BATCH));
        for (nth, batch) in batches.enumerate() {
            let old = if nth < of_manifests { doomed.manifests.as_slice() } else { &[] };
            let unburied = batch.iter().filter(|(_, buried)| !buried).map(|(digest, _)| *digest);
            let tombstones = self.entries(&removed, unburied);
            let Some(now) = self.append(&tombstones, seen, found).await? else {
                return Ok(false);
            };
            seen = now;
            // After the tombstones: what it names was there when it was put.
            if self.are_put_again(old, gone).await? || arrivals.reach(self.store, found).await? {
                return Ok(false);
            }
            // Last of all: looking at the store takes long, and somebody may have spoken of it.
            let Some(now) = self.append(&[], seen, found).await? else {
                return Ok(false);
            };
            seen = now;
            let batch: Vec<_> = batch.iter().map(|(digest, _)| *digest).collect();
            let taken = self.store.remove_stale(&batch, self.before).await?;
            arrivals.forget(&taken);
            for digest in &taken {
                gone.extend(found.size_of(digest).map(|size| (*digest, size)));
            }
            let mut stay = Vec::new();
            for digest in batch.into_iter().filter(|digest| !taken.contains(digest)) {
                let is_there = self.store.contains(&digest).await?;
                let of_us = !roots.is_buried(&digest) || roots.is_garbage(&digest);
                stay.extend((is_there && of_us).then_some(digest));
            }
            // A manifest that was put again reaches what is still to go.
            let anew = !old.is_empty() && !stay.is_empty();
            let restored = self.entries(&Event::Restored, stay);
            let Some(now) = self.append(&restored, seen, found).await? else {
                return Ok(false);
            };
            seen = now;
            if anew {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether any of these manifests, which are to go, was put since all was looked at.
    async fn are_put_again(
        &self,
        old: &[(Digest, bool)],
        gone: &BTreeMap<Digest, u64>,
    ) -> Result<bool> {
        if old.is_empty() {
            return Ok(false);
        }
        let old: BTreeSet<_> = old.iter().map(|(digest, _)| *digest).collect();
        let young = self.store.dated_blobs().await?.into_iter().filter(|(digest, _, put)| {
            *put >= self.before && old.contains(digest) && !gone.contains_key(digest)
        });
        Ok(young.count() > 0)
    }

    fn entries(&self, event: &Event, of: impl IntoIterator<Item = Digest>) -> Vec<Entry> {
        let entry = |subject| Entry {
            at: self.occurrence.at,
            actor: self.occurrence.actor.clone(),
            operation: self.occurrence.operation.clone(),
            event: event.clone(),
            subject,
            evidence: Vec::new(),
        };
        of.into_iter().map(entry).collect()
    }

    /// Appends entries to a log of `seen` entries, and gives its size after them; `None` if others
    /// have spoken since of something that is to go, or that is spoken of here.
    async fn append(&self, all: &[Entry], seen: u64, found: &Collected) -> Result<Option<u64>> {
        let mut seen = seen;
        let own: BTreeSet<_> = all.iter().map(|entry| entry.subject).collect();
        let mut left = all.chunks(PAGE as usize).peekable();
        for _ in 0..TRIES {
            let size = self.log.size().await?;
            for entry in self.log.read(seen..size).await? {
                let mut named = std::iter::once(&entry.subject).chain(&entry.evidence);
                if named.any(|digest| found.size_of(digest).is_some() || own.contains(digest)) {
                    return Ok(None);
                }
            }
            seen = size;
            while let Some(entries) = left.peek() {
                match self.log.append(entries, Some(seen)).await {
                    Ok(indices) => seen = indices.end,
                    Err(error) if error.kind() == ErrorKind::Conflict => break,
                    Err(error) => return Err(error),
                }
                left.next();
            }
            if left.peek().is_none() {
                return Ok(Some(seen));
            }
        }
        Err(Error::conflict(format!("collection: the log moved on {TRIES} times")))
    }
}

impl Collected {
    fn size_of(&self, removed: &Digest) -> Option<u64> {
        let at = self.removed.binary_search_by_key(removed, |(digest, _)| *digest).ok()?;
        Some(self.removed.get(at)?.1)
    }
}

/// What has been reached so far.
struct Marked<'a> {
    store: &'a dyn ArtifactStore,
    roots: &'a Roots,
    census: &'a Census,
    there: BTreeSet<Digest>,
    kept: BTreeSet<Digest>,
}

impl Marked<'_> {
    /// Marks what these reach, wave by wave.
    async fn spread(&mut self, mut wave: BTreeSet<Digest>) -> Result<()> {
        while !wave.is_empty() {
            let mut bodies = Vec::new();
            let mut next = BTreeSet::new();
            for digest in wave {
                if !self.there.contains(&digest) {
                    if self.roots.is_record(&digest) {
                        return Err(lost(&digest));
                    }
                    continue;
                }
                if !self.kept.insert(digest) {
                    continue;
                }
                next.extend(self.census.about(&digest));
                next.extend(self.census.named_by_other(&digest));
                if let Some(manifest) = self.census.manifest(&digest) {
                    let leads_to = manifest.blobs().chain(&manifest.subject);
                    next.extend(leads_to.map(|blob| blob.digest));
                    bodies.push(manifest);
                }
            }
            let store = self.store;
            let reading = bodies.into_iter().map(|manifest| async move {
                (manifest.config.digest, read_body(store, manifest, false).await)
            });
            let mut reading = stream::iter(reading).buffer_unordered(REQUESTS);
            while let Some((body, named)) = reading.next().await {
                match named? {
                    Body::Names(named) => next.extend(named),
                    Body::Missing if self.roots.is_buried(&body) => {}
                    Body::Missing => return Err(lost(&body)),
                }
            }
            wave = next;
        }
        Ok(())
    }
}

fn lost(digest: &Digest) -> Error {
    let message = format!("{digest}: it is needed and not there, and has no tombstone");
    Error::not_found(message)
}
