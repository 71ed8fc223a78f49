//! Copying a log out, for others to check.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kaizen_core::{Checkpoint, Error, ErrorKind, Result};

use super::{Inner, LocalLog};
use crate::files::{self, Disk, Files, blocking};
use crate::pruning::{MARK, Mark, Pruning};
use crate::tiles::{Kind, WIDTH};

/// How many files are written before their directories are flushed.
const AT_ONCE: usize = 512;

/// The tiles of a log of `size` entries: all those of hashes from the bottom up, then the bundles
/// that hold any of these entries.
pub(crate) fn tiles_with(
    size: u64,
    entries: &Range<u64>,
) -> impl Iterator<Item = (Kind, u64, u64)> + use<> {
    let bundles = match entries.is_empty() {
        true => 0..0,
        false => entries.start / WIDTH..entries.end.div_ceil(WIDTH),
    };
    let levels = (0..).map(Kind::Hashes).take_while(move |kind| kind.items(size) > 0);
    levels.chain([Kind::Entries]).flat_map(move |kind| {
        let tiles = match kind {
            Kind::Entries => bundles.clone(),
            Kind::Hashes(_) => 0..kind.items(size).div_ceil(WIDTH),
        };
        tiles.map(move |index| (kind, index, kind.width(index, size)))
    })
}

/// What is exported: these entries of a log of `size`, or all that it was not pruned of. `log`
/// names it.
pub(crate) fn to_export(
    part: Option<Range<u64>>,
    pruning: &Pruning,
    size: u64,
    log: &str,
) -> Result<Range<u64>> {
    let Some(part) = part else { return Ok(pruning.first..size) };
    if part.start > part.end || part.end > size {
        return Err(Error::not_found(format!("{log}: entries {part:?} of {size}")));
    }
    pruning.check(&part, log)?;
    Ok(part)
}

/// Writes what is beside the tiles: the checkpoint last.
pub(crate) fn finish_export(
    to: &Path,
    checkpoint: &Checkpoint,
    pruning: Option<&Pruning>,
) -> Result<()> {
    if let Some(pruning) = pruning.filter(|pruning| pruning.root.is_some()) {
        files::publish(&Disk, &to.join(MARK), &Mark::bytes(pruning.index))?;
    }
    files::publish(&Disk, &to.join("checkpoint"), checkpoint.note.as_bytes())
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
    Disk.write_each(written)?;
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
    /// checks, and with the mark of what it was pruned of. What is in the journal is published
    /// first. Gives the checkpoint of what was copied.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::AlreadyExists`] if there is something in the directory already;
    /// [`ErrorKind::Corrupt`] if a file of the log is missing.
    pub async fn export(&self, to: impl Into<PathBuf>) -> Result<Checkpoint> {
        self.export_part(to.into(), None).await
    }

    /// Copies some entries into a directory: the bundles that hold them, all tiles of hashes, and
    /// the checkpoint. So they can be checked without the rest, by [`LocalLog::verify_range`].
    /// Entries beside them that are in the same bundle of 256 come along.
    ///
    /// # Errors
    ///
    /// As [`LocalLog::export`]; [`ErrorKind::NotFound`] if the log ends before, or was pruned of
    /// them.
    pub async fn export_range(
        &self,
        to: impl Into<PathBuf>,
        entries: Range<u64>,
    ) -> Result<Checkpoint> {
        self.export_part(to.into(), Some(entries)).await
    }

    async fn export_part(&self, to: PathBuf, part: Option<Range<u64>>) -> Result<Checkpoint> {
        let dir = to.clone();
        blocking(move || empty_dir(&dir)).await?;
        loop {
            // Before the checkpoint, which then covers the entry that the mark points to.
            let inner = Arc::clone(&self.0);
            let pruning = blocking(move || inner.pruning()).await?;
            // Whoever only reads copies what others have published.
            let checkpoint = match self.0.signing.may_write() {
                Ok(()) => self.publish().await?,
                Err(_) => self.published().await?,
            };
            let entries = to_export(part.clone(), &pruning, checkpoint.size, &self.shown())?;
            let mark = part.is_none().then_some(pruning);
            let (inner, to) = (Arc::clone(&self.0), to.clone());
            let copied = blocking(move || {
                match inner.export(&to, &checkpoint, &entries, mark.as_ref()) {
                    Ok(()) => Ok(Some(checkpoint)),
                    // It was pruned meanwhile: what is left is copied.
                    Err(error)
                        if error.kind() == ErrorKind::Corrupt && inner.pruning()? != pruning =>
                    {
                        Ok(None)
                    }
                    Err(error) => Err(error),
                }
            });
            if let Some(checkpoint) = copied.await? {
                return Ok(checkpoint);
            }
        }
    }

    fn shown(&self) -> String {
        format!("log {}", self.dir().display())
    }
}

impl Inner {
    fn export(
        &self,
        to: &Path,
        checkpoint: &Checkpoint,
        entries: &Range<u64>,
        pruning: Option<&Pruning>,
    ) -> Result<()> {
        let mut batch = Vec::new();
        for (kind, index, width) in tiles_with(checkpoint.size, entries) {
            let (_, bytes) = kind.read(&self.dir, index, width)?;
            batch.push((kind.path(to, index, width), bytes));
            if batch.len() == AT_ONCE {
                place(&batch)?;
                batch.clear();
            }
        }
        place(&batch)?;
        finish_export(to, checkpoint, pruning)
    }
}
