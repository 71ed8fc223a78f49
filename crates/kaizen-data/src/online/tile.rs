//! Tiles: what windows with hops need of all rows of a hop, instead of the rows.
//!
//! The tile `n` of hops of length `h` holds the rows with event times in `(n h, (n + 1) h]`. What
//! it holds of them is the same in whatever order they came, and tiles add up to windows.
//!
//! Layout, for each [tiling](Tiling) in the view's order: a varint of how many tiles, and of each
//! its number as a zigzag varint, the varint count of values, and then what the aggregates need:
//! the exact sum, the exact moments, the least and the greatest value as `f64`s; the first and the
//! last row as `i64` event time, `0` or `1` and an `i64` known-at column, and the value; a varint
//! of how many different values, ascending; the sketch of different values; a varint of how many
//! buckets, and of each the zigzag varint distance from the one before and the varint count. A
//! value is a byte, an `i64`, an `f64`, or a varint length and UTF-8. A sketch is a `u16` number of
//! cells of three bytes each, or `0xffff` and 4,096 bytes, one for each register.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{Float64Type, Int64Type};
use kaizen_core::{Context, DataType, Error, ErrorKind, Result};
use kaizen_stats::{ExactMoments, ExactSum, HyperLogLog, LogBuckets};
use kaizen_table::Aggregate;

use super::tail::Reader;
use crate::point_in_time::{Layout, Needs, Tiling, nanos};

/// From so many cells on, a sketch is written as its registers.
const DENSE_FROM: usize = 1_365;

/// Stands before registers, where the number of cells would be.
const DENSE: u16 = u16::MAX;

/// What decides which of several rows is the latest: event time and known-at column.
pub(super) type Rank = (i64, Option<i64>);

/// A value of any type. Floats are kept by their bits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Item {
    Bool(bool),
    Int64(i64),
    Float64(u64),
    Utf8(Box<str>),
}

/// The value of a row that counts in windows: neither missing nor NaN.
pub(super) fn item(values: &ArrayRef, row: usize) -> Option<Item> {
    if values.is_null(row) {
        return None;
    }
    if let Some(values) = values.as_primitive_opt::<Float64Type>() {
        let value = values.value(row);
        return (!value.is_nan()).then(|| Item::Float64(value.to_bits()));
    }
    if let Some(values) = values.as_primitive_opt::<Int64Type>() {
        return Some(Item::Int64(values.value(row)));
    }
    if let Some(values) = values.as_boolean_opt() {
        return Some(Item::Bool(values.value(row)));
    }
    values.as_string_opt::<i32>().map(|values| Item::Utf8(values.value(row).into()))
}

impl Item {
    /// The number, of a float.
    pub(super) fn number(&self) -> Option<f64> {
        if let Self::Float64(bits) = self { Some(f64::from_bits(*bits)) } else { None }
    }

    /// As it is compared with others: negative zero is zero.
    fn canonical(&self) -> Self {
        self.number().map_or_else(|| self.clone(), |number| Self::Float64((number + 0.0).to_bits()))
    }

    /// The cell of the sketch of different values; of a value in its [canonical] form.
    ///
    /// [canonical]: Self::canonical
    fn cell(&self) -> u32 {
        match self {
            Self::Bool(flag) => HyperLogLog::cell_of_word(u64::from(*flag)),
            Self::Int64(integer) => HyperLogLog::cell_of_word(integer.cast_unsigned()),
            Self::Float64(bits) => HyperLogLog::cell_of_word(*bits),
            Self::Utf8(text) => HyperLogLog::cell_of_bytes(text.as_bytes()),
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Bool(flag) => out.push(u8::from(*flag)),
            Self::Int64(integer) => out.extend(integer.to_le_bytes()),
            Self::Float64(bits) => out.extend(bits.to_le_bytes()),
            Self::Utf8(text) => {
                push_varint(out, text.len() as u64);
                out.extend(text.as_bytes());
            }
        }
    }

