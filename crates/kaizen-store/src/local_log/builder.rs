//! How a log is opened.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use kaizen_core::{Error, Result};

use super::journal::{self, PAGE};
use super::journal_file::JournalFile;
use super::lock_file::LockFile;
use super::state::Stamp;
use super::{Inner, LocalLog};
use crate::files::{Disk, Files, blocking};
use crate::log_keys::LogKeys;
use crate::log_signers::LogSigners;
use crate::queue::Queue;
use crate::signing::Signing;

/// 27,000 entries of 300 bytes.
const JOURNAL_BYTES: u64 = 8 << 20;

/// Opens a [`LocalLog`] with another journal.
#[derive(Debug)]
pub struct LocalLogBuilder {
    dir: PathBuf,
    signers: LogSigners,
    journal_bytes: u64,
    files: Arc<dyn Files>,
}

impl LocalLog {
    /// The log in this directory, signed by these, with more to be said of how it is opened.
    pub fn builder(dir: impl Into<PathBuf>, signers: impl Into<LogSigners>) -> LocalLogBuilder {
        LocalLogBuilder {
            dir: dir.into(),
            signers: signers.into(),
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
    /// As [`LocalLog::open`].
    pub async fn open(self) -> Result<LocalLog> {
        let log = LocalLog(Arc::new(Inner {
            lock_file: LockFile::new(self.dir.join("checkpoint.lock"), true),
            journal: JournalFile::new(self.dir.join("journal"), true),
            dir: self.dir,
            files: self.files,
            signing: Signing::new(self.signers)?,
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
