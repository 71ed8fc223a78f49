//! The index on disk: read, written and rebuilt under its lock.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{MutexGuard, PoisonError};

use kaizen_core::{Bytes, Context, Digest, Error, ErrorKind, Manifest, Result, Timestamp};

use super::Inner;
use crate::files;
use crate::index::{self, Addition, Index, Subject};

/// What tells one version of a file from the next. Each is a file of its own: two that were
/// written within one tick of the clock still are two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    length: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// The index, and the version of the file that it was read from.
#[derive(Debug, Default)]
pub(super) struct Listing {
    pub(super) index: Index,
    stamp: Option<Stamp>,
    /// Whether this version is known to be on disk. Whoever wrote it may have been cut off before
    /// its name was.
    is_safe: bool,
}

/// The index, which no other thread or process changes meanwhile.
pub(super) struct Locked<'a> {
    pub(super) listing: MutexGuard<'a, Listing>,
    _file: files::Lock,
}

impl Inner {
    fn index_path(&self) -> PathBuf {
        self.dir.join("index.json")
    }

    fn listing(&self) -> MutexGuard<'_, Listing> {
        self.listing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The index as the disk has it now.
    pub(super) fn fresh(&self) -> Result<MutexGuard<'_, Listing>> {
        let listing = self.listing();
        if listing.stamp.is_some() && listing.stamp == stamp(&self.index_path()) {
            return Ok(listing);
        }
        Ok(self.refreshed(listing)?.listing)
    }

    fn locked(&self) -> Result<Locked<'_>> {
        self.refreshed(self.listing())
    }

    /// Reads the index again if another process wrote it, and rebuilds it if there is none.
    fn refreshed<'a>(&self, listing: MutexGuard<'a, Listing>) -> Result<Locked<'a>> {
        let file = files::lock(&self.dir.join("index.json.lock"))?;
        let mut locked = Locked { listing, _file: file };
        let path = self.index_path();
        let now = stamp(&path);
        if now.is_some() && locked.listing.stamp == now {
            return Ok(locked);
        }
        let bytes = files::read_at_most(&path, index::MAX_BYTES)?;
        if let Some((document, listed)) = bytes.as_deref().and_then(Index::parse) {
            let known = &locked.listing.index;
            let subject = |id: Digest| match known.subject(&id) {
                Subject::Unread => (id, self.subject_of(&id).unwrap_or(Subject::Unread)),
                known => (id, known),
            };
            let index = Index::new(document, listed.into_iter().map(subject));
            *locked.listing = Listing { index, stamp: now, is_safe: false };
            return Ok(locked);
        }
        if bytes.is_some() {
            tracing::warn!(path = %path.display(), "index is damaged; rebuilt from the blobs");
        }
        let rebuilt = self.scan()?;
        self.replace(&mut locked, rebuilt)?;
        Ok(locked)
    }

    fn replace(&self, locked: &mut Locked<'_>, with: Index) -> Result<()> {
        let path = self.index_path();
        files::publish(&*self.files, &path, &with.to_bytes()?)?;
        *locked.listing = Listing { index: with, stamp: stamp(&path), is_safe: true };
        Ok(())
    }

    /// Waits until the index is on disk, before anybody is told what it lists.
    fn make_safe(&self, locked: &mut Locked<'_>) -> Result<()> {
        if !locked.listing.is_safe {
            let synced = self.files.sync_dir(&self.dir);
            synced.map_err(|error| files::failed(&self.dir, error))?;
            locked.listing.is_safe = true;
        }
        Ok(())
    }

    /// The manifests about this digest. Those that could not be read before are read again.
    pub(super) fn referrers(&self, subject: &Digest) -> Result<Vec<Digest>> {
        let mut listing = self.fresh()?;
        for manifest in listing.index.unread() {
            let found = self.subject_of(&manifest)?;
            listing.index.insert(manifest, found);
        }
        Ok(listing.index.referrers(subject))
    }

    /// What a listed manifest is about. One that is damaged or gone is about nothing that anybody
    /// knows: reading the manifest itself gives the error.
    fn subject_of(&self, manifest: &Digest) -> Result<Subject> {
        let bytes = self.get_bounded(manifest, Manifest::MAX_BYTES as u64);
        Subject::read(manifest, bytes)
    }

    /// Finds every manifest among the blobs.
    fn scan(&self) -> Result<Index> {
        let most = Manifest::MAX_BYTES as u64;
        let mut found = Vec::new();
        for (digest, _) in self.blobs()?.into_iter().filter(|(_, size)| *size <= most) {
            let manifest = index::scanned(&digest, self.get_bounded(&digest, most))?;
            found.extend(manifest);
        }
        let mut index = Index::default();
        index.add(found.iter().map(|(manifest, bytes)| (manifest, &bytes[..])))?;
        Ok(index)
    }

    pub(super) fn put_manifest(&self, bytes: Bytes) -> Result<Digest> {
        let manifest = Manifest::parse(&bytes)?;
        let digest = self.has_blobs_of(&manifest, &bytes)?;
        self.put_blob(&bytes)?;
        let own = self.additions.push(manifest, bytes);
        loop {
            let mut locked = self.locked()?;
            if let Some(outcome) = own.outcome() {
                return outcome.map(|()| digest);
            }
            let batch = self.additions.take();
            let mut grown = locked.listing.index.clone();
            let accepted: Vec<_> = batch.iter().filter(|addition| self.accept(addition)).collect();
            let added = grown.add(accepted.iter().map(|added| (&added.manifest, &added.bytes[..])));
            let unchanged = accepted.iter().all(|a| locked.listing.index.contains(&a.digest()));
            let written = added.and_then(|()| match unchanged {
                true => self.make_safe(&mut locked),
                false => self.replace(&mut locked, grown),
            });
            match written {
                Ok(()) => accepted.iter().for_each(|addition| addition.settle(Ok(()))),
                Err(error) => {
                    own.settle(Err(error));
                    self.additions.give_back(batch);
                }
            }
        }
    }

    /// Whether a manifest may be listed: its blobs are here, and count as put now. The caller
    /// holds the lock, so none of them is collected before the manifest is listed.
    fn accept(&self, addition: &Addition) -> bool {
        let touched = self.has_blobs_of(&addition.manifest, &addition.bytes).and_then(|digest| {
            for blob in addition.manifest.blobs().map(|blob| blob.digest).chain([digest]) {
                let lost = format!("manifest {digest}: blob {blob} is not in the store");
                self.touch(&blob)?.then_some(()).context(ErrorKind::NotFound, lost)?;
            }
            Ok(())
        });
        match touched {
            Ok(()) => true,
            Err(error) => {
                addition.settle(Err(error));
                false
            }
        }
    }

    fn has_blobs_of(&self, manifest: &Manifest, bytes: &[u8]) -> Result<Digest> {
        let digest = Digest::of(bytes);
        for blob in manifest.blobs() {
            let lost = format!("manifest {digest}: its blob {} is not in the store", blob.digest);
            let found = self.size_of(&blob.digest)?.context(ErrorKind::NotFound, lost)?;
            if found != blob.size {
                let (blob, wanted) = (blob.digest, blob.size);
                return Err(Error::invalid(format!(
                    "manifest {digest}: it gives blob {blob} {wanted} bytes, the file has {found}"
                )));
            }
        }
        Ok(digest)
    }

    /// Takes out blobs and manifests that were put before `before`, and gives them.
    pub(super) fn remove_stale(
        &self,
        digests: &[Digest],
        before: Timestamp,
    ) -> Result<Vec<Digest>> {
        // Held to the end: a manifest that is put meanwhile waits, and then looks for its blobs.
        let mut locked = self.locked()?;
        let is_stale = |digest: &Digest| Ok(self.stored_at(digest)?.is_some_and(|at| at < before));
        let mut stale = BTreeSet::new();
        for digest in digests {
            if is_stale(digest)? {
                stale.insert(*digest);
            }
        }
        self.unlist(&mut locked, &stale)?;
        // Writing the index takes a while, in which blobs are put again. A manifest among them is
        // not lost: whoever puts it waits to list it.
        let removal = files::lock(&self.removal_path())?;
        let mut still = BTreeSet::new();
        for digest in stale {
            if is_stale(&digest)? {
                still.insert(digest);
            }
        }
        let removed = self.remove_files(&still)?;
        drop(removal);
        self.sync_blobs()?;
        Ok(removed)
    }

    pub(super) fn remove_blob(&self, digest: &Digest) -> Result<bool> {
        let mut locked = self.locked()?;
        if locked.listing.index.contains(digest) {
            return Err(Error::invalid(format!("manifest {digest}: remove it as a manifest")));
        }
        Ok(!self.take_out(&mut locked, &BTreeSet::from([*digest]))?.is_empty())
    }

    pub(super) fn remove_manifest(&self, digest: &Digest) -> Result<bool> {
        let mut locked = self.locked()?;
        let listed = locked.listing.index.contains(digest);
        if listed {
            self.take_out(&mut locked, &BTreeSet::from([*digest]))?;
        }
        Ok(listed)
    }

    /// First out of the index, then off the disk: no manifest is listed that is not there.
    fn take_out(&self, locked: &mut Locked<'_>, all: &BTreeSet<Digest>) -> Result<Vec<Digest>> {
        self.unlist(locked, all)?;
        let removed = self.remove_files(all)?;
        // Also if all were gone: whoever removed them may have been cut off before that was safe.
        self.sync_blobs()?;
        Ok(removed)
    }

    fn unlist(&self, locked: &mut Locked<'_>, all: &BTreeSet<Digest>) -> Result<()> {
        if !all.iter().any(|digest| locked.listing.index.contains(digest)) {
            return Ok(());
        }
        let mut shrunk = locked.listing.index.clone();
        shrunk.remove(all);
        self.replace(locked, shrunk)
    }

    fn remove_files(&self, all: &BTreeSet<Digest>) -> Result<Vec<Digest>> {
        let mut removed = Vec::new();
        for digest in all {
            let path = self.blob_path(digest);
            match self.files.remove(&path) {
                Ok(()) => removed.push(*digest),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(files::failed(&path, error)),
            }
        }
        Ok(removed)
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let file = fs::metadata(path).ok()?;
    Some(Stamp {
        inode: file.ino(),
        length: file.len(),
        modified: (file.mtime(), file.mtime_nsec()),
        changed: (file.ctime(), file.ctime_nsec()),
    })
}
