//! Signed notes and checkpoints, by C2SP signed-note and tlog-checkpoint.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signature, VerifyingKey};
use kaizen_core::{Checkpoint, Context, Digest, Error, ErrorKind, Result};

use crate::log_keys::LogKeys;

/// Ed25519 in the registry of signature types.
const ED25519: u8 = 0x01;
/// At most this many bytes in a note.
pub(crate) const MAX_BYTES: usize = 1 << 20;

/// An Ed25519 public key with the name it is known under, for one type of signature.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct NamedKey<const TYPE: u8> {
    name: String,
    hash: [u8; 4],
    key: VerifyingKey,
}

impl<const TYPE: u8> NamedKey<TYPE> {
    pub(crate) fn new(name: String, public_key: [u8; 32]) -> Result<Self> {
        check_name(&name)?;
        let key = VerifyingKey::from_bytes(&public_key)
            .context(ErrorKind::Invalid, format!("key `{name}`: not an Ed25519 public key"))?;
        let hash = key_hash(&name, TYPE, &public_key);
        Ok(Self { name, hash, key })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn public_key(&self) -> [u8; 32] {
        self.key.to_bytes()
    }

    pub(crate) fn verify(&self, message: &[u8], signature: &[u8; 64]) -> Result<()> {
        self.key
            .verify_strict(message, &Signature::from_bytes(signature))
            .context(ErrorKind::Corrupt, format!("signature by `{}`", self.name))
    }

    /// Whether this key claims to have made a signature.
    pub(crate) fn made(&self, signature: &NoteSignature<'_>) -> bool {
        signature.name == self.name && signature.bytes[..4] == self.hash
    }
}

impl<const TYPE: u8> fmt::Display for NamedKey<TYPE> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hash = u32::from_be_bytes(self.hash);
        write!(f, "{}+{hash:08x}+{}", self.name, encode_key(TYPE, &self.public_key()))
    }
}

impl<const TYPE: u8> FromStr for NamedKey<TYPE> {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad = || Error::invalid(format!("verifier key `{text}`: not `name+hash+base64`"));
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(hash), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(bad());
        };
        let key = Self::new(name.to_owned(), decode_key(TYPE, key).ok_or_else(bad)?)?;
        if hash != format!("{:08x}", u32::from_be_bytes(key.hash)) {
            return Err(Error::invalid(format!("verifier key `{text}`: its hash is wrong")));
        }
        Ok(key)
    }
}

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
pub struct VerifierKey(NamedKey<ED25519>);

impl VerifierKey {
    /// The key with these 32 bytes, under this name.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`] if the name is empty or has white space or a `+`, or if the bytes
    /// are no Ed25519 public key.
    pub fn new(name: impl Into<String>, public_key: [u8; 32]) -> Result<Self> {
        NamedKey::new(name.into(), public_key).map(Self)
    }

    /// The name under which the key is known.
    pub fn name(&self) -> &str {
        self.0.name()
    }

    /// The 32 bytes of the public key.
    pub fn public_key(&self) -> [u8; 32] {
        self.0.public_key()
    }

    /// Checks a signature of `message`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Corrupt`] if the key did not make it.
    pub fn verify(&self, message: &[u8], signature: &[u8; 64]) -> Result<()> {
        self.0.verify(message, signature)
    }

