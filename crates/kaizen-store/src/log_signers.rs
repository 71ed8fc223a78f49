//! The signers of a log whose key changes over time.

use std::sync::Arc;
use std::time::Duration;

use kaizen_core::Signer;

use crate::log_keys::LogKeys;

/// How long signers may take that is not said otherwise.
pub(crate) const SIGN_WITHIN: Duration = Duration::from_secs(30);

/// Who signs the checkpoints of a log, and whose signatures it has so far.
///
/// A key is rotated in three steps, and no reader misses any: readers get the new key beside the
/// old one ([`LogKeys`]); the log is opened with both signers; when every reader has the new key,
/// it is opened with the new signer, and the old key is accepted for the sizes that it had.
///
/// ```
/// # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
/// # runtime.block_on(async {
/// # let scratch = tempfile::tempdir().unwrap();
/// # let dir = scratch.path().join("log");
/// use std::sync::Arc;
/// use kaizen_core::AuditLog;
/// use kaizen_store::{Ed25519Signer, LocalLog, LogSigners};
///
/// let old = Arc::new(Ed25519Signer::from_seed("example.com/models", [1; 32])?);
/// let new = Arc::new(Ed25519Signer::from_seed("example.com/models", [2; 32])?);
/// LocalLog::open(&dir, old.clone()).await?;
/// let log = LocalLog::open(&dir, LogSigners::new(new.clone()).and(old.clone())).await?;
/// let head = log.checkpoint().await?;
/// kaizen_store::open_checkpoint(&head.note, old.verifier())?;
/// kaizen_store::open_checkpoint(&head.note, new.verifier())?;
/// # Ok::<(), kaizen_core::Error>(())
/// # }).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct LogSigners {
    pub(crate) signers: Vec<Arc<dyn Signer>>,
    pub(crate) accepted: Vec<LogKeys>,
    pub(crate) within: Duration,
}

impl LogSigners {
    /// One signer, whose name is the log's origin.
    pub fn new(signer: Arc<dyn Signer>) -> Self {
        Self { signers: vec![signer], accepted: Vec::new(), within: SIGN_WITHIN }
    }

    /// Every checkpoint is signed by this key too.
    #[must_use]
    pub fn and(mut self, signer: Arc<dyn Signer>) -> Self {
        self.signers.push(signer);
        self
    }

    /// The log was signed by these keys so far: a [`VerifierKey`](crate::VerifierKey), or
    /// [`LogKeys`].
    #[must_use]
    pub fn accepting(mut self, keys: impl Into<LogKeys>) -> Self {
        self.accepted.push(keys.into());
        self
    }

    /// How long the signers may take for a commit, if a key is not in this process; 30 seconds if
    /// it is not said. To a log on disk no other process can append meanwhile. An append whose
    /// signature does not come in time fails with
    /// [`ErrorKind::Unavailable`](kaizen_core::ErrorKind::Unavailable). It has not happened, unless
    /// an object store left a write before without an answer: then it may have.
    #[must_use]
    pub fn within(mut self, limit: Duration) -> Self {
        self.within = limit;
        self
    }
}

impl From<Arc<dyn Signer>> for LogSigners {
    fn from(signer: Arc<dyn Signer>) -> Self {
        Self::new(signer)
    }
}

impl<S: Signer + 'static> From<Arc<S>> for LogSigners {
    fn from(signer: Arc<S>) -> Self {
        Self::new(signer)
    }
}
