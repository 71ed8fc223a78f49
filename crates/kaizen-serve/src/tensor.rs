//! Tensors of the Open Inference Protocol, and the columns that they become.

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Float64Array, Int64Array, StringArray};
use kaizen_core::{Context, DataType, Error, ErrorKind, Field, Result};
use serde::Deserialize;
use serde_json::Value;

/// An input tensor as it stands in the request.
#[derive(Debug, Deserialize)]
pub(crate) struct Tensor {
    pub(crate) name: String,
    shape: Vec<u64>,
    datatype: String,
    data: Option<Vec<Value>>,
}

/// The datatypes that are read from JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Datatype {
    Bool,
    /// Of this many bits.
    Int(u32),
    /// Of this many bits.
    UInt(u32),
    Fp32,
    Fp64,
    Bytes,
}

/// The name by which the protocol knows a type of column.
pub(crate) fn datatype_of(data_type: DataType) -> Result<&'static str> {
    match data_type {
        DataType::Bool => Ok("BOOL"),
        DataType::Int64 => Ok("INT64"),
        DataType::Float64 => Ok("FP64"),
        DataType::Utf8 => Ok("BYTES"),
        other => Err(Error::new(ErrorKind::Unsupported, format!("data type {other:?}"))),
    }
}

impl Datatype {
    fn parse(name: &str) -> Option<Self> {
        match name {
            "BOOL" => Some(Self::Bool),
            "INT8" => Some(Self::Int(8)),
            "INT16" => Some(Self::Int(16)),
            "INT32" => Some(Self::Int(32)),
            "INT64" => Some(Self::Int(64)),
            "UINT8" => Some(Self::UInt(8)),
            "UINT16" => Some(Self::UInt(16)),
            "UINT32" => Some(Self::UInt(32)),
            "UINT64" => Some(Self::UInt(64)),
            "FP32" => Some(Self::Fp32),
            "FP64" => Some(Self::Fp64),
            "BYTES" => Some(Self::Bytes),
            _ => None,
        }
    }

    /// Whether a column of this type takes it. Integers widen to floats.
    fn fits(self, column: DataType) -> bool {
        match column {
            DataType::Bool => self == Self::Bool,
            DataType::Int64 => self.range().is_some(),
            DataType::Float64 => self.range().is_some() || matches!(self, Self::Fp32 | Self::Fp64),
            DataType::Utf8 => self == Self::Bytes,
            _ => false,
        }
    }

    /// The integers that it holds, if it holds integers.
    fn range(self) -> Option<RangeInclusive<i128>> {
        match self {
            Self::Int(bits) => Some(-(1 << (bits - 1))..=(1 << (bits - 1)) - 1),
            Self::UInt(bits) => Some(0..=(1 << bits) - 1),
            _ => None,
        }
    }

    fn integer(self, value: &Value) -> Option<i128> {
        let number = value.as_i64().map(i128::from).or(value.as_u64().map(i128::from))?;
        self.range()?.contains(&number).then_some(number)
    }

    fn float(self, value: &Value) -> Option<f64> {
        match self {
            Self::Fp64 => value.as_f64(),
            // The tensor's value is the 32-bit one, however many digits its JSON has.
            Self::Fp32 => Some(value.as_f64()? as f32).filter(|v| v.is_finite()).map(f64::from),
            _ => self.integer(value).map(|integer| integer as f64),
        }
    }
}

impl Tensor {
    /// The number of rows, by shape and data, which must agree.
    pub(crate) fn rows(&self) -> Result<usize> {
        let name = &self.name;
        let rows = match self.shape[..] {
            [rows] | [rows, 1] => rows,
            _ => {
                let shape = &self.shape;
                let message = format!("input `{name}`: shape {shape:?}, not [rows] or [rows, 1]");
                return Err(Error::invalid(message));
            }
        };
        let found = self.data()?.len();
        if found as u64 != rows {
            let message = format!("input `{name}`: {found} values for a shape of {rows} rows");
            return Err(Error::invalid(message));
        }
        Ok(found)
    }

    /// The values of these rows, as a column of this field's type. A `null` is a missing value.
    pub(crate) fn column(&self, field: &Field, rows: &[usize]) -> Result<ArrayRef> {
        let kind = self.datatype(field.data_type)?;
        Ok(match field.data_type {
            DataType::Bool => {
                let cells: BooleanArray = self.read(rows, Value::as_bool)?;
                Arc::new(cells)
            }
            DataType::Int64 => {
                let integer = |v: &Value| kind.integer(v).and_then(|i| i64::try_from(i).ok());
                let cells: Int64Array = self.read(rows, integer)?;
                Arc::new(cells)
            }
            DataType::Float64 => {
                let cells: Float64Array = self.read(rows, |v| kind.float(v))?;
                Arc::new(cells)
            }
            // `datatype` has refused what is neither this nor above.
            _ => {
                let cells: StringArray = self.read(rows, Value::as_str)?;
                Arc::new(cells)
            }
        })
    }

    /// Every value as text; none may be missing.
    pub(crate) fn texts(&self) -> Result<Vec<String>> {
        self.datatype(DataType::Utf8)?;
        let text = |row| {
            let cell = self.cell(row)?.as_str();
            cell.map(str::to_owned).context(ErrorKind::Invalid, self.wrong(row))
        };
        (0..self.data()?.len()).map(text).collect()
    }

    fn datatype(&self, column: DataType) -> Result<Datatype> {
        let fitting = Datatype::parse(&self.datatype).filter(|kind| kind.fits(column));
        fitting.with(|| {
            let wanted = datatype_of(column).unwrap_or("supported");
            let found: String = self.datatype.chars().take(40).collect();
            format!("input `{}`: datatype `{found}`, not {wanted}", self.name)
        })
    }

