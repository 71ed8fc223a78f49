//! Reading one file of a source, and what is kept of it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Schema, SchemaRef};
use kaizen_core::{Context, Digest, Error, ErrorKind, Result};
use kaizen_table::SourceFile;

use crate::parquet_file::indices;
use crate::source::format::{Decoder, FileOptions, Format, is_outside};
use crate::source::hive::Hive;
use crate::source::input::Input;
use crate::source::place::{Listed, Place};
use crate::source::selection::Selection;
use crate::source::spans::Stretch;

/// A file of at most so many bytes is read into memory whole.
const MAX_IN_MEMORY: u64 = 64 << 20;

/// At most this many bytes of decoded columns are kept.
const MAX_KEPT: usize = 256 << 20;

/// How much a [`FileSource`](crate::FileSource) has read.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reads {
    /// How often a file was opened and its bytes hashed.
    pub hashed: u64,
    /// How often a file was decoded, in whole or in part.
    pub files: u64,
    /// How many groups of rows were decoded; a file that has none counts as one.
    pub groups: u64,
    /// How many groups of rows were passed over, because none of their rows was asked for.
    pub skipped: u64,
}

/// The files of a source. Everything here blocks.
#[derive(Debug)]
pub(crate) struct Files {
    pub(crate) place: Place,
    pub(crate) options: FileOptions,
    runtime: tokio::runtime::Handle,
    known: Mutex<Known>,
    hashed: AtomicU64,
    files: AtomicU64,
    groups: AtomicU64,
    skipped: AtomicU64,
}

#[derive(Debug, Default)]
struct Known {
    files: BTreeMap<String, KnownFile>,
    /// How many bytes the kept columns have.
    kept: usize,
}

impl Known {
    fn forget(&mut self, path: &str) {
        if let Some(file) = self.files.remove(path) {
            self.kept -= file.bytes;
        }
    }
}

/// What is known of a file while it is of this version.
#[derive(Debug, Default)]
struct KnownFile {
    version: String,
    digest: Option<Digest>,
    schema: Option<Arc<Schema>>,
    /// Where its groups of rows lie, by column of instants; `None` if that is not known.
    stretches: BTreeMap<String, Option<Vec<Stretch>>>,
    /// Decoded columns, in batches of these many rows.
    lengths: Vec<usize>,
    columns: BTreeMap<String, Vec<ArrayRef>>,
    bytes: usize,
}

impl Files {
    pub(crate) fn new(place: Place, options: FileOptions) -> Self {
        Self {
            place,
            options,
            runtime: tokio::runtime::Handle::current(),
            known: Mutex::default(),
            hashed: AtomicU64::new(0),
            files: AtomicU64::new(0),
            groups: AtomicU64::new(0),
            skipped: AtomicU64::new(0),
        }
    }

    pub(crate) fn reads(&self) -> Reads {
        Reads {
            hashed: self.hashed.load(Relaxed),
            files: self.files.load(Relaxed),
            groups: self.groups.load(Relaxed),
            skipped: self.skipped.load(Relaxed),
        }
    }

    /// The columns that the file itself has.
    pub(crate) fn schema(&self, listed: &Listed, format: Format) -> Result<Arc<Schema>> {
        if let Some(schema) = self.known(listed, |file| file.schema.clone()) {
            return Ok(schema);
        }
        let input = Arc::new(self.open(listed)?);
        let schema = Arc::new(Decoder::open(format, Arc::clone(&input), &self.options)?.schema());
        self.learn(&listed.path, &input.version, |file| file.schema = Some(Arc::clone(&schema)));
        Ok(schema)
    }

    /// Where the file's groups of rows lie in time; `None` if that is not known of all.
    pub(crate) fn stretches(
        &self,
        listed: &Listed,
        format: Format,
        schema: &Schema,
        hive: &Hive,
        time: &str,
    ) -> Result<Option<Vec<Stretch>>> {
        if let Some(found) = self.known(listed, |file| file.stretches.get(time).cloned()) {
            return Ok(found);
        }
        let input = Arc::new(self.open(listed)?);
        let decoder = Decoder::open(format, Arc::clone(&input), &self.options)?;
        same_columns(&input.name, schema, hive.extended(&decoder.schema())?.as_ref())?;
        let found = decoder.stretches(time)?;
        self.learn(&listed.path, &input.version, |file| {
            file.stretches.insert(time.to_owned(), found.clone());
        });
        Ok(found)
    }

