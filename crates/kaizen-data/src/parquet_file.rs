//! Parquet files as bytes in memory.

use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::compute::concat_batches;
use arrow::datatypes::{Schema, SchemaRef};
use kaizen_core::{Bytes, Context, Error, ErrorKind, Result};
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder,
};
use parquet::arrow::{ArrowWriter, ProjectionMask};
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

use crate::within::Within;

/// Begins and ends every Parquet file.
const MAGIC: &[u8] = b"PAR1";

/// At most this many columns in a file: 10,000 features, and as many again that come with them.
pub(crate) const MAX_COLUMNS: usize = 20_000;

/// The bytes of a Parquet file with its footer decoded. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct ParquetFile {
    name: String,
    bytes: Bytes,
    metadata: ArrowReaderMetadata,
}

impl ParquetFile {
    /// Decodes the footer of these bytes, which were read from `name`.
    pub(crate) fn open(name: &str, bytes: Bytes) -> Result<Self> {
        if bytes.is_empty() {
            return Err(Error::invalid(format!("`{name}`: the file is empty")));
        }
        if !bytes.starts_with(MAGIC) {
            return Err(Error::invalid(format!(
                "`{name}`: not a Parquet file, which begins with `PAR1`"
            )));
        }
        if !bytes.ends_with(MAGIC) {
            return Err(Error::corrupt(format!("`{name}`: the Parquet file is cut off")));
        }
        let metadata = ArrowReaderMetadata::load(&bytes, ArrowReaderOptions::new())
            .context(ErrorKind::Corrupt, format!("`{name}`: the Parquet file's footer"))?;
        let columns = metadata.schema().fields().len();
        if columns > MAX_COLUMNS {
            let message = format!("`{name}`: {columns} columns, over {MAX_COLUMNS}");
            return Err(Error::new(ErrorKind::Limit, message));
        }
        Ok(Self { name: name.to_owned(), bytes, metadata })
    }

    /// The columns, without metadata.
    pub(crate) fn schema(&self) -> SchemaRef {
        plain(self.metadata.schema())
    }

    /// Decodes these columns of all rows, in the order asked for.
    pub(crate) fn read(&self, columns: &[&str]) -> Result<RecordBatch> {
        let schema = self.schema();
        let wanted = indices(&schema, columns).within(format!("`{}`", self.name))?;
        let message = || format!("`{}`: the Parquet file's columns", self.name);
        let rows = usize::try_from(self.metadata.metadata().file_metadata().num_rows())
            .context(ErrorKind::Corrupt, message())?;
        let parquet = self.metadata.metadata().file_metadata().schema_descr();
        let mask = ProjectionMask::roots(parquet, wanted.iter().copied());
        let metadata = self.metadata.clone();
        let builder =
            ParquetRecordBatchReaderBuilder::new_with_metadata(self.bytes.clone(), metadata);
        let batches = builder
            .with_projection(mask)
            .with_batch_size(rows.max(1))
            .build()
            .context(ErrorKind::Corrupt, message())?
            .collect::<Result<Vec<_>, _>>()
            .context(ErrorKind::Corrupt, message())?;
        let found = batches.iter().map(RecordBatch::num_rows).sum::<usize>();
        if found != rows {
            let message = format!("`{}`: {found} rows, where its footer says {rows}", self.name);
            return Err(Error::corrupt(message));
        }
        let decoded = match batches.as_slice() {
            [] => RecordBatch::new_empty(Arc::new(
                schema
                    .project(&sorted(&wanted))
                    .context(ErrorKind::Internal, "a projected schema")?,
            )),
            [only] => only.clone(),
            [first, ..] => {
                concat_batches(first.schema_ref(), &batches).context(ErrorKind::Limit, message())?
            }
        };
        // The file gives its columns in its own order.
        project(&decoded, columns).within(format!("`{}`", self.name))
    }
}

/// A table as the bytes of a Parquet file: equal tables give equal bytes.
pub(crate) fn to_parquet(batch: &RecordBatch) -> Result<Bytes> {
    let message = "rows as Parquet";
    let level = ZstdLevel::try_new(3).context(ErrorKind::Internal, message)?;
    let properties = WriterProperties::builder()
        .set_created_by("kaizen".to_owned())
        .set_compression(Compression::ZSTD(level))
        .build();
    let columns: Vec<_> = batch.columns().to_vec();
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    let batch = RecordBatch::try_new_with_options(plain(batch.schema_ref()), columns, &options)
        .context(ErrorKind::Internal, message)?;
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), Some(properties))
        .context(ErrorKind::Unsupported, message)?;
    writer.write(&batch).context(ErrorKind::Unsupported, message)?;
    writer.close().context(ErrorKind::Internal, message)?;
    Ok(bytes.into())
}

/// The columns of these names, in this order.
pub(crate) fn project(batch: &RecordBatch, columns: &[&str]) -> Result<RecordBatch> {
    let wanted = indices(batch.schema_ref(), columns)?;
    let projected = batch.project(&wanted).context(ErrorKind::Internal, "a projected table")?;
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    let schema = plain(projected.schema_ref());
    RecordBatch::try_new_with_options(schema, projected.columns().to_vec(), &options)
        .context(ErrorKind::Internal, "a projected table")
}

/// The places of columns, each of which must be there once.
pub(crate) fn indices(schema: &Schema, columns: &[&str]) -> Result<Vec<usize>> {
    let index = |name: &&str| {
        let fields = schema.fields().iter().enumerate();
        let mut found = fields.filter(|(_, field)| field.name() == name).map(|(index, _)| index);
        match (found.next(), found.next()) {
            (Some(index), None) => Ok(index),
            (Some(_), Some(_)) => Err(Error::invalid(format!("column `{name}` stands twice"))),
            _ => {
                let names = schema.fields().iter().take(40).map(|field| field.name().as_str());
                let names = names.collect::<Vec<_>>().join(", ");
                Err(Error::invalid(format!("column `{name}` is missing; there are {names}")))
            }
        }
    };
    columns.iter().map(index).collect()
}

/// The schema without metadata, whose maps have no order.
pub(crate) fn plain(schema: &Schema) -> SchemaRef {
    let field = |field: &arrow::datatypes::FieldRef| {
        field.as_ref().clone().with_metadata(std::collections::HashMap::new())
    };
    Arc::new(Schema::new(schema.fields().iter().map(field).collect::<Vec<_>>()))
}

fn sorted(indices: &[usize]) -> Vec<usize> {
    let mut sorted = indices.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    sorted
}
