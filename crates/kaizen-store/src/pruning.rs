//! What is left of a log that was pruned: its entries from the minimum index on, as C2SP
//! tlog-tiles has it, and all hashes.
//!
//! An entry of the log says what goes, so it is signed. The file `pruned` says which entry that
//! is; whoever believes it looks at the entry.

use kaizen_core::record::Occurrence;
use kaizen_core::{Context, Digest, Entry, Error, ErrorKind, Event, Result};

use crate::tiles::WIDTH;

/// The name of the file.
pub(crate) const MARK: &str = "pruned";
/// At most this many bytes in it.
pub(crate) const MARK_BYTES: usize = 32;

/// Where a log says that it was pruned, and of what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pruning {
    /// The entry that says so.
    pub(crate) index: u64,
    /// The first entry that stays.
    pub(crate) first: u64,
    /// The root over those that went, as the entry gives it; `None` if nothing went.
    pub(crate) root: Option<Digest>,
}

impl Pruning {
    /// How many bundles at the beginning hold nothing that stays.
    pub(crate) fn bundles(&self) -> u64 {
        self.first / WIDTH
    }

    /// Refuses to read what went. `log` names it.
    pub(crate) fn check(&self, indices: &std::ops::Range<u64>, log: &str) -> Result<()> {
        if indices.start >= self.first || indices.is_empty() {
            return Ok(());
        }
        let first = self.first;
        Err(Error::not_found(format!("{log}: entries {indices:?}: it was pruned below {first}")))
    }
}

/// The entry that says that a log is pruned below `first`; `root` is that over what goes.
pub(crate) fn entry(first: u64, root: Digest, occurrence: &Occurrence) -> Entry {
    let Occurrence { at, actor, operation } = occurrence.clone();
    let event = Event::Pruned { first };
    Entry { at, actor, operation, event, subject: root, evidence: Vec::new() }
}

/// What the mark of a log says: which entry tells what went.
#[derive(Debug)]
pub(crate) struct Mark {
    pub(crate) index: u64,
    /// How the mark is called in messages.
    place: String,
}

impl Mark {
    /// The bytes of the mark that points to an entry.
    pub(crate) fn bytes(index: u64) -> Vec<u8> {
        format!("{index}\n").into_bytes()
    }

    pub(crate) fn parse(bytes: &[u8], place: String) -> Result<Self> {
        let text = std::str::from_utf8(bytes).ok().and_then(|text| text.strip_suffix('\n'));
        let index = text.and_then(|text| text.parse().ok());
        let index = index.filter(|index| Self::bytes(*index) == bytes);
        let none = format!("{place}: not the number of an entry");
        let index = index.context(ErrorKind::Corrupt, none)?;
        Ok(Self { index, place })
    }

    /// Refuses a mark that points beyond the `size` entries that there are.
    pub(crate) fn check(&self, size: u64) -> Result<()> {
        let Self { index, place } = self;
        if *index < size {
            return Ok(());
        }
        Err(Error::corrupt(format!("{place}: entry {index} of {size}")))
    }

    /// What the entry says that the mark points to.
    pub(crate) fn pruning(self, entry: &[u8]) -> Result<Pruning> {
        let Self { index, place } = self;
        let entry: Entry = serde_json::from_slice(entry)
            .context(ErrorKind::Corrupt, format!("{place}: entry {index}"))?;
        match entry.event {
            Event::Pruned { first } if first <= index => {
                Ok(Pruning { index, first, root: Some(entry.subject) })
            }
            _ => Err(Error::corrupt(format!("{place}: entry {index} prunes nothing"))),
        }
    }
}
