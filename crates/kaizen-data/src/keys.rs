//! The keys of entities: compared by value in one type per column, ranked to integers.

mod columns;
mod ranks;

use std::hash::BuildHasher;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, new_null_array};
use arrow::buffer::NullBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType as ArrowType, Float32Type, Float64Type, TimeUnit};
use arrow::row::{RowConverter, Rows, SortField};
use hashbrown::{DefaultHashBuilder, HashTable};
use kaizen_core::{Context, Error, ErrorKind, Result};
use kaizen_table::column;

pub(crate) use ranks::{Cells, NOBODY, Ranks, Words};

/// The columns that name an entity, each with the type in which its values are compared.
///
/// Integers are compared as integers and text as text, whatever their width. Instants are compared
/// as instants, whatever their zone. Negative zero is zero; NaN, like a missing value, matches
/// nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeyTypes(Vec<(String, ArrowType)>);

impl KeyTypes {
    /// The types of a source's key columns.
    pub(crate) fn of(source: &RecordBatch, names: &[String]) -> Result<Self> {
        let compared = |name: &String| {
            let found = column(source, name)?.data_type();
            let compared = compared_as(found).context(
                ErrorKind::Unsupported,
                format!("key column `{name}`: {found} cannot name an entity"),
            )?;
            Ok((name.clone(), compared))
        };
        names.iter().map(compared).collect::<Result<_>>().map(Self)
    }

    /// The types as text, for [`parse`](Self::parse).
    pub(crate) fn names(&self) -> Vec<String> {
        self.0.iter().map(|(_, compared)| compared.to_string()).collect()
    }

    /// The names of the columns.
    pub(crate) fn columns(&self) -> Vec<String> {
        self.0.iter().map(|(name, _)| name.clone()).collect()
    }

    /// Types that were written by [`names`](Self::names).
    pub(crate) fn parse(columns: &[String], types: &[String]) -> Result<Self> {
        if columns.len() != types.len() {
            return Err(Error::corrupt(format!("{} types of {} keys", types.len(), columns.len())));
        }
        let parse = |(column, text): (&String, &String)| {
            let message = format!("key column `{column}`: type `{text}`");
            Ok((column.clone(), text.parse().context(ErrorKind::Corrupt, message)?))
        };
        columns.iter().zip(types).map(parse).collect::<Result<_>>().map(Self)
    }

    /// The keys of a table's rows in the form that is cheapest to number.
    pub(crate) fn cells(&self, batch: &RecordBatch) -> Result<Cells> {
        let [(name, compared)] = self.0.as_slice() else {
            return Ok(Cells::Rows(self.encode(batch)?));
        };
        let values = convert(column(batch, name)?, compared, name)?;
        Ok(match Cells::of(&values) {
            Some(cells) => cells,
            None => Cells::Rows(self.encode(batch)?),
        })
    }

    /// The keys of a table's rows, as bytes that are equal where the keys are.
    pub(crate) fn encode(&self, batch: &RecordBatch) -> Result<Keys> {
        let mut columns = Vec::with_capacity(self.0.len());
        let mut valid = None;
        for (name, compared) in &self.0 {
            let values = convert(column(batch, name)?, compared, name)?;
            valid = NullBuffer::union(valid.as_ref(), values.logical_nulls().as_ref());
            columns.push(values);
        }
        let fields = self.0.iter().map(|(_, compared)| SortField::new(compared.clone())).collect();
        let rows = RowConverter::new(fields)
            .and_then(|converter| converter.convert_columns(&columns))
            .context(ErrorKind::Internal, "keys as bytes")?;
        Ok(Keys { rows, valid })
    }
}

/// The keys of the rows of one table.
#[derive(Debug)]
pub(crate) struct Keys {
    rows: Rows,
    valid: Option<NullBuffer>,
}

impl Keys {
    /// The key of a row, unless a column of it is missing.
    pub(crate) fn get(&self, row: usize) -> Option<&[u8]> {
        let valid = self.valid.as_ref().is_none_or(|valid| valid.is_valid(row));
        valid.then(|| self.rows.row(row).data())
    }

    fn iter(&self) -> impl Iterator<Item = Option<&[u8]>> {
        (0..self.rows.num_rows()).map(|row| self.get(row))
    }
}

