//! The audit log in an object store.

mod commit;
mod objects;
mod read;
mod state;

use std::ops::Range;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

#[allow(unused_imports, reason = "the pages of this file name it")]
use kaizen_core::ErrorKind;
use kaizen_core::{AuditLog, Checkpoint, Digest, Entry, Result, Signer, async_trait};
use object_store::ObjectStore;

use crate::hashes::TileCache;
use crate::log_keys::LogKeys;
use crate::merkle;
use crate::note::VerifierKey;
use crate::queue::{Queue, Request};
use crate::random::random;
use crate::signing::Signing;
use crate::tail::unread;
use crate::tlog_proof::TlogProof;

use objects::Objects;
use state::State;

/// A transparency log below a prefix of an object store: `checkpoint`, `tile/entries/…`,
/// `tile/LEVEL/…`, by C2SP tlog-tiles over RFC 6962 hashing, and `journal`.
///
/// **A commit is one conditional write** of the object `journal`: the entries since the published
/// checkpoint, with the signed head after them, in place of the version that was read. Of writers
/// that race one wins, and the others build on what it wrote. Appends that wait at the same time
/// share a commit. From 1,024 entries or 1 MiB on, the journal is *published*: tiles, which are a
/// function of what is committed, then the checkpoint, then what is published is taken out of the
/// journal.
///
/// The store must heed `If-Match`: [`ErrorKind::Unsupported`] else. Nothing is ever listed, and
/// nothing is removed but an object with which a new log tries the store out.
///
/// An append that fails with [`ErrorKind::Unavailable`] may have happened: read the log to know.
#[derive(Clone, Debug)]
pub struct ObjectLog(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    objects: Objects,
    signing: Signing,
    /// Names this writer among all.
    writer: [u8; 16],
    /// How often it has tried to commit.
    attempts: AtomicU64,
    state: tokio::sync::Mutex<Option<State>>,
    tiles: Mutex<TileCache>,
    queue: Queue,
}

/// Opens an [`ObjectLog`] with more than one key.
#[derive(Debug)]
pub struct ObjectLogBuilder {
    store: Arc<dyn ObjectStore>,
    prefix: String,
    signers: Vec<Arc<dyn Signer>>,
    accepted: Vec<LogKeys>,
}

impl ObjectLogBuilder {
    /// Every checkpoint is signed by this key too.
    #[must_use]
    pub fn also_signed_by(mut self, signer: Arc<dyn Signer>) -> Self {
        self.signers.push(signer);
        self
    }

    /// Goes on with a log that was signed by these keys so far.
    #[must_use]
    pub fn accepting(mut self, keys: impl Into<LogKeys>) -> Self {
        self.accepted.push(keys.into());
        self
    }

    /// Opens the log.
    ///
    /// # Errors
    ///
    /// As [`ObjectLog::open`]; and [`ErrorKind::Invalid`] if the keys have different names.
    pub async fn open(self) -> Result<ObjectLog> {
        let log = ObjectLog(Arc::new(Inner {
            objects: Objects::new(self.store, &self.prefix)?,
            signing: Signing::new(self.signers, self.accepted)?,
            writer: random()?,
            attempts: AtomicU64::default(),
            state: tokio::sync::Mutex::default(),
            tiles: Mutex::default(),
            queue: Queue::default(),
        }));
        log.0.start().await?;
        Ok(log)
    }
}

impl ObjectLog {
    /// Opens the log below this prefix, and starts an empty one if there is none. The signer's
    /// name is the log's origin.
    ///
    /// ```
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    /// # runtime.block_on(async {
    /// use std::sync::Arc;
    /// use kaizen_core::AuditLog;
    /// use kaizen_store::{Ed25519Signer, ObjectLog};
    /// use object_store::memory::InMemory;
    ///
    /// let signer = Arc::new(Ed25519Signer::from_seed("example.com/models", [7; 32])?);
    /// let log = ObjectLog::open(Arc::new(InMemory::new()), "audit", signer).await?;
    /// assert_eq!(log.size().await?, 0);
    /// # Ok::<(), kaizen_core::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`] if the store has no conditional writes; [`ErrorKind::Corrupt`]
    /// if a part is missing, is not signed by this signer, or disagrees with the right edge of the
    /// tiles.
    pub async fn open(
        store: Arc<dyn ObjectStore>,
        prefix: &str,
        signer: Arc<dyn Signer>,
    ) -> Result<Self> {
        Self::builder(store, prefix, signer).open().await
    }

