//! Erasing an entity: online, offline and in stored training sets.

mod sets;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{Array, RecordBatch};
use kaizen_core::record::{Count, Erasure, Occurrence};
use kaizen_core::{
    ArtifactStore, AuditLog, Context as _, Digest, Entry, Error, ErrorKind, Event, Manifest,
    OperationId, Record as _, Records as _, Result, record,
};
use kaizen_table::Source;

use crate::removal::Removal;
use crate::within::Within;
use crate::{FeatureStore, Online};

/// At most this many entities are erased by one call.
const MAX_ENTITIES: usize = 100_000;

/// At most this many bytes in a reason.
const MAX_REASON: usize = 1_000;

/// Entries of the log that are read, or appended, at once.
const PAGE: u64 = 1_000;

/// Everything from which an entity is erased.
///
/// [`forget`](Self::forget) removes it from the sources, from what is kept online of them and from
/// stored training sets, and leaves a receipt in the audit log. It does not look into trained models,
/// logged predictions and what was served, exported snapshots, copies elsewhere or backups.
#[derive(Clone, Copy, Debug)]
pub struct Erase<'a> {
    /// The sources.
    pub features: &'a FeatureStore,
    /// The views that are kept online.
    pub online: &'a [&'a Online],
    /// Where training sets are stored.
    pub artifacts: &'a dyn ArtifactStore,
    /// Where it is written down.
    pub log: &'a dyn AuditLog,
}

/// What has the key columns.
struct Plan {
    sources: Vec<Arc<dyn Source>>,
    /// Places in [`Erase::online`], with the name of the view.
    views: Vec<(usize, String)>,
    /// Training sets that hold an entity.
    sets: BTreeSet<Digest>,
    history: History,
}

/// What the log says of erasures so far.
#[derive(Debug, Default)]
struct History {
    /// Every blob that was ever removed. It may have come back since.
    removed: BTreeSet<Digest>,
    /// The blobs that this operation has called removed since it was finished last.
    told: BTreeSet<Digest>,
    /// The receipt that this operation has in the log already.
    finished: Option<Digest>,
}

