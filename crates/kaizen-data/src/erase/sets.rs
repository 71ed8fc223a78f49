//! Stored training sets without an entity.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::RecordBatch;
use arrow::compute::filter_record_batch;
use kaizen_core::record::{Count, Erasure, Replacement, TrainingSet};
use kaizen_core::{
    Context, Digest, ErrorKind, Event, Manifest, Record as _, Records as _, Result, compute, record,
};

use super::{Erase, PAGE, Plan, entry};
use crate::TrainingData;
use crate::removal::Removal;
use crate::within::Within;

/// At most this many digests stand as evidence in one entry of the log, which is bounded.
pub(super) const MAX_EVIDENCE: usize = 500;

impl TrainingData {
    /// The training set without the rows of these entities, whose columns are the keys.
    ///
    /// The record says how many rows remain; what it counts besides (unlabelled rows, coverage)
    /// remains that of the whole, as do its cut-off and its sources. [`ErrorKind::Invalid`] if the
    /// rows lack a key column, or have it in a type that cannot be compared.
    pub fn without(&self, entities: &RecordBatch) -> Result<Self> {
        let removal = Removal::new(&self.rows.schema(), entities)?;
        let rows = filter_record_batch(&self.rows, &removal.kept(&self.rows)?)
            .context(ErrorKind::Internal, "part of a training set")?;
        self.with_rows(rows)
    }
}

impl Erase<'_> {
    /// The stored training sets that hold one of these entities.
    pub(super) async fn holders(
        &self,
        keys: &[String],
        entities: &RecordBatch,
    ) -> Result<BTreeSet<Digest>> {
        let mut holders = BTreeSet::new();
        for (id, manifest) in self.training_sets().await? {
            // Sets whose rows were removed before hold nobody.
            let Some(rows) = rows(&manifest) else { continue };
            if !self.artifacts.contains(&rows).await? {
                continue;
            }
            let data = TrainingData::load(self.artifacts, &id).await?;
            if keys.iter().any(|key| data.rows.column_by_name(key).is_none()) {
                continue;
            }
            let entities = entities.clone();
            let held = compute(move || {
                let removal = Removal::new(&data.rows.schema(), &entities)?;
                Ok(removal.kept(&data.rows)?.true_count() < data.rows.num_rows())
            });
            if held.await.within(format!("{} {id}", TrainingSet::KIND))? {
                holders.insert(id);
            }
        }
        Ok(holders)
    }

    /// Saves each training set that holds an entity anew, and says so in the receipt.
    pub(super) async fn rewrite(
        &self,
        plan: &Plan,
        entities: &RecordBatch,
        receipt: &mut Erasure,
    ) -> Result<()> {
        for old in &plan.sets {
            let data = TrainingData::load(self.artifacts, old).await?;
            let entities = entities.clone();
            let before = data.record.rows;
            let remaining = compute(move || data.without(&entities));
            let remaining = remaining.await.within(format!("{} {old}", TrainingSet::KIND))?;
            let rows = Count(before - remaining.record.rows);
            let new = remaining.save(self.artifacts).await?;
            let replacement = Replacement { old: *old, new, rows };
            if !receipt.training_sets.contains(&replacement) {
                receipt.training_sets.push(replacement);
                self.keep(receipt, true).await?;
            }
        }
        Ok(())
    }

    /// Removes every payload that only replaced training sets have, after the log says so. Whether
    /// there was one.
    ///
    /// Replaced is what this erasure has replaced, and what an earlier one has that was cut off
    /// between two payloads: training sets whose rows are gone, and were called removed. A training
    /// set that was removed and saved again has its rows, and is not touched for what was.
    pub(super) async fn remove(
        &self,
        plan: &Plan,
        receipt: &Erasure,
        reason: &str,
    ) -> Result<bool> {
        let replaced: BTreeMap<Digest, Digest> =
            receipt.training_sets.iter().map(|set| (set.old, set.new)).collect();
        let mut doomed: BTreeMap<Digest, Vec<Digest>> = BTreeMap::new();
        let (mut of_rows, mut kept) = (BTreeSet::new(), BTreeSet::new());
        for (id, manifest) in self.training_sets().await? {
            let rows = rows(&manifest);
            let layers = manifest.layers.iter().map(|layer| layer.digest);
            let gone = match rows.filter(|rows| plan.history.removed.contains(rows)) {
                Some(rows) => !self.artifacts.contains(&rows).await?,
                None => false,
            };
            if !replaced.contains_key(&id) && !gone {
                kept.extend(layers);
                continue;
            }
            of_rows.extend(rows);
            for layer in layers {
                doomed.entry(layer).or_default().extend(replaced.get(&id));
            }
        }
        doomed.retain(|blob, _| !kept.contains(blob));
        let mut present = BTreeMap::new();
        for (blob, replacements) in doomed {
            if self.artifacts.contains(&blob).await? {
                present.insert(blob, replacements);
            }
        }
        let untold = present.iter().filter(|(blob, _)| !plan.history.told.contains(blob));
        let tombstones: Vec<_> = untold
            .map(|(blob, replacements)| {
                let evidence = replacements.iter().copied().take(MAX_EVIDENCE).collect();
                let event = Event::Removed { reason: reason.to_owned() };
                entry(receipt, event, *blob, evidence)
            })
            .collect();
        for entries in tombstones.chunks(PAGE as usize) {
            self.log.append(entries, None).await?;
        }
        // Rows first: a training set without rows is known as removed, one without another payload
        // could not be read.
        let (rows, others): (Vec<Digest>, Vec<Digest>) =
            present.keys().partition(|blob| of_rows.contains(*blob));
        for blob in rows.iter().chain(&others) {
            self.artifacts.remove_blob(blob).await?;
        }
        Ok(!present.is_empty())
    }

    /// Every stored training set with its manifest, ordered by digest.
    async fn training_sets(&self) -> Result<Vec<(Digest, Manifest)>> {
        self.records_of(TrainingSet::KIND).await
    }

    /// Every stored record of a kind with its manifest, ordered by digest. A manifest that is damaged
    /// ends it, for it may be one of them; one of another tool is not ours to read, and one that was
    /// collected meanwhile holds nobody.
    pub(super) async fn records_of(&self, kind: &str) -> Result<Vec<(Digest, Manifest)>> {
        let kind = record::artifact_type(kind);
        let mut records = Vec::new();
        for id in self.artifacts.manifests().await? {
            match self.artifacts.manifest(&id).await {
                Ok(manifest) if manifest.artifact_type.as_deref() == Some(&kind) => {
                    records.push((id, manifest));
                }
                Ok(_) => {}
                Err(error)
                    if [ErrorKind::Unsupported, ErrorKind::NotFound].contains(&error.kind()) =>
                {
                    tracing::debug!(%id, %error, "no record of ours");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(records)
    }
}

/// The blob that holds a training set's rows.
fn rows(manifest: &Manifest) -> Option<Digest> {
    let rows = manifest.layers.iter().find(|layer| layer.title() == Some(TrainingSet::ROWS));
    rows.map(|layer| layer.digest)
}
