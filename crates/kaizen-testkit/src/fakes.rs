//! In-memory implementations of the ports of core.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use kaizen_core::record::Occurrence;
use kaizen_core::{
    ArtifactStore, AuditLog, ByteStream, Bytes, Checkpoint, Clock, Context, Digest, Entry, Error,
    ErrorKind, Event, Manifest, Result, Timestamp, async_trait, stream,
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
pub struct MemoryStore {
    artifacts: Mutex<Artifacts>,
    clock: Option<Arc<dyn Clock>>,
}

#[derive(Debug, Default)]
struct Artifacts {
    blobs: BTreeMap<Digest, (Bytes, Option<Timestamp>)>,
    manifests: BTreeMap<Digest, Option<Digest>>,
}

impl MemoryStore {
    /// A store that knows when each blob was put.
    pub fn with_clock(clock: Arc<dyn Clock>) -> Self {
        Self { artifacts: Mutex::default(), clock: Some(clock) }
    }

    fn instant(&self) -> Option<Timestamp> {
        self.clock.as_ref().map(|clock| clock.now())
    }
}

#[async_trait]
impl ArtifactStore for MemoryStore {
    async fn put_stream(&self, mut bytes: ByteStream, expected: Option<&Digest>) -> Result<Digest> {
        let mut all = Vec::new();
        while let Some(piece) = stream::next(&mut bytes).await.transpose()? {
            all.extend_from_slice(&piece);
        }
        let digest = Digest::of(&all);
        if let Some(expected) = expected {
            expected.check_found(&digest, &format!("blob {expected}"))?;
        }
        lock(&self.artifacts).blobs.insert(digest, (all.into(), self.instant()));
        Ok(digest)
    }

    async fn get_stream(&self, digest: &Digest) -> Result<ByteStream> {
        Ok(stream::chunked(self.get_blob(digest).await?, 1 << 16))
    }

    async fn size_of(&self, digest: &Digest) -> Result<Option<u64>> {
        Ok(lock(&self.artifacts).blobs.get(digest).map(|(bytes, _)| bytes.len() as u64))
    }

    async fn get_blob(&self, digest: &Digest) -> Result<Bytes> {
        let found = lock(&self.artifacts).blobs.get(digest).map(|(bytes, _)| bytes.clone());
        found.context(ErrorKind::NotFound, format!("blob {digest}"))
    }

    async fn put_manifest(&self, bytes: Bytes) -> Result<Digest> {
        let manifest = Manifest::parse(&bytes)?;
        let now = self.instant();
        let mut artifacts = lock(&self.artifacts);
        if let Some(lost) = manifest.blobs().find(|b| !artifacts.blobs.contains_key(&b.digest)) {
            return Err(Error::not_found(format!("blob {} of a manifest", lost.digest)));
        }
        for blob in manifest.blobs() {
            if let Some((_, at)) = artifacts.blobs.get_mut(&blob.digest) {
                *at = now;
            }
        }
        let digest = Digest::of(&bytes);
        artifacts.blobs.insert(digest, (bytes, now));
        artifacts.manifests.insert(digest, manifest.subject.map(|subject| subject.digest));
        Ok(digest)
    }

    async fn referrers(&self, subject: &Digest) -> Result<Vec<Digest>> {
        let artifacts = lock(&self.artifacts);
        let about = artifacts.manifests.iter().filter(|(_, of)| of.as_ref() == Some(subject));
        Ok(about.map(|(digest, _)| *digest).collect())
    }

    async fn manifests(&self) -> Result<Vec<Digest>> {
        Ok(lock(&self.artifacts).manifests.keys().copied().collect())
    }

    async fn blobs(&self) -> Result<Vec<(Digest, u64)>> {
        let artifacts = lock(&self.artifacts);
        let blobs = artifacts.blobs.iter();
        Ok(blobs.map(|(digest, (bytes, _))| (*digest, bytes.len() as u64)).collect())
    }

    async fn remove_blob(&self, digest: &Digest) -> Result<bool> {
        let mut artifacts = lock(&self.artifacts);
        if artifacts.manifests.contains_key(digest) {
            return Err(Error::invalid(format!("manifest {digest}: remove it as a manifest")));
        }
        Ok(artifacts.blobs.remove(digest).is_some())
    }

    async fn remove_manifest(&self, digest: &Digest) -> Result<bool> {
        let mut artifacts = lock(&self.artifacts);
        let was_one = artifacts.manifests.remove(digest).is_some();
        if was_one {
            artifacts.blobs.remove(digest);
        }
        Ok(was_one)
    }

    async fn stored_at(&self, digest: &Digest) -> Result<Option<Timestamp>> {
        let found = lock(&self.artifacts).blobs.get(digest).map(|(_, at)| *at);
        let unknown = || format!("{digest}: this store has no clock");
        found.map(|at| at.context(ErrorKind::Unsupported, unknown())).transpose()
    }

    async fn now(&self) -> Result<Timestamp> {
        self.instant().context(ErrorKind::Unsupported, "this store has no clock")
    }
}

/// An audit log in memory. Its checkpoint is the digest of all entries, unsigned.
#[derive(Debug, Default)]
pub struct MemoryLog(Mutex<MemoryEntries>);

#[derive(Debug, Default)]
struct MemoryEntries {
    /// Pruned ones too, for the checkpoint.
    all: Vec<Entry>,
    first: u64,
}

#[async_trait]
impl AuditLog for MemoryLog {
    async fn append(&self, entries: &[Entry], expected: Option<u64>) -> Result<Range<u64>> {
        for entry in entries {
            entry.to_bytes()?;
        }
        let mut log = lock(&self.0);
        let start = log.all.len() as u64;
        if expected.is_some_and(|expected| expected != start) {
            return Err(Error::conflict(format!("log: it has {start} entries by now")));
        }
        log.all.extend_from_slice(entries);
        Ok(start..log.all.len() as u64)
    }

    async fn size(&self) -> Result<u64> {
        Ok(lock(&self.0).all.len() as u64)
    }

    async fn first(&self) -> Result<u64> {
        Ok(lock(&self.0).first)
    }

    async fn read(&self, indices: Range<u64>) -> Result<Vec<Entry>> {
        let log = lock(&self.0);
        if indices.start < log.first && !indices.is_empty() {
            let first = log.first;
            return Err(Error::not_found(format!("log entries {indices:?}: pruned below {first}")));
        }
        let found = log.all.get(indices.start as usize..indices.end as usize);
        found
            .map(<[Entry]>::to_vec)
            .context(ErrorKind::NotFound, format!("log entries {indices:?} of {}", log.all.len()))
    }

    async fn checkpoint(&self) -> Result<Checkpoint> {
        let log = lock(&self.0);
        let root = Digest::of_json(&log.all)?;
        Ok(Checkpoint::new("memory".to_owned(), log.all.len() as u64, root, String::new()))
    }

    async fn prune(&self, first: u64, occurrence: &Occurrence) -> Result<()> {
        let mut log = lock(&self.0);
        let size = log.all.len() as u64;
        if first > size {
            return Err(Error::invalid(format!("log of {size} entries: pruned below {first}")));
        }
        if first > log.first {
            let subject = Digest::of_json(&log.all[..first as usize].to_vec())?;
            let Occurrence { at, actor, operation } = occurrence.clone();
            let (event, evidence) = (Event::Pruned { first }, Vec::new());
            log.all.push(Entry { at, actor, operation, event, subject, evidence });
            log.first = first;
        }
        Ok(())
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

    async fn first(&self) -> Result<u64> {
        self.inner.first().await
    }

    async fn read(&self, indices: Range<u64>) -> Result<Vec<Entry>> {
        self.inner.read(indices).await
    }

    async fn prune(&self, first: u64, occurrence: &Occurrence) -> Result<()> {
        self.inner.prune(first, occurrence).await
    }

    async fn checkpoint(&self) -> Result<Checkpoint> {
        self.inner.checkpoint().await
    }
}
