//! Served predictions as a record: the evidence of an alarm.

use std::collections::BTreeSet;

use kaizen_core::record::Predictions;
use kaizen_core::{
    ArtifactStore, Digest, Error, Payload, Records as _, Result, Timestamp, media_type,
};
use kaizen_table::{RecordBatch, prediction, texts};

use crate::parquet_file::to_parquet;

/// Stores the predictions made in `[from, to)` as a [`Predictions`] record, and gives its id.
pub async fn save_predictions(
    store: &dyn ArtifactStore,
    rows: &RecordBatch,
    from: Timestamp,
    to: Timestamp,
) -> Result<Digest> {
    let models = texts(rows, prediction::MODEL)?;
    if models.iter().any(|model| model.is_none()) {
        return Err(Error::invalid(format!("column `{}`: a row has no model", prediction::MODEL)));
    }
    let distinct: BTreeSet<&str> = models.iter().flatten().collect();
    let models = distinct.into_iter().map(str::parse).collect::<Result<Vec<Digest>>>()?;
    let record = Predictions { models, from, to, rows: rows.num_rows() as u64 };
    let payload = Payload::new(Predictions::ROWS, media_type::PARQUET, to_parquet(rows)?);
    store.put(&record, &[payload]).await
}
