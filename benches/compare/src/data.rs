//! The data: drawn from a seed, written once as Parquet, read by everybody.
//!
//! All values are whole numbers below 2^20 in 64-bit floats, so that sums of them are exact in any
//! order and every contender must find the same.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kaizen_core::{Context, Digest, Error, ErrorKind, Result};
use kaizen_table::RecordBatch;
use kaizen_table::arrow::array::{
    ArrayRef, AsArray, Float64Array, Int64Array, TimestampMicrosecondArray,
};
use kaizen_table::arrow::datatypes::{
    DataType, Float64Type, Int64Type, TimeUnit, TimestampMicrosecondType,
};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::arrow::{ArrowWriter, ProjectionMask};

use crate::ground::Ground;

/// How many features there are, `f0` to `f9`.
pub(crate) const FEATURES: usize = 10;

/// All instants lie in the first 30 days of 1970, in microseconds.
pub(crate) const END_US: i64 = 30 * DAY_US;

const DAY_US: i64 = 86_400 * 1_000_000;

/// A row becomes known up to this long after it happened.
const DELAY_US: i64 = 2 * DAY_US;

/// So many rows are drawn and written at once.
const ROWS_AT_ONCE: u64 = 500_000;

/// The names of the features.
pub(crate) fn features() -> impl Iterator<Item = String> {
    (0..FEATURES).map(|place| format!("f{place}"))
}

/// Events in no order: `entity`, `at`, `created` (if wanted) and the features.
pub(crate) fn events(ground: &Ground, rows: u64, entities: u64, created: bool) -> Result<PathBuf> {
    let created_too = if created { "_created" } else { "" };
    write_once(ground, &format!("events_of_{entities}{created_too}"), rows, |range| {
        let at = column("events at", range, END_US as u64);
        let mut columns: Vec<(String, ArrayRef)> = vec![
            ("entity".into(), whole(column("events entity", range, entities))),
            ("at".into(), instants(at.clone())),
        ];
        if created {
            let delay = column("events delay", range, DELAY_US as u64);
            let known = at.iter().zip(delay).map(|(at, delay)| at + delay).collect();
            columns.push(("created".into(), instants(known)));
        }
        columns.extend(features().map(|name| {
            let values = column(&format!("events {name}"), range, 1 << 20);
            (name, floats(values))
        }));
        columns
    })
}

/// Questions in no order: `id`, which counts from 0, `entity` and `at`.
pub(crate) fn questions(ground: &Ground, rows: u64, entities: u64) -> Result<PathBuf> {
    write_once(ground, &format!("questions_of_{entities}"), rows, |range| {
        let ids = (range.0..range.1).map(|row| row as i64).collect();
        vec![
            ("id".into(), whole(ids)),
            ("entity".into(), whole(column("questions entity", range, entities))),
            ("at".into(), instants(column("questions at", range, END_US as u64))),
        ]
    })
}

/// One row for each of so many entities, in no order: `entity`, `at` and the features.
pub(crate) fn entities(ground: &Ground, entities: u64) -> Result<PathBuf> {
    write_once(ground, "entities", entities, |range| {
        // A prime that divides no power of ten: every entity once.
        let entity = (range.0..range.1).map(|row| (row * 7_919 % entities) as i64).collect();
        let mut columns: Vec<(String, ArrayRef)> = vec![
            ("entity".into(), whole(entity)),
            ("at".into(), instants(column("entities at", range, END_US as u64))),
        ];
        columns.extend(features().map(|name| {
            let values = column(&format!("entities {name}"), range, 1 << 20);
            (name, floats(values))
        }));
        columns
    })
}

/// The rows of a file, as one table in memory.
pub(crate) fn load(path: &str, columns: &[&str]) -> Result<RecordBatch> {
    let failed = |error: String| Error::new(ErrorKind::Unavailable, format!("{path}: {error}"));
    let file = File::open(path).context(ErrorKind::Unavailable, path)?;
    let builder = ParquetRecordBatchReaderBuilder::try_new(file)
        .map_err(|error| failed(error.to_string()))?;
    let rows = usize::try_from(builder.metadata().file_metadata().num_rows()).unwrap_or(0);
    let mask = ProjectionMask::columns(builder.parquet_schema(), columns.iter().copied());
    let reader = builder.with_projection(mask).with_batch_size(65_536).build();
    let reader = reader.map_err(|error| failed(error.to_string()))?;
    // Filled in place: joining the batches at the end would need the memory twice.
    let mut loaded: Vec<(String, Loaded)> = Vec::new();
    for batch in reader {
        let batch = batch.map_err(|error| failed(error.to_string()))?;
        if loaded.is_empty() {
            let schema = batch.schema();
            let fields = schema.fields().iter();
            let empty = |name: &String, kind| Ok((name.clone(), Loaded::new(kind, rows)?));
            let columns = fields.map(|field| empty(field.name(), field.data_type()));
            loaded = columns.collect::<Result<_>>()?;
        }
        for ((_, loaded), values) in loaded.iter_mut().zip(batch.columns()) {
            loaded.append(values);
        }
    }
    let columns = loaded.into_iter().map(|(name, values)| (name, values.finish()));
    RecordBatch::try_from_iter(columns).context(ErrorKind::Internal, path)
}

