//! The files of a log by C2SP tlog-tiles: where each lies and what it holds.

use std::path::{Path, PathBuf};

use kaizen_core::{Context, Digest, Error, ErrorKind, Result};

use crate::files;
use crate::merkle::{self, root};

/// How many hashes or entries a full tile or bundle holds.
pub(crate) const WIDTH: u64 = 256;
const HASH: usize = 32;
/// Levels of tiles that a log of 64-bit size may have.
const LEVELS: u32 = 8;

/// Which sequence of tiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Bundles of entries.
    Entries,
    /// Hashes: level 0 holds those of entries, each further level one for each full tile below.
    Hashes(u32),
}

impl Kind {
    /// How many items the whole sequence holds in a log of `size` entries.
    pub(crate) fn items(self, size: u64) -> u64 {
        match self {
            Self::Entries => size,
            Self::Hashes(level) => {
                level.checked_mul(8).and_then(|bits| size.checked_shr(bits)).unwrap_or(0)
            }
        }
    }

    /// The sequence whose folder below `tile` has this name.
    pub(crate) fn from_folder(name: &str) -> Option<Self> {
        if name == "entries" {
            return Some(Self::Entries);
        }
        // Above them all sizes have ended. A name has one form: no sign, no leading zeros.
        let level = name.parse().ok().filter(|level| *level < LEVELS)?;
        (Self::Hashes(level).folder() == format!("tile/{name}")).then_some(Self::Hashes(level))
    }

    /// How many items tile `index` holds in a log of `size` entries: 256, fewer, or none.
    pub(crate) fn width(self, index: u64, size: u64) -> u64 {
        self.items(size).saturating_sub(index.saturating_mul(WIDTH)).min(WIDTH)
    }

    fn folder(self) -> String {
        match self {
            Self::Entries => "tile/entries".to_owned(),
            Self::Hashes(level) => format!("tile/{level}"),
        }
    }

    /// The file of a full tile.
    pub(crate) fn full(self, dir: &Path, index: u64) -> PathBuf {
        dir.join(self.folder()).join(index_path(index))
    }

    /// The folder of a tile's partial forms.
    pub(crate) fn partials(self, dir: &Path, index: u64) -> PathBuf {
        dir.join(self.folder()).join(format!("{}.p", index_path(index)))
    }

    /// The file of a tile that holds `width` items.
    pub(crate) fn path(self, dir: &Path, index: u64, width: u64) -> PathBuf {
        if width == WIDTH {
            self.full(dir, index)
        } else {
            self.partials(dir, index).join(width.to_string())
        }
    }

    /// Reads the first `width` items of a tile, which must be there.
    pub(crate) fn read(self, dir: &Path, index: u64, width: u64) -> Result<(PathBuf, Vec<u8>)> {
        let missing = || format!("{}: it is missing", self.path(dir, index, width).display());
        self.find(dir, index, width)?.context(ErrorKind::Corrupt, missing())
    }

    /// Reads the first `width` items of a tile, if it is there. Where the partial form is gone, the
    /// full one serves: whoever completes a tile may remove its partial forms.
    pub(crate) fn find(
        self,
        dir: &Path,
        index: u64,
        width: u64,
    ) -> Result<Option<(PathBuf, Vec<u8>)>> {
        let path = self.path(dir, index, width);
        if let Some(bytes) = self.read_file(&path)? {
            return Ok(Some((path, bytes)));
        }
        if width == WIDTH {
            return Ok(None);
        }
        let full = self.full(dir, index);
        let Some(mut bytes) = self.read_file(&full)? else { return Ok(None) };
        bytes.truncate(self.beginning(&full, &bytes, width)?);
        Ok(Some((full, bytes)))
    }

    /// The bytes of a tile's file, or `None` if there is none. One that is longer than any tile is
    /// not read to its end.
    pub(crate) fn read_file(self, path: &Path) -> Result<Option<Vec<u8>>> {
        files::read_whole(path, self.most_bytes() as u64)
    }

    /// How many bytes the first `width` items of a tile take.
    pub(crate) fn beginning(self, path: &Path, bytes: &[u8], width: u64) -> Result<usize> {
        Ok(match self {
            Self::Entries => entries_of(path, bytes)?.take(width as usize).map(stored).sum(),
            Self::Hashes(_) => bytes.len().min(width as usize * HASH),
        })
    }

    /// The most bytes that a tile has.
    pub(crate) fn most_bytes(self) -> usize {
        WIDTH as usize * if self == Self::Entries { 2 + usize::from(u16::MAX) } else { HASH }
    }
}

/// `1234067` as `x001/x234/067`.
fn index_path(index: u64) -> String {
    let mut path = format!("{:03}", index % 1000);
    let mut rest = index / 1000;
    while rest > 0 {
        path = format!("x{:03}/{path}", rest % 1000);
        rest /= 1000;
    }
    path
}