    /// The log below this prefix, signed by this key, with more to be said of how it is opened.
    pub fn builder(
        store: Arc<dyn ObjectStore>,
        prefix: &str,
        signer: Arc<dyn Signer>,
    ) -> ObjectLogBuilder {
        let prefix = prefix.to_owned();
        ObjectLogBuilder { store, prefix, signers: vec![signer], accepted: Vec::new() }
    }

    /// The key that this process signs with; the first, if there are several.
    pub fn key(&self) -> &VerifierKey {
        self.0.signing.key()
    }

    /// The keys by which this log is read.
    pub fn keys(&self) -> &LogKeys {
        self.0.signing.keys()
    }

    /// Brings everything that is in the journal into tiles, for tools that read these, and gives
    /// the checkpoint that covers it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unavailable`] if the store fails; the journal then holds everything still.
    pub async fn publish(&self) -> Result<Checkpoint> {
        let _turn = self.0.queue.turn().await;
        self.0.publish().await
    }

    /// The hashes that show that entry `index` is in the log of `size` entries; check them with
    /// [`merkle::verify_inclusion`] against the root of that log's checkpoint.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`] if the log is not that long, or the entry beyond it;
    /// [`ErrorKind::Corrupt`] naming a tile that is not what the checkpoint vouches for.
    pub async fn inclusion_proof(&self, index: u64, size: u64) -> Result<Vec<Digest>> {
        self.0.prove(size, &merkle::inclusion_ranges(index, size)?).await
    }

    /// The hashes that show that the log of `size` entries begins with that of `old_size`; check
    /// them with [`merkle::verify_consistency`].
    ///
    /// # Errors
    ///
    /// As [`ObjectLog::inclusion_proof`].
    pub async fn consistency_proof(&self, old_size: u64, size: u64) -> Result<Vec<Digest>> {
        self.0.prove(size, &merkle::consistency_ranges(old_size, size)?).await
    }

    /// All that shows offline that entry `index` is in the log: what a `.tlog-proof` file holds.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`] if there is no such entry.
    pub async fn proof(&self, index: u64) -> Result<TlogProof> {
        let head = self.checkpoint().await?;
        let hashes = self.inclusion_proof(index, head.size).await?;
        Ok(TlogProof { extra: None, index, hashes, checkpoint: head.note })
    }

    /// Copies the log into a directory, in the tlog-tiles layout that every reader of such logs
    /// checks, and that [`LocalLog`](crate::LocalLog) goes on with. What is in the journal is
    /// published first. Gives the checkpoint of what was copied.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::AlreadyExists`] if there is something in the directory already;
    /// [`ErrorKind::Corrupt`] if an object is missing.
    pub async fn export(&self, dir: impl Into<std::path::PathBuf>) -> Result<Checkpoint> {
        let checkpoint = self.publish().await?;
        self.0.export(dir.into(), checkpoint).await
    }
}

#[async_trait]
impl AuditLog for ObjectLog {
    async fn append(&self, entries: &[Entry], expected: Option<u64>) -> Result<Range<u64>> {
        let request = Request::new(entries, expected)?;
        self.0.queue.append(request, Arc::clone(&self.0).commit()).await
    }

    async fn size(&self) -> Result<u64> {
        Ok(self.checkpoint().await?.size)
    }

    async fn read(&self, indices: Range<u64>) -> Result<Vec<Entry>> {
        self.0.read(&indices).await
    }

    async fn checkpoint(&self) -> Result<Checkpoint> {
        let mut slot = self.0.state.lock().await;
        self.0.refresh(&mut slot).await?;
        let state = slot.as_ref().ok_or_else(unread)?;
        Ok(state.head.clone())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
