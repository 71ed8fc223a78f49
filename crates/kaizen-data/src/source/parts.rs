//! What was pushed, in parts.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use arrow::array::{Array, RecordBatch};
use arrow::compute::{concat_batches, filter_record_batch, max, min};
use arrow::datatypes::{Schema, SchemaRef};
use kaizen_core::{Bytes, Context, Digest, Error, ErrorKind, Result};
use kaizen_table::{During, Scan, SourceFile, instants};

use crate::parquet_file::{ParquetFile, bare, indices, plain, project};
use crate::removal::Removal;
use crate::source::folder::Folder;
use crate::source::memory::digest;
use crate::source::part::{Known, OFFSETS, Part, groups, joined, parse_ranges, passed, write};
use crate::source::scan_digest;
use crate::source::selection::Selection;
use crate::source::spans::Stretch;
use crate::within::Within;

/// About as many rows as are read from an offset at once.
const ROWS_AT_ONCE: u64 = 1 << 16;

/// The file that says which log a folder holds.
const IDENTITY: &str = "identity";

/// All parts. Everything here blocks.
#[derive(Debug)]
pub(crate) struct Parts {
    schema: SchemaRef,
    identity: String,
    folder: Option<Folder>,
    /// In the order of their offsets, without a gap between one and the next.
    list: Mutex<Vec<Part>>,
    /// Held by whoever changes the list.
    writer: Mutex<Writer>,
    /// Read while files are read, written while files are replaced or removed.
    files: RwLock<()>,
    /// The digest of the rows in memory, when so many had been pushed and so many were there.
    digest: Mutex<Option<(u64, usize, Digest)>>,
}

#[derive(Debug, Default)]
struct Writer {
    /// Files whose rows stand in another, or nowhere, and that could not be removed yet.
    stale: Vec<String>,
    /// Why no more can be pushed until these files are removed.
    broken: Option<String>,
}

/// The decoded rows of a part, and their offsets.
struct Decoded {
    present: Vec<Range<u64>>,
    rows: RecordBatch,
}

impl Parts {
    pub(crate) fn open(folder: PathBuf, schema: &Schema) -> Result<Self> {
        let parts = Self::new(schema, Some(Folder::open(folder)?))?;
        let Some(folder) = &parts.folder else { return Ok(parts) };
        let mut found: Vec<Part> =
            folder.names()?.iter().filter_map(|name| Part::parse(name)).collect();
        // Of those that begin together the longest is first: the others were joined into it.
        found.sort_by_key(|part| (part.offsets.start, std::cmp::Reverse(part.offsets.end)));
        let (mut end, mut list) = (0, Vec::new());
        for part in found {
            let Range { start, end: next } = part.offsets;
            if next <= end {
                folder.remove(&part.name())?;
            } else if start == end {
                end = next;
                list.push(part);
            } else {
                let file = folder.file(&part.name());
                return Err(Error::corrupt(format!(
                    "{file}: it begins at offset {start}, and the files before it end at {end}"
                )));
            }
        }
        if let Some(last) = list.last() {
            parts.file(folder, last)?;
        }
        *parts.list() = list;
        Ok(parts)
    }

    pub(crate) fn in_memory(schema: &Schema) -> Result<Self> {
        Self::new(schema, None)
    }

    fn new(schema: &Schema, folder: Option<Folder>) -> Result<Self> {
        let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        indices(schema, &names)?;
        if names.is_empty() {
            return Err(Error::invalid("it has no columns"));
        }
        let schema = plain(schema);
        let identity = match &folder {
            Some(folder) => kept_identity(folder)?,
            None => new_identity()?,
        };
        Ok(Self {
            schema,
            identity,
            folder,
            list: Mutex::default(),
            writer: Mutex::default(),
            files: RwLock::default(),
            digest: Mutex::default(),
        })
    }

    pub(crate) fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    /// Which log it is, wherever and as what it is opened.
    pub(crate) fn identity(&self) -> &str {
        &self.identity
    }

    pub(crate) fn end(&self) -> u64 {
        self.list().last().map_or(0, |part| part.offsets.end)
    }

