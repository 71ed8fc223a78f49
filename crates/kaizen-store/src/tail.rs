//! The end of a log, in memory: what was appended since the last full tile that is published, and
//! the hashes above it.

use kaizen_core::{Bytes, Digest, Error, ErrorKind, Result};

use crate::head::Head;
use crate::merkle::{self, leaf_hash, node_hash};
use crate::tiles::{self, Kind, WIDTH};

/// The end of a log is asked for before it was read: no caller does.
pub(crate) fn unread() -> Error {
    Error::new(ErrorKind::Internal, "log: it was not read")
}

/// How many heights of the tree lie in one tile.
pub(crate) const HEIGHTS: u32 = 8;

/// A file to be written: which tile, how many items it holds, and its bytes.
pub(crate) type Staged = (Kind, u64, u64, Vec<u8>);

/// The roots of the perfect subtrees that make up a log, the largest first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Peaks {
    size: u64,
    hashes: Vec<Digest>,
}

impl Peaks {
    /// How many entries there are.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// What the log is now.
    pub(crate) fn head(&self) -> Head {
        Head { size: self.size, root: self.root() }
    }

    /// Adds a leaf. `made` receives each hash that is now known for good, with its height.
    pub(crate) fn push(&mut self, leaf: Digest, mut made: impl FnMut(u32, Digest)) {
        let (mut hash, mut height) = (leaf, 0);
        made(0, hash);
        while self.size >> height & 1 == 1 {
            let Some(left) = self.hashes.pop() else { break };
            hash = node_hash(&left, &hash);
            height += 1;
            made(height, hash);
        }
        self.hashes.push(hash);
        self.size += 1;
    }

    /// The root over all entries.
    pub(crate) fn root(&self) -> Digest {
        let mut from_right = self.hashes.iter().rev().copied();
        let Some(last) = from_right.next() else { return merkle::root(&[]) };
        from_right.fold(last, |right, left| node_hash(&left, &right))
    }
}

/// The hashes at one height, from that of some node on.
#[derive(Clone, Debug, Default)]
struct Row {
    first: u64,
    hashes: Vec<Digest>,
}

/// Entries that are ready to be added to a [`Tail`], with the hashes that they make.
#[derive(Debug)]
pub(crate) struct Additions {
    pub(crate) entries: Vec<Bytes>,
    pub(crate) peaks: Peaks,
    nodes: Vec<(u32, Digest)>,
}

impl Additions {
    /// Adds an entry.
    pub(crate) fn push(&mut self, entry: Bytes) {
        let nodes = &mut self.nodes;
        self.peaks.push(leaf_hash(&entry), |height, hash| nodes.push((height, hash)));
        self.entries.push(entry);
    }
}

/// The end of a log: the entries and hashes from the beginning of the tile that is not full in its
/// published part, up to the last entry.
#[derive(Clone, Debug)]
pub(crate) struct Tail {
    published: u64,
    peaks: Peaks,
    rows: Vec<Row>,
    entries: Vec<Bytes>,
}

/// The tiles that hold the right edge of a log of `size` entries, one for each level that is not
/// empty there: level, index, width. A width of 0 stands for a level whose tiles are all full.
pub(crate) fn edge(size: u64) -> impl Iterator<Item = (Kind, u64, u64)> {
    let levels = (0..).map(Kind::Hashes).take_while(move |kind| kind.items(size) > 0);
    levels.map(move |kind| (kind, kind.items(size) / WIDTH, kind.items(size) % WIDTH))
}

impl Tail {
    /// The end of a published log of `size` entries: the hashes of the tiles of its [`edge`], and
    /// the entries of the bundle that is not full.
    pub(crate) fn new(size: u64, edge: Vec<Vec<Digest>>, entries: Vec<Bytes>) -> Self {
        let mut rows = Vec::with_capacity(edge.len() * HEIGHTS as usize);
        for (level, tile) in (0..).zip(edge) {
            let start = start_of(size, level);
            let mut hashes = tile;
            for height in 0..HEIGHTS {
                let (pairs, _) = hashes.as_chunks::<2>();
                let above = pairs.iter().map(|[left, right]| node_hash(left, right)).collect();
                let first = start >> height;
                rows.push(Row { first, hashes: std::mem::replace(&mut hashes, above) });
            }
        }
        let mut tail = Self { published: size, peaks: Peaks::default(), rows, entries };
        let heights = (0..u64::BITS).rev().filter(|height| size >> height & 1 == 1);
        let peaks = heights.filter_map(|height| tail.node(height, (size >> height) - 1));
        tail.peaks = Peaks { size, hashes: peaks.collect() };
        tail
    }

    /// How many entries the log has.
    pub(crate) fn size(&self) -> u64 {
        self.peaks.size
    }

    /// How many of them are published.
    pub(crate) fn published(&self) -> u64 {
        self.published
    }

    /// The root over all entries.
    pub(crate) fn root(&self) -> Digest {
        self.peaks.root()
    }

    /// The hash of the `index`-th perfect subtree of 2^`height` entries, if it is held here.
    pub(crate) fn node(&self, height: u32, index: u64) -> Option<Digest> {
        let row = self.rows.get(height as usize)?;
        let at = index.checked_sub(row.first)?;
        row.hashes.get(usize::try_from(at).ok()?).copied()
    }

    /// Entry `index`, if it is held here.
    pub(crate) fn entry(&self, index: u64) -> Option<&Bytes> {
        let at = index.checked_sub(start_of(self.published, 0))?;
        self.entries.get(usize::try_from(at).ok()?)
    }

