//! How a log is published: from the journal into tiles, under a new checkpoint.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kaizen_core::{Checkpoint, Error, Result};

use super::journal::PAGE;
use super::state::Shared;
use super::{Inner, lock};
use crate::files::{self, blocking};
use crate::merkle::root;
use crate::tail::{Additions, Staged, Tail, unread};
use crate::tiles::{Kind, WIDTH};

impl Inner {
    /// Makes an empty log if there is none, checks that the end of the log fits together, and
    /// publishes what is in the journal.
    pub(super) async fn start(self: Arc<Self>) -> Result<()> {
        let looking = Arc::clone(&self);
        // A log that is there needs no signature to be read.
        let empty = match blocking(move || looking.published_note()).await? {
            Some(_) => None,
            None => Some(self.signing.seal(0, &root(&[])).await?),
        };
        let starting = Arc::clone(&self);
        let unsigned = blocking(move || {
            files::create_dirs(&*starting.files, &starting.dir)?;
            let held = starting.lock_files()?;
            starting.begin(empty.as_deref())?;
            starting.settle(&held)?;
            starting.unsigned()
        })
        .await?;
        // A log that another key signed is signed by this one from now on.
        let Some(text) = unsigned else { return Ok(()) };
        let note = self.signing.sign(&text).await?;
        blocking(move || {
            let held = self.lock_files()?;
            self.settle(&held)?;
            if self.unsigned()?.is_some_and(|now| now == text) {
                files::publish(&*self.files, &self.checkpoint_path(), note.as_bytes())?;
            }
            self.look(|_| Ok(()))
        })
        .await
    }

    fn begin(&self, empty: Option<&str>) -> Result<()> {
        let (Some(empty), None) = (empty, self.published_note()?) else { return Ok(()) };
        // Every log begins with a checkpoint, so one that has entries has lost it.
        let lost =
            !files::list(&self.dir.join("tile"))?.is_empty() || self.open_journal()?.is_some();
        if lost {
            return Err(Error::corrupt(format!("{}: it is missing", self.shown())));
        }
        let above = files::parent(&self.dir)?;
        self.files.sync_dir(above).map_err(|error| files::failed(above, error))?;
        files::publish(&*self.files, &self.checkpoint_path(), empty.as_bytes())
    }

    /// The text of the published checkpoint, if a signature of ours is missing on it.
    fn unsigned(&self) -> Result<Option<String>> {
        let Some(note) = self.published_note()? else { return Ok(None) };
        self.signing.unsigned(&note)
    }

    /// Reads the log anew and publishes what the journal holds, so that all of it is known to be
    /// on disk: at the start, and after a commit failed, when only what was written since is.
    /// `_held` is the lock of the files.
    pub(super) fn settle(&self, _held: &files::Lock) -> Result<()> {
        let mut found = None;
        self.refresh(&mut found)?;
        let mut state = found.ok_or_else(unread)?;
        if self.is_torn(&state)? {
            let (path, offset) = (self.journal_path(), state.next_frame);
            tracing::warn!(
                path = %path.display(), offset,
                "the journal ends in a commit that was never finished, and is passed over"
            );
            let cleared = self.files.overwrite(&path, offset, &[0; PAGE as usize]);
            cleared.map_err(|error| files::failed(&path, error))?;
        }
        if state.tail.size() > state.published.size {
            self.write_tiles(state.tail.unpublished()?, &state.head, state.published.size)?;
            state.was_published(state.head.clone());
        }
        let mut shared = lock(&self.shared);
        (shared.state, shared.doubt) = (Some(state), false);
        Ok(())
    }

    /// Publishes everything that is known, if it is not published. `_held` is the lock of the
    /// files.
    pub(super) fn fold(&self, _held: &files::Lock) -> Result<()> {
        let (staged, head, published) = {
            let shared = lock(&self.shared);
            let state = shared.state.as_ref().ok_or_else(unread)?;
            if state.tail.size() == state.published.size {
                return Ok(());
            }
            (state.tail.unpublished()?, state.head.clone(), state.published.size)
        };
        self.write_tiles(staged, &head, published)?;
        let mut shared = lock(&self.shared);
        let state = shared.state.as_mut().ok_or_else(unread)?;
        state.was_published(head);
        Ok(())
    }