    pub(crate) fn push(&self, rows: &RecordBatch) -> Result<Range<u64>> {
        let rows = self.conforming(rows)?;
        let mut writer = self.writer();
        if let Some(why) = &writer.broken {
            let message = "nothing can be pushed until it is compacted or opened again";
            let message = format!("{message}: {why}");
            return Err(Error::new(ErrorKind::Unavailable, message));
        }
        let start = self.end();
        let end = start.checked_add(rows.num_rows() as u64).context(ErrorKind::Limit, "offsets")?;
        if start == end {
            return Ok(start..end);
        }
        let part = match &self.folder {
            None => Part::in_memory(start..end, rows),
            Some(folder) => {
                let part = Part::new(start..end, None);
                if let Err(error) = write(folder, &part, &rows, &[]) {
                    // A file that nobody was told of must not come back.
                    take_back(folder, &part, &mut writer);
                    return Err(error);
                }
                part
            }
        };
        self.list().push(part);
        Ok(start..end)
    }

    pub(crate) fn read_from(&self, offset: u64, selection: &Selection) -> Result<Pushed> {
        let _files = self.files.read().unwrap_or_else(PoisonError::into_inner);
        let list = self.list().clone();
        let names = selection.decoded();
        let empty = project(&RecordBatch::new_empty(self.schema()), &names)?;
        let end = list.last().map_or(0, |part| part.offsets.end);
        if offset > end {
            return Err(Error::invalid(format!("offset {offset}: after the end, which is {end}")));
        }
        let (mut at, mut held) = (offset, 0);
        let (mut batches, mut offsets) = (Vec::new(), Vec::new());
        for part in list.iter().filter(|part| part.offsets.end > offset) {
            if held > 0 && held + part.len() > ROWS_AT_ONCE {
                break;
            }
            let Decoded { present, rows } = self.decode(part, &names)?;
            let before: u64 = present.iter().map(|range| passed(range, offset)).sum();
            batches.push(rows.slice(before as usize, rows.num_rows() - before as usize));
            let left = present.into_iter().map(|range| range.start.max(offset)..range.end);
            offsets.extend(left.filter(|range| !range.is_empty()));
            held += part.offsets.end - at;
            at = part.offsets.end;
        }
        let rows = match batches.as_slice() {
            [only] => only.clone(),
            several => concat_batches(empty.schema_ref(), several)
                .context(ErrorKind::Internal, "rows that were pushed")?,
        };
        Ok(Pushed { offsets: offset..at, present: joined(offsets), rows })
    }

    pub(crate) fn scan(
        &self,
        selection: &Selection,
        pinned: Option<&[SourceFile]>,
    ) -> Result<Scan> {
        let _files = self.files.read().unwrap_or_else(PoisonError::into_inner);
        let mut list = self.list().clone();
        if let Some(pinned) = pinned {
            list = pinned.iter().map(|file| pinned_part(&list, file)).collect::<Result<_>>()?;
        }
        let names = selection.decoded();
        let mut batches = Vec::new();
        for part in &list {
            if self.is_outside(part, selection) {
                continue;
            }
            let rows = selection.apply(&self.decode(part, &names)?.rows)?;
            if rows.num_rows() > 0 {
                batches.push(rows);
            }
        }
        let files = list.iter().map(|part| self.described(part)).collect::<Result<Vec<_>>>()?;
        let files: Vec<SourceFile> = files.into_iter().flatten().collect();
        if let Some(pinned) = pinned {
            unchanged(pinned, &files)?;
        }
        let digest = match files.is_empty() {
            false => scan_digest(&files, false, None::<()>)?,
            true => self.digest_of_rows(&list)?,
        };
        if batches.is_empty() {
            let none = project(&RecordBatch::new_empty(self.schema()), &names)?;
            batches.push(selection.apply(&none)?);
        }
        Ok(Scan { digest, files, batches })
    }

    /// Where each part lies in time.
    pub(crate) fn stretches(&self, time: &str) -> Result<Vec<Stretch>> {
        let _files = self.files.read().unwrap_or_else(PoisonError::into_inner);
        indices(&self.schema, &[time])?;
        let mut stretches = Vec::new();
        let list = self.list().clone();
        for part in list {
            let known = part.known().stretches.get(time).copied();
            let stretch = match known {
                Some(stretch) => stretch,
                None => {
                    let at = instants(&self.decode(&part, &[time])?.rows, time)?;
                    let rows = (at.len() - at.null_count()) as u64;
                    let found = min(&at).zip(max(&at));
                    let found = found.map(|(first, last)| Stretch { first, last, rows });
                    part.known().stretches.insert(time.to_owned(), found);
                    found
                }
            };
            stretches.extend(stretch);
        }
        Ok(stretches)
    }

