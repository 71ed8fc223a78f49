//! Rewriting a file without some of its rows.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::ipc::writer::FileWriter;
use kaizen_core::{Context, Error, ErrorKind, Result};
use object_store::{PutMode, PutOptions, UpdateVersion};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;

use crate::removal::Removal;
use crate::source::format::{Decoder, Format, contained};
use crate::source::hive::Hive;
use crate::source::input::Input;
use crate::source::place::{Listed, object_error};
use crate::source::reading::{Files, assembled, same_columns};
use crate::whole_file::{Unfinished, clear_unfinished_in, sync_folder};

/// A file in an object store is put in one piece, made in memory, of at most so many bytes.
const MAX_REMOTE: u64 = 1 << 30;

/// Under this key Parquet files keep their Arrow schema, which the writer adds itself.
const ARROW_SCHEMA: &str = "ARROW:schema";

/// Held while local files are rewritten: whoever rewrites a file begins with what the one before
/// has left, and clears away nothing that another is writing.
static REWRITING: Mutex<()> = Mutex::new(());

/// How the files of a source are read, to be rewritten without the rows of some entities.
pub(crate) struct Rewriting<'a> {
    pub(crate) format: Format,
    pub(crate) schema: &'a Schema,
    pub(crate) hive: &'a Hive,
    pub(crate) removal: &'a Removal,
}

impl Files {
    /// Rewrites files without the rows of some entities, and says how many they were. One after the
    /// other: if one fails, those before it are done, and the call can be repeated.
    pub(crate) fn rewrite(&self, files: &[Listed], rewriting: &Rewriting<'_>) -> Result<u64> {
        let local = files.iter().filter_map(|file| self.place.local_path(&file.path));
        let local: Vec<PathBuf> = local.collect();
        let _rewriting: Option<MutexGuard<'_, ()>> =
            (!local.is_empty()).then(|| REWRITING.lock().unwrap_or_else(PoisonError::into_inner));
        clear(&local)?;
        // What may be too large to be put comes first: if it is, nothing has changed.
        let (large, others): (Vec<_>, Vec<_>) =
            files.iter().partition(|file| file.size > MAX_REMOTE);
        let mut removed = 0;
        for file in large.into_iter().chain(others) {
            removed += self.rewrite_one(file, rewriting)?;
        }
        Ok(removed)
    }

    /// Rewrites a file, if it has any of the rows. The others keep their order, and the file its
    /// columns and its notes. It is replaced as a whole or not at all, and only if nobody changed
    /// or replaced it meanwhile.
    fn rewrite_one(&self, listed: &Listed, rewriting: &Rewriting<'_>) -> Result<u64> {
        let Rewriting { format, schema, hive, removal } = *rewriting;
        // A link stays one: it is the file behind it that is read and replaced.
        let path = self.place.local_path(&listed.path).map(|path| behind(&path)).transpose()?;
        let input = Arc::new(match &path {
            Some(path) => {
                let file = File::open(path).context(ErrorKind::Unavailable, shown(path))?;
                Input::local(self.place.name(&listed.path), file)?
            }
            None => self.open(listed)?,
        });
        let decoder = Decoder::open(format, Arc::clone(&input), &self.options)?;
        let own = decoder.schema();
        same_columns(&input.name, schema, hive.extended(&own)?.as_ref())?;
        let keys: Vec<&str> = removal.names().iter().map(String::as_str).collect();
        let own_keys: Vec<&str> =
            keys.iter().copied().filter(|key| own.index_of(key).is_ok()).collect();
        let kept = |batch: &RecordBatch| -> Result<BooleanArray> {
            let given = decoder.given(batch)?;
            removal.kept(&assembled(schema, hive, &listed.path, &keys, &given)?)
        };
        let mut removed = 0;
        decoder.raw(&own_keys, None, &mut |batch| {
            removed += kept(&batch)?.false_count() as u64;
            Ok(())
        })?;
        if removed == 0 {
            return Ok(0);
        }
        let message = || format!("`{}`: rewritten", input.name);
        let raw = decoder.raw_schema().context(ErrorKind::Unsupported, message())?;
        let names: Vec<&str> = raw.fields().iter().map(|field| field.name().as_str()).collect();
        let write = |out: &mut (dyn Write + Send)| {
            let mut writer =
                Writer::new(out, &decoder, &raw).context(ErrorKind::Unavailable, message())?;
            decoder.raw(&names, None, &mut |batch| {
                let only: Vec<usize> =
                    own_keys.iter().filter_map(|key| batch.schema().index_of(key).ok()).collect();
                let projected = batch.project(&only).context(ErrorKind::Internal, message())?;
                let remaining = filter_record_batch(&batch, &kept(&projected)?);
                let remaining = remaining.context(ErrorKind::Internal, message())?;
                let whole = RecordBatch::try_new(Arc::clone(&raw), remaining.columns().to_vec());
                let whole = whole.context(ErrorKind::Internal, message())?;
                writer.write(&whole).context(ErrorKind::Unavailable, message())
            })?;
            contained(&input.name, || writer.finish().context(ErrorKind::Unavailable, message()))
        };
        match path {
            Some(path) => replace_local(&path, &input, write)?,
            None => self.replace_remote(listed, &input, write)?,
        }
        self.forget(&listed.path);
        tracing::info!(file = input.name, rows = removed, "rows removed");
        Ok(removed)
    }

