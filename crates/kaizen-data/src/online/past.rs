//! What is known of the rows that are in: how many they are, and a sum that tells whether they are
//! still the same.

use arrow::array::{Array, RecordBatch};
use arrow::row::{RowConverter, SortField};
use kaizen_core::{Context, ErrorKind, Result};
use kaizen_table::FeatureView;
use rayon::prelude::*;

use crate::keys::KeyTypes;
use crate::point_in_time::{Layout, Moment};

/// So many rows are laid out as bytes at once.
const ROWS_AT_ONCE: usize = 1 << 14;

/// Rows of a source, whatever their order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Past {
    pub(crate) rows: u64,
    /// The sum of the rows' hashes, modulo 2^128.
    pub(crate) sum: u128,
}

impl Past {
    /// With another row, of this hash.
    pub(crate) fn add(&mut self, hash: u128) {
        self.rows += 1;
        self.sum = self.sum.wrapping_add(hash);
    }

    /// With other rows.
    pub(crate) fn extend(&mut self, other: Self) {
        self.rows += other.rows;
        self.sum = self.sum.wrapping_add(other.sum);
    }
}

/// The hash of each row: of its key, its times, and what the features read of it. `moments` are
/// those of the rows; one without a moment has the hash of its other values.
///
/// Hashes are kept on disk, in sums: they are the same on every machine.
pub(crate) fn hashes(
    view: &FeatureView,
    key_types: &KeyTypes,
    rows: &RecordBatch,
    moments: &[Option<Moment>],
) -> Result<Vec<u128>> {
    let layout = Layout::of(view);
    let starts: Vec<usize> = (0..rows.num_rows()).step_by(ROWS_AT_ONCE).collect();
    let piece = |start: &usize| {
        let count = ROWS_AT_ONCE.min(rows.num_rows() - start);
        let rows = rows.slice(*start, count);
        let keys = key_types.encode(&rows)?;
        let values = layout.values(&rows)?;
        let fields = values.iter().map(|values| SortField::new(values.data_type().clone()));
        let values = RowConverter::new(fields.collect())
            .and_then(|converter| converter.convert_columns(&values))
            .context(ErrorKind::Internal, "rows as bytes")?;
        let hash = |row: usize| {
            let mut hash = Hash::default();
            // Keys never lay out as no bytes, so none is a missing one.
            hash.bytes(keys.get(row).unwrap_or_default());
            if let Some(moment) = moments[start + row] {
                hash.word(moment.event.cast_unsigned());
                hash.word(u64::from(moment.known.is_some()));
                hash.word(moment.known.unwrap_or_default().cast_unsigned());
            }
            hash.bytes(values.row(row).data());
            hash.finish()
        };
        Ok((0..count).map(hash).collect::<Vec<u128>>())
    };
    let pieces = starts.par_iter().map(piece).collect::<Result<Vec<_>>>()?;
    Ok(pieces.concat())
}

/// Two hashes of 64 bits side by side. Every step is one to one in the word that it takes, so rows
/// that differ in one word differ. It tells apart what went wrong, and does not stand against an
/// attack.
struct Hash(u64, u64);

impl Default for Hash {
    fn default() -> Self {
        Self(0x243f_6a88_85a3_08d3, 0x1319_8a2e_0370_7344)
    }
}