    /// Reads what is selected of a file, and says which bytes it was read from.
    pub(crate) fn read(
        &self,
        listed: &Listed,
        format: Format,
        schema: &Schema,
        hive: &Hive,
        selection: &Selection,
    ) -> Result<(SourceFile, Vec<RecordBatch>)> {
        if let Some(found) = self.remembered(listed, schema, hive, selection)? {
            return Ok(found);
        }
        let input = self.open(listed)?;
        let input =
            Arc::new(if input.size <= MAX_IN_MEMORY { input.into_memory()? } else { input });
        let digest = self.digest(listed, &input)?;
        let decoder = Decoder::open(format, Arc::clone(&input), &self.options)?;
        let own = decoder.schema();
        same_columns(&input.name, schema, hive.extended(&own)?.as_ref())?;
        self.learn(&listed.path, &input.version, |file| file.schema = Some(Arc::new(own.clone())));
        let names = selection.decoded();
        indices(schema, &names)?;
        let own: Vec<&str> =
            names.iter().copied().filter(|name| own.index_of(name).is_ok()).collect();
        let keep = input.bytes().is_some();
        let (mut batches, mut kept) = (Vec::new(), Vec::new());
        let decoded = decoder.raw(&own, selection.during.as_ref(), &mut |batch| {
            let batch = decoder.given(&batch)?;
            let whole = assembled(schema, hive, &listed.path, &names, &batch)?;
            let rows = selection.apply(&whole)?;
            if rows.num_rows() > 0 {
                batches.push(rows);
            }
            if keep {
                kept.push(batch);
            }
            Ok(())
        })?;
        input.check_unchanged()?;
        self.files.fetch_add(1, Relaxed);
        self.groups.fetch_add(decoded.groups as u64, Relaxed);
        self.skipped.fetch_add(decoded.skipped as u64, Relaxed);
        tracing::debug!(
            file = input.name,
            groups = decoded.groups,
            skipped = decoded.skipped,
            columns = own.len(),
            "decoded"
        );
        if keep && decoded.skipped == 0 {
            self.keep(&listed.path, &input.version, &kept);
        }
        let file = SourceFile { path: listed.path.clone(), size: input.size, digest };
        Ok((file, batches))
    }

    /// What is selected of a file, if nothing needs to be read for it.
    fn remembered(
        &self,
        listed: &Listed,
        schema: &Schema,
        hive: &Hive,
        selection: &Selection,
    ) -> Result<Option<(SourceFile, Vec<RecordBatch>)>> {
        let names = selection.decoded();
        indices(schema, &names)?;
        let found = self.known(listed, |file| {
            let digest = file.digest?;
            if !is_known_same(schema, file.schema.as_deref()?, hive) {
                return None;
            }
            if let Some((time, span)) = &selection.during
                && let Some(Some(stretches)) = file.stretches.get(time)
                && stretches.iter().all(|stretch| is_outside(stretch, span))
            {
                self.skipped.fetch_add(stretches.len() as u64, Relaxed);
                return Some((digest, Vec::new()));
            }
            let own = names.iter().filter(|name| !hive.has(name));
            let own: Option<Vec<(&str, &Vec<ArrayRef>)>> =
                own.map(|name| Some((*name, file.columns.get(*name)?))).collect();
            let own = own.filter(|own| !own.is_empty())?;
            let batch = |index: usize| {
                let columns = own.iter().filter_map(|(name, chunks)| {
                    Some(((*name).to_owned(), Arc::clone(chunks.get(index)?)))
                });
                columns.collect::<Vec<_>>()
            };
            Some((digest, (0..file.lengths.len()).map(batch).collect()))
        });
        let Some((digest, kept)) = found else { return Ok(None) };
        let mut batches = Vec::new();
        for columns in kept {
            let batch = RecordBatch::try_from_iter_with_nullable(
                columns.into_iter().map(|(name, values)| (name, values, true)),
            );
            let batch = batch.context(ErrorKind::Internal, "columns that were kept")?;
            let whole = assembled(schema, hive, &listed.path, &names, &batch)?;
            let rows = selection.apply(&whole)?;
            if rows.num_rows() > 0 {
                batches.push(rows);
            }
        }
        let file = SourceFile { path: listed.path.clone(), size: listed.size, digest };
        Ok(Some((file, batches)))
    }

    pub(crate) fn open(&self, listed: &Listed) -> Result<Input> {
        self.place.open(listed, &self.runtime)
    }

    pub(crate) fn runtime(&self) -> &tokio::runtime::Handle {
        &self.runtime
    }

    /// The digest of the bytes in hand, or that of a large file that is known to be the same.
    fn digest(&self, listed: &Listed, input: &Input) -> Result<Digest> {
        let known = self.known_as(&listed.path, &input.version, |file| file.digest);
        if let Some(known) = known
            && input.bytes().is_none()
        {
            return Ok(known);
        }
        let digest = input.digest()?;
        self.hashed.fetch_add(1, Relaxed);
        if known.is_some_and(|known| known != digest) {
            // Changed, and by its size and time the same: what is known of it is of other bytes.
            self.forget(&listed.path);
        }
        self.learn(&listed.path, &input.version, |file| file.digest = Some(digest));
        Ok(digest)
    }