    fn data(&self) -> Result<&[Value]> {
        self.data.as_deref().with(|| {
            let name = &self.name;
            format!("input `{name}`: it has no `data`; binary tensors are not supported")
        })
    }

    fn read<'a, T, C>(&'a self, rows: &[usize], of: impl Fn(&'a Value) -> Option<T>) -> Result<C>
    where
        C: FromIterator<Option<T>>,
    {
        let read = |row: &usize| match self.cell(*row)? {
            Value::Null => Ok(None),
            value => of(value).with(|| self.wrong(*row)).map(Some),
        };
        rows.iter().map(read).collect()
    }

    /// The value of a row; data of shape `[rows, 1]` may be nested.
    fn cell(&self, row: usize) -> Result<&Value> {
        match (self.data()?.get(row), self.shape.len()) {
            (Some(Value::Array(nested)), 2) if nested.len() == 1 => Ok(&nested[0]),
            (cell, _) => cell.with(|| self.wrong(row)),
        }
    }

    fn wrong(&self, row: usize) -> String {
        let (name, kind) = (&self.name, &self.datatype);
        let value = self.data.as_ref().and_then(|data| data.get(row));
        let found: String = value.map(Value::to_string).unwrap_or_default();
        let found: String = found.chars().take(40).collect();
        format!("input `{name}`: row {row} holds {found}, which is not {kind}")
    }
}

/// [`Context`] with a message that is only made when it is needed.
trait With<T> {
    fn with<M: fmt::Display>(self, message: impl FnOnce() -> M) -> Result<T>;
}

impl<T> With<T> for Option<T> {
    fn with<M: fmt::Display>(self, message: impl FnOnce() -> M) -> Result<T> {
        self.ok_or_else(|| Error::invalid(message().to_string()))
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Array, AsArray};
    use arrow::datatypes::{Float64Type, Int64Type};
    use serde_json::json;

    use super::*;

    fn tensor(datatype: &str, shape: Value, data: Value) -> Tensor {
        let json = json!({"name": "x", "datatype": datatype, "shape": shape, "data": data});
        serde_json::from_value(json).unwrap()
    }

    fn read(datatype: &str, data: Value, as_type: DataType) -> Result<ArrayRef> {
        let tensor = tensor(datatype, json!([1]), data);
        assert_eq!(tensor.rows()?, 1);
        tensor.column(&Field::new("x", as_type), &[0])
    }

    #[test]
    fn integers_keep_to_the_range_of_their_datatype() {
        for (datatype, fits, breaks) in [
            ("INT8", json!(-128), json!(128)),
            ("UINT8", json!(255), json!(-1)),
            ("INT16", json!(32_767), json!(32_768)),
            ("UINT16", json!(65_535), json!(65_536)),
            ("INT32", json!(i32::MIN), json!(i64::from(i32::MIN) - 1)),
            ("UINT32", json!(u32::MAX), json!(1_u64 << 32)),
            ("INT64", json!(i64::MIN), json!(i64::MAX as u64 + 1)),
            // A column holds 64 bits with a sign.
            ("UINT64", json!(i64::MAX), json!(u64::MAX)),
        ] {
            let column = read(datatype, json!([fits]), DataType::Int64).unwrap();
            assert_eq!(json!(column.as_primitive::<Int64Type>().value(0)), fits);
            let error = read(datatype, json!([breaks]), DataType::Int64).unwrap_err().to_string();
            assert!(error.contains("input `x`: row 0") && error.contains(datatype), "{error}");
        }
        assert!(read("INT64", json!([3.0]), DataType::Int64).is_err());
    }

    #[test]
    fn floats_are_the_value_that_the_datatype_holds() {
        let value = |datatype, data| {
            read(datatype, json!([data]), DataType::Float64)
                .map(|column| column.as_primitive::<Float64Type>().value(0))
        };
        assert_eq!(value("FP64", json!(0.1)).unwrap(), 0.1);
        assert_eq!(value("FP32", json!(0.1)).unwrap(), f64::from(0.1_f32));
        assert_eq!(value("UINT64", json!(u64::MAX)).unwrap(), 18_446_744_073_709_551_616.0);
        assert!(value("FP32", json!(1e39)).is_err());
        assert!(value("FP64", json!("0.1")).is_err());
        assert!(value("FP16", json!(0.1)).unwrap_err().to_string().contains("`FP16`, not FP64"));
    }

    #[test]
    fn null_is_missing_in_every_type() {
        let cases = [
            ("BOOL", DataType::Bool),
            ("INT64", DataType::Int64),
            ("FP64", DataType::Float64),
            ("BYTES", DataType::Utf8),
        ];
        for (datatype, as_type) in cases {
            assert_eq!(read(datatype, json!([null]), as_type).unwrap().null_count(), 1);
        }
    }

    #[test]
    fn data_is_flat_or_nested_as_the_shape_allows() {
        let field = Field::new("x", DataType::Utf8);
        for data in [json!(["a", "b"]), json!([["a"], ["b"]])] {
            let column = tensor("BYTES", json!([2, 1]), data).column(&field, &[1]).unwrap();
            assert_eq!(column.as_string::<i32>().value(0), "b");
        }
        let nested = tensor("BYTES", json!([2]), json!([["a"], ["b"]]));
        assert!(nested.column(&field, &[0]).is_err());
        for shape in [json!([]), json!([1, 2]), json!([2, 1, 1])] {
            assert!(tensor("BYTES", shape, json!(["a", "b"])).rows().is_err());
        }
    }
}
