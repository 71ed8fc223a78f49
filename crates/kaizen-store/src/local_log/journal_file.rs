//! The file `journal`, kept open.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use kaizen_core::{Bytes, Result};

use super::identity::Identity;
use super::journal::{MAX_BYTES, Pages};
use super::lock;
use crate::files::{self, Files};

/// A journal file, of which only as much is read as is asked for.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) file: File,
    identity: Identity,
}

impl Pages for Opened {
    fn length(&self) -> u64 {
        self.identity.length.min(MAX_BYTES)
    }

    fn read(&self, offset: u64, length: usize) -> io::Result<Bytes> {
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, offset)?;
        Ok(bytes.into())
    }
}

/// The journal of a log, wherever its name leads.
#[derive(Debug)]
pub(super) struct JournalFile {
    path: PathBuf,
    writes: bool,
    opened: Mutex<Option<Arc<Opened>>>,
}

impl JournalFile {
    /// The journal of a log that this process may write to, or may only read.
    pub(super) fn new(path: PathBuf, writes: bool) -> Self {
        Self { path, writes, opened: Mutex::default() }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The journal that bears the name now, if there is one.
    ///
    /// One that a writer has not seen before has its name flushed first: whoever made it may have
    /// been cut off before that, and a commit in a journal without a name is lost.
    pub(super) fn open(&self, disk: &dyn Files) -> Result<Option<Arc<Opened>>> {
        let failed = |error| files::failed(&self.path, error);
        let Some(now) = Identity::named(&self.path).map_err(failed)? else { return Ok(None) };
        let mut opened = lock(&self.opened);
        if let Some(known) = opened.as_ref().filter(|known| known.identity == now) {
            return Ok(Some(Arc::clone(known)));
        }
        let mut options = files::options();
        let file = options.read(true).write(self.writes).open(&self.path).map_err(failed)?;
        if self.writes {
            let dir = files::parent(&self.path)?;
            disk.sync_dir(dir).map_err(|error| files::failed(dir, error))?;
        }
        let identity = Identity::opened(&file).map_err(failed)?;
        let journal = Arc::new(Opened { file, identity });
        *opened = Some(Arc::clone(&journal));
        Ok(Some(journal))
    }
}