impl Erase<'_> {
    /// Erases the entities of these rows, whose columns are the keys, and gives the digest of the
    /// receipt, a record [`Erasure`]. The receipt does not say which entities they were.
    ///
    /// Whatever has all of the key columns is erased from, also where they are only some of the
    /// columns that name a row. What lacks one of them is passed over: the receipt says what was
    /// erased from. In this order:
    ///
    /// 1. Nothing changes before it is clear that everything can be erased: a source, an online
    ///    store or an artefact store that removes nothing is refused by name.
    /// 2. The rows of the sources, so that nothing brings them back, and every index that was made
    ///    of sources.
    /// 3. What is kept online of them. A view of the same source that is named by other columns, such
    ///    as one of the shops that a customer has bought in, is materialised on, and keeps what its
    ///    aggregates have taken in: [`Online::forget`] says more.
    /// 4. Each training set that holds an entity is saved anew without it. Then every payload that
    ///    only the old ones have is entered into the log as [`Event::Removed`], with `reason` and
    ///    the new training sets as evidence. Only then it is removed. The records of the old
    ///    training sets stay, so that models made of them keep their lineage. A training set that
    ///    was removed and is saved again is one like any other: it stays until somebody who is in
    ///    it is erased.
    /// 5. The receipt is stored, and entered as [`Event::Erased`].
    ///
    /// A call that was cut off is made again, with the same operation; the counts of the receipt
    /// then are those of all attempts together, but for what the step removed that was cut off.
    /// Made again after it was done, it changes nothing and gives the same receipt. So each erasure
    /// needs an operation of its own; and neither its name nor the reason should tell the key,
    /// because the log is kept for ever.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`] if a key is missing, is of a type that cannot be compared with a
    /// source's, or if nothing has these columns; [`ErrorKind::Unsupported`] or
    /// [`ErrorKind::Refused`] if something cannot be erased from; [`ErrorKind::Limit`] if there are
    /// over 100,000 entities, if the reason is over 1,000 bytes, or if a file of over 1 GiB in an
    /// object store holds one of them. That file is found before any other of its source changes,
    /// but sources before it are done by then.
    pub async fn forget(
        &self,
        entities: &RecordBatch,
        occurrence: Occurrence,
        reason: &str,
    ) -> Result<Digest> {
        let keys = keys(entities, reason)?;
        let plan = self.plan(&keys, entities, &occurrence.operation).await?;
        let begun = match plan.history.finished {
            Some(_) => None,
            None => self.begun(&occurrence.operation, &keys).await?,
        };
        let empty = || Erasure {
            occurrence,
            keys,
            sources: BTreeMap::new(),
            online: BTreeMap::new(),
            training_sets: Vec::new(),
        };
        let mut receipt = begun.unwrap_or_else(empty);
        let before = receipt.clone();
        for source in &plan.sources {
            let removed = source.forget(entities).await?;
            *count(&mut receipt.sources, source.name()) += removed;
            self.keep(&receipt, removed > 0).await?;
        }
        self.features.forget_indices().await?;
        for (place, view) in &plan.views {
            let Some(online) = self.online.get(*place) else { continue };
            let removed = online.erase(view, entities).await?;
            *count(&mut receipt.online, view) += removed;
            self.keep(&receipt, removed > 0).await?;
        }
        let sources: BTreeSet<String> =
            plan.sources.iter().map(|source| source.name().to_owned()).collect();
        for online in self.online {
            online.forgotten_in(&sources).await?;
        }
        self.rewrite(&plan, entities, &mut receipt).await?;
        let removed = self.remove(&plan, &receipt, reason).await?;
        if let Some(receipt_id) = plan.history.finished
            && !removed
            && total(&receipt) == total(&before)
        {
            return Ok(receipt_id);
        }
        let id = self.artifacts.put(&receipt, &[]).await?;
        let evidence = receipt.training_sets.iter().map(|set| set.new).take(sets::MAX_EVIDENCE);
        self.log.append(&[entry(&receipt, Event::Erased, id, evidence.collect())], None).await?;
        tracing::info!(receipt = %id, "entities erased");
        Ok(id)
    }

    /// Finds what has the key columns, and checks that it can be erased from.
    async fn plan(
        &self,
        keys: &[String],
        entities: &RecordBatch,
        operation: &OperationId,
    ) -> Result<Plan> {
        let mut sources = Vec::new();
        for source in &self.features.sources {
            let schema = source.schema().await?;
            if !keys.iter().all(|key| schema.column_with_name(key).is_some()) {
                continue;
            }
            let place = format!("source `{}`", source.name());
            Removal::new(&schema, entities).within(place)?;
            source.forget(&entities.slice(0, 0)).await?;
            sources.push(Arc::clone(source));
        }
        let mut views = Vec::new();
        for (place, online) in self.online.iter().enumerate() {
            let found = online.views_with(entities).await?;
            if !found.is_empty() {
                online.check_writable().await?;
            }
            views.extend(found.into_iter().map(|view| (place, view)));
        }
        // A blob that is not there: it only says whether the store removes any.
        let nothing = Digest::of(b"kaizen: no such blob");
        self.artifacts.remove_blob(&nothing).await.within("the artefact store")?;
        let history = self.history(operation).await?;
        let sets = self.holders(keys, entities).await?;
        let nothing = sources.is_empty() && views.is_empty() && sets.is_empty();
        if nothing && history.finished.is_none() {
            let keys = keys.join("`, `");
            return Err(Error::invalid(format!("nothing has the key columns `{keys}`")));
        }
        Ok(Plan { sources, views, sets, history })
    }

    /// Reads the whole log, as far as it was not pruned.
    async fn history(&self, operation: &OperationId) -> Result<History> {
        let mut history = History::default();
        let size = self.log.size().await?;
        let mut next = self.log.first().await?;
        while next < size {
            let end = size.min(next + PAGE);
            for entry in self.log.read(next..end).await? {
                let own = entry.operation == *operation;
                match entry.event {
                    Event::Removed { .. } => {
                        history.removed.insert(entry.subject);
                        if own {
                            history.told.insert(entry.subject);
                        }
                    }
                    Event::Erased if own => {
                        history.finished = Some(entry.subject);
                        history.told.clear();
                    }
                    _ => {}
                }
            }
            next = end;
        }
        Ok(history)
    }

    /// What an earlier attempt of this operation has done: the receipt that it kept last, and so
    /// counts most.
    async fn begun(&self, operation: &OperationId, keys: &[String]) -> Result<Option<Erasure>> {
        let mut begun: Option<Erasure> = None;
        for (id, manifest) in self.records_of(Erasure::KIND).await? {
            let Some(other) = self.receipt(&id, &manifest).await? else { continue };
            if other.occurrence.operation != *operation {
                continue;
            }
            if other.keys != keys {
                return Err(Error::conflict(format!("{operation}: it has begun to erase others")));
            }
            if begun.as_ref().is_none_or(|begun| total(&other) > total(begun)) {
                begun = Some(other);
            }
        }
        Ok(begun)
    }

    /// Reads a receipt, unless it is none that an attempt has kept: anybody may put something there
    /// under that name, and a pull brings it along. Bytes that are not those of their digest are an
    /// error: they may have been a receipt of ours, and its counts would be lost. Whether the log
    /// speaks of a receipt is of no matter here, for it names none of an attempt that was cut off.
    async fn receipt(&self, id: &Digest, manifest: &Manifest) -> Result<Option<Erasure>> {
        let digest = &manifest.config.digest;
        let found = match self.artifacts.get_bounded(digest, record::MAX_BODY_BYTES).await {
            Ok(body) => {
                digest.check(&body, &format!("body of {} {id}", Erasure::KIND))?;
                serde_json::from_slice(&body).context(ErrorKind::Corrupt, "no receipt")
            }
            Err(error) if [ErrorKind::NotFound, ErrorKind::Limit].contains(&error.kind()) => {
                Err(error)
            }
            Err(error) => return Err(error),
        };
        if let Err(error) = &found {
            tracing::warn!(%id, error = %format!("{error:#}"), "passed over as no receipt of an erasure");
        }
        Ok(found.ok())
    }

    /// Keeps the receipt as it stands, for an attempt that goes on. It is not in the log: so far it
    /// has not happened.
    async fn keep(&self, receipt: &Erasure, changed: bool) -> Result<()> {
        if changed {
            self.artifacts.put(receipt, &[]).await?;
        }
        Ok(())
    }
}

