//! Predictions as lines of JSON, for hosts that collect standard output.

use std::fmt;
use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, Float64Type, Int64Type, TimeUnit, TimestampNanosecondType};
use arrow::record_batch::RecordBatch;
use kaizen_core::{Context, Error, ErrorKind, Result, Timestamp, async_trait};
use kaizen_table::PredictionSink;
use serde_json::{Map, Value};

/// Writes each prediction as one line of JSON: the columns by name, instants in RFC 3339, missing
/// values as `null`. Integers are JSON numbers with all their digits.
///
/// The lines of one write go out together and are flushed.
pub struct JsonLines<W>(Arc<Mutex<W>>);

impl<W: Write + Send + 'static> JsonLines<W> {
    /// Writes to `out`; a server's host passes `std::io::stdout()`.
    pub fn new(out: W) -> Self {
        Self(Arc::new(Mutex::new(out)))
    }
}

impl<W> fmt::Debug for JsonLines<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JsonLines")
    }
}

#[async_trait]
impl<W: Write + Send + 'static> PredictionSink for JsonLines<W> {
    async fn write(&self, rows: &RecordBatch) -> Result<()> {
        let text = lines(rows)?;
        let out = Arc::clone(&self.0);
        let write = move || {
            let mut out = out.lock().unwrap_or_else(PoisonError::into_inner);
            out.write_all(text.as_bytes()).and_then(|()| out.flush())
        };
        let written = tokio::task::spawn_blocking(write).await;
        written
            .context(ErrorKind::Internal, "prediction lines")?
            .context(ErrorKind::Unavailable, "prediction lines")
    }
}

fn lines(rows: &RecordBatch) -> Result<String> {
    let schema = rows.schema();
    let mut text = String::new();
    for row in 0..rows.num_rows() {
        let mut line = Map::new();
        for (field, column) in schema.fields().iter().zip(rows.columns()) {
            line.insert(field.name().clone(), cell(field.name(), column, row)?);
        }
        text.push_str(&Value::Object(line).to_string());
        text.push('\n');
    }
    Ok(text)
}

fn cell(name: &str, column: &ArrayRef, row: usize) -> Result<Value> {
    if column.is_null(row) {
        return Ok(Value::Null);
    }
    Ok(match column.data_type() {
        DataType::Boolean => column.as_boolean().value(row).into(),
        DataType::Int64 => column.as_primitive::<Int64Type>().value(row).into(),
        DataType::Float64 => column.as_primitive::<Float64Type>().value(row).into(),
        DataType::Utf8 => column.as_string::<i32>().value(row).into(),
        DataType::Timestamp(TimeUnit::Nanosecond, Some(_)) => {
            let nanos = column.as_primitive::<TimestampNanosecondType>().value(row);
            Timestamp::from_nanos(nanos).to_string().into()
        }
        other => return Err(Error::invalid(format!("column `{name}`: {other} in JSON lines"))),
    })
}