/// The entities of one table, numbered from 0 in the order in which they first appear.
#[derive(Debug, Default)]
pub(crate) struct Entities {
    /// Numbers, by their keys.
    numbers: HashTable<u32>,
    hasher: DefaultHashBuilder,
    /// The keys of all entities, one after another.
    bytes: Vec<u8>,
    /// Where each entity's key ends in them.
    ends: Vec<usize>,
}

impl Entities {
    /// Numbers the entities of these rows; a row with a missing key has none.
    pub(crate) fn number(&mut self, keys: &Keys) -> Vec<Option<u32>> {
        keys.iter().map(|key| key.map(|key| self.number_of(key))).collect()
    }

    /// The number of each row's entity, if it is known.
    pub(crate) fn find(&self, keys: &Keys) -> Vec<Option<u32>> {
        keys.iter().map(|key| self.find_one(key?)).collect()
    }

    /// How many entities there are.
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// The key of an entity.
    pub(crate) fn key(&self, number: u32) -> &[u8] {
        key_at(&self.bytes, &self.ends, number)
    }

    /// The keys of all entities, one after another, in the order of their numbers.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Where each entity's key ends in [`bytes`](Self::bytes).
    pub(crate) fn ends(&self) -> &[usize] {
        &self.ends
    }

    /// The number of the entity with this key, which gets the next one if it is new.
    pub(crate) fn number_of(&mut self, key: &[u8]) -> u32 {
        let Self { numbers, hasher, bytes, ends } = self;
        let hash = hasher.hash_one(key);
        if let Some(number) = numbers.find(hash, |number| key_at(bytes, ends, *number) == key) {
            return *number;
        }
        let next = ends.len() as u32;
        bytes.extend_from_slice(key);
        ends.push(bytes.len());
        numbers.insert_unique(hash, next, |number| hasher.hash_one(key_at(bytes, ends, *number)));
        next
    }

    /// The number of the entity with this key.
    pub(crate) fn find_one(&self, key: &[u8]) -> Option<u32> {
        let hash = self.hasher.hash_one(key);
        self.numbers.find(hash, |number| self.key(*number) == key).copied()
    }
}

fn key_at<'a>(bytes: &'a [u8], ends: &[usize], number: u32) -> &'a [u8] {
    let number = number as usize;
    let start = number.checked_sub(1).map_or(0, |before| ends[before]);
    &bytes[start..ends[number]]
}

/// The type in which values of this type are compared; `None` for those that cannot be keys.
fn compared_as(found: &ArrowType) -> Option<ArrowType> {
    Some(match found {
        ArrowType::UInt64 => ArrowType::UInt64,
        other if other.is_integer() => ArrowType::Int64,
        ArrowType::Utf8 | ArrowType::LargeUtf8 | ArrowType::Utf8View => ArrowType::Utf8,
        ArrowType::Binary | ArrowType::LargeBinary | ArrowType::BinaryView => ArrowType::Binary,
        ArrowType::Timestamp(_, Some(_)) => {
            ArrowType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into()))
        }
        ArrowType::Dictionary(_, value) => return compared_as(value),
        ArrowType::Float16 => return None,
        ArrowType::Null | ArrowType::Boolean | ArrowType::FixedSizeBinary(_) => found.clone(),
        other if other.is_primitive() => other.clone(),
        _ => return None,
    })
}

fn convert(values: &ArrayRef, to: &ArrowType, name: &str) -> Result<ArrayRef> {
    let found = values.data_type();
    let compared = compared_as(found);
    if *found == ArrowType::Null || *to == ArrowType::Null {
        return Ok(new_null_array(to, values.len()));
    }
    let integers = [Some(ArrowType::Int64), Some(ArrowType::UInt64)];
    let comparable = compared.as_ref() == Some(to)
        || (integers.contains(&compared) && integers.contains(&Some(to.clone())));
    if !comparable {
        return Err(Error::invalid(format!(
            "key column `{name}`: holds {found}, where the source has {to}"
        )));
    }
    // An integer that the other side's type cannot hold becomes missing: it matches nothing there.
    let given = values.logical_null_count();
    let values = match found == to {
        true => Arc::clone(values),
        false => cast(values, to)
            .context(ErrorKind::Invalid, format!("key column `{name}`: not {to}"))?,
    };
    if matches!(to, ArrowType::Timestamp(..)) && values.logical_null_count() != given {
        return Err(Error::invalid(format!("key column `{name}`: instants outside 1678 to 2262")));
    }
    Ok(match to {
        ArrowType::Float32 => {
            let plain = |x: f32| (!x.is_nan()).then_some(x + 0.0);
            Arc::new(values.as_primitive::<Float32Type>().unary_opt::<_, Float32Type>(plain))
        }
        ArrowType::Float64 => {
            let plain = |x: f64| (!x.is_nan()).then_some(x + 0.0);
            Arc::new(values.as_primitive::<Float64Type>().unary_opt::<_, Float64Type>(plain))
        }
        _ => values,
    })
}

