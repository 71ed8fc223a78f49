//! Reading a whole log on disk again, to believe nothing.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kaizen_core::{Bytes, Checkpoint, Context, Error, ErrorKind, Result};

use super::journal::{self, Found};
use super::lock_file::{Committed, Record, keep_off, said_in};
use crate::files::{self, blocking};
use crate::head::Head;
use crate::log_keys::LogKeys;
use crate::note;
use crate::pruning::{MARK, MARK_BYTES, Pruning};
use crate::tail::Tail;
use crate::tiles::{self, Kind};
use crate::verify::{Reader, Source, Verified, of_this_log, outline, published, take_commit};

/// How often a log is read anew that changed while it was read.
const TRIES: u32 = 16;
/// How long writers are waited for. Then they are not kept off.
const PATIENCE: Duration = Duration::from_secs(1);

/// Checks any log in the tlog-tiles layout, whatever its entries are: the checkpoint's signature
/// by one of `keys`, the root over all entries, every tile and every partial tile. `entry` is given
/// each entry with its index, in their order, and may refuse it. Of a log of ours that was pruned,
/// the entries that stayed.
///
/// Files beyond the checkpoint belong to a publication that never happened, and are passed over.
///
/// # Errors
///
/// [`ErrorKind::Corrupt`] naming the file at fault; [`ErrorKind::NotFound`] if there is no
/// checkpoint.
pub async fn verify_tiles<F>(
    dir: impl AsRef<Path>,
    keys: impl Into<LogKeys>,
    mut entry: F,
) -> Result<Verified>
where
    F: FnMut(u64, &[u8]) -> Result<()> + Send + 'static,
{
    let (dir, keys) = (dir.as_ref().to_owned(), keys.into());
    blocking(move || {
        let path = dir.join("checkpoint");
        let checkpoint = published(&path, &note_at(&path)?, &keys)?;
        let (folder, size) = (Folder(dir), checkpoint.size);
        let mark = files::read_whole(&folder.0.join(MARK), MARK_BYTES as u64)?;
        let source: &dyn Source = &folder;
        let pruning = source.pruning(mark.as_deref(), size)?;
        let mut reader = Reader::new(source, pruning.first..size, pruning);
        reader.verify(&checkpoint, &|_, _| Ok(()), Some(&mut entry))?;
        folder.check_older_forms(size, &reader)?;
        Ok(Verified::of(size, pruning.first, checkpoint))
    })
    .await
}

/// Checks a log of ours: what is published, and what is in the journal. Of a part of one, that
/// these entries are there, and the hashes of all.
pub(super) async fn log(dir: PathBuf, keys: LogKeys, part: Option<Range<u64>>) -> Result<Verified> {
    blocking(move || {
        let mut tries = 0;
        loop {
            let seen = Seen::at_one_time(&dir)?;
            let found = check(&dir, &keys, &seen, part.clone());
            tries += 1;
            match found {
                // Whoever may not lock the log may have read it while it was written.
                Err(error) if error.kind() == ErrorKind::Corrupt && tries < TRIES => {
                    if Seen::at_one_time(&dir)? == seen {
                        return Err(error);
                    }
                }
                found => return found,
            }
        }
    })
    .await
}

fn check(dir: &Path, keys: &LogKeys, seen: &Seen, part: Option<Range<u64>>) -> Result<Verified> {
    let path = dir.join("checkpoint");
    let checkpoint = published(&path, &seen.note, keys)?;
    of_this_log(&path, &checkpoint, keys)?;
    let (size, folder) = (checkpoint.size, Folder(dir.to_owned()));
    let source: &dyn Source = &folder;
    let (pruning, wanted) = match part {
        Some(part) if part.start > part.end || part.end > size => {
            let dir = dir.display();
            return Err(Error::invalid(format!("log {dir}: entries {part:?} of {size}")));
        }
        Some(part) => (Pruning::default(), part),
        None => {
            let pruning = source.pruning(seen.mark.as_deref(), size)?;
            (pruning, pruning.first..size)
        }
    };
    let mut reader = Reader::new(source, wanted, pruning);
    let tree = reader.verify(&checkpoint, &outline, None)?;
    folder.check_older_forms(size, &reader)?;
    let end = Tail::new(size, tree.edge, Vec::new());
    let (head, cut_off) = commits(&dir.join("journal"), seen, &end, keys)?;
    let found = Verified::of(size, pruning.first, head.unwrap_or(checkpoint));
    Ok(Verified { cut_off, ..found })
}

