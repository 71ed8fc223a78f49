//! The audit log in an object store.

mod commit;
mod objects;
mod prune;
mod read;
mod state;
mod verify;

use std::ops::Range;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

#[cfg(doc)]
use kaizen_core::ErrorKind;
use kaizen_core::record::Occurrence;
use kaizen_core::{AuditLog, Checkpoint, Digest, Entry, Result, async_trait};
use object_store::{ObjectStore, UpdateVersion};

use crate::hashes::TileCache;
use crate::log_keys::LogKeys;
use crate::log_signers::LogSigners;
use crate::merkle;
use crate::note::VerifierKey;
use crate::objects::Folder;
use crate::pruning::Pruning;
use crate::queue::{Queue, Request};
use crate::random::random;
use crate::signing::Signing;
use crate::tail::unread;
use crate::tlog_proof::TlogProof;
use crate::verify::Verified;
use crate::witness::{Cosignature, WitnessPolicy};

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
/// The store must heed `If-Match`: a new log tries it out, with an object that it removes, and is
/// [`ErrorKind::Unsupported`] else. Only pruning lists or removes anything more.
///
/// An append that fails with [`ErrorKind::Unavailable`] may have happened: read the log to know.
#[derive(Clone, Debug)]
pub struct ObjectLog(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    folder: Folder,
    signing: Signing,
    /// Names this writer among all.
    writer: [u8; 16],
    /// How often it has tried to commit.
    attempts: AtomicU64,
    state: tokio::sync::Mutex<Option<State>>,
    tiles: Mutex<TileCache>,
    /// What the log says that it was pruned of, as this process last saw it, and the version of the
    /// mark.
    pruning: Mutex<(Pruning, Option<UpdateVersion>)>,
    queue: Queue,
}

impl ObjectLog {
    /// Opens the log below this prefix, and starts an empty one if there is none: `signers` are one
    /// [`Signer`](kaizen_core::Signer), or [`LogSigners`].
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
    /// [`ErrorKind::Unsupported`] if the store has no conditional writes; [`ErrorKind::Invalid`] if
    /// the keys have different names; [`ErrorKind::Corrupt`] if a part is missing, is not signed by
    /// this signer, or disagrees with the right edge of the tiles.
    pub async fn open(
        store: Arc<dyn ObjectStore>,
        prefix: &str,
        signers: impl Into<LogSigners>,
    ) -> Result<Self> {
        let log = Self(Arc::new(Inner {
            folder: Folder::new(store, prefix)?,
            signing: Signing::new(signers.into())?,
            writer: random()?,
            attempts: AtomicU64::default(),
            state: tokio::sync::Mutex::default(),
            tiles: Mutex::default(),
            pruning: Mutex::default(),
            queue: Queue::default(),
        }));
        log.0.start().await?;
        log.0.pruning().await?;
        Ok(log)
    }

    /// Reads the whole log below this prefix again and checks every byte of it, as
    /// [`LocalLog::verify`](crate::LocalLog::verify) does on disk; but for older forms of tiles
    /// that have grown, which nobody needs any more. Nothing is written.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Corrupt`] naming the object at fault; [`ErrorKind::NotFound`] if there is no
    /// log.
    pub async fn verify(
        store: Arc<dyn ObjectStore>,
        prefix: &str,
        keys: impl Into<LogKeys>,
    ) -> Result<Verified> {
        verify::log(Folder::new(store, prefix)?, keys.into()).await
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
    /// Its checkpoint is the head; while the log grows, no witness has seen that one yet: see
    /// [`ObjectLog::proof_at`].
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`] if there is no such entry.
    pub async fn proof(&self, index: u64) -> Result<TlogProof> {
        self.proof_at(index, &self.checkpoint().await?).await
    }

    /// The proof that entry `index` is in the log as it was at a checkpoint of it. With that of
    /// [`ObjectLog::published`], or one that was kept, it holds the cosignatures that the
    /// checkpoint has, however much was appended since.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`] if there is no such entry in it, or it is not of this log.
    pub async fn proof_at(&self, index: u64, checkpoint: &Checkpoint) -> Result<TlogProof> {
        let mut ranges = merkle::inclusion_ranges(index, checkpoint.size)?;
        ranges.push(0..checkpoint.size);
        let hashes = self.0.prove(checkpoint.size, &ranges).await?;
        TlogProof::of(index, hashes, checkpoint)
    }

    /// The checkpoint that is published, with the cosignatures that were added to it.
    ///
    /// # Errors
    ///
    /// As reading the log.
    pub async fn published(&self) -> Result<Checkpoint> {
        self.0.published().await
    }

    /// Adds the cosignatures of witnesses to the published checkpoint: `lines` as a witness gives
    /// them, one signature a line. They stay until the next publication.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`] if they are no signature lines; [`ErrorKind::Conflict`] if the
    /// witnesses of this policy did not cosign what is published now; [`ErrorKind::Refused`] if
    /// there are too few of them.
    pub async fn add_cosignatures(
        &self,
        lines: impl AsRef<str>,
        policy: &WitnessPolicy,
    ) -> Result<Vec<Cosignature>> {
        self.0.add_cosignatures(lines.as_ref(), policy).await
    }

    /// Copies the log into a directory, in the tlog-tiles layout that every reader of such logs
    /// checks, and that [`LocalLog`](crate::LocalLog) goes on with; with the mark of what it was
    /// pruned of. What is in the journal is published first. Gives the checkpoint of what was
    /// copied.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::AlreadyExists`] if there is something in the directory already;
    /// [`ErrorKind::Corrupt`] if an object is missing.
    pub async fn export(&self, dir: impl Into<std::path::PathBuf>) -> Result<Checkpoint> {
        self.export_part(dir.into(), None).await
    }

    /// Copies some entries into a directory, as
    /// [`LocalLog::export_range`](crate::LocalLog::export_range) does.
    ///
    /// # Errors
    ///
    /// As [`ObjectLog::export`]; [`ErrorKind::NotFound`] if the log ends before, or was pruned of
    /// them.
    pub async fn export_range(
        &self,
        dir: impl Into<std::path::PathBuf>,
        entries: Range<u64>,
    ) -> Result<Checkpoint> {
        self.export_part(dir.into(), Some(entries)).await
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

    async fn first(&self) -> Result<u64> {
        Ok(self.0.pruning().await?.first)
    }

    async fn prune(&self, first: u64, occurrence: &Occurrence) -> Result<()> {
        self.prune_below(first, occurrence).await
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
