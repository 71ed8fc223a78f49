//! Requests: JSON to columns.

use std::collections::BTreeSet;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Float64Array, Int64Array, StringArray,
    TimestampNanosecondArray, UInt64Array,
};
use arrow::compute::kernels::cast_utils::string_to_timestamp_nanos;
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::DataType as ArrowType;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kaizen_core::{Error, Field, Result, Timestamp};
use kaizen_table::arrow_type;
use serde::de::{Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::failure::Failure;

/// At most this many entities in a request.
const MAX_ENTITIES: usize = 10_000;

/// At most this many columns of entities in a request.
const MAX_COLUMNS: usize = 1_000;

/// At most this many features are listed in a request; a service may have more.
const MAX_FEATURES: usize = 1_000;

/// What a client asks.
#[derive(Debug, Deserialize)]
pub(super) struct Request {
    pub(super) entities: Entities,
    #[serde(default)]
    pub(super) feature_service: Option<String>,
    #[serde(default)]
    pub(super) features: AtMost<String, MAX_FEATURES>,
    #[serde(default)]
    pub(super) full_feature_names: bool,
}

impl Request {
    /// Reads a request and checks its size.
    pub(super) fn parse(body: &[u8]) -> Result<Self, Failure> {
        let request: Self =
            serde_json::from_slice(body).map_err(|error| match error.is_data() {
                true => Failure::invalid(format!("request: {error}")),
                false => Failure::no_json(&error),
            })?;
        let Entities(columns) = &request.entities;
        let Some((first, values)) = columns.first() else {
            return Err(Failure::invalid("entities: there are none"));
        };
        if let Some((name, other)) = columns.iter().find(|(_, other)| other.len() != values.len()) {
            let (found, wanted) = (other.len(), values.len());
            return Err(Failure::invalid(format!(
                "entities: `{name}` has {found} values, `{first}` has {wanted}"
            )));
        }
        Ok(request)
    }
}

/// A list that is refused while it is read if it is longer.
#[derive(Debug)]
pub(super) struct AtMost<T, const N: usize>(pub(super) Vec<T>);

impl<T, const N: usize> Default for AtMost<T, N> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>, const N: usize> Deserialize<'de> for AtMost<T, N> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct List<T, const N: usize>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>, const N: usize> Visitor<'de> for List<T, N> {
            type Value = AtMost<T, N>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a sequence of at most {N} values")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<AtMost<T, N>, A::Error> {
                let mut values = Vec::new();
                while let Some(value) = list.next_element()? {
                    if values.len() == N {
                        return Err(A::Error::custom(format!("a list of over {N} values")));
                    }
                    values.push(value);
                }
                Ok(AtMost(values))
            }
        }
        from.deserialize_seq(List(PhantomData))
    }
}

/// The columns of a request, in its order, each of as many values as there are rows.
#[derive(Debug)]
pub(super) struct Entities(Vec<(String, Vec<Value>)>);

impl<'de> Deserialize<'de> for Entities {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Columns;
        impl<'de> Visitor<'de> for Columns {
            type Value = Entities;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("lists of values by column")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entities, A::Error> {
                let (mut columns, mut seen) = (Vec::new(), BTreeSet::new());
                while let Some(name) = map.next_key::<String>()? {
                    if columns.len() == MAX_COLUMNS {
                        let message = format!("entities: over {MAX_COLUMNS} columns");
                        return Err(A::Error::custom(message));
                    }
                    if !seen.insert(name.clone()) {
                        return Err(A::Error::custom(format!("entities: `{name}` stands twice")));
                    }
                    let AtMost(values) = map.next_value::<AtMost<Value, MAX_ENTITIES>>()?;
                    columns.push((name, values));
                }
                Ok(Entities(columns))
            }
        }
        from.deserialize_map(Columns)
    }
}

impl Entities {
    /// How many rows ask.
    pub(super) fn rows(&self) -> usize {
        self.0.first().map_or(0, |(_, values)| values.len())
    }

    /// The names of the columns.
    pub(super) fn names(&self) -> impl Iterator<Item = &String> {
        self.0.iter().map(|(name, _)| name)
    }

    /// A column as the client wrote it.
    pub(super) fn written(&self, name: &str) -> Option<&[Value]> {
        let found = self.0.iter().find(|(other, _)| other == name);
        found.map(|(_, values)| values.as_slice())
    }

    /// A key of a view, in the type in which its values are compared.
    pub(super) fn key(
        &self,
        name: &str,
        data_type: &ArrowType,
        view: &str,
    ) -> Result<ArrayRef, Failure> {
        let values = self.written(name).ok_or_else(|| {
            Failure::invalid(format!("entities: `{name}` is missing, a key of view `{view}`"))
        })?;
        Ok(typed(name, values, data_type)?)
    }

