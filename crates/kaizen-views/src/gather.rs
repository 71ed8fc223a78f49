//! What several views need to know of a model.

use std::collections::{BTreeMap, BTreeSet};

use kaizen_core::record::TrainingSet;
use kaizen_core::{ArtifactStore, AuditLog, Digest, Entry, Manifest, Record, Records, Result};
use serde::Deserialize;

/// So many entries of the log are read at once.
const PAGE: u64 = 4_096;

/// Visits every entry of the log in this range with its index; those that it was pruned of are
/// passed over.
pub(crate) async fn entries(
    log: &dyn AuditLog,
    range: std::ops::Range<u64>,
    mut visit: impl FnMut(u64, Entry),
) -> Result<()> {
    let mut start = range.start.max(log.first().await?);
    while start < range.end {
        let end = range.end.min(start + PAGE);
        for (index, entry) in (start..).zip(log.read(start..end).await?) {
            visit(index, entry);
        }
        start = end;
    }
    Ok(())
}

/// The entries about these digests, in the order of the log.
pub(crate) async fn entries_about(
    log: &dyn AuditLog,
    subjects: &BTreeSet<Digest>,
) -> Result<BTreeMap<Digest, Vec<(u64, Entry)>>> {
    let mut found: BTreeMap<Digest, Vec<(u64, Entry)>> = BTreeMap::new();
    let size = log.size().await?;
    entries(log, 0..size, |index, entry| {
        if subjects.contains(&entry.subject) {
            found.entry(entry.subject).or_default().push((index, entry));
        }
    })
    .await?;
    Ok(found)
}

/// A record that the log names, unless it was collected: the log is longer than the store's memory.
pub(crate) async fn remembered<R: Record>(
    store: &dyn ArtifactStore,
    id: &Digest,
) -> Result<Option<R>> {
    let found = store.find::<R>(id).await?;
    if found.is_none() {
        tracing::debug!(kind = R::KIND, %id, "the log names it, and the store has it no more");
    }
    Ok(found.map(|found| found.record))
}

/// The summary of a column, as a training set has it; all but the name may be missing.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct ColumnSummary {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) rows: String,
    #[serde(default)]
    pub(crate) missing: String,
    #[serde(default)]
    pub(crate) distinct: Option<u64>,
    #[serde(default)]
    pub(crate) min: Option<f64>,
    #[serde(default)]
    pub(crate) max: Option<f64>,
    #[serde(default)]
    pub(crate) mean: Option<f64>,
}

/// The summaries of the columns of a training set; none if it does not say, or no longer.
pub(crate) async fn columns(
    store: &dyn ArtifactStore,
    manifest: &Manifest,
) -> Result<Vec<ColumnSummary>> {
    let (name, most) = (TrainingSet::COLUMNS, TrainingSet::MAX_LIST_BYTES);
    Ok(store.payload_json(manifest, name, most).await?.unwrap_or_default())
}
