//! Reading a whole log again, to believe nothing: what logs on disk and in object stores share.

use std::borrow::Cow;
use std::ops::Range;
use std::path::{Path, PathBuf};

use kaizen_core::{Bytes, Checkpoint, Context, Digest, Error, ErrorKind, Result, Timestamp};
use rayon::iter::{IntoParallelIterator as _, ParallelIterator as _};
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::head::Head;
use crate::local_log::journal::Frame;
use crate::log_keys::LogKeys;
use crate::merkle::{leaf_hash, root};
use crate::note;
use crate::pruning::{MARK, Mark, Pruning};
use crate::tail::Additions;
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
    /// How many of them, at the beginning, it was pruned of, as an entry of the log says. Their
    /// hashes were checked.
    pub pruned: u64,
    /// The root over them.
    pub root: Digest,
    /// The checkpoint that says so.
    pub checkpoint: Checkpoint,
    /// Whether a commit was begun after them and never finished, so that it is passed over: its
    /// writer failed or was killed, and nobody has opened the log since who may write. If the
    /// machine was restarted since, damage to the last commit of all may look the same.
    pub cut_off: bool,
}

impl Verified {
    pub(crate) fn of(published: u64, pruned: u64, checkpoint: Checkpoint) -> Self {
        let (origin, size, root) = (checkpoint.origin.clone(), checkpoint.size, checkpoint.root);
        Self { origin, size, published, pruned, root, checkpoint, cut_off: false }
    }
}

/// Where the tiles of a log are read from.
pub(crate) trait Source: Sync {
    /// The first `width` items of a tile, and how it is called; `None` if it is not there.
    fn find(&self, kind: Kind, index: u64, width: u64) -> Result<Option<(PathBuf, Bytes)>>;

    /// How something is called that lies where the log does.
    fn place(&self, name: &str) -> PathBuf;
}

impl dyn Source + '_ {
    fn read(&self, kind: Kind, index: u64, width: u64) -> Result<(PathBuf, Bytes)> {
        let missing = || {
            let name = kind.path(Path::new(""), index, width);
            format!("{}: it is missing", self.place(&name.to_string_lossy()).display())
        };
        self.find(kind, index, width)?.context(ErrorKind::Corrupt, missing())
    }

    /// What the mark points to, if the log has one: in tiles, as nothing is pruned before it is.
    pub(crate) fn pruning(&self, mark: Option<&[u8]>, size: u64) -> Result<Pruning> {
        let Some(mark) = mark else { return Ok(Pruning::default()) };
        let mark = Mark::parse(mark, self.place(MARK).display().to_string())?;
        mark.check(size)?;
        let bundle = mark.index / WIDTH;
        let width = Kind::Entries.width(bundle, size);
        let (path, bytes) = self.read(Kind::Entries, bundle, width)?;
        let entry = tiles::exact_entries(&path, &bytes, width)?[(mark.index % WIDTH) as usize];
        mark.pruning(entry)
    }
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

/// Whether these bytes have the form of an entry.
pub(crate) fn outline(index: u64, bytes: &[u8]) -> Result<()> {
    let parsed: Result<Outline<'_>> = serde_json::from_slice(bytes)
        .context(ErrorKind::Corrupt, format!("entry {index}: not a log entry"));
    parsed.map(|_| ())
}

/// A published checkpoint, read from `place`; of the log of these keys, if that is asked for.
pub(crate) fn published(place: &Path, note: &[u8], keys: &LogKeys) -> Result<Checkpoint> {
    let shown = place.display();
    let note = std::str::from_utf8(note).context(ErrorKind::Corrupt, &shown)?;
    note::open_checkpoint(note, keys)
        .map_err(|error| Error::corrupt(format!("{shown}: {error}")).with_source(error))
}

/// Refuses a checkpoint of another log than that of these keys.
pub(crate) fn of_this_log(place: &Path, checkpoint: &Checkpoint, keys: &LogKeys) -> Result<()> {
    let (found, wanted) = (&checkpoint.origin, keys.name());
    if found == wanted {
        return Ok(());
    }
    let place = place.display();
    Err(Error::corrupt(format!("{place}: of log `{found}`, not `{wanted}`")))
}

/// Adds what a commit has beyond the first `known` of its entries, and checks that the head is the
/// one that was signed. Gives that head, and what the next commit goes on from.
pub(crate) fn take_commit(
    place: &Path,
    frame: &Frame,
    known: usize,
    additions: &mut Additions,
    keys: &LogKeys,
) -> Result<(Checkpoint, Head)> {
    let shown = place.display();
    for entry in frame.entries.iter().skip(known) {
        outline(additions.peaks.size(), entry).map_err(|error| refused(place, error))?;
        additions.push(entry.clone());
    }
    let signed = note::open_checkpoint(&frame.note, keys)
        .map_err(|error| Error::corrupt(format!("{shown}: {error}")).with_source(error))?;
    let now = additions.peaks.head();
    if Head::from(&signed) != now {
        return Err(Error::corrupt(format!("{shown}: its entries have not the root signed")));
    }
    Ok((signed, now))
}

