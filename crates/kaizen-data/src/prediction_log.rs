//! Served predictions as Parquet files in a folder.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::{
    Array, ArrayRef, BooleanArray, RecordBatch, TimestampNanosecondArray, new_null_array,
};
use arrow::compute::{concat_batches, filter_record_batch};
use arrow::datatypes::{Schema, SchemaRef};
use kaizen_core::{Bytes, Context, Error, ErrorKind, Result, Timestamp, async_trait, compute};
use kaizen_table::{PredictionSink, PredictionSource, instants, numbers, prediction, texts};

use crate::blocking::blocking;
use crate::parquet_file::{ParquetFile, plain, to_parquet};
use crate::whole_file::{Unfinished, clear_unfinished_in, make_folder, sync_folder};
use crate::within::Within;

/// When this many rows wait in memory, the write that brought the last of them makes a file.
const MAX_BUFFERED_ROWS: usize = 100_000;

/// A folder of Parquet files of predictions, each made at once.
///
/// Writes wait in memory until [`flush`](Self::flush), or until 100,000 rows wait. What waits is
/// lost when the program ends: flush before. A file is complete or not there. Readers see what is
/// in files and what waits. Rows of different columns come together in one file, a missing column
/// as missing values.
///
/// One process writes to the folder, with one log; any number read.
#[derive(Debug)]
pub struct PredictionLog {
    folder: PathBuf,
    buffer: Arc<Mutex<Buffer>>,
    /// Held while a file is made or the files are listed, so that no row is seen twice or not at
    /// all. What it guards: the stretch of time of each file that was ever looked at.
    files: Arc<tokio::sync::Mutex<BTreeMap<String, Stretch>>>,
}

#[derive(Debug)]
struct Buffer {
    waiting: Vec<RecordBatch>,
    rows: usize,
    /// The columns of all that wait.
    schema: SchemaRef,
}

impl Default for Buffer {
    fn default() -> Self {
        Self { waiting: Vec::new(), rows: 0, schema: Arc::new(Schema::empty()) }
    }
}

impl Buffer {
    /// Takes rows, unless a column of theirs has another type than it has in those that wait.
    fn push(&mut self, rows: &RecordBatch) -> bool {
        let Ok(schema) = merged([&self.schema, rows.schema_ref()].into_iter()) else {
            return false;
        };
        self.schema = schema;
        self.rows += rows.num_rows();
        self.waiting.push(rows.clone());
        true
    }

    /// Lets go of the oldest batches.
    fn release(&mut self, count: usize) -> Result<()> {
        let rows: usize = self.waiting.drain(..count).map(|batch| batch.num_rows()).sum();
        self.rows -= rows;
        self.schema = merged(self.waiting.iter().map(RecordBatch::schema_ref))?;
        Ok(())
    }
}

/// The first and the last instant of a file's rows, in nanoseconds UTC.
#[derive(Clone, Copy, Debug)]
struct Stretch {
    first: i64,
    last: i64,
}

impl PredictionLog {
    /// Opens the folder, and makes it if it is not there.
    pub async fn open(folder: impl AsRef<Path>) -> Result<Self> {
        let folder = folder.as_ref().to_owned();
        let make = move || {
            let made = make_folder(&folder);
            made.context(ErrorKind::Unavailable, format!("`{}`", folder.display()))?;
            Ok(folder)
        };
        Ok(Self { folder: blocking(make).await?, buffer: Arc::default(), files: Arc::default() })
    }

    /// Makes a file of the rows that wait and gives its path; `None` if none wait. What is left of
    /// a file that was cut off is removed.
    ///
    /// If it fails, the rows wait on. If the caller goes away, they wait on or are in a file.
    pub async fn flush(&self) -> Result<Option<PathBuf>> {
        let mut files = Arc::clone(&self.files).lock_owned().await;
        let waiting = self.buffer().waiting.clone();
        if waiting.is_empty() {
            return Ok(None);
        }
        let count = waiting.len();
        let encode = move || {
            let rows = together(&waiting)?;
            Ok((stretch(&instants(&rows, prediction::AT)?), to_parquet(&rows)?))
        };
        let (stretch, bytes) = compute(encode).await.within(self.place())?;
        let (folder, place) = (self.folder.clone(), self.place());
        let buffer = Arc::clone(&self.buffer);
        // Also if the caller goes away, nobody sees the rows twice: the lock is held until they are
        // in a file and wait no more.
        blocking(move || {
            let name = publish(&folder, &bytes).context(ErrorKind::Unavailable, place)?;
            let path = folder.join(&name);
            files.insert(name, stretch);
            locked(&buffer).release(count)?;
            Ok(Some(path))
        })
        .await
    }

