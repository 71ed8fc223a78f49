//! The audit log on local disk.

mod builder;
mod commit;
pub(crate) mod export;
mod fold;
mod identity;
pub(crate) mod journal;
mod journal_file;
pub(crate) mod lock_file;
mod prove;
mod prune;
mod read;
mod state;
mod verify;

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

#[allow(unused_imports, reason = "the pages of this file name it")]
use kaizen_core::ErrorKind;
use kaizen_core::record::Occurrence;
use kaizen_core::{AuditLog, Checkpoint, Digest, Entry, Result, async_trait};

use crate::files::{Files, blocking};
use crate::hashes::TileCache;
use crate::log_keys::LogKeys;
use crate::log_signers::LogSigners;
use crate::merkle;
use crate::note::VerifierKey;
use crate::pruning::Pruning;
use crate::queue::{Queue, Request};
use crate::signing::Signing;
use crate::tail::unread;
use crate::tlog_proof::TlogProof;
use crate::verify::Verified;
use crate::witness::{Cosignature, WitnessPolicy};

pub use builder::LocalLogBuilder;
use journal_file::JournalFile;
use lock_file::{Held, LockFile, Record};
use state::{Stamp, State};
pub use verify::verify_tiles;

/// A transparency log in a directory: `checkpoint`, `tile/entries/…`, `tile/LEVEL/…`, by C2SP
/// tlog-tiles over RFC 6962 hashing, and `journal`.
///
/// **A commit is one write to the journal**, and one flush: the entries with the signed checkpoint
/// after them. Appends that wait at the same time share it. When the journal is full, when the log
/// is opened, and when [`LocalLog::publish`] is called, it is *published*: entries and tiles are
/// written and flushed first, the signed checkpoint replaces the old one last, in one step. What
/// does not fit into the journal is published at once. Other tools read what is published.
///
/// Any number of threads and processes may append to the same directory at once. An append that
/// nobody waits for any more still runs to its end. What a reader has seen does not go away again,
/// whatever fails: it sees only what its writer has flushed, and says so in `checkpoint.lock`.
///
/// A log only grows. A process refuses to read, and to sign on, a log that does not hold what it
/// has seen of it, or what `checkpoint.lock` says was committed: [`ErrorKind::Corrupt`]. Whoever
/// puts back an older copy on purpose puts it into an empty directory.
///
/// An append that fails with [`ErrorKind::Unavailable`] may have happened, if the disk failed on
/// the last step of all: read the log to know.
#[derive(Clone, Debug)]
pub struct LocalLog(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    dir: PathBuf,
    files: Arc<dyn Files>,
    signing: Signing,
    /// How large a journal is made.
    journal_bytes: u64,
    lock_file: LockFile,
    journal: JournalFile,
    /// `None` before it was opened.
    state: Mutex<Option<State>>,
    /// Of a reader: a record that was never finished, with the checkpoint that it stands beside.
    abandoned: Mutex<Option<(Record, Stamp)>>,
    tiles: Mutex<TileCache>,
    /// What the log says that it was pruned of, as this process last saw it.
    pruning: Mutex<Pruning>,
    queue: Queue,
}

impl LocalLog {
    /// Opens the log in this directory, and starts an empty one if there is none: `signers` are one
    /// [`Signer`](kaizen_core::Signer), or [`LogSigners`]. What the journal holds is published.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`] if the keys have different names;
    /// [`ErrorKind::Corrupt`] if the checkpoint is missing beside entries, is not signed by this
    /// signer, or disagrees with the right edge of the tiles, or if a commit in the journal is
    /// damaged. All else is for [`verify`] to find.
    ///
    /// [`verify`]: LocalLog::verify
    pub async fn open(dir: impl Into<PathBuf>, signers: impl Into<LogSigners>) -> Result<Self> {
        Self::builder(dir, signers).open().await
    }

