//! Letting go of the oldest entries of a log in an object store.

use std::path::Path;

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use kaizen_core::record::Occurrence;
use kaizen_core::{AuditLog as _, Context, Error, ErrorKind, Result};

use super::objects::Put;
use super::state::TRIES;
use super::{Inner, ObjectLog, lock};
use crate::objects::{Newer, Read};
use crate::pruning::{self, MARK, MARK_BYTES, Mark, Pruning};
use crate::tail::unread;
use crate::tiles;

/// How many objects are removed at the same time.
const AT_ONCE: usize = 8;
const ENTRIES: &str = "tile/entries";

impl ObjectLog {
    /// The entry first, then the mark that points to it, then the bundles.
    pub(super) async fn prune_below(&self, first: u64, occurrence: &Occurrence) -> Result<()> {
        let known = self.0.pruning().await?;
        if first > known.first {
            let size = self.size().await?;
            if first > size {
                let log = self.0.name();
                let message = format!("{log}: pruned below {first}, and it has {size} entries");
                return Err(Error::invalid(message));
            }
            let gone = 0..first;
            let root = self.0.prove(first, &[gone]).await?;
            let root = *root.first().context(ErrorKind::Internal, "log: no root")?;
            let said = self.append(&[pruning::entry(first, root, occurrence)], None).await?;
            // Whoever has the tiles alone finds it there.
            self.publish().await?;
            self.0.mark_pruned(said.start, first).await?;
        }
        self.0.remove_pruned().await
    }
}

impl Inner {
    /// How the log is called in messages.
    pub(super) fn name(&self) -> String {
        format!("log {}", self.folder.place(""))
    }

    /// What the log was pruned of, as far as this process knows.
    pub(super) fn known_pruning(&self) -> Pruning {
        lock(&self.pruning).0
    }

    /// What the log says that it was pruned of.
    ///
    /// What an older mark points to may go while it is looked for. Then there is a newer one.
    pub(super) async fn pruning(&self) -> Result<Pruning> {
        let (known, version) = lock(&self.pruning).clone();
        let mut read = match self.folder.get_if_new(MARK, MARK_BYTES, version.as_ref()).await? {
            Newer::Same => return Ok(known),
            Newer::Missing => return Ok(Pruning::default()),
            Newer::Read(read) => read,
        };
        loop {
            match self.marked_by(&read).await {
                Err(error) if error.kind() == ErrorKind::Corrupt => {
                    let newer = self.folder.get_if_new(MARK, MARK_BYTES, Some(&read.version));
                    let Newer::Read(newer) = newer.await? else { return Err(error) };
                    read = newer;
                }
                found => return found,
            }
        }
    }

    /// What the entry says that a mark points to.
    async fn marked_by(&self, read: &Read) -> Result<Pruning> {
        let mark = Mark::parse(&read.bytes, self.folder.place(MARK))?;
        let state = {
            let mut slot = self.state.lock().await;
            self.refresh(&mut slot).await?;
            slot.as_ref().ok_or_else(unread)?.clone()
        };
        mark.check(state.tail.size())?;
        let entries = self.bytes_at(&state, &(mark.index..mark.index + 1)).await?;
        let found = mark.pruning(entries.first().context(ErrorKind::Internal, "log: no entry")?)?;
        *lock(&self.pruning) = (found, Some(read.version.clone()));
        Ok(found)
    }

    /// Says which entry tells what was pruned, unless another tells of more.
    async fn mark_pruned(&self, index: u64, first: u64) -> Result<()> {
        for _ in 0..TRIES {
            if self.pruning().await?.first >= first {
                return Ok(());
            }
            let version = lock(&self.pruning).1.clone();
            let bytes = Mark::bytes(index);
            match self.folder.replace(MARK, version.as_ref(), bytes).await? {
                Put::Done(_) => drop(self.pruning().await?),
                Put::Changed => {}
                Put::Unknown(error) => return Err(error),
            }
        }
        Err(self.busy(MARK))
    }

    /// Removes the bundles that hold nothing that stays.
    async fn remove_pruned(&self) -> Result<()> {
        let bundles = self.pruning().await?.bundles();
        if bundles == 0 {
            return Ok(());
        }
        let prefix = self.folder.path(ENTRIES);
        let listed = self
            .folder
            .store
            .list(Some(&prefix))
            .map_err(|error| self.folder.failed(ENTRIES, error));
        let gone = listed.try_filter_map(|meta| async move {
            let name = self.folder.name(&meta.location);
            let below = name.as_deref().and_then(|name| name.strip_prefix("tile/entries/"));
            let place = below.and_then(|below| tiles::parse_path(Path::new(below)));
            Ok(place.filter(|(index, _)| *index < bundles).and(name))
        });
        let gone: Vec<String> = gone.try_collect().await?;
        let removals = gone.into_iter().map(|name| async move { self.folder.delete(&name).await });
        stream::iter(removals).buffer_unordered(AT_ONCE).try_collect().await
    }
}
