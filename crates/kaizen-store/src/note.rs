//! Signed notes and checkpoints, by C2SP signed-note and tlog-checkpoint.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signature, VerifyingKey};
use kaizen_core::{Checkpoint, Context, Digest, Error, ErrorKind, Result};

/// Ed25519 in the registry of signature types.
const ED25519: u8 = 0x01;
/// At most this many bytes in a note.
const MAX_BYTES: usize = 1 << 20;

/// The public key that verifies a log's checkpoints, with the name it is known under.
///
/// Its text form is that of C2SP signed notes, `name+hash+base64`:
///
/// ```
/// use kaizen_store::VerifierKey;
///
/// let text = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";
/// let key: VerifierKey = text.parse()?;
/// assert_eq!(key.name(), "example.com/foo");
/// assert_eq!(key.to_string(), text);
/// # Ok::<(), kaizen_core::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct VerifierKey {
    name: String,
    hash: [u8; 4],
    key: VerifyingKey,
}

impl VerifierKey {
    /// The key with these 32 bytes, under this name.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`] if the name is empty or has white space or a `+`, or if the bytes
    /// are no Ed25519 public key.
    pub fn new(name: impl Into<String>, public_key: [u8; 32]) -> Result<Self> {
        let name = name.into();
        check_name(&name)?;
        let key = VerifyingKey::from_bytes(&public_key)
            .context(ErrorKind::Invalid, format!("key `{name}`: not an Ed25519 public key"))?;
        let hash = key_hash(&name, &public_key);
        Ok(Self { name, hash, key })
    }

    /// The name under which the key is known.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The 32 bytes of the public key.
    pub fn public_key(&self) -> [u8; 32] {
        self.key.to_bytes()
    }

    /// Checks a signature of `message`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Corrupt`] if the key did not make it.
    pub fn verify(&self, message: &[u8], signature: &[u8; 64]) -> Result<()> {
        let signature = Signature::from_bytes(signature);
        self.key
            .verify_strict(message, &signature)
            .context(ErrorKind::Corrupt, format!("signature by `{}`", self.name))
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hash = u32::from_be_bytes(self.hash);
        write!(f, "{}+{hash:08x}+{}", self.name, encode_key(&self.public_key()))
    }
}

impl fmt::Debug for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerifierKey({self})")
    }
}

impl FromStr for VerifierKey {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad = || Error::invalid(format!("verifier key `{text}`: not `name+hash+base64`"));
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(hash), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(bad());
        };
        let key = Self::new(name, decode_key(key).ok_or_else(bad)?)?;
        if hash != format!("{:08x}", u32::from_be_bytes(key.hash)) {
            return Err(Error::invalid(format!("verifier key `{text}`: its hash is wrong")));
        }
        Ok(key)
    }
}

/// A key's name may hold neither white space nor `+`, which separate the parts of its text form.
pub(crate) fn check_name(name: &str) -> Result<()> {
    if name.is_empty() || name.chars().any(|c| c.is_whitespace() || c.is_control() || c == '+') {
        let name = name.escape_debug();
        return Err(Error::invalid(format!(
            "key name `{name}`: empty, or with white space or `+`"
        )));
    }
    Ok(())
}

/// The type byte and 32 bytes of a key, as text.
pub(crate) fn encode_key(key: &[u8; 32]) -> String {
    let mut bytes = [ED25519; 33];
    bytes[1..].copy_from_slice(key);
    STANDARD.encode(bytes)
}

pub(crate) fn decode_key(text: &str) -> Option<[u8; 32]> {
    match STANDARD.decode(text).ok()?.split_first() {
        Some((&ED25519, key)) => key.try_into().ok(),
        _ => None,
    }
}

pub(crate) fn key_hash(name: &str, public_key: &[u8; 32]) -> [u8; 4] {
    let mut message = name.as_bytes().to_vec();
    message.extend([b'\n', ED25519]);
    message.extend(public_key);
    let [a, b, c, d, ..] = *Digest::of(message).as_bytes();
    [a, b, c, d]
}

/// Adds a signature to a text that ends in a line break.
pub(crate) fn seal(text: &str, key: &VerifierKey, signature: &[u8; 64]) -> String {
    let mut bytes = key.hash.to_vec();
    bytes.extend(signature);
    format!("{text}\n— {} {}\n", key.name, STANDARD.encode(bytes))
}

