//! What is kept of an entity online: the tail of its rows and the tiles of its windows, as bytes.
//!
//! Layout, little-endian: version `2`; the `i64` instant up to which rows are in tiles; `u32` rows;
//! `i64` event time of each; known-at times as a column; then each slot as a column; then the
//! [tiles](super::tile). A column is a bitmap of which values are there, and the values: `i64`s,
//! `f64`s, a bitmap of booleans, or for text the `u32` ends and the UTF-8 bytes. Bitmaps have the
//! lowest bit first and are padded to bytes.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, StringArray};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::concat;
use arrow::datatypes::{Float64Type, Int64Type};
use kaizen_core::{Bytes, Context, DataType, Error, ErrorKind, Result};

use super::tile::Tiles;
use crate::point_in_time::Layout;

const VERSION: u8 = 2;

/// Rows of several entities, those of one entity in the order in which they were written.
///
/// Rows of the same event time and the same known-at column, and only between these can the source's
/// order decide which is the latest, stand in that order: they are written together.
#[derive(Debug)]
pub(crate) struct Rows {
    /// The number of each row's entity.
    pub(crate) entity: Vec<u32>,
    /// Each row's event time, in nanoseconds UTC.
    pub(crate) event: Vec<i64>,
    /// What each row's known-at column says.
    pub(crate) known: Vec<Option<i64>>,
    /// The slots of the view's layout.
    pub(crate) values: Vec<ArrayRef>,
}

/// What is kept of several entities.
#[derive(Debug)]
pub(crate) struct Stored {
    /// Their rows.
    pub(crate) rows: Rows,
    /// Their tiles, by the numbers of the entities.
    pub(crate) tiles: Vec<Tiles>,
}

impl Stored {
    /// Reads the tails of entities 0, 1, …; `None` is one without anything.
    pub(crate) fn decode(layout: &Layout, tails: &[Option<Bytes>]) -> Result<Self> {
        let mut rows =
            Rows { entity: Vec::new(), event: Vec::new(), known: Vec::new(), values: Vec::new() };
        // Most entities have one row.
        let column = |data_type| Column::of(data_type, tails.len());
        let mut columns: Vec<Column> = layout.types().map(column).collect::<Result<_>>()?;
        let types: Vec<DataType> = layout.types().collect();
        let mut tiles = Vec::with_capacity(tails.len());
        for (entity, tail) in tails.iter().enumerate() {
            let Some(tail) = tail else {
                tiles.push(Tiles::none(layout));
                continue;
            };
            let mut reader = Reader(tail);
            let (until, count) = reader.head()?;
            let event = reader.words(count)?.map(i64::from_le_bytes);
            rows.event.extend(event);
            rows.entity.resize(rows.event.len(), entity as u32);
            let valid = reader.bits(count)?;
            let known = reader.words(count)?.map(i64::from_le_bytes);
            rows.known.extend(valid.zip(known).map(|(valid, at)| valid.then_some(at)));
            for column in &mut columns {
                column.read(&mut reader, count)?;
            }
            tiles.push(Tiles::read(layout, &types, until, &mut reader)?);
            reader.end()?;
        }
        rows.values = columns.into_iter().map(Column::finish).collect::<Result<_>>()?;
        Ok(Self { rows, tiles })
    }

    /// Whether there are tiles of an entity.
    pub(crate) fn has_tiles(&self, entity: u32) -> bool {
        self.tiles.get(entity as usize).is_some_and(|tiles| !tiles.is_empty())
    }
}

impl Rows {
    /// Puts other rows after these.
    pub(crate) fn append(&mut self, other: Self) -> Result<()> {
        self.entity.extend(other.entity);
        self.event.extend(other.event);
        self.known.extend(other.known);
        for (values, more) in self.values.iter_mut().zip(&other.values) {
            *values = concat(&[values.as_ref(), more.as_ref()])
                .context(ErrorKind::Limit, "online rows")?;
        }
        Ok(())
    }