    /// The log in this directory, to be read with these keys: a [`VerifierKey`], or [`LogKeys`].
    /// Nothing is written, not even to publish what is in the journal; whatever would be written is
    /// [`ErrorKind::Refused`].
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`] if there is no log; otherwise as [`LocalLog::open`].
    pub async fn reader(dir: impl Into<PathBuf>, keys: impl Into<LogKeys>) -> Result<Self> {
        builder::reader(dir.into(), keys.into()).await
    }

    /// Reads the whole log again and checks every byte of it: the checkpoint's signature, the root
    /// over all entries, every tile, that every entry has the form of one (its event may be of a
    /// kind that only a later version knows), and the commits in the journal. One that a writer was
    /// cut off in is passed over: [`Verified::cut_off`]. `keys` are a [`VerifierKey`], or
    /// [`LogKeys`].
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Corrupt`] naming the file at fault; [`ErrorKind::NotFound`] if the directory
    /// has no checkpoint.
    pub async fn verify(dir: impl AsRef<Path>, keys: impl Into<LogKeys>) -> Result<Verified> {
        verify::log(dir.as_ref().to_owned(), keys.into(), None).await
    }

    /// Checks a directory that holds a part of a log, as [`LocalLog::export_range`] writes it: that
    /// these entries are there, and that all hashes lead from them to the checkpoint. What else is
    /// there is checked too. What is in a journal is not.
    ///
    /// # Errors
    ///
    /// As [`LocalLog::verify`]; [`ErrorKind::Invalid`] if the log is not that long.
    pub async fn verify_range(
        dir: impl AsRef<Path>,
        entries: Range<u64>,
        keys: impl Into<LogKeys>,
    ) -> Result<Verified> {
        verify::log(dir.as_ref().to_owned(), keys.into(), Some(entries)).await
    }

    /// The key that this process signs with; the first, if there are several. A reader's is the
    /// first of those by which it reads.
    pub fn key(&self) -> &VerifierKey {
        self.0.signing.key()
    }

    /// The keys by which this log is read.
    pub fn keys(&self) -> &LogKeys {
        self.0.signing.keys()
    }

    /// The directory that holds the log.
    pub fn dir(&self) -> &Path {
        &self.0.dir
    }

    /// Brings everything that is in the journal into tiles, for tools that read these, and gives
    /// the checkpoint that covers it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unavailable`] if the disk fails; the journal then holds everything still.
    pub async fn publish(&self) -> Result<Checkpoint> {
        let inner = Arc::clone(&self.0);
        blocking(move || inner.publish_now()).await
    }

    /// The hashes that show that entry `index` is in the log of `size` entries; check them with
    /// [`merkle::verify_inclusion`] against the root of that log's checkpoint.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`] if the log is not that long, or the entry beyond it;
    /// [`ErrorKind::Corrupt`] naming a tile that is not what the checkpoint vouches for.
    pub async fn inclusion_proof(&self, index: u64, size: u64) -> Result<Vec<Digest>> {
        self.prove(size, merkle::inclusion_ranges(index, size)?).await
    }

    /// The hashes that show that the log of `size` entries begins with that of `old_size`; check
    /// them with [`merkle::verify_consistency`].
    ///
    /// # Errors
    ///
    /// As [`LocalLog::inclusion_proof`].
    pub async fn consistency_proof(&self, old_size: u64, size: u64) -> Result<Vec<Digest>> {
        self.prove(size, merkle::consistency_ranges(old_size, size)?).await
    }

    /// All that shows offline that entry `index` is in the log: what a `.tlog-proof` file holds.
    /// Its checkpoint is the head; while the log grows, no witness has seen that one yet: see
    /// [`LocalLog::proof_at`].
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`] if there is no such entry.
    pub async fn proof(&self, index: u64) -> Result<TlogProof> {
        self.proof_at(index, &self.checkpoint().await?).await
    }

    /// The proof that entry `index` is in the log as it was at a checkpoint of it. With that of
    /// [`LocalLog::published`], or one that was kept, it holds the cosignatures that the checkpoint
    /// has, however much was appended since.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`] if there is no such entry in it, or it is not of this log.
    pub async fn proof_at(&self, index: u64, checkpoint: &Checkpoint) -> Result<TlogProof> {
        let mut ranges = merkle::inclusion_ranges(index, checkpoint.size)?;
        ranges.push(0..checkpoint.size);
        let hashes = self.prove(checkpoint.size, ranges).await?;
        TlogProof::of(index, hashes, checkpoint)
    }

    /// The checkpoint that is published, with the cosignatures that were added to it.
    ///
    /// # Errors
    ///
    /// As reading the log.
    pub async fn published(&self) -> Result<Checkpoint> {
        let inner = Arc::clone(&self.0);
        blocking(move || inner.look(|state| Ok(state.published.clone()))).await
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
        lines: impl Into<String>,
        policy: &WitnessPolicy,
    ) -> Result<Vec<Cosignature>> {
        let (inner, lines, policy) = (Arc::clone(&self.0), lines.into(), policy.clone());
        blocking(move || inner.add_cosignatures(&lines, &policy)).await
    }

    async fn prove(&self, size: u64, ranges: Vec<Range<u64>>) -> Result<Vec<Digest>> {
        // What is in memory needs no other thread.
        if let Some(proof) = self.0.prove_from_memory(size, &ranges) {
            return Ok(proof);
        }
        let inner = Arc::clone(&self.0);
        blocking(move || inner.prove(size, &ranges)).await
    }
}

#[async_trait]
impl AuditLog for LocalLog {
    async fn append(&self, entries: &[Entry], expected: Option<u64>) -> Result<Range<u64>> {
        self.0.append(Request::new(entries, expected)?).await
    }

    async fn size(&self) -> Result<u64> {
        Ok(self.checkpoint().await?.size)
    }

    async fn first(&self) -> Result<u64> {
        let inner = Arc::clone(&self.0);
        blocking(move || Ok(inner.pruning()?.first)).await
    }

    async fn prune(&self, first: u64, occurrence: &Occurrence) -> Result<()> {
        self.prune_below(first, occurrence).await
    }

    async fn read(&self, indices: Range<u64>) -> Result<Vec<Entry>> {
        let inner = Arc::clone(&self.0);
        blocking(move || inner.read(&indices)).await
    }

    async fn checkpoint(&self) -> Result<Checkpoint> {
        let inner = Arc::clone(&self.0);
        blocking(move || inner.look(|state| Ok(state.head.clone()))).await
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Inner {
    fn publish_now(&self) -> Result<Checkpoint> {
        let held = self.hold()?;
        self.catch_up(&held)?;
        self.fold(&held)?;
        Ok(lock(&self.state).as_ref().ok_or_else(unread)?.published.clone())
    }

    fn add_cosignatures(&self, lines: &str, policy: &WitnessPolicy) -> Result<Vec<Cosignature>> {
        let held = self.hold()?;
        self.catch_up(&held)?;
        let published = self.published_note()?;
        let (note, found) = self.signing.cosigned(&published, lines, policy)?;
        self.replace_note(note, &held)?;
        Ok(found)
    }

    /// Waits until nobody else, here or in another process, may write.
    fn hold(&self) -> Result<Held<'_>> {
        self.signing.may_write()?;
        self.lock_file.hold()
    }
}
