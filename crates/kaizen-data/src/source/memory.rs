//! A table in memory as a source.

use std::sync::{Mutex, MutexGuard, PoisonError};

use arrow::array::RecordBatch;
use arrow::compute::filter_record_batch;
use arrow::datatypes::SchemaRef;
use arrow::ipc::writer::StreamWriter;
use kaizen_core::{Context, Digest, Error, ErrorKind, Result, async_trait, compute};
use kaizen_table::{Query, Scan, Source};

use crate::parquet_file::{bare, plain};
use crate::removal::Removal;
use crate::source::selection::Selection;
use crate::within::Within;

/// A table that the program holds itself.
#[derive(Debug)]
pub struct MemorySource {
    name: String,
    table: Mutex<Table>,
}

#[derive(Clone, Debug)]
struct Table {
    batch: RecordBatch,
    digest: Option<Digest>,
    /// How often rows were removed.
    version: u64,
}

impl MemorySource {
    /// This table; views know it by `name`.
    pub fn new(name: impl Into<String>, batch: RecordBatch) -> Self {
        Self { name: name.into(), table: Mutex::new(Table { batch, digest: None, version: 0 }) }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn place(&self) -> String {
        format!("source `{}`", self.name)
    }

    /// The table and its digest, which is made once.
    async fn with_digest(&self) -> Result<(RecordBatch, Digest)> {
        let Table { batch, digest: known, version } = self.table().clone();
        if let Some(digest) = known {
            return Ok((batch, digest));
        }
        let all = batch.clone();
        let made = compute(move || digest(std::slice::from_ref(&all))).await?;
        let mut table = self.table();
        // Unless entities were forgotten in the meantime.
        if table.version == version {
            table.digest = Some(made);
        }
        Ok((batch, made))
    }
}

#[async_trait]
impl Source for MemorySource {
    fn name(&self) -> &str {
        &self.name
    }

    async fn schema(&self) -> Result<SchemaRef> {
        Ok(plain(self.table().batch.schema_ref()))
    }

    async fn scan(&self, query: &Query<'_>) -> Result<Scan> {
        refuse_files(query).within(self.place())?;
        let selection = Selection::of(query);
        let (batch, digest) = self.with_digest().await?;
        let rows = match &selection.during {
            None => selection.apply(&batch),
            Some(_) => compute(move || selection.apply(&batch)).await,
        };
        let batches = vec![rows.within(self.place())?];
        Ok(Scan { digest, files: Vec::new(), batches })
    }

    async fn forget(&self, entities: &RecordBatch) -> Result<u64> {
        let entities = entities.clone();
        loop {
            let Table { batch: before, version, .. } = self.table().clone();
            let (batch, entities) = (before.clone(), entities.clone());
            let filter = move || {
                let removal = Removal::new(batch.schema_ref(), &entities)?;
                if removal.is_empty() {
                    return Ok(batch);
                }
                let kept = removal.kept(&batch)?;
                filter_record_batch(&batch, &kept).context(ErrorKind::Internal, "rows that remain")
            };
            let after = compute(filter).await.within(self.place())?;
            let removed = (before.num_rows() - after.num_rows()) as u64;
            let mut table = self.table();
            if table.version != version {
                // Another call was faster: once more, on what it left.
                continue;
            }
            if removed > 0 {
                *table = Table { batch: after, digest: None, version: version + 1 };
            }
            return Ok(removed);
        }
    }
}

/// Refuses to read files of a source that has none.
pub(crate) fn refuse_files(query: &Query<'_>) -> Result<()> {
    match query.files {
        Some([first, ..]) => {
            let file = &first.path;
            Err(Error::not_found(format!("file `{file}`: the rows are in memory, not in files")))
        }
        _ => Ok(()),
    }
}

/// The digest of a table, in batches of one schema, as an Arrow IPC stream.
pub(crate) fn digest(batches: &[RecordBatch]) -> Result<Digest> {
    let message = "a table as an Arrow stream";
    let Some(first) = batches.first() else { return Err(Error::internal(message)) };
    let schema = plain(first.schema_ref());
    let mut writer =
        StreamWriter::try_new(Vec::new(), &schema).context(ErrorKind::Internal, message)?;
    for batch in batches {
        writer.write(&bare(batch)?).context(ErrorKind::Internal, message)?;
    }
    let bytes = writer.into_inner().context(ErrorKind::Internal, message)?;
    Ok(Digest::of(bytes))
}
