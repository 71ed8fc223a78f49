//! Ed25519 keys in files and in the environment.

use std::fmt;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use ed25519_dalek::{Signer as _, SigningKey};
use kaizen_core::{Context, Error, ErrorKind, Result, Signer, async_trait};

use crate::files::{self, blocking};
use crate::note::{self, VerifierKey};
use crate::random::random;

const PREFIX: &str = "PRIVATE+KEY+";
/// At most this many bytes in a key file.
const MAX_BYTES: u64 = 4096;

/// Signs with an Ed25519 key that a file holds, in the form that C2SP signed-note tools write:
/// `PRIVATE+KEY+name+hash+base64`.
///
/// The key is wiped from memory when this is dropped (the text that it was read from is not), and
/// `Debug` shows only the public key.
///
/// ```
/// use kaizen_store::Ed25519Signer;
///
/// let signer = Ed25519Signer::from_seed("example.com/models", [7; 32])?;
/// assert!(signer.verifier().to_string().starts_with("example.com/models+"));
/// # Ok::<(), kaizen_core::Error>(())
/// ```
pub struct Ed25519Signer {
    key: SigningKey,
    verifier: VerifierKey,
}

impl Ed25519Signer {
    /// Draws a new key from the operating system and writes it to `path`, readable by its owner
    /// only, and the public key to `path` with `.pub` after it, for whoever checks.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::AlreadyExists`] if there is a file: a key is never overwritten.
    pub async fn generate(name: &str, path: impl Into<PathBuf>) -> Result<Self> {
        let signer = Self::from_seed(name, random()?)?;
        let (text, public) = (signer.private_text(), format!("{}\n", signer.verifier));
        let path = path.into();
        blocking(move || {
            write_key(&path, &text)?;
            let mut beside = path.into_os_string();
            beside.push(".pub");
            // It follows from the key, so nothing is lost with it.
            fs::write(&beside, public).map_err(|error| files::failed(Path::new(&beside), error))
        })
        .await?;
        Ok(signer)
    }

    /// Reads the key in `path`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Refused`] if the file's group or others may do anything with it;
    /// [`ErrorKind::Corrupt`] if it holds no key.
    pub async fn open(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        blocking(move || {
            let text = read_key(&path)?;
            Self::parse(text.trim_end()).ok_or_else(|| {
                Error::corrupt(format!("key file {}: not an Ed25519 key", path.display()))
            })
        })
        .await
    }

    /// Reads the key in an environment variable, in the form of a key file. The variable stays as
    /// it is, and whoever may look into the environment of this process can read it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`] if the variable is not set; [`ErrorKind::Corrupt`] if it holds no
    /// key. Neither shows what it holds.
    pub fn from_env(variable: &str) -> Result<Self> {
        let what = || format!("environment variable `{}`", variable.escape_debug());
        let value = std::env::var_os(variable).ok_or_else(|| Error::not_found(what()))?;
        // A source would show the value.
        let text = value.to_str().filter(|text| text.len() as u64 <= MAX_BYTES);
        let signer = text.and_then(|text| Self::parse(text.trim_end()));
        signer.context(ErrorKind::Corrupt, format!("{}: not an Ed25519 key", what()))
    }

    /// The key of this seed, for tests and for keys that are kept elsewhere.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`] if the name is empty or has white space or a `+`.
    pub fn from_seed(name: impl Into<String>, seed: [u8; 32]) -> Result<Self> {
        let key = SigningKey::from_bytes(&seed);
        let verifier = VerifierKey::new(name, key.verifying_key().to_bytes())?;
        Ok(Self { key, verifier })
    }

    /// The key that verifies what this one signs, to be given to anybody.
    pub fn verifier(&self) -> VerifierKey {
        self.verifier.clone()
    }

    fn private_text(&self) -> String {
        format!("{PREFIX}{}\n", note::private_text(&self.verifier, self.key.as_bytes()))
    }

    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.strip_prefix(PREFIX)?.splitn(3, '+');
        let (name, _, seed) = (parts.next()?, parts.next()?, parts.next()?);
        let signer = Self::from_seed(name, note::private_seed(seed)?).ok()?;
        // The hash is of the public key: if it fits, so does everything.
        (signer.private_text().trim_end() == text).then_some(signer)
    }

    #[cfg(test)]
    pub(crate) fn seal_now(&self, text: &str) -> String {
        note::seal(text, [(&self.verifier, self.key.sign(text.as_bytes()).to_bytes())])
    }
}

impl fmt::Debug for Ed25519Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Ed25519Signer").field(&self.verifier).finish()
    }
}

#[async_trait]
impl Signer for Ed25519Signer {
    fn name(&self) -> &str {
        self.verifier.name()
    }

    fn public_key(&self) -> [u8; 32] {
        self.verifier.public_key()
    }

    async fn sign(&self, message: &[u8]) -> Result<[u8; 64]> {
        Ok(self.key.sign(message).to_bytes())
    }

    fn is_local(&self) -> bool {
        true
    }
}

fn write_key(path: &Path, text: &str) -> Result<()> {
    let opened = File::options().write(true).create_new(true).mode(0o600).open(path);
    let mut file = opened.map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => {
            let message = format!("key file {}: it exists already", path.display());
            Error::new(ErrorKind::AlreadyExists, message)
        }
        _ => files::failed(path, error),
    })?;
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    // Its name too: a log that is signed with it is on disk soon.
    let dir = files::parent(path)?;
    let synced = written.and_then(|()| File::open(dir)?.sync_all());
    let written = synced.or_else(|error| match files::cannot_be_synced(&error) {
        true => Ok(()),
        false => Err(error),
    });
    written.map_err(|error| {
        // Half a key would be in the way of a whole one.
        let _ = fs::remove_file(path);
        files::failed(path, error)
    })
}

fn read_key(path: &Path) -> Result<String> {
    let what = format!("key file {}", path.display());
    let metadata = fs::metadata(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Error::not_found(what.clone()).with_source(error),
        _ => files::failed(path, error),
    })?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(Error::refused(format!("{what}: mode {mode:03o} lets others at it, not 600")));
    }
    if metadata.len() > MAX_BYTES {
        return Err(Error::corrupt(format!("{what}: {} bytes", metadata.len())));
    }
    fs::read_to_string(path).context(ErrorKind::Corrupt, what)
}
