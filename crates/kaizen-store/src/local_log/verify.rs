//! Reading a whole log again, to believe nothing.

use std::borrow::Cow;
use std::fs::File;
use std::path::{Path, PathBuf};

use kaizen_core::{Checkpoint, Context, Digest, Error, ErrorKind, Result, Timestamp};
use rayon::iter::{IntoParallelIterator as _, ParallelIterator as _};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::journal::{self, Before, Found};
use super::state::{damaged, take_in};
use crate::files::{self, blocking};
use crate::log_keys::LogKeys;
use crate::merkle::{leaf_hash, root};
use crate::note;
use crate::tail::Tail;
use crate::tiles::{self, Kind, Tree, WIDTH};

/// A log that was read and checked from its first byte to its last.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Verified {
    /// The name of the log.
    pub origin: String,
    /// How many entries it has.
    pub size: u64,
    /// How many of them are published in tiles; the others are in the journal.
    pub published: u64,
    /// The root over them.
    pub root: Digest,
    /// The checkpoint that says so.
    pub checkpoint: Checkpoint,
}

impl Verified {
    fn of(published: u64, checkpoint: Checkpoint) -> Self {
        let (origin, size, root) = (checkpoint.origin.clone(), checkpoint.size, checkpoint.root);
        Self { origin, size, published, root, checkpoint }
    }
}

/// Checks any log in the tlog-tiles layout, whatever its entries are: the checkpoint's signature
/// by one of `keys`, the root over all entries, every tile and every partial tile. `entry` is given
/// each entry with its index, in their order, and may refuse it.
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
        let checkpoint = published(&path, files::read(&path)?, &keys)?;
        Reader::new(dir).verify(&checkpoint, &|_, _| Ok(()), Some(&mut entry))?;
        Ok(Verified::of(checkpoint.size, checkpoint))
    })
    .await
}

/// What every entry of a log of ours has, also if a later version of this library wrote it, which
/// knows more kinds of event.
#[expect(dead_code, reason = "read, and not looked at")]
#[derive(Deserialize)]
struct Outline<'a> {
    at: Timestamp,
    actor: IgnoredAny,
    operation: IgnoredAny,
    #[serde(borrow)]
    event: EventOutline<'a>,
    subject: Digest,
    #[serde(default)]
    evidence: Vec<Digest>,
}

#[expect(dead_code, reason = "read, and not looked at")]
#[derive(Deserialize)]
struct EventOutline<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
}

/// Checks a log of ours: what is published, and what is in the journal.
pub(super) async fn log(dir: PathBuf, keys: LogKeys) -> Result<Verified> {
    blocking(move || {
        let (note, journal) = at_one_time(&dir)?;
        let path = dir.join("checkpoint");
        let checkpoint = published(&path, note, &keys)?;
        let (found, wanted) = (&checkpoint.origin, keys.name());
        if found != wanted {
            let path = path.display();
            return Err(Error::corrupt(format!("{path}: of log `{found}`, not `{wanted}`")));
        }
        let check = |index: u64, bytes: &[u8]| {
            let parsed: Result<Outline<'_>> = serde_json::from_slice(bytes)
                .context(ErrorKind::Corrupt, format!("entry {index}: not a log entry"));
            parsed.map(|_| ())
        };
        let tree = Reader::new(dir.clone()).verify(&checkpoint, &check, None)?;
        let size = checkpoint.size;
        let end = Tail::new(size, tree.edge, Vec::new());
        let head = commits(&dir.join("journal"), &journal, &end, &keys, &check)?;
        Ok(Verified::of(size, head.unwrap_or(checkpoint)))
    })
    .await
}

/// The published checkpoint and the journal as they were at one time.
fn at_one_time(dir: &Path) -> Result<(Option<Vec<u8>>, Vec<u8>)> {
    // A log that nobody can write to has no lock, and needs none.
    let held = File::open(dir.join("checkpoint.lock")).ok();
    let held = held.filter(|file| file.lock_shared().is_ok());
    let note = files::read(&dir.join("checkpoint"))?;
    let path = dir.join("journal");
    let length = std::fs::metadata(&path).map_or(0, |metadata| metadata.len());
    if length > journal::MAX_BYTES {
        let path = path.display();
        return Err(Error::corrupt(format!("{path}: {length} bytes, more than a journal has")));
    }
    let journal = files::read(&path)?.unwrap_or_default();
    drop(held);
    Ok((note, journal))
}

