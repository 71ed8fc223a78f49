//! The folder as it is, for `fsck`.

use kaizen_core::{Bytes, Error, ErrorKind, Result, async_trait};
use object_store::ObjectStoreExt as _;

use super::ObjectArtifacts;
use crate::fsck::Layout;

#[async_trait]
impl Layout for ObjectArtifacts {
    async fn files(&self) -> Result<Vec<(String, u64)>> {
        let listed = self.0.list("").await?;
        Ok(listed.into_iter().map(|(name, meta)| (name, meta.size)).collect())
    }

    async fn read_file(&self, name: &str, most: u64) -> Result<Option<Bytes>> {
        let folder = &self.0.folder;
        let got = match folder.store.get(&folder.path(name)).await {
            Ok(got) => got,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(folder.failed(name, error)),
        };
        if got.meta.size > most {
            let message = format!("{}: more than {most} bytes", folder.place(name));
            return Err(Error::new(ErrorKind::Limit, message));
        }
        Ok(Some(got.bytes().await.map_err(|error| folder.failed(name, error))?))
    }

    fn keeps(&self, name: &str) -> bool {
        let touched = name.strip_prefix("touched/");
        touched.is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit()))
    }

    fn is_unfinished(&self, name: &str) -> bool {
        name.starts_with("uploads/")
    }
}
