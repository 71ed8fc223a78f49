//! How a log is published: from the journal into tiles, under a new checkpoint.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kaizen_core::{Checkpoint, Result};

use super::journal::{self, PAGE};
use super::lock_file::Held;
use super::state::{Stamp, State};
use super::{Inner, lock};
use crate::files::{self, blocking};
use crate::merkle::root;
use crate::note;
use crate::tail::{Additions, Staged, Tail, unread};
use crate::tiles::{Kind, WIDTH};

impl Inner {
    /// Makes an empty log if there is none, checks that the end of the log fits together, and
    /// publishes what is in the journal.
    pub(super) async fn start(self: Arc<Self>) -> Result<()> {
        // A log that is there needs no signature to be read.
        let empty = match Stamp::of(&self.checkpoint_path())? {
            Some(_) => None,
            None => Some(self.signing.seal(0, &root(&[])).await?),
        };
        let starting = Arc::clone(&self);
        let unsigned = blocking(move || {
            files::create_dirs(&*starting.files, &starting.dir)?;
            let held = starting.hold()?;
            starting.make(empty.as_deref(), &held)?;
            starting.settle(&held)?;
            starting.remove_drafts()?;
            starting.signing.unsigned(&starting.published_note()?)
        })
        .await?;
        // A log that another key signed is signed by this one from now on. What witnesses said of
        // it stays.
        let Some(text) = unsigned else { return Ok(()) };
        let note = self.signing.sign(&text).await?;
        blocking(move || {
            let held = self.hold()?;
            self.settle(&held)?;
            let published = self.published_note()?;
            match self.signing.unsigned(&published)? {
                Some(now) if now == text => self.replace_note(note::join(note, &published), &held),
                _ => Ok(()),
            }
        })
        .await
    }

    /// Removes what writers that were killed had begun. Whoever holds the lock has begun nothing;
    /// but a store in the same directory may have.
    fn remove_drafts(&self) -> Result<()> {
        if self.dir.join("oci-layout").exists() {
            return Ok(());
        }
        let files = files::list(&self.dir)?.into_iter();
        for draft in files.filter(|path| files::is_draft(path)) {
            // It harms nobody if it stays.
            let _ = self.files.remove(&draft);
        }
        Ok(())
    }

    fn make(&self, empty: Option<&str>, held: &Held<'_>) -> Result<()> {
        let (Some(empty), None) = (empty, Stamp::of(&self.checkpoint_path())?) else {
            return Ok(());
        };
        // Every log begins with a checkpoint, so one that has entries has lost it.
        let lost = !files::list(&self.dir.join("tile"))?.is_empty()
            || self.open_journal()?.is_some()
            || held.record()?.is_some_and(|record| record.committed.head.size > 0);
        if lost {
            return Err(self.no_checkpoint());
        }
        let above = files::parent(&self.dir)?;
        self.files.sync_dir(above).map_err(|error| files::failed(above, error))?;
        files::publish(&*self.files, &self.checkpoint_path(), empty.as_bytes())
    }

    /// Reads the log anew and publishes what the journal holds, so that all of it is known to be
    /// on disk: at the start, and after a writer was cut off, who may have left what is not.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Corrupt`](kaizen_core::ErrorKind::Corrupt) if it does not hold what was
    /// committed: by what this process has seen, and by what the last one who wrote says.
    pub(super) fn settle(&self, held: &Held<'_>) -> Result<()> {
        // Whoever put the checkpoint in place may have been killed before its name was on disk.
        // What follows may write over the journal that the checkpoint before it needs.
        self.files.sync_dir(&self.dir).map_err(|error| files::failed(&self.dir, error))?;
        let mut known = lock(&self.state);
        let stamp = self.stamp()?;
        let published = self.signing.open(&self.published_note()?, &self.shown())?;
        let mut state = self.load(published, stamp)?;
        let base = state.committed();
        if let Some((additions, head, end)) = self.read_journal(&state, u64::MAX)? {
            state.go_on(additions, head, end);
        }
        let torn = self.is_torn(&state)?;
        let record = held.record()?;
        let expected = record.is_some_and(|record| record.is_cut_off_at(&state.committed()));
        let committed = record.map(|record| record.committed);
        for before in committed.iter().chain(&known.as_ref().map(State::committed)) {
            self.holds(&state, before)?;
        }
        held.begin_to_settle(record, base)?;
        if torn {
            self.clear_torn(state.next_frame, expected)?;
        }
        if state.tail.size() > state.published.size {
            let staged = state.tail.unpublished()?;
            let full = self.write_tiles(staged, state.published.size, held)?;
            let stamp = self.replace_checkpoint(&state.head.note, full)?;
            state.was_published(state.head.clone(), stamp);
        }
        held.still_alone()?;
        held.finish(state.committed())?;
        *known = Some(state);
        Ok(())
    }

