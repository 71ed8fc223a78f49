//! The oracle of the point-in-time join: every row asked of every row of the source.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, Float64Array, Int64Array, RecordBatch, TimestampNanosecondArray, UInt32Array,
};
use arrow::compute::{cast, take};
use arrow::datatypes::{Field, Schema};
use arrow::util::display::array_value_to_string;
use kaizen_core::{Context, Error, ErrorKind, Result};
use kaizen_table::{
    Aggregate, FeatureView, Known, Value, Window, arrow_type, column, instants, numbers,
};

const SECOND: i128 = 1_000_000_000;

/// The features of a view for each row of the spine, as of the instant in its column `time`: one
/// column per feature, one row per row of the spine.
///
/// It compares every row of the spine with every row of the source and does nothing clever, so that
/// it can be checked by reading. Keys are compared as text; they are integers, booleans, dates or
/// text. Sums are plain additions in the source's order: give it values whose sums are exact, such
/// as whole numbers.
pub fn oracle(
    view: &FeatureView,
    source: &RecordBatch,
    spine: &RecordBatch,
    time: &str,
) -> Result<RecordBatch> {
    let source_keys = keys(view, source)?;
    let spine_keys = keys(view, spine)?;
    let asked_at = instants(spine, time)?;
    let event = instants(source, view.event_time())?;
    let known = view.known().column().map(|name| instants(source, name)).transpose()?;
    let rows = |asked: usize| -> Vec<Seen> {
        let at = i128::from(asked_at.value(asked));
        (0..source.num_rows())
            .filter(|row| source_keys[*row].iter().all(Option::is_some))
            .filter(|row| source_keys[*row] == spine_keys[asked])
            .filter_map(|row| Seen::new(view, row, &event, known.as_ref()))
            .filter(|seen| seen.event <= at && seen.known_at <= at)
            .collect()
    };
    let seen: Vec<Vec<Seen>> = (0..spine.num_rows()).map(rows).collect();
    let mut fields = Vec::new();
    let mut columns: Vec<ArrayRef> = Vec::new();
    for feature in view.features() {
        let data_type = arrow_type(feature.field.data_type)?;
        let values = match &feature.value {
            Value::Column(name) => {
                let values = column(source, name)?;
                let latest = seen.iter().zip(&asked_at).map(|(seen, at)| latest(view, seen, at?));
                let latest: UInt32Array = latest.collect();
                take(values, &latest, None).context(ErrorKind::Internal, "oracle")?
            }
            Value::Window(Window { aggregate, column, seconds, .. }) => {
                let values = numbers(source, column)?;
                let each = seen.iter().zip(&asked_at).map(|(seen, at)| {
                    let at = i128::from(at?);
                    let inside = seen.iter().filter(|row| row.event > at - seconds_of(*seconds));
                    let inside = inside.filter(|row| values.is_valid(row.row));
                    Some(inside.map(|row| values.value(row.row)).collect::<Vec<f64>>())
                });
                aggregated(*aggregate, each.collect())?
            }
        };
        columns.push(cast(&values, &data_type).context(ErrorKind::Invalid, "oracle")?);
        fields.push(Field::new(&feature.field.name, data_type, true));
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
        .context(ErrorKind::Internal, "oracle")
}

/// A row of the source that has happened, with when.
struct Seen {
    row: usize,
    event: i128,
    /// What its known-at column says.
    known: Option<i128>,
    known_at: i128,
}

impl Seen {
    fn new(
        view: &FeatureView,
        row: usize,
        event: &TimestampNanosecondArray,
        known: Option<&TimestampNanosecondArray>,
    ) -> Option<Self> {
        let at = |values: &TimestampNanosecondArray| {
            values.is_valid(row).then(|| i128::from(values.value(row)))
        };
        let event = at(event)?;
        let known = known.and_then(at);
        let known_at = match view.known() {
            Known::AtEvent => event,
            Known::After { seconds } => event + seconds_of(*seconds),
            Known::Column(_) => known.unwrap_or(event).max(event),
            Known::Backfilled { until, .. } => match (known, until) {
                (Some(known), Some(until)) if known > i128::from(until.micros()) * 1_000 => {
                    known.max(event)
                }
                _ => event,
            },
        };
        Some(Self { row, event, known, known_at })
    }
}

/// The latest row by event time, then by known-at column, then by the source's order, unless it is
/// older than the TTL.
fn latest(view: &FeatureView, seen: &[Seen], at: i64) -> Option<u32> {
    let latest = seen.iter().max_by_key(|row| (row.event, row.known, row.row))?;
    let age = i128::from(at) - latest.event;
    let kept = view.ttl_seconds().is_none_or(|ttl| age <= seconds_of(ttl));
    kept.then_some(latest.row as u32)
}

fn aggregated(aggregate: Aggregate, windows: Vec<Option<Vec<f64>>>) -> Result<ArrayRef> {
    let windows = windows.into_iter().map(Option::unwrap_or_default);
    let number =
        |of: fn(&[f64]) -> f64| move |values: Vec<f64>| (!values.is_empty()).then(|| of(&values));
    match aggregate {
        Aggregate::Count => {
            Ok(Arc::new(windows.map(|values| Some(values.len() as i64)).collect::<Int64Array>()))
        }
        Aggregate::Sum => {
            let sum = number(|values| values.iter().fold(0.0, |sum, value| sum + value));
            Ok(Arc::new(windows.map(sum).collect::<Float64Array>()))
        }
        Aggregate::Mean => {
            let mean = number(|values| {
                values.iter().fold(0.0, |sum, value| sum + value) / values.len() as f64
            });
            Ok(Arc::new(windows.map(mean).collect::<Float64Array>()))
        }
        other => Err(Error::new(ErrorKind::Unsupported, format!("aggregate {other:?}"))),
    }
}

/// The keys of each row, as text; a missing one stays missing.
fn keys(view: &FeatureView, rows: &RecordBatch) -> Result<Vec<Vec<Option<String>>>> {
    let key = |name: &String, row: usize| {
        let values = column(rows, name)?;
        let text = array_value_to_string(values, row).context(ErrorKind::Internal, "oracle")?;
        Ok(values.is_valid(row).then_some(text))
    };
    let row = |row: usize| view.keys().iter().map(|name| key(name, row)).collect();
    (0..rows.num_rows()).map(row).collect()
}

fn seconds_of(seconds: u32) -> i128 {
    i128::from(seconds) * SECOND
}