/// The index and width that a path below a sequence's folder stands for; `None` for a stranger.
pub(crate) fn parse_path(path: &Path) -> Option<(u64, u64)> {
    let parts: Option<Vec<_>> = path.iter().map(|part| part.to_str()).collect();
    let mut parts = parts?;
    let mut width = WIDTH;
    if parts.len() >= 2 && parts[parts.len() - 2].ends_with(".p") {
        let name = parts.pop()?;
        width = name.parse().ok().filter(|width| (1..WIDTH).contains(width))?;
        if name != width.to_string() {
            return None;
        }
    }
    let (last, groups) = parts.split_last()?;
    let last = if width < WIDTH { last.strip_suffix(".p")? } else { last };
    let mut index = 0_u64;
    for group in groups {
        index = index.checked_mul(1000)?.checked_add(three_digits(group.strip_prefix('x')?)?)?;
    }
    index = index.checked_mul(1000)?.checked_add(three_digits(last)?)?;
    Some((index, width))
}

/// Whether tiles of a sequence may lie in a folder of this path below that of the sequence.
pub(crate) fn is_folder(path: &Path) -> bool {
    let last = path.file_name().and_then(|name| name.to_str());
    let number = last.and_then(|name| name.strip_prefix('x').or(name.strip_suffix(".p")));
    number.and_then(three_digits).is_some()
}

fn three_digits(text: &str) -> Option<u64> {
    let plain = text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_digit());
    if plain { text.parse().ok() } else { None }
}

/// Appends an entry to a bundle: its length in two bytes, then its bytes.
pub(crate) fn push_entry(bundle: &mut Vec<u8>, entry: &[u8]) -> Result<()> {
    let length = u16::try_from(entry.len())
        .context(ErrorKind::Invalid, format!("log entry of {} bytes: over 65535", entry.len()))?;
    bundle.extend(length.to_be_bytes());
    bundle.extend(entry);
    Ok(())
}

fn stored(entry: &[u8]) -> usize {
    2 + entry.len()
}

/// The entries of a bundle.
pub(crate) fn entries_of<'a>(
    path: &Path,
    mut bundle: &'a [u8],
) -> Result<impl Iterator<Item = &'a [u8]>> {
    let mut entries = Vec::new();
    while !bundle.is_empty() {
        let entry = bundle.split_first_chunk::<2>().and_then(|(length, rest)| {
            rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
        });
        let Some((entry, rest)) = entry else {
            let at = entries.len();
            return Err(Error::corrupt(format!("{}: cut off in entry {at}", path.display())));
        };
        entries.push(entry);
        bundle = rest;
    }
    Ok(entries.into_iter())
}

/// The entries of a bundle that must hold `width` of them.
pub(crate) fn exact_entries<'a>(
    path: &Path,
    bundle: &'a [u8],
    width: u64,
) -> Result<Vec<&'a [u8]>> {
    let entries: Vec<_> = entries_of(path, bundle)?.collect();
    if entries.len() as u64 != width {
        let found = entries.len();
        return Err(Error::corrupt(format!("{}: {found} entries, not {width}", path.display())));
    }
    Ok(entries)
}

/// The hashes of a tile that must hold `width` of them.
pub(crate) fn hashes_of(path: &Path, tile: &[u8], width: u64) -> Result<Vec<Digest>> {
    if tile.len() as u64 != width * HASH as u64 {
        let found = tile.len();
        let path = path.display();
        return Err(Error::corrupt(format!("{path}: {found} bytes, not {width} hashes of 32")));
    }
    let (hashes, _) = tile.as_chunks::<HASH>();
    Ok(hashes.iter().map(|hash| Digest::from_bytes(*hash)).collect())
}

/// The bytes of a tile.
pub(crate) fn tile_bytes(hashes: &[Digest]) -> Vec<u8> {
    hashes.iter().flat_map(|hash| *hash.as_bytes()).collect()
}

/// The right edge of a tree of tiles: at each level the hashes of the tile that is not yet full.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tree {
    pub(crate) size: u64,
    pub(crate) edge: Vec<Vec<Digest>>,
}

impl Tree {
    /// Adds a leaf. `full` receives each tile that it fills: kind, index, hashes.
    pub(crate) fn push<F>(&mut self, leaf: Digest, mut full: F) -> Result<()>
    where
        F: FnMut(Kind, u64, &[Digest]) -> Result<()>,
    {
        self.carry(leaf, 0, self.size, &mut full)?;
        self.size += 1;
        Ok(())
    }

    /// Adds a full tile of leaves, by its root, where a tile begins. `full` receives the tiles
    /// above it that it fills.
    pub(crate) fn push_tile<F>(&mut self, root: Digest, mut full: F) -> Result<()>
    where
        F: FnMut(Kind, u64, &[Digest]) -> Result<()>,
    {
        if self.edge.is_empty() {
            self.edge.push(Vec::new());
        }
        self.carry(root, 1, self.size + WIDTH - 1, &mut full)?;
        self.size += WIDTH;
        Ok(())
    }

