//! A source in files, of which each holds some rows, and which is cut into spans as told.

use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::array::{Array, BooleanArray, RecordBatch};
use arrow::compute::{concat_batches, filter_record_batch};
use arrow::datatypes::SchemaRef;
use arrow::ipc::writer::StreamWriter;
use kaizen_core::{Digest, Error, ErrorKind, Result, async_trait};
use kaizen_table::{Query, Scan, Source, SourceFile, instants};

/// Tables by path, in memory.
#[derive(Debug)]
pub(crate) struct CutSource {
    name: String,
    files: Mutex<Vec<(String, RecordBatch)>>,
    cuts: Vec<i64>,
    /// How many rows its readings gave.
    pub(crate) rows_read: AtomicUsize,
    /// The most rows that one reading gave.
    pub(crate) most_read: AtomicUsize,
    /// After so many readings its last row is gone.
    pub(crate) changes_after: AtomicUsize,
}

impl CutSource {
    /// One file with these rows, in spans that are cut at these instants.
    pub(crate) fn new(name: &str, rows: RecordBatch, mut cuts: Vec<i64>) -> Self {
        cuts.sort_unstable();
        cuts.dedup();
        cuts.retain(|cut| *cut > i64::MIN && *cut < i64::MAX);
        let (rows_read, most_read) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let (name, changes_after) = (name.to_owned(), AtomicUsize::new(usize::MAX));
        let files = Mutex::new(vec![("part-0.arrow".to_owned(), rows)]);
        Self { name, files, cuts, rows_read, most_read, changes_after }
    }

    /// Adds a file, or replaces it.
    pub(crate) fn put(&self, path: &str, rows: RecordBatch) {
        let mut files = self.files.lock().unwrap();
        files.retain(|(known, _)| known != path);
        files.push((path.to_owned(), rows));
        files.sort_by(|a, b| a.0.cmp(&b.0));
    }

    /// Removes a file.
    pub(crate) fn remove(&self, path: &str) {
        self.files.lock().unwrap().retain(|(known, _)| known != path);
    }
}

fn described(path: &str, rows: &RecordBatch) -> SourceFile {
    let mut writer = StreamWriter::try_new(Vec::new(), &rows.schema()).unwrap();
    writer.write(rows).unwrap();
    let bytes = writer.into_inner().unwrap();
    SourceFile { path: path.to_owned(), size: bytes.len() as u64, digest: Digest::of(&bytes) }
}

#[async_trait]
impl Source for CutSource {
    fn name(&self) -> &str {
        &self.name
    }

    async fn schema(&self) -> Result<SchemaRef> {
        Ok(self.files.lock().unwrap()[0].1.schema())
    }

    async fn scan(&self, query: &Query<'_>) -> Result<Scan> {
        let mut held = self.files.lock().unwrap().clone();
        if self.changes_after.load(Ordering::SeqCst) == 0 {
            let last = &mut held.last_mut().unwrap().1;
            *last = last.slice(0, last.num_rows() - 1);
        }
        self.changes_after.fetch_sub(1, Ordering::SeqCst);
        if let Some(wanted) = query.files {
            held.retain(|(path, _)| wanted.iter().any(|file| file.path == *path));
            for file in wanted {
                let path = &file.path;
                match held.iter().find(|(known, _)| known == path) {
                    None => return Err(Error::not_found(format!("file `{path}`"))),
                    Some((_, rows)) if described(path, rows) != *file => {
                        return Err(Error::conflict(format!("file `{path}` has changed")));
                    }
                    Some(_) => {}
                }
            }
        }
        let files: Vec<SourceFile> =
            held.iter().map(|(path, rows)| described(path, rows)).collect();
        let digest = match files.as_slice() {
            [only] => only.digest,
            several => Digest::of_json(several)?,
        };
        let schema = held[0].1.schema();
        let mut batches = Vec::new();
        for (_, rows) in held {
            let rows = match &query.during {
                None => rows,
                Some(during) => {
                    let at = instants(&rows, during.column)?;
                    let inside =
                        |row: usize| Some(at.is_valid(row) && during.contains(at.value(row)));
                    let mask: BooleanArray = (0..rows.num_rows()).map(inside).collect();
                    filter_record_batch(&rows, &mask).unwrap()
                }
            };
            batches.push(rows);
        }
        let rows = concat_batches(&schema, &batches).unwrap();
        self.rows_read.fetch_add(rows.num_rows(), Ordering::SeqCst);
        self.most_read.fetch_max(rows.num_rows(), Ordering::SeqCst);
        let places: Result<Vec<usize>> = query
            .columns
            .iter()
            .map(|name| {
                schema.index_of(name).map_err(|e| Error::new(ErrorKind::Invalid, e.to_string()))
            })
            .collect();
        let batches = vec![rows.project(&places?).unwrap()];
        Ok(Scan { digest, files, batches })
    }

    async fn spans(&self, _time: &str, _rows: u64) -> Result<Vec<Range<i64>>> {
        let starts = std::iter::once(i64::MIN).chain(self.cuts.iter().copied());
        let ends = self.cuts.iter().copied().chain(std::iter::once(i64::MAX));
        Ok(starts.zip(ends).map(|(start, end)| start..end).collect())
    }
}
