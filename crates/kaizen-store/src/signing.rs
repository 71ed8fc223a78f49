//! Who signs the checkpoints of a log, and by which keys they are read.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use futures_util::FutureExt as _;
use kaizen_core::{Checkpoint, Context, Digest, Error, ErrorKind, Result, Signer};
use tokio::runtime::Handle;

use crate::files::blocking;
use crate::log_keys::LogKeys;
use crate::log_signers::{LogSigners, SIGN_WITHIN};
use crate::note::{self, VerifierKey, checkpoint_text};
use crate::witness::{Cosignature, WitnessPolicy};

/// The signers of a log and its keys.
#[derive(Clone, Debug)]
pub(crate) struct Signing {
    /// None, if the log is only read.
    signers: Arc<Vec<One>>,
    /// How long they may take, all together.
    within: Duration,
    /// That of the first signer.
    key: VerifierKey,
    keys: LogKeys,
}

/// A signer with the key that verifies what it signs.
#[derive(Debug)]
struct One {
    signer: Arc<dyn Signer>,
    key: VerifierKey,
    /// A signature of it was checked.
    fits: AtomicBool,
}

impl One {
    /// Signs. A signature that does not verify would make the log unreadable. Of a key that is
    /// elsewhere, and may be changed there, each is checked; of one in memory the first.
    async fn sign(&self, text: &str) -> Result<[u8; 64]> {
        let signature = self.signer.sign(text.as_bytes()).await?;
        if !(self.signer.is_local() && self.fits.load(Ordering::Relaxed)) {
            self.key.verify(text.as_bytes(), &signature)?;
            self.fits.store(true, Ordering::Relaxed);
        }
        Ok(signature)
    }
}

/// A note with this text, signed by all of these.
async fn sign(signers: &[One], text: &str) -> Result<String> {
    let mut signatures = Vec::with_capacity(signers.len());
    for one in signers {
        signatures.push((&one.key, one.sign(text).await?));
    }
    Ok(note::seal(text, signatures))
}

impl Signing {
    /// All of these sign; what was signed by the accepted keys is read too.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`] if they have different names.
    pub(crate) fn new(of: LogSigners) -> Result<Self> {
        let LogSigners { signers, accepted, within } = of;
        let mut known = Vec::with_capacity(signers.len());
        let mut keys: Option<LogKeys> = None;
        for signer in signers {
            let key = VerifierKey::new(signer.name(), signer.public_key())?;
            keys = Some(match keys {
                None => LogKeys::from(&key),
                Some(keys) => keys.and(key.clone())?,
            });
            known.push(One { signer, key, fits: AtomicBool::default() });
        }
        let mut keys = keys.ok_or_else(|| Error::internal("log: no signer"))?;
        for accepted in accepted {
            keys = keys.and_all(accepted)?;
        }
        let key = known.first().map(|one| one.key.clone());
        let key = key.ok_or_else(|| Error::internal("log: no signer"))?;
        Ok(Self { signers: Arc::new(known), within, key, keys })
    }

    /// Nobody signs.
    pub(crate) fn of_reader(keys: LogKeys) -> Result<Self> {
        let key = keys.first().ok_or_else(|| Error::invalid("log: no key to read it by"))?;
        Ok(Self { signers: Arc::default(), within: SIGN_WITHIN, key: key.clone(), keys })
    }

    /// The key of the first signer.
    pub(crate) fn key(&self) -> &VerifierKey {
        &self.key
    }

    /// The keys by which the log is read.
    pub(crate) fn keys(&self) -> &LogKeys {
        &self.keys
    }

    /// Refuses to change a log that is only read.
    pub(crate) fn may_write(&self) -> Result<()> {
        if !self.signers.is_empty() {
            return Ok(());
        }
        let name = self.keys.name();
        Err(Error::refused(format!("log `{name}`: opened without a private key")))
    }

    /// The note of a checkpoint, signed by all.
    ///
    /// # Errors
    ///
    /// As [`Signing::sign`].
    pub(crate) async fn seal(&self, size: u64, root: &Digest) -> Result<String> {
        self.sign(&checkpoint_text(self.keys.name(), size, root)).await
    }

