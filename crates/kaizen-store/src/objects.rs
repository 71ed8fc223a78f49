//! Object stores: the errors they give, the names in them, and whether they can do what a commit
//! needs.

use std::sync::Arc;

use kaizen_core::{Error, ErrorKind, Result};
use object_store::path::{Path, PathPart};
use object_store::{ObjectStore, ObjectStoreExt as _, PutMode, PutPayload, UpdateVersion};

use crate::random::random;

/// A folder of an object store.
#[derive(Clone, Debug)]
pub(crate) struct Folder {
    pub(crate) store: Arc<dyn ObjectStore>,
    prefix: Path,
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

    /// Puts an object; its version, or `None` if the mode did not allow it.
    pub(crate) async fn put(
        &self,
        name: &str,
        bytes: impl Into<PutPayload>,
        mode: PutMode,
    ) -> Result<Option<UpdateVersion>> {
        match self.store.put_opts(&self.path(name), bytes.into(), mode.into()).await {
            Ok(put) => Ok(Some(put.into())),
            Err(
                object_store::Error::AlreadyExists { .. }
                | object_store::Error::Precondition { .. },
            ) => Ok(None),
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
