//! The objects of a log in an object store.

use std::path::Path as FilePath;

use kaizen_core::{Bytes, Context, Error, ErrorKind, Result};
use object_store::{PutMode, UpdateVersion};

use crate::objects::Folder;
use crate::tiles::{Kind, WIDTH};

/// What a conditional write came to.
#[derive(Debug)]
pub(super) enum Put {
    /// It was done; the object is of this version now.
    Done(UpdateVersion),
    /// The object is not of the version that was expected.
    Changed,
    /// It failed, and may have been done all the same, or be done yet.
    Unknown(Error),
}

impl Folder {
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
        let mode = version.map_or(PutMode::Create, |version| PutMode::Update(version.clone()));
        match self.put(name, bytes, mode).await {
            Ok(Some(version)) => Ok(Put::Done(version)),
            Ok(None) => Ok(Put::Changed),
            Err(error) if error.kind() == ErrorKind::Unsupported => {
                let message = format!("{}: the store has no conditional writes", self.place(name));
                Err(Error::new(ErrorKind::Unsupported, message).with_source(error))
            }
            Err(error) => Ok(Put::Unknown(error)),
        }
    }

    /// The first `width` items of a tile, with how its object is called; `None` if it is not
    /// there. Where the partial form is gone, the full one serves.
    pub(super) async fn find_tile(
        &self,
        kind: Kind,
        index: u64,
        width: u64,
    ) -> Result<Option<(String, Bytes)>> {
        let name = name_of(kind, index, width);
        let most = kind.most_bytes();
        if let Some(read) = self.get(&name, most).await? {
            return Ok(Some((self.place(&name), read.bytes)));
        }
        if width == WIDTH {
            return Ok(None);
        }
        let full = name_of(kind, index, WIDTH);
        let Some(whole) = self.get(&full, most).await? else { return Ok(None) };
        let shown = self.place(&full);
        let length = kind.beginning(FilePath::new(&shown), &whole.bytes, width)?;
        Ok(Some((shown, whole.bytes.slice(..length))))
    }

    /// The first `width` items of a tile, which must be there.
    pub(super) async fn tile(&self, kind: Kind, index: u64, width: u64) -> Result<(String, Bytes)> {
        let missing = || format!("{}: it is missing", self.place(&name_of(kind, index, width)));
        self.find_tile(kind, index, width).await?.context(ErrorKind::Corrupt, missing())
    }
}

/// The name of a tile's object below the prefix of the log.
pub(super) fn name_of(kind: Kind, index: u64, width: u64) -> String {
    kind.path(FilePath::new(""), index, width).to_string_lossy().into_owned()
}
