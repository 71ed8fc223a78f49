//! Cosignatures of witnesses, by C2SP tlog-cosignature.

use std::fmt;
use std::str::FromStr;

#[cfg(doc)]
use kaizen_core::ErrorKind;
use kaizen_core::{Error, Result, Timestamp};

use crate::note::{self, NamedKey};

/// Timestamped Ed25519 in the registry of signature types.
const COSIGNATURE: u8 = 0x04;
/// At most this many witnesses in a policy.
const MOST: usize = 64;

/// The public key of a witness, which has seen that a log only grew.
///
/// Its text form is that of C2SP signed notes, `name+hash+base64`, with type `0x04`.
#[derive(Clone, PartialEq, Eq)]
pub struct WitnessKey(NamedKey<COSIGNATURE>);

impl WitnessKey {
    /// The key with these 32 bytes, under this name.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`] if the name is empty or has white space or a `+`, or if the bytes
    /// are no Ed25519 public key.
    pub fn new(name: impl Into<String>, public_key: [u8; 32]) -> Result<Self> {
        NamedKey::new(name.into(), public_key).map(Self)
    }

    /// The name under which the witness is known.
    pub fn name(&self) -> &str {
        self.0.name()
    }

    /// The 32 bytes of the public key.
    pub fn public_key(&self) -> [u8; 32] {
        self.0.public_key()
    }

    /// The latest of this witness's cosignatures of a note, each of which must be right.
    fn cosigned(&self, text: &str, lines: &[note::NoteSignature<'_>]) -> Result<Option<Timestamp>> {
        let mut latest = None;
        for line in lines.iter().filter(|line| self.0.made(line)) {
            let malformed = || Error::corrupt(format!("cosignature by `{}`", self.name()));
            let (seconds, signature) =
                line.bytes[4..].split_first_chunk::<8>().ok_or_else(malformed)?;
            let seconds = i64::try_from(u64::from_be_bytes(*seconds)).ok().ok_or_else(malformed)?;
            let signature = signature.try_into().ok().ok_or_else(malformed)?;
            let message = format!("cosignature/v1\ntime {seconds}\n{text}");
            self.0.verify(message.as_bytes(), signature)?;
            latest = latest.max(Some(Timestamp::from_micros(0).plus_seconds(seconds)));
        }
        Ok(latest)
    }
}

impl fmt::Display for WitnessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for WitnessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WitnessKey({self})")
    }
}

impl FromStr for WitnessKey {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        text.parse().map(Self)
    }
}

/// A cosignature that was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Cosignature {
    /// The name of the witness.
    pub witness: String,
    /// When it cosigned, by its own clock.
    pub at: Timestamp,
}

/// Which witnesses are trusted, and how many of them must have cosigned a checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WitnessPolicy {
    witnesses: Vec<WitnessKey>,
    quorum: usize,
}

impl WitnessPolicy {
    /// No witnesses: the log's own signature is enough.
    pub fn none() -> Self {
        Self::default()
    }

    /// At least `quorum` of these witnesses. With 0, cosignatures are checked where they are, and
    /// none has to be.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`] if there are fewer witnesses than that, more than 64, or if two have
    /// the same key: they would count twice.
    pub fn new(witnesses: Vec<WitnessKey>, quorum: usize) -> Result<Self> {
        let count = witnesses.len();
        if quorum > count || count > MOST {
            let message = format!("witness policy: {quorum} of {count}, at most {MOST}");
            return Err(Error::invalid(message));
        }
        for (at, witness) in witnesses.iter().enumerate() {
            let same = |other: &&WitnessKey| other.public_key() == witness.public_key();
            if let Some(other) = witnesses[..at].iter().find(same) {
                let (name, other) = (witness.name(), other.name());
                let message = format!("witnesses `{other}` and `{name}`: the same key");
                return Err(Error::invalid(message));
            }
        }
        Ok(Self { witnesses, quorum })
    }

    /// The cosignatures of a checkpoint's note by the witnesses of this policy, each with the time
    /// of the latest. Those of others are passed over. The log's own signature is for
    /// [`open_checkpoint`](crate::open_checkpoint) to check.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Corrupt`] if one of them is wrong; [`ErrorKind::Refused`] if there are fewer
    /// than the policy asks for.
    pub fn check(&self, note: &str) -> Result<Vec<Cosignature>> {
        let (text, signatures) = note::parse_note(note)?;
        let mut found = Vec::new();
        for witness in &self.witnesses {
            if let Some(at) = witness.cosigned(text, &signatures)? {
                found.push(Cosignature { witness: witness.name().to_owned(), at });
            }
        }
        if found.len() < self.quorum {
            let (count, quorum) = (found.len(), self.quorum);
            let mut lines = text.lines();
            let (log, size) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
            let (log, size) = (log.escape_debug(), size.escape_debug());
            let message = format!(
                "checkpoint of `{log}` with {size} entries: cosigned by {count} witnesses, not \
                 {quorum}"
            );
            return Err(Error::refused(message));
        }
        Ok(found)
    }
}
