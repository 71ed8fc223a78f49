//! Which definition of a view is online, and the end of the others.

use kaizen_core::{Bytes, Context, Digest, Error, ErrorKind, Result};
use kaizen_table::{FeatureView, OnlineEntry};

use super::space::Space;
use super::{Online, Writer};
use crate::within::Within;

/// The space that holds, by the name of a view, the digest of the definition that was written last.
/// No view has it: the spaces of views end in a digest and a version.
const LATEST: &str = "views";

/// At most so many entries are removed at once.
const PAGE: usize = 10_000;

/// Says that this definition of a view was written last.
pub(crate) fn latest(view: &FeatureView) -> Result<OnlineEntry> {
    let (key, value) = (view.name().to_owned(), view.digest()?.to_string());
    Ok(OnlineEntry { space: LATEST.to_owned(), key: key.into(), value: Some(value.into()) })
}

/// The key and the space under which [`latest`] is kept.
pub(crate) fn latest_key(view: &str) -> (&'static str, Bytes) {
    (LATEST, Bytes::copy_from_slice(view.as_bytes()))
}

impl Online {
    /// Why a view has no space: it was never written, only by another definition or in another
    /// layout, or it was dropped.
    pub(crate) async fn absent(&self, view: &FeatureView) -> Error {
        let found = self.definition(view.name()).await;
        match found.and_then(|found| Ok((found, view.digest()?))) {
            Ok((None, _)) => Error::not_found("it was never materialised online"),
            Ok((Some(found), own)) if found == own => Error::not_found(
                "what was online of it was dropped, or is laid out as another version of this \
                 library does; materialise it",
            ),
            Ok((Some(other), _)) => Error::not_found(format!(
                "it is online with another definition ({}), not with this one; materialise it",
                other.short()
            )),
            Err(error) => error,
        }
    }

    /// The digest of the definition of a view that was materialised or followed last; `None` if
    /// none was.
    pub async fn definition(&self, view_name: &str) -> Result<Option<Digest>> {
        let (space, key) = latest_key(view_name);
        let found = self.store.get(space, &[key]).await?.pop().flatten();
        let parse = |bytes: Bytes| {
            let text = std::str::from_utf8(&bytes).context(ErrorKind::Corrupt, "not text")?;
            text.parse::<Digest>().map_err(|error| Error::corrupt(error.to_string()))
        };
        let place = format!("view `{view_name}`: which definition of it is online");
        found.map(parse).transpose().within(place)
    }

    /// Removes what other definitions of this view have written, in bounded steps, and gives how
    /// many entries those were. A call that was cut off is made again.
    ///
    /// A view is migrated by materialising its new definition, which builds beside the old one;
    /// asking with the new; and then dropping the others.
    pub async fn drop_others(&self, view: &FeatureView) -> Result<u64> {
        let writer = self.writer().await;
        let own = Space::of(view)?;
        if self.progress(&own).await?.is_none() {
            let error = self.absent(view).await;
            return Err(error).within(format!("view `{}`", view.name()));
        }
        let mut removed = 0;
        for space in self.store.spaces().await? {
            if Space::view_of(&space) != Some(view.name()) || space == own.name() {
                continue;
            }
            removed += self.drop_space(&writer, &space).await?;
        }
        self.put(&writer, vec![latest(view)?]).await?;
        Ok(removed)
    }

    pub(super) async fn drop_space(&self, writer: &Writer, space: &str) -> Result<u64> {
        // How far it goes is removed first: half a space is none.
        let progress = Space::progress_key();
        let mut removed = 0;
        if self.store.get(space, std::slice::from_ref(&progress)).await?.pop().flatten().is_some() {
            self.put(writer, vec![removal(space, progress)]).await?;
            removed += 1;
        }
        let mut after = None;
        loop {
            let page = self.store.page(space, after.as_ref(), PAGE).await?;
            let entries: Vec<OnlineEntry> =
                page.entries.into_iter().map(|(key, _)| removal(space, key)).collect();
            if !entries.is_empty() {
                removed += entries.len() as u64;
                self.put(writer, entries).await?;
            }
            after = page.next;
            if after.is_none() {
                return Ok(removed);
            }
        }
    }
}

pub(super) fn removal(space: &str, key: Bytes) -> OnlineEntry {
    OnlineEntry { space: space.to_owned(), key, value: None }
}
