//! What a process knows of a log, and how it learns of what others did.

use std::fs::File;
use std::io;
use std::path::PathBuf;

use kaizen_core::{Bytes, Checkpoint, Context, Error, ErrorKind, Result};

use super::journal::{self, Before, Found, Frame, Opened};
use super::{Inner, lock};
use crate::files;
use crate::tail::{Additions, Tail, edge};
use crate::tiles::{self, Kind, WIDTH};

/// The log as this process last saw it.
#[derive(Debug)]
pub(super) struct State {
    /// The published checkpoint.
    pub(super) published: Checkpoint,
    /// The checkpoint that covers every entry, those in the journal too.
    pub(super) head: Checkpoint,
    pub(super) tail: Tail,
    /// Where the next frame of the journal goes.
    pub(super) next_frame: u64,
}

impl State {
    pub(super) fn before(&self) -> Before {
        Before { size: self.tail.size(), root: self.tail.root() }
    }

    /// Everything up to this checkpoint is in tiles now, and the journal is empty.
    pub(super) fn was_published(&mut self, head: Checkpoint) {
        self.tail.publish(head.size);
        (self.published, self.next_frame) = (head, 0);
    }
}

/// What a process holds of a log, behind one lock.
#[derive(Debug, Default)]
pub(super) struct Shared {
    pub(super) state: Option<State>,
    /// A commit of this process is under way. Nobody here looks at the files meanwhile: what they
    /// hold may not be on disk yet.
    pub(super) writing: bool,
    /// A commit of this process failed, and what it wrote to the journal may be there for this
    /// machine without being on disk. It is written anew before anybody looks at it.
    pub(super) doubt: bool,
}

/// How often a log may be published anew while it is being looked at.
const TRIES: u32 = 100;

impl Inner {
    /// Brings what is known up to date, and gives it to `look`.
    pub(super) fn look<T>(&self, look: impl FnOnce(&State) -> Result<T>) -> Result<T> {
        if lock(&self.shared).doubt {
            let held = self.lock_files()?;
            self.settle(&held)?;
        }
        let mut shared = lock(&self.shared);
        if !(shared.writing && shared.state.is_some()) {
            self.refresh(&mut shared.state)?;
        }
        look(shared.state.as_ref().context(ErrorKind::Internal, "log: it was not read")?)
    }

    /// Reads the published checkpoint if it is another one, and the frames that came since.
    pub(super) fn refresh(&self, state: &mut Option<State>) -> Result<()> {
        for _ in 0..TRIES {
            let note = self.published_note()?;
            let note =
                note.context(ErrorKind::Corrupt, format!("{}: it is missing", self.shown()))?;
            let known = state.take().filter(|known| known.published.note == note);
            let mut known = match known {
                Some(known) => known,
                None => self.load(note)?,
            };
            self.read_journal(&mut known)?;
            let same = self.published_note()?.is_some_and(|now| now == known.published.note);
            *state = Some(known);
            if same {
                return Ok(());
            }
        }
        let message = format!("{}: it changes all the time", self.shown());
        Err(Error::new(ErrorKind::Unavailable, message))
    }

    pub(super) fn checkpoint_path(&self) -> PathBuf {
        self.dir.join("checkpoint")
    }

    pub(super) fn journal_path(&self) -> PathBuf {
        self.dir.join("journal")
    }

    pub(super) fn shown(&self) -> String {
        self.checkpoint_path().display().to_string()
    }

    /// The note that is published, as it stands there.
    pub(super) fn published_note(&self) -> Result<Option<String>> {
        let Some(bytes) = files::read(&self.checkpoint_path())? else { return Ok(None) };
        String::from_utf8(bytes).map(Some).context(ErrorKind::Corrupt, self.shown())
    }

