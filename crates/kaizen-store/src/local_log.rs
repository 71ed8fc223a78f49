//! The audit log on local disk.

mod commit;
mod verify;

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use kaizen_core::{
    AuditLog, Checkpoint, Context, Digest, Entry, Error, ErrorKind, Result, Signer, async_trait,
};
use tokio::sync::oneshot;

use crate::files::{self, Disk, Files, blocking};
use crate::merkle;
use crate::note::{self, VerifierKey};
use crate::tiles::{self, Kind, WIDTH};

use commit::{Pending, Request, Tip};
pub use verify::{Verified, verify_tiles};

/// At most this many entries in one append.
const MAX_APPEND: usize = 1 << 20;

/// A transparency log in a directory: `checkpoint`, `tile/entries/…`, `tile/LEVEL/…`, by C2SP
/// tlog-tiles over RFC 6962 hashing.
///
/// **The checkpoint is the commit.** Entries and tiles are written and flushed first, the signed
/// checkpoint replaces the old one last, in one step. A crash in between leaves the old checkpoint
/// with everything that it covers; what lies beyond is nobody's, and the next append writes over
/// it. Appends that wait at the same time share one checkpoint. Any number of threads and
/// processes may append to the same directory at once. An append that nobody waits for any more
/// still runs to its end.
///
/// An append that fails with [`ErrorKind::Unavailable`] may have happened, if the disk failed on
/// the last step of all: read the log to know.
#[derive(Clone, Debug)]
pub struct LocalLog(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    dir: PathBuf,
    files: Arc<dyn Files>,
    signer: Arc<dyn Signer>,
    key: VerifierKey,
    /// The last checkpoint that was read and verified.
    head: Mutex<Option<Checkpoint>>,
    /// Appends that wait to be committed.
    queue: Mutex<Vec<Pending>>,
    /// The right edge of the log as this process last left it.
    tip: tokio::sync::Mutex<Option<Tip>>,
}

impl LocalLog {
    /// Opens the log in this directory, and starts an empty one if there is none. The signer's
    /// name is the log's origin.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Corrupt`] if the checkpoint is missing beside entries, is not signed by this
    /// signer, or disagrees with the right edge of the tiles. All else is for [`verify`] to find.
    ///
    /// [`verify`]: LocalLog::verify
    pub async fn open(dir: impl Into<PathBuf>, signer: Arc<dyn Signer>) -> Result<Self> {
        Self::open_on(dir.into(), signer, Arc::new(Disk)).await
    }

    pub(crate) async fn open_on(
        dir: PathBuf,
        signer: Arc<dyn Signer>,
        files: Arc<dyn Files>,
    ) -> Result<Self> {
        let key = VerifierKey::new(signer.name(), signer.public_key())?;
        let (head, queue, tip) = (Mutex::default(), Mutex::default(), Default::default());
        let log = Self(Arc::new(Inner { dir, files, signer, key, head, queue, tip }));
        Arc::clone(&log.0).start().await?;
        Ok(log)
    }

    /// Reads the whole log again and checks every byte of it: the checkpoint's signature, the root
    /// over all entries, every tile, and that every entry can be read.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Corrupt`] naming the file at fault; [`ErrorKind::NotFound`] if the directory
    /// has no checkpoint.
    pub async fn verify(dir: impl AsRef<Path>, key: &VerifierKey) -> Result<Verified> {
        verify_tiles(dir, key, |index, bytes| {
            let parsed: Result<Entry> = serde_json::from_slice(bytes)
                .context(ErrorKind::Corrupt, format!("entry {index}: not a log entry"));
            parsed.map(|_| ())
        })
        .await
    }

    /// The key that verifies this log.
    pub fn key(&self) -> &VerifierKey {
        &self.0.key
    }

    /// The directory that holds the log.
    pub fn dir(&self) -> &Path {
        &self.0.dir
    }

    /// The hashes that show that entry `index` is in the log of `size` entries; check them with
    /// [`merkle::verify_inclusion`] against the root of that log's checkpoint.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`] if the log is not that long, or the entry beyond it.
    pub async fn inclusion_proof(&self, index: u64, size: u64) -> Result<Vec<Digest>> {
        self.prove(size, move || merkle::inclusion_ranges(index, size)).await
    }

