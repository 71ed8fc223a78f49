//! What a process knows of a log in an object store.

use std::sync::Mutex;

use kaizen_core::{Bytes, Checkpoint, Context, Error, ErrorKind, Result};
use object_store::UpdateVersion;

use super::Inner;
use crate::head::Head;
use crate::local_log::journal::{self, Found, Frame, MAX_BYTES};
use crate::merkle::leaf_hash;
use crate::note;
use crate::objects::{Newer, Read};
use crate::tail::{Tail, edge};
use crate::tiles::{self, Kind, WIDTH};

pub(super) const CHECKPOINT: &str = "checkpoint";
pub(super) const JOURNAL: &str = "journal";

const MAGIC: [u8; 8] = *b"KZLOGOBJ";
const VERSION: u32 = 1;
/// Names one attempt to commit: the writer, and the number of its attempt.
pub(super) type Attempt = [u8; 24];
/// Of so many writers the journal names the last attempt: of those that committed last.
pub(super) const ATTEMPTS: usize = 64;
/// At most this many bytes in the journal.
pub(super) const MAX_JOURNAL: usize = MAX_BYTES as usize + (1 << 20);
/// How often somebody else may be faster.
pub(super) const TRIES: u32 = 100;

/// The writer of an attempt.
pub(super) fn writer_of(attempt: &Attempt) -> &[u8] {
    &attempt[..16]
}

/// What the object `journal` holds: the commits that are not published, and the head after them.
#[derive(Debug)]
pub(super) struct Journal {
    pub(super) before: Head,
    attempts: Vec<Attempt>,
    pub(super) frame: Frame,
}

impl Journal {
    pub(super) fn parse(bytes: &Bytes) -> Option<Self> {
        let (head, rest) = bytes.split_first_chunk::<16>()?;
        let number = |at: usize| head[at..].first_chunk().map(|four| u32::from_le_bytes(*four));
        if head[..8] != MAGIC || number(8)? != VERSION {
            return None;
        }
        let count = number(12)? as usize;
        let (attempts, frame) = rest.split_at_checked(count.checked_mul(size_of::<Attempt>())?)?;
        let (attempts, _) = attempts.as_chunks();
        let before = journal::continues(frame)?;
        match journal::next(&bytes.slice_ref(frame), 0, before).ok()? {
            Found::Frame(frame) => Some(Self { before, attempts: attempts.to_vec(), frame }),
            _ => None,
        }
    }
}

/// The log as this process last saw it.
#[derive(Clone, Debug)]
pub(super) struct State {
    /// A published checkpoint, not always the latest, which the journal reaches back to.
    pub(super) published: Checkpoint,
    /// The log as it was then.
    base: Tail,
    /// The log with what the journal holds.
    pub(super) tail: Tail,
    pub(super) head: Checkpoint,
    pub(super) attempts: Vec<Attempt>,
    /// Of the journal.
    pub(super) version: UpdateVersion,
}

impl State {
    /// A published log without a journal.
    pub(super) fn new(published: Checkpoint, base: Tail) -> Self {
        let version = UpdateVersion { e_tag: None, version: None };
        let (head, tail) = (published.clone(), base.clone());
        Self { published, base, tail, head, attempts: Vec::new(), version }
    }

    /// The entries that are not published.
    pub(super) fn recent(&self) -> Vec<Bytes> {
        let recent = self.published.size..self.tail.size();
        recent.filter_map(|index| self.tail.entry(index).cloned()).collect()
    }

    /// The journal's object: entries since what is published, with the note after them.
    pub(super) fn journal(
        &self,
        entries: &[Bytes],
        note: &str,
        attempt: Option<Attempt>,
    ) -> Result<(Vec<u8>, Vec<Attempt>)> {
        let mut attempts = self.attempts.clone();
        if let Some(attempt) = attempt {
            attempts.retain(|known| writer_of(known) != writer_of(&attempt));
            attempts.push(attempt);
        }
        attempts.drain(..attempts.len().saturating_sub(ATTEMPTS));
        let before = Head { size: self.base.size(), root: self.base.root() };
        let frame = journal::encode(before, entries, note)
            .context(ErrorKind::Limit, "log: too much at once for an object store")?;
        let mut bytes = MAGIC.to_vec();
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend((attempts.len() as u32).to_le_bytes());
        bytes.extend(attempts.concat());
        bytes.extend(frame);
        Ok((bytes, attempts))
    }

    /// What is known if everything up to this checkpoint, which is in the journal, is published.
    pub(super) fn rebased(&self, published: Checkpoint) -> Self {
        let mut base = self.base.clone();
        let mut additions = base.additions();
        for index in base.size()..published.size {
            if let Some(entry) = self.tail.entry(index) {
                additions.push(entry.clone());
            }
        }
        base.add(additions);
        base.publish(published.size);
        let mut tail = self.tail.clone();
        tail.publish(published.size);
        let (head, attempts) = (self.head.clone(), self.attempts.clone());
        Self { published, base, tail, head, attempts, version: self.version.clone() }
    }
}

