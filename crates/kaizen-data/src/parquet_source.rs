//! A Parquet file as a source.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;
use kaizen_core::{Context, Digest, Error, ErrorKind, Result, async_trait, compute};
use kaizen_table::{Query, Scan, Source};

use crate::parquet_file::{ParquetFile, indices};
use crate::within::Within;

/// A local Parquet file.
///
/// A read hashes and decodes the same bytes, so that the digest of a [`Scan`] names exactly what
/// was read. Bytes and decoded columns are kept in memory until the file's size or time of change
/// differs; then everything is read anew.
#[derive(Debug)]
pub struct ParquetSource {
    name: String,
    path: PathBuf,
    snapshot: Mutex<Option<Arc<Snapshot>>>,
}

/// The file as it was at one time.
#[derive(Debug)]
struct Snapshot {
    stamp: Stamp,
    digest: Digest,
    file: ParquetFile,
    columns: Mutex<BTreeMap<String, ArrayRef>>,
}

/// What tells that a file has changed, without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    size: u64,
    modified: Option<SystemTime>,
}

impl Stamp {
    fn of(metadata: &fs::Metadata) -> Self {
        Self { size: metadata.len(), modified: metadata.modified().ok() }
    }
}

impl ParquetSource {
    /// Opens the file and checks that it is Parquet. Views know it by `name`.
    ///
    /// A path at which nothing is gives [`ErrorKind::NotFound`], a file of another format
    /// [`ErrorKind::Invalid`], one that is cut off [`ErrorKind::Corrupt`].
    pub async fn open(name: impl Into<String>, path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref().to_owned();
        let source = Self { name: name.into(), path, snapshot: Mutex::default() };
        source.snapshot().await?;
        Ok(source)
    }

    async fn snapshot(&self) -> Result<Arc<Snapshot>> {
        let place = || format!("source `{}`", self.name);
        let held = self.snapshot.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let path = self.path.clone();
        let load = tokio::task::spawn_blocking(move || load(&path, held));
        let snapshot = load.await.context(ErrorKind::Internal, place())?.within(place())?;
        let mut held = self.snapshot.lock().unwrap_or_else(PoisonError::into_inner);
        *held = Some(Arc::clone(&snapshot));
        Ok(snapshot)
    }
}

#[async_trait]
impl Source for ParquetSource {
    fn name(&self) -> &str {
        &self.name
    }

    async fn schema(&self) -> Result<SchemaRef> {
        Ok(self.snapshot().await?.file.schema())
    }

    async fn scan(&self, query: &Query<'_>) -> Result<Scan> {
        let columns = query.columns;
        let snapshot = self.snapshot().await?;
        let columns: Vec<String> = columns.iter().map(|name| (*name).to_owned()).collect();
        let digest = snapshot.digest;
        let batch = compute(move || snapshot.read(&columns)).await;
        let batch = batch.within(format!("source `{}`", self.name))?;
        Ok(Scan { digest, files: Vec::new(), batches: vec![batch] })
    }
}

impl Snapshot {
    fn read(&self, columns: &[String]) -> Result<RecordBatch> {
        let names: Vec<&str> = columns.iter().map(String::as_str).collect();
        let schema = self.file.schema();
        let projected = schema
            .project(&indices(&schema, &names)?)
            .context(ErrorKind::Internal, "a projected schema")?;
        let mut decoded = self.columns.lock().unwrap_or_else(PoisonError::into_inner);
        let missing: Vec<&str> =
            names.iter().copied().filter(|name| !decoded.contains_key(*name)).collect();
        if !missing.is_empty() || names.is_empty() {
            let batch = self.file.read(&missing)?;
            if names.is_empty() {
                return Ok(batch);
            }
            for (name, column) in missing.into_iter().zip(batch.columns()) {
                decoded.insert(name.to_owned(), Arc::clone(column));
            }
        }
        let columns = names.iter().filter_map(|name| decoded.get(*name).cloned()).collect();
        let options = RecordBatchOptions::new();
        RecordBatch::try_new_with_options(Arc::new(projected), columns, &options)
            .context(ErrorKind::Corrupt, "the Parquet file's columns")
    }
}

fn load(path: &Path, held: Option<Arc<Snapshot>>) -> Result<Arc<Snapshot>> {
    let name = path.display().to_string();
    let failed = |source: std::io::Error| {
        let kind = match source.kind() {
            std::io::ErrorKind::NotFound => ErrorKind::NotFound,
            _ => ErrorKind::Unavailable,
        };
        Error::new(kind, format!("`{name}`")).with_source(source)
    };
    let mut file = fs::File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(Error::invalid(format!("`{name}`: not a file")));
    }
    let stamp = Stamp::of(&metadata);
    if let Some(held) = held.filter(|held| held.stamp == stamp && stamp.modified.is_some()) {
        return Ok(held);
    }
    let mut bytes = Vec::with_capacity(metadata.len() as usize);
    file.read_to_end(&mut bytes).map_err(failed)?;
    let digest = Digest::of(&bytes);
    let file = ParquetFile::open(&name, bytes.into())?;
    Ok(Arc::new(Snapshot { stamp, digest, file, columns: Mutex::default() }))
}