    /// Keeps decoded columns of a whole file, while there is room.
    fn keep(&self, path: &str, version: &str, batches: &[RecordBatch]) {
        let Some(first) = batches.first() else { return };
        let mut known = self.lock();
        let Known { files, kept } = &mut *known;
        let Some(file) = files.get_mut(path).filter(|file| file.version == version) else { return };
        let lengths: Vec<usize> = batches.iter().map(RecordBatch::num_rows).collect();
        if !file.columns.is_empty() && file.lengths != lengths {
            return;
        }
        file.lengths = lengths;
        for (index, field) in first.schema_ref().fields().iter().enumerate() {
            let chunks: Vec<ArrayRef> =
                batches.iter().map(|batch| Arc::clone(batch.column(index))).collect();
            let bytes: usize = chunks.iter().map(|chunk| chunk.get_array_memory_size()).sum();
            if *kept + bytes <= MAX_KEPT && !file.columns.contains_key(field.name()) {
                *kept += bytes;
                file.bytes += bytes;
                file.columns.insert(field.name().clone(), chunks);
            }
        }
    }

    fn known<T>(&self, listed: &Listed, find: impl FnOnce(&KnownFile) -> Option<T>) -> Option<T> {
        self.known_as(&listed.path, &listed.version, find)
    }

    fn known_as<T>(
        &self,
        path: &str,
        version: &str,
        find: impl FnOnce(&KnownFile) -> Option<T>,
    ) -> Option<T> {
        let known = self.lock();
        known.files.get(path).filter(|file| file.version == version).and_then(find)
    }

    fn learn(&self, path: &str, version: &str, what: impl FnOnce(&mut KnownFile)) {
        let mut known = self.lock();
        if known.files.get(path).is_some_and(|file| file.version != version) {
            known.forget(path);
        }
        let new = || KnownFile { version: version.to_owned(), ..KnownFile::default() };
        what(known.files.entry(path.to_owned()).or_insert_with(new));
    }

    /// Lets go of what is known of a file.
    pub(crate) fn forget(&self, path: &str) {
        self.lock().forget(path);
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The decoded columns, with those that are in the names of folders.
pub(crate) fn assembled(
    schema: &Schema,
    hive: &Hive,
    path: &str,
    names: &[&str],
    batch: &RecordBatch,
) -> Result<RecordBatch> {
    let rows = batch.num_rows();
    let column = |name: &&str| match hive.column(path, name, rows) {
        Some(values) => Ok(values),
        None => kaizen_table::column(batch, name).map(Arc::clone),
    };
    let columns = names.iter().map(column).collect::<Result<Vec<_>>>()?;
    let schema = schema.project(&indices(schema, names)?);
    let schema: SchemaRef = Arc::new(schema.context(ErrorKind::Internal, "a projected schema")?);
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(schema, columns, &options)
        .context(ErrorKind::Corrupt, format!("file `{path}`: its columns"))
}

/// Whether a file whose columns are known has those of the source.
fn is_known_same(schema: &Schema, own: &Schema, hive: &Hive) -> bool {
    hive.extended(own).is_ok_and(|found| same_columns("", schema, &found).is_ok())
}

/// Checks that a file has the columns that the source has by its first file.
pub(crate) fn same_columns(name: &str, expected: &Schema, found: &Schema) -> Result<()> {
    if expected.fields() == found.fields() {
        return Ok(());
    }
    let types = |schema: &Schema| -> BTreeMap<String, arrow::datatypes::DataType> {
        let fields = schema.fields().iter();
        fields.map(|field| (field.name().clone(), field.data_type().clone())).collect()
    };
    let (wanted, has) = (types(expected), types(found));
    for (column, expected) in &wanted {
        match has.get(column) {
            Some(found) if found == expected => {}
            Some(found) => {
                return Err(Error::invalid(format!(
                    "`{name}`: column `{column}` holds {found}, and in the first file {expected}"
                )));
            }
            None => {
                return Err(Error::invalid(format!(
                    "`{name}`: column `{column}`, in the first file {expected}, is missing"
                )));
            }
        }
    }
    if let Some((column, found)) = has.iter().find(|(column, _)| !wanted.contains_key(*column)) {
        return Err(Error::invalid(format!(
            "`{name}`: column `{column}`, which holds {found}, is not in the first file"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_known_of_two_versions_of_a_file_is_never_mixed() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::find(folder.path(), &BTreeMap::new()).await.unwrap();
        let files = Files::new(place, FileOptions::default());
        std::thread::scope(|scope| {
            for version in ["1", "2"] {
                let (files, digest) = (&files, Digest::of(version));
                scope.spawn(move || {
                    for _ in 0..50_000 {
                        files.learn("f", version, |file| file.digest = Some(digest));
                        let known = files.known_as("f", version, |file| file.digest);
                        assert!(known.is_none_or(|known| known == digest));
                    }
                });
            }
        });
    }
}