/// The key columns, checked.
fn keys(entities: &RecordBatch, reason: &str) -> Result<Vec<String>> {
    let schema = entities.schema();
    let keys: Vec<String> = schema.fields().iter().map(|field| field.name().clone()).collect();
    if keys.is_empty() || entities.num_rows() == 0 {
        return Err(Error::invalid("entities to erase: there are none"));
    }
    let rows = entities.num_rows();
    if rows > MAX_ENTITIES {
        let message = format!("{rows} entities to erase: over {MAX_ENTITIES}");
        return Err(Error::new(ErrorKind::Limit, message));
    }
    for (name, values) in keys.iter().zip(entities.columns()) {
        if keys.iter().filter(|other| *other == name).count() > 1 {
            return Err(Error::invalid(format!("key column `{name}` stands twice")));
        }
        if values.logical_null_count() > 0 {
            return Err(Error::invalid(format!("key column `{name}`: a key is missing")));
        }
    }
    if reason.len() > MAX_REASON {
        let found = reason.len();
        let message = format!("the reason of an erasure: {found} bytes, over {MAX_REASON}");
        return Err(Error::new(ErrorKind::Limit, message));
    }
    Ok(keys)
}

fn count<'a>(counts: &'a mut BTreeMap<String, Count>, name: &str) -> &'a mut u64 {
    &mut counts.entry(name.to_owned()).or_insert(Count(0)).0
}

/// All that was removed; a later state of one receipt has more.
fn total(receipt: &Erasure) -> (u64, usize) {
    let counts = receipt.sources.values().chain(receipt.online.values());
    (counts.map(|count| count.0).sum(), receipt.training_sets.len())
}

fn entry(receipt: &Erasure, event: Event, subject: Digest, evidence: Vec<Digest>) -> Entry {
    let Occurrence { at, actor, operation } = receipt.occurrence.clone();
    Entry { at, actor, operation, event, subject, evidence }
}
