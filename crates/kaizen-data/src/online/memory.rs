//! An online store in memory.

use std::collections::{BTreeMap, HashMap};
use std::sync::{PoisonError, RwLock};

use kaizen_core::{Bytes, Result, async_trait};
use kaizen_table::{OnlineEntry, OnlineStore};

/// Keeps everything in memory; it is gone with the program.
#[derive(Debug, Default)]
pub struct MemoryOnlineStore(RwLock<BTreeMap<String, HashMap<Bytes, Bytes>>>);

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
            spaces.entry(space).or_default().insert(key, value);
        }
        Ok(())
    }
}