    /// Publishes additions that are too long for the journal. What was before is published.
    pub(super) fn publish_at_once(
        &self,
        additions: Additions,
        head: Checkpoint,
        _held: &files::Lock,
    ) -> Result<()> {
        let mut tail: Tail = {
            let shared = lock(&self.shared);
            shared.state.as_ref().ok_or_else(unread)?.tail.clone()
        };
        tail.add(additions);
        let published = tail.published();
        let written = self.write_tiles(tail.unpublished()?, &head, published);
        let shared: &mut Shared = &mut lock(&self.shared);
        if let Err(error) = written {
            // The checkpoint may be in place all the same: it is read again.
            shared.state = None;
            return Err(error);
        }
        let state = shared.state.as_mut().ok_or_else(unread)?;
        (state.tail, state.head) = (tail, head.clone());
        state.was_published(head);
        Ok(())
    }

    /// Entries and tiles first, the checkpoint last, in one step.
    fn write_tiles(&self, staged: Vec<Staged>, head: &Checkpoint, published: u64) -> Result<()> {
        let mut grown = Vec::with_capacity(staged.len());
        let mut written = Vec::with_capacity(staged.len());
        let mut dirs = BTreeSet::new();
        for (kind, index, width, bytes) in staged {
            self.sweep(kind, index, published)?;
            let path = kind.path(&self.dir, index, width);
            self.make_dirs(files::parent(&path)?, &mut dirs)?;
            grown.push((kind, index, width));
            written.push((path, bytes));
        }
        let place = || written.first().map_or(self.dir.as_path(), |(path, _)| path);
        self.files.write_each(&written).map_err(|error| files::failed(place(), error))?;
        for dir in &dirs {
            self.files.sync_dir(dir).map_err(|error| files::failed(dir, error))?;
        }
        files::publish(&*self.files, &self.checkpoint_path(), head.note.as_bytes())?;
        for (kind, index, _) in grown.iter().filter(|(_, _, width)| *width == WIDTH) {
            self.remove_partials(&kind.partials(&self.dir, *index));
        }
        Ok(())
    }

    /// Makes a directory of tiles and those above it. All of them are to be flushed, also those
    /// that are there already: whoever made them may have been cut off before that.
    fn make_dirs(&self, dir: &Path, made: &mut BTreeSet<PathBuf>) -> Result<()> {
        if !made.insert(dir.to_owned()) || dir == self.dir {
            return Ok(());
        }
        self.make_dirs(files::parent(dir)?, made)?;
        if dir.is_dir() {
            return Ok(());
        }
        match self.files.create_dir(dir) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                Err(files::failed(dir, error))
            }
            _ => Ok(()),
        }
    }

    /// Removes what a publication that was cut off left of a tile beyond the `size` entries that
    /// are published. Else the log would one day grow over it, and it would seem to be part of it.
    fn sweep(&self, kind: Kind, index: u64, size: u64) -> Result<()> {
        let dir = kind.partials(&self.dir, index);
        let valid = kind.width(index, size);
        let mut swept = false;
        for path in files::list(&dir)? {
            let width = path.file_name().and_then(|name| name.to_str()?.parse::<u64>().ok());
            if width.is_some_and(|width| width > valid) {
                self.files.remove(&path).map_err(|error| files::failed(&path, error))?;
                swept = true;
            }
        }
        if swept {
            self.files.sync_dir(&dir).map_err(|error| files::failed(&dir, error))?;
        }
        Ok(())
    }

    /// Removes the partial forms of a tile that is full now, as the format allows. Failing to is
    /// no fault.
    fn remove_partials(&self, dir: &Path) {
        for path in files::list(dir).unwrap_or_default() {
            if let Err(error) = self.files.remove(&path) {
                tracing::debug!(path = %path.display(), %error, "partial tile not removed");
            }
        }
        let _ = std::fs::remove_dir(dir);
    }
}