    fn read(reader: &mut Reader<'_>, data_type: DataType) -> Result<Self> {
        Ok(match data_type {
            DataType::Bool => Self::Bool(reader.take(1)?[0] != 0),
            DataType::Int64 => Self::Int64(reader.word()?),
            DataType::Float64 => Self::Float64(reader.word()?.cast_unsigned()),
            DataType::Utf8 => {
                let length = usize::try_from(reader.varint()?).unwrap_or(usize::MAX);
                let text = std::str::from_utf8(reader.take(length)?);
                Self::Utf8(text.context(ErrorKind::Corrupt, "a tile's text")?.into())
            }
            other => return Err(Error::new(ErrorKind::Unsupported, format!("{other:?} online"))),
        })
    }
}

/// What is needed of the rows of a hop, or of several hops.
#[derive(Clone, Debug, Default)]
pub(super) struct Tile {
    count: u64,
    sum: ExactSum,
    moments: Option<Box<ExactMoments>>,
    least: Option<f64>,
    greatest: Option<f64>,
    pub(super) first: Option<(Rank, Item)>,
    pub(super) last: Option<(Rank, Item)>,
    distinct: BTreeSet<Item>,
    sketch: Option<HyperLogLog>,
    buckets: LogBuckets,
}

fn least(a: Option<f64>, b: f64) -> Option<f64> {
    Some(a.filter(|a| a.total_cmp(&b).is_le()).unwrap_or(b))
}

fn greatest(a: Option<f64>, b: f64) -> Option<f64> {
    Some(a.filter(|a| a.total_cmp(&b).is_ge()).unwrap_or(b))
}

impl Tile {
    /// Adds a row's value. Of rows of one rank the later in the source comes later.
    pub(super) fn add(&mut self, needs: Needs, rank: Rank, item: &Item) {
        self.count += 1;
        if let Some(number) = item.number() {
            if needs.sum {
                self.sum.add(number);
            }
            if needs.moments {
                self.moments.get_or_insert_default().add(number);
            }
            if needs.least {
                self.least = least(self.least, number);
            }
            if needs.greatest {
                self.greatest = greatest(self.greatest, number);
            }
            if needs.buckets {
                self.buckets.add(number, 1);
            }
        }
        if needs.first && self.first.as_ref().is_none_or(|(first, _)| rank < *first) {
            self.first = Some((rank, item.clone()));
        }
        if needs.last && self.last.as_ref().is_none_or(|(last, _)| rank >= *last) {
            self.last = Some((rank, item.clone()));
        }
        if needs.distinct {
            self.distinct.insert(item.canonical());
        }
        if needs.registers {
            self.sketch.get_or_insert_default().add(item.canonical().cell());
        }
    }

    /// Adds the rows of another tile, of which none has the rank of one here.
    pub(super) fn merge(&mut self, needs: Needs, other: &Self) {
        self.count += other.count;
        if needs.sum {
            self.sum.merge(&other.sum);
        }
        if let Some(moments) = &other.moments {
            self.moments.get_or_insert_default().merge(moments);
        }
        if let Some(value) = other.least {
            self.least = least(self.least, value);
        }
        if let Some(value) = other.greatest {
            self.greatest = greatest(self.greatest, value);
        }
        if let Some((rank, item)) = &other.first
            && self.first.as_ref().is_none_or(|(first, _)| rank < first)
        {
            self.first = Some((*rank, item.clone()));
        }
        if let Some((rank, item)) = &other.last
            && self.last.as_ref().is_none_or(|(last, _)| rank >= last)
        {
            self.last = Some((*rank, item.clone()));
        }
        self.distinct.extend(other.distinct.iter().cloned());
        if let Some(sketch) = &other.sketch {
            self.sketch.get_or_insert_default().merge(sketch);
        }
        self.buckets.merge(&other.buckets);
    }

    pub(super) fn integer(&self, aggregate: Aggregate) -> i64 {
        match aggregate {
            Aggregate::Distinct => self.distinct.len() as i64,
            Aggregate::ApproximateDistinct => {
                self.sketch.as_ref().map_or(0.0, HyperLogLog::estimate).round() as i64
            }
            _ => self.count.cast_signed(),
        }
    }