    /// A column that the caller brings.
    pub(super) fn request_column(&self, field: &Field) -> Result<ArrayRef, Failure> {
        let name = &field.name;
        let values = self.written(name).ok_or_else(|| Failure::no_request_column(name))?;
        Ok(typed(name, values, &arrow_type(field.data_type)?)?)
    }
}

/// JSON values as an Arrow column. A value that the type cannot hold is an error, never missing.
fn typed(name: &str, values: &[Value], data_type: &ArrowType) -> Result<ArrayRef> {
    let bad = |value: &Value| {
        let mut text = value.to_string();
        if text.len() > 80 {
            text = text.chars().take(80).chain("…".chars()).collect();
        }
        Error::invalid(format!("entities: `{name}`: {text} is not {data_type}"))
    };
    let column: ArrayRef = match data_type {
        ArrowType::Boolean => {
            Arc::new(read(values, Value::as_bool, bad)?.into_iter().collect::<BooleanArray>())
        }
        ArrowType::UInt64 => Arc::new(UInt64Array::from(read(values, unsigned, bad)?)),
        integer if integer.is_integer() => Arc::new(Int64Array::from(read(values, signed, bad)?)),
        float if float.is_floating() => Arc::new(Float64Array::from(read(values, number, bad)?)),
        ArrowType::Binary | ArrowType::FixedSizeBinary(_) => {
            let bytes = |value: &Value| STANDARD.decode(value.as_str()?).ok();
            let bytes = read(values, bytes, bad)?;
            Arc::new(bytes.iter().map(Option::as_deref).collect::<BinaryArray>())
        }
        ArrowType::Timestamp(_, Some(zone)) => {
            let instants = TimestampNanosecondArray::from(read(values, instant, bad)?);
            Arc::new(instants.with_timezone(Arc::clone(zone)))
        }
        ArrowType::Decimal128(..) | ArrowType::Decimal256(..) => {
            // A number as it was written, and not as a float would have it.
            let digits = |value: &Value| match value {
                Value::Number(number) => Some(number.to_string()),
                other => other.as_str().map(str::to_owned),
            };
            Arc::new(StringArray::from(read(values, digits, bad)?))
        }
        _ => Arc::new(StringArray::from(read(
            values,
            |value| Some(value.as_str()?.to_owned()),
            bad,
        )?)),
    };
    if column.data_type() == data_type {
        return Ok(column);
    }
    let options = CastOptions { safe: false, ..CastOptions::default() };
    cast_with_options(&column, data_type, &options).map_err(|error| {
        Error::invalid(format!("entities: `{name}`: not {data_type}")).with_source(error)
    })
}

/// Reads each value; `null` is a missing one.
fn read<T>(
    values: &[Value],
    read: impl Fn(&Value) -> Option<T>,
    bad: impl Fn(&Value) -> Error,
) -> Result<Vec<Option<T>>> {
    let one = |value: &Value| match value {
        Value::Null => Ok(None),
        other => read(other).map(Some).ok_or_else(|| bad(other)),
    };
    values.iter().map(one).collect()
}

/// An integer, also as text, or as a float that is one.
fn signed(value: &Value) -> Option<i64> {
    match value {
        Value::String(text) => text.parse().ok(),
        other => other.as_i64().or_else(|| whole(other).map(|float| float as i64)),
    }
}

/// An integer from 0, also as text, or as a float that is one.
fn unsigned(value: &Value) -> Option<u64> {
    match value {
        Value::String(text) => text.parse().ok(),
        other => other
            .as_u64()
            .or_else(|| whole(other).filter(|float| *float >= 0.0).map(|float| float as u64)),
    }
}

/// A float without a fraction, where floats still tell all integers apart.
fn whole(value: &Value) -> Option<f64> {
    value.as_f64().filter(|float| {
        value.is_f64() && float.fract() == 0.0 && float.abs() <= (1_i64 << 53) as f64
    })
}

/// A number, or what JSON has no number for.
fn number(value: &Value) -> Option<f64> {
    match value.as_str() {
        Some("NaN") => Some(f64::NAN),
        Some("Infinity") => Some(f64::INFINITY),
        Some("-Infinity") => Some(f64::NEG_INFINITY),
        Some(_) => None,
        None => value.as_f64(),
    }
}

/// An instant in RFC 3339, in nanoseconds UTC. A naive one is none: nobody can say when it is.
fn instant(value: &Value) -> Option<i64> {
    let text = value.as_str()?;
    text.parse::<Timestamp>().ok()?;
    string_to_timestamp_nanos(text).ok()
}