    /// The published log, whose right edge must have the root that was signed.
    fn load(&self, note: String) -> Result<State> {
        // Whoever put the checkpoint in place may have been killed before its name was on disk.
        // What follows may write over the journal that the checkpoint before it needs.
        self.files.sync_dir(&self.dir).map_err(|error| files::failed(&self.dir, error))?;
        let published = self.signing.open(&note, &self.shown())?;
        let size = published.size;
        let mut tiles = Vec::new();
        for (kind, index, width) in edge(size) {
            tiles.push(match width {
                0 => Vec::new(),
                _ => {
                    let (path, bytes) = kind.read(&self.dir, index, width)?;
                    tiles::hashes_of(&path, &bytes, width)?
                }
            });
        }
        let mut tail = Tail::new(size, tiles.clone(), Vec::new());
        if tail.root() != published.root {
            let dir = self.dir.join("tile");
            return Err(Error::corrupt(format!(
                "{}: the last tiles have not the root of the checkpoint",
                dir.display()
            )));
        }
        if !size.is_multiple_of(WIDTH) {
            let entries = self.bundle(size / WIDTH, size % WIDTH, &tiles[0])?;
            tail = Tail::new(size, tiles, entries);
        }
        Ok(State { head: published.clone(), published, tail, next_frame: 0 })
    }

    /// The entries of a bundle, whose hashes must be these.
    pub(super) fn bundle(
        &self,
        index: u64,
        width: u64,
        hashes: &[kaizen_core::Digest],
    ) -> Result<Vec<Bytes>> {
        let (path, bytes) = Kind::Entries.read(&self.dir, index, width)?;
        let bytes = Bytes::from(bytes);
        let entries = tiles::exact_entries(&path, &bytes, width)?;
        let altered = entries
            .iter()
            .zip(hashes)
            .position(|(entry, hash)| crate::merkle::leaf_hash(entry) != *hash);
        if let Some(at) = altered {
            let tile = Kind::Hashes(0).path(&self.dir, index, width);
            let (path, tile, number) = (path.display(), tile.display(), index * WIDTH + at as u64);
            let message = format!("{path}: entry {number} has not the hash that {tile} gives");
            return Err(Error::corrupt(message));
        }
        Ok(entries.into_iter().map(|entry| bytes.slice_ref(entry)).collect())
    }

    /// Adds what the journal has beyond what is known. What this process has not written itself
    /// is flushed before it is believed: whoever wrote it may have been killed before that.
    fn read_journal(&self, state: &mut State) -> Result<()> {
        let Some(journal) = self.open_journal()? else { return Ok(()) };
        let mut additions = state.tail.additions();
        let mut note = None;
        let path = self.journal_path();
        let end = journal::read_on(&journal, state.next_frame, state.before(), |frame| {
            take_in(&mut additions, &frame);
            note = Some(frame.note);
            Ok(Before { size: additions.peaks.size(), root: additions.peaks.root() })
        });
        let end = end.map_err(|error| {
            Error::new(error.kind(), path.display().to_string()).with_source(error)
        })?;
        let Some(note) = note else { return Ok(()) };
        journal.flush().map_err(|error| files::failed(&path, error))?;
        let head = self.signing.open(&note, &path.display().to_string())?;
        if (head.size, head.root) != (additions.peaks.size(), additions.peaks.root()) {
            let message = format!("{}: its entries have not the root signed", path.display());
            return Err(Error::corrupt(message));
        }
        state.tail.add(additions);
        (state.head, state.next_frame) = (head, end);
        Ok(())
    }

    pub(super) fn open_journal(&self) -> Result<Option<Opened>> {
        let path = self.journal_path();
        match File::open(&path).and_then(Opened::new) {
            Ok(journal) => Ok(Some(journal)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(files::failed(&path, error)),
        }
    }

    /// Whether what lies after the last commit in the journal was begun and never finished.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Corrupt`] if it is more than that: a commit that was acknowledged is damaged.
    pub(super) fn is_torn(&self, state: &State) -> Result<bool> {
        let Some(journal) = self.open_journal()? else { return Ok(false) };
        let path = self.journal_path();
        let found = journal::after_the_last(&journal, state.next_frame, state.before());
        match found.map_err(|error| files::failed(&path, error))? {
            Found::Damaged => Err(damaged(&path, state.next_frame)),
            found => Ok(matches!(found, Found::Torn)),
        }
    }
}

/// The error of a journal whose commits are not what they were.
pub(super) fn damaged(path: &std::path::Path, offset: u64) -> Error {
    Error::corrupt(format!("{}: the commit at byte {offset} is damaged", path.display()))
}

/// Adds the entries of a frame.
pub(super) fn take_in(additions: &mut Additions, frame: &Frame) {
    for entry in &frame.entries {
        additions.push(entry.clone());
    }
}
