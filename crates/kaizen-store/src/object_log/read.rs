//! Reading entries and proving, and copying the whole log.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use kaizen_core::{Bytes, Checkpoint, Context, Digest, Entry, Error, ErrorKind, Result};

use super::{Inner, lock};
use crate::files::{self, Disk, blocking};
use crate::hashes::{FullTile, TileKey, hash_of, tile_of, within};
use crate::local_log::export::{all_tiles, empty_dir, place};
use crate::tail::{HEIGHTS, Tail, unread};
use crate::tiles::{self, Kind, WIDTH};

/// How many objects are read at the same time.
const AT_ONCE: usize = 8;

impl Inner {
    pub(super) async fn read(&self, indices: &Range<u64>) -> Result<Vec<Entry>> {
        let (tail, published, recent) = {
            let mut slot = self.state.lock().await;
            self.refresh(&mut slot).await?;
            let state = slot.as_ref().ok_or_else(unread)?;
            let size = state.tail.size();
            if indices.start > indices.end || indices.end > size {
                return Err(Error::not_found(format!("log entries {indices:?} of {size}")));
            }
            let published = state.published.size;
            let recent = indices.start.max(published)..indices.end;
            let recent = recent.filter_map(|index| state.tail.entry(index).cloned());
            (state.tail.clone(), published, recent.collect::<Vec<Bytes>>())
        };
        let mut entries = Vec::new();
        let mut next = indices.start;
        while next < indices.end.min(published) {
            let index = next / WIDTH;
            let width = Kind::Entries.width(index, published);
            let bundle =
                self.bundle(index, width, &self.leaves(&tail, index, width).await?).await?;
            let end = indices.end.min(index * WIDTH + width);
            for (entry, number) in bundle.iter().skip((next % WIDTH) as usize).zip(next..end) {
                entries.push(parse(entry, number)?);
            }
            next = end;
        }
        for (entry, number) in recent.iter().zip(next..) {
            entries.push(parse(entry, number)?);
        }
        Ok(entries)
    }

    /// The hashes of the entries of a published bundle.
    async fn leaves(&self, tail: &Tail, bundle: u64, width: u64) -> Result<Vec<Digest>> {
        if let Some(leaves) = tail.leaves(bundle).and_then(|leaves| leaves.get(..width as usize)) {
            return Ok(leaves.to_vec());
        }
        let tile = self.tile(tail, (0, bundle)).await?;
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
        loop {
            let mut missing = None;
            let mut node = |height, index| {
                let held = tail.node(height, index).or_else(|| {
                    let tile = lock(&self.tiles).get(tile_of(height, index))?;
                    within(&tile, height, index)
                });
                if held.is_none() {
                    missing.get_or_insert(tile_of(height, index));
                }
                held.context(ErrorKind::Internal, "log: a hash beyond its tile")
            };
            let proof = ranges.iter().map(|range| hash_of(range.clone(), &mut node)).collect();
            match missing {
                Some(key) => self.tile(&tail, key).await?,
                None => return proof,
            };
        }
    }

    /// A full tile, whose root the tile above it must give. That one was checked in the same way,
    /// up to the right edge, which has the root that was signed.
    async fn tile(&self, tail: &Tail, key: TileKey) -> Result<Arc<FullTile>> {
        // From this one up to the first whose root is known already, then down again.
        let mut path = vec![key];
        let mut above = loop {
            let (level, index) = path[path.len() - 1];
            if let Some(tile) = lock(&self.tiles).get((level, index)) {
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
            let (shown, bytes) = self.objects.tile(Kind::Hashes(level), index, WIDTH).await?;
            let tile = Arc::new(FullTile::new(tiles::hashes_of(shown.as_ref(), &bytes, WIDTH)?));
            if Some(tile.root()) != above {
                let message = format!("{shown}: not the hashes that the tile above gives");
                return Err(Error::corrupt(message));
            }
            lock(&self.tiles).put((level, index), Arc::clone(&tile));
            if let Some((level, index)) = path.last() {
                above = within(&tile, HEIGHTS * (level + 1), *index);
            }
            found = Some(tile);
        }
        found.context(ErrorKind::Internal, "log: no tile")
    }

    pub(super) async fn export(&self, dir: PathBuf, checkpoint: Checkpoint) -> Result<Checkpoint> {
        let to = dir.clone();
        blocking(move || empty_dir(&to)).await?;
        let copies = all_tiles(checkpoint.size).map(|(kind, index, width)| {
            let path = kind.path(&dir, index, width);
            async move {
                let (_, bytes) = self.objects.tile(kind, index, width).await?;
                blocking(move || place(&[(path, bytes.to_vec())])).await
            }
        });
        stream::iter(copies).buffer_unordered(AT_ONCE).try_collect::<()>().await?;
        let note = checkpoint.note.clone();
        blocking(move || files::publish(&Disk, &dir.join("checkpoint"), note.as_bytes())).await?;
        Ok(checkpoint)
    }
}

fn parse(entry: &[u8], number: u64) -> Result<Entry> {
    serde_json::from_slice(entry).context(ErrorKind::Corrupt, format!("log entry {number}"))
}
