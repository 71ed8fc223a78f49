//! Indices that are kept between calls.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};

use kaizen_core::{Digest, Result};

/// At most this many indices of a kind are kept.
const MAX_INDICES: usize = 64;

/// How often everything that is kept was let go of, because rows were erased from sources.
#[derive(Clone, Debug, Default)]
pub(crate) struct Erasures(Arc<Counted>);

#[derive(Debug, Default)]
struct Counted {
    count: AtomicU64,
    /// Held while files of what is kept are written or removed.
    files: Mutex<()>,
}

impl Erasures {
    /// Now, before rows are read.
    pub(crate) fn now(&self) -> Since {
        Since { erasures: self.clone(), count: self.0.count.load(SeqCst) }
    }

    /// Counts one. What is made of rows that were read before is not kept from now on.
    pub(crate) fn count(&self) {
        self.0.count.fetch_add(1, SeqCst);
    }

    /// Works on the files while nobody else does. Blocks.
    pub(crate) fn with_files<T>(&self, work: impl FnOnce() -> T) -> T {
        let _files = self.0.files.lock().unwrap_or_else(PoisonError::into_inner);
        work()
    }
}

/// A time before which, or after which, rows were erased.
#[derive(Clone, Debug)]
pub(crate) struct Since {
    erasures: Erasures,
    count: u64,
}

impl Since {
    /// Whether nothing was erased since.
    pub(crate) fn is_current(&self) -> bool {
        self.erasures.0.count.load(SeqCst) == self.count
    }

    /// Writes files, unless something was erased since. Blocks.
    pub(crate) fn save(&self, work: impl FnOnce() -> Result<()>) -> Result<()> {
        self.erasures.with_files(|| if self.is_current() { work() } else { Ok(()) })
    }
}

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

    /// Keeps the index of this definition in place of the one before, if nothing was erased since
    /// the data was read.
    pub(crate) fn keep(&self, since: &Since, definition: Digest, data: Digest, index: Arc<T>) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Asked while the lock is held: an erasure that is counted later clears what is kept here.
        if !since.is_current() {
            return;
        }
        if kept.len() >= MAX_INDICES && !kept.contains_key(&definition) {
            kept.pop_first();
        }
        kept.insert(definition, (data, index));
    }
}