/// The small files of a log as they were at one time.
#[derive(PartialEq, Eq)]
struct Seen {
    note: Vec<u8>,
    journal: Vec<u8>,
    mark: Option<Vec<u8>>,
    /// What `checkpoint.lock` says.
    record: Option<Record>,
}

impl Seen {
    fn at_one_time(dir: &Path) -> Result<Self> {
        // A log that nobody can write to has no lock, and needs none.
        let lock = files::options().read(true).open(dir.join("checkpoint.lock")).ok();
        let mut keeps_off = false;
        let path = dir.join("checkpoint");
        let at_edge = || -> Result<_> {
            let record = lock.as_ref().and_then(|file| said_in(file).ok().flatten());
            Ok((note_at(&path)?, record))
        };
        let mut edge = at_edge()?;
        for _ in 0..TRIES {
            keeps_off |= lock.as_ref().is_some_and(|file| !keeps_off && keep_off(file, PATIENCE));
            let journal =
                files::read_whole(&dir.join("journal"), journal::MAX_BYTES)?.unwrap_or_default();
            let mark = files::read_whole(&dir.join(MARK), MARK_BYTES as u64)?;
            // Something was committed in between, if nobody could be kept from it.
            let now = at_edge()?;
            if now == edge {
                let (note, record) = now;
                return Ok(Self { note, journal, mark, record });
            }
            edge = now;
        }
        let path = path.display();
        Err(Error::new(ErrorKind::Unavailable, format!("{path}: it changes all the time")))
    }
}

fn note_at(path: &Path) -> Result<Vec<u8>> {
    let note = files::read_whole(path, note::MAX_BYTES as u64)?;
    note.context(ErrorKind::NotFound, format!("{}: there is no checkpoint", path.display()))
}

/// Checks the commits in the journal, which go on from this end of the log, and that they are all
/// that the lock file says. Gives the last head, and whether another commit was begun after it and
/// never finished.
fn commits(
    path: &Path,
    seen: &Seen,
    end: &Tail,
    keys: &LogKeys,
) -> Result<(Option<Checkpoint>, bool)> {
    let journal = &seen.journal;
    let mut additions = end.additions();
    let shown = path.display();
    let said = seen.record.map(|record| record.committed.head);
    let check = |now: &Head| match said {
        Some(said) if said.size == now.size => said.agrees(&now.root, &shown.to_string()),
        _ => Ok(()),
    };
    let mut head = None;
    let mut before = additions.peaks.head();
    check(&before)?;
    let offset = journal::read_on(journal, 0, before, |frame| {
        let (signed, now) = take_commit(path, &frame, 0, &mut additions, keys)?;
        check(&now)?;
        (head, before) = (Some(signed), now);
        Ok(now)
    })?;
    let committed = Committed { head: before, published: end.size(), end: offset };
    let found = match journal::after_the_last(journal, offset, before) {
        Ok(Found::Damaged) => {
            Err(Error::corrupt(format!("{shown}: the commit at byte {offset} is damaged")))
        }
        // A writer was killed, or failed; what it had finished before is all there.
        Ok(Found::Torn)
            if seen.record.is_some_and(|record| record.may_be_cut_off_at(&committed)) =>
        {
            Ok((head, true))
        }
        Ok(Found::Torn) => Err(Error::corrupt(format!(
            "{shown}: the commit at byte {offset} was not finished, or is damaged"
        ))),
        Ok(_) => Ok((head, false)),
        Err(error) => Err(files::failed(path, error)),
    }?;
    said.map_or(Ok(0..0), |said| said.within(before.size, &shown.to_string()))?;
    Ok(found)
}

/// A log in a directory.
struct Folder(PathBuf);