/// The text of a note, after its signature by `key` was checked. Signatures by other keys are
/// passed over, as the format demands.
///
/// # Errors
///
/// [`ErrorKind::Corrupt`] if the note has not the form of one, has no signature by the key, or a
/// wrong one.
pub fn open_note<'a>(note: &'a str, key: &VerifierKey) -> Result<&'a str> {
    let malformed = || Error::corrupt("signed note: not a text, an empty line and signatures");
    if note.len() > MAX_BYTES {
        return Err(malformed());
    }
    let (text, signatures) = note
        .rfind("\n\n")
        .map(|at| (&note[..=at], &note[at + 2..]))
        .filter(|(_, signatures)| signatures.ends_with('\n'))
        .ok_or_else(malformed)?;
    let mut signed = false;
    for line in signatures.trim_end_matches('\n').split('\n') {
        let (name, encoded) =
            line.strip_prefix("— ").and_then(|rest| rest.split_once(' ')).ok_or_else(malformed)?;
        let bytes = STANDARD.decode(encoded).ok().filter(|b| b.len() > 4).ok_or_else(malformed)?;
        let (hash, signature) = bytes.split_at(4);
        if name == key.name && hash == key.hash {
            let signature = signature.try_into().ok().ok_or_else(malformed)?;
            key.verify(text.as_bytes(), signature)?;
            signed = true;
        }
    }
    if signed { Ok(text) } else { Err(Error::corrupt(format!("no signature by `{}`", key.name))) }
}

/// The text that a checkpoint states.
pub(crate) fn checkpoint_text(origin: &str, size: u64, root: &Digest) -> String {
    format!("{origin}\n{size}\n{}\n", STANDARD.encode(root.as_bytes()))
}

/// Reads a checkpoint and checks its signature by `key`.
///
/// # Errors
///
/// As [`open_note`]; and [`ErrorKind::Corrupt`] if the text states no checkpoint.
pub fn open_checkpoint(note: &str, key: &VerifierKey) -> Result<Checkpoint> {
    let text = open_note(note, key)?;
    let malformed = || Error::corrupt("checkpoint: not an origin, a size and a root");
    let mut lines = text.lines();
    let (Some(origin), Some(size), Some(root)) = (lines.next(), lines.next(), lines.next()) else {
        return Err(malformed());
    };
    let number: u64 = size.parse().ok().ok_or_else(malformed)?;
    let root = STANDARD.decode(root).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
    let root = root.ok_or_else(malformed)?;
    if origin.is_empty() || number.to_string() != size {
        return Err(malformed());
    }
    Ok(Checkpoint::new(origin.to_owned(), number, Digest::from_bytes(root), note.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A checkpoint of the test log of transparency-dev/tessera.
    const KEY: &str =
        "example.com/log/testdata+33d7b496+AeHTu4Q3hEIMHNqc6fASMsq3rKNx280NI+oO5xCFkkSx";
    const NOTE: &str = "example.com/log/testdata\n1\n\
        0Nc2CrefWKseHj/mStd+LqC8B+NrX0btIiPt2SmN+ek=\n\n\
        — example.com/log/testdata \
        M9e0lhr9kuLxGdAtaUrhm84TQffVsLdcy808sN0a3WyniNlfcr9+bywoiIke1YYciCNjJGkCgIlQ8b16jhsmg/SChAM=\n";

    #[test]
    fn a_note_with_any_other_byte_does_not_open() {
        let key: VerifierKey = KEY.parse().unwrap();
        let sealed = crate::Ed25519Signer::from_seed("k.example", [3; 32]).unwrap();
        let text = checkpoint_text("k.example", 7, &Digest::of("root"));
        let note = sealed.seal_now(&text);
        assert_eq!(open_checkpoint(&note, &sealed.verifier()).unwrap().size, 7);
        assert!(open_note(&note, &key).unwrap_err().to_string().contains("example.com/log"));
        for at in 0..note.len() {
            let mut bytes = note.clone().into_bytes();
            bytes[at] ^= 0x01;
            if let Ok(changed) = String::from_utf8(bytes) {
                assert!(open_checkpoint(&changed, &sealed.verifier()).is_err(), "byte {at}");
            }
        }
    }

    #[test]
    fn a_key_whose_parts_disagree_is_refused() {
        for bad in ["", "a+b", &KEY.replace("33d7b496", "33d7b497"), &KEY.replace("log", "l g")] {
            assert_eq!(bad.parse::<VerifierKey>().unwrap_err().kind(), ErrorKind::Invalid, "{bad}");
        }
    }

    #[test]
    fn a_checkpoint_that_another_log_signed_opens() {
        let checkpoint = open_checkpoint(NOTE, &KEY.parse().unwrap()).unwrap();
        assert_eq!((checkpoint.origin.as_str(), checkpoint.size), ("example.com/log/testdata", 1));
        // A signature by a key that is not known does not hurt.
        let cosigned = format!("{NOTE}— witness.example/w AAAAAAAA\n");
        assert_eq!(open_checkpoint(&cosigned, &KEY.parse().unwrap()).unwrap().size, 1);
    }
}