fn published(path: &Path, note: Option<Vec<u8>>, keys: &LogKeys) -> Result<Checkpoint> {
    let shown = path.display();
    let bytes = note.context(ErrorKind::NotFound, format!("{shown}: there is no checkpoint"))?;
    let note = String::from_utf8(bytes).context(ErrorKind::Corrupt, &shown)?;
    note::open_checkpoint(&note, keys)
        .map_err(|error| Error::corrupt(format!("{shown}: {error}")).with_source(error))
}

/// Checks the commits in the journal, which go on from this end of the log. Gives the last head.
fn commits(
    path: &Path,
    journal: &Vec<u8>,
    end: &Tail,
    keys: &LogKeys,
    check: Check<'_>,
) -> Result<Option<Checkpoint>> {
    let mut additions = end.additions();
    let mut head = None;
    let mut before = Before { size: end.size(), root: end.root() };
    let shown = path.display();
    let offset = journal::read_on(journal, 0, before, |frame| {
        for (number, entry) in (additions.peaks.size()..).zip(&frame.entries) {
            check(number, entry).map_err(|error| refused(path, error))?;
        }
        take_in(&mut additions, &frame);
        let signed = note::open_checkpoint(&frame.note, keys)
            .map_err(|error| Error::corrupt(format!("{shown}: {error}")).with_source(error))?;
        before = Before { size: additions.peaks.size(), root: additions.peaks.root() };
        if (signed.size, signed.root) != (before.size, before.root) {
            return Err(Error::corrupt(format!("{shown}: its entries have not the root signed")));
        }
        head = Some(signed);
        Ok(before)
    })?;
    match journal::after_the_last(journal, offset, before) {
        Ok(Found::Torn | Found::Damaged) => Err(damaged(path, offset)),
        Ok(_) => Ok(head),
        Err(error) => Err(files::failed(path, error)),
    }
}

fn refused(path: &Path, error: Error) -> Error {
    Error::corrupt(format!("{}: {error}", path.display())).with_source(error)
}

/// A tile whose hashes are not those of what lies below, and the bundle of entries that does where
/// the tile is right above one.
type Disagreement = (PathBuf, Option<PathBuf>);

struct Reader {
    dir: PathBuf,
    /// The first of them.
    disagreement: Option<Disagreement>,
}

/// What one bundle of entries makes.
struct Bundle {
    leaves: Vec<Digest>,
    /// The root over the leaves.
    root: Digest,
    /// The bundle itself, where somebody wants to see the entries in their order.
    kept: Option<(PathBuf, Vec<u8>)>,
    disagreement: Option<Disagreement>,
}

/// Looks at an entry with its index; many at once.
type Check<'a> = &'a (dyn Fn(u64, &[u8]) -> Result<()> + Sync);
/// Looks at an entry with its index, in their order.
type Each<'a> = &'a mut dyn FnMut(u64, &[u8]) -> Result<()>;

impl Reader {
    fn new(dir: PathBuf) -> Self {
        Self { dir, disagreement: None }
    }

    /// Checks what is published. Gives the right edge of the tree too.
    fn verify(
        &mut self,
        checkpoint: &Checkpoint,
        check: Check<'_>,
        mut each: Option<Each<'_>>,
    ) -> Result<Tree> {
        let size = checkpoint.size;
        let mut tree = Tree::default();
        let (bundles, keep) = (size.div_ceil(WIDTH), each.is_some());
        // So many at a time, in whatever order; what is made of them is in theirs.
        let step = (8 * rayon::current_num_threads() as u64).max(1);
        for first in (0..bundles).step_by(step as usize) {
            let batch: Vec<_> = (first..bundles.min(first + step))
                .into_par_iter()
                .map(|index| self.read_bundle(index, size, check, keep))
                .collect();
            for bundle in batch {
                self.add(&mut tree, bundle?, &mut each, size)?;
            }
        }
        let partials: Vec<_> = tree.partials().map(|(k, i, row)| (k, i, row.to_vec())).collect();
        for (kind, index, row) in partials.into_iter().filter(|(k, ..)| *k != Kind::Hashes(0)) {
            self.compare(kind, index, &row)?;
        }
        self.judge(&self.dir.join("checkpoint"), tree.root(), checkpoint.root)?;
        self.check_older_forms(size)?;
        Ok(tree)
    }

