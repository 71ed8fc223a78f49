//! Proofs from tiles.

use std::ops::Range;
use std::sync::Arc;

use kaizen_core::{Context, Digest, Error, ErrorKind, Result};

use super::{Inner, lock};
use crate::hashes::{FullTile, TileKey, hash_of, tile_of, within};
use crate::tail::{HEIGHTS, Tail};
use crate::tiles::{self, Kind, WIDTH};

impl Inner {
    /// The hashes over these ranges, if everything that they take is in memory, and nobody is at
    /// it just now.
    pub(super) fn prove_from_memory(
        &self,
        size: u64,
        ranges: &[Range<u64>],
    ) -> Option<Vec<Digest>> {
        let known = self.state.try_lock().ok()?;
        let tail = &known.as_ref()?.tail;
        if size > tail.size() {
            return None;
        }
        let mut cache = self.tiles.try_lock().ok()?;
        let mut node = |height, index| {
            let held = tail.node(height, index).or_else(|| {
                let tile = cache.get(tile_of(height, index))?;
                within(&tile, height, index)
            });
            held.context(ErrorKind::NotFound, "")
        };
        ranges.iter().map(|range| hash_of(range.clone(), &mut node).ok()).collect()
    }

    /// The hashes over these ranges.
    pub(super) fn prove(&self, size: u64, ranges: &[Range<u64>]) -> Result<Vec<Digest>> {
        self.look(|state| {
            let now = state.tail.size();
            if size > now {
                return Err(Error::invalid(format!("log of {size} entries: there are {now}")));
            }
            let mut node = |height, index| self.node(&state.tail, height, index);
            ranges.iter().map(|range| hash_of(range.clone(), &mut node)).collect()
        })
    }

    /// The hash of a perfect subtree: from memory, or from its tile.
    pub(super) fn node(&self, tail: &Tail, height: u32, index: u64) -> Result<Digest> {
        if let Some(hash) = tail.node(height, index) {
            return Ok(hash);
        }
        let tile = self.tile(tail, tile_of(height, index))?;
        within(&tile, height, index).context(ErrorKind::Internal, "log: a hash beyond its tile")
    }

    /// A full tile, whose root the tile above it must give. That one was checked in the same way,
    /// up to the right edge, which has the root that was signed.
    pub(super) fn tile(&self, tail: &Tail, key: TileKey) -> Result<Arc<FullTile>> {
        if let Some(tile) = lock(&self.tiles).get(key) {
            return Ok(tile);
        }
        let (level, index) = key;
        let path = Kind::Hashes(level).full(&self.dir, index);
        let bytes = Kind::Hashes(level).read_file(&path)?;
        let bytes =
            bytes.context(ErrorKind::Corrupt, format!("{}: it is missing", path.display()))?;
        let tile = Arc::new(FullTile::new(tiles::hashes_of(&path, &bytes, WIDTH)?));
        if tile.root() != self.node(tail, HEIGHTS * (level + 1), index)? {
            let path = path.display();
            return Err(Error::corrupt(format!(
                "{path}: not the hashes that the tile above gives"
            )));
        }
        lock(&self.tiles).put(key, Arc::clone(&tile));
        Ok(tile)
    }
}
