//! Entities that are erased from every view which they name, alone or with others.

use std::collections::BTreeSet;

use arrow::array::RecordBatch;
use kaizen_core::{Bytes, Result, compute};
use kaizen_table::OnlineEntry;

use super::definitions::removal;
use super::space::{Progress, Space};
use super::{Online, Writer};
use crate::keys::KeyTypes;
use crate::removal::Removal;
use crate::within::Within;

/// At most about this many entries are looked at at once.
const PAGE: usize = 10_000;

impl Online {
    /// The views of which some definition is named by these columns, alone or with others.
    pub(crate) async fn views_with(&self, entities: &RecordBatch) -> Result<Vec<String>> {
        let mut views = BTreeSet::new();
        for space in self.store.spaces().await? {
            let Some(view) = Space::view_of(&space) else { continue };
            // What was begun to be dropped is never read, but it is there.
            let Some(progress) = self.progress_in(&space).await? else {
                views.insert(view.to_owned());
                continue;
            };
            if let Some(types) = named_by(&progress, entities)? {
                Removal::of(types, entities).within(format!("view `{view}`, space `{space}`"))?;
                views.insert(view.to_owned());
            }
        }
        Ok(views.into_iter().collect())
    }

    /// [`ErrorKind::Refused`](kaizen_core::ErrorKind) if the store only reads.
    pub(crate) async fn check_writable(&self) -> Result<()> {
        self.store.put(Vec::new()).await
    }

    /// Removes every entity that has these keys, also where they are only some of the columns that
    /// name it, from every definition of a view. Gives how many entries those were.
    pub(crate) async fn erase(&self, view: &str, entities: &RecordBatch) -> Result<u64> {
        let writer = self.writer().await;
        let mut removed = 0;
        for space in self.store.spaces().await? {
            if Space::view_of(&space) == Some(view) {
                let place = format!("view `{view}`, space `{space}`");
                removed += self.erase_in(&writer, &space, entities).await.within(place)?;
            }
        }
        Ok(removed)
    }

    async fn erase_in(&self, writer: &Writer, space: &str, entities: &RecordBatch) -> Result<u64> {
        let Some(mut progress) = self.progress_in(space).await? else {
            return self.drop_space(writer, space).await;
        };
        let Some(named) = named_by(&progress, entities)? else { return Ok(0) };
        let types = progress.key_types()?;
        if types.typed_columns().len() == named.typed_columns().len() {
            return self.forget_in(writer, space, entities).await;
        }
        let (mut removed, mut after) = (0, None);
        loop {
            let page = self.store.page(space, after.as_ref(), PAGE).await?;
            let keys = page.entries.into_iter().map(|(key, _)| key).collect();
            let (types, named, entities) = (types.clone(), named.clone(), entities.clone());
            let doomed = compute(move || with(&types, named, &entities, keys)).await?;
            if !doomed.is_empty() {
                removed += doomed.len() as u64;
                progress.removed();
                let progress = OnlineEntry {
                    space: space.to_owned(),
                    key: Space::progress_key(),
                    value: Some(progress.to_bytes()?),
                };
                let entries = doomed.into_iter().map(|key| removal(space, key));
                self.put(writer, entries.chain([progress]).collect()).await?;
            }
            after = page.next;
            if after.is_none() {
                return Ok(removed);
            }
        }
    }

    async fn progress_in(&self, space: &str) -> Result<Option<Progress>> {
        let found = self.store.get(space, &[Space::progress_key()]).await?.pop().flatten();
        found.map(|bytes| Progress::parse(&bytes)).transpose().within(format!("space `{space}`"))
    }
}

/// The types of the entities' columns, if all of them are among those that name the rows of a
/// space.
fn named_by(progress: &Progress, entities: &RecordBatch) -> Result<Option<KeyTypes>> {
    let schema = entities.schema();
    let columns: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    Ok(progress.key_types()?.only(&columns))
}

/// Those of the keys that have the columns of an entity.
fn with(
    types: &KeyTypes,
    named: KeyTypes,
    entities: &RecordBatch,
    keys: Vec<Bytes>,
) -> Result<Vec<Bytes>> {
    let keys: Vec<Bytes> = keys.into_iter().filter(|key| Space::is_entity(key)).collect();
    let encoded: Vec<&[u8]> = keys.iter().map(|key| &key[1..]).collect();
    let kept = Removal::of(named, entities)?.kept(&types.decode(&encoded)?)?;
    let doomed = keys.into_iter().zip(kept.values()).filter(|(_, kept)| !kept);
    Ok(doomed.map(|(key, _)| key).collect())
}
