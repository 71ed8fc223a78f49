//! Replies: columns to JSON.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType as ArrowType, Float64Type, Int64Type, UInt64Type};
use kaizen_core::{Error, ErrorKind, Result, Timestamp};
use kaizen_table::column;
use serde::Serialize;
use serde_json::Value;

use super::request::Entities;
use crate::{Answer, Status};

/// The event time of what has none.
const NEVER: &str = "1970-01-01T00:00:00Z";

const PRESENT: &str = "PRESENT";
const NULL_VALUE: &str = "NULL_VALUE";
const NOT_FOUND: &str = "NOT_FOUND";
const OUTSIDE_MAX_AGE: &str = "OUTSIDE_MAX_AGE";

/// The reply: a column for each name, a value for each entity.
#[derive(Debug, Default, Serialize)]
pub(super) struct Reply {
    results: Vec<Column>,
    metadata: Metadata,
}

#[derive(Debug, Default, Serialize)]
struct Metadata {
    feature_names: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Column {
    values: Vec<Value>,
    statuses: Vec<&'static str>,
    event_timestamps: Vec<String>,
}

impl Reply {
    /// Adds a key: as the client wrote it, but integers as numbers.
    pub(super) fn key(&mut self, name: &str, rows: &RecordBatch, asked: &Entities) -> Result<()> {
        let values = match column(rows, name)?.data_type() {
            ArrowType::Int64 | ArrowType::UInt64 => values(rows, name)?,
            _ => asked.written(name).unwrap_or_default().to_vec(),
        };
        let statuses = vec![PRESENT; values.len()];
        let event_timestamps = vec![NEVER.to_owned(); values.len()];
        self.add(name, Column { values, statuses, event_timestamps });
        Ok(())
    }

    /// Adds a feature, shown under this name, of a view, or of what is computed on demand.
    pub(super) fn feature(
        &mut self,
        shown: &str,
        name: &str,
        view: &str,
        answer: &Answer,
    ) -> Result<()> {
        let values = values(&answer.rows, name)?;
        let view = answer.views.iter().find(|found| found.name == view);
        let status = |(row, value): (usize, &Value)| match view.map(|view| view.status[row]) {
            _ if !value.is_null() => PRESENT,
            Some(Status::NotFound) => NOT_FOUND,
            Some(Status::OutsideTtl) => OUTSIDE_MAX_AGE,
            _ => NULL_VALUE,
        };
        let statuses = values.iter().enumerate().map(status).collect();
        let event_timestamps = match view {
            Some(view) => view.event_time.iter().copied().map(event_timestamp).collect(),
            None => vec![NEVER.to_owned(); values.len()],
        };
        self.add(shown, Column { values, statuses, event_timestamps });
        Ok(())
    }

    fn add(&mut self, name: &str, column: Column) {
        self.metadata.feature_names.push(name.to_owned());
        self.results.push(column);
    }
}

/// A column as JSON. Length: the rows.
fn values(rows: &RecordBatch, name: &str) -> Result<Vec<Value>> {
    let found = column(rows, name)?;
    let float = |float: f64| match float {
        _ if float.is_nan() => Value::Null,
        f64::INFINITY => Value::from("Infinity"),
        f64::NEG_INFINITY => Value::from("-Infinity"),
        finite => Value::from(finite),
    };
    Ok(match found.data_type() {
        ArrowType::Boolean => found.as_boolean().iter().map(Value::from).collect(),
        ArrowType::Int64 => found.as_primitive::<Int64Type>().iter().map(Value::from).collect(),
        ArrowType::UInt64 => found.as_primitive::<UInt64Type>().iter().map(Value::from).collect(),
        ArrowType::Float64 => {
            let floats = found.as_primitive::<Float64Type>().iter();
            floats.map(|value| value.map_or(Value::Null, float)).collect()
        }
        ArrowType::Utf8 => found.as_string::<i32>().iter().map(Value::from).collect(),
        ArrowType::Null => vec![Value::Null; found.len()],
        other => {
            let message = format!("feature `{name}`: {other} as JSON");
            return Err(Error::new(ErrorKind::Internal, message));
        }
    })
}

/// An instant in RFC 3339, rounded down to microseconds, with no more digits than it needs.
fn event_timestamp(nanos: Option<i64>) -> String {
    let Some(nanos) = nanos else { return NEVER.to_owned() };
    let text = Timestamp::from_nanos(nanos).to_string();
    match text.strip_suffix(".000000Z") {
        Some(seconds) => format!("{seconds}Z"),
        None => match text.strip_suffix("000Z") {
            Some(milliseconds) => format!("{milliseconds}Z"),
            None => text,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_have_no_more_digits_than_they_need() {
        let cases = [
            (None, "1970-01-01T00:00:00Z"),
            (Some(1_000_000_000), "1970-01-01T00:00:01Z"),
            (Some(1_500_000_000), "1970-01-01T00:00:01.500Z"),
            (Some(1_000_001_999), "1970-01-01T00:00:01.000001Z"),
            (Some(-1), "1969-12-31T23:59:59.999999Z"),
        ];
        for (nanos, text) in cases {
            assert_eq!(event_timestamp(nanos), text);
        }
    }
}