    fn read_bundle(&self, index: u64, size: u64, check: Check<'_>, keep: bool) -> Result<Bundle> {
        let width = Kind::Entries.width(index, size);
        let (path, bytes) = Kind::Entries.read(&self.dir, index, width)?;
        let mut leaves = Vec::with_capacity(width as usize);
        for (number, entry) in (index * WIDTH..).zip(tiles::exact_entries(&path, &bytes, width)?) {
            check(number, entry).map_err(|error| refused(&path, error))?;
            leaves.push(leaf_hash(entry));
        }
        let (tile, hashes) = Kind::Hashes(0).read(&self.dir, index, width)?;
        let same = tiles::hashes_of(&tile, &hashes, width)? == leaves;
        let below = Kind::Entries.path(&self.dir, index, width);
        let disagreement = (!same).then_some((tile, Some(below)));
        let kept = keep.then_some((path, bytes));
        Ok(Bundle { root: root(&leaves), leaves, kept, disagreement })
    }

    fn add(
        &mut self,
        tree: &mut Tree,
        bundle: Bundle,
        each: &mut Option<Each<'_>>,
        size: u64,
    ) -> Result<()> {
        if let Some((path, bytes)) = &bundle.kept
            && let Some(each) = each
        {
            for (number, entry) in (tree.size..).zip(tiles::entries_of(path, bytes)?) {
                each(number, entry).map_err(|error| refused(path, error))?;
            }
        }
        if self.disagreement.is_none() {
            self.disagreement = bundle.disagreement;
        }
        if bundle.leaves.len() as u64 == WIDTH {
            return tree.push_tile(bundle.root, |kind, index, row| self.compare(kind, index, row));
        }
        debug_assert_eq!(tree.size + bundle.leaves.len() as u64, size, "only the last is not full");
        bundle.leaves.into_iter().try_for_each(|leaf| tree.push(leaf, |_, _, _| Ok(())))
    }

    /// Compares a tile with what the entries make of it. Who is wrong shows at the end.
    fn compare(&mut self, kind: Kind, index: u64, row: &[Digest]) -> Result<()> {
        let width = row.len() as u64;
        let (path, bytes) = kind.read(&self.dir, index, width)?;
        let same = tiles::hashes_of(&path, &bytes, width)? == row;
        if !same && self.disagreement.is_none() {
            self.disagreement = Some((path, None));
        }
        Ok(())
    }

    /// If the entries have the root that was signed, they are right and a tile that disagrees is
    /// wrong. Otherwise the entries are.
    fn judge(&self, checkpoint: &Path, found: Digest, signed: Digest) -> Result<()> {
        let file = match &self.disagreement {
            None if found == signed => return Ok(()),
            None => checkpoint,
            Some((tile, _)) if found == signed => tile,
            Some((_, Some(bundle))) => bundle,
            Some((tile, None)) => tile,
        };
        let what = if found == signed {
            "its hashes are not those of the entries".to_owned()
        } else {
            format!("the entries have root {found}, and {signed} was signed")
        };
        Err(Error::corrupt(format!("{}: {what}", file.display())))
    }

    /// Partial forms of tiles that have grown since must be beginnings of what they grew into.
    fn check_older_forms(&self, size: u64) -> Result<()> {
        for folder in files::list(&self.dir.join("tile"))? {
            let name = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let kind = match name {
                "entries" => Kind::Entries,
                level => match level.parse() {
                    Ok(level) => Kind::Hashes(level),
                    Err(_) => continue,
                },
            };
            self.check_folder(kind, &folder, &folder, size)?;
        }
        Ok(())
    }

    fn check_folder(&self, kind: Kind, top: &Path, dir: &Path, size: u64) -> Result<()> {
        for path in files::list(dir)? {
            if path.is_dir() {
                self.check_folder(kind, top, &path, size)?;
                continue;
            }
            let below = path.strip_prefix(top).unwrap_or(&path);
            let Some((index, width)) = tiles::parse_path(below) else { continue };
            let now = kind.width(index, size);
            if width >= now {
                // The present form was compared already; a longer one is beyond the checkpoint.
                continue;
            }
            let (_, whole) = kind.read(&self.dir, index, now)?;
            let older = files::read(&path)?.unwrap_or_default();
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
        let mut reader = Reader::new(dir.to_owned());
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
