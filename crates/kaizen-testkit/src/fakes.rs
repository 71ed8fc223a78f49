//! In-memory implementations of the ports of core.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use kaizen_core::{
    ArtifactStore, AuditLog, Bytes, Checkpoint, Clock, Context, Digest, Entry, Error, ErrorKind,
    Manifest, Result, Timestamp, async_trait,
};

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A clock that stands where it was set.
#[derive(Debug)]
pub struct ManualClock(Mutex<Timestamp>);

impl ManualClock {
    /// A clock that stands at this instant.
    pub fn at(now: Timestamp) -> Self {
        Self(Mutex::new(now))
    }

    /// Sets the clock.
    pub fn set(&self, now: Timestamp) {
        *lock(&self.0) = now;
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        *lock(&self.0)
    }
}

/// An artefact store in memory.
#[derive(Debug, Default)]
pub struct MemoryStore(Mutex<Artifacts>);

#[derive(Debug, Default)]
struct Artifacts {
    blobs: BTreeMap<Digest, Bytes>,
    manifests: BTreeMap<Digest, Option<Digest>>,
}

#[async_trait]
impl ArtifactStore for MemoryStore {
    async fn put_blob(&self, bytes: Bytes) -> Result<Digest> {
        let digest = Digest::of(&bytes);
        lock(&self.0).blobs.insert(digest, bytes);
        Ok(digest)
    }

    async fn get_blob(&self, digest: &Digest) -> Result<Bytes> {
        let found = lock(&self.0).blobs.get(digest).cloned();
        found.context(ErrorKind::NotFound, format!("blob {digest}"))
    }

    async fn contains(&self, digest: &Digest) -> Result<bool> {
        Ok(lock(&self.0).blobs.contains_key(digest))
    }

    async fn put_manifest(&self, bytes: Bytes) -> Result<Digest> {
        let manifest = Manifest::parse(&bytes)?;
        let mut artifacts = lock(&self.0);
        if let Some(lost) = manifest.blobs().find(|b| !artifacts.blobs.contains_key(&b.digest)) {
            return Err(Error::not_found(format!("blob {} of a manifest", lost.digest)));
        }
        let digest = Digest::of(&bytes);
        artifacts.blobs.insert(digest, bytes);
        artifacts.manifests.insert(digest, manifest.subject.map(|subject| subject.digest));
        Ok(digest)
    }

    async fn referrers(&self, subject: &Digest) -> Result<Vec<Digest>> {
        let artifacts = lock(&self.0);
        let about = artifacts.manifests.iter().filter(|(_, of)| of.as_ref() == Some(subject));
        Ok(about.map(|(digest, _)| *digest).collect())
    }

    async fn manifests(&self) -> Result<Vec<Digest>> {
        Ok(lock(&self.0).manifests.keys().copied().collect())
    }

    async fn remove_blob(&self, digest: &Digest) -> Result<bool> {
        let mut artifacts = lock(&self.0);
        if artifacts.manifests.contains_key(digest) {
            return Err(Error::invalid(format!("manifest {digest}: manifests are not removed")));
        }
        Ok(artifacts.blobs.remove(digest).is_some())
    }
}

/// An audit log in memory. Its checkpoint is the digest of all entries, unsigned.
#[derive(Debug, Default)]
pub struct MemoryLog(Mutex<Vec<Entry>>);

#[async_trait]
impl AuditLog for MemoryLog {
    async fn append(&self, entries: &[Entry], expected: Option<u64>) -> Result<Range<u64>> {
        for entry in entries {
            entry.to_bytes()?;
        }
        let mut log = lock(&self.0);
        let start = log.len() as u64;
        if expected.is_some_and(|expected| expected != start) {
            return Err(Error::conflict(format!("log: it has {start} entries by now")));
        }
        log.extend_from_slice(entries);
        Ok(start..log.len() as u64)
    }

    async fn size(&self) -> Result<u64> {
        Ok(lock(&self.0).len() as u64)
    }

    async fn read(&self, indices: Range<u64>) -> Result<Vec<Entry>> {
        let log = lock(&self.0);
        let found = log.get(indices.start as usize..indices.end as usize);
        found
            .map(<[Entry]>::to_vec)
            .context(ErrorKind::NotFound, format!("log entries {indices:?} of {}", log.len()))
    }

    async fn checkpoint(&self) -> Result<Checkpoint> {
        let log = lock(&self.0);
        let root = Digest::of_json(&*log)?;
        Ok(Checkpoint::new("memory".to_owned(), log.len() as u64, root, String::new()))
    }
}

/// A log that fails: for one append, or for as long as it is broken. Reading always works.
#[derive(Debug)]
pub struct FaultyLog {
    inner: Arc<dyn AuditLog>,
    broken: AtomicBool,
    /// Appends until the fault, itself included; 0 for none.
    left: AtomicU64,
}

impl FaultyLog {
    /// A log that works, over another.
    pub fn new(inner: Arc<dyn AuditLog>) -> Self {
        Self { inner, broken: AtomicBool::new(false), left: AtomicU64::new(0) }
    }

    /// From now on every append fails, or none.
    pub fn set_broken(&self, broken: bool) {
        self.broken.store(broken, Ordering::SeqCst);
    }

    /// The `nth` append from now on fails, counted from 1.
    pub fn fail_nth(&self, nth: u64) {
        self.left.store(nth, Ordering::SeqCst);
    }

    /// Whether the fault that [`fail_nth`](Self::fail_nth) set is still to come.
    pub fn is_pending(&self) -> bool {
        self.left.load(Ordering::SeqCst) > 0
    }
}

#[async_trait]
impl AuditLog for FaultyLog {
    async fn append(&self, entries: &[Entry], expected: Option<u64>) -> Result<Range<u64>> {
        let next = |left: u64| left.checked_sub(1);
        let now = self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, next) == Ok(1);
        if now || self.broken.load(Ordering::SeqCst) {
            return Err(Error::new(ErrorKind::Unavailable, "log: disk full, by an injected fault"));
        }
        self.inner.append(entries, expected).await
    }

    async fn size(&self) -> Result<u64> {
        self.inner.size().await
    }

    async fn read(&self, indices: Range<u64>) -> Result<Vec<Entry>> {
        self.inner.read(indices).await
    }

    async fn checkpoint(&self) -> Result<Checkpoint> {
        self.inner.checkpoint().await
    }
}
