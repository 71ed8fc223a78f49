//! Letting go of the oldest entries.

use std::io;
use std::path::Path;
use std::sync::Arc;

use kaizen_core::record::Occurrence;
use kaizen_core::{AuditLog as _, Context, Error, ErrorKind, Result};

use super::{Inner, LocalLog, lock};
use crate::files::{self, blocking};
use crate::pruning::{self, MARK, MARK_BYTES, Mark, Pruning};
use crate::tiles::{self, Kind, WIDTH};

impl LocalLog {
    /// The entry first, then the mark that points to it, then the bundles.
    pub(super) async fn prune_below(&self, first: u64, occurrence: &Occurrence) -> Result<()> {
        self.0.signing.may_write()?;
        let inner = Arc::clone(&self.0);
        let known = blocking(move || inner.pruning()).await?;
        if first > known.first {
            let size = self.size().await?;
            if first > size {
                let dir = self.dir().display();
                let message = format!("log {dir}: pruned below {first}, and it has {size} entries");
                return Err(Error::invalid(message));
            }
            let gone = 0..first;
            let root = self.prove(first, vec![gone]).await?;
            let root = *root.first().context(ErrorKind::Internal, "log: no root")?;
            let said = self.append(&[pruning::entry(first, root, occurrence)], None).await?;
            // Whoever has the tiles alone finds it there.
            self.publish().await?;
            let inner = Arc::clone(&self.0);
            blocking(move || inner.mark_pruned(said.start, first)).await?;
        }
        let inner = Arc::clone(&self.0);
        blocking(move || inner.remove_pruned()).await
    }
}

impl Inner {
    /// What the log says that it was pruned of.
    pub(super) fn pruning(&self) -> Result<Pruning> {
        self.pruning_of(None)
    }

    /// The same, of a log of which so many entries are known to be published.
    ///
    /// What an older mark points to may go while it is looked for. Then there is a newer one.
    fn pruning_of(&self, published: Option<u64>) -> Result<Pruning> {
        let mut mark = self.mark()?;
        loop {
            let found = self.marked_by(mark.as_deref(), published);
            let corrupt = found.as_ref().is_err_and(|error| error.kind() == ErrorKind::Corrupt);
            let now = if corrupt { self.mark()? } else { None };
            if !corrupt || now == mark {
                return found;
            }
            mark = now;
        }
    }

    /// The mark as it stands there.
    fn mark(&self) -> Result<Option<Vec<u8>>> {
        files::read_whole(&self.dir.join(MARK), MARK_BYTES as u64)
    }

    /// What the entry says that a mark points to.
    fn marked_by(&self, mark: Option<&[u8]>, published: Option<u64>) -> Result<Pruning> {
        let Some(bytes) = mark else { return Ok(Pruning::default()) };
        let mark = Mark::parse(bytes, self.dir.join(MARK).display().to_string())?;
        let known = *lock(&self.pruning);
        if known.root.is_some() && known.index == mark.index {
            return Ok(known);
        }
        let published = match published {
            Some(published) => published,
            None => self.look(|state| Ok(state.published.size))?,
        };
        mark.check(published)?;
        let bundle = mark.index / WIDTH;
        let width = Kind::Entries.width(bundle, published);
        let entries = self.bundle(bundle, width, &self.leaves(bundle, width)?)?;
        let entry = (mark.index % WIDTH) as usize;
        let found = mark.pruning(&entries[entry])?;
        *lock(&self.pruning) = found;
        Ok(found)
    }

    /// Says durably which entry tells what was pruned, unless another tells of more.
    fn mark_pruned(&self, index: u64, first: u64) -> Result<()> {
        let held = self.hold()?;
        self.catch_up(&held)?;
        let published = lock(&self.state).as_ref().map(|state| state.published.size);
        if self.pruning_of(published)?.first >= first {
            return Ok(());
        }
        files::publish(&*self.files, &self.dir.join(MARK), &Mark::bytes(index))
    }

    /// Removes the bundles that hold nothing that stays.
    fn remove_pruned(&self) -> Result<()> {
        let bundles = self.pruning()?.bundles();
        if bundles == 0 {
            return Ok(());
        }
        // Whoever put the mark there may have been cut off before its name was on disk.
        self.files.sync_dir(&self.dir).map_err(|error| files::failed(&self.dir, error))?;
        let top = self.dir.join("tile").join("entries");
        self.remove_bundles(&top, &top, bundles)
    }

    /// Their names are gone for good before this returns: nobody would remove them again. Another
    /// process may be at the same.
    fn remove_bundles(&self, top: &Path, dir: &Path, bundles: u64) -> Result<()> {
        for path in files::list(dir)? {
            if path.is_dir() {
                self.remove_bundles(top, &path, bundles)?;
                // Where nothing is left in it.
                let _ = std::fs::remove_dir(&path);
                continue;
            }
            let below = path.strip_prefix(top).unwrap_or(&path);
            if tiles::parse_path(below).is_some_and(|(index, _)| index < bundles) {
                gone(self.files.remove(&path), &path)?;
            }
        }
        // Also where nothing was: whoever removed it may have been cut off before this.
        gone(self.files.sync_dir(dir), dir)
    }
}

/// What is not there has been removed.
fn gone(done: io::Result<()>, path: &Path) -> Result<()> {
    match done {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(files::failed(path, error)),
        _ => Ok(()),
    }
}
