//! An online store in memory.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{PoisonError, RwLock};

use kaizen_core::{Bytes, Result, async_trait};
use kaizen_table::{OnlineEntry, OnlinePage, OnlineStore};

/// Keeps everything in memory; it is gone with the program.
#[derive(Debug, Default)]
pub struct MemoryOnlineStore(RwLock<BTreeMap<String, BTreeMap<Bytes, Bytes>>>);

#[async_trait]
impl OnlineStore for MemoryOnlineStore {
    async fn get(&self, space: &str, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>> {
        let spaces = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let space = spaces.get(space);
        Ok(keys.iter().map(|key| space?.get(key).cloned()).collect())
    }

    async fn put(&self, entries: Vec<OnlineEntry>) -> Result<()> {
        let mut spaces = self.0.write().unwrap_or_else(PoisonError::into_inner);
        for OnlineEntry { space, key, value } in entries {
            match value {
                Some(value) => drop(spaces.entry(space).or_default().insert(key, value)),
                None => drop(spaces.get_mut(&space).and_then(|space| space.remove(&key))),
            }
        }
        spaces.retain(|_, space| !space.is_empty());
        Ok(())
    }

    async fn spaces(&self) -> Result<Vec<String>> {
        let spaces = self.0.read().unwrap_or_else(PoisonError::into_inner);
        Ok(spaces.keys().cloned().collect())
    }

    async fn page(&self, space: &str, after: Option<&Bytes>, most: usize) -> Result<OnlinePage> {
        let after = after.map_or(Bound::Unbounded, Bound::Excluded);
        let spaces = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let Some(space) = spaces.get(space) else { return Ok(OnlinePage::default()) };
        let mut rest = space.range::<Bytes, _>((after, Bound::Unbounded));
        let entries: Vec<(Bytes, Bytes)> =
            rest.by_ref().take(most).map(|(key, value)| (key.clone(), value.clone())).collect();
        let next = rest.next().and(entries.last()).map(|(key, _)| key.clone());
        Ok(OnlinePage { entries, next })
    }
}
