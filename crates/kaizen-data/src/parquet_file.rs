//! Parquet files.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::{DataType as ArrowType, Schema, SchemaRef};
use bytes::Buf as _;
use kaizen_core::{Bytes, Context, Error, ErrorKind, Result};
use parquet::arrow::arrow_reader::statistics::StatisticsConverter;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder,
};
use parquet::arrow::{ArrowWriter, ProjectionMask};
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::{KeyValue, RowGroupMetaData};
use parquet::file::properties::WriterProperties;
use parquet::file::reader::{ChunkReader, Length};

use crate::source::input::{Input, parquet_error};
use crate::source::spans::Stretch;
use crate::source::zone::WIDEST_NANOS;
use crate::within::Within;

/// Begins and ends every Parquet file.
const MAGIC: &[u8] = b"PAR1";

/// At most this many columns in a file: 10,000 features, and as many again that come with them.
pub(crate) const MAX_COLUMNS: usize = 20_000;

/// As many rows are decoded at once at most.
const MAX_BATCH_ROWS: usize = 1 << 20;

/// A Parquet file with its footer decoded. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct ParquetFile {
    input: Arc<Input>,
    metadata: ArrowReaderMetadata,
}

impl ParquetFile {
    /// Decodes the footer of these bytes, which were read from `name`.
    pub(crate) fn open(name: &str, bytes: Bytes) -> Result<Self> {
        Self::of(Arc::new(Input::memory(name, bytes)))
    }

    /// Decodes the footer of a file. Blocks, if the file is not in memory.
    pub(crate) fn of(input: Arc<Input>) -> Result<Self> {
        let (name, size) = (&input.name, input.size);
        if size == 0 {
            return Err(Error::invalid(format!("`{name}`: the file is empty")));
        }
        if input.range(0..size.min(4))? != MAGIC {
            return Err(Error::invalid(format!(
                "`{name}`: not a Parquet file, which begins with `PAR1`"
            )));
        }
        if input.range(size - 4..size)? != MAGIC {
            return Err(Error::corrupt(format!("`{name}`: the Parquet file is cut off")));
        }
        let message = || format!("`{name}`: the Parquet file's footer");
        let metadata = ArrowReaderMetadata::load(input.as_ref(), ArrowReaderOptions::new())
            .map_err(|error| parquet_error(message(), error))?;
        bounded(name, metadata.schema())?;
        Ok(Self { input, metadata })
    }

    /// The columns, without metadata.
    pub(crate) fn schema(&self) -> SchemaRef {
        plain(self.metadata.schema())
    }

    /// The columns, with what the file says of them.
    pub(crate) fn full_schema(&self) -> &SchemaRef {
        self.metadata.schema()
    }

    /// What the footer says under this key.
    pub(crate) fn note(&self, key: &str) -> Option<&str> {
        self.notes().iter().find(|note| note.key == key)?.value.as_deref()
    }

    /// All that the footer says.
    pub(crate) fn notes(&self) -> &[KeyValue] {
        let metadata = self.metadata.metadata().file_metadata();
        metadata.key_value_metadata().map_or(&[], Vec::as_slice)
    }

    /// How many groups of rows there are.
    pub(crate) fn groups(&self) -> usize {
        self.metadata.metadata().num_row_groups()
    }

    /// Where each group of rows lies in the time of this column, by its statistics; `None` for a
    /// group without them. `rows` of a stretch are those that have an instant.
    pub(crate) fn stretches(&self, time: &str) -> Option<Vec<Option<Stretch>>> {
        let metadata = self.metadata.metadata();
        let parquet = metadata.file_metadata().schema_descr();
        let statistics =
            StatisticsConverter::try_new(time, self.metadata.schema(), parquet).ok()?;
        let statistics = statistics.with_missing_null_counts_as_zero(false);
        let groups = metadata.row_groups();
        let nanos = |values: ArrayRef| {
            let naive = matches!(values.data_type(), ArrowType::Timestamp(_, None));
            let values = match values.data_type() {
                ArrowType::Timestamp(unit, None) => {
                    cast(&values, &ArrowType::Timestamp(*unit, Some("UTC".into()))).ok()?
                }
                _ => values,
            };
            let table = RecordBatch::try_from_iter([(time, values)]).ok()?;
            Some((kaizen_table::instants(&table, time).ok()?, naive))
        };
        let (first, naive) = nanos(statistics.row_group_mins(groups).ok()?)?;
        let (last, _) = nanos(statistics.row_group_maxes(groups).ok()?)?;
        let missing = statistics.row_group_null_counts(groups).ok()?;
        // A local time read as UTC is some hours off at most.
        let slack = if naive { WIDEST_NANOS } else { 0 };
        let stretch = |(index, group): (usize, &RowGroupMetaData)| {
            let rows = u64::try_from(group.num_rows()).ok()?;
            if rows > 0 && missing.is_valid(index) && missing.value(index) == rows {
                return Some(Stretch { first: 0, last: -1, rows: 0 });
            }
            if !first.is_valid(index) || !last.is_valid(index) {
                return None;
            }
            let first = first.value(index).saturating_sub(slack);
            Some(Stretch { first, last: last.value(index).saturating_add(slack), rows })
        };
        Some(groups.iter().enumerate().map(stretch).collect())
    }

