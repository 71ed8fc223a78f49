//! The index on disk: read, written and rebuilt under its lock.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{MutexGuard, PoisonError};
use std::time::SystemTime;

use kaizen_core::{Bytes, Context, Digest, Error, ErrorKind, Manifest, Result, Timestamp};

use super::{Inner, digest_of};
use crate::files;
use crate::index::{Addition, Index};

/// What tells one version of a file from the next.
type Stamp = (u64, SystemTime);

/// The index, and the version of the file that it was read from.
#[derive(Debug, Default)]
pub(super) struct Listing {
    pub(super) index: Index,
    stamp: Option<Stamp>,
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
        let bytes = files::read(&path)?;
        if let Some((document, listed)) = bytes.as_deref().and_then(Index::parse) {
            let known = &locked.listing.index;
            let subject = |m: Digest| (m, known.subject(&m).unwrap_or_else(|| self.subject_of(&m)));
            let index = Index::new(document, listed.into_iter().map(subject));
            *locked.listing = Listing { index, stamp: now };
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
        *locked.listing = Listing { index: with, stamp: stamp(&path) };
        Ok(())
    }

    /// The subject of a listed manifest. One that cannot be read has none for now: reading the
    /// manifest itself gives the error.
    fn subject_of(&self, manifest: &Digest) -> Option<Digest> {
        match self.get_blob(manifest).and_then(|bytes| Manifest::parse(&bytes)) {
            Ok(parsed) => parsed.subject.map(|subject| subject.digest),
            Err(error) => {
                tracing::warn!(%manifest, %error, "listed manifest cannot be read");
                None
            }
        }
    }

    /// Finds every manifest among the blobs.
    fn scan(&self) -> Result<Index> {
        let mut found = Vec::new();
        for path in files::list(&self.blobs)? {
            let Some(digest) = digest_of(&path) else { continue };
            if self.size_of(&digest)?.is_none_or(|size| size > Manifest::MAX_BYTES as u64) {
                continue;
            }
            // Blobs of other kinds, and damaged ones, are no manifests.
            let Ok(bytes) = self.get_blob(&digest) else { continue };
            found.extend(Manifest::parse(&bytes).map(|manifest| (manifest, bytes)));
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
                true => Ok(()),
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
        let mut stale = BTreeSet::new();
        for digest in digests {
            if self.stored_at(digest)?.is_some_and(|at| at < before) {
                stale.insert(*digest);
            }
        }
        self.take_out(&mut locked, &stale)
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
        if all.iter().any(|digest| locked.listing.index.contains(digest)) {
            let mut shrunk = locked.listing.index.clone();
            shrunk.remove(all);
            self.replace(locked, shrunk)?;
        }
        let mut removed = Vec::new();
        for digest in all {
            let path = self.blob_path(digest);
            match self.files.remove(&path) {
                Ok(()) => removed.push(*digest),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(files::failed(&path, error)),
            }
        }
        // Also if all were gone: whoever removed them may have been cut off before that was safe.
        self.sync_blobs()?;
        Ok(removed)
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.len(), metadata.modified().ok()?))
}
