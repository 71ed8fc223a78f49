//! Rewriting a file without some of its rows.

use std::fs;
use std::io::{self, Write};
use std::sync::Arc;

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
use crate::whole_file::{Unfinished, clear_unfinished};

/// A file in an object store is put in one piece, made in memory, of at most so many bytes.
const MAX_REMOTE: u64 = 1 << 30;

/// Under this key Parquet files keep their Arrow schema, which the writer adds itself.
const ARROW_SCHEMA: &str = "ARROW:schema";

impl Files {
    /// Rewrites a file without the rows of some entities, if it has any, and says how many they
    /// were. The other rows keep their order, and the file its columns and its notes. A local file
    /// is replaced as a whole or not at all, one in an object store only if nobody changed it.
    pub(crate) fn rewrite(
        &self,
        listed: &Listed,
        format: Format,
        schema: &Schema,
        hive: &Hive,
        removal: &Removal,
    ) -> Result<u64> {
        if let Some(path) = self.place.local_path(&listed.path) {
            clear(&path)?;
        }
        let input = Arc::new(self.open(listed)?);
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
        match self.place.local_path(&listed.path) {
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

fn replace_local(
    path: &std::path::Path,
    input: &Input,
    write: impl FnOnce(&mut (dyn Write + Send)) -> Result<()>,
) -> Result<()> {
    let message = || format!("`{}`", path.display());
    // A link stays one: it is the file behind it that is replaced.
    let path = fs::canonicalize(path).context(ErrorKind::Unavailable, message())?;
    let begin = || -> io::Result<_> { Ok((Unfinished::of(&path)?, fs::metadata(&path)?)) };
    let (mut unfinished, like) = begin().context(ErrorKind::Unavailable, message())?;
    write(unfinished.file())?;
    input.check_unchanged()?;
    let finished = unfinished.file().set_permissions(like.permissions());
    finished.and_then(|()| unfinished.finish()).context(ErrorKind::Unavailable, message())
}

/// Removes what is left of a rewriting of the file that was cut off: it has rows that may be gone.
fn clear(path: &std::path::Path) -> Result<()> {
    let cleared = fs::canonicalize(path).and_then(|path| clear_unfinished(&path));
    cleared.context(ErrorKind::Unavailable, format!("`{}`", path.display()))
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
