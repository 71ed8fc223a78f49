//! Reading a whole log in an object store again, to believe nothing.

use std::path::PathBuf;

use kaizen_core::{Bytes, Context, Error, ErrorKind, Result};
use tokio::runtime::Handle;

use super::state::{CHECKPOINT, JOURNAL, Journal, MAX_JOURNAL, TRIES};
use crate::files::blocking;
use crate::log_keys::LogKeys;
use crate::note;
use crate::objects::Folder;
use crate::pruning::{MARK, MARK_BYTES};
use crate::tail::Tail;
use crate::tiles::Kind;
use crate::verify::{Reader, Source, Verified, of_this_log, outline, published, take_commit};

/// How many objects are read at the same time.
const AT_ONCE: usize = 16;
/// How often a log is read anew that was pruned while it was read.
const AGAIN: u32 = 3;

/// The small objects of a log as they were at one time.
struct Seen {
    note: Bytes,
    journal: Bytes,
    mark: Option<Bytes>,
}

impl Seen {
    async fn at_one_time(folder: &Folder) -> Result<Self> {
        let missing = |name: &str| {
            Error::new(ErrorKind::NotFound, format!("{}: there is none", folder.place(name)))
        };
        let note = || async {
            let read = folder.get(CHECKPOINT, note::MAX_BYTES).await?;
            read.map(|read| read.bytes).ok_or_else(|| missing(CHECKPOINT))
        };
        let mut now = note().await?;
        for _ in 0..TRIES {
            let journal = folder.get(JOURNAL, MAX_JOURNAL).await?;
            let mark = folder.get(MARK, MARK_BYTES).await?.map(|read| read.bytes);
            let again = note().await?;
            if again == now {
                let journal = journal.context(ErrorKind::Corrupt, folder.place(JOURNAL))?.bytes;
                return Ok(Self { note: now, journal, mark });
            }
            now = again;
        }
        let message = format!("{}: it changes all the time", folder.place(CHECKPOINT));
        Err(Error::new(ErrorKind::Unavailable, message))
    }
}

/// Checks the log in this folder.
pub(super) async fn log(folder: Folder, keys: LogKeys) -> Result<Verified> {
    let mut tries = 0;
    loop {
        let seen = Seen::at_one_time(&folder).await?;
        let objects = Objects { folder: folder.clone(), handle: Handle::current() };
        let keys = keys.clone();
        let (seen, found) = blocking(move || {
            // Reading waits for the network, so there are more threads than cores.
            let threads = rayon::ThreadPoolBuilder::new().num_threads(AT_ONCE).build();
            let threads = threads.context(ErrorKind::Unavailable, "threads")?;
            let found = threads.install(|| check(&objects, &seen, &keys));
            Ok((seen, found))
        })
        .await?;
        match found {
            // What is published stays as it is, unless it was pruned while it was read.
            Err(error) if error.kind() == ErrorKind::Corrupt && tries < AGAIN => {
                if Seen::at_one_time(&folder).await?.mark == seen.mark {
                    return Err(error);
                }
                tries += 1;
            }
            found => return found,
        }
    }
}

fn check(objects: &Objects, seen: &Seen, keys: &LogKeys) -> Result<Verified> {
    let source: &dyn Source = objects;
    let place = source.place(CHECKPOINT);
    let checkpoint = published(&place, &seen.note, keys)?;
    of_this_log(&place, &checkpoint, keys)?;
    let size = checkpoint.size;
    let pruning = source.pruning(seen.mark.as_deref(), size)?;
    let mut reader = Reader::new(source, pruning.first..size, pruning);
    let tree = reader.verify(&checkpoint, &outline, None)?;

    let place = source.place(JOURNAL);
    let journal = Journal::parse(&seen.journal);
    let journal = journal.context(ErrorKind::Corrupt, place.display())?;
    let known = size.checked_sub(journal.before.size);
    let known = known.filter(|known| *known <= journal.frame.entries.len() as u64);
    let apart = format!("{}: it does not go on from the checkpoint", place.display());
    let known = known.context(ErrorKind::Corrupt, apart)?;
    let mut additions = Tail::new(size, tree.edge, Vec::new()).additions();
    let (head, _) = take_commit(&place, &journal.frame, known as usize, &mut additions, keys)?;
    Ok(Verified::of(size, pruning.first, head))
}

/// A log in an object store.
struct Objects {
    folder: Folder,
    handle: Handle,
}

impl Source for Objects {
    fn find(&self, kind: Kind, index: u64, width: u64) -> Result<Option<(PathBuf, Bytes)>> {
        let found = self.handle.block_on(self.folder.find_tile(kind, index, width))?;
        Ok(found.map(|(place, bytes)| (place.into(), bytes)))
    }

    fn place(&self, name: &str) -> PathBuf {
        self.folder.place(name).into()
    }
}
