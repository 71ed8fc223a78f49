//! The keys of a log whose key changes over time.

use std::ops::Range;

use kaizen_core::{Error, Result};

use crate::note::{NoteSignature, VerifierKey};

/// At most this many keys of one log.
const MOST: usize = 32;

/// The keys by which the checkpoints of one log are known. Any one that is valid verifies one.
///
/// A key is valid for checkpoints of any size, or only for those of some sizes: a key that was
/// retired vouches for what was signed while it was in use, and for nothing after.
///
/// ```
/// use kaizen_store::{Ed25519Signer, LogKeys};
///
/// let old = Ed25519Signer::from_seed("example.com/models", [1; 32])?.verifier();
/// let new = Ed25519Signer::from_seed("example.com/models", [2; 32])?.verifier();
/// let both = LogKeys::from(&old).and(new.clone())?;
/// // Checkpoints of 1,000 entries or more are by the new key only.
/// let later = LogKeys::for_sizes(old, 0..1_000).and(new)?;
/// assert_eq!(both.name(), later.name());
/// # Ok::<(), kaizen_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogKeys {
    /// The name of all of them, which is the log's origin.
    name: String,
    keys: Vec<(VerifierKey, Range<u64>)>,
}

/// Any size.
const ALWAYS: Range<u64> = 0..u64::MAX;

impl LogKeys {
    /// A key that is valid for checkpoints of these sizes.
    pub fn for_sizes(key: VerifierKey, sizes: Range<u64>) -> Self {
        Self { name: key.name().to_owned(), keys: vec![(key, sizes)] }
    }

    /// One key more, for checkpoints of any size.
    ///
    /// # Errors
    ///
    /// As [`LogKeys::and_for_sizes`].
    pub fn and(self, key: VerifierKey) -> Result<Self> {
        self.and_for_sizes(key, ALWAYS)
    }

    /// One key more, for checkpoints of these sizes.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`](kaizen_core::ErrorKind::Invalid) if it has another name, which
    /// means that it is of another log, or if there are 32 already.
    pub fn and_for_sizes(mut self, key: VerifierKey, sizes: Range<u64>) -> Result<Self> {
        if key.name() != self.name {
            let (found, wanted) = (key.name(), &self.name);
            return Err(Error::invalid(format!("key `{found}`: of another log than `{wanted}`")));
        }
        if self.keys.len() == MOST {
            let name = &self.name;
            return Err(Error::invalid(format!("log `{name}`: over {MOST} keys")));
        }
        self.keys.push((key, sizes));
        Ok(self)
    }

    /// These keys and those.
    ///
    /// # Errors
    ///
    /// As [`LogKeys::and_for_sizes`].
    pub fn and_all(mut self, others: Self) -> Result<Self> {
        for (key, sizes) in others.keys {
            self = self.and_for_sizes(key, sizes)?;
        }
        Ok(self)
    }

    /// The first of them.
    pub(crate) fn first(&self) -> Option<&VerifierKey> {
        self.keys.first().map(|(key, _)| key)
    }

    /// The name of the log.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Checks that a key that is valid for this size signed the text.
    pub(crate) fn check(
        &self,
        text: &str,
        size: u64,
        signatures: &[NoteSignature<'_>],
    ) -> Result<()> {
        let mut signed = false;
        for (key, _) in self.keys.iter().filter(|(_, sizes)| sizes.contains(&size)) {
            signed |= key.signed(text, signatures)?;
        }
        if signed {
            return Ok(());
        }
        let name = &self.name;
        Err(Error::corrupt(format!("no signature by a key of `{name}` for {size} entries")))
    }
}

impl From<VerifierKey> for LogKeys {
    fn from(key: VerifierKey) -> Self {
        Self::for_sizes(key, ALWAYS)
    }
}

impl From<&VerifierKey> for LogKeys {
    fn from(key: &VerifierKey) -> Self {
        key.clone().into()
    }
}

impl From<&Self> for LogKeys {
    fn from(keys: &Self) -> Self {
        keys.clone()
    }
}
