//! Opening what the arguments name.

use std::io;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use kaizen_core::{ArtifactStore, AuditLog, Context, Error, ErrorKind, Result};
use kaizen_store::{
    LocalLog, LocalStore, LogKeys, Registry, VerifierKey, Version, WitnessKey, WitnessPolicy,
};

use crate::arguments::Place;
use crate::failed::{Blame as _, Failed, asked};

/// At most this many bytes in a file that holds a public key.
const MAX_KEY: u64 = 4_096;

impl Place {
    /// The public keys of the log.
    pub(crate) fn keys(&self) -> Result<LogKeys, Failed> {
        const WANTED: &str = "the public key of the log: give --key or KAIZEN_KEY, NAME+HASH+KEY or \
                              a file with it, such as the `.pub` that a new key comes with";
        let mut keys: Option<LogKeys> = None;
        for said in &self.key {
            let key: VerifierKey = public_key(said)?;
            keys = Some(match keys {
                Some(keys) => keys.and(key).asked()?,
                None => key.into(),
            });
        }
        keys.ok_or_else(|| asked(WANTED))
    }

    /// Which witnesses must have cosigned.
    pub(crate) fn witnesses(&self) -> Result<WitnessPolicy, Failed> {
        let mut witnesses: Vec<WitnessKey> = Vec::new();
        for said in &self.witness {
            witnesses.push(public_key(said)?);
        }
        let quorum = self.quorum.unwrap_or(witnesses.len());
        WitnessPolicy::new(witnesses, quorum).asked()
    }

    pub(crate) async fn log(&self) -> Result<Arc<dyn AuditLog>, Failed> {
        Ok(Arc::new(self.local_log().await?))
    }

    /// The log, if there is one: what was pulled has come without. A log that lost a part of itself
    /// is none that is not there: it is an error.
    pub(crate) async fn log_if_any(&self) -> Result<Option<Arc<dyn AuditLog>>, Failed> {
        match self.has_log()? {
            true => self.log().await.map(Some),
            false => Ok(None),
        }
    }

    /// Whether anything is where the log should be.
    fn has_log(&self) -> Result<bool> {
        match std::fs::read_dir(&self.log) {
            Ok(mut files) => Ok(files.next().is_some()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => {
                let message = format!("log {}: it cannot be looked into", self.log.display());
                Err(Error::new(ErrorKind::Unavailable, message).with_source(error))
            }
        }
    }

    pub(crate) async fn local_log(&self) -> Result<LocalLog, Failed> {
        Ok(LocalLog::reader(self.log.clone(), self.keys()?).await?)
    }

    /// That there is a store: opening one that is not there would make it.
    pub(crate) fn check_store(&self) -> Result<()> {
        let store = self.store.display();
        match ["oci-layout", "blobs"].map(|name| self.store.join(name).exists()) {
            [true, _] => Ok(()),
            [false, true] => Err(Error::corrupt(format!(
                "store {store}: it has blobs, and no file `oci-layout`"
            ))),
            [false, false] => Err(Error::not_found(format!("store {store}: there is none"))),
        }
    }

    pub(crate) async fn store(&self) -> Result<Arc<dyn ArtifactStore>> {
        self.check_store()?;
        Ok(Arc::new(LocalStore::open(self.store.clone()).await?))
    }

    pub(crate) async fn registry(&self) -> Result<Registry, Failed> {
        Ok(Registry::new(self.store().await?, self.log().await?))
    }
}

/// The text in a file of at most so many bytes.
pub(crate) fn read_text(path: &Path, most: u64) -> Result<String> {
    let what = || path.display().to_string();
    let size = path.metadata().context(ErrorKind::NotFound, what())?.len();
    if size > most {
        return Err(Error::new(ErrorKind::Limit, format!("{}: {size} bytes, over {most}", what())));
    }
    std::fs::read_to_string(path).context(ErrorKind::Corrupt, what())
}

/// A public key that is written out, or lies in a file.
fn public_key<K: FromStr<Err = Error>>(said: &str) -> Result<K, Failed> {
    match said.parse() {
        Ok(key) => Ok(key),
        Err(error) => match read_key(Path::new(said))? {
            Some(text) => text.trim().parse().asked(),
            None => Err(Failed::Asked(error)),
        },
    }
}

fn read_key(path: &Path) -> Result<Option<String>> {
    let Ok(metadata) = path.metadata() else { return Ok(None) };
    let what = format!("key file {}", path.display());
    if !metadata.is_file() || metadata.len() > MAX_KEY {
        return Err(Error::invalid(format!("{what}: not a file of a public key")));
    }
    let text = std::fs::read_to_string(path).context(ErrorKind::Unavailable, &what)?;
    if text.starts_with("PRIVATE+KEY+") {
        return Err(Error::refused(format!("{what}: a private key; this needs the public one")));
    }
    Ok(Some(text))
}

/// The version that `NAME@ALIAS`, `NAME:NUMBER` or `NAME` says; `None` if the text has another form
/// or no such name is known.
pub(crate) async fn version_of(
    registry: &Registry,
    text: &str,
) -> Result<Option<(String, Version)>, Failed> {
    let names = registry.names().await?;
    let known = |name: &str| names.iter().any(|known| known == name);
    let found = if let Some((name, alias)) = text.rsplit_once('@').filter(|(name, _)| known(name)) {
        let holder = registry.alias(name, alias).await?;
        let message = format!("alias `{alias}` of `{name}`: nobody holds it");
        (name, holder.context(ErrorKind::NotFound, message)?)
    } else if let Some((name, number)) = text.rsplit_once(':').filter(|(name, _)| known(name)) {
        let number = number.parse().context(ErrorKind::Invalid, format!("version `{text}`"));
        let number: u32 = number.asked()?;
        let version = registry.versions(name).await?.into_iter().find(|v| v.version == number);
        let message = format!("version {number} of `{name}`: it is not registered");
        (name, version.context(ErrorKind::NotFound, message)?)
    } else if known(text) {
        let holder = registry.alias(text, "champion").await?;
        let message = format!("alias `champion` of `{text}`: nobody holds it");
        (text, holder.context(ErrorKind::NotFound, message)?)
    } else {
        return Ok(None);
    };
    Ok(Some((found.0.to_owned(), found.1)))
}
