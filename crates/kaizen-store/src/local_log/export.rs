//! Copying a log out, for others to check.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kaizen_core::{Checkpoint, Error, ErrorKind, Result};

use super::{Inner, LocalLog};
use crate::files::{self, Disk, Files, blocking};
use crate::tiles::{Kind, WIDTH};

/// How many files are written before their directories are flushed.
const AT_ONCE: usize = 512;

/// Every tile of a log of `size` entries: those of hashes from the bottom up, then the bundles.
pub(crate) fn all_tiles(size: u64) -> impl Iterator<Item = (Kind, u64, u64)> {
    let levels = (0..).map(Kind::Hashes).take_while(move |kind| kind.items(size) > 0);
    levels.chain([Kind::Entries]).flat_map(move |kind| {
        let tiles = 0..kind.items(size).div_ceil(WIDTH);
        tiles.map(move |index| (kind, index, kind.width(index, size)))
    })
}

/// Writes files, and the directories that they need, durably.
pub(crate) fn place(written: &[(PathBuf, Vec<u8>)]) -> Result<()> {
    let mut dirs = BTreeSet::new();
    for (path, _) in written {
        let dir = files::parent(path)?;
        if dirs.insert(dir.to_owned()) {
            files::create_dirs(&Disk, dir)?;
        }
    }
    let place = || written.first().map_or(Path::new(""), |(path, _)| path);
    Disk.write_each(written).map_err(|error| files::failed(place(), error))?;
    dirs.iter().try_for_each(|dir| Disk.sync_dir(dir).map_err(|error| files::failed(dir, error)))
}

/// Makes a directory that something is exported into.
///
/// # Errors
///
/// [`ErrorKind::AlreadyExists`] if there is something in it.
pub(crate) fn empty_dir(dir: &Path) -> Result<()> {
    if !files::list(dir)?.is_empty() {
        let message = format!("{}: there is something in it already", dir.display());
        return Err(Error::new(ErrorKind::AlreadyExists, message));
    }
    files::create_dirs(&Disk, dir)
}

impl LocalLog {
    /// Copies the log into a directory, in the tlog-tiles layout that every reader of such logs
    /// checks. What is in the journal is published first. Gives the checkpoint of what was copied.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::AlreadyExists`] if there is something in the directory already;
    /// [`ErrorKind::Corrupt`] if a file of the log is missing.
    pub async fn export(&self, to: impl Into<PathBuf>) -> Result<Checkpoint> {
        let (inner, to, checkpoint) = (Arc::clone(&self.0), to.into(), self.publish().await?);
        blocking(move || inner.export(&to, checkpoint)).await
    }
}

impl Inner {
    fn export(&self, to: &Path, checkpoint: Checkpoint) -> Result<Checkpoint> {
        empty_dir(to)?;
        let mut batch = Vec::new();
        for (kind, index, width) in all_tiles(checkpoint.size) {
            let (_, bytes) = kind.read(&self.dir, index, width)?;
            batch.push((kind.path(to, index, width), bytes));
            if batch.len() == AT_ONCE {
                place(&batch)?;
                batch.clear();
            }
        }
        place(&batch)?;
        files::publish(&Disk, &to.join("checkpoint"), checkpoint.note.as_bytes())?;
        Ok(checkpoint)
    }
}