impl Inner {
    /// Brings what is known up to date.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Corrupt`] if the log is shorter than it was, or another: whoever put an older
    /// one in its place must not have this process sign on top of it.
    pub(super) async fn refresh(&self, known: &mut Option<State>) -> Result<()> {
        let mut anew = false;
        for _ in 0..TRIES {
            let had = known.as_ref().filter(|_| !anew);
            let version = had.map(|known| &known.version);
            let read = match self.folder.get_if_new(JOURNAL, MAX_JOURNAL, version).await? {
                Newer::Same => return Ok(()),
                Newer::Read(read) => read,
                Newer::Missing => return Err(self.missing(JOURNAL)),
            };
            if let Some(state) = self.take_in(had, read).await? {
                if let Some(had) = known {
                    self.check_that_it_grew(had, &state).await?;
                }
                *known = Some(state);
                return Ok(());
            }
            // Published and trimmed between the two readings: both are read again.
            anew = true;
        }
        Err(self.busy(JOURNAL))
    }

    async fn check_that_it_grew(&self, had: &State, found: &State) -> Result<()> {
        let seen = Head::from(&had.head);
        let place = self.folder.place(JOURNAL);
        let range = seen.within(found.head.size, &place)?;
        if range.is_empty() {
            return Ok(());
        }
        // From what is there now: the tiles that are kept in memory are those of the head before.
        let found = self.hashes(&found.tail, &Mutex::default(), &[range]).await?;
        found.iter().try_for_each(|root| seen.agrees(root, &place))
    }

    /// The log that this journal goes on from; `None` if it does not go on from what is published.
    async fn take_in(&self, known: Option<&State>, read: Read) -> Result<Option<State>> {
        let shown = self.folder.place(JOURNAL);
        let journal = Journal::parse(&read.bytes);
        let Journal { before, attempts, frame } = journal.context(ErrorKind::Corrupt, &shown)?;
        let reach = before.size..=before.size + frame.entries.len() as u64;
        let (published, base) = match known.filter(|state| reach.contains(&state.published.size)) {
            Some(state) => (state.published.clone(), state.base.clone()),
            None => self.load().await?,
        };
        if !reach.contains(&published.size) {
            return Ok(None);
        }
        let head = self.signing.open(&frame.note, &shown)?;
        let mut tail = base.clone();
        let mut additions = tail.additions();
        for entry in &frame.entries[(published.size - before.size) as usize..] {
            additions.push(entry.clone());
        }
        tail.add(additions);
        if (tail.size(), tail.root()) != (head.size, head.root) {
            let message = format!("{shown}: its entries have not the root signed");
            return Err(Error::corrupt(message));
        }
        Ok(Some(State { published, base, tail, head, attempts, version: read.version }))
    }

    /// The published log.
    pub(super) async fn load(&self) -> Result<(Checkpoint, Tail)> {
        let read = self.folder.get(CHECKPOINT, note::MAX_BYTES).await?;
        let read = read.ok_or_else(|| self.missing(CHECKPOINT))?;
        let published = self.checkpoint_of(&read)?;
        let size = published.size;
        let mut rows = Vec::new();
        for (kind, index, width) in edge(size) {
            rows.push(match width {
                0 => Vec::new(),
                _ => {
                    let (shown, bytes) = self.folder.tile(kind, index, width).await?;
                    tiles::hashes_of(shown.as_ref(), &bytes, width)?
                }
            });
        }
        let mut tail = Tail::new(size, rows.clone(), Vec::new());
        if tail.root() != published.root {
            let shown = self.folder.place("tile");
            let message = format!("{shown}: the last tiles have not the root of the checkpoint");
            return Err(Error::corrupt(message));
        }
        if !size.is_multiple_of(WIDTH) {
            let entries = self.bundle(size / WIDTH, size % WIDTH, &rows[0]).await?;
            tail = Tail::new(size, rows, entries);
        }
        Ok((published, tail))
    }

    pub(super) fn checkpoint_of(&self, read: &Read) -> Result<Checkpoint> {
        let shown = self.folder.place(CHECKPOINT);
        let note = std::str::from_utf8(&read.bytes).context(ErrorKind::Corrupt, &shown)?;
        self.signing.open(note, &shown)
    }

    /// The entries of a bundle, whose hashes must be these.
    pub(super) async fn bundle(
        &self,
        index: u64,
        width: u64,
        hashes: &[kaizen_core::Digest],
    ) -> Result<Vec<Bytes>> {
        let (shown, bytes) = self.folder.tile(Kind::Entries, index, width).await?;
        let entries = tiles::exact_entries(shown.as_ref(), &bytes, width)?;
        let altered =
            entries.iter().zip(hashes).position(|(entry, hash)| leaf_hash(entry) != *hash);
        if let Some(at) = altered {
            let number = index * WIDTH + at as u64;
            let message = format!("{shown}: entry {number} has not the hash that its tile gives");
            return Err(Error::corrupt(message));
        }
        Ok(entries.into_iter().map(|entry| bytes.slice_ref(entry)).collect())
    }

    pub(super) fn missing(&self, name: &str) -> Error {
        Error::corrupt(format!("{}: it is missing", self.folder.place(name)))
    }
}
