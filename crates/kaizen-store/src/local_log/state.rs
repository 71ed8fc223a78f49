//! What a process knows of a log, and how it learns of what others did.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use kaizen_core::{Bytes, Checkpoint, Context, Digest, Error, ErrorKind, Result};

use super::identity::Identity;
use super::journal::{self, Found, Frame};
use super::journal_file::Opened;
use super::lock_file::{Committed, Held, Record};
use super::{Inner, lock};
use crate::files;
use crate::hashes::TileCache;
use crate::head::Head;
use crate::merkle::leaf_hash;
use crate::note;
use crate::tail::{Additions, Tail, edge, unread};
use crate::tiles::{self, Kind, WIDTH};

/// The log as this process last saw it. All of it was committed.
#[derive(Debug)]
pub(super) struct State {
    /// The published checkpoint.
    pub(super) published: Checkpoint,
    /// Of the file that it was read from, or written to.
    stamp: Stamp,
    /// The checkpoint that covers every entry, those in the journal too.
    pub(super) head: Checkpoint,
    pub(super) tail: Tail,
    /// Where the next frame of the journal goes.
    pub(super) next_frame: u64,
}

impl State {
    /// What the next commit continues.
    pub(super) fn before(&self) -> Head {
        Head::from(&self.head)
    }

    pub(super) fn committed(&self) -> Committed {
        Committed { head: self.before(), published: self.published.size, end: self.next_frame }
    }

    /// The journal, up to this place, holds these too, under this head.
    pub(super) fn go_on(&mut self, additions: Additions, head: Checkpoint, next_frame: u64) {
        self.tail.add(additions);
        (self.head, self.next_frame) = (head, next_frame);
    }

    /// Everything up to this checkpoint is in tiles now, and the journal is empty.
    pub(super) fn was_published(&mut self, head: Checkpoint, stamp: Stamp) {
        self.tail.publish(head.size);
        self.next_frame = 0;
        self.is_signed(head, stamp);
    }

    /// The published checkpoint has these signatures now.
    pub(super) fn is_signed(&mut self, published: Checkpoint, stamp: Stamp) {
        if self.head.size == published.size {
            self.head = published.clone();
        }
        (self.published, self.stamp) = (published, stamp);
    }
}

/// Tells a file from the one that it was, without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    identity: Identity,
    changed: [(i64, i64); 2],
}

impl Stamp {
    /// That of the file of this name, if there is one.
    pub(super) fn of(path: &Path) -> Result<Option<Self>> {
        match fs::metadata(path) {
            Ok(now) => {
                let changed = [(now.mtime(), now.mtime_nsec()), (now.ctime(), now.ctime_nsec())];
                Ok(Some(Self { identity: now.into(), changed }))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(files::failed(path, error)),
        }
    }
}

/// How often whoever looks tries again that somebody came in between, before it waits for its turn.
const TRIES: u32 = 3;
/// How often, if it may not write, and so has no turn; and how long it waits in between.
const TRIES_OF_A_READER: u32 = 100;
const PAUSE_OF_A_READER: Duration = Duration::from_millis(2);

impl Inner {
    /// Brings what is known up to date, and gives it to `look`.
    ///
    /// What is seen was committed: it is not seen while it may not be on disk yet, and what a
    /// writer that was cut off has left is brought to an end first, by whoever may write.
    pub(super) fn look<T>(&self, look: impl FnOnce(&State) -> Result<T>) -> Result<T> {
        if self.signing.may_write().is_err() {
            return self.look_without_key(look);
        }
        for _ in 0..TRIES {
            let mut known = lock(&self.state);
            // Read while no thread of this process moves on, so that it is not behind.
            let record = self.lock_file.read()?.filter(Record::is_exact);
            let Some(record) = record else { break };
            match self.follow(&mut known, &record.committed) {
                Ok(()) => {
                    // If somebody has the lock, what is being written is not committed yet.
                    let cut_off = record.unfinished.then(|| self.lock_file.hold_at_once());
                    let Some(held) = cut_off.transpose()?.flatten() else {
                        return look(known.as_ref().ok_or_else(unread)?);
                    };
                    drop(known);
                    self.catch_up(&held)?;
                }
                // It is damaged, or somebody moved on meanwhile.
                Err(error) if error.kind() == ErrorKind::Corrupt => {}
                Err(error) => return Err(error),
            }
        }
        // Now nobody moves on.
        let held = self.hold()?;
        self.catch_up(&held)?;
        look(lock(&self.state).as_ref().ok_or_else(unread)?)
    }