impl Source for Folder {
    fn find(&self, kind: Kind, index: u64, width: u64) -> Result<Option<(PathBuf, Bytes)>> {
        let found = kind.find(&self.0, index, width)?;
        Ok(found.map(|(path, bytes)| (path, Bytes::from(bytes))))
    }

    fn place(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Folder {
    /// Partial forms of tiles that have grown since must be beginnings of what they grew into.
    fn check_older_forms(&self, size: u64, reader: &Reader<'_>) -> Result<()> {
        for folder in files::list(&self.0.join("tile"))? {
            let name = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if let Some(kind) = Kind::from_folder(name) {
                self.check_folder(kind, (&folder, &folder), size, reader)?;
            }
        }
        Ok(())
    }

    fn check_folder(
        &self,
        kind: Kind,
        (top, dir): (&Path, &Path),
        size: u64,
        reader: &Reader<'_>,
    ) -> Result<()> {
        for path in files::list(dir)? {
            let below = path.strip_prefix(top).unwrap_or(&path);
            let Some((index, width)) = tiles::parse_path(below) else {
                // What a link leads to is not part of the log.
                if tiles::is_folder(below) && path.is_dir() && !path.is_symlink() {
                    self.check_folder(kind, (top, &path), size, reader)?;
                }
                continue;
            };
            let now = kind.width(index, size);
            if width >= now {
                // The present form was compared already; a longer one is beyond the checkpoint.
                continue;
            }
            let whole = match kind {
                Kind::Entries if reader.may_lack(index) => kind.find(&self.0, index, now)?,
                _ => Some(kind.read(&self.0, index, now)?),
            };
            let Some((_, whole)) = whole else { continue };
            // It may go at any time, now that the tile has grown.
            let Some(older) = kind.read_file(&path)? else { continue };
            let complete = match kind {
                Kind::Entries => tiles::exact_entries(&path, &older, width).map(|_| ()),
                Kind::Hashes(_) => tiles::hashes_of(&path, &older, width).map(|_| ()),
            };
            complete?;
            if !whole.starts_with(&older) {
                let path = path.display();
                return Err(Error::corrupt(format!("{path}: not the beginning of its tile")));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use kaizen_core::AuditLog as _;
    use kaizen_testkit::audit_log::entry;

    use super::*;
    use crate::{Ed25519Signer, LocalLog};

    fn verified(dir: &Path, checkpoint: &Checkpoint, threads: usize) -> String {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let folder = Folder(dir.to_owned());
        let mut reader = Reader::new(&folder, 0..checkpoint.size, Pruning::default());
        let tree = pool.install(|| reader.verify(checkpoint, &|_, _| Ok(()), None));
        match tree {
            Ok(tree) => format!("{} {:?}", tree.size, tree.root()),
            Err(error) => format!("{error:?}"),
        }
    }

    #[tokio::test]
    async fn one_thread_and_many_say_the_same_of_whole_and_of_damaged_logs() {
        let scratch = tempfile::tempdir().unwrap();
        let dir = scratch.path().join("log");
        let signer = Arc::new(Ed25519Signer::from_seed("kaizen.test/log", [1; 32]).unwrap());
        let log = LocalLog::open(&dir, signer).await.unwrap();
        let entries: Vec<_> = (0..256 * 40 + 7).map(entry).collect();
        log.append(&entries, None).await.unwrap();
        let checkpoint = log.publish().await.unwrap();
        let of = |threads| verified(&dir, &checkpoint, threads);
        assert!(of(1).starts_with("10247 "), "{}", of(1));
        assert_eq!(of(1), of(4));
        // More than one file is at fault: the first is named, whatever the order of reading.
        let (mut seen, names) =
            (Vec::new(), ["tile/entries/037", "tile/0/020", "tile/entries/003"]);
        for name in names {
            let path = dir.join(name);
            let mut bytes = std::fs::read(&path).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            std::fs::write(&path, bytes).unwrap();
            let said = of(1);
            for _ in 0..5 {
                assert_eq!(said, of(4), "{name}");
            }
            seen.push(said);
        }
        std::fs::remove_file(dir.join("tile/entries/030")).unwrap();
        assert_eq!(of(1), of(4));
        assert!(seen[0].contains("037") && seen[2].contains("003"), "{seen:?}");
    }
}