    fn replace_remote(
        &self,
        listed: &Listed,
        input: &Input,
        write: impl FnOnce(&mut (dyn Write + Send)) -> Result<()>,
    ) -> Result<()> {
        let name = &input.name;
        if input.size > MAX_REMOTE {
            let message = format!("`{name}`: over {MAX_REMOTE} bytes cannot be put in one piece");
            return Err(Error::new(ErrorKind::Limit, message));
        }
        let Some((store, meta)) = self.place.object(listed) else {
            return Err(Error::internal("a file that is nowhere"));
        };
        let mut bytes = Vec::new();
        write(&mut bytes)?;
        let version = UpdateVersion { e_tag: meta.e_tag, version: meta.version };
        let options = PutOptions { mode: PutMode::Update(version), ..PutOptions::default() };
        let put = store.put_opts(&meta.location, bytes.into(), options);
        self.runtime().block_on(put).map_err(|error| object_error(name, error))?;
        Ok(())
    }
}

/// Puts another file in place of the one that was read, if that one is still there.
fn replace_local(
    path: &Path,
    input: &Input,
    write: impl FnOnce(&mut (dyn Write + Send)) -> Result<()>,
) -> Result<()> {
    let begin = || -> io::Result<_> {
        let mut unfinished = Unfinished::of(path)?;
        // Before there is a row in it that not everybody may read.
        unfinished.file().set_permissions(fs::metadata(path)?.permissions())?;
        Ok(unfinished)
    };
    let mut unfinished = begin().context(ErrorKind::Unavailable, shown(path))?;
    write(unfinished.file())?;
    unfinished.sync().context(ErrorKind::Unavailable, shown(path))?;
    input.check_stands_at(path)?;
    unfinished.publish().context(ErrorKind::Unavailable, shown(path))
}

/// Removes what is left of rewritings of these files that were cut off: it has rows that may be
/// gone. Each folder is looked through once, and what was renamed in it before is made sure to be
/// on disk: a call that failed in that may be made again, and then finds nothing to rewrite.
fn clear(files: &[PathBuf]) -> Result<()> {
    let mut folders: BTreeMap<PathBuf, BTreeSet<String>> = BTreeMap::new();
    for path in files {
        let path = behind(path)?;
        if let (Some(folder), Some(name)) = (path.parent(), path.file_name()) {
            let names = folders.entry(folder.to_owned()).or_default();
            names.extend(name.to_str().map(str::to_owned));
        }
    }
    for (folder, names) in folders {
        let cleared = clear_unfinished_in(&folder, |name| names.contains(name));
        cleared
            .and_then(|()| sync_folder(&folder))
            .context(ErrorKind::Unavailable, shown(&folder))?;
    }
    Ok(())
}

/// The file itself, which a link may stand for.
fn behind(path: &Path) -> Result<PathBuf> {
    fs::canonicalize(path).context(ErrorKind::Unavailable, shown(path))
}

fn shown(path: &Path) -> String {
    format!("`{}`", path.display())
}