    /// The hashes of the entries of a bundle, as far as they are held here.
    pub(crate) fn leaves(&self, bundle: u64) -> Option<&[Digest]> {
        let row = self.rows.first()?;
        let from = (bundle * WIDTH).checked_sub(row.first)?;
        let leaves = row.hashes.get(usize::try_from(from).ok()?..)?;
        Some(&leaves[..leaves.len().min(WIDTH as usize)])
    }

    /// Nothing yet, to be added to the end.
    pub(crate) fn additions(&self) -> Additions {
        Additions { entries: Vec::new(), peaks: self.peaks.clone(), nodes: Vec::new() }
    }

    /// Adds what was built on this very end.
    pub(crate) fn add(&mut self, additions: Additions) {
        for (height, hash) in additions.nodes {
            while self.rows.len() <= height as usize {
                self.rows.push(Row::default());
            }
            self.rows[height as usize].hashes.push(hash);
        }
        self.entries.extend(additions.entries);
        self.peaks = additions.peaks;
    }

    /// The files that publish everything that is not published yet. They depend on the entries
    /// alone: who writes them, and when, makes no difference.
    pub(crate) fn unpublished(&self) -> Result<Vec<Staged>> {
        let (old, new) = (self.published, self.size());
        let mut files = Vec::new();
        for index in old / WIDTH..new.div_ceil(WIDTH) {
            let (width, mut bundle) = (Kind::Entries.width(index, new), Vec::new());
            if width == Kind::Entries.width(index, old) {
                continue;
            }
            for number in index * WIDTH..index * WIDTH + width {
                let entry = self.entry(number).ok_or_else(gone)?;
                tiles::push_entry(&mut bundle, entry)?;
            }
            files.push((Kind::Entries, index, width, bundle));
        }
        for (level, row) in (0..).zip(self.rows.iter().step_by(HEIGHTS as usize)) {
            let kind = Kind::Hashes(level);
            let first = row.first / WIDTH;
            for (index, hashes) in (first..).zip(row.hashes.chunks(WIDTH as usize)) {
                let width = hashes.len() as u64;
                // A tile that did not grow is in the log already, and what is in the log is never
                // written again: a crash could tear it.
                if width > kind.width(index, old) {
                    files.push((kind, index, width, tiles::tile_bytes(hashes)));
                }
            }
        }
        Ok(files)
    }

    /// Everything up to `size` entries is published now; what lies in full tiles is let go.
    pub(crate) fn publish(&mut self, size: u64) {
        let old = start_of(self.published, 0);
        for (height, row) in (0..).zip(&mut self.rows) {
            let (level, within) = (height / HEIGHTS, height % HEIGHTS);
            let first = start_of(size, level) >> within;
            let gone = (first - row.first).min(row.hashes.len() as u64);
            row.hashes.drain(..gone as usize);
            row.first = first;
        }
        self.entries.drain(..(start_of(size, 0) - old) as usize);
        self.published = size;
    }
}

/// Where the tile of a level begins that is not full in a log of `size` entries.
fn start_of(size: u64, level: u32) -> u64 {
    Kind::Hashes(level).items(size) / WIDTH * WIDTH
}

fn gone() -> Error {
    Error::internal("log: an entry that is not published is not in memory")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::merkle::root;

    fn entry(number: u64) -> Bytes {
        Bytes::from(number.to_be_bytes().to_vec())
    }

    /// Adds entries in portions, publishing after each, and compares with hashing everything.
    #[test]
    fn the_end_has_the_root_and_the_nodes_of_the_whole_tree_whatever_is_published() {
        let mut tail = Tail::new(0, Vec::new(), Vec::new());
        let mut leaves: Vec<Digest> = Vec::new();
        for (step, portion) in [1, 2, 252, 1, 1, 255, 90, 600, 65_000, 3].into_iter().enumerate() {
            let mut additions = tail.additions();
            for number in tail.size()..tail.size() + portion {
                leaves.push(leaf_hash(entry(number)));
                additions.push(entry(number));
            }
            assert_eq!(additions.peaks.root(), root(&leaves));
            tail.add(additions);
            assert_eq!(tail.root(), root(&leaves));
            let size = tail.size();
            if step % 3 != 1 {
                tail.publish(size);
            }
            // What is loaded from tiles is what was built up.
            let tiles = edge(size).map(|(kind, index, width)| {
                let Kind::Hashes(level) = kind else { panic!("{kind:?}") };
                let first = index * WIDTH;
                let subtree = |at: u64| {
                    let length = 1_usize << (HEIGHTS * level);
                    root(&leaves[at as usize * length..][..length])
                };
                (first..first + width).map(subtree).collect()
            });
            let start = size / WIDTH * WIDTH;
            let loaded = Tail::new(size, tiles.collect(), (start..size).map(entry).collect());
            assert_eq!(loaded.root(), tail.root(), "{size}");
            for height in 0..20 {
                let last = (size >> height).saturating_sub(1);
                let there = size >> height > start_of(size, height / 8) >> (height % 8);
                assert_eq!(loaded.node(height, last).is_some(), there, "{size} {height}");
                if let Some(found) = loaded.node(height, last) {
                    assert_eq!(Some(found), tail.node(height, last), "{size} {height}");
                }
            }
            assert_eq!(loaded.entry(size - 1).is_some(), !size.is_multiple_of(WIDTH));
        }
    }
}