    /// Adds a hash at a level; `index` is that of the last leaf below it.
    fn carry<F>(
        &mut self,
        mut hash: Digest,
        mut level: usize,
        index: u64,
        full: &mut F,
    ) -> Result<()>
    where
        F: FnMut(Kind, u64, &[Digest]) -> Result<()>,
    {
        loop {
            if self.edge.len() == level {
                self.edge.push(Vec::new());
            }
            let tile = &mut self.edge[level];
            tile.push(hash);
            if (tile.len() as u64) < WIDTH {
                return Ok(());
            }
            let kind = Kind::Hashes(level as u32);
            full(kind, kind.items(index) / WIDTH, tile)?;
            hash = root(tile);
            tile.clear();
            level += 1;
        }
    }

    /// The tiles at the edge that hold something, from the bottom up: kind, index, hashes.
    pub(crate) fn partials(&self) -> impl Iterator<Item = (Kind, u64, &[Digest])> {
        self.edge.iter().enumerate().filter(|(_, tile)| !tile.is_empty()).map(|(level, tile)| {
            let kind = Kind::Hashes(level as u32);
            (kind, kind.items(self.size) / WIDTH, tile.as_slice())
        })
    }

    /// The root over all leaves.
    pub(crate) fn root(&self) -> Digest {
        // From the right: each tile is a row of perfect subtrees, larger ones first.
        let mut whole: Option<Digest> = None;
        for mut row in self.edge.iter().map(Vec::as_slice) {
            while let Some(last) = row.len().checked_sub(1) {
                // The rightmost perfect subtree is as long as the lowest set bit of the length.
                let (rest, subtree) = row.split_at(last + 1 - (1 << row.len().trailing_zeros()));
                let hash = root(subtree);
                whole = Some(whole.map_or(hash, |right| merkle::node_hash(&hash, &right)));
                row = rest;
            }
        }
        whole.unwrap_or_else(|| root(&[]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The worked example of the specification: a log of 70,000 entries.
    #[test]
    fn the_files_of_seventy_thousand_entries_are_those_of_the_specification() {
        let widths = |level, index| Kind::Hashes(level).width(index, 70_000);
        assert_eq!([widths(0, 272), widths(0, 273), widths(0, 274)], [256, 112, 0]);
        assert_eq!([widths(1, 0), widths(1, 1), widths(2, 0), widths(3, 0)], [256, 17, 1, 0]);
        let dir = Path::new("");
        let path = Kind::Hashes(0).path(dir, 273, 112);
        assert_eq!(path, Path::new("tile/0/273.p/112"));
        let far = Kind::Entries.path(dir, 1_234_067, WIDTH);
        assert_eq!(far, Path::new("tile/entries/x001/x234/067"));
    }

    #[test]
    fn paths_lead_back_to_their_tiles() {
        for (index, width) in [(0, 256), (5, 1), (999, 256), (1000, 255), (1_234_067, 17)] {
            let path = Kind::Entries.path(Path::new(""), index, width);
            let below = path.strip_prefix("tile/entries").unwrap();
            assert_eq!(parse_path(below), Some((index, width)), "{}", path.display());
        }
        for stranger in [
            "",
            "x",
            "00",
            "000.p/256",
            "000.p/0",
            "000.p/+1",
            "000.p/007",
            ".000.tmp",
            "y001/000",
            "000/1",
        ] {
            assert_eq!(parse_path(Path::new(stranger)), None, "{stranger}");
        }
    }

    #[test]
    fn a_folder_stands_for_one_sequence_or_none() {
        assert_eq!(Kind::from_folder("entries"), Some(Kind::Entries));
        assert_eq!(Kind::from_folder("7"), Some(Kind::Hashes(7)));
        for stranger in ["", "8", "+1", "01", "536870912", "4294967295", "-1", "x"] {
            assert_eq!(Kind::from_folder(stranger), None, "{stranger}");
        }
        assert_eq!(Kind::Hashes(u32::MAX).width(0, u64::MAX), 0);
    }

    #[test]
    fn the_edge_has_the_root_of_the_tree() {
        let mut tree = Tree::default();
        let mut leaves = Vec::new();
        let mut full = 0;
        for number in 0..70_000_u32 {
            let leaf = merkle::leaf_hash(number.to_be_bytes());
            leaves.push(leaf);
            tree.push(leaf, |_, _, _| {
                full += 1;
                Ok(())
            })
            .unwrap();
            if number < 600 || number % 9_973 == 0 || number == 65_535 || number == 69_999 {
                assert_eq!(tree.root(), root(&leaves), "{number}");
            }
        }
        assert_eq!(full, 273 + 1);
        let partials: Vec<_> = tree.partials().map(|(_, index, row)| (index, row.len())).collect();
        assert_eq!(partials, [(273, 112), (1, 17), (0, 1)]);
    }
}
