//! Reading entries and proving, and copying the whole log.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use kaizen_core::{Bytes, Checkpoint, Context, Digest, Entry, Error, ErrorKind, Result};

use super::objects::name_of;
use super::state::{JOURNAL, State};
use super::{Inner, ObjectLog, lock};
use crate::files::blocking;
use crate::hashes::{FullTile, TileCache, TileKey, hash_of, tile_of, within};
use crate::local_log::export::{empty_dir, finish_export, place, tiles_with, to_export};
use crate::tail::{HEIGHTS, Tail, unread};
use crate::tiles::{self, Kind, WIDTH};

/// How many objects are read at the same time.
const AT_ONCE: usize = 8;

impl Inner {
    pub(super) async fn read(&self, indices: &Range<u64>) -> Result<Vec<Entry>> {
        let state = {
            let mut slot = self.state.lock().await;
            self.refresh(&mut slot).await?;
            slot.as_ref().ok_or_else(unread)?.clone()
        };
        let size = state.tail.size();
        if indices.start > indices.end || indices.end > size {
            let message = format!("{}: entries {indices:?} of {size}", self.name());
            return Err(Error::not_found(message));
        }
        self.known_pruning().check(indices, &self.name())?;
        let bytes = match self.bytes_at(&state, indices).await {
            // Somebody else may have pruned it of them.
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                self.pruning().await?.check(indices, &self.name())?;
                return Err(error);
            }
            bytes => bytes?,
        };
        let parsed = bytes.iter().zip(indices.clone()).map(|(entry, number)| {
            serde_json::from_slice(entry).map_err(|error| {
                let (published, index) = (state.published.size, number / WIDTH);
                let name = match number < published {
                    true => name_of(Kind::Entries, index, Kind::Entries.width(index, published)),
                    false => JOURNAL.to_owned(),
                };
                let place = self.folder.place(&name);
                Error::corrupt(format!("{place}: entry {number}")).with_source(error)
            })
        });
        parsed.collect()
    }

    /// The bytes of the entries at these indices, which the log has.
    pub(super) async fn bytes_at(&self, state: &State, indices: &Range<u64>) -> Result<Vec<Bytes>> {
        let published = state.published.size;
        let mut entries = Vec::new();
        let mut next = indices.start;
        while next < indices.end.min(published) {
            let index = next / WIDTH;
            let width = Kind::Entries.width(index, published);
            let leaves = self.leaves(&state.tail, index, width).await?;
            let bundle = self.bundle(index, width, &leaves).await?;
            let end = indices.end.min(index * WIDTH + width);
            let (from, to) = (next % WIDTH, end - index * WIDTH);
            entries.extend_from_slice(&bundle[from as usize..to as usize]);
            next = end;
        }
        entries.extend((next..indices.end).filter_map(|index| state.tail.entry(index).cloned()));
        Ok(entries)
    }

    /// The hashes of the entries of a published bundle.
    async fn leaves(&self, tail: &Tail, bundle: u64, width: u64) -> Result<Vec<Digest>> {
        if let Some(leaves) = tail.leaves(bundle).and_then(|leaves| leaves.get(..width as usize)) {
            return Ok(leaves.to_vec());
        }
        let tile = self.tile(tail, &self.tiles, (0, bundle)).await?;
        Ok(tile.bottom()[..width as usize].to_vec())
    }

    /// The hashes over these ranges.
    pub(super) async fn prove(&self, size: u64, ranges: &[Range<u64>]) -> Result<Vec<Digest>> {
        let tail = {
            let mut slot = self.state.lock().await;
            if slot.as_ref().is_none_or(|state| state.tail.size() < size) {
                self.refresh(&mut slot).await?;
            }
            slot.as_ref().ok_or_else(unread)?.tail.clone()
        };
        let now = tail.size();
        if size > now {
            return Err(Error::invalid(format!("log of {size} entries: there are {now}")));
        }
        self.hashes(&tail, &self.tiles, ranges).await
    }

    /// The hashes over these ranges, which this end of the log has. What is in `cache` is believed.
    pub(super) async fn hashes(
        &self,
        tail: &Tail,
        cache: &Mutex<TileCache>,
        ranges: &[Range<u64>],
    ) -> Result<Vec<Digest>> {
        loop {
            let mut missing = None;
            let mut node = |height, index| {
                let held = tail.node(height, index).or_else(|| {
                    let tile = lock(cache).get(tile_of(height, index))?;
                    within(&tile, height, index)
                });
                if held.is_none() {
                    missing.get_or_insert(tile_of(height, index));
                }
                held.context(ErrorKind::Internal, "log: a hash beyond its tile")
            };
            let proof = ranges.iter().map(|range| hash_of(range.clone(), &mut node)).collect();
            match missing {
                Some(key) => self.tile(tail, cache, key).await?,
                None => return proof,
            };
        }
    }

    /// A full tile, whose root the tile above it must give. That one was checked in the same way,
    /// up to the right edge, which has the root that was signed.
    async fn tile(
        &self,
        tail: &Tail,
        cache: &Mutex<TileCache>,
        key: TileKey,
    ) -> Result<Arc<FullTile>> {
        // From this one up to the first whose root is known already, then down again.
        let mut path = vec![key];
        let mut above = loop {
            let (level, index) = path[path.len() - 1];
            if let Some(tile) = lock(cache).get((level, index)) {
                path.pop();
                match path.last() {
                    None => return Ok(tile),
                    Some((level, index)) => break within(&tile, HEIGHTS * (level + 1), *index),
                }
            }
            let height = HEIGHTS * (level + 1);
            if let Some(hash) = tail.node(height, index) {
                break Some(hash);
            }
            path.push(tile_of(height, index));
        };
        let mut found = None;
        while let Some((level, index)) = path.pop() {
            let (shown, bytes) = self.folder.tile(Kind::Hashes(level), index, WIDTH).await?;
            let tile = Arc::new(FullTile::new(tiles::hashes_of(shown.as_ref(), &bytes, WIDTH)?));
            if Some(tile.root()) != above {
                let message = format!("{shown}: not the hashes that the tile above gives");
                return Err(Error::corrupt(message));
            }
            lock(cache).put((level, index), Arc::clone(&tile));
            if let Some((level, index)) = path.last() {
                above = within(&tile, HEIGHTS * (level + 1), *index);
            }
            found = Some(tile);
        }
        found.context(ErrorKind::Internal, "log: no tile")
    }

    /// Copies the tiles that a log of this size has, of entries only those.
    async fn copy_tiles(&self, dir: &Path, size: u64, entries: &Range<u64>) -> Result<()> {
        let copies = tiles_with(size, entries).map(|(kind, index, width)| {
            let path = kind.path(dir, index, width);
            async move {
                let (_, bytes) = self.folder.tile(kind, index, width).await?;
                blocking(move || place(&[(path, bytes.to_vec())])).await
            }
        });
        stream::iter(copies).buffer_unordered(AT_ONCE).try_collect().await
    }
}

impl ObjectLog {
    pub(super) async fn export_part(
        &self,
        dir: PathBuf,
        part: Option<Range<u64>>,
    ) -> Result<Checkpoint> {
        let to = dir.clone();
        blocking(move || empty_dir(&to)).await?;
        loop {
            // Before the checkpoint, which then covers the entry that the mark points to.
            let pruning = self.0.pruning().await?;
            let checkpoint = self.publish().await?;
            let entries = to_export(part.clone(), &pruning, checkpoint.size, &self.0.name())?;
            match self.0.copy_tiles(&dir, checkpoint.size, &entries).await {
                // It was pruned meanwhile: what is left is copied.
                Err(error)
                    if error.kind() == ErrorKind::Corrupt && self.0.pruning().await? != pruning => {
                }
                Err(error) => return Err(error),
                Ok(()) => {
                    let mark = part.is_none().then_some(pruning);
                    return blocking(move || {
                        finish_export(&dir, &checkpoint, mark.as_ref())?;
                        Ok(checkpoint)
                    })
                    .await;
                }
            }
        }
    }
}