    /// Decodes these columns of all rows, in the order asked for.
    pub(crate) fn read(&self, columns: &[&str]) -> Result<RecordBatch> {
        let mut batches = Vec::new();
        let groups: Vec<usize> = (0..self.groups()).collect();
        self.decode(columns, &groups, &mut |batch| {
            batches.push(batch);
            Ok(())
        })?;
        match batches.as_slice() {
            [] => project(&RecordBatch::new_empty(self.schema()), columns),
            [only] => Ok(only.clone()),
            [first, ..] => concat_batches(first.schema_ref(), &batches).context(
                ErrorKind::Limit,
                format!("`{}`: the Parquet file's columns", self.name()),
            ),
        }
    }

    /// Decodes these columns of some groups of rows, batch by batch, in the order asked for. What
    /// is not in memory is fetched group by group. Blocks.
    pub(crate) fn decode(
        &self,
        columns: &[&str],
        groups: &[usize],
        each: &mut dyn FnMut(RecordBatch) -> Result<()>,
    ) -> Result<()> {
        let name = self.name();
        let wanted = indices(self.metadata.schema(), columns).within(format!("`{name}`"))?;
        let parquet = self.metadata.metadata().file_metadata().schema_descr();
        let mask = ProjectionMask::roots(parquet, wanted);
        if let Some(bytes) = self.input.bytes() {
            let chunks = Chunks { size: self.input.size, chunks: vec![(0, bytes.clone())] };
            return self.decode_groups(chunks, columns, &mask, groups.to_vec(), each);
        }
        for group in groups {
            let chunks = self.fetch(*group, &mask)?;
            self.decode_groups(chunks, columns, &mask, vec![*group], each)?;
        }
        Ok(())
    }

    fn decode_groups(
        &self,
        chunks: Chunks,
        columns: &[&str],
        mask: &ProjectionMask,
        groups: Vec<usize>,
        each: &mut dyn FnMut(RecordBatch) -> Result<()>,
    ) -> Result<()> {
        let name = self.name();
        let message = || format!("`{name}`: the Parquet file's columns");
        let of_group = |group: &usize| self.metadata.metadata().row_group(*group).num_rows();
        let rows: i64 = groups.iter().map(of_group).fold(0, i64::saturating_add);
        let rows = usize::try_from(rows).context(ErrorKind::Corrupt, message())?;
        let builder =
            ParquetRecordBatchReaderBuilder::new_with_metadata(chunks, self.metadata.clone());
        let reader = builder
            .with_projection(mask.clone())
            .with_batch_size(rows.clamp(1, MAX_BATCH_ROWS))
            .with_row_groups(groups)
            .build()
            .map_err(|error| parquet_error(message(), error))?;
        let mut found = 0;
        for batch in reader {
            let batch = batch.context(ErrorKind::Corrupt, message())?;
            found += batch.num_rows();
            // The file gives its columns in its own order.
            each(project(&batch, columns).within(format!("`{name}`"))?)?;
        }
        if found != rows {
            let message = format!("`{name}`: {found} rows, where its footer says {rows}");
            return Err(Error::corrupt(message));
        }
        Ok(())
    }

    /// The encoded columns of one group of rows.
    fn fetch(&self, group: usize, mask: &ProjectionMask) -> Result<Chunks> {
        let mut chunks = Vec::new();
        for (leaf, column) in self.metadata.metadata().row_group(group).columns().iter().enumerate()
        {
            if mask.leaf_included(leaf) {
                let (start, length) = column.byte_range();
                let range = start..start.saturating_add(length);
                chunks.push((start, self.input.range(range)?));
            }
        }
        chunks.sort_unstable_by_key(|(start, _)| *start);
        Ok(Chunks { size: self.input.size, chunks })
    }

