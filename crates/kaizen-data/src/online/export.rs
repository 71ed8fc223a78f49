//! From an online store to a snapshot file.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;

use kaizen_core::{Bytes, Digest, Error, ErrorKind, Result};
use kaizen_table::FeatureView;

use super::space::{Progress, Space};
use super::{Online, definitions, snapshot};
use crate::blocking::blocking;
use crate::whole_file::{Unfinished, clear_unfinished};
use crate::within::Within;

/// So many entries are read at once.
const PAGE: usize = 10_000;

/// Entries by their keys.
type Entries = BTreeMap<Bytes, Bytes>;

impl Online {
    /// Writes these views, as far as they go, to a file that
    /// [`SnapshotOnlineStore`](crate::SnapshotOnlineStore) opens, and gives the digest of its
    /// content: the same content gives the same bytes.
    ///
    /// The file appears whole or not at all, in place of one of that name. A view that was never
    /// materialised with this definition is [`ErrorKind::NotFound`]. If another program writes one
    /// of the views, or forgets an entity in one, before the file has its name, that is
    /// [`ErrorKind::Conflict`]. One export at a time writes a file: what one that was cut off has
    /// left beside it is cleared away.
    pub async fn export(&self, views: &[FeatureView], path: impl AsRef<Path>) -> Result<Digest> {
        let writer = self.writer().await;
        let mut spaces: BTreeMap<String, Entries> = BTreeMap::new();
        let mut exported = Vec::with_capacity(views.len());
        for view in views {
            let space = Space::of(view)?;
            if !spaces.contains_key(space.name()) {
                let whole = self.whole_space(view, &space).await;
                let (entries, progress) = whole.within(format!("view `{}`", view.name()))?;
                spaces.insert(space.name().to_owned(), entries);
                exported.push((view.name(), space, progress));
            }
            let latest = definitions::latest(view)?;
            let named = spaces.entry(latest.space).or_default();
            named.insert(latest.key, latest.value.unwrap_or_default());
        }
        self.check_unchanged(&exported).await?;
        let path = path.as_ref().to_owned();
        let place = format!("snapshot `{}`", path.display());
        let write = move || {
            let (bytes, digest) = snapshot::write(&spaces)?;
            Ok((written(&path, &bytes).map_err(failed)?, digest))
        };
        let (unfinished, digest) = blocking(write).await.within(&place)?;
        self.check_unchanged(&exported).await?;
        let finish = move || {
            let finished = unfinished.finish().map_err(failed);
            // Until here nobody else writes through this `Online`, also if the caller goes away.
            drop(writer);
            finished
        };
        blocking(finish).await.within(&place)?;
        Ok(digest)
    }

    /// All entries of a space, and how far the view goes.
    async fn whole_space(&self, view: &FeatureView, space: &Space) -> Result<(Entries, Progress)> {
        let Some(before) = self.progress(space).await? else { return Err(self.absent(view).await) };
        let (mut entries, mut after) = (Entries::new(), None);
        loop {
            let page = self.store.page(space.name(), after.as_ref(), PAGE).await?;
            entries.extend(page.entries);
            after = page.next;
            if after.is_none() {
                return Ok((entries, before));
            }
        }
    }

    /// Checks that views still go as far as when they were read.
    async fn check_unchanged(&self, exported: &[(&str, Space, Progress)]) -> Result<()> {
        for (view, space, before) in exported {
            if self.progress(space).await?.as_ref() != Some(before) {
                let message = "it was written while it was exported; export it again";
                return Err(Error::conflict(message)).within(format!("view `{view}`"));
            }
        }
        Ok(())
    }
}

/// These bytes on disk, beside the place where they are to be.
fn written(path: &Path, bytes: &[u8]) -> io::Result<Unfinished> {
    clear_unfinished(path)?;
    let mut unfinished = Unfinished::of(path)?;
    unfinished.file().write_all(bytes)?;
    unfinished.sync()?;
    Ok(unfinished)
}

fn failed(error: io::Error) -> Error {
    let kind = match error.kind() {
        io::ErrorKind::NotFound => ErrorKind::NotFound,
        io::ErrorKind::InvalidInput => ErrorKind::Invalid,
        _ => ErrorKind::Unavailable,
    };
    Error::new(kind, "it was not written").with_source(error)
}