/// A column that is being read.
enum Loaded {
    Whole(Vec<i64>),
    Instants(Vec<i64>),
    Floats(Vec<f64>),
}

impl Loaded {
    fn new(kind: &DataType, rows: usize) -> Result<Self> {
        match kind {
            DataType::Int64 => Ok(Self::Whole(Vec::with_capacity(rows))),
            DataType::Timestamp(TimeUnit::Microsecond, Some(_)) => {
                Ok(Self::Instants(Vec::with_capacity(rows)))
            }
            DataType::Float64 => Ok(Self::Floats(Vec::with_capacity(rows))),
            other => Err(Error::internal(format!("a column of {other}"))),
        }
    }

    fn append(&mut self, values: &ArrayRef) {
        match self {
            Self::Whole(all) => all.extend(values.as_primitive::<Int64Type>().values()),
            Self::Instants(all) => {
                all.extend(values.as_primitive::<TimestampMicrosecondType>().values());
            }
            Self::Floats(all) => all.extend(values.as_primitive::<Float64Type>().values()),
        }
    }

    fn finish(self) -> ArrayRef {
        match self {
            Self::Whole(values) => whole(values),
            Self::Instants(values) => instants(values),
            Self::Floats(values) => Arc::new(Float64Array::from(values)),
        }
    }
}

fn whole(values: Vec<i64>) -> ArrayRef {
    Arc::new(Int64Array::from(values))
}

fn instants(values: Vec<i64>) -> ArrayRef {
    Arc::new(TimestampMicrosecondArray::from(values).with_timezone("UTC"))
}

fn floats(values: Vec<i64>) -> ArrayRef {
    Arc::new(values.into_iter().map(|value| value as f64).collect::<Float64Array>())
}

/// The rows of a column in this range, each below `most`: splitmix64 of the row, seeded by the
/// column's name.
fn column(name: &str, (begin, end): (u64, u64), most: u64) -> Vec<i64> {
    let digest = Digest::of(name);
    let seed = digest.as_bytes().iter().fold(0_u64, |seed, byte| (seed << 8) | u64::from(*byte));
    (begin..end).map(|row| (drawn(seed, row) % most) as i64).collect()
}

fn drawn(seed: u64, place: u64) -> u64 {
    let mut z = seed.wrapping_add(place.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The path of the file of this kind and size; writes it if it is not there.
fn write_once(
    ground: &Ground,
    kind: &str,
    rows: u64,
    columns: impl Fn((u64, u64)) -> Vec<(String, ArrayRef)>,
) -> Result<PathBuf> {
    let path = ground.data().join(format!("{kind}_{rows}.parquet"));
    if path.exists() {
        return Ok(path);
    }
    println!("note: writing {}", path.display());
    // Under another name until all of it is there.
    let partial = path.with_extension("partial");
    write(&partial, rows, columns)?;
    fs::rename(&partial, &path).context(ErrorKind::Unavailable, path.display())?;
    Ok(path)
}

fn write(
    path: &Path,
    rows: u64,
    columns: impl Fn((u64, u64)) -> Vec<(String, ArrayRef)>,
) -> Result<()> {
    let place = path.display().to_string();
    let file = File::create(path).context(ErrorKind::Unavailable, &place)?;
    let part = |begin: u64| {
        let range = (begin, rows.min(begin + ROWS_AT_ONCE));
        RecordBatch::try_from_iter(columns(range)).context(ErrorKind::Internal, &place)
    };
    let first = part(0)?;
    let mut writer =
        ArrowWriter::try_new(file, first.schema(), None).context(ErrorKind::Unavailable, &place)?;
    writer.write(&first).context(ErrorKind::Unavailable, &place)?;
    for begin in (ROWS_AT_ONCE..rows).step_by(ROWS_AT_ONCE as usize) {
        writer.write(&part(begin)?).context(ErrorKind::Unavailable, &place)?;
    }
    writer.close().context(ErrorKind::Unavailable, &place)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_rows_are_drawn_in_whatever_parts() {
        let all = column("events at", (0, 100), END_US as u64);
        let parts = [
            column("events at", (0, 37), END_US as u64),
            column("events at", (37, 100), END_US as u64),
        ];
        assert_eq!(all, parts.concat());
        assert!(all.iter().all(|at| (0..END_US).contains(at)));
        assert_ne!(all, column("questions at", (0, 100), END_US as u64));
    }
}