    pub(super) fn number(&self, aggregate: Aggregate) -> Option<f64> {
        let any = self.count > 0;
        match aggregate {
            Aggregate::Sum => any.then(|| self.sum.value()),
            Aggregate::Mean => any.then(|| self.sum.value() / self.count as f64),
            Aggregate::StandardDeviation => self.moments.as_ref()?.standard_deviation(),
            Aggregate::Min => self.least,
            Aggregate::Max => self.greatest,
            Aggregate::Quantile { per_mille } => self.buckets.quantile(per_mille),
            _ => None,
        }
    }

    fn write(&self, needs: Needs, out: &mut Vec<u8>) {
        push_varint(out, self.count);
        if needs.sum {
            self.sum.write(out);
        }
        if needs.moments {
            self.moments.clone().unwrap_or_default().write(out);
        }
        // A tile holds at least one row, and so an extreme, a first and a last.
        for (wanted, extreme) in [(needs.least, self.least), (needs.greatest, self.greatest)] {
            if wanted {
                out.extend(extreme.unwrap_or(f64::NAN).to_le_bytes());
            }
        }
        for (wanted, row) in [(needs.first, &self.first), (needs.last, &self.last)] {
            if let Some(((event, known), item)) = row.as_ref().filter(|_| wanted) {
                out.extend(event.to_le_bytes());
                out.push(u8::from(known.is_some()));
                out.extend(known.unwrap_or(0).to_le_bytes());
                item.write(out);
            }
        }
        if needs.distinct {
            push_varint(out, self.distinct.len() as u64);
            self.distinct.iter().for_each(|item| item.write(out));
        }
        if needs.registers {
            write_sketch(self.sketch.as_ref(), out);
        }
        if needs.buckets {
            push_varint(out, self.buckets.counts().len() as u64);
            let mut before = 0;
            for (bucket, count) in self.buckets.counts() {
                push_varint(out, zigzag(i64::from(bucket) - before));
                push_varint(out, count);
                before = i64::from(bucket);
            }
        }
    }

    fn read(reader: &mut Reader<'_>, needs: Needs, data_type: DataType) -> Result<Self> {
        let count = reader.varint()?;
        if !(1..1 << 48).contains(&count) {
            return Err(Error::corrupt(format!("a tile of {count} values")));
        }
        let mut tile = Self { count, ..Self::default() };
        if needs.sum {
            tile.sum = ExactSum::read(&mut reader.0)?;
        }
        if needs.moments {
            tile.moments = Some(Box::new(ExactMoments::read(&mut reader.0)?));
        }
        let mut extreme = |wanted: bool| {
            let number =
                |reader: &mut Reader<'_>| Ok(f64::from_bits(reader.word()?.cast_unsigned()));
            wanted.then(|| number(reader)).transpose()
        };
        (tile.least, tile.greatest) = (extreme(needs.least)?, extreme(needs.greatest)?);
        let mut row = |wanted: bool| {
            let row = |reader: &mut Reader<'_>| {
                let event = reader.word()?;
                let (is_known, known) = (reader.take(1)?[0] != 0, reader.word()?);
                let item = Item::read(reader, data_type)?;
                Ok(((event, is_known.then_some(known)), item))
            };
            wanted.then(|| row(reader)).transpose()
        };
        (tile.first, tile.last) = (row(needs.first)?, row(needs.last)?);
        if needs.distinct {
            for _ in 0..reader.varint()? {
                tile.distinct.insert(Item::read(reader, data_type)?);
            }
        }
        if needs.registers {
            tile.sketch = Some(read_sketch(reader)?);
        }
        if needs.buckets {
            let mut bucket = 0_i64;
            for _ in 0..reader.varint()? {
                let (step, count) = (unzigzag(reader.varint()?), reader.varint()?);
                bucket = bucket.saturating_add(step);
                let bucket =
                    i32::try_from(bucket).context(ErrorKind::Corrupt, "a tile's bucket")?;
                tile.buckets.add_to(bucket, count);
            }
        }
        Ok(tile)
    }
}

