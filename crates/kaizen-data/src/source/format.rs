//! Formats of files.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Field, Schema, SchemaRef};
use kaizen_core::{Context, Error, ErrorKind, Result};
use kaizen_table::During;
use serde::Serialize;

use crate::parquet_file::ParquetFile;
use crate::source::csv::{CsvFile, CsvOptions};
use crate::source::input::Input;
use crate::source::ipc::IpcFile;
use crate::source::spans::Stretch;
use crate::source::zone::Zone;

/// How files of a source are encoded.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Format {
    /// Apache Parquet: `.parquet`, `.pq`.
    Parquet,
    /// Text, with the names of the columns in its first line, whose types are declared: `.csv`. An
    /// empty text is a missing value.
    Csv,
    /// Arrow's IPC file format, also called Feather: `.arrow`, `.ipc`, `.feather`.
    Ipc,
}

impl Format {
    /// The format that a file's name says it has.
    pub(crate) fn of(path: &str) -> Option<Self> {
        let (_, ending) = path.rsplit('/').next()?.rsplit_once('.')?;
        match ending.to_ascii_lowercase().as_str() {
            "parquet" | "pq" => Some(Self::Parquet),
            "csv" => Some(Self::Csv),
            "arrow" | "ipc" | "feather" => Some(Self::Ipc),
            _ => None,
        }
    }
}

/// How files are read.
#[derive(Clone, Default)]
pub(crate) struct FileOptions {
    pub(crate) format: Option<Format>,
    pub(crate) csv: CsvOptions,
    pub(crate) zone: Option<Zone>,
    /// Only files in whose path these columns have these values.
    pub(crate) partitions: Vec<(String, String)>,
    /// For the object store.
    pub(crate) store: BTreeMap<String, String>,
}

/// What of the options decides what the rows of the same bytes are.
#[derive(Debug, Serialize)]
pub(crate) struct Reading {
    csv: Option<CsvReading>,
    zone: Option<String>,
}

#[derive(Debug, Serialize)]
struct CsvReading {
    /// Names and types.
    columns: Vec<(String, String)>,
    delimiter: u8,
    missing: Vec<String>,
}

impl FileOptions {
    /// What decides how the rows of files of this format are read; `None` if only the files do.
    pub(crate) fn reading(&self, format: Format) -> Option<Reading> {
        let CsvOptions { columns, delimiter, missing } = &self.csv;
        let typed = |field: &Field| (field.name().clone(), field.data_type().to_string());
        let csv = (format == Format::Csv).then(|| CsvReading {
            columns: columns.iter().map(typed).collect(),
            delimiter: *delimiter,
            missing: missing.clone(),
        });
        let zone = self.zone.as_ref().map(|zone| zone.name().to_owned());
        (csv.is_some() || zone.is_some()).then_some(Reading { csv, zone })
    }
}

impl fmt::Debug for FileOptions {
    /// Of the options of the store only the names: their values may be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { format, csv, zone, partitions, store } = self;
        let mut shown = f.debug_struct("FileOptions");
        shown.field("format", format).field("csv", csv).field("zone", zone);
        shown.field("partitions", partitions).field("store", &store.keys()).finish()
    }
}

/// A file of which it is known what columns it has.
#[derive(Debug)]
pub(crate) struct Decoder {
    file: File,
    zone: Option<Zone>,
    name: String,
}

#[derive(Debug)]
enum File {
    Parquet(ParquetFile),
    Csv(CsvFile),
    Ipc(IpcFile),
}

/// How much was decoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Decoded {
    pub(crate) groups: usize,
    pub(crate) skipped: usize,
}

impl Decoder {
    /// Looks at a file's footer or header. Blocks.
    pub(crate) fn open(format: Format, input: Arc<Input>, options: &FileOptions) -> Result<Self> {
        let (name, zone) = (input.name.clone(), options.zone.clone());
        let file = contained(&name, || {
            Ok(match format {
                Format::Parquet => File::Parquet(ParquetFile::of(input)?),
                Format::Csv => File::Csv(CsvFile::of(input, &options.csv, zone.as_ref())?),
                Format::Ipc => File::Ipc(IpcFile::of(input)?),
            })
        })?;
        Ok(Self { file, zone, name })
    }