    pub(crate) fn compact(&self) -> Result<u64> {
        let mut writer = self.writer();
        let Some(folder) = &self.folder else { return Ok(0) };
        self.sweep(folder, &mut writer)?;
        let mut fewer = 0;
        let groups = groups(&self.list());
        for group in groups {
            let mut decoded = Vec::with_capacity(group.len());
            for part in &group {
                decoded.push(self.decode(part, &self.names())?);
            }
            let batches = decoded.iter().map(|part| &part.rows);
            let rows = concat_batches(&self.schema, batches)
                .context(ErrorKind::Internal, "parts as one")?;
            let present: Vec<Range<u64>> =
                joined(decoded.into_iter().flat_map(|part| part.present).collect());
            let (Some(first), Some(last)) = (group.first(), group.last()) else { continue };
            let whole = Part::new(first.offsets.start..last.offsets.end, None);
            if let Err(error) = write(folder, &whole, &rows, &present) {
                // Two files with the same rows are put right when the folder is opened, but the
                // longer one would hide what is pushed or forgotten until then.
                take_back(folder, &whole, &mut writer);
                return Err(error);
            }
            let _files = self.files.write().unwrap_or_else(PoisonError::into_inner);
            let names: Vec<String> = group.iter().map(Part::name).collect();
            let mut list = self.list();
            list.retain(|part| !names.contains(&part.name()));
            let place = list.partition_point(|part| part.offsets.start < whole.offsets.start);
            list.insert(place, whole);
            drop(list);
            fewer += names.len() as u64 - 1;
            writer.stale.extend(names);
            self.sweep(folder, &mut writer)?;
        }
        Ok(fewer)
    }

    pub(crate) fn forget(&self, entities: &RecordBatch) -> Result<u64> {
        let mut writer = self.writer();
        let removal = Removal::new(&self.schema, entities)?;
        if removal.is_empty() {
            return Ok(0);
        }
        if let Some(folder) = &self.folder {
            self.sweep(folder, &mut writer)?;
        }
        let keys: Vec<&str> = removal.names().iter().map(String::as_str).collect();
        let mut removed = 0;
        let list = self.list().clone();
        for (index, part) in list.into_iter().enumerate() {
            let kept = removal.kept(&self.decode(&part, &keys)?.rows)?;
            if kept.true_count() == kept.len() {
                continue;
            }
            let Decoded { present, rows } = self.decode(&part, &self.names())?;
            let rows = filter_record_batch(&rows, &kept)
                .context(ErrorKind::Internal, "rows that remain")?;
            let offsets = present.into_iter().flatten();
            let left = offsets.zip(kept.values()).filter(|(_, kept)| *kept);
            let present = joined(left.map(|(offset, _)| offset..offset + 1).collect());
            let _files = self.files.write().unwrap_or_else(PoisonError::into_inner);
            let after = match &self.folder {
                None => Part::new(part.offsets.clone(), Some((present, rows))),
                Some(folder) => {
                    let after = Part::new(part.offsets.clone(), None);
                    let written = write(folder, &after, &rows, &present);
                    // Whether it is the old or the new file is found out when it is read.
                    *part.known() = Known::default();
                    written?;
                    after
                }
            };
            removed += kept.false_count() as u64;
            if let Some(place) = self.list().get_mut(index) {
                *place = after;
            }
        }
        Ok(removed)
    }

    /// Removes files whose rows stand in others, or were never pushed.
    fn sweep(&self, folder: &Folder, writer: &mut Writer) -> Result<()> {
        while let Some(name) = writer.stale.last() {
            folder.remove(name)?;
            writer.stale.pop();
        }
        folder.sync().context(ErrorKind::Unavailable, "the folder's names on disk")?;
        writer.broken = None;
        Ok(())
    }

    /// The rows with the source's columns in its order.
    fn conforming(&self, rows: &RecordBatch) -> Result<RecordBatch> {
        for field in rows.schema_ref().fields() {
            let name = field.name();
            let Ok(expected) = self.schema.field_with_name(name) else {
                return Err(Error::invalid(format!("column `{name}`: the source has none of it")));
            };
            if expected.data_type() != field.data_type() {
                let (found, expected) = (field.data_type(), expected.data_type());
                return Err(Error::invalid(format!(
                    "column `{name}`: holds {found}, where the source has {expected}"
                )));
            }
        }
        let rows = project(rows, &self.names())?;
        for (field, values) in self.schema.fields().iter().zip(rows.columns()) {
            if !field.is_nullable() && values.logical_null_count() > 0 {
                let name = field.name();
                return Err(Error::invalid(format!("column `{name}`: a value is missing")));
            }
        }
        RecordBatch::try_new(self.schema(), rows.columns().to_vec())
            .context(ErrorKind::Invalid, "rows")
    }