fn write_sketch(sketch: Option<&HyperLogLog>, out: &mut Vec<u8>) {
    let cells: Vec<u32> = sketch.into_iter().flat_map(HyperLogLog::cells).collect();
    if cells.len() < DENSE_FROM {
        out.extend((cells.len() as u16).to_le_bytes());
        cells.iter().for_each(|cell| out.extend(&cell.to_le_bytes()[..3]));
        return;
    }
    out.extend(DENSE.to_le_bytes());
    let mut registers = vec![0; HyperLogLog::CELLS as usize >> 6];
    cells.iter().for_each(|cell| registers[*cell as usize >> 6] = (cell & 63) as u8);
    out.extend(registers);
}

fn read_sketch(reader: &mut Reader<'_>) -> Result<HyperLogLog> {
    let mut sketch = HyperLogLog::default();
    let count = reader.take(2)?;
    let count = u16::from_le_bytes([count[0], count[1]]);
    if count == DENSE {
        let registers = reader.take(HyperLogLog::CELLS as usize >> 6)?;
        for (register, rank) in registers.iter().enumerate() {
            sketch.add((register as u32) << 6 | u32::from(rank & 63));
        }
    } else {
        for cell in reader.take(3 * usize::from(count))?.as_chunks::<3>().0 {
            sketch.add(u32::from_le_bytes([cell[0], cell[1], cell[2], 0]));
        }
    }
    Ok(sketch)
}

fn push_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn zigzag(value: i64) -> u64 {
    (value << 1 ^ value >> 63).cast_unsigned()
}

fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -(value & 1).cast_signed()
}

/// The tiles of one entity.
#[derive(Debug)]
pub(crate) struct Tiles {
    /// Rows that were known at this instant, in nanoseconds UTC, are in tiles, no others.
    pub(super) until: i64,
    /// By tiling; of each the tiles by their numbers.
    tilings: Vec<BTreeMap<i64, Tile>>,
    needs: Vec<Needs>,
}

impl Tiles {
    /// Of an entity of which nothing is kept.
    pub(super) fn none(layout: &Layout) -> Self {
        let needs: Vec<Needs> = layout.tilings().iter().map(|tiling| tiling.needs).collect();
        Self { until: i64::MIN, tilings: vec![BTreeMap::new(); needs.len()], needs }
    }

    pub(super) fn read(
        layout: &Layout,
        types: &[DataType],
        until: i64,
        reader: &mut Reader<'_>,
    ) -> Result<Self> {
        let mut tiles = Self { until, ..Self::none(layout) };
        for (tiling, into) in layout.tilings().iter().zip(&mut tiles.tilings) {
            let data_type = *types.get(tiling.slot).context(ErrorKind::Internal, "a slot")?;
            for _ in 0..reader.varint()? {
                let number = unzigzag(reader.varint()?);
                into.insert(number, Tile::read(reader, tiling.needs, data_type)?);
            }
        }
        Ok(tiles)
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        for (tiles, needs) in self.tilings.iter().zip(&self.needs) {
            push_varint(out, tiles.len() as u64);
            for (number, tile) in tiles {
                push_varint(out, zigzag(*number));
                tile.write(*needs, out);
            }
        }
    }

    /// Adds a row's value to its tile. Of rows of one rank the later in the source comes later.
    pub(super) fn add(&mut self, place: usize, tiling: &Tiling, rank: Rank, item: &Item) {
        let hop = i128::from(nanos(tiling.hop_seconds));
        // Hops are a second or longer, so that their numbers fit.
        let number = (i128::from(rank.0) - 1).div_euclid(hop) as i64;
        self.tilings[place].entry(number).or_default().add(tiling.needs, rank, item);
    }

    /// Drops the tiles that begin before an instant.
    pub(super) fn drop_before(&mut self, place: usize, hop_seconds: u32, begin: Option<i64>) {
        if let Some(begin) = begin {
            let number = begin.div_euclid(nanos(hop_seconds).cast_signed());
            self.tilings[place] = self.tilings[place].split_off(&number);
        }
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.tilings.iter().all(BTreeMap::is_empty)
    }

