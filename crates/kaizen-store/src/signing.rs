//! Who signs the checkpoints of a log, and by which keys they are read.

use std::sync::Arc;

use kaizen_core::{Checkpoint, Digest, Error, Result, Signer};

use crate::log_keys::LogKeys;
use crate::note::{self, VerifierKey, checkpoint_text};

/// The signers of a log and its keys.
#[derive(Debug)]
pub(crate) struct Signing {
    /// At least one.
    signers: Vec<(Arc<dyn Signer>, VerifierKey)>,
    keys: LogKeys,
}

impl Signing {
    /// All of these sign; what was signed by `accepted` keys is read too.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`](kaizen_core::ErrorKind::Invalid) if they have different names.
    pub(crate) fn new(signers: Vec<Arc<dyn Signer>>, accepted: Vec<LogKeys>) -> Result<Self> {
        let mut known = Vec::with_capacity(signers.len());
        let mut keys: Option<LogKeys> = None;
        for signer in signers {
            let key = VerifierKey::new(signer.name(), signer.public_key())?;
            keys = Some(match keys {
                None => LogKeys::from(&key),
                Some(keys) => keys.and(key.clone())?,
            });
            known.push((signer, key));
        }
        let mut keys = keys.ok_or_else(|| Error::internal("log: no signer"))?;
        for accepted in accepted {
            keys = keys.and_all(accepted)?;
        }
        Ok(Self { signers: known, keys })
    }

    /// The key of the first signer.
    pub(crate) fn key(&self) -> &VerifierKey {
        &self.signers[0].1
    }

    /// The keys by which the log is read.
    pub(crate) fn keys(&self) -> &LogKeys {
        &self.keys
    }

    /// The note of a checkpoint, signed by all.
    pub(crate) async fn seal(&self, size: u64, root: &Digest) -> Result<String> {
        self.sign(&checkpoint_text(self.keys.name(), size, root)).await
    }

    /// A note with this text, signed by all.
    pub(crate) async fn sign(&self, text: &str) -> Result<String> {
        let mut signatures = Vec::with_capacity(self.signers.len());
        for (signer, key) in &self.signers {
            let signature = signer.sign(text.as_bytes()).await?;
            // A signer whose signature does not verify would make the log unreadable.
            key.verify(text.as_bytes(), &signature)?;
            signatures.push((key, signature));
        }
        Ok(note::seal(text, signatures))
    }

    /// Checks a checkpoint of this log, read from `place`.
    pub(crate) fn open(&self, note: &str, place: &str) -> Result<Checkpoint> {
        let read = note::open_checkpoint(note, &self.keys);
        let read = read.map_err(|error| Error::corrupt(place).with_source(error))?;
        if read.origin != self.keys.name() {
            let (found, wanted) = (&read.origin, self.keys.name());
            return Err(Error::corrupt(format!("{place}: of log `{found}`, not `{wanted}`")));
        }
        Ok(read)
    }

    /// The text of a note, if one of ours has not signed it.
    pub(crate) fn unsigned(&self, note: &str) -> Result<Option<String>> {
        let (text, signatures) = note::parse_note(note)?;
        for (_, key) in &self.signers {
            if !key.signed(text, &signatures)? {
                return Ok(Some(text.to_owned()));
            }
        }
        Ok(None)
    }
}
