//! How a log is opened.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kaizen_core::{Error, Result, Signer};

use super::journal::{self, PAGE};
use super::journal_file::JournalFile;
use super::lock_file::LockFile;
use super::state::Stamp;
use super::{Inner, LocalLog};
use crate::files::{Disk, Files, blocking};
use crate::log_keys::LogKeys;
use crate::queue::Queue;
use crate::signing::{SIGN_WITHIN, Signing};

/// 27,000 entries of 300 bytes.
const JOURNAL_BYTES: u64 = 8 << 20;

/// Opens a [`LocalLog`] with more than one key, or with another journal.
#[derive(Debug)]
pub struct LocalLogBuilder {
    dir: PathBuf,
    signers: Vec<Arc<dyn Signer>>,
    accepted: Vec<LogKeys>,
    sign_within: Duration,
    journal_bytes: u64,
    files: Arc<dyn Files>,
}

impl LocalLog {
    /// The log in this directory, signed by this key.
    ///
    /// A key is rotated in three steps, and no reader misses any: readers get the new key beside
    /// the old one; the log is opened with both signers; when every reader has the new key, it is
    /// opened with the new signer, and the old key is accepted for the sizes that it had.
    ///
    /// ```
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    /// # runtime.block_on(async {
    /// # let scratch = tempfile::tempdir().unwrap();
    /// # let dir = scratch.path().join("log");
    /// use std::sync::Arc;
    /// use kaizen_core::AuditLog;
    /// use kaizen_store::{Ed25519Signer, LocalLog};
    ///
    /// let old = Arc::new(Ed25519Signer::from_seed("example.com/models", [1; 32])?);
    /// let new = Arc::new(Ed25519Signer::from_seed("example.com/models", [2; 32])?);
    /// LocalLog::open(&dir, old.clone()).await?;
    /// let log = LocalLog::builder(&dir, new.clone()).also_signed_by(old.clone()).open().await?;
    /// let head = log.checkpoint().await?;
    /// kaizen_store::open_checkpoint(&head.note, old.verifier())?;
    /// kaizen_store::open_checkpoint(&head.note, new.verifier())?;
    /// # Ok::<(), kaizen_core::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn builder(dir: impl Into<PathBuf>, signer: Arc<dyn Signer>) -> LocalLogBuilder {
        LocalLogBuilder {
            dir: dir.into(),
            signers: vec![signer],
            accepted: Vec::new(),
            sign_within: SIGN_WITHIN,
            journal_bytes: JOURNAL_BYTES,
            files: Arc::new(Disk),
        }
    }
}

/// A log that is only read.
pub(super) async fn reader(dir: PathBuf, keys: LogKeys) -> Result<LocalLog> {
    let shown = dir.display().to_string();
    let log = LocalLog(Arc::new(Inner {
        lock_file: LockFile::new(dir.join("checkpoint.lock"), false),
        journal: JournalFile::new(dir.join("journal"), false),
        dir,
        files: Arc::new(Disk),
        signing: Signing::of_reader(keys)?,
        journal_bytes: JOURNAL_BYTES,
        state: Mutex::default(),
        abandoned: Mutex::default(),
        tiles: Mutex::default(),
        pruning: Mutex::default(),
        queue: Queue::default(),
    }));
    let inner = Arc::clone(&log.0);
    blocking(move || match Stamp::of(&inner.checkpoint_path())? {
        Some(_) => inner.look(|_| Ok(())),
        None => Err(Error::not_found(format!("log {shown}: there is none"))),
    })
    .await?;
    Ok(log)
}

impl LocalLogBuilder {
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

    /// How long a signer whose key is not in this process may take for a commit; 30 seconds if it
    /// is not said. No other process can append meanwhile. An append whose signature does not come
    /// in time fails with [`ErrorKind::Unavailable`](kaizen_core::ErrorKind::Unavailable), and has
    /// not happened.
    #[must_use]
    pub fn sign_within(mut self, limit: Duration) -> Self {
        self.sign_within = limit;
        self
    }

    /// How large the journal is made, in bytes, if there is none: as much as is appended before a
    /// publication makes an append wait. 8 MiB if it is not said; at least 4 KiB, at most 256 MiB.
    #[must_use]
    pub fn journal_bytes(mut self, bytes: u64) -> Self {
        self.journal_bytes = bytes.clamp(PAGE, journal::MAX_BYTES) / PAGE * PAGE;
        self
    }

    #[cfg(test)]
    pub(crate) fn on(mut self, files: Arc<dyn Files>) -> Self {
        self.files = files;
        self
    }

    /// Opens the log.
    ///
    /// # Errors
    ///
    /// As [`LocalLog::open`]; and [`ErrorKind::Invalid`](kaizen_core::ErrorKind::Invalid) if the
    /// keys have different names.
    pub async fn open(self) -> Result<LocalLog> {
        let log = LocalLog(Arc::new(Inner {
            lock_file: LockFile::new(self.dir.join("checkpoint.lock"), true),
            journal: JournalFile::new(self.dir.join("journal"), true),
            dir: self.dir,
            files: self.files,
            signing: Signing::new(self.signers, self.accepted, self.sign_within)?,
            journal_bytes: self.journal_bytes,
            state: Mutex::default(),
            abandoned: Mutex::default(),
            tiles: Mutex::default(),
            pruning: Mutex::default(),
            queue: Queue::default(),
        }));
        Arc::clone(&log.0).start().await?;
        Ok(log)
    }
}
