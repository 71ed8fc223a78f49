//! An online store in memory.

use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock};

use hashbrown::HashMap;
use kaizen_core::{Bytes, Context, ErrorKind, Result, async_trait};
use kaizen_table::{OnlineEntry, OnlinePage, OnlineStore};

/// Keeps everything in memory; it is gone with the program.
#[derive(Debug, Default)]
pub struct MemoryOnlineStore(RwLock<BTreeMap<String, Space>>);

/// The entries of a space. A hash map finds one; a page walks the places, which do not move.
#[derive(Debug, Default)]
struct Space {
    places: Vec<Option<(Bytes, Bytes)>>,
    place_of: HashMap<Bytes, usize>,
    free: Vec<usize>,
}

impl Space {
    fn get(&self, key: &Bytes) -> Option<Bytes> {
        let (_, value) = self.places[*self.place_of.get(key)?].as_ref()?;
        Some(value.clone())
    }

    fn insert(&mut self, key: Bytes, value: Bytes) {
        let place = match self.place_of.get(&key) {
            Some(place) => *place,
            None => {
                let place = self.free.pop().unwrap_or_else(|| {
                    self.places.push(None);
                    self.places.len() - 1
                });
                self.place_of.insert(key.clone(), place);
                place
            }
        };
        self.places[place] = Some((key, value));
    }

    fn remove(&mut self, key: &Bytes) {
        if let Some(place) = self.place_of.remove(key) {
            self.places[place] = None;
            self.free.push(place);
        }
    }

    fn page(&self, from: usize, most: usize) -> OnlinePage {
        let rest = self.places.iter().enumerate().skip(from);
        let filled = rest.filter_map(|(place, entry)| Some((place, entry.clone()?)));
        let mut filled = filled.peekable();
        let entries = filled.by_ref().take(most).map(|(_, entry)| entry).collect();
        let next = filled.peek().map(|(place, _)| place.to_string().into());
        OnlinePage { entries, next }
    }
}

#[async_trait]
impl OnlineStore for MemoryOnlineStore {
    async fn get(&self, space: &str, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>> {
        let spaces = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let space = spaces.get(space);
        Ok(keys.iter().map(|key| space?.get(key)).collect())
    }

    async fn put(&self, entries: Vec<OnlineEntry>) -> Result<()> {
        let mut spaces = self.0.write().unwrap_or_else(PoisonError::into_inner);
        for OnlineEntry { space, key, value } in entries {
            match (spaces.get_mut(&space), value) {
                (Some(held), Some(value)) => held.insert(key, value),
                (None, Some(value)) => spaces.entry(space).or_default().insert(key, value),
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

/// The place at which a page begins, which is what the page before says.
pub(super) fn place(after: Option<&Bytes>) -> Result<usize> {
    let Some(after) = after else { return Ok(0) };
    let text = std::str::from_utf8(after).ok();
    let place = text.and_then(|text| text.parse().ok());
    place.context(ErrorKind::Invalid, "a page after something of another store")
}