    /// The tiles that begin at an instant or later.
    pub(super) fn since(
        &self,
        place: usize,
        hop_seconds: u32,
        begin: Option<i64>,
    ) -> impl Iterator<Item = &Tile> {
        let hop = nanos(hop_seconds).cast_signed();
        let number = begin.map_or(i64::MIN, |begin| begin.div_euclid(hop));
        self.tilings[place].range(number..).map(|(_, tile)| tile)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Float64Array, StringArray};
    use kaizen_core::Bytes;
    use kaizen_table::{FeatureView, Window};
    use proptest::prelude::*;

    use super::super::tail::{Rows, Stored};
    use super::super::tiled::columns;
    use super::*;
    use crate::point_in_time::Probe;

    fn all() -> FeatureView {
        let aggregates = [
            Aggregate::Count,
            Aggregate::Sum,
            Aggregate::StandardDeviation,
            Aggregate::Min,
            Aggregate::Max,
            Aggregate::First,
            Aggregate::Last,
            Aggregate::Distinct,
            Aggregate::ApproximateDistinct,
            Aggregate::Quantile { per_mille: 500 },
        ];
        let mut view = FeatureView::builder("v").source("s").key("k");
        for (place, aggregate) in aggregates.into_iter().enumerate() {
            let window = Window::new(aggregate, "x", 60).hop_seconds(30);
            view = view.window_as(&format!("x{place}"), window.clone());
            if aggregate.takes_any_type() {
                let text = Window { column: "t".to_owned(), ..window }.holds(DataType::Utf8);
                view = view.window_as(&format!("t{place}"), text);
            }
        }
        view.build().unwrap()
    }

    /// A tail without rows whose tiles hold these.
    fn tail(rows: &[(Rank, f64, &str)]) -> Bytes {
        let layout = Layout::of(&all());
        let mut tiles = Tiles::none(&layout);
        tiles.until = 7;
        for (rank, number, text) in rows {
            tiles.add(0, &layout.tilings()[0], *rank, &Item::Float64(number.to_bits()));
            tiles.add(1, &layout.tilings()[1], *rank, &Item::Utf8((*text).into()));
        }
        none().encode(&[], &tiles).unwrap()
    }

    fn none() -> Rows {
        let (x, t): (ArrayRef, ArrayRef) = (
            Arc::new(Float64Array::from(Vec::<f64>::new())),
            Arc::new(StringArray::from(Vec::<&str>::new())),
        );
        Rows { entity: Vec::new(), event: Vec::new(), known: Vec::new(), values: vec![x, t] }
    }

    fn read(bytes: &[u8]) -> Result<Stored> {
        Stored::decode(&Layout::of(&all()), &[Some(Bytes::copy_from_slice(bytes))])
    }

    fn write(stored: &Stored) -> Bytes {
        none().encode(&[], &stored.tiles[0]).unwrap()
    }

    /// Online stores outlive releases: tiles of version 2 are read for ever.
    #[test]
    fn the_bytes_of_tiles_are_as_they_were() {
        let bytes = tail(&[((30_000_000_000, None), 1.0, "a"), ((1, Some(-1)), 3.0, "b")]);
        let (one, three) = (1.0_f64.to_le_bytes(), 3.0_f64.to_le_bytes());
        let last = 30_000_000_000_i64.to_le_bytes();
        let (zero, none) = ([0; 8], [255; 8]);
        let first = [1, 0, 0, 0, 0, 0, 0, 0];
        let sum = [0, 0, 33, 1, 0, 0, 16, 0];
        let moments_sum = [0, 33, 1, 0, 0, 16, 0];
        let squares = [0, 67, 1, 160, 0, 0, 0];
        let count = [2, 0, 0, 0, 0, 0, 0, 0];
        let cell = |item: &Item| item.canonical().cell().to_le_bytes();
        let number = |number: f64| cell(&Item::Float64(number.to_bits()));
        let mut cells = [number(1.0), number(3.0)];
        cells.sort_by_key(|cell| u32::from_le_bytes(*cell));
        let text = |text: &str| cell(&Item::Utf8(text.into()));
        let mut texts = [text("a"), text("b")];
        texts.sort_by_key(|cell| u32::from_le_bytes(*cell));
        let expected = [
            &[2, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0][..],
            &[1, 0, 2],
            &sum,
            &count,
            &zero,
            &moments_sum,
            &squares,
            &one,
            &three,
            &first,
            &[1],
            &none,
            &three,
            &last,
            &[0],
            &zero,
            &one,
            &[2],
            &one,
            &three,
            &[2, 0],
            &cells[0][..3],
            &cells[1][..3],
            &[2, 128, 179, 8, 1, 192, 1, 1],
            &[1, 0, 2],
            &first,
            &[1],
            &none,
            &[1, b'b'],
            &last,
            &[0],
            &zero,
            &[1, b'a'],
            &[2, 1, b'a', 1, b'b'],
            &[2, 0],
            &texts[0][..3],
            &texts[1][..3],
        ];
        assert_eq!(bytes, expected.concat());
    }

