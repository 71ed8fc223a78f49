//! Indices that are kept between calls.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use kaizen_core::Digest;

/// At most this many indices of a kind are kept.
const MAX_INDICES: usize = 64;

/// Indices by the digest of their definition, each with the digest of the data that it was made of.
#[derive(Debug)]
pub(crate) struct Kept<T>(Mutex<BTreeMap<Digest, (Digest, Arc<T>)>>);

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> Kept<T> {
    /// The index of this definition, if it was made of this data.
    pub(crate) fn get(&self, definition: &Digest, data: &Digest) -> Option<Arc<T>> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (of, index) = kept.get(definition)?;
        (of == data).then(|| Arc::clone(index))
    }

    /// What is kept of this definition, and the data that it was made of.
    #[cfg(test)]
    pub(crate) fn of(&self, definition: &Digest) -> Option<(Digest, Arc<T>)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(definition).cloned()
    }

    /// Keeps nothing any more.
    pub(crate) fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Keeps the index of this definition in place of the one before.
    pub(crate) fn keep(&self, definition: Digest, data: Digest, index: Arc<T>) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= MAX_INDICES && !kept.contains_key(&definition) {
            kept.pop_first();
        }
        kept.insert(definition, (data, index));
    }
}