    /// Clears the way for the next commit. Unless somebody was `expected` to have been cut off, it
    /// may be one that was finished, and damaged since: so it is kept beside the journal.
    fn clear_torn(&self, offset: u64, expected: bool) -> Result<()> {
        let Some(journal) = self.open_journal()? else { return Ok(()) };
        let path = self.journal.path();
        if !expected {
            let torn = journal::as_it_is(&*journal, offset);
            let torn = torn.map_err(|error| files::failed(path, error))?;
            files::publish(&*self.files, &self.dir.join("journal.torn"), &torn)?;
        }
        tracing::warn!(
            path = %path.display(), offset,
            "the journal ends in a commit that was never finished, and is passed over"
        );
        let cleared = self.files.overwrite(&journal.file, path, offset, &[0; PAGE as usize]);
        cleared.map_err(|error| files::failed(path, error))
    }

    /// Publishes everything that is known, if it is not published.
    pub(super) fn fold(&self, held: &Held<'_>) -> Result<()> {
        let (staged, head, published) = {
            let known = lock(&self.state);
            let state = known.as_ref().ok_or_else(unread)?;
            if state.tail.size() == state.published.size {
                return Ok(());
            }
            (state.tail.unpublished()?, state.head.clone(), state.published.size)
        };
        let full = self.write_tiles(staged, published, held)?;
        self.begin(held)?;
        let stamp = self.replace_checkpoint(&head.note, full)?;
        self.finish(held, |state| state.was_published(head, stamp))
    }

    /// Publishes additions that are too long for the journal. What was before is published.
    pub(super) fn publish_at_once(
        &self,
        additions: Additions,
        head: Checkpoint,
        held: &Held<'_>,
    ) -> Result<()> {
        let mut tail: Tail = lock(&self.state).as_ref().ok_or_else(unread)?.tail.clone();
        tail.add(additions);
        let full = self.write_tiles(tail.unpublished()?, tail.published(), held)?;
        self.begin(held)?;
        let stamp = self.replace_checkpoint(&head.note, full)?;
        self.finish(held, |state| {
            (state.tail, state.head) = (tail, head.clone());
            state.was_published(head, stamp);
        })
    }

    /// Puts other signatures on the published checkpoint.
    pub(super) fn replace_note(&self, note: String, held: &Held<'_>) -> Result<()> {
        let published = self.signing.open(&note, &self.shown())?;
        self.begin(held)?;
        let stamp = self.replace_checkpoint(&note, Vec::new())?;
        self.finish(held, |state| state.is_signed(published, stamp))
    }

    /// Entries and tiles: all that a checkpoint needs, before it is replaced. Nobody looks at them
    /// until then. Gives the folders of the partial forms of those that are full now.
    ///
    /// Whoever has lost the lock, perhaps while a signer was waited for, must not come this far:
    /// another may have published tiles of the same names.
    fn write_tiles(
        &self,
        staged: Vec<Staged>,
        published: u64,
        held: &Held<'_>,
    ) -> Result<Vec<PathBuf>> {
        held.still_alone()?;
        let mut written = Vec::with_capacity(staged.len());
        let (mut dirs, mut full) = (BTreeSet::new(), Vec::new());
        for (kind, index, width, bytes) in staged {
            self.sweep(kind, index, published)?;
            let path = kind.path(&self.dir, index, width);
            self.make_dirs(files::parent(&path)?, &mut dirs)?;
            if width == WIDTH {
                full.push(kind.partials(&self.dir, index));
            }
            written.push((path, bytes));
        }
        self.files.write_each(&written)?;
        for dir in &dirs {
            self.files.sync_dir(dir).map_err(|error| files::failed(dir, error))?;
        }
        Ok(full)
    }

    /// The checkpoint last, in one step. What only the one before it needs goes then.
    fn replace_checkpoint(&self, note: &str, full: Vec<PathBuf>) -> Result<Stamp> {
        files::publish(&*self.files, &self.checkpoint_path(), note.as_bytes())?;
        full.iter().for_each(|dir| self.remove_partials(dir));
        self.stamp()
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
