//! Typed access to the columns of a table, with errors that name the column.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch, StringArray,
    TimestampNanosecondArray,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType as ArrowType, Field, Schema, TimeUnit, TimestampNanosecondType};
use kaizen_core::{Context, DataType, Error, ErrorKind, Result, TimeBlocks, Timestamp};

/// The Arrow type that holds values of this type.
pub fn arrow_type(data_type: DataType) -> Result<ArrowType> {
    match data_type {
        DataType::Bool => Ok(ArrowType::Boolean),
        DataType::Int64 => Ok(ArrowType::Int64),
        DataType::Float64 => Ok(ArrowType::Float64),
        DataType::Utf8 => Ok(ArrowType::Utf8),
        other => Err(Error::new(ErrorKind::Unsupported, format!("data type {other:?}"))),
    }
}

/// The column of this name.
pub fn column<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef> {
    batch.column_by_name(name).with_columns(batch, name)
}

/// A column as 64-bit floats; integers and booleans are converted. Length: the batch's rows.
pub fn numbers(batch: &RecordBatch, name: &str) -> Result<Float64Array> {
    let found = column(batch, name)?;
    let plain = found.data_type().is_numeric() || *found.data_type() == ArrowType::Boolean;
    if !plain {
        let found = found.data_type();
        return Err(Error::invalid(format!("column `{name}`: holds {found}, not numbers")));
    }
    Ok(convert(found, &ArrowType::Float64, name)?.as_primitive().clone())
}

/// A column as text. Length: the batch's rows.
pub fn texts(batch: &RecordBatch, name: &str) -> Result<StringArray> {
    let found = column(batch, name)?;
    let textual = match found.data_type() {
        ArrowType::Utf8 | ArrowType::LargeUtf8 | ArrowType::Utf8View => true,
        ArrowType::Dictionary(_, value) => **value == ArrowType::Utf8,
        _ => false,
    };
    if !textual {
        let found = found.data_type();
        return Err(Error::invalid(format!("column `{name}`: holds {found}, not text")));
    }
    Ok(convert(found, &ArrowType::Utf8, name)?.as_string().clone())
}

/// A column of instants, in nanoseconds UTC. A naive timestamp, one without a time zone, is
/// refused: nobody can say which instant it means. Length: the batch's rows.
pub fn instants(batch: &RecordBatch, name: &str) -> Result<TimestampNanosecondArray> {
    let found = column(batch, name)?;
    match found.data_type() {
        ArrowType::Timestamp(_, Some(_)) => {}
        ArrowType::Timestamp(_, None) => {
            return Err(Error::invalid(format!(
                "column `{name}`: naive timestamps; declare their time zone"
            )));
        }
        other => {
            return Err(Error::invalid(format!("column `{name}`: holds {other}, not instants")));
        }
    }
    let nanos = ArrowType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into()));
    let converted = convert(found, &nanos, name)?;
    if converted.null_count() != found.null_count() {
        return Err(Error::invalid(format!("column `{name}`: instants outside 1678 to 2262")));
    }
    Ok(converted.as_primitive::<TimestampNanosecondType>().clone())
}

/// The block of time that each row's instant falls into. Length: the batch's rows.
pub fn blocks(batch: &RecordBatch, time: &str, unit: TimeBlocks) -> Result<Int64Array> {
    let instants = instants(batch, time)?;
    if instants.null_count() > 0 {
        return Err(Error::invalid(format!("column `{time}`: a row has no instant")));
    }
    let block = |nanos: &i64| unit.block(Timestamp::from_nanos(*nanos));
    Ok(instants.values().iter().map(block).collect())
}

/// The same table with one more column, or with that column replaced.
pub fn with_column(batch: &RecordBatch, name: &str, values: ArrayRef) -> Result<RecordBatch> {
    let field = Field::new(name, values.data_type().clone(), true);
    let mut fields: Vec<_> = batch.schema().fields().iter().map(Arc::clone).collect();
    let mut columns = batch.columns().to_vec();
    match batch.schema().index_of(name) {
        Ok(index) => (fields[index], columns[index]) = (Arc::new(field), values),
        Err(_) => {
            fields.push(Arc::new(field));
            columns.push(values);
        }
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
        .context(ErrorKind::Invalid, format!("column `{name}`"))
}

fn convert(values: &ArrayRef, to: &ArrowType, name: &str) -> Result<ArrayRef> {
    if values.data_type() == to {
        return Ok(Arc::clone(values));
    }
    cast(values, to).context(ErrorKind::Invalid, format!("column `{name}`: not {to}"))
}

/// Names the columns there are when the wanted one is missing.
trait WithColumns<T> {
    fn with_columns(self, batch: &RecordBatch, name: &str) -> Result<T>;
}

impl<T> WithColumns<T> for Option<T> {
    fn with_columns(self, batch: &RecordBatch, name: &str) -> Result<T> {
        self.ok_or_else(|| {
            let schema = batch.schema();
            let names: Vec<_> =
                schema.fields().iter().take(40).map(|f| f.name().as_str()).collect();
            Error::invalid(format!("column `{name}` is missing; there are {}", names.join(", ")))
        })
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::TimestampSecondArray;

    use super::*;

    fn one(name: &str, values: ArrayRef) -> RecordBatch {
        RecordBatch::try_from_iter([(name, values)]).unwrap()
    }

    #[test]
    fn a_missing_column_is_named_beside_those_there_are() {
        let batch = one("delay", Arc::new(Int64Array::from(vec![1])));
        let error = numbers(&batch, "dealy").unwrap_err();
        assert_eq!(error.to_string(), "column `dealy` is missing; there are delay");
    }

    #[test]
    fn a_naive_timestamp_is_refused_and_a_zoned_one_is_an_instant() {
        let naive = TimestampSecondArray::from(vec![1_000]);
        let error = instants(&one("at", Arc::new(naive.clone())), "at").unwrap_err();
        assert!(error.to_string().contains("column `at`: naive"), "{error}");
        let zoned = one("at", Arc::new(naive.with_timezone("+02:00")));
        assert_eq!(instants(&zoned, "at").unwrap().value(0), 1_000_000_000_000);
    }

    #[test]
    fn text_is_not_a_number() {
        let batch = one("carrier", Arc::new(StringArray::from(vec!["UA"])));
        assert!(numbers(&batch, "carrier").unwrap_err().to_string().contains("carrier"));
        assert_eq!(texts(&batch, "carrier").unwrap().value(0), "UA");
    }
}
