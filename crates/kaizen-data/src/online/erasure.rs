//! Entities that are forgotten: in a view, or in every view which they name, alone or with others.

use std::collections::BTreeSet;

use arrow::array::RecordBatch;
use kaizen_core::{Bytes, ErrorKind, Result, compute};

use super::definitions::removal;
use super::space::{Progress, Space};
use super::{Online, Writer};
use crate::keys::KeyTypes;
use crate::removal::Removal;
use crate::within::Within;

/// At most about this many entries are looked at, or removed, at once.
const PAGE: usize = 10_000;

/// How entities name what is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Named {
    /// By all of its key columns.
    Whole,
    /// By some of them. What does not have these columns stays.
    InPart,
}

impl Online {
    /// Removes the entities that have the keys of a row of `entities`, whose columns are the keys,
    /// from every definition of this view, and gives how many entries those were. A row with a
    /// missing key names nobody. What lies there in the layout of another version of this library
    /// is removed whole.
    ///
    /// Their rows must be gone from the source before, or the next materialisation may bring those
    /// back that it has not read yet. Every view of that source here, whatever its keys, takes the
    /// past of the source as it then is when it is materialised next. What a view of other keys has
    /// taken in of these rows it keeps: an aggregate over all customers of a shop, say, until its
    /// windows have passed. To be without, materialise it into a new store.
    pub async fn forget(&self, view_name: &str, entities: &RecordBatch) -> Result<u64> {
        self.remove_from(view_name, entities, Named::Whole).await
    }

    /// Removes every entity that has these keys, also where they are only some of the columns that
    /// name it, from every definition of a view. Gives how many entries those were.
    pub(crate) async fn erase(&self, view_name: &str, entities: &RecordBatch) -> Result<u64> {
        self.remove_from(view_name, entities, Named::InPart).await
    }

    /// The views of which some definition is named by these columns, alone or with others.
    pub(crate) async fn views_with(&self, entities: &RecordBatch) -> Result<Vec<String>> {
        let mut views = BTreeSet::new();
        for space in self.store.spaces().await? {
            let Some(view) = Space::view_of(&space) else { continue };
            let place = || format!("view `{view}`, space `{space}`");
            // What is never read is there all the same.
            let Some(progress) = self.progress_in(&space).await.within(place())? else {
                views.insert(view.to_owned());
                continue;
            };
            if let Some(types) = named_by(&progress, entities)? {
                Removal::of(types, entities).within(place())?;
                views.insert(view.to_owned());
            }
        }
        Ok(views.into_iter().collect())
    }

    /// [`ErrorKind::Refused`] if the store only reads.
    pub(crate) async fn check_writable(&self) -> Result<()> {
        self.store.put(Vec::new()).await
    }

    /// Lets every view of these sources take their past as it is when it is materialised next:
    /// entities were forgotten there.
    pub(crate) async fn forgotten_in(&self, sources: &BTreeSet<String>) -> Result<()> {
        match self.check_writable().await {
            // What only reads is never materialised.
            Err(error) if error.kind() == ErrorKind::Refused => return Ok(()),
            writable => writable?,
        }
        let writer = self.writer().await;
        self.mark(&writer, sources).await
    }

    async fn remove_from(
        &self,
        view_name: &str,
        entities: &RecordBatch,
        named: Named,
    ) -> Result<u64> {
        let writer = self.writer().await;
        let (mut removed, mut sources) = (0, BTreeSet::new());
        for space in self.store.spaces().await? {
            if Space::view_of(&space) != Some(view_name) {
                continue;
            }
            let place = || format!("view `{view_name}`, space `{space}`");
            let Some(progress) = self.progress_in(&space).await.within(place())? else {
                removed += self.drop_space(&writer, &space).await.within(place())?;
                continue;
            };
            sources.insert(progress.source.clone());
            let found = match named {
                Named::Whole => self.remove_keys(&writer, &space, progress, entities).await,
                Named::InPart => self.remove_named(&writer, &space, progress, entities).await,
            };
            removed += found.within(place())?;
        }
        self.mark(&writer, &sources).await?;
        Ok(removed)
    }

    /// Removes the entries of these keys.
    async fn remove_keys(
        &self,
        writer: &Writer,
        space: &str,
        mut progress: Progress,
        entities: &RecordBatch,
    ) -> Result<u64> {
        let encoded = progress.key_types()?.encode(entities)?;
        let mut keys: Vec<Bytes> = (0..entities.num_rows())
            .filter_map(|row| encoded.get(row).map(Space::entity_key))
            .collect();
        keys.sort_unstable();
        keys.dedup();
        let mut removed = 0;
        for keys in keys.chunks(PAGE) {
            let found = self.store.get(space, keys).await?;
            let there = keys.iter().zip(found).filter(|(_, found)| found.is_some());
            let doomed: Vec<Bytes> = there.map(|(key, _)| key.clone()).collect();
            removed += self.remove(writer, space, &mut progress, doomed).await?;
        }
        Ok(removed)
    }

    /// Removes the entries of which the entities are some of the key columns, or all.
    async fn remove_named(
        &self,
        writer: &Writer,
        space: &str,
        mut progress: Progress,
        entities: &RecordBatch,
    ) -> Result<u64> {
        let Some(named) = named_by(&progress, entities)? else { return Ok(0) };
        let types = progress.key_types()?;
        if types.typed_columns().len() == named.typed_columns().len() {
            return self.remove_keys(writer, space, progress, entities).await;
        }
        let (mut removed, mut after) = (0, None);
        loop {
            let page = self.store.page(space, after.as_ref(), PAGE).await?;
            let keys = page.entries.into_iter().map(|(key, _)| key).collect();
            let (types, named, entities) = (types.clone(), named.clone(), entities.clone());
            let doomed = compute(move || with(&types, named, &entities, keys)).await?;
            if !doomed.is_empty() {
                removed += self.remove(writer, space, &mut progress, doomed).await?;
            }
            after = page.next;
            if after.is_none() {
                return Ok(removed);
            }
        }
    }

    /// Removes entries in one write, which says so even if there are none.
    async fn remove(
        &self,
        writer: &Writer,
        space: &str,
        progress: &mut Progress,
        doomed: Vec<Bytes>,
    ) -> Result<u64> {
        let removed = doomed.len() as u64;
        progress.removed();
        let progress = progress.entry(space)?;
        let entries = doomed.into_iter().map(|key| removal(space, key)).chain([progress]);
        self.put(writer, entries.collect()).await?;
        Ok(removed)
    }

    /// Says of each space that has a past of one of these sources that entities were forgotten.
    async fn mark(&self, writer: &Writer, sources: &BTreeSet<String>) -> Result<()> {
        for space in self.store.spaces().await? {
            let Some(view) = Space::view_of(&space) else { continue };
            let place = format!("view `{view}`, space `{space}`");
            let Some(mut progress) = self.progress_in(&space).await.within(place)? else {
                continue;
            };
            // A log that is followed is never read twice.
            let followed = progress.offset.is_some();
            if sources.contains(&progress.source) && !followed && !progress.forgotten {
                progress.forgotten = true;
                self.put(writer, vec![progress.entry(&space)?]).await?;
            }
        }
        Ok(())
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