    /// The same for a thread that may block.
    pub(crate) fn seal_blocking(&self, size: u64, root: &Digest) -> Result<String> {
        self.sign_blocking(&checkpoint_text(self.keys.name(), size, root))
    }

    /// A note with this text, signed by all.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Refused`] if the log is only read; [`ErrorKind::Unavailable`] if a signer takes
    /// too long.
    pub(crate) async fn sign(&self, text: &str) -> Result<String> {
        if let Some(note) = self.sign_at_once(text) {
            return note;
        }
        let (signing, text) = (self.clone(), text.to_owned());
        blocking(move || signing.sign_blocking(&text)).await
    }

    fn sign_blocking(&self, text: &str) -> Result<String> {
        if let Some(note) = self.sign_at_once(text) {
            return note;
        }
        let (sender, signed) = mpsc::sync_channel(1);
        let (signers, text) = (Arc::clone(&self.signers), text.to_owned());
        // On the executor: it may be that every thread that may block is at work already.
        let signing = Handle::current().spawn(async move {
            // Whoever waited may have gone.
            let _ = sender.send(sign(&signers, &text).await);
        });
        signed.recv_timeout(self.within).unwrap_or_else(|error| {
            signing.abort();
            let why = match error {
                RecvTimeoutError::Timeout => {
                    format!("no signature within {} s", self.within.as_secs_f64())
                }
                RecvTimeoutError::Disconnected => "it was cut off while it signed".to_owned(),
            };
            let message = format!("signer `{}`: {why}", self.key.name());
            Err(Error::new(ErrorKind::Unavailable, message))
        })
    }

    /// Signs, if that waits for nobody.
    fn sign_at_once(&self, text: &str) -> Option<Result<String>> {
        if let Err(error) = self.may_write() {
            return Some(Err(error));
        }
        let local = self.signers.iter().all(|one| one.signer.is_local());
        if local { sign(&self.signers, text).now_or_never() } else { None }
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

    /// The published note with the cosignatures of these lines, and what the witnesses of the
    /// policy said.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`] if they are no signature lines; [`ErrorKind::Conflict`] if the
    /// witnesses did not cosign this checkpoint; [`ErrorKind::Refused`] if too few did.
    pub(crate) fn cosigned(
        &self,
        published: &str,
        lines: &str,
        policy: &WitnessPolicy,
    ) -> Result<(String, Vec<Cosignature>)> {
        let lines = lines.trim_end_matches('\n');
        if lines.is_empty() || lines.starts_with('\n') || lines.contains("\n\n") {
            return Err(Error::invalid("cosignatures: not one signature a line"));
        }
        let note = format!("{published}{lines}\n");
        note::parse_note(&note).context(ErrorKind::Invalid, "cosignatures")?;
        let found = policy.check(&note).map_err(|error| match error.kind() {
            ErrorKind::Corrupt => {
                Error::conflict("cosignatures: not of the published checkpoint").with_source(error)
            }
            _ => error,
        })?;
        // Whatever a witness gave, what is published stays a checkpoint of this log: a line in the
        // log's own name could make it one that nobody opens.
        let place = "cosignatures";
        let (before, after) = (self.open(published, place)?, self.open(&note, place));
        let after =
            after.context(ErrorKind::Invalid, "cosignatures: with them it does not open")?;
        if (after.size, after.root) != (before.size, before.root) {
            return Err(Error::invalid("cosignatures: with them it is another checkpoint"));
        }
        Ok((note, found))
    }

    /// The text of a note, if one of ours has not signed it.
    pub(crate) fn unsigned(&self, note: &str) -> Result<Option<String>> {
        let (text, signatures) = note::parse_note(note)?;
        for One { key, .. } in self.signers.iter() {
            if !key.signed(text, &signatures)? {
                return Ok(Some(text.to_owned()));
            }
        }
        Ok(None)
    }
}
