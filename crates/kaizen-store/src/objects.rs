//! Object stores: the errors they give, the names in them, and whether they can do what a commit
//! needs.

use std::sync::Arc;

use kaizen_core::{Bytes, Error, ErrorKind, Result};
use object_store::path::{Path, PathPart};
use object_store::{
    GetOptions, ObjectStore, ObjectStoreExt as _, PutMode, PutPayload, UpdateVersion,
};

use crate::random::random;

/// A folder of an object store.
#[derive(Clone, Debug)]
pub(crate) struct Folder {
    pub(crate) store: Arc<dyn ObjectStore>,
    prefix: Path,
}

/// An object, and the version of it that was read.
#[derive(Debug)]
pub(crate) struct Read {
    pub(crate) bytes: Bytes,
    pub(crate) version: UpdateVersion,
}

/// An object, against the version of it that is known.
#[derive(Debug)]
pub(crate) enum Newer {
    Read(Read),
    Same,
    Missing,
}

impl Folder {
    pub(crate) fn new(store: Arc<dyn ObjectStore>, prefix: &str) -> Result<Self> {
        let prefix = Path::parse(prefix).map_err(|error| {
            Error::invalid(format!("folder `{prefix}` of an object store")).with_source(error)
        })?;
        Ok(Self { store, prefix })
    }

    /// The object of this name, whose parts are parted by `/`.
    pub(crate) fn path(&self, name: &str) -> Path {
        self.prefix.parts().chain(name.split('/').map(PathPart::from)).collect()
    }

    /// The name of an object that the folder holds.
    pub(crate) fn name(&self, path: &Path) -> Option<String> {
        let parts: Vec<_> = path.prefix_match(&self.prefix)?.collect();
        Some(parts.iter().map(AsRef::as_ref).collect::<Vec<_>>().join("/"))
    }

    /// How the folder is called in messages.
    pub(crate) fn place(&self, name: &str) -> String {
        format!("{} in {}", self.path(name), self.store)
    }

    pub(crate) fn failed(&self, name: &str, error: object_store::Error) -> Error {
        Error::new(kind(&error), self.place(name)).with_source(error)
    }

    /// Whether there is such an object.
    pub(crate) async fn exists(&self, name: &str) -> Result<bool> {
        match self.store.head(&self.path(name)).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(self.failed(name, error)),
        }
    }

    /// An object of at most so many bytes, or `None` if there is none.
    pub(crate) async fn get(&self, name: &str, most: usize) -> Result<Option<Read>> {
        match self.get_if_new(name, most, None).await? {
            Newer::Read(read) => Ok(Some(read)),
            Newer::Missing | Newer::Same => Ok(None),
        }
    }

    /// An object of at most so many bytes, if it is of another version than the one known.
    pub(crate) async fn get_if_new(
        &self,
        name: &str,
        most: usize,
        known: Option<&UpdateVersion>,
    ) -> Result<Newer> {
        let if_none_match = known.and_then(|known| known.e_tag.clone());
        let options = GetOptions { if_none_match, ..GetOptions::default() };
        let found = match self.store.get_opts(&self.path(name), options).await {
            Err(object_store::Error::NotFound { .. }) => return Ok(Newer::Missing),
            Err(object_store::Error::NotModified { .. }) => return Ok(Newer::Same),
            found => found.map_err(|error| self.failed(name, error))?,
        };
        if found.meta.size > most as u64 {
            let (place, size) = (self.place(name), found.meta.size);
            return Err(Error::corrupt(format!("{place}: {size} bytes, at most {most}")));
        }
        let version =
            UpdateVersion { e_tag: found.meta.e_tag.clone(), version: found.meta.version.clone() };
        let bytes = found.bytes().await.map_err(|error| self.failed(name, error))?;
        Ok(Newer::Read(Read { bytes, version }))
    }

    /// Puts an object; its version, or `None` if the mode did not allow it.
    pub(crate) async fn put(
        &self,
        name: &str,
        bytes: impl Into<PutPayload>,
        mode: PutMode,
    ) -> Result<Option<UpdateVersion>> {
        use object_store::Error as E;
        let update = matches!(mode, PutMode::Update(_));
        match self.store.put_opts(&self.path(name), bytes.into(), mode.into()).await {
            Ok(put) => Ok(Some(put.into())),
            Err(E::AlreadyExists { .. } | E::Precondition { .. }) => Ok(None),
            // What was to be of some version is not there at all.
            Err(E::NotFound { .. }) if update => Ok(None),
            Err(error) => Err(self.failed(name, error)),
        }
    }

    /// Removes an object; one that is gone is fine.
    pub(crate) async fn delete(&self, name: &str) -> Result<()> {
        match self.store.delete(&self.path(name)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.failed(name, error)),
        }
    }

    /// Refuses a store on which two writers cannot be told apart: one that writes an object over
    /// another that it was told must not be there, or must be of another version.
    pub(crate) async fn demand_conditional_puts(&self) -> Result<()> {
        let name = format!("uploads/{}", unique()?);
        let tried = self.try_conditional_puts(&name).await;
        let cleared = self.delete(&name).await;
        if tried? {
            return cleared;
        }
        let message = format!("{}: this object store has no conditional writes", self.store);
        Err(Error::new(ErrorKind::Unsupported, message))
    }

    async fn try_conditional_puts(&self, name: &str) -> Result<bool> {
        let Some(first) = self.put(name, "1", PutMode::Create).await? else { return Ok(false) };
        if first.e_tag.is_none() && first.version.is_none() {
            return Ok(false);
        }
        if self.put(name, "2", PutMode::Create).await?.is_some() {
            return Ok(false);
        }
        let second = self.put(name, "3", PutMode::Update(first.clone())).await?;
        let stale = self.put(name, "4", PutMode::Update(first)).await?;
        Ok(second.is_some() && stale.is_none())
    }
}

/// A name that no other writer takes.
pub(crate) fn unique() -> Result<String> {
    Ok(hex::encode(random::<16>()?))
}

/// What to do about it.
fn kind(error: &object_store::Error) -> ErrorKind {
    use object_store::Error as E;
    match error {
        E::NotFound { .. } => ErrorKind::NotFound,
        E::AlreadyExists { .. } => ErrorKind::AlreadyExists,
        E::Precondition { .. } => ErrorKind::Conflict,
        E::NotSupported { .. } | E::NotImplemented { .. } => ErrorKind::Unsupported,
        E::PermissionDenied { .. } | E::Unauthenticated { .. } => ErrorKind::Refused,
        E::InvalidPath { .. } | E::UnknownConfigurationKey { .. } => ErrorKind::Invalid,
        _ => ErrorKind::Unavailable,
    }
}