    /// The tail of an entity that has these rows and tiles.
    pub(crate) fn encode(&self, rows: &[u32], tiles: &Tiles) -> Result<Bytes> {
        let mut out = vec![VERSION];
        out.extend(tiles.until.to_le_bytes());
        let places = || rows.iter().map(|row| *row as usize);
        let count = u32::try_from(rows.len()).context(ErrorKind::Limit, "online rows")?;
        out.extend(count.to_le_bytes());
        places().for_each(|row| out.extend(self.event[row].to_le_bytes()));
        push_bits(&mut out, places().map(|row| self.known[row].is_some()));
        places().for_each(|row| out.extend(self.known[row].unwrap_or(0).to_le_bytes()));
        for values in &self.values {
            push_bits(&mut out, places().map(|row| values.is_valid(row)));
            push_values(&mut out, values, rows)?;
        }
        tiles.write(&mut out);
        Ok(out.into())
    }
}

fn push_bits(out: &mut Vec<u8>, bits: impl Iterator<Item = bool>) {
    for (index, bit) in bits.enumerate() {
        if index % 8 == 0 {
            out.push(0);
        }
        if let (true, Some(last)) = (bit, out.last_mut()) {
            *last |= 1 << (index % 8);
        }
    }
}

fn push_values(out: &mut Vec<u8>, values: &ArrayRef, rows: &[u32]) -> Result<()> {
    let places = || rows.iter().map(|row| *row as usize);
    if let Some(values) = values.as_boolean_opt() {
        push_bits(out, places().map(|row| values.is_valid(row) && values.value(row)));
    } else if let Some(values) = values.as_primitive_opt::<Int64Type>() {
        let value = |row| if values.is_valid(row) { values.value(row) } else { 0 };
        places().for_each(|row| out.extend(value(row).to_le_bytes()));
    } else if let Some(values) = values.as_primitive_opt::<Float64Type>() {
        let value = |row| if values.is_valid(row) { values.value(row) } else { 0.0 };
        places().for_each(|row| out.extend(value(row).to_le_bytes()));
    } else if let Some(values) = values.as_string_opt::<i32>() {
        let text = |row| if values.is_valid(row) { values.value(row) } else { "" };
        let mut end = 0_usize;
        for row in places() {
            end += text(row).len();
            let end = u32::try_from(end).context(ErrorKind::Limit, "online rows: text")?;
            out.extend(end.to_le_bytes());
        }
        places().for_each(|row| out.extend(text(row).as_bytes()));
    } else {
        let found = values.data_type();
        return Err(Error::new(ErrorKind::Unsupported, format!("{found} online")));
    }
    Ok(())
}

/// Takes bytes from the front.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self
            .0
            .split_at_checked(count)
            .context(ErrorKind::Corrupt, "online rows: fewer bytes than rows")?;
        self.0 = rest;
        Ok(taken)
    }

    /// What a tail begins with: the instant up to which rows are in tiles, and how many rows
    /// follow.
    pub(super) fn head(&mut self) -> Result<(i64, usize)> {
        let version = self.take(1)?[0];
        if version != VERSION {
            return Err(Error::corrupt(format!("online rows of version {version}")));
        }
        Ok((self.word()?, self.number()? as usize))
    }

    /// Checks that all was taken.
    pub(super) fn end(&self) -> Result<()> {
        match self.0.is_empty() {
            true => Ok(()),
            false => Err(Error::corrupt("online rows: more bytes than rows")),
        }
    }

    /// Eight bytes.
    pub(super) fn word(&mut self) -> Result<i64> {
        Ok(self.words(1)?.next().map_or(0, i64::from_le_bytes))
    }

    /// An integer in groups of seven bits, the lowest first; all bytes but the last have the high
    /// bit.
    pub(super) fn varint(&mut self) -> Result<u64> {
        let mut value = 0_u64;
        for shift in (0..u64::BITS).step_by(7) {
            let byte = u64::from(self.take(1)?[0]);
            let group = byte & 0x7f;
            if group << shift >> shift != group {
                break;
            }
            value |= group << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Error::corrupt("online rows: an integer beyond 64 bits"))
    }

    fn number(&mut self) -> Result<u32> {
        let (bytes, _) = self.take(4)?.as_chunks::<4>();
        Ok(bytes.first().copied().map_or(0, u32::from_le_bytes))
    }

    pub(super) fn words(
        &mut self,
        count: usize,
    ) -> Result<impl Iterator<Item = [u8; 8]> + use<'a>> {
        Ok(self.take(count.saturating_mul(8))?.as_chunks::<8>().0.iter().copied())
    }

    pub(super) fn bits(&mut self, count: usize) -> Result<impl Iterator<Item = bool> + use<'a>> {
        let bytes = self.take(count.div_ceil(8))?;
        Ok((0..count).map(move |index| bytes[index / 8] >> (index % 8) & 1 == 1))
    }
}

