//! Source columns as the types that definitions declare.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, new_null_array};
use arrow::compute::cast;
use arrow::datatypes::DataType as ArrowType;
use kaizen_core::{Context, DataType, Error, ErrorKind, Result};
use kaizen_table::{arrow_type, column, numbers, texts};

/// A column as the declared type. Length: the batch's rows.
///
/// Integers of any width become 64-bit ones, numbers of any kind floats, and zeros and ones
/// booleans; a number that does not fit is an error, never a missing value.
pub(crate) fn typed(batch: &RecordBatch, name: &str, data_type: DataType) -> Result<ArrayRef> {
    let found = column(batch, name)?;
    let wanted = arrow_type(data_type)?;
    if *found.data_type() == wanted {
        return Ok(Arc::clone(found));
    }
    if *found.data_type() == ArrowType::Null {
        return Ok(new_null_array(&wanted, found.len()));
    }
    match data_type {
        DataType::Bool => Ok(Arc::new(flags(batch, name)?)),
        DataType::Int64 => integers(found, name),
        DataType::Float64 => Ok(Arc::new(numbers(batch, name)?)),
        DataType::Utf8 => Ok(Arc::new(texts(batch, name)?)),
        other => Err(Error::new(ErrorKind::Unsupported, format!("column `{name}`: {other:?}"))),
    }
}

/// A column of booleans, or of numbers that are 0 or 1. Length: the batch's rows.
pub(crate) fn flags(batch: &RecordBatch, name: &str) -> Result<BooleanArray> {
    let found = column(batch, name)?;
    match found.data_type() {
        ArrowType::Boolean => return Ok(found.as_boolean().clone()),
        ArrowType::Null => return Ok(BooleanArray::new_null(found.len())),
        _ => {}
    }
    let flag = |number: Option<f64>| match number {
        None => Ok(None),
        Some(0.0) => Ok(Some(false)),
        Some(1.0) => Ok(Some(true)),
        Some(other) => Err(Error::invalid(format!("column `{name}`: {other} is neither 0 nor 1"))),
    };
    numbers(batch, name)?.iter().map(flag).collect()
}

fn integers(found: &ArrayRef, name: &str) -> Result<ArrayRef> {
    let plain = found.data_type().is_integer() || *found.data_type() == ArrowType::Boolean;
    if !plain {
        let found = found.data_type();
        return Err(Error::invalid(format!("column `{name}`: holds {found}, not integers")));
    }
    let converted = cast(found, &ArrowType::Int64)
        .context(ErrorKind::Invalid, format!("column `{name}`: not integers"))?;
    if converted.null_count() != found.null_count() {
        return Err(Error::invalid(format!("column `{name}`: an integer beyond 63 bits")));
    }
    Ok(converted)
}

#[cfg(test)]
mod tests {
    use arrow::array::{Float64Array, Int16Array, UInt64Array};

    use super::*;

    fn one(values: impl Array + 'static) -> RecordBatch {
        RecordBatch::try_from_iter([("x", Arc::new(values) as ArrayRef)]).unwrap()
    }

    #[test]
    fn narrow_numbers_are_widened_and_what_does_not_fit_is_named() {
        let narrow = one(Int16Array::from(vec![Some(1), None, Some(0)]));
        for data_type in [DataType::Bool, DataType::Int64, DataType::Float64] {
            let values = typed(&narrow, "x", data_type).unwrap();
            assert_eq!(values.data_type(), &arrow_type(data_type).unwrap());
            assert_eq!((values.len(), values.null_count()), (3, 1));
        }
        let cases = [
            (one(UInt64Array::from(vec![u64::MAX])), DataType::Int64, "beyond 63 bits"),
            (one(Float64Array::from(vec![1.0])), DataType::Int64, "not integers"),
            (one(Float64Array::from(vec![0.5])), DataType::Bool, "neither 0 nor 1"),
            (one(Float64Array::from(vec![0.5])), DataType::Utf8, "not text"),
        ];
        for (batch, data_type, part) in cases {
            let error = typed(&batch, "x", data_type).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert!(error.to_string().contains("column `x`"), "{error}");
            assert!(error.to_string().contains(part), "{error}");
        }
    }
}
