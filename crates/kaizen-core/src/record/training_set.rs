use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Record;
use crate::{ArtifactStore, Digest, Field, Manifest, Records as _, Result, Timestamp, serde_int};

/// The rows that a model is trained or evaluated on: features as they were known at each row's
/// instant, labels as they were known at the cut-off.
///
/// Payload `rows.parquet`: one row per labelled example, in the order in which they were asked
/// for. Payload `definitions.json`: the feature service and the label view. Payload `sources.json`:
/// the files that were read, by source. Payload `columns.json`: a summary of each column.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrainingSet {
    /// The digest of the feature service.
    pub service: Digest,
    /// The digest of the label view.
    pub label_view: Digest,
    /// The digests of the data that each source gave.
    pub sources: BTreeMap<String, Digest>,
    /// No label that became known later is in it.
    pub cutoff: Timestamp,
    /// How many rows it has.
    #[serde(with = "serde_int")]
    pub rows: u64,
    /// How many rows were left out: their label was not known at the cut-off or not mature by then,
    /// or they asked for an instant after it.
    #[serde(with = "serde_int")]
    pub unlabelled: u64,
    /// The feature columns.
    pub features: Vec<Field>,
    /// The column of the label.
    pub label: String,
    /// The column of each row's instant.
    pub time: String,
    /// How each view's questions were answered, by the view's name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub coverage: BTreeMap<String, Coverage>,
}

/// How a view answered the rows that asked: each row is counted once, in `found`, `expired` or
/// `unknown`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Coverage {
    /// Rows whose entity had a row that counts.
    #[serde(with = "serde_int")]
    pub found: u64,
    /// Rows whose entity had rows, of which the latest was older than the TTL.
    #[serde(with = "serde_int")]
    pub expired: u64,
    /// Rows whose entity had nothing that was known at their instant, or whose key is missing.
    #[serde(with = "serde_int")]
    pub unknown: u64,
    /// Rows for which something had happened that was not known yet: the created-time cut-off hid
    /// it. They count under one of the above as well.
    #[serde(with = "serde_int")]
    pub hidden: u64,
    /// Rows of the source that nobody can see, for want of an event time or a key.
    #[serde(with = "serde_int")]
    pub ignored: u64,
}

impl TrainingSet {
    /// The name of the payload that holds the rows.
    pub const ROWS: &'static str = "rows.parquet";
    /// The name of the payload that holds the definitions.
    pub const DEFINITIONS: &'static str = "definitions.json";
    /// The name of the payload that holds the files of the sources.
    pub const SOURCES: &'static str = "sources.json";
    /// The name of the payload that holds a summary of each column.
    pub const COLUMNS: &'static str = "columns.json";

    /// At most this many bytes are read into memory of a list of files, and of the summary of the
    /// columns.
    pub const MAX_LIST_BYTES: u64 = 256 << 20;

    /// The files that were read of each source, as the payload of a stored training set lists them;
    /// none if it does not say, or no longer.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Limit`](crate::ErrorKind::Limit) for a list of over 256 MiB,
    /// [`ErrorKind::Corrupt`](crate::ErrorKind::Corrupt) for what is no list; as reading the store.
    pub async fn files(
        store: &dyn ArtifactStore,
        manifest: &Manifest,
    ) -> Result<BTreeMap<String, Vec<ListedFile>>> {
        let files = store.payload_json(manifest, Self::SOURCES, Self::MAX_LIST_BYTES).await?;
        Ok(files.unwrap_or_default())
    }
}

/// A file that was read of a source.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct ListedFile {
    /// Its path within the source.
    pub path: String,
    /// The digest of its bytes.
    pub digest: Digest,
}

impl Record for TrainingSet {
    const KIND: &'static str = "training-set";
}