    /// The same for one who may not write, and so brings nothing to an end.
    fn look_without_key<T>(&self, look: impl FnOnce(&State) -> Result<T>) -> Result<T> {
        let mut tries = 0;
        loop {
            let mut known = lock(&self.state);
            let record = self.lock_file.read()?;
            tries += 1;
            let last = tries == TRIES_OF_A_READER;
            let followed = match &record {
                Some(record) if record.is_exact() && !self.is_abandoned(record, last)? => {
                    self.follow(&mut known, &record.committed)
                }
                _ => self.follow_files(&mut known, record.as_ref()),
            };
            let again = [ErrorKind::Corrupt, ErrorKind::Unavailable];
            match followed {
                Ok(()) => return look(known.as_ref().ok_or_else(unread)?),
                Err(error) if again.contains(&error.kind()) && !last => {}
                Err(error) => return Err(error),
            }
            drop(known);
            std::thread::sleep(PAUSE_OF_A_READER);
        }
    }

    /// Whether whoever wrote this record was cut off when it replaced the checkpoint, and may never
    /// come back. The `last` who has waited for it finds that, for all who come after.
    fn is_abandoned(&self, record: &Record, last: bool) -> Result<bool> {
        if !record.unfinished {
            return Ok(false);
        }
        let now = (*record, self.stamp()?);
        let mut abandoned = lock(&self.abandoned);
        if last {
            *abandoned = Some(now);
        }
        Ok(*abandoned == Some(now))
    }

    /// Goes on to what the files hold, where nobody says exactly what is committed: in a copy, or
    /// after a power cut. For one who may not write, and cannot have it said. It must be at least
    /// what the record says, if there is one.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unavailable`] if somebody moved on meanwhile.
    fn follow_files(&self, known: &mut Option<State>, record: Option<&Record>) -> Result<()> {
        let stamp = self.stamp()?;
        let same = |state: &State| state.stamp == stamp;
        let (mut read, mut added) = (None, None);
        if let Some(state) = known.as_ref().filter(|state| same(state)) {
            added = self.read_journal(state, u64::MAX)?;
        } else {
            let published = self.signing.open(&self.published_note()?, &self.shown())?;
            let mut state = self.load(published, stamp)?;
            if let Some((additions, head, end)) = self.read_journal(&state, u64::MAX)? {
                state.go_on(additions, head, end);
            }
            if let Some(known) = known.as_ref() {
                self.holds(&state, &known.committed())?;
            }
            read = Some(state);
        }
        // A writer that has begun meanwhile says so before it writes: what was found is then
        // perhaps not flushed.
        if self.stamp()? != stamp || self.lock_file.read()?.as_ref() != record {
            let message = format!("{}: it changes all the time", self.shown());
            return Err(Error::new(ErrorKind::Unavailable, message));
        }
        // A commit that is damaged would hide those after it, which nobody else tells of.
        let state = match read {
            Some(state) => {
                self.is_torn(&state)?;
                known.insert(state)
            }
            None => {
                let state = known.as_mut().ok_or_else(unread)?;
                if let Some((additions, head, end)) = added {
                    state.go_on(additions, head, end);
                }
                self.is_torn(state)?;
                state
            }
        };
        record.map_or(Ok(()), |record| self.holds(state, &record.committed))
    }