/// Writes the format that was read.
enum Writer<'a> {
    Parquet(Box<ArrowWriter<&'a mut (dyn Write + Send)>>),
    Ipc(Box<FileWriter<&'a mut (dyn Write + Send)>>),
}

impl<'a> Writer<'a> {
    fn new(
        out: &'a mut (dyn Write + Send),
        decoder: &Decoder,
        schema: &SchemaRef,
    ) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let Some(file) = decoder.parquet() else {
            return Ok(Self::Ipc(Box::new(FileWriter::try_new(out, schema)?)));
        };
        let notes: Vec<KeyValue> =
            file.notes().iter().filter(|note| note.key != ARROW_SCHEMA).cloned().collect();
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::try_new(3)?))
            .set_key_value_metadata((!notes.is_empty()).then_some(notes))
            .build();
        let writer = ArrowWriter::try_new(out, Arc::clone(schema), Some(properties))?;
        Ok(Self::Parquet(Box::new(writer)))
    }

    fn write(
        &mut self,
        batch: &RecordBatch,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        match self {
            Self::Parquet(writer) => Ok(writer.write(batch)?),
            Self::Ipc(writer) => Ok(writer.write(batch)?),
        }
    }

    fn finish(self) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        match self {
            Self::Parquet(writer) => writer.close().map(drop).map_err(Into::into),
            Self::Ipc(mut writer) => Ok(writer.finish()?),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    use std::time::Duration;

    use arrow::array::{ArrayRef, Int64Array};
    use arrow::datatypes::{DataType, Field};

    use super::*;
    use crate::parquet_file::{ParquetFile, to_parquet};
    use crate::source::format::FileOptions;
    use crate::source::place::Place;
    use crate::whole_file::tests::watched;

    fn rows(values: &[i64]) -> RecordBatch {
        let values: ArrayRef = Arc::new(Int64Array::from(values.to_vec()));
        RecordBatch::try_from_iter([("k", values)]).unwrap()
    }

    fn put(path: &Path, values: &[i64]) {
        fs::write(path, to_parquet(&rows(values)).unwrap()).unwrap();
    }

    fn held(path: &Path) -> Vec<i64> {
        use arrow::array::AsArray;
        let file = ParquetFile::open("f", fs::read(path).unwrap().into()).unwrap();
        let rows = file.read(&["k"]).unwrap();
        rows.column(0).as_primitive::<arrow::datatypes::Int64Type>().values().to_vec()
    }

    async fn opened(folder: &Path) -> (Files, Vec<Listed>) {
        let place = Place::find(folder, &BTreeMap::new()).await.unwrap();
        let listed = place.list().await.unwrap();
        (Files::new(place, FileOptions::default()), listed)
    }

    fn forget((files, listed): &(Files, Vec<Listed>), value: i64) -> Result<u64> {
        let schema = Arc::new(Schema::new(vec![Field::new("k", DataType::Int64, true)]));
        let removal = Removal::new(&schema, &rows(&[value]))?;
        let (format, hive) = (Format::Parquet, &Hive::default());
        files.rewrite(listed, &Rewriting { format, schema: &schema, hive, removal: &removal })
    }

    fn names(folder: &Path) -> Vec<String> {
        let names = fs::read_dir(folder).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    }

    #[tokio::test]
    async fn a_file_that_was_replaced_while_it_was_rewritten_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.parquet");
        put(&path, &[1, 2]);
        let files = opened(folder.path()).await;
        let replace = {
            let (path, other) = (path.clone(), folder.path().join("_other"));
            move |what: &str, _: &Path| {
                if what == "sync" {
                    put(&other, &[1, 2, 3]);
                    fs::rename(&other, &path)?;
                }
                Ok(())
            }
        };
        let error = watched(replace, || forget(&files, 1)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict, "{error:#}");
        assert_eq!(held(&path), [1, 2, 3]);
        assert_eq!(names(folder.path()), ["a.parquet"]);
        assert_eq!(forget(&files, 1).unwrap(), 1);
        assert_eq!(held(&path), [2, 3]);
    }

    #[tokio::test]
    async fn a_link_that_turns_elsewhere_leads_no_rows_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir(path("source")).unwrap();
        put(&path("one"), &[1, 2]);
        put(&path("two"), &[1, 9]);
        let link = path("source/a.parquet");
        std::os::unix::fs::symlink(path("one"), &link).unwrap();
        let files = opened(&path("source")).await;
        let turn = {
            let two = path("two");
            move |what: &str, _: &Path| {
                if what != "create" {
                    return Ok(());
                }
                fs::remove_file(&link)?;
                std::os::unix::fs::symlink(&two, &link)
            }
        };
        assert_eq!(watched(turn, || forget(&files, 1)).unwrap(), 1);
        assert_eq!((held(&path("one")), held(&path("two"))), (vec![2], vec![1, 9]));
    }

    #[tokio::test]
    async fn two_that_forget_at_once_in_a_file_lose_neither() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.parquet");
        put(&path, &[1, 2, 3]);
        let (first, second) = (opened(folder.path()).await, opened(folder.path()).await);
        let (sender, done) = std::sync::mpsc::channel();
        let mut second = Some((second, sender));
        let meanwhile = move |what: &str, _: &Path| {
            if what == "rename"
                && let Some((second, sender)) = second.take()
            {
                std::thread::spawn(move || sender.send(forget(&second, 2)));
                // It has time to spoil what the first has written, if it can.
                std::thread::sleep(Duration::from_millis(300));
            }
            Ok(())
        };
        assert_eq!(watched(meanwhile, || forget(&first, 1)).unwrap(), 1);
        assert_eq!(done.recv().unwrap().unwrap(), 1);
        assert_eq!(held(&path), [3]);
    }

    #[tokio::test]
    async fn whatever_step_fails_each_file_is_as_it_was_or_without_the_rows() {
        for cut_off in [false, true] {
            for steps in 0.. {
                let folder = tempfile::tempdir().unwrap();
                let paths = ["a.parquet", "b.parquet"].map(|name| folder.path().join(name));
                paths.iter().for_each(|path| put(path, &[1, 2]));
                let files = opened(folder.path()).await;
                let mut left = steps;
                let fail = move |what: &str, path: &Path| {
                    if left > 0 {
                        left -= 1;
                        return Ok(());
                    }
                    if cut_off && path.is_file() {
                        // As if the program ended: nobody removes what it was writing.
                        let name = path.file_name().unwrap().to_str().unwrap();
                        fs::copy(path, path.with_file_name(name.replace(".tmp", "7.tmp")))?;
                    }
                    Err(io::Error::new(io::ErrorKind::StorageFull, what.to_owned()))
                };
                let failed = watched(fail, || forget(&files, 1)).is_err();
                for path in &paths {
                    let held = held(path);
                    assert!(held == [2] || (failed && held == [1, 2]), "{steps} steps: {held:?}");
                }
                let again = opened(folder.path()).await;
                assert_eq!(again.1.len(), 2, "nothing else is read");
                let (sender, synced) = std::sync::mpsc::channel();
                let synced_folder = move |what: &str, _: &Path| {
                    what.eq("sync folder").then(|| sender.send(()).unwrap());
                    Ok(())
                };
                watched(synced_folder, || forget(&again, 1)).unwrap();
                assert!(synced.try_iter().count() > 0, "{steps} steps: names are on disk");
                assert!(paths.iter().all(|path| held(path) == [2]), "{steps} steps");
                assert_eq!(names(folder.path()), ["a.parquet", "b.parquet"], "{steps} steps");
                if !failed {
                    assert!(steps >= 10);
                    break;
                }
            }
        }
    }

    #[tokio::test]
    async fn a_folder_is_looked_through_once_for_all_its_files() {
        let folder = tempfile::tempdir().unwrap();
        for n in 0..20 {
            put(&folder.path().join(format!("{n}.parquet")), &[1, 2]);
        }
        let files = opened(folder.path()).await;
        let lists = Arc::new(AtomicUsize::new(0));
        let count = {
            let lists = Arc::clone(&lists);
            move |what: &str, _: &Path| {
                lists.fetch_add(usize::from(what == "list"), SeqCst);
                Ok(())
            }
        };
        assert_eq!(watched(count, || forget(&files, 1)).unwrap(), 20);
        assert_eq!(lists.load(SeqCst), 1);
    }

    #[test]
    fn rows_are_never_in_a_file_that_more_may_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        for mode in [0o600, 0o400, 0o644] {
            let _ = fs::remove_file(&path);
            fs::write(&path, b"old").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let input = Input::local("a".to_owned(), File::open(&path).unwrap()).unwrap();
            let modes = || {
                let files = fs::read_dir(folder.path()).unwrap();
                let mode = |file: io::Result<fs::DirEntry>| {
                    file.unwrap().metadata().unwrap().permissions().mode() & 0o777
                };
                files.map(mode).collect::<Vec<_>>()
            };
            let write = |out: &mut (dyn Write + Send)| {
                assert_eq!(modes(), [mode, mode]);
                out.write_all(b"new").context(ErrorKind::Unavailable, "a")
            };
            replace_local(&path, &input, write).unwrap();
            assert_eq!((fs::read(&path).unwrap(), modes()), (b"new".to_vec(), vec![mode]));
        }
    }
}
