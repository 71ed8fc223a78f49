//! A table in memory as a source.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::ipc::writer::StreamWriter;
use kaizen_core::{Context, Digest, ErrorKind, Result, async_trait, compute};
use kaizen_table::{Query, Scan, Source};
use tokio::sync::OnceCell;

use crate::parquet_file::{plain, project};
use crate::within::Within;

/// A table that the program holds itself.
#[derive(Debug)]
pub struct MemorySource {
    name: String,
    batch: RecordBatch,
    digest: OnceCell<Digest>,
}

impl MemorySource {
    /// This table; views know it by `name`.
    pub fn new(name: impl Into<String>, batch: RecordBatch) -> Self {
        Self { name: name.into(), batch, digest: OnceCell::new() }
    }
}

#[async_trait]
impl Source for MemorySource {
    fn name(&self) -> &str {
        &self.name
    }

    async fn schema(&self) -> Result<SchemaRef> {
        Ok(plain(self.batch.schema_ref()))
    }

    async fn scan(&self, query: &Query<'_>) -> Result<Scan> {
        let columns = query.columns;
        let projected = project(&self.batch, columns).within(format!("source `{}`", self.name))?;
        let batch = self.batch.clone();
        let digest = self.digest.get_or_try_init(|| compute(move || digest(&batch))).await?;
        Ok(Scan { digest: *digest, files: Vec::new(), batches: vec![projected] })
    }
}

/// The digest of the table as an Arrow IPC stream.
fn digest(batch: &RecordBatch) -> Result<Digest> {
    let message = "a table as an Arrow stream";
    let names: Vec<_> = batch.schema().fields().iter().map(|field| field.name().clone()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let batch = project(batch, &names)?;
    let mut writer =
        StreamWriter::try_new(Vec::new(), &batch.schema()).context(ErrorKind::Internal, message)?;
    writer.write(&batch).context(ErrorKind::Internal, message)?;
    let bytes = writer.into_inner().context(ErrorKind::Internal, message)?;
    Ok(Digest::of(bytes))
}
