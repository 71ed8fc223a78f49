//! Hashes of a log from its tiles, for proofs.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use kaizen_core::{Digest, Result};

use crate::merkle::{self, node_hash};
use crate::tail::HEIGHTS;
use crate::tiles::WIDTH;

/// Level and index of a full tile of hashes.
pub(crate) type TileKey = (u32, u64);

/// A full tile with all hashes between its bottom row and its root.
#[derive(Debug)]
pub(crate) struct FullTile {
    rows: Vec<Vec<Digest>>,
    root: Digest,
}

impl FullTile {
    /// The tile with this bottom row of 256 hashes.
    pub(crate) fn new(bottom: Vec<Digest>) -> Self {
        let root = merkle::root(&bottom);
        let mut rows = vec![bottom];
        for height in 1..HEIGHTS as usize {
            let (pairs, _) = rows[height - 1].as_chunks::<2>();
            rows.push(pairs.iter().map(|[left, right]| node_hash(left, right)).collect());
        }
        Self { rows, root }
    }

    /// The hash over all of it.
    pub(crate) fn root(&self) -> Digest {
        self.root
    }

    /// The bottom row.
    pub(crate) fn bottom(&self) -> &[Digest] {
        &self.rows[0]
    }

    fn node(&self, height: u32, index: u64) -> Option<Digest> {
        self.rows.get(height as usize)?.get(usize::try_from(index).ok()?).copied()
    }
}

/// Full tiles that were checked, up to some number of them; the one that was not used for the
/// longest time goes first.
#[derive(Debug, Default)]
pub(crate) struct TileCache {
    tiles: BTreeMap<TileKey, (u64, Arc<FullTile>)>,
    by_use: BTreeMap<u64, TileKey>,
    uses: u64,
}

impl TileCache {
    /// At most this many tiles, of 16 KiB each.
    const MOST: usize = 1024;

    /// The tile, if it is here.
    pub(crate) fn get(&mut self, key: TileKey) -> Option<Arc<FullTile>> {
        let (used, tile) = self.tiles.get_mut(&key)?;
        self.by_use.remove(used);
        self.uses += 1;
        *used = self.uses;
        self.by_use.insert(self.uses, key);
        Some(Arc::clone(tile))
    }

    /// Keeps a tile.
    pub(crate) fn put(&mut self, key: TileKey, tile: Arc<FullTile>) {
        self.uses += 1;
        if let Some((used, _)) = self.tiles.insert(key, (self.uses, tile)) {
            self.by_use.remove(&used);
        }
        self.by_use.insert(self.uses, key);
        if self.tiles.len() > Self::MOST
            && let Some((_, oldest)) = self.by_use.pop_first()
        {
            self.tiles.remove(&oldest);
        }
    }
}

/// The full tile that holds the hash of the `index`-th perfect subtree of 2^`height` entries.
pub(crate) fn tile_of(height: u32, index: u64) -> TileKey {
    (height / HEIGHTS, index / (WIDTH >> (height % HEIGHTS)))
}

/// That hash, from its tile.
pub(crate) fn within(tile: &FullTile, height: u32, index: u64) -> Option<Digest> {
    tile.node(height % HEIGHTS, index % (WIDTH >> (height % HEIGHTS)))
}

/// The root over a range of leaves that a proof is made of; `node` gives the hash of a perfect
/// subtree by its height and index.
pub(crate) fn hash_of<F>(range: Range<u64>, node: &mut F) -> Result<Digest>
where
    F: FnMut(u32, u64) -> Result<Digest>,
{
    let length = range.end - range.start;
    if length.is_power_of_two() && range.start.is_multiple_of(length) {
        let height = length.ilog2();
        return node(height, range.start >> height);
    }
    let middle = range.start + merkle::split(length);
    let left = hash_of(range.start..middle, node)?;
    Ok(node_hash(&left, &hash_of(middle..range.end, node)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tile_that_was_not_used_for_the_longest_time_goes_first() {
        let tile = Arc::new(FullTile::new(vec![Digest::of("x"); 256]));
        let mut cache = TileCache::default();
        for index in 0..TileCache::MOST as u64 {
            cache.put((0, index), Arc::clone(&tile));
        }
        assert!(cache.get((0, 0)).is_some());
        cache.put((1, 0), Arc::clone(&tile));
        assert!(cache.get((0, 0)).is_some() && cache.get((0, 1)).is_none());
        assert_eq!((cache.tiles.len(), cache.by_use.len()), (TileCache::MOST, TileCache::MOST));
    }
}
