//! Keys, compared by value.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType as ArrowType, Float64Type, Int64Type, TimeUnit, UInt64Type};
use arrow::util::display::array_value_to_string;
use kaizen_core::{Context, ErrorKind, Result};
use kaizen_table::column;

/// One column of a key.
///
/// The derived comparison is the rule's: NaN is not equal to itself, and negative zero is equal to
/// zero.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Key {
    /// An integer of any width.
    Whole(i128),
    /// A float.
    Number(f64),
    /// Text in any encoding.
    Text(String),
    /// Bytes in any encoding.
    Bytes(Vec<u8>),
    /// An instant, in nanoseconds UTC.
    Instant(i128),
    /// A value of any other type, as text. Both sides have the same type, so equal values have
    /// equal texts: booleans, decimals, dates, times, durations, naive timestamps.
    Other(String),
}

/// The key of each row: a value per column, or none if one of them is missing.
pub(super) fn keys(names: &[String], rows: &RecordBatch) -> Result<Vec<Option<Vec<Key>>>> {
    let columns: Vec<ArrayRef> =
        names.iter().map(|name| plain(column(rows, name)?)).collect::<Result<_>>()?;
    let key = |row: usize| {
        let present = columns.iter().all(|values| !values.is_null(row) && !is_null_type(values));
        let of = || columns.iter().map(|values| value(values, row)).collect::<Result<Vec<Key>>>();
        // A row with a NaN in its key is treated as one without: it is equal to no other.
        let is_nan = |key: &Key| matches!(key, Key::Number(number) if number.is_nan());
        Ok(present.then(of).transpose()?.filter(|key| !key.iter().any(is_nan)))
    };
    (0..rows.num_rows()).map(key).collect()
}

fn is_null_type(values: &ArrayRef) -> bool {
    *values.data_type() == ArrowType::Null
}

/// Values in the widest type of their kind.
fn plain(values: &ArrayRef) -> Result<ArrayRef> {
    let wide = match values.data_type() {
        ArrowType::Dictionary(_, value) => {
            let message = "oracle: a dictionary";
            return plain(&cast(values, value).context(ErrorKind::Internal, message)?);
        }
        found if found.is_signed_integer() => ArrowType::Int64,
        found if found.is_unsigned_integer() => ArrowType::UInt64,
        found if found.is_floating() => ArrowType::Float64,
        ArrowType::LargeUtf8 | ArrowType::Utf8View => ArrowType::Utf8,
        ArrowType::LargeBinary | ArrowType::BinaryView | ArrowType::FixedSizeBinary(_) => {
            ArrowType::Binary
        }
        found => found.clone(),
    };
    cast(values, &wide).context(ErrorKind::Internal, "oracle: a key")
}

fn value(values: &ArrayRef, row: usize) -> Result<Key> {
    Ok(match values.data_type() {
        ArrowType::Int64 => Key::Whole(values.as_primitive::<Int64Type>().value(row).into()),
        ArrowType::UInt64 => Key::Whole(values.as_primitive::<UInt64Type>().value(row).into()),
        ArrowType::Float64 => Key::Number(values.as_primitive::<Float64Type>().value(row)),
        ArrowType::Utf8 => Key::Text(values.as_string::<i32>().value(row).to_owned()),
        ArrowType::Binary => Key::Bytes(values.as_binary::<i32>().value(row).to_owned()),
        ArrowType::Timestamp(unit, Some(_)) => {
            let nanos: i128 = match unit {
                TimeUnit::Second => 1_000_000_000,
                TimeUnit::Millisecond => 1_000_000,
                TimeUnit::Microsecond => 1_000,
                TimeUnit::Nanosecond => 1,
            };
            let ticks = cast(&values.slice(row, 1), &ArrowType::Int64);
            let ticks = ticks.context(ErrorKind::Internal, "oracle: an instant")?;
            Key::Instant(i128::from(ticks.as_primitive::<Int64Type>().value(0)) * nanos)
        }
        _ => {
            let text = array_value_to_string(values, row);
            Key::Other(text.context(ErrorKind::Internal, "oracle: a key")?)
        }
    })
}