    fn names(&self) -> Vec<&str> {
        self.schema.fields().iter().map(|field| field.name().as_str()).collect()
    }

    fn decode(&self, part: &Part, names: &[&str]) -> Result<Decoded> {
        if let Some((present, rows)) = &part.rows {
            return Ok(Decoded { present: present.clone(), rows: project(rows, names)? });
        }
        let Some(folder) = &self.folder else { return Err(Error::internal("a part without rows")) };
        indices(&self.schema, names)?;
        let file = self.file(folder, part)?;
        let place = folder.file(&part.name());
        let present = match file.note(OFFSETS) {
            None => vec![part.offsets.clone()],
            Some(text) => parse_ranges(text, &part.offsets)
                .context(ErrorKind::Corrupt, format!("{place}: its offsets"))?,
        };
        let rows = file.read(names)?;
        let count: u64 = present.iter().map(|range| range.end - range.start).sum();
        if count != rows.num_rows() as u64 {
            let rows = rows.num_rows();
            return Err(Error::corrupt(format!("{place}: {rows} rows of {count} offsets")));
        }
        // Whether values may be missing is what the source says, not what the file happens to.
        let wanted = self.schema.project(&indices(&self.schema, names)?);
        let wanted = wanted.context(ErrorKind::Internal, "a projected schema")?;
        let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
        let columns = rows.columns().to_vec();
        let rows = RecordBatch::try_new_with_options(Arc::new(wanted), columns, &options)
            .context(ErrorKind::Corrupt, place)?;
        Ok(Decoded { present, rows })
    }

    /// Reads a part's file, and checks that it is as it was, and of the source's columns.
    fn file(&self, folder: &Folder, part: &Part) -> Result<ParquetFile> {
        let place = folder.file(&part.name());
        let bytes: Bytes = folder.read(&part.name())?.into();
        let digest = Digest::of(&bytes);
        match part.known().digest.replace(digest) {
            Some(before) if before != digest => {
                let message = format!("{place}: its bytes have digest {digest}, not {before}");
                return Err(Error::corrupt(message));
            }
            _ => {}
        }
        let file = ParquetFile::open(&part.name(), bytes).within(&place)?;
        let found = file.schema();
        let faulty = self.schema.fields().iter().find(|field| {
            let other = found.field_with_name(field.name());
            other.map(arrow::datatypes::Field::data_type).ok() != Some(field.data_type())
        });
        if let Some(field) = faulty {
            let (name, wanted) = (field.name(), field.data_type());
            let holds = match found.field_with_name(name) {
                Ok(other) => format!("holds {}", other.data_type()),
                Err(_) => "is not there".to_owned(),
            };
            return Err(Error::invalid(format!(
                "{place}: column `{name}` {holds}, where the source has {wanted}"
            )));
        }
        if let Some(extra) = found.fields().iter().find(|f| self.schema.index_of(f.name()).is_err())
        {
            let name = extra.name();
            let message = format!("{place}: column `{name}`: the source has none of it");
            return Err(Error::invalid(message));
        }
        Ok(file)
    }

    /// Whether no row of a part can be wanted, as far as is known.
    fn is_outside(&self, part: &Part, selection: &Selection) -> bool {
        let Some((time, span)) = &selection.during else { return false };
        let during = During { column: time, span: span.clone() };
        let known = part.known();
        match known.stretches.get(time) {
            Some(_) if self.folder.is_some() && known.digest.is_none() => false,
            Some(None) => true,
            Some(Some(stretch)) => {
                let before = stretch.last < during.span.start;
                before || (stretch.first > during.span.start && !during.contains(stretch.first))
            }
            None => false,
        }
    }

    fn described(&self, part: &Part) -> Result<Option<SourceFile>> {
        let Some(folder) = &self.folder else { return Ok(None) };
        let digest = part.known().digest;
        let digest = digest.context(ErrorKind::Internal, "a part that was not read")?;
        let path = part.name();
        Ok(Some(SourceFile { size: folder.size(&path)?, path, digest }))
    }

