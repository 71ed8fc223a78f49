//! Proofs that stand alone, by C2SP tlog-proof.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kaizen_core::{Checkpoint, Context, Digest, Error, ErrorKind, Result};

use crate::log_keys::LogKeys;
use crate::merkle::{self, leaf_hash};
use crate::note;
use crate::witness::{Cosignature, WitnessPolicy};

const HEADER: &str = "c2sp.org/tlog-proof@v1";
/// At most this many bytes in a proof.
const MAX_BYTES: usize = 2 << 20;
/// No path in a log of 64-bit size is longer.
const MAX_HASHES: usize = 64;

/// Everything that shows offline that an entry is in a log: what a `.tlog-proof` file holds. Its
/// text form is the file.
///
/// ```
/// # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
/// # runtime.block_on(async {
/// # let scratch = tempfile::tempdir().unwrap();
/// # let dir = scratch.path().join("log");
/// use std::sync::Arc;
/// use kaizen_core::{Actor, AuditLog, Digest, Entry, Event, OperationId};
/// use kaizen_store::{Ed25519Signer, LocalLog, TlogProof, WitnessPolicy};
///
/// let signer = Arc::new(Ed25519Signer::from_seed("example.com/models", [7; 32])?);
/// let log = LocalLog::open(dir, signer.clone()).await?;
/// let at = "2013-03-01T00:00:00Z".parse()?;
/// let entry = Entry {
///     at,
///     actor: Actor::system("cycle"),
///     operation: OperationId::new("release", at),
///     event: Event::Released,
///     subject: Digest::of("a release"),
///     evidence: vec![],
/// };
/// log.append(std::slice::from_ref(&entry), None).await?;
///
/// let file = log.proof(0).await?.to_string();
/// // Whoever has the entry, the file and the public key needs nothing else.
/// let proof: TlogProof = file.parse()?;
/// let proven = proof.verify(&entry.to_bytes()?, &signer.verifier(), &WitnessPolicy::none())?;
/// assert_eq!((proof.index, proven.checkpoint.size), (0, 1));
/// # Ok::<(), kaizen_core::Error>(())
/// # }).unwrap();
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlogProof {
    /// What the application adds. Nothing vouches for it.
    pub extra: Option<Vec<u8>>,
    /// The place of the entry in the log, from 0.
    pub index: u64,
    /// The hashes that lead from the entry to the root, from the bottom up.
    pub hashes: Vec<Digest>,
    /// The checkpoint that they lead to, as a signed note.
    pub checkpoint: String,
}

/// What a proof was found to show.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Proven {
    /// The head of the log that has the entry.
    pub checkpoint: Checkpoint,
    /// The witnesses that have seen this head.
    pub cosignatures: Vec<Cosignature>,
}

impl TlogProof {
    /// The proof that `hashes` make: those of the path, and last the root of the log that has so
    /// many entries as the checkpoint.
    pub(crate) fn of(index: u64, mut hashes: Vec<Digest>, checkpoint: &Checkpoint) -> Result<Self> {
        if hashes.pop() != Some(checkpoint.root) {
            let (origin, size) = (&checkpoint.origin, checkpoint.size);
            let message = format!("checkpoint of `{origin}`, {size} entries: not of this log");
            return Err(Error::invalid(message));
        }
        Ok(Self { extra: None, index, hashes, checkpoint: checkpoint.note.clone() })
    }

    /// Checks that an entry of these bytes is in a log of these keys, and that as many witnesses
    /// as the policy asks for have seen it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Corrupt`] if it does not show that; [`ErrorKind::Refused`] if too few
    /// witnesses cosigned.
    pub fn verify(
        &self,
        entry: &[u8],
        keys: impl Into<LogKeys>,
        policy: &WitnessPolicy,
    ) -> Result<Proven> {
        let (keys, index) = (keys.into(), self.index);
        self.proven(entry, &keys, policy).map_err(|error| {
            let name = keys.name();
            let message = format!("proof of entry {index} of log `{name}`: {error}");
            Error::new(error.kind(), message).with_source(error)
        })
    }

    fn proven(&self, entry: &[u8], keys: &LogKeys, policy: &WitnessPolicy) -> Result<Proven> {
        let checkpoint = note::open_checkpoint(&self.checkpoint, keys)?;
        if checkpoint.origin != keys.name() {
            return Err(Error::corrupt(format!("it is of log `{}`", checkpoint.origin)));
        }
        let cosignatures = policy.check(&self.checkpoint)?;
        let (leaf, size) = (leaf_hash(entry), checkpoint.size);
        merkle::verify_inclusion(&leaf, self.index, size, &self.hashes, &checkpoint.root)?;
        Ok(Proven { checkpoint, cosignatures })
    }
}

impl fmt::Display for TlogProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{HEADER}")?;
        if let Some(extra) = &self.extra {
            writeln!(f, "extra {}", STANDARD.encode(extra))?;
        }
        writeln!(f, "index {}", self.index)?;
        for hash in &self.hashes {
            writeln!(f, "{}", STANDARD.encode(hash.as_bytes()))?;
        }
        write!(f, "\n{}", self.checkpoint)
    }
}

impl FromStr for TlogProof {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad = |what: &str| Error::corrupt(format!("tlog proof: {what}"));
        if text.len() > MAX_BYTES {
            return Err(bad("over 2 MiB"));
        }
        let (head, checkpoint) = text.split_once("\n\n").ok_or_else(|| bad("no empty line"))?;
        let mut lines = head.split('\n');
        if lines.next() != Some(HEADER) {
            return Err(bad("it does not begin as one"));
        }
        let mut line = lines.next().unwrap_or_default();
        let mut extra = None;
        if let Some(encoded) = line.strip_prefix("extra ") {
            extra =
                Some(STANDARD.decode(encoded).context(ErrorKind::Corrupt, "tlog proof: extra")?);
            line = lines.next().unwrap_or_default();
        }
        let number = line.strip_prefix("index ").ok_or_else(|| bad("no index"))?;
        let index = number.parse::<u64>().ok().filter(|index| index.to_string() == number);
        let index = index.ok_or_else(|| bad("its index is no number"))?;
        let mut hashes = Vec::new();
        for line in lines {
            let bytes = STANDARD.decode(line).ok().and_then(|bytes| bytes.try_into().ok());
            hashes.push(Digest::from_bytes(bytes.ok_or_else(|| bad("a line is no hash"))?));
            if hashes.len() > MAX_HASHES {
                return Err(bad("more hashes than any path has"));
            }
        }
        note::parse_note(checkpoint)?;
        Ok(Self { extra, index, hashes, checkpoint: checkpoint.to_owned() })
    }
}