    /// Whether this key signed a text, among these signatures of it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Corrupt`] if a signature says that it is by this key, and is not.
    pub(crate) fn signed(&self, text: &str, signatures: &[NoteSignature<'_>]) -> Result<bool> {
        let mut signed = false;
        for signature in signatures.iter().filter(|signature| self.0.made(signature)) {
            let bytes = signature.bytes[4..].try_into().ok();
            let bytes = bytes.context(ErrorKind::Corrupt, MALFORMED)?;
            self.verify(text.as_bytes(), bytes)?;
            signed = true;
        }
        Ok(signed)
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
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
        text.parse().map(Self)
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
fn encode_key(kind: u8, key: &[u8; 32]) -> String {
    let mut bytes = [kind; 33];
    bytes[1..].copy_from_slice(key);
    STANDARD.encode(bytes)
}

fn decode_key(kind: u8, text: &str) -> Option<[u8; 32]> {
    match STANDARD.decode(text).ok()?.split_first() {
        Some((found, key)) if *found == kind => key.try_into().ok(),
        _ => None,
    }
}

fn key_hash(name: &str, kind: u8, public_key: &[u8; 32]) -> [u8; 4] {
    let mut message = name.as_bytes().to_vec();
    message.extend([b'\n', kind]);
    message.extend(public_key);
    let [a, b, c, d, ..] = *Digest::of(message).as_bytes();
    [a, b, c, d]
}

/// The private key of a signer as text, `name+hash+base64`.
pub(crate) fn private_text(verifier: &VerifierKey, seed: &[u8; 32]) -> String {
    let hash = u32::from_be_bytes(verifier.0.hash);
    format!("{}+{hash:08x}+{}", verifier.name(), encode_key(ED25519, seed))
}

/// The seed in the last part of a private key's text.
pub(crate) fn private_seed(encoded: &str) -> Option<[u8; 32]> {
    decode_key(ED25519, encoded)
}

/// One line below a note's text: by whom, and the hash of the key before the signature itself.
pub(crate) struct NoteSignature<'a> {
    name: &'a str,
    /// More than four.
    pub(crate) bytes: Vec<u8>,
}

const MALFORMED: &str = "signed note: not a text, an empty line and signatures";

/// The text of a note that nobody has checked yet, and its signatures.
pub(crate) fn parse_note(note: &str) -> Result<(&str, Vec<NoteSignature<'_>>)> {
    let malformed = || Error::corrupt(MALFORMED);
    if note.len() > MAX_BYTES {
        return Err(malformed());
    }
    let (text, lines) = note
        .rfind("\n\n")
        .map(|at| (&note[..=at], &note[at + 2..]))
        .filter(|(_, lines)| lines.ends_with('\n'))
        .ok_or_else(malformed)?;
    let mut signatures = Vec::new();
    for line in lines.trim_end_matches('\n').split('\n') {
        let (name, encoded) =
            line.strip_prefix("— ").and_then(|rest| rest.split_once(' ')).ok_or_else(malformed)?;
        let bytes = STANDARD.decode(encoded).ok().filter(|b| b.len() > 4).ok_or_else(malformed)?;
        signatures.push(NoteSignature { name, bytes });
    }
    Ok((text, signatures))
}

/// Adds signatures to a text that ends in a line break.
pub(crate) fn seal<'a>(
    text: &str,
    signatures: impl IntoIterator<Item = (&'a VerifierKey, [u8; 64])>,
) -> String {
    let mut note = format!("{text}\n");
    for (key, signature) in signatures {
        let bytes = [&key.0.hash[..], &signature].concat();
        note.push_str(&format!("— {} {}\n", key.name(), STANDARD.encode(bytes)));
    }
    note
}

/// A note with the signatures of another one of the same text beside its own, as far as there is
/// room.
pub(crate) fn join(mut note: String, other: &str) -> String {
    let lines = other.rsplit_once("\n\n").map_or("", |(_, lines)| lines);
    for line in lines.lines() {
        let is_known = note.lines().any(|known| known == line);
        if !is_known && note.len() + line.len() < MAX_BYTES {
            note.push_str(line);
            note.push('\n');
        }
    }
    note
}

/// The text of a note, after its signature by `key` was checked. Signatures by other keys are
/// passed over, as the format demands.
///
/// # Errors
///
/// [`ErrorKind::Corrupt`] if the note has not the form of one, has no signature by the key, or a
/// wrong one.
pub fn open_note<'a>(note: &'a str, key: &VerifierKey) -> Result<&'a str> {
    let (text, signatures) = parse_note(note)?;
    if key.signed(text, &signatures)? {
        return Ok(text);
    }
    Err(Error::corrupt(format!("no signature by `{}`", key.name())))
}

/// The text that a checkpoint states.
pub(crate) fn checkpoint_text(origin: &str, size: u64, root: &Digest) -> String {
    format!("{origin}\n{size}\n{}\n", STANDARD.encode(root.as_bytes()))
}

/// Reads a checkpoint and checks its signature by one of the log's keys: a [`VerifierKey`], or
/// several in [`LogKeys`].
///
/// # Errors
///
/// As [`open_note`]; and [`ErrorKind::Corrupt`] if the text states no checkpoint.
pub fn open_checkpoint(note: &str, keys: impl Into<LogKeys>) -> Result<Checkpoint> {
    let keys = keys.into();
    let (text, signatures) = parse_note(note)?;
    let stated = state_of(text)?;
    keys.check(text, stated.1, &signatures)?;
    let (origin, size, root) = stated;
    Ok(Checkpoint::new(origin.to_owned(), size, root, note.to_owned()))
}

/// Origin, size and root of a checkpoint's text.
fn state_of(text: &str) -> Result<(&str, u64, Digest)> {
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
    Ok((origin, number, Digest::from_bytes(root)))
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
        assert_eq!(open_checkpoint(&note, sealed.verifier()).unwrap().size, 7);
        assert!(open_note(&note, &key).unwrap_err().to_string().contains("example.com/log"));
        for at in 0..note.len() {
            let mut bytes = note.clone().into_bytes();
            bytes[at] ^= 0x01;
            if let Ok(changed) = String::from_utf8(bytes) {
                assert!(open_checkpoint(&changed, sealed.verifier()).is_err(), "byte {at}");
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
        let key: VerifierKey = KEY.parse().unwrap();
        let checkpoint = open_checkpoint(NOTE, &key).unwrap();
        assert_eq!((checkpoint.origin.as_str(), checkpoint.size), ("example.com/log/testdata", 1));
        // A signature by a key that is not known does not hurt.
        let cosigned = format!("{NOTE}— witness.example/w AAAAAAAA\n");
        assert_eq!(open_checkpoint(&cosigned, &key).unwrap().size, 1);
    }
}
