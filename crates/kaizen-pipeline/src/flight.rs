//! One run at a time for equal keys within this process.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use kaizen_core::{ArtifactStore, Digest};
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

/// A store, by its address, and a key in it.
type Key = (usize, Digest);

// Every pipeline of the process shares this: two of them over one store must not do the same work
// twice. It holds no result, so nothing depends on it but how often the work is done.
static FLIGHTS: Mutex<BTreeMap<Key, Weak<AsyncMutex<()>>>> = Mutex::new(BTreeMap::new());

/// Waits until nobody else in this process runs the step of this key over this store. Nobody does
/// until the guard is dropped.
pub(crate) async fn alone(store: &Arc<dyn ArtifactStore>, key: Digest) -> OwnedMutexGuard<()> {
    let key = (Arc::as_ptr(store).cast::<()>().addr(), key);
    let turn = {
        let mut flights = FLIGHTS.lock().unwrap_or_else(PoisonError::into_inner);
        flights.retain(|_, turn| turn.strong_count() > 0);
        let found = flights.get(&key).and_then(Weak::upgrade);
        found.unwrap_or_else(|| {
            let turn = Arc::new(AsyncMutex::new(()));
            flights.insert(key, Arc::downgrade(&turn));
            turn
        })
    };
    turn.lock_owned().await
}