    fn name(&self) -> &str {
        &self.input.name
    }
}

/// Stretches of a file that are in memory, in ascending order.
#[derive(Clone, Debug)]
struct Chunks {
    size: u64,
    chunks: Vec<(u64, Bytes)>,
}

impl Chunks {
    fn from(&self, start: u64) -> parquet::errors::Result<Bytes> {
        let after = self.chunks.partition_point(|(at, _)| *at <= start);
        let chunk = after.checked_sub(1).and_then(|index| self.chunks.get(index));
        let found = chunk.and_then(|(at, bytes)| {
            let skip = usize::try_from(start - at).ok()?;
            (skip <= bytes.len()).then(|| bytes.slice(skip..))
        });
        found.ok_or_else(|| ParquetError::EOF(format!("byte {start} is in no column")))
    }
}

impl Length for Chunks {
    fn len(&self) -> u64 {
        self.size
    }
}

impl ChunkReader for Chunks {
    type T = bytes::buf::Reader<Bytes>;

    fn get_read(&self, start: u64) -> parquet::errors::Result<Self::T> {
        Ok(self.from(start)?.reader())
    }

    fn get_bytes(&self, start: u64, length: usize) -> parquet::errors::Result<Bytes> {
        let bytes = self.from(start)?;
        match length <= bytes.len() {
            true => Ok(bytes.slice(..length)),
            false => Err(ParquetError::EOF(format!("{length} bytes at {start} pass a column"))),
        }
    }
}

/// A table as the bytes of a Parquet file: equal tables give equal bytes.
pub(crate) fn to_parquet(batch: &RecordBatch) -> Result<Bytes> {
    to_parquet_with(batch, Vec::new())
}

/// As [`to_parquet`], with these keys and values in the file's footer.
pub(crate) fn to_parquet_with(batch: &RecordBatch, notes: Vec<KeyValue>) -> Result<Bytes> {
    let message = "rows as Parquet";
    let level = ZstdLevel::try_new(3).context(ErrorKind::Internal, message)?;
    let properties = WriterProperties::builder()
        .set_created_by("kaizen".to_owned())
        .set_compression(Compression::ZSTD(level))
        .set_key_value_metadata((!notes.is_empty()).then_some(notes))
        .build();
    let batch = bare(batch)?;
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), Some(properties))
        .context(ErrorKind::Unsupported, message)?;
    writer.write(&batch).context(ErrorKind::Unsupported, message)?;
    writer.close().context(ErrorKind::Internal, message)?;
    Ok(bytes.into())
}

/// Refuses a file of more columns than are read.
pub(crate) fn bounded(name: &str, schema: &Schema) -> Result<()> {
    let columns = schema.fields().len();
    if columns > MAX_COLUMNS {
        let message = format!("`{name}`: {columns} columns, over {MAX_COLUMNS}");
        return Err(Error::new(ErrorKind::Limit, message));
    }
    Ok(())
}

/// The columns of these names, in this order.
pub(crate) fn project(batch: &RecordBatch, columns: &[&str]) -> Result<RecordBatch> {
    let wanted = indices(batch.schema_ref(), columns)?;
    bare(&batch.project(&wanted).context(ErrorKind::Internal, "a projected table")?)
}

/// The table without metadata.
pub(crate) fn bare(batch: &RecordBatch) -> Result<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    let schema = plain(batch.schema_ref());
    RecordBatch::try_new_with_options(schema, batch.columns().to_vec(), &options)
        .context(ErrorKind::Internal, "a table without metadata")
}

/// The places of columns, each of which must be there once.
pub(crate) fn indices(schema: &Schema, columns: &[&str]) -> Result<Vec<usize>> {
    let mut places: BTreeMap<&str, (usize, bool)> = BTreeMap::new();
    for (index, field) in schema.fields().iter().enumerate() {
        places.entry(field.name()).and_modify(|(_, twice)| *twice = true).or_insert((index, false));
    }
    let index = |name: &&str| match places.get(name) {
        Some((index, false)) => Ok(*index),
        Some((_, true)) => Err(Error::invalid(format!("column `{name}` stands twice"))),
        None => {
            let names = schema.fields().iter().take(40).map(|field| field.name().as_str());
            let names = names.collect::<Vec<_>>().join(", ");
            Err(Error::invalid(format!("column `{name}` is missing; there are {names}")))
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