    fn buffer(&self) -> MutexGuard<'_, Buffer> {
        locked(&self.buffer)
    }

    fn place(&self) -> String {
        format!("predictions in `{}`", self.folder.display())
    }

    async fn open_file(&self, name: &str) -> Result<ParquetFile> {
        let path = self.folder.join(name);
        let message = format!("`{}`", path.display());
        let bytes: Bytes =
            tokio::fs::read(&path).await.context(ErrorKind::Unavailable, &message)?.into();
        ParquetFile::open(&path.display().to_string(), bytes)
    }

    async fn names(&self) -> Result<Vec<String>> {
        let (folder, place) = (self.folder.clone(), self.place());
        blocking(move || list(&folder).context(ErrorKind::Unavailable, place)).await
    }
}

#[async_trait]
impl PredictionSink for PredictionLog {
    async fn write(&self, rows: &RecordBatch) -> Result<()> {
        check(rows).within("predictions")?;
        if rows.num_rows() == 0 {
            return Ok(());
        }
        let columns = rows.columns().to_vec();
        let rows = RecordBatch::try_new(plain(rows.schema_ref()), columns)
            .context(ErrorKind::Internal, "predictions")?;
        // Columns of one name and two types cannot stand in one file.
        if !self.buffer().push(&rows) {
            self.flush().await?;
            if !self.buffer().push(&rows) {
                let message = "rows of another type of column were written at the same time";
                return Err(Error::conflict(format!("{}: {message}", self.place())));
            }
        }
        let full = self.buffer().rows >= MAX_BUFFERED_ROWS;
        if full {
            self.flush().await?;
        }
        Ok(())
    }
}

#[async_trait]
impl PredictionSource for PredictionLog {
    async fn read(&self, from: Timestamp, to: Timestamp) -> Result<Vec<RecordBatch>> {
        let (from, to) = (from.nanos()?, to.nanos()?);
        let mut files = self.files.lock().await;
        let mut found = Vec::new();
        for name in self.names().await? {
            if files.get(&name).is_some_and(|file| file.last < from || to <= file.first) {
                continue;
            }
            let file = self.open_file(&name).await?;
            let decode = move || {
                let schema = file.schema();
                let names: Vec<_> = schema.fields().iter().map(|f| f.name().as_str()).collect();
                let rows = file.read(&names)?;
                let stretch = stretch(&instants(&rows, prediction::AT)?);
                Ok((stretch, between(&rows, from, to)?))
            };
            let (stretch, rows) = compute(decode).await.within(self.place())?;
            files.insert(name, stretch);
            found.push(rows);
        }
        let waiting = self.buffer().waiting.clone();
        for rows in waiting {
            found.push(between(&rows, from, to)?);
        }
        found.retain(|rows| rows.num_rows() > 0);
        Ok(found)
    }
}

/// Checks the columns that every prediction has.
fn check(rows: &RecordBatch) -> Result<()> {
    let id = texts(rows, prediction::ID)?.null_count();
    let at = instants(rows, prediction::AT)?.null_count();
    let model = texts(rows, prediction::MODEL)?.null_count();
    let score = numbers(rows, prediction::SCORE)?.null_count();
    let columns = [prediction::ID, prediction::AT, prediction::MODEL, prediction::SCORE];
    for (name, missing) in columns.into_iter().zip([id, at, model, score]) {
        if missing > 0 {
            return Err(Error::invalid(format!("column `{name}`: {missing} rows have no value")));
        }
    }
    Ok(())
}