impl Hash {
    fn word(&mut self, word: u64) {
        self.0 = (self.0 ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 ^= self.0 >> 29;
        self.1 = (self.1 ^ word.rotate_left(32)).wrapping_mul(0xd1b5_4a32_d192_ed03);
        self.1 ^= self.1 >> 31;
    }

    fn bytes(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        words.iter().for_each(|word| self.word(u64::from_le_bytes(*word)));
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        self.word(u64::from_le_bytes(last));
        self.word(bytes.len() as u64);
    }

    fn finish(self) -> u128 {
        let scatter = |mut x: u64| {
            x = (x ^ (x >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
            x = (x ^ (x >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
            x ^ (x >> 33)
        };
        u128::from(scatter(self.0)) << 64 | u128::from(scatter(self.1))
    }
}

/// The rows of which these are the hashes, where they were known by `until`: the past; and for the
/// others until `to`, how many become known at each instant.
#[derive(Debug, Default)]
pub(crate) struct Sifted {
    pub(crate) past: Past,
    /// The rows that are known after the past, by their places, with the instants.
    pub(crate) pending: Vec<(i64, u32)>,
}

/// Tells the rows that were known at `from` from those that became known later, and until `until`.
pub(crate) fn sift(
    view: &FeatureView,
    key_types: &KeyTypes,
    rows: &RecordBatch,
    moments: &[Option<Moment>],
    from: Option<i64>,
    until: i64,
) -> Result<Sifted> {
    let hashes = match from {
        Some(_) => hashes(view, key_types, rows, moments)?,
        None => Vec::new(),
    };
    let mut sifted = Sifted::default();
    for (row, moment) in (0_u32..).zip(moments) {
        let Some(known_at) = moment.map(|moment| moment.known_at) else { continue };
        if from.is_some_and(|from| known_at <= from) {
            sifted.past.add(hashes[row as usize]);
        } else if known_at <= until {
            sifted.pending.push((known_at, row));
        }
    }
    Ok(sifted)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{
        ArrayRef, BooleanArray, Float64Array, Int64Array, StringArray, TimestampNanosecondArray,
    };
    use kaizen_core::DataType;
    use kaizen_table::Known;

    use super::*;
    use crate::point_in_time::moments;

    /// Sums of these are kept in stores: if one is another than here, every past that was kept is
    /// taken for one that has changed, and the version of the spaces must go up.
    #[test]
    fn hashes_are_those_that_are_kept() {
        let view = FeatureView::builder("v").source("s").key("k").key("name");
        let view = view.known(Known::Column("known".to_owned()));
        let view = view.column("b", DataType::Bool).column("i", DataType::Int64);
        let view = view.column("f", DataType::Float64).column("t", DataType::Utf8);
        let view = view.build().unwrap();
        let instants = |values: Vec<Option<i64>>| {
            Arc::new(TimestampNanosecondArray::from(values).with_timezone("UTC")) as ArrayRef
        };
        let text = "longer than thirty-two bytes, which rows lay out in blocks";
        let rows = RecordBatch::try_from_iter([
            ("k", Arc::new(Int64Array::from(vec![Some(-7), Some(i64::MAX), None, Some(0)])) as _),
            ("name", Arc::new(StringArray::from(vec!["a", "", "c", text])) as _),
            ("event_time", instants(vec![Some(-1), Some(i64::MAX), Some(5), None])),
            ("known", instants(vec![Some(2), None, Some(i64::MIN), Some(3)])),
            ("b", Arc::new(BooleanArray::from(vec![Some(true), None, Some(false), Some(true)]))),
            ("i", Arc::new(Int64Array::from(vec![Some(i64::MIN), None, Some(1), Some(-1)]))),
            ("f", Arc::new(Float64Array::from(vec![Some(-0.0), None, Some(f64::NAN), Some(1.5)]))),
            ("t", Arc::new(StringArray::from(vec![Some("\u{e4}"), None, Some(""), Some(text)]))),
        ]);
        let rows = rows.unwrap();
        let key_types = KeyTypes::of(&rows, view.keys()).unwrap();
        let moments = moments(&view, &rows).unwrap();
        let hashes = hashes(&view, &key_types, &rows, &moments).unwrap();
        assert_eq!(
            hashes.iter().map(|hash| format!("{hash:032x}")).collect::<Vec<_>>(),
            [
                "e05726344d13775f56b746f7f7cdd41a",
                "2300c7db13aa35353810ccd06eb0d352",
                "d8e3b53dfc64b27819d77e6da1718a54",
                "e54adb9c7e94125cbe483c4382cbdd63",
            ]
        );
    }
}