/// A slot as it is read, over all tails.
pub(super) struct Column {
    valid: Vec<bool>,
    values: Values,
}

enum Values {
    Bool(Vec<bool>),
    Int64(Vec<i64>),
    Float64(Vec<f64>),
    Utf8 { ends: Vec<i32>, bytes: Vec<u8> },
}

impl Column {
    /// A column with room for so many values.
    pub(super) fn of(data_type: DataType, rows: usize) -> Result<Self> {
        let values = match data_type {
            DataType::Bool => Values::Bool(Vec::with_capacity(rows)),
            DataType::Int64 => Values::Int64(Vec::with_capacity(rows)),
            DataType::Float64 => Values::Float64(Vec::with_capacity(rows)),
            DataType::Utf8 => Values::Utf8 { ends: vec![0], bytes: Vec::new() },
            other => {
                return Err(Error::new(ErrorKind::Unsupported, format!("{other:?} online")));
            }
        };
        Ok(Self { valid: Vec::with_capacity(rows), values })
    }

    fn read(&mut self, reader: &mut Reader<'_>, count: usize) -> Result<()> {
        self.valid.extend(reader.bits(count)?);
        match &mut self.values {
            Values::Bool(values) => values.extend(reader.bits(count)?),
            Values::Int64(values) => values.extend(reader.words(count)?.map(i64::from_le_bytes)),
            Values::Float64(values) => values.extend(reader.words(count)?.map(f64::from_le_bytes)),
            Values::Utf8 { ends, bytes } => {
                let (found, _) = reader.take(count.saturating_mul(4))?.as_chunks::<4>();
                let (mut length, most) = (0, reader.0.len());
                for end in found.iter().map(|end| u32::from_le_bytes(*end)) {
                    if end as usize > most {
                        return Err(Error::corrupt("online rows: text that ends beyond the bytes"));
                    }
                    let end_here = bytes.len() + end as usize;
                    ends.push(i32::try_from(end_here).context(ErrorKind::Limit, "online text")?);
                    length = end as usize;
                }
                bytes.extend(reader.take(length)?);
            }
        }
        Ok(())
    }

    /// Takes the rows of a tail from the reader, and keeps the value of one of them; of none a
    /// missing one.
    pub(super) fn read_one(
        &mut self,
        reader: &mut Reader<'_>,
        count: usize,
        row: Option<usize>,
    ) -> Result<()> {
        let bit = |bits: &[u8]| row.is_some_and(|row| bits[row / 8] >> (row % 8) & 1 == 1);
        self.valid.push(bit(reader.take(count.div_ceil(8))?));
        let mut word = || {
            let words = reader.take(count.saturating_mul(8))?.as_chunks::<8>().0;
            Ok::<_, Error>(row.map_or([0; 8], |row| words[row]))
        };
        match &mut self.values {
            Values::Int64(values) => values.push(i64::from_le_bytes(word()?)),
            Values::Float64(values) => values.push(f64::from_le_bytes(word()?)),
            Values::Bool(values) => values.push(bit(reader.take(count.div_ceil(8))?)),
            Values::Utf8 { ends, bytes } => {
                let (found, _) = reader.take(count.saturating_mul(4))?.as_chunks::<4>();
                let end = |rows: usize| match rows.checked_sub(1) {
                    Some(last) => u32::from_le_bytes(found[last]) as usize,
                    None => 0,
                };
                let text = reader.take(end(count))?;
                let own = row.map_or(0..0, |row| end(row)..end(row + 1));
                let message = "online rows: text that ends before it begins";
                bytes.extend(text.get(own).context(ErrorKind::Corrupt, message)?);
                ends.push(i32::try_from(bytes.len()).context(ErrorKind::Limit, "online text")?);
            }
        }
        Ok(())
    }

