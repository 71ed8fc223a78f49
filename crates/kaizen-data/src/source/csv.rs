//! CSV files, of declared columns.

use std::io::{self, Read};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, PrimitiveArray, RecordBatch, RecordBatchOptions, StringArray,
    TimestampNanosecondArray,
};
use arrow::compute::cast;
use arrow::csv::ReaderBuilder;
use arrow::csv::reader::Format;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit, TimestampNanosecondType};
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use kaizen_core::{Bytes, Context, Error, ErrorKind, Result};
use regex::Regex;

use crate::parquet_file::{bounded, indices, project};
use crate::source::input::Input;
use crate::source::zone::Zone;
use crate::within::Within;

/// So many rows are decoded at once.
const BATCH_ROWS: usize = 1 << 16;

/// How CSV files are read.
#[derive(Clone, Debug)]
pub(crate) struct CsvOptions {
    pub(crate) columns: Vec<Field>,
    pub(crate) delimiter: u8,
    pub(crate) missing: Vec<String>,
}

impl Default for CsvOptions {
    fn default() -> Self {
        Self { columns: Vec::new(), delimiter: b',', missing: Vec::new() }
    }
}

/// A CSV file whose header was read.
#[derive(Debug)]
pub(crate) struct CsvFile {
    input: Arc<Input>,
    format: Format,
    missing: Regex,
    /// The columns of the file, as they are decoded.
    raw: SchemaRef,
    /// The columns that were declared.
    declared: SchemaRef,
    zone: Option<Zone>,
}

impl CsvFile {
    /// Reads the header of a file. Blocks, if the file is not in memory.
    pub(crate) fn of(input: Arc<Input>, options: &CsvOptions, zone: Option<&Zone>) -> Result<Self> {
        let name = &input.name;
        if input.size == 0 {
            return Err(Error::invalid(format!("`{name}`: the file is empty")));
        }
        if options.columns.is_empty() {
            return Err(Error::invalid(format!(
                "`{name}`: a CSV file does not say what its columns hold; declare them"
            )));
        }
        let format = Format::default().with_header(true).with_delimiter(options.delimiter);
        let header = format.infer_schema(Stream::new(Arc::clone(&input)), Some(0));
        let (header, _) = header.context(ErrorKind::Invalid, format!("`{name}`: its header"))?;
        bounded(name, &header)?;
        let names: Vec<&str> = header.fields().iter().map(|field| field.name().as_str()).collect();
        let declared = Schema::new(options.columns.clone());
        for field in declared.fields() {
            indices(&header, &[field.name()]).within(format!("`{name}`"))?;
        }
        let raw = |name: &&str| match declared.field_with_name(name) {
            Ok(field) if !matches!(field.data_type(), DataType::Timestamp(..)) => {
                Field::new(*name, field.data_type().clone(), true)
            }
            _ => Field::new(*name, DataType::Utf8, true),
        };
        let raw = Arc::new(Schema::new(names.iter().map(raw).collect::<Vec<_>>()));
        let texts = options.missing.iter().map(|text| regex::escape(text));
        let texts = texts.chain(std::iter::once(String::new())).collect::<Vec<_>>().join("|");
        let missing = Regex::new(&format!("^(?:{texts})$"))
            .context(ErrorKind::Limit, "the texts of missing values")?;
        let zone = zone.cloned();
        Ok(Self { input, format, missing, raw, declared: Arc::new(declared), zone })
    }

    /// The columns that were declared.
    pub(crate) fn schema(&self) -> SchemaRef {
        Arc::clone(&self.declared)
    }

    /// Decodes these columns batch by batch, in the order asked for. Blocks.
    pub(crate) fn decode(
        &self,
        columns: &[&str],
        each: &mut dyn FnMut(RecordBatch) -> Result<()>,
    ) -> Result<()> {
        indices(&self.declared, columns).within(format!("`{}`", self.input.name))?;
        let mut rows = 0;
        for batch in self.reader(columns)? {
            let batch = match batch {
                Ok(batch) => batch,
                Err(error) => return Err(self.fault(columns, error)),
            };
            let converted = columns.iter().map(|name| {
                let values = project(&batch, &[name])?.column(0).clone();
                self.convert(name, &values, rows)
            });
            let converted = converted.collect::<Result<Vec<_>>>();
            let converted = converted.within(format!("`{}`", self.input.name))?;
            let fields = columns.iter().zip(&converted);
            let fields =
                fields.map(|(name, values)| Field::new(*name, values.data_type().clone(), true));
            let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
            let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
            rows += batch.num_rows();
            let batch = RecordBatch::try_new_with_options(schema, converted, &options);
            each(batch.context(ErrorKind::Internal, "rows of a CSV file")?)?;
        }
        Ok(())
    }