    /// Brings what is known up to date, while nobody else writes.
    ///
    /// Where the files do not end as the record says, it is behind them, or they are damaged. To
    /// settle tells which; nothing is written over before.
    pub(super) fn catch_up(&self, held: &Held<'_>) -> Result<()> {
        let record = held.record()?.filter(|record| record.is_exact() && !record.unfinished);
        let Some(record) = record else { return self.settle(held) };
        let ends = {
            let mut known = lock(&self.state);
            match self.follow(&mut known, &record.committed) {
                Ok(()) => self.ends_here(known.as_ref().ok_or_else(unread)?)?,
                Err(error) if error.kind() == ErrorKind::Corrupt => false,
                Err(error) => return Err(error),
            }
        };
        if ends { Ok(()) } else { self.settle(held) }
    }

    /// Whether nothing in the journal claims to go on from what is known.
    fn ends_here(&self, state: &State) -> Result<bool> {
        let Some(journal) = self.open_journal()? else { return Ok(true) };
        let claimed = journal::is_claimed(&*journal, state.next_frame, state.before());
        Ok(!claimed.map_err(|error| files::failed(self.journal.path(), error))?)
    }

    /// Goes on from what is known to what is committed. If that fails, what is known stays.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Corrupt`] if the files do not hold it: they are damaged, or were replaced by
    /// those of another time. Without the lock it may only mean that somebody moved on.
    fn follow(&self, known: &mut Option<State>, committed: &Committed) -> Result<()> {
        let stamp = self.stamp()?;
        let same =
            |state: &State| state.stamp == stamp && state.published.size == committed.published;
        if let Some(state) = known.as_mut().filter(|state| same(state)) {
            return self.read_on(state, committed);
        }
        let published = self.signing.open(&self.published_note()?, &self.shown())?;
        if published.size != committed.published {
            let (found, wanted) = (published.size, committed.published);
            let shown = self.shown();
            let message = format!("{shown}: it has {found} entries, and {wanted} were published");
            return Err(Error::corrupt(message));
        }
        if let Some(state) = known
            && (state.published.size, state.published.root) == (published.size, published.root)
        {
            state.is_signed(published, stamp);
            return self.read_on(state, committed);
        }
        let mut state = self.load(published, stamp)?;
        self.read_on(&mut state, committed)?;
        if let Some(known) = known {
            self.holds(&state, &known.committed())?;
        }
        *known = Some(state);
        Ok(())
    }

    /// Checks that a log that was read anew holds what was committed before.
    pub(super) fn holds(&self, state: &State, before: &Committed) -> Result<()> {
        let size = state.tail.size();
        let lost = size < before.head.size && state.published.size >= before.published;
        let place = if lost { self.journal.path() } else { &self.checkpoint_path() };
        let found = before.head.is_within(size, &place.display().to_string(), |height, index| {
            self.node(&state.tail, height, index)
        });
        if found.is_err() {
            // These are of a log that is not gone on with.
            *lock(&self.tiles) = TileCache::default();
        }
        found
    }

    /// That of the checkpoint.
    pub(super) fn stamp(&self) -> Result<Stamp> {
        Stamp::of(&self.checkpoint_path())?.ok_or_else(|| self.no_checkpoint())
    }

    pub(super) fn checkpoint_path(&self) -> PathBuf {
        self.dir.join("checkpoint")
    }

    pub(super) fn shown(&self) -> String {
        self.checkpoint_path().display().to_string()
    }

    pub(super) fn no_checkpoint(&self) -> Error {
        Error::corrupt(format!("{}: it is missing", self.shown()))
    }

    /// The note that is published, as it stands there.
    pub(super) fn published_note(&self) -> Result<String> {
        let bytes = files::read_whole(&self.checkpoint_path(), note::MAX_BYTES as u64)?;
        let bytes = bytes.ok_or_else(|| self.no_checkpoint())?;
        String::from_utf8(bytes).context(ErrorKind::Corrupt, self.shown())
    }

    /// The log that is published, whose right edge must have the root that was signed.
    pub(super) fn load(&self, published: Checkpoint, stamp: Stamp) -> Result<State> {
        let size = published.size;
        // It may be another log than that of which these are.
        *lock(&self.tiles) = TileCache::default();
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
        Ok(State { head: published.clone(), published, stamp, tail, next_frame: 0 })
    }