    /// A value that is not there.
    pub(super) fn push_missing(&mut self) {
        self.valid.push(false);
        match &mut self.values {
            Values::Bool(values) => values.push(false),
            Values::Int64(values) => values.push(0),
            Values::Float64(values) => values.push(0.0),
            Values::Utf8 { ends, bytes } => ends.push(bytes.len() as i32),
        }
    }

    pub(super) fn finish(self) -> Result<ArrayRef> {
        let nulls = Some(NullBuffer::from(self.valid)).filter(|nulls| nulls.null_count() > 0);
        Ok(match self.values {
            Values::Bool(values) => Arc::new(BooleanArray::new(values.into(), nulls)),
            Values::Int64(values) => Arc::new(Int64Array::new(values.into(), nulls)),
            Values::Float64(values) => Arc::new(Float64Array::new(values.into(), nulls)),
            Values::Utf8 { ends, bytes } => {
                if !ends.is_sorted() {
                    return Err(Error::corrupt("online rows: text that ends before it begins"));
                }
                let ends = OffsetBuffer::new(ends.into());
                let text = StringArray::try_new(ends, bytes.into(), nulls);
                Arc::new(text.context(ErrorKind::Corrupt, "online rows: text")?)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use kaizen_table::FeatureView;

    use super::*;

    fn layout() -> Layout {
        let view = FeatureView::builder("v")
            .source("s")
            .key("k")
            .column("b", DataType::Bool)
            .column("i", DataType::Int64)
            .column("f", DataType::Float64)
            .column("t", DataType::Utf8);
        Layout::of(&view.build().unwrap())
    }

    fn none() -> Tiles {
        Tiles::none(&layout())
    }

    fn rows() -> Rows {
        Rows {
            entity: vec![0, 0, 0],
            event: vec![i64::MIN, 0, i64::MAX],
            known: vec![None, Some(-1), Some(i64::MIN)],
            values: vec![
                Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)])),
                Arc::new(Int64Array::from(vec![Some(i64::MIN), Some(7), None])),
                Arc::new(Float64Array::from(vec![Some(f64::NAN), Some(-0.0), None])),
                Arc::new(StringArray::from(vec![Some("ä"), None, Some("")])),
            ],
        }
    }

    #[test]
    fn what_was_written_is_read_and_anything_else_is_corrupt() {
        let rows = rows();
        let bytes = rows.encode(&[0, 1, 2], &none()).unwrap();
        let tails = [None, Some(bytes.clone()), Some(rows.encode(&[1], &none()).unwrap())];
        let found = Stored::decode(&layout(), &tails).unwrap().rows;
        assert_eq!(found.entity, [1, 1, 1, 2]);
        assert_eq!(found.event, [i64::MIN, 0, i64::MAX, 0]);
        assert_eq!(found.known, [None, Some(-1), Some(i64::MIN), Some(-1)]);
        for (found, written) in found.values.iter().zip(&rows.values) {
            assert_eq!(&found.slice(0, 3), written);
            assert_eq!(found.slice(3, 1).to_data(), written.slice(1, 1).to_data());
        }
        for length in 0..bytes.len() {
            let cut = [Some(bytes.slice(..length))];
            let error = Stored::decode(&layout(), &cut).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{length}");
        }
        let longer = [Some(Bytes::from([&bytes[..], &[0]].concat()))];
        assert_eq!(Stored::decode(&layout(), &longer).unwrap_err().kind(), ErrorKind::Corrupt);
        let newer = [Some(Bytes::from([&[3], &bytes[1..]].concat()))];
        assert!(Stored::decode(&layout(), &newer).unwrap_err().to_string().contains("version 3"));
    }

    /// Online stores outlive releases: rows of version 2 are read for ever.
    #[test]
    fn the_bytes_of_rows_are_as_they_were() {
        let bytes = rows().encode(&[1], &none()).unwrap();
        let minus_one = [255; 8];
        let expected = [
            &[2][..],
            &[0, 0, 0, 0, 0, 0, 0, 128],
            &[1, 0, 0, 0],
            &[0; 8],
            &[1],
            &minus_one,
            &[0, 0],
            &[1, 7, 0, 0, 0, 0, 0, 0, 0],
            &[1, 0, 0, 0, 0, 0, 0, 0, 128],
            &[0, 0, 0, 0, 0],
        ];
        assert_eq!(bytes, expected.concat());
    }
}