#[cfg(test)]
mod tests {
    use arrow::array::{
        Float64Array, Int16Array, Int64Array, LargeStringArray, ListArray, StringArray, UInt64Array,
    };
    use arrow::datatypes::Int32Type;

    use super::*;

    fn one(values: impl Array + 'static) -> RecordBatch {
        RecordBatch::try_from_iter([("k", Arc::new(values) as ArrayRef)]).unwrap()
    }

    fn numbers_of(source: &RecordBatch, rows: &RecordBatch) -> Result<Vec<Option<u32>>> {
        let types = KeyTypes::of(source, &["k".to_owned()])?;
        let mut entities = Entities::default();
        entities.number(&types.encode(source)?);
        Ok(entities.find(&types.encode(rows)?))
    }

    #[test]
    fn widths_and_encodings_do_not_matter_but_kinds_do() {
        let narrow = one(Int16Array::from(vec![-1, 7]));
        let wide = one(UInt64Array::from(vec![7, u64::MAX]));
        assert_eq!(numbers_of(&narrow, &wide).unwrap(), [Some(1), None]);
        assert_eq!(numbers_of(&wide, &narrow).unwrap(), [None, Some(0)]);
        let text = one(StringArray::from(vec![Some("a"), None, Some("")]));
        let large = one(LargeStringArray::from(vec![None, Some(""), Some("a")]));
        assert_eq!(numbers_of(&text, &large).unwrap(), [None, Some(1), Some(0)]);
        let error = numbers_of(&narrow, &text).unwrap_err();
        assert_eq!(error.to_string(), "key column `k`: holds Utf8, where the source has Int64");
        let lists = one(ListArray::from_iter_primitive::<Int32Type, _, _>([Some([Some(1)])]));
        let error = numbers_of(&lists, &lists).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
    }

    #[test]
    fn zero_is_zero_and_nan_matches_nothing() {
        let floats = one(Float64Array::from(vec![0.0, f64::NAN, f64::INFINITY]));
        let asked = one(Float64Array::from(vec![-0.0, f64::NAN, f64::INFINITY]));
        assert_eq!(numbers_of(&floats, &asked).unwrap(), [Some(0), None, Some(1)]);
    }

    #[test]
    fn types_survive_as_text() {
        let batch = one(Int64Array::from(vec![1]));
        let mut types = KeyTypes::of(&batch, &["k".to_owned()]).unwrap();
        let zone = ArrowType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into()));
        for compared in [zone, ArrowType::Decimal128(20, 2), ArrowType::Date32, ArrowType::Utf8] {
            types.0[0].1 = compared;
            assert_eq!(KeyTypes::parse(&["k".to_owned()], &types.names()).unwrap(), types);
        }
        assert!(KeyTypes::parse(&["k".to_owned()], &["Utf9".to_owned()]).is_err());
    }

    /// Keys are kept on disk by online stores. If Arrow ever lays out rows anew, this fails, and
    /// the version in the names of online spaces must be raised.
    #[test]
    fn the_bytes_of_keys_are_as_they_were() {
        let columns: [(&str, ArrayRef); 2] = [
            ("n", Arc::new(Int64Array::from(vec![258]))),
            ("t", Arc::new(StringArray::from(vec!["JFK"]))),
        ];
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let types = KeyTypes::of(&batch, &["n".to_owned(), "t".to_owned()]).unwrap();
        let keys = types.encode(&batch).unwrap();
        let expected: &[u8] = &[1, 128, 0, 0, 0, 0, 0, 1, 2, 2, b'J', b'F', b'K', 0, 0, 0, 0, 0, 3];
        assert_eq!(keys.get(0), Some(expected));
    }
}
