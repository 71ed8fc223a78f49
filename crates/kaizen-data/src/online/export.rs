//! From an online store to a snapshot file.

use std::collections::BTreeMap;
use std::path::Path;

use kaizen_core::{Bytes, Digest, Error, ErrorKind, Result};
use kaizen_table::FeatureView;

use super::space::Space;
use super::{Online, definitions, snapshot};
use crate::blocking::blocking;
use crate::whole_file::write_whole;
use crate::within::Within;

/// So many entries are read at once.
const PAGE: usize = 10_000;

impl Online {
    /// Writes these views, as far as they go, to a file that
    /// [`SnapshotOnlineStore`](crate::SnapshotOnlineStore) opens, and gives the digest of its
    /// content: the same content gives the same bytes.
    ///
    /// The file appears whole or not at all, in place of one of that name. A view that was never
    /// materialised with this definition is [`ErrorKind::NotFound`]; if another program writes one
    /// meanwhile that is [`ErrorKind::Conflict`].
    pub async fn export(&self, views: &[FeatureView], path: impl AsRef<Path>) -> Result<Digest> {
        let _writer = self.writer().await;
        let mut spaces: BTreeMap<String, BTreeMap<Bytes, Bytes>> = BTreeMap::new();
        for view in views {
            let place = || format!("view `{}`", view.name());
            let space = Space::of(view)?;
            if !spaces.contains_key(space.name()) {
                let entries = self.whole_space(view, &space).await.within(place())?;
                spaces.insert(space.name().to_owned(), entries);
            }
            let latest = definitions::latest(view)?;
            let named = spaces.entry(latest.space).or_default();
            named.insert(latest.key, latest.value.unwrap_or_default());
        }
        let path = path.as_ref().to_owned();
        let place = format!("snapshot `{}`", path.display());
        let write = move || {
            let (bytes, digest) = snapshot::write(&spaces)?;
            replace(&path, &bytes)?;
            Ok(digest)
        };
        blocking(write).await.within(&place)
    }

    async fn whole_space(
        &self,
        view: &FeatureView,
        space: &Space,
    ) -> Result<BTreeMap<Bytes, Bytes>> {
        let Some(before) = self.progress(space).await? else { return Err(self.absent(view).await) };
        let (mut entries, mut after) = (BTreeMap::new(), None);
        loop {
            let page = self.store.page(space.name(), after.as_ref(), PAGE).await?;
            entries.extend(page.entries);
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        if self.progress(space).await?.as_ref() != Some(&before) {
            return Err(Error::conflict("it was written while it was exported; export it again"));
        }
        Ok(entries)
    }
}

/// Writes the file whole or not at all.
fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    write_whole(path, bytes).map_err(|error| {
        let kind = match error.kind() {
            std::io::ErrorKind::NotFound => ErrorKind::NotFound,
            std::io::ErrorKind::InvalidInput => ErrorKind::Invalid,
            _ => ErrorKind::Unavailable,
        };
        Error::new(kind, "it was not written").with_source(error)
    })
}