    fn reader(&self, columns: &[&str]) -> Result<arrow::csv::Reader<Stream>> {
        let mut wanted = indices(&self.raw, columns)?;
        wanted.sort_unstable();
        ReaderBuilder::new(Arc::clone(&self.raw))
            .with_format(self.format.clone().with_null_regex(self.missing.clone()))
            .with_batch_size(BATCH_ROWS)
            .with_projection(wanted)
            .build(Stream::new(Arc::clone(&self.input)))
            .context(ErrorKind::Invalid, format!("`{}`", self.input.name))
    }

    /// Finds the column that cannot be decoded, which the decoder tells by its number alone.
    fn fault(&self, columns: &[&str], error: arrow::error::ArrowError) -> Error {
        let name = &self.input.name;
        for column in columns {
            let decoded = self.reader(&[column]).map(|mut reader| reader.find_map(Result::err));
            if let Ok(Some(error)) = decoded {
                let message = format!("`{name}`: column `{column}`");
                return Error::invalid(message).with_source(error);
            }
        }
        Error::invalid(format!("`{name}`: its rows")).with_source(error)
    }

    /// Text as instants, where the column was declared to hold them.
    fn convert(&self, name: &str, values: &ArrayRef, before: usize) -> Result<ArrayRef> {
        let declared = self.declared.field_with_name(name);
        let Ok(DataType::Timestamp(unit, zone)) = declared.map(Field::data_type) else {
            return Ok(Arc::clone(values));
        };
        let texts: &StringArray = values.as_string();
        let naive = zone.is_none() && self.zone.is_none();
        let parse = |(row, text): (usize, Option<&str>)| {
            let Some(text) = text else { return Ok(None) };
            let nanos = if naive { local(text) } else { self.instant(text) };
            let nanos = nanos.context(
                ErrorKind::Invalid,
                format!("column `{name}`, row {}: `{text}`", before + row + 1),
            );
            nanos.map(Some)
        };
        let parsed = texts.iter().enumerate().map(parse).collect::<Result<Vec<_>>>()?;
        let nanos: TimestampNanosecondArray = parsed.into_iter().collect();
        let zone = zone.clone().or_else(|| (!naive).then(|| "UTC".into()));
        let nanos: PrimitiveArray<TimestampNanosecondType> = nanos.with_timezone_opt(zone.clone());
        if *unit == TimeUnit::Nanosecond {
            return Ok(Arc::new(nanos));
        }
        cast(&nanos, &DataType::Timestamp(*unit, zone))
            .context(ErrorKind::Invalid, format!("column `{name}`"))
    }

    /// An instant in nanoseconds UTC: with an offset as it says, without in the declared zone.
    fn instant(&self, text: &str) -> Result<i64> {
        let instant = match text.parse::<Timestamp>() {
            Ok(instant) => instant,
            Err(error) => {
                let Ok(civil) = text.parse::<DateTime>() else {
                    return Err(error).context(ErrorKind::Invalid, "not an instant");
                };
                let zone = self.zone.as_ref();
                let message = "a naive timestamp; declare its time zone";
                zone.context(ErrorKind::Invalid, message)?.instant(civil)?
            }
        };
        nanos(instant)
    }
}

/// A local time in nanoseconds, as if it were UTC.
fn local(text: &str) -> Result<i64> {
    if text.parse::<Timestamp>().is_ok() {
        return Err(Error::invalid("it has an offset, and the column is declared to have none"));
    }
    let civil = text.parse::<DateTime>().context(ErrorKind::Invalid, "not a local time")?;
    let instant = TimeZone::UTC.to_timestamp(civil);
    nanos(instant.context(ErrorKind::Invalid, "out of range")?)
}

fn nanos(instant: Timestamp) -> Result<i64> {
    i64::try_from(instant.as_nanosecond()).context(ErrorKind::Invalid, "outside 1678 to 2262")
}

/// The bytes of a file one after the other, less the mark at the start that some editors leave.
#[derive(Debug)]
struct Stream {
    input: Arc<Input>,
    at: u64,
    held: Bytes,
}

impl Stream {
    const STRIDE: u64 = 1 << 20;

    fn new(input: Arc<Input>) -> Self {
        let mark = input.range(0..input.size.min(3));
        let at = if mark.is_ok_and(|mark| mark.as_ref() == b"\xef\xbb\xbf") { 3 } else { 0 };
        Self { input, at, held: Bytes::new() }
    }
}

impl Read for Stream {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.held.is_empty() && self.at < self.input.size {
            let end = self.input.size.min(self.at + Self::STRIDE);
            self.held = self.input.range(self.at..end).map_err(io::Error::other)?;
            self.at = end;
        }
        let count = out.len().min(self.held.len());
        out[..count].copy_from_slice(&self.held.split_to(count));
        Ok(count)
    }
}