    /// The entries of a bundle, whose hashes must be these.
    pub(super) fn bundle(&self, index: u64, width: u64, hashes: &[Digest]) -> Result<Vec<Bytes>> {
        let (path, bytes) = Kind::Entries.read(&self.dir, index, width)?;
        let bytes = Bytes::from(bytes);
        let entries = tiles::exact_entries(&path, &bytes, width)?;
        let altered =
            entries.iter().zip(hashes).position(|(entry, hash)| leaf_hash(entry) != *hash);
        if let Some(at) = altered {
            let tile = Kind::Hashes(0).path(&self.dir, index, width);
            let (path, tile, number) = (path.display(), tile.display(), index * WIDTH + at as u64);
            let message = format!("{path}: entry {number} has not the hash that {tile} gives");
            return Err(Error::corrupt(message));
        }
        Ok(entries.into_iter().map(|entry| bytes.slice_ref(entry)).collect())
    }

    /// Adds what the journal has beyond what is known, and was committed.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Corrupt`] naming the journal, if that is not all there.
    fn read_on(&self, state: &mut State, committed: &Committed) -> Result<()> {
        if state.committed() == *committed {
            return Ok(());
        }
        let before = state.next_frame;
        let read = self.read_journal(state, committed.end)?;
        let Some((additions, head, end)) = read else {
            return Err(damaged(self.journal.path(), before));
        };
        let found = Head::from(&head);
        if end != committed.end || found != committed.head {
            return Err(damaged(self.journal.path(), end));
        }
        state.go_on(additions, head, end);
        Ok(())
    }

    /// What the journal has beyond what is known, in frames that begin before `until`: what they
    /// add, the last head, and where the last one ends. `None` if there is none.
    pub(super) fn read_journal(
        &self,
        state: &State,
        until: u64,
    ) -> Result<Option<(Additions, Checkpoint, u64)>> {
        let Some(journal) = self.open_journal()? else { return Ok(None) };
        let mut additions = state.tail.additions();
        let mut note = None;
        let path = self.journal.path().display();
        let part = state.next_frame..until;
        let end = journal::read_until(&*journal, part, state.before(), |frame| {
            take_in(&mut additions, &frame);
            note = Some(frame.note);
            Ok(additions.peaks.head())
        });
        let end =
            end.map_err(|error| Error::new(error.kind(), path.to_string()).with_source(error))?;
        let Some(note) = note else { return Ok(None) };
        let head = self.signing.open(&note, &path.to_string())?;
        if (head.size, head.root) != (additions.peaks.size(), additions.peaks.root()) {
            return Err(Error::corrupt(format!("{path}: its entries have not the root signed")));
        }
        Ok(Some((additions, head, end)))
    }

    pub(super) fn open_journal(&self) -> Result<Option<Arc<Opened>>> {
        self.journal.open(&*self.files)
    }

    /// Whether what lies after the last commit in the journal was begun and never finished.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Corrupt`] if it is more than that: a commit that was acknowledged is damaged.
    pub(super) fn is_torn(&self, state: &State) -> Result<bool> {
        let Some(journal) = self.open_journal()? else { return Ok(false) };
        let path = self.journal.path();
        let found = journal::after_the_last(&*journal, state.next_frame, state.before());
        match found.map_err(|error| files::failed(path, error))? {
            Found::Damaged => Err(damaged(path, state.next_frame)),
            found => Ok(matches!(found, Found::Torn)),
        }
    }
}

/// The error of a journal whose commits are not what they were.
fn damaged(path: &Path, offset: u64) -> Error {
    Error::corrupt(format!("{}: the commit at byte {offset} is damaged", path.display()))
}

/// Adds the entries of a frame.
fn take_in(additions: &mut Additions, frame: &Frame) {
    for entry in &frame.entries {
        additions.push(entry.clone());
    }
}
