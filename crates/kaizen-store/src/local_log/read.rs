//! Reading entries.

use std::ops::Range;

use kaizen_core::{Bytes, Digest, Entry, Error, ErrorKind, Result};

use super::{Inner, lock};
use crate::tiles::{Kind, WIDTH};

impl Inner {
    pub(super) fn read(&self, indices: &Range<u64>) -> Result<Vec<Entry>> {
        let log = format!("log {}", self.dir.display());
        self.pruning()?.check(indices, &log)?;
        let read = self.read_kept(indices, &log);
        if read.as_ref().is_err_and(|error| error.kind() == ErrorKind::Corrupt) {
            // It may have been pruned meanwhile.
            self.pruning()?.check(indices, &log)?;
        }
        read
    }

    fn read_kept(&self, indices: &Range<u64>, log: &str) -> Result<Vec<Entry>> {
        let (published, recent) = self.look(|state| {
            let size = state.tail.size();
            if indices.start > indices.end || indices.end > size {
                return Err(Error::not_found(format!("{log}: entries {indices:?} of {size}")));
            }
            let published = state.published.size;
            let recent = indices.start.max(published)..indices.end;
            let recent = recent.filter_map(|index| state.tail.entry(index).cloned());
            Ok((published, recent.collect::<Vec<Bytes>>()))
        })?;
        let mut entries = Vec::new();
        let mut next = indices.start;
        while next < indices.end.min(published) {
            let index = next / WIDTH;
            let width = Kind::Entries.width(index, published);
            let bundle = self.bundle(index, width, &self.leaves(index, width)?)?;
            let first = index * WIDTH;
            let end = indices.end.min(first + width);
            for (entry, number) in bundle.iter().skip((next - first) as usize).zip(next..end) {
                let place = || Kind::Entries.path(&self.dir, index, width).display().to_string();
                entries.push(parse(entry, number, place)?);
            }
            next = end;
        }
        for (entry, number) in recent.iter().zip(next..) {
            entries.push(parse(entry, number, || self.journal.path().display().to_string())?);
        }
        Ok(entries)
    }

    /// The hashes of the entries of a published bundle.
    pub(super) fn leaves(&self, bundle: u64, width: u64) -> Result<Vec<Digest>> {
        let known = lock(&self.state);
        let state = known.as_ref().ok_or_else(crate::tail::unread)?;
        let held = state.tail.leaves(bundle).and_then(|leaves| leaves.get(..width as usize));
        match held {
            Some(leaves) => Ok(leaves.to_vec()),
            None => {
                let tile = self.tile(&state.tail, (0, bundle))?;
                Ok(tile.bottom()[..width as usize].to_vec())
            }
        }
    }
}

fn parse(entry: &[u8], number: u64, place: impl Fn() -> String) -> Result<Entry> {
    serde_json::from_slice(entry)
        .map_err(|error| Error::corrupt(format!("{}: entry {number}", place())).with_source(error))
}