    #[test]
    fn a_sketch_of_many_values_is_written_as_its_registers() {
        let mut sketch = HyperLogLog::default();
        (0..20_000).for_each(|value| sketch.add(HyperLogLog::cell_of_word(value)));
        let mut bytes = Vec::new();
        write_sketch(Some(&sketch), &mut bytes);
        assert_eq!(bytes.len(), 4_098);
        let mut reader = Reader(&bytes);
        assert_eq!(read_sketch(&mut reader).unwrap(), sketch);
        assert!(reader.0.is_empty());
    }

    fn rows() -> impl Strategy<Value = Vec<(Rank, f64, &'static str)>> {
        let number = prop_oneof![
            (-9_i32..9).prop_map(f64::from),
            any::<u64>().prop_map(f64::from_bits).prop_filter("a number", |x| !x.is_nan()),
        ];
        let event = prop_oneof![
            (-5_i64..5).prop_map(|hops| hops * 30_000_000_000),
            any::<i64>(),
            Just(i64::MIN),
        ];
        let text = prop_oneof![Just("a"), Just(""), Just("äöü€")];
        prop::collection::vec(((event, any::<Option<i64>>()), number, text), 0..20)
    }

    proptest! {
        #[test]
        fn what_was_written_is_read_and_anything_shorter_is_corrupt(rows in rows()) {
            let bytes = tail(&rows);
            prop_assert_eq!(&write(&read(&bytes).unwrap()), &bytes);
            for length in 0..bytes.len() {
                let error = read(&bytes[..length]).unwrap_err();
                prop_assert_eq!(error.kind(), ErrorKind::Corrupt);
            }
        }

        #[test]
        fn the_order_of_rows_does_not_matter(
            (mut rows, seed) in (rows(), any::<prop::sample::Index>()),
        ) {
            // Of rows of one rank the source's order decides, which is kept here.
            rows.sort_by_key(|(rank, ..)| *rank);
            rows.dedup_by_key(|(rank, ..)| *rank);
            let straight = tail(&rows);
            if !rows.is_empty() {
                let cut = seed.index(rows.len());
                rows.rotate_left(cut);
                rows[..].reverse();
            }
            prop_assert_eq!(straight, tail(&rows));
        }

        #[test]
        fn changed_bytes_are_corrupt_or_tiles(
            rows in rows(),
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
            noise in prop::collection::vec(any::<u8>(), 0..120),
        ) {
            let mut bytes = tail(&rows).to_vec();
            for (place, byte) in changes {
                let place = place.index(bytes.len());
                bytes[place] = byte;
            }
            let probes: Vec<Probe> = [i64::MIN, 0, 40_000_000_000, i64::MAX]
                .into_iter()
                .map(|at| Probe { entity: Some(0), at })
                .collect();
            let headed = [&[2; 1][..], &[0; 12], &noise].concat();
            for bytes in [bytes, noise, headed] {
                match read(&bytes) {
                    Ok(stored) => {
                        let view = all();
                        columns(&view, &Layout::of(&view), &stored, &probes).unwrap();
                    }
                    Err(error) => prop_assert_eq!(error.kind(), ErrorKind::Corrupt),
                }
            }
        }
    }
}
