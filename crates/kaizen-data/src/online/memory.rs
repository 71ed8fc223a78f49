//! An online store in memory.

use std::collections::BTreeMap;
use std::hash::BuildHasher as _;
use std::sync::{PoisonError, RwLock};

use hashbrown::{DefaultHashBuilder, HashTable};
use kaizen_core::{Bytes, Context, ErrorKind, Result, async_trait};
use kaizen_table::{OnlineEntry, OnlinePage, OnlineStore};

/// So many bytes come from memory at once.
const LINE: usize = 64;

/// Keeps everything in memory; it is gone with the program.
#[derive(Debug, Default)]
pub struct MemoryOnlineStore(RwLock<BTreeMap<String, Space>>);

/// The entries of a space. A hash table finds their places, which do not move; a page walks them.
#[derive(Debug, Default)]
struct Space {
    places: Vec<Option<Entry>>,
    /// The hash of each key, and its place.
    place_of: HashTable<(u64, usize)>,
    hasher: DefaultHashBuilder,
    free: Vec<usize>,
}

/// A key and its value, one after the other: to look at both is to wait for memory once.
#[derive(Debug)]
struct Entry {
    bytes: Box<[u8]>,
    key: usize,
}

impl Entry {
    fn new(key: &[u8], value: &[u8]) -> Self {
        Self { bytes: [key, value].concat().into(), key: key.len() }
    }

    fn key(&self) -> &[u8] {
        &self.bytes[..self.key]
    }

    fn value(&self) -> &[u8] {
        &self.bytes[self.key..]
    }

    fn is(&self, key: &[u8]) -> bool {
        self.key() == key
    }
}

impl Space {
    fn entry(&self, place: usize) -> Option<&Entry> {
        self.places.get(place)?.as_ref()
    }

    fn place(&self, hash: u64, key: &[u8]) -> Option<usize> {
        let is = |(other, place): &(u64, usize)| {
            *other == hash && self.entry(*place).is_some_and(|entry| entry.is(key))
        };
        self.place_of.find(hash, is).map(|(_, place)| *place)
    }

    /// The values of these keys. It goes in steps over all keys, each of which waits for memory
    /// without the next key having to wait for it.
    fn get(&self, keys: &[Bytes]) -> Vec<Option<Bytes>> {
        let hashes = keys.iter().map(|key| self.hasher.hash_one(&key[..]));
        let hashes: Vec<u64> = hashes.collect();
        let near = |hash: &u64| self.place_of.find(*hash, |(other, _)| other == hash);
        let places: Vec<Option<usize>> =
            hashes.iter().map(|hash| near(hash).map(|(_, place)| *place)).collect();
        let entries: Vec<Option<&Entry>> =
            places.iter().map(|place| place.and_then(|place| self.entry(place))).collect();
        let touched = entries
            .iter()
            .flatten()
            .map(|entry| entry.bytes.iter().step_by(LINE).fold(0, |sum: u8, byte| sum ^ byte));
        std::hint::black_box(touched.fold(0, |sum, byte| sum ^ byte));
        let found = keys.iter().zip(&hashes).zip(entries);
        let values: Vec<Option<&[u8]>> =
            found.map(|((key, hash), entry)| self.value(key, *hash, entry?)).collect();
        copied(&values)
    }

    /// The value of a key, where an entry with its hash was found.
    fn value<'a>(&'a self, key: &[u8], hash: u64, found: &'a Entry) -> Option<&'a [u8]> {
        if found.is(key) {
            return Some(found.value());
        }
        // It is that of another key with the same hash.
        self.entry(self.place(hash, key)?).map(Entry::value)
    }

    fn insert(&mut self, key: &[u8], value: &[u8]) {
        let hash = self.hasher.hash_one(key);
        let place = self.place(hash, key).unwrap_or_else(|| {
            let place = self.free.pop().unwrap_or(self.places.len());
            if place == self.places.len() {
                self.places.push(None);
            }
            self.place_of.insert_unique(hash, (hash, place), |(hash, _)| *hash);
            place
        });
        self.places[place] = Some(Entry::new(key, value));
    }

    fn remove(&mut self, key: &[u8]) {
        let hash = self.hasher.hash_one(key);
        let Some(place) = self.place(hash, key) else { return };
        if let Ok(found) = self.place_of.find_entry(hash, |(_, other)| *other == place) {
            found.remove();
        }
        self.places[place] = None;
        self.free.push(place);
    }

    fn page(&self, from: usize, most: usize) -> OnlinePage {
        let rest = self.places.iter().enumerate().skip(from);
        let filled = rest.filter_map(|(place, entry)| Some((place, entry.as_ref()?)));
        let mut filled = filled.peekable();
        let copy = Bytes::copy_from_slice;
        let both = |entry: &Entry| (copy(entry.key()), copy(entry.value()));
        let entries = filled.by_ref().take(most).map(|(_, entry)| both(entry)).collect();
        let next = filled.peek().map(|(place, _)| place.to_string().into());
        OnlinePage { entries, next }
    }
}

#[async_trait]
impl OnlineStore for MemoryOnlineStore {
    async fn get(&self, space: &str, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>> {
        let spaces = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let Some(space) = spaces.get(space) else { return Ok(vec![None; keys.len()]) };
        Ok(space.get(keys))
    }

    async fn put(&self, entries: Vec<OnlineEntry>) -> Result<()> {
        let mut spaces = self.0.write().unwrap_or_else(PoisonError::into_inner);
        for OnlineEntry { space, key, value } in entries {
            match (spaces.get_mut(&space), value) {
                (Some(held), Some(value)) => held.insert(&key, &value),
                (None, Some(value)) => spaces.entry(space).or_default().insert(&key, &value),
                (Some(held), None) => held.remove(&key),
                (None, None) => {}
            }
        }
        spaces.retain(|_, space| !space.place_of.is_empty());
        Ok(())
    }

    async fn spaces(&self) -> Result<Vec<String>> {
        let spaces = self.0.read().unwrap_or_else(PoisonError::into_inner);
        Ok(spaces.keys().cloned().collect())
    }

    async fn page(&self, space: &str, after: Option<&Bytes>, most: usize) -> Result<OnlinePage> {
        let from = place(after)?;
        let spaces = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let page = |space: &Space| space.page(from, most.max(1));
        Ok(spaces.get(space).map(page).unwrap_or_default())
    }
}

/// Copies of these values, all in one allocation.
fn copied(values: &[Option<&[u8]>]) -> Vec<Option<Bytes>> {
    let all: Vec<&[u8]> = values.iter().flatten().copied().collect();
    let all = Bytes::from(all.concat());
    let mut start = 0;
    let mut slice = |value: &[u8]| {
        let end = start + value.len();
        let own = all.slice(start..end);
        start = end;
        own
    };
    values.iter().map(|value| value.map(&mut slice)).collect()
}

/// The place at which a page begins, which is what the page before says.
pub(super) fn place(after: Option<&Bytes>) -> Result<usize> {
    let Some(after) = after else { return Ok(0) };
    let text = std::str::from_utf8(after).ok();
    let place = text.and_then(|text| text.parse().ok());
    place.context(ErrorKind::Invalid, "a page after something of another store")
}