    /// The columns as they are given, each of which may have missing values.
    pub(crate) fn schema(&self) -> Schema {
        let schema = match &self.file {
            File::Parquet(file) => file.schema(),
            File::Csv(file) => file.schema(),
            File::Ipc(file) => file.schema(),
        };
        let zoned = match &self.zone {
            Some(_) => Zone::schema(&schema),
            None => schema.as_ref().clone(),
        };
        let field = |field: &Arc<Field>| Arc::new(field.as_ref().clone().with_nullable(true));
        Schema::new(zoned.fields().iter().map(field).collect::<Vec<_>>())
    }

    /// The columns as they are in the file, with what it says of them; `None` if it says nothing.
    pub(crate) fn raw_schema(&self) -> Option<SchemaRef> {
        match &self.file {
            File::Parquet(file) => Some(Arc::clone(file.full_schema())),
            File::Ipc(file) => Some(Arc::clone(file.full_schema())),
            File::Csv(_) => None,
        }
    }

    /// The Parquet file, if it is one.
    pub(crate) fn parquet(&self) -> Option<&ParquetFile> {
        match &self.file {
            File::Parquet(file) => Some(file),
            _ => None,
        }
    }

    /// Where each group of rows lies in time; `None` if that is not known of each.
    pub(crate) fn stretches(&self, time: &str) -> Result<Option<Vec<Stretch>>> {
        contained(&self.name, || {
            Ok(match &self.file {
                File::Parquet(file) => {
                    file.stretches(time).and_then(|groups| groups.into_iter().collect())
                }
                _ => None,
            })
        })
    }

    /// Decodes these columns batch by batch, as they are in the file. Groups of rows of which it is
    /// known that none is in the span are passed over. Blocks.
    pub(crate) fn raw(
        &self,
        columns: &[&str],
        during: Option<&(String, Range<i64>)>,
        each: &mut dyn FnMut(RecordBatch) -> Result<()>,
    ) -> Result<Decoded> {
        contained(&self.name, || match &self.file {
            File::Parquet(file) => {
                let groups = wanted(file, during);
                file.decode(columns, &groups, each)?;
                Ok(Decoded { groups: groups.len(), skipped: file.groups() - groups.len() })
            }
            File::Csv(file) => {
                file.decode(columns, each).map(|()| Decoded { groups: 1, skipped: 0 })
            }
            File::Ipc(file) => {
                file.decode(columns, each).map(|()| Decoded { groups: 1, skipped: 0 })
            }
        })
    }

    /// A batch as it is given: instants in their zone.
    pub(crate) fn given(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let fields = batch.schema();
        let columns = fields.fields().iter().zip(batch.columns());
        let columns = columns.map(|(field, values)| match &self.zone {
            Some(zone) => zone.apply(field.name(), values),
            None => Ok(Arc::clone(values)),
        });
        let columns: Vec<ArrayRef> = columns.collect::<Result<_>>()?;
        let named = fields.fields().iter().zip(&columns).map(|(field, values)| {
            let field = field.as_ref().clone();
            field.with_data_type(values.data_type().clone()).with_nullable(true)
        });
        let schema = Arc::new(Schema::new(named.collect::<Vec<_>>()));
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        RecordBatch::try_new_with_options(schema, columns, &options)
            .context(ErrorKind::Internal, "a batch as it is given")
    }
}

/// The groups of rows of which some may be in the span.
fn wanted(file: &ParquetFile, during: Option<&(String, Range<i64>)>) -> Vec<usize> {
    let all = 0..file.groups();
    let Some((time, span)) = during else { return all.collect() };
    let Some(stretches) = file.stretches(time) else { return all.collect() };
    let outside = |stretch: &Stretch| is_outside(stretch, span);
    let known = stretches.iter().map(|stretch| stretch.as_ref().is_some_and(outside));
    all.zip(known).filter(|(_, outside)| !outside).map(|(group, _)| group).collect()
}

/// Whether no row of a stretch is in a span.
pub(crate) fn is_outside(stretch: &Stretch, span: &Range<i64>) -> bool {
    let during = During { column: "", span: span.clone() };
    let after = stretch.first >= span.start && !during.contains(stretch.first);
    stretch.rows == 0 || stretch.last < span.start || after
}

/// The decoders of Arrow and Parquet check what they read, but not all of it: on hostile bytes they
/// may panic. Such a file is corrupt, and no reason to fall.
pub(crate) fn contained<T>(name: &str, decode: impl FnOnce() -> Result<T>) -> Result<T> {
    let caught = catch_unwind(AssertUnwindSafe(decode));
    caught.unwrap_or_else(|_| Err(Error::corrupt(format!("`{name}`: it cannot be decoded"))))
}