pub(crate) fn refused(path: &Path, error: Error) -> Error {
    Error::corrupt(format!("{}: {error}", path.display())).with_source(error)
}

/// A tile whose hashes are not those of what lies below, and the bundle of entries that does where
/// the tile is right above one.
type Disagreement = (PathBuf, Option<PathBuf>);

/// Reads the tiles of a log.
pub(crate) struct Reader<'a> {
    source: &'a dyn Source,
    /// The entries that must be there. Others may be gone; their hashes may not.
    wanted: Range<u64>,
    /// What the log says that it was pruned of.
    pruning: Pruning,
    /// The root over what is pruned.
    pruned_root: Option<Digest>,
    /// The first of them.
    disagreement: Option<Disagreement>,
}

/// What one bundle of entries makes.
struct Bundle {
    leaves: Vec<Digest>,
    /// The root over the leaves.
    root: Digest,
    /// The bundle itself, where somebody wants to see the entries in their order.
    kept: Option<(PathBuf, Bytes)>,
    disagreement: Option<Disagreement>,
}

/// Looks at an entry with its index; many at once.
pub(crate) type Check<'a> = &'a (dyn Fn(u64, &[u8]) -> Result<()> + Sync);
/// Looks at an entry with its index, in their order.
pub(crate) type Each<'a> = &'a mut dyn FnMut(u64, &[u8]) -> Result<()>;

impl<'a> Reader<'a> {
    pub(crate) fn new(source: &'a dyn Source, wanted: Range<u64>, pruning: Pruning) -> Self {
        Self { source, wanted, pruning, pruned_root: None, disagreement: None }
    }

    /// Checks what is published. Gives the right edge of the tree too.
    pub(crate) fn verify(
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
        self.judge(tree.root(), checkpoint.root)?;
        let said = self.pruning.root.filter(|_| self.pruning.first < size);
        if said.is_some() && said != self.pruned_root {
            let (place, Pruning { index, first, .. }) = (self.source.place(MARK), self.pruning);
            let place = place.display();
            let message = format!("{place}: entry {index} gives another root of {first} entries");
            return Err(Error::corrupt(message));
        }
        Ok(tree)
    }

    /// Whether this bundle may be gone.
    pub(crate) fn may_lack(&self, index: u64) -> bool {
        let Range { start, end } = self.wanted;
        start >= end || (index + 1) * WIDTH <= start || index * WIDTH >= end
    }

    fn read_bundle(&self, index: u64, size: u64, check: Check<'_>, keep: bool) -> Result<Bundle> {
        let width = Kind::Entries.width(index, size);
        let found = match self.may_lack(index) {
            true => self.source.find(Kind::Entries, index, width)?,
            false => Some(self.source.read(Kind::Entries, index, width)?),
        };
        let (tile, hashes) = self.source.read(Kind::Hashes(0), index, width)?;
        let hashes = tiles::hashes_of(&tile, &hashes, width)?;
        let Some((path, bytes)) = found else {
            let root = root(&hashes);
            return Ok(Bundle { leaves: hashes, root, kept: None, disagreement: None });
        };
        let mut leaves = Vec::with_capacity(width as usize);
        for (number, entry) in (index * WIDTH..).zip(tiles::exact_entries(&path, &bytes, width)?) {
            check(number, entry).map_err(|error| refused(&path, error))?;
            leaves.push(leaf_hash(entry));
        }
        let disagreement = (hashes != leaves).then_some((tile, Some(path.clone())));
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
        let length = bundle.leaves.len() as u64;
        if (tree.size..tree.size + length).contains(&self.pruning.first) {
            let mut pruned = tree.clone();
            for leaf in &bundle.leaves[..(self.pruning.first - tree.size) as usize] {
                pruned.push(*leaf, |_, _, _| Ok(()))?;
            }
            self.pruned_root = Some(pruned.root());
        }
        if length == WIDTH {
            return tree.push_tile(bundle.root, |kind, index, row| self.compare(kind, index, row));
        }
        debug_assert_eq!(tree.size + length, size, "only the last is not full");
        bundle.leaves.into_iter().try_for_each(|leaf| tree.push(leaf, |_, _, _| Ok(())))
    }

    /// Compares a tile with what the entries make of it. Who is wrong shows at the end.
    fn compare(&mut self, kind: Kind, index: u64, row: &[Digest]) -> Result<()> {
        let width = row.len() as u64;
        let (path, bytes) = self.source.read(kind, index, width)?;
        let same = tiles::hashes_of(&path, &bytes, width)? == row;
        if !same && self.disagreement.is_none() {
            self.disagreement = Some((path, None));
        }
        Ok(())
    }

    /// If the entries have the root that was signed, they are right and a tile that disagrees is
    /// wrong. Otherwise the entries are.
    fn judge(&self, found: Digest, signed: Digest) -> Result<()> {
        let checkpoint = self.source.place("checkpoint");
        let file = match &self.disagreement {
            None if found == signed => return Ok(()),
            None => &checkpoint,
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
}
