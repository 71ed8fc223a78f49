//! Orders of rows in files.
//!
//! A file is 8 bytes that name the format, the SHA-256 of all after it, 24 bytes of zeros, and an
//! Arrow IPC stream of one row, in which each part of the order is a list. What is not exactly as
//! it was written, or was written of other data or for another definition, is not used.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, LargeListArray, PrimitiveArray, RecordBatch,
    new_null_array,
};
use arrow::buffer::{Buffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType as ArrowType, Field, Int64Type, Schema, UInt8Type, UInt32Type};
use arrow::ipc::reader::StreamDecoder;
use arrow::ipc::writer::StreamWriter;
use kaizen_core::{Context, Digest, Digester, Error, ErrorKind, Result};
use kaizen_table::FeatureView;
use serde::{Deserialize, Serialize};

use super::ordering::Ordering;
use super::timeline::{KnownAt, Timelines};
use crate::keys::{Entities, KeyTypes, Ranks, Words};
use crate::whole_file::Unfinished;

const MAGIC: &[u8; 8] = b"KZORDER1";
const DIGEST_END: usize = MAGIC.len() + 32;
/// Arrow wants its parts at multiples of 64 bytes.
const HEAD: usize = 64;
const HEADER: &str = "kaizen.order";

/// What the lists do not say.
#[derive(Debug, Serialize, Deserialize)]
struct Header {
    definition: Digest,
    data: Digest,
    keys: Vec<String>,
    types: Vec<String>,
    rows: u32,
    /// Rows are known so many nanoseconds after their event times, unless a list says when.
    after: u64,
    /// The least key and how many there are, if keys are numbered by subtraction.
    dense: Option<(i64, u32)>,
}

impl Ordering {
    /// Writes the order to a file, of which no reader ever sees a part. `data` is the digest of the
    /// rows that it was made of. Blocks.
    pub fn save(&self, path: &Path, data: &Digest) -> Result<()> {
        let message = || format!("order of rows in `{}`", path.display());
        let mut unfinished = Unfinished::of(path).context(ErrorKind::Unavailable, message())?;
        self.write(unfinished.file(), data).context(ErrorKind::Unavailable, message())?;
        unfinished.finish().context(ErrorKind::Unavailable, message())
    }

    /// Reads an order that was written for a view that agrees with this one, of rows with this
    /// digest. `None` if there is no such file, or if it is damaged, foreign or stale, which is
    /// logged. Blocks.
    pub fn load(path: &Path, view: &FeatureView, data: &Digest) -> Option<Self> {
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                let path = path.display();
                tracing::warn!(%path, %error, "an order of rows cannot be read; it is made again");
                return None;
            }
        };
        match Self::parse(bytes, view, data) {
            Ok(ordering) => Some(ordering),
            Err(error) => {
                let path = path.display();
                tracing::warn!(%path, %error, "an order of rows is not used; it is made again");
                None
            }
        }
    }

    fn write(&self, file: &mut File, data: &Digest) -> Result<()> {
        let batch = self.batch(data)?;
        let io = |result: io::Result<()>| result.context(ErrorKind::Unavailable, "writing");
        io(file.write_all(&[0; HEAD]))?;
        let mut digester = Digester::default();
        digester.update([0; HEAD - DIGEST_END]);
        let sink = Digesting { file, digester };
        let mut writer = StreamWriter::try_new(BufWriter::new(sink), &batch.schema())
            .context(ErrorKind::Unavailable, "writing")?;
        writer.write(&batch).context(ErrorKind::Unavailable, "writing")?;
        let sink = writer.into_inner().context(ErrorKind::Unavailable, "writing")?;
        let sink = sink.into_inner().map_err(io::IntoInnerError::into_error);
        let Digesting { file, digester } = sink.context(ErrorKind::Unavailable, "writing")?;
        io(file.seek(SeekFrom::Start(0)).map(drop))?;
        io(file.write_all(MAGIC))?;
        io(file.write_all(digester.finish().as_bytes()))
    }

    /// The order as a table of one row.
    fn batch(&self, data: &Digest) -> Result<RecordBatch> {
        let Timelines { starts, rows, event, known_at, latest, by_event, .. } = &self.timelines;
        let (known_at, after) = match known_at {
            KnownAt::Each(known_at) => (Some(known_at), 0),
            KnownAt::After(nanos) => (None, *nanos),
        };
        let (mut dense, mut words, mut bytes, mut ends) = (None, None, None, None);
        match self.ranks.as_ref() {
            Ranks::Dense { low, count } => dense = Some((*low, *count)),
            Ranks::Words(ranks) => words = Some(ScalarBuffer::from(ranks.words().to_vec())),
            Ranks::Bytes(entities) => {
                bytes = Some(ScalarBuffer::from(entities.bytes().to_vec()));
                ends = Some(entities.ends().iter().map(|end| *end as i64).collect());
            }
        }
        let columns = [
            ("starts", list::<UInt32Type>(Some(starts))?),
            ("rows", list::<UInt32Type>(Some(rows))?),
            ("event", list::<Int64Type>(Some(event))?),
            ("known_at", list::<Int64Type>(known_at)?),
            ("latest", list::<UInt32Type>(latest.as_ref())?),
            ("by_event", list::<UInt32Type>(by_event.as_ref())?),
            ("words", list::<Int64Type>(words.as_ref())?),
            ("bytes", list::<UInt8Type>(bytes.as_ref())?),
            ("ends", list::<Int64Type>(ends.as_ref())?),
        ];
        let header = Header {
            definition: self.definition,
            data: *data,
            keys: self.key_types.columns(),
            types: self.key_types.names(),
            rows: self.rows,
            after,
            dense,
        };
        let header = serde_json::to_string(&header).context(ErrorKind::Internal, "header")?;
        let field =
            |(name, column): &(&str, ArrayRef)| Field::new(*name, column.data_type().clone(), true);
        let schema = Schema::new(columns.iter().map(field).collect::<Vec<_>>());
        let schema = schema.with_metadata(HashMap::from([(HEADER.to_owned(), header)]));
        let columns = columns.into_iter().map(|(_, column)| column).collect();
        RecordBatch::try_new(Arc::new(schema), columns).context(ErrorKind::Internal, "order")
    }

    fn parse(bytes: Vec<u8>, view: &FeatureView, data: &Digest) -> Result<Self> {
        let corrupt = || "not an order of rows";
        let head = bytes.get(..HEAD).context(ErrorKind::Corrupt, corrupt())?;
        if !head.starts_with(MAGIC) {
            return Err(Error::corrupt(corrupt()));
        }
        if Digest::of(&bytes[DIGEST_END..]).as_bytes()[..] != head[MAGIC.len()..DIGEST_END] {
            return Err(Error::corrupt("its bytes are not those that were written"));
        }
        let mut stream = Buffer::from_vec(bytes).slice(HEAD);
        let batch = StreamDecoder::new().decode(&mut stream);
        let batch = batch.context(ErrorKind::Corrupt, corrupt())?;
        let batch = batch.filter(|batch| batch.num_rows() == 1);
        let batch = batch.context(ErrorKind::Corrupt, corrupt())?;
        let schema = batch.schema();
        let header = schema.metadata().get(HEADER).context(ErrorKind::Corrupt, corrupt())?;
        let header: Header = serde_json::from_str(header).context(ErrorKind::Corrupt, corrupt())?;
        let definition = Self::definition(view)?;
        if header.definition != definition || header.data != *data {
            return Err(Error::conflict("it was made of other data or for another definition"));
        }
        let key_types = KeyTypes::parse(&header.keys, &header.types)?;
        let ranks = ranks(&header, &batch)?;
        let needed = |name: &str| format!("`{name}` is missing");
        let known_at = match part::<Int64Type>(&batch, "known_at")? {
            Some(known_at) => KnownAt::Each(known_at),
            None => KnownAt::After(header.after),
        };
        let timelines = Timelines {
            starts: part::<UInt32Type>(&batch, "starts")?
                .context(ErrorKind::Corrupt, needed("starts"))?,
            rows: part::<UInt32Type>(&batch, "rows")?
                .context(ErrorKind::Corrupt, needed("rows"))?,
            event: part::<Int64Type>(&batch, "event")?
                .context(ErrorKind::Corrupt, needed("event"))?,
            known_at,
            latest: part::<UInt32Type>(&batch, "latest")?,
            by_event: part::<UInt32Type>(&batch, "by_event")?,
            fences: Vec::new(),
        };
        timelines.check(ranks.len(), header.rows)?;
        let timelines = timelines.fenced();
        let rows = header.rows;
        Ok(Self { definition, key_types, ranks: Arc::new(ranks), timelines, rows })
    }
}