/// The rows whose instant lies in `[from, to)`.
fn between(rows: &RecordBatch, from: i64, to: i64) -> Result<RecordBatch> {
    let at = instants(rows, prediction::AT)?;
    let mask: Vec<bool> = at.values().iter().map(|at| (from..to).contains(at)).collect();
    filter_record_batch(rows, &BooleanArray::from(mask))
        .context(ErrorKind::Internal, "predictions of a stretch of time")
}

fn stretch(at: &TimestampNanosecondArray) -> Stretch {
    let first = at.values().iter().copied().min().unwrap_or(i64::MAX);
    Stretch { first, last: at.values().iter().copied().max().unwrap_or(i64::MIN) }
}

/// The columns of all, in the order in which they first appear.
fn merged<'a>(schemas: impl Iterator<Item = &'a SchemaRef>) -> Result<SchemaRef> {
    let nullable = |schema: &SchemaRef| {
        let fields = schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true));
        Schema::new(fields.collect::<Vec<_>>())
    };
    let merged = Schema::try_merge(schemas.map(nullable));
    Ok(Arc::new(merged.context(ErrorKind::Invalid, "predictions: a column of two types")?))
}

/// All rows as one table; a column that some lack is missing there.
fn together(batches: &[RecordBatch]) -> Result<RecordBatch> {
    let message = "predictions as one table";
    let schema = merged(batches.iter().map(RecordBatch::schema_ref))?;
    let widened = |batch: &RecordBatch| {
        let column = |field: &arrow::datatypes::FieldRef| -> ArrayRef {
            match batch.column_by_name(field.name()) {
                Some(column) => Arc::clone(column),
                None => new_null_array(field.data_type(), batch.num_rows()),
            }
        };
        let columns = schema.fields().iter().map(column).collect();
        RecordBatch::try_new(Arc::clone(&schema), columns).context(ErrorKind::Internal, message)
    };
    let widened = batches.iter().map(widened).collect::<Result<Vec<_>>>()?;
    concat_batches(&schema, &widened).context(ErrorKind::Internal, message)
}

/// The names of the files, in the order in which they were made.
fn list(folder: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if number(&name).is_some() {
            names.push(name);
        }
    }
    names.sort_unstable_by_key(|name| number(name));
    Ok(names)
}

/// The number in a file's name.
fn number(name: &str) -> Option<u64> {
    name.strip_prefix("predictions-")?.strip_suffix(".parquet")?.parse().ok()
}

/// Writes a file, whole or not at all, under the next number.
fn publish(folder: &Path, bytes: &[u8]) -> io::Result<String> {
    clear_unfinished_in(folder, |name| number(name).is_some())?;
    let last = list(folder)?.last().and_then(|name| number(name)).unwrap_or(0);
    let name = format!("predictions-{:010}.parquet", last + 1);
    let path = folder.join(&name);
    let mut unfinished = Unfinished::of(&path)?;
    unfinished.file().write_all(bytes)?;
    unfinished.sync()?;
    unfinished.rename()?;
    // A file whose name may not be on disk is taken back, so that its rows wait on. One that cannot
    // be taken back has them.
    if let Err(error) = sync_folder(folder) {
        match fs::remove_file(&path) {
            Ok(()) => return Err(error),
            Err(_) => tracing::warn!(%error, name, "a file of predictions may not be on disk"),
        }
    }
    Ok(name)
}

fn locked(buffer: &Mutex<Buffer>) -> MutexGuard<'_, Buffer> {
    buffer.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::whole_file::tests::watched;

    #[test]
    fn a_file_that_is_not_sure_to_be_on_disk_is_taken_back() {
        for failing in ["list", "create", "sync", "rename", "sync folder"] {
            let folder = tempfile::tempdir().unwrap();
            let fail = move |what: &str, _: &Path| match what == failing {
                true => Err(io::ErrorKind::StorageFull.into()),
                false => Ok(()),
            };
            assert!(watched(fail, || publish(folder.path(), b"1")).is_err());
            assert!(list(folder.path()).unwrap().is_empty(), "{failing}");
            assert_eq!(publish(folder.path(), b"1").unwrap(), "predictions-0000000001.parquet");
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "{failing}");
        }
    }
}
