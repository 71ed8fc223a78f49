//! The objects of a log in an object store.

use std::path::Path as FilePath;
use std::sync::Arc;

use kaizen_core::{Bytes, Context, Error, ErrorKind, Result};
use object_store::path::Path;
use object_store::{
    GetOptions, ObjectStore, ObjectStoreExt as _, PutMode, PutOptions, PutPayload, UpdateVersion,
};

use crate::tiles::{Kind, WIDTH};

/// What a conditional write came to.
#[derive(Debug)]
pub(super) enum Put {
    /// It was done; the object is of this version now.
    Done(UpdateVersion),
    /// The object is not of the version that was expected.
    Changed,
    /// It failed, and may have been done all the same.
    Unknown(Error),
}

/// An object, and the version of it that was read.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) bytes: Bytes,
    pub(super) version: UpdateVersion,
}

/// An object, against the version of it that is known.
#[derive(Debug)]
pub(super) enum Newer {
    Read(Read),
    Same,
    Missing,
}

/// The folder of an object store that holds a log.
#[derive(Clone, Debug)]
pub(super) struct Objects {
    store: Arc<dyn ObjectStore>,
    prefix: Path,
}

impl Objects {
    pub(super) fn new(store: Arc<dyn ObjectStore>, prefix: &str) -> Result<Self> {
        let prefix =
            Path::parse(prefix).context(ErrorKind::Invalid, format!("log prefix `{prefix}`"))?;
        Ok(Self { store, prefix })
    }

    fn path(&self, name: &str) -> Path {
        name.split('/').fold(self.prefix.clone(), |path, part| path.join(part))
    }

    /// How an object is called in messages.
    pub(super) fn shown(&self, name: &str) -> String {
        self.path(name).to_string()
    }

    /// An object of at most so many bytes, or `None` if there is none.
    pub(super) async fn get(&self, name: &str, most: usize) -> Result<Option<Read>> {
        match self.get_if_new(name, most, None).await? {
            Newer::Read(read) => Ok(Some(read)),
            Newer::Missing | Newer::Same => Ok(None),
        }
    }

    /// An object of at most so many bytes, if it is of another version than the one known.
    pub(super) async fn get_if_new(
        &self,
        name: &str,
        most: usize,
        known: Option<&UpdateVersion>,
    ) -> Result<Newer> {
        let shown = self.shown(name);
        let if_none_match = known.and_then(|known| known.e_tag.clone());
        let options = GetOptions { if_none_match, ..GetOptions::default() };
        let found = match self.store.get_opts(&self.path(name), options).await {
            Err(object_store::Error::NotFound { .. }) => return Ok(Newer::Missing),
            Err(object_store::Error::NotModified { .. }) => return Ok(Newer::Same),
            found => found.map_err(|error| failed(&shown, error))?,
        };
        if found.meta.size > most as u64 {
            let size = found.meta.size;
            return Err(Error::corrupt(format!("{shown}: {size} bytes, at most {most}")));
        }
        let version =
            UpdateVersion { e_tag: found.meta.e_tag.clone(), version: found.meta.version.clone() };
        let bytes = found.bytes().await.map_err(|error| failed(&shown, error))?;
        Ok(Newer::Read(Read { bytes, version }))
    }

    /// Writes an object whatever there is.
    pub(super) async fn put(&self, name: &str, bytes: Vec<u8>) -> Result<()> {
        let put = self.store.put(&self.path(name), PutPayload::from(bytes)).await;
        put.map(|_| ()).map_err(|error| failed(&self.shown(name), error))
    }

    /// Writes an object in place of this version of it; of none, if there is to be none.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`] if the store has no conditional writes.
    pub(super) async fn replace(
        &self,
        name: &str,
        version: Option<&UpdateVersion>,
        bytes: Vec<u8>,
    ) -> Result<Put> {
        use object_store::Error as E;
        let mode = version.map_or(PutMode::Create, |version| PutMode::Update(version.clone()));
        let options = PutOptions { mode, ..PutOptions::default() };
        match self.store.put_opts(&self.path(name), PutPayload::from(bytes), options).await {
            Ok(put) => Ok(Put::Done(put.into())),
            Err(E::Precondition { .. } | E::AlreadyExists { .. } | E::NotFound { .. }) => {
                Ok(Put::Changed)
            }
            Err(error @ (E::NotImplemented { .. } | E::NotSupported { .. })) => {
                let message = format!("{}: the store has no conditional writes", self.shown(name));
                Err(Error::new(ErrorKind::Unsupported, message).with_source(error))
            }
            Err(error) => Ok(Put::Unknown(failed(&self.shown(name), error))),
        }
    }

    /// Checks that the store heeds the condition of a write: with an object of its own, which is
    /// removed again.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`] if it does not.
    pub(super) async fn require_conditions(&self, name: &str) -> Result<()> {
        let refuse = || {
            let message = format!("{}: the store has no conditional writes", self.shown(name));
            Error::new(ErrorKind::Unsupported, message)
        };
        let done = |put| match put {
            Put::Done(version) => Ok(version),
            Put::Changed => Err(refuse()),
            Put::Unknown(error) => Err(error),
        };
        let first = done(self.replace(name, None, b"first".to_vec()).await?)?;
        let again = self.replace(name, None, b"again".to_vec()).await?;
        done(self.replace(name, Some(&first), b"second".to_vec()).await?)?;
        let stale = self.replace(name, Some(&first), b"third".to_vec()).await?;
        if let Err(error) = self.store.delete(&self.path(name)).await {
            tracing::debug!(object = self.shown(name), %error, "probe not removed");
        }
        match (again, stale) {
            (Put::Changed, Put::Changed) => Ok(()),
            (Put::Unknown(error), _) | (_, Put::Unknown(error)) => Err(error),
            _ => Err(refuse()),
        }
    }

    /// The first `width` items of a tile. Where the partial form is gone, the full one serves.
    pub(super) async fn tile(&self, kind: Kind, index: u64, width: u64) -> Result<(String, Bytes)> {
        let name = name_of(kind, index, width);
        let most = kind.most_bytes();
        if let Some(read) = self.get(&name, most).await? {
            return Ok((self.shown(&name), read.bytes));
        }
        let full = name_of(kind, index, WIDTH);
        let whole = self.get(&full, most).await?;
        let missing = format!("{}: it is missing", self.shown(&name));
        let whole = whole.context(ErrorKind::Corrupt, missing)?;
        let shown = self.shown(&full);
        let length = kind.beginning(FilePath::new(&shown), &whole.bytes, width)?;
        Ok((shown, whole.bytes.slice(..length)))
    }
}

/// The name of a tile's object below the prefix of the log.
pub(super) fn name_of(kind: Kind, index: u64, width: u64) -> String {
    kind.path(FilePath::new(""), index, width).to_string_lossy().into_owned()
}

/// An object store's error about an object.
fn failed(shown: &str, error: object_store::Error) -> Error {
    use object_store::Error as E;
    let kind = match &error {
        E::InvalidPath { .. } => ErrorKind::Invalid,
        E::NotSupported { .. } | E::NotImplemented { .. } => ErrorKind::Unsupported,
        E::PermissionDenied { .. } | E::Unauthenticated { .. } => ErrorKind::Refused,
        _ => ErrorKind::Unavailable,
    };
    Error::new(kind, shown).with_source(error)
}