fn ranks(header: &Header, batch: &RecordBatch) -> Result<Ranks> {
    if let Some((low, count)) = header.dense {
        return Ok(Ranks::Dense { low, count });
    }
    let twice = "a key stands twice";
    if let Some(words) = part::<Int64Type>(batch, "words")? {
        return Ok(Ranks::Words(Words::distinct(&words).context(ErrorKind::Corrupt, twice)?));
    }
    let bytes = part::<UInt8Type>(batch, "bytes")?.context(ErrorKind::Corrupt, "no keys")?;
    let ends = part::<Int64Type>(batch, "ends")?.context(ErrorKind::Corrupt, "no keys")?;
    let mut entities = Entities::default();
    let mut start = 0;
    for (place, end) in ends.iter().enumerate() {
        let end = usize::try_from(*end).context(ErrorKind::Corrupt, "a key ends nowhere")?;
        let key = bytes.get(start..end).context(ErrorKind::Corrupt, "a key ends nowhere")?;
        if entities.number_of(key) as usize != place {
            return Err(Error::corrupt(twice));
        }
        start = end;
    }
    Ok(Ranks::Bytes(entities))
}

/// A column of one row, which is a list of these numbers, or missing.
fn list<T: ArrowPrimitiveType>(values: Option<&ScalarBuffer<T::Native>>) -> Result<ArrayRef> {
    let field = Arc::new(Field::new_list_field(T::DATA_TYPE, false));
    let Some(values) = values else {
        return Ok(new_null_array(&ArrowType::LargeList(field), 1));
    };
    let ends = OffsetBuffer::from_lengths([values.len()]);
    let values = Arc::new(PrimitiveArray::<T>::new(values.clone(), None));
    let list = LargeListArray::try_new(field, ends, values, None);
    Ok(Arc::new(list.context(ErrorKind::Internal, "order")?))
}

/// The numbers in a column of one row; `None` if it is missing there.
fn part<T: ArrowPrimitiveType>(
    batch: &RecordBatch,
    name: &str,
) -> Result<Option<ScalarBuffer<T::Native>>> {
    let other = || format!("`{name}` is not what it should be");
    let lists = batch.column_by_name(name).and_then(|column| column.as_list_opt::<i64>());
    let lists = lists.context(ErrorKind::Corrupt, other())?;
    if lists.is_null(0) {
        return Ok(None);
    }
    let values = lists.value(0);
    let values = values.as_primitive_opt::<T>().filter(|values| values.null_count() == 0);
    Ok(Some(values.context(ErrorKind::Corrupt, other())?.values().clone()))
}

/// A file that is digested while it is written.
struct Digesting<'a> {
    file: &'a mut File,
    digester: Digester,
}

impl Write for Digesting<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.digester.update(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