    fn digest_of_rows(&self, list: &[Part]) -> Result<Digest> {
        let mut batches = vec![RecordBatch::new_empty(self.schema())];
        for (_, rows) in list.iter().filter_map(|part| part.rows.as_ref()) {
            batches.push(bare(rows)?);
        }
        let pushed = list.last().map_or(0, |part| part.offsets.end);
        let held = batches.iter().map(RecordBatch::num_rows).sum();
        let mut known = self.digest.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((then, rows, digest)) = *known
            && (then, rows) == (pushed, held)
        {
            return Ok(digest);
        }
        let digest = digest(&batches)?;
        *known = Some((pushed, held, digest));
        Ok(digest)
    }

    fn list(&self) -> MutexGuard<'_, Vec<Part>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Removes a part that was not wholly written, so that it is not there again after the power was
/// cut. Until that is sure nothing more can be pushed, for the part's offsets may be taken, and
/// nothing be forgotten, for it may have the rows.
fn take_back(folder: &Folder, part: &Part, writer: &mut Writer) {
    let synced = || folder.sync().context(ErrorKind::Unavailable, "the folder's names on disk");
    if let Err(left) = folder.remove(&part.name()).and_then(|()| synced()) {
        writer.broken = Some(format!("{left:#}"));
        writer.stale.push(part.name());
    }
}

/// Rows that were pushed one after the other.
#[derive(Clone, Debug)]
pub struct Pushed {
    /// The offsets that they span; empty at the end of what was pushed. Reading goes on at the end
    /// of them.
    pub offsets: Range<u64>,
    /// The offsets of the rows, in ascending ranges: those that they span, less those of rows that
    /// were forgotten.
    pub present: Vec<Range<u64>>,
    /// The rows of these offsets, in their order.
    pub rows: RecordBatch,
}

impl Pushed {
    /// The offset of a row; of the one after the last, the end of what they span.
    pub(crate) fn offset(&self, row: usize) -> u64 {
        let mut before = row as u64;
        for range in &self.present {
            let count = range.end - range.start;
            if before < count {
                return range.start + before;
            }
            before -= count;
        }
        self.offsets.end
    }
}

/// The identity that a folder has, or is given now.
fn kept_identity(folder: &Folder) -> Result<String> {
    match folder.read(IDENTITY) {
        Ok(bytes) => match String::from_utf8(bytes) {
            Ok(text) if text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit()) => Ok(text),
            _ => Err(Error::corrupt(format!("{}: no identity", folder.file(IDENTITY)))),
        },
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let identity = new_identity()?;
            folder.write(IDENTITY, identity.as_bytes())?;
            Ok(identity)
        }
        Err(error) => Err(error),
    }
}

/// 128 bits of the operating system's randomness: logs that were begun apart differ, also if they
/// began with the same rows.
fn new_identity() -> Result<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).context(ErrorKind::Unavailable, "randomness for an identity")?;
    Ok(format!("{:032x}", u128::from_le_bytes(bytes)))
}

fn pinned_part(list: &[Part], file: &SourceFile) -> Result<Part> {
    let found = list.iter().find(|part| part.rows.is_none() && part.name() == file.path);
    let message = || format!("file `{}` is gone", file.path);
    found.cloned().context(ErrorKind::NotFound, message())
}