    /// The hashes that show that the log of `size` entries begins with that of `old_size`; check
    /// them with [`merkle::verify_consistency`].
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`] if the log is not that long.
    pub async fn consistency_proof(&self, old_size: u64, size: u64) -> Result<Vec<Digest>> {
        self.prove(size, move || merkle::consistency_ranges(old_size, size)).await
    }

    async fn prove<F>(&self, size: u64, ranges: F) -> Result<Vec<Digest>>
    where
        F: FnOnce() -> Result<Vec<Range<u64>>> + Send + 'static,
    {
        let inner = Arc::clone(&self.0);
        blocking(move || {
            let now = inner.head()?.size;
            if size > now {
                return Err(Error::invalid(format!("log of {size} entries: there are {now}")));
            }
            ranges()?.into_iter().map(|range| inner.hash_of(range, now)).collect()
        })
        .await
    }
}

#[async_trait]
impl AuditLog for LocalLog {
    async fn append(&self, entries: &[Entry], expected: Option<u64>) -> Result<Range<u64>> {
        if entries.len() > MAX_APPEND {
            let message = format!("append of {} entries: over {MAX_APPEND}", entries.len());
            return Err(Error::new(ErrorKind::Limit, message));
        }
        let entries = entries.iter().map(Entry::to_bytes).collect::<Result<_>>()?;
        let (sender, outcome) = oneshot::channel();
        lock(&self.0.queue).push((Request { entries, expected }, sender));
        // On its own, so that it runs to its end even if the caller goes away.
        tokio::spawn(Arc::clone(&self.0).commit());
        outcome.await.context(ErrorKind::Internal, "log append was cut off")?
    }

    async fn size(&self) -> Result<u64> {
        Ok(self.checkpoint().await?.size)
    }

    async fn read(&self, indices: Range<u64>) -> Result<Vec<Entry>> {
        let inner = Arc::clone(&self.0);
        blocking(move || inner.read(&indices)).await
    }

    async fn checkpoint(&self) -> Result<Checkpoint> {
        let inner = Arc::clone(&self.0);
        blocking(move || inner.head()).await
    }
}

impl Inner {
    fn checkpoint_path(&self) -> PathBuf {
        self.dir.join("checkpoint")
    }

    /// The published checkpoint, verified. The one read before is not verified again.
    fn head(&self) -> Result<Checkpoint> {
        let found = self.published()?;
        found.context(ErrorKind::Corrupt, format!("{}: it is missing", self.shown()))
    }

    fn published(&self) -> Result<Option<Checkpoint>> {
        let Some(bytes) = files::read(&self.checkpoint_path())? else { return Ok(None) };
        let mut head = lock(&self.head);
        if let Some(known) = head.as_ref().filter(|known| known.note.as_bytes() == bytes) {
            return Ok(Some(known.clone()));
        }
        let note = String::from_utf8(bytes).context(ErrorKind::Corrupt, self.shown())?;
        let read = note::open_checkpoint(&note, &self.key);
        let read = read.map_err(|error| Error::corrupt(self.shown()).with_source(error))?;
        if read.origin != self.key.name() {
            let (found, wanted) = (&read.origin, self.key.name());
            let message = format!("{}: of log `{found}`, not `{wanted}`", self.shown());
            return Err(Error::corrupt(message));
        }
        *head = Some(read.clone());
        Ok(Some(read))
    }

    fn shown(&self) -> String {
        self.checkpoint_path().display().to_string()
    }

    fn read(&self, indices: &Range<u64>) -> Result<Vec<Entry>> {
        let size = self.head()?.size;
        if indices.start > indices.end || indices.end > size {
            return Err(Error::not_found(format!("log entries {indices:?} of {size}")));
        }
        let mut entries = Vec::new();
        let mut next = indices.start;
        while next < indices.end {
            let tile = next / WIDTH;
            let first = tile * WIDTH;
            let (path, bytes) = self.bundle(tile, size)?;
            let bundle = tiles::exact_entries(&path, &bytes, Kind::Entries.width(tile, size))?;
            let end = indices.end.min(first + WIDTH);
            for (entry, index) in bundle.iter().skip((next - first) as usize).zip(next..end) {
                let parsed = serde_json::from_slice(entry);
                let what = || format!("{}: entry {index}", path.display());
                entries.push(parsed.map_err(|e| Error::corrupt(what()).with_source(e))?);
            }
            next = end;
        }
        Ok(entries)
    }

    /// A bundle of entries whose hashes are those of the tile above it.
    fn bundle(&self, tile: u64, size: u64) -> Result<(PathBuf, Vec<u8>)> {
        let width = Kind::Entries.width(tile, size);
        let (path, bytes) = Kind::Entries.read(&self.dir, tile, width)?;
        let (hash_path, hash_bytes) = Kind::Hashes(0).read(&self.dir, tile, width)?;
        let hashes = tiles::hashes_of(&hash_path, &hash_bytes, width)?;
        let entries = tiles::exact_entries(&path, &bytes, width)?;
        let altered = entries.iter().zip(&hashes).position(|(e, h)| merkle::leaf_hash(e) != *h);
        if let Some(at) = altered {
            let (path, tile_path) = (path.display(), hash_path.display());
            let index = tile * WIDTH + at as u64;
            return Err(Error::corrupt(format!(
                "{path}: entry {index} has not the hash that {tile_path} gives"
            )));
        }
        Ok((path, bytes))
    }

    /// The root over a range of leaves, in a log that has `size` entries now.
    fn hash_of(&self, range: Range<u64>, size: u64) -> Result<Digest> {
        let length = range.end - range.start;
        if !length.is_power_of_two() || !range.start.is_multiple_of(length) {
            let middle = range.start + merkle::split(length);
            let left = self.hash_of(range.start..middle, size)?;
            return Ok(merkle::node_hash(&left, &self.hash_of(middle..range.end, size)?));
        }
        let level = length.ilog2() / 8;
        let (first, count) = (range.start >> (8 * level), length >> (8 * level));
        let (kind, index) = (Kind::Hashes(level), first / WIDTH);
        let width = kind.width(index, size);
        let (path, bytes) = kind.read(&self.dir, index, width)?;
        let hashes = tiles::hashes_of(&path, &bytes, width)?;
        let from = (first % WIDTH) as usize;
        let row = hashes.get(from..from + count as usize);
        row.map(merkle::root).context(ErrorKind::Corrupt, path.display())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