/// Checks that files are as they were.
pub(crate) fn unchanged(pinned: &[SourceFile], found: &[SourceFile]) -> Result<()> {
    for (pinned, found) in pinned.iter().zip(found) {
        if pinned.digest != found.digest {
            let (path, is, was) = (&pinned.path, found.digest, pinned.digest);
            let message = format!("file `{path}` has changed: its digest is {is}, not {was}");
            return Err(Error::conflict(message));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering::Relaxed;

    use arrow::array::{ArrayRef, Int64Array};

    use super::*;

    fn rows(values: Range<i64>) -> RecordBatch {
        let values: ArrayRef = Arc::new(Int64Array::from_iter_values(values));
        RecordBatch::try_from_iter([("k", values)]).unwrap()
    }

    fn held(parts: &Parts) -> Vec<i64> {
        let scan = parts.scan(&Selection::columns(&["k"]), None).unwrap();
        let values = scan.batches.iter().flat_map(|batch| {
            use arrow::array::AsArray;
            batch.column(0).as_primitive::<arrow::datatypes::Int64Type>().values().to_vec()
        });
        values.collect()
    }

    /// Pushes four times three values, compacts and forgets the 4, and says how many pushes were
    /// acknowledged, whether it was forgotten, and whether anything failed.
    fn work(parts: &Parts) -> (i64, bool, bool) {
        let pushes = (0..4).filter(|n| parts.push(&rows(n * 3..n * 3 + 3)).is_ok()).count() as i64;
        let compacted = parts.compact().is_ok();
        let forgotten = parts.forget(&rows(4..5)).is_ok();
        (pushes, forgotten, pushes < 4 || !compacted || !forgotten)
    }

    /// Checks that these values are so many whole pushes, with the 4 or without it.
    fn assert_pushes(values: &[i64], pushes: i64, forgotten: bool, place: &str) {
        let without: Vec<i64> = (0..pushes * 3).filter(|value| *value != 4).collect();
        let with: Vec<i64> = (0..pushes * 3).collect();
        assert!(values == without || (!forgotten && values == with), "{place}: {values:?}");
    }

    #[test]
    fn a_push_that_failed_is_not_there_after_the_power_was_cut() {
        let failures = (0..8).flat_map(|from| (1..5).map(move |more| (from, more)));
        for ((from, more), every) in failures.flat_map(|steps| [(steps, 1), (steps, 2)]) {
            let folder = tempfile::tempdir().unwrap();
            let parts = Parts::open(folder.path().to_owned(), &rows(0..0).schema()).unwrap();
            let disk = &parts.folder.as_ref().unwrap().disk;
            parts.push(&rows(0..3)).unwrap();
            disk.fail(from..from + more, every);
            let failed = parts.push(&rows(3..6)).is_err();
            disk.fail(0..0, 1);
            let not_synced = disk.names_not_synced.load(Relaxed);
            if parts.push(&rows(6..9)).is_ok() {
                assert!(!not_synced, "every {every} of {more} steps from {from} on");
                let expected = if failed { 6 } else { 9 };
                drop(parts);
                let again = Parts::open(folder.path().to_owned(), &rows(0..0).schema()).unwrap();
                assert_eq!(held(&again).len(), expected);
            } else {
                assert!(failed);
            }
        }
    }

    #[test]
    fn whatever_step_fails_the_source_holds_whole_pushes() {
        for steps in 0.. {
            let folder = tempfile::tempdir().unwrap();
            let parts = Parts::open(folder.path().to_owned(), &rows(0..0).schema()).unwrap();
            let disk = &parts.folder.as_ref().unwrap().disk;
            disk.fail(steps..usize::MAX, 1);
            let (pushes, forgotten, failed) = work(&parts);
            disk.fail(0..0, 1);
            let place = format!("{steps} steps");
            assert_pushes(&held(&parts), pushes, forgotten, &place);
            // Pushes go on, here or after opening it again.
            let pushed = parts.push(&rows(100..101)).is_ok();
            drop(parts);
            let again = Parts::open(folder.path().to_owned(), &rows(0..0).schema()).unwrap();
            let mut all = held(&again);
            if pushed {
                assert_eq!(all.pop(), Some(100));
            }
            // The push that failed may be there if nobody could remove it, and then as a whole.
            let more = i64::from(!pushed && all.len() as i64 > pushes * 3);
            assert_pushes(&all, pushes + more, forgotten, &place);
            again.push(&rows(200..201)).unwrap();
            if !failed {
                assert!(steps > 20);
                break;
            }
        }
    }
    #[test]
    fn what_was_forgotten_does_not_come_back_whichever_steps_failed_before() {
        let failures = (0..40).flat_map(|from| (1..4).map(move |more| (from, more)));
        for ((from, more), every) in failures.flat_map(|steps| [(steps, 1), (steps, 2)]) {
            let folder = tempfile::tempdir().unwrap();
            let parts = Parts::open(folder.path().to_owned(), &rows(0..0).schema()).unwrap();
            let disk = &parts.folder.as_ref().unwrap().disk;
            disk.fail(from..from + more, every);
            let place = format!("every {every} of {more} steps from {from} on");
            let (_, _, failed) = work(&parts);
            disk.fail(0..0, 1);
            parts.forget(&rows(4..5)).unwrap();
            let now = held(&parts);
            parts.push(&rows(100..101)).unwrap();
            drop(parts);
            let again = Parts::open(folder.path().to_owned(), &rows(0..0).schema()).unwrap();
            let mut all = held(&again);
            assert!(!all.contains(&4), "{place}: {all:?}");
            assert_eq!((all.pop(), &all), (Some(100), &now), "{place}");
            assert!(failed || from > 20, "{place}");
        }
    }
}
