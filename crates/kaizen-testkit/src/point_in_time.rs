//! The oracle of the point-in-time join: every row asked of every row of the source.
//!
//! It says what `docs/point-in-time.md` says, in the same order and without a thought for speed, so
//! that it can be checked by reading. Instants are added in 128 bits, so nothing wraps.

mod aggregate;
mod agreement;
mod key;

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray,
    TimestampNanosecondArray, UInt32Array,
};
use arrow::compute::{cast, take};
use arrow::datatypes::{DataType as ArrowType, Field, Float64Type, Int64Type, Schema};
use kaizen_core::record::Coverage;
use kaizen_core::{Context, Error, ErrorKind, Result};
use kaizen_table::{FeatureView, Known, Value, Window, arrow_type, column, instants};

pub use agreement::assert_agree;

use aggregate::{Item, aggregate};

const SECOND: i128 = 1_000_000_000;

/// The features of a view for each row of the spine, as of the instant in its column `time`: one
/// column per feature, one row per row of the spine.
///
/// Approximate aggregates get their exact answer; [`assert_agree`] allows them their bound. Sums
/// are plain additions and the standard deviation two passes: give it values for which these are
/// exact or nearly, such as whole numbers.
pub fn oracle(
    view: &FeatureView,
    source: &RecordBatch,
    spine: &RecordBatch,
    time: &str,
) -> Result<RecordBatch> {
    let questions = questions(view, source, spine, time)?;
    let mut fields = Vec::new();
    let mut columns: Vec<ArrayRef> = Vec::new();
    for feature in view.features() {
        let data_type = arrow_type(feature.field.data_type)?;
        let values = match &feature.value {
            Value::Column(name) => {
                let latest: UInt32Array =
                    questions.iter().map(|asked| asked.latest(view.ttl_seconds())).collect();
                let values = as_type(column(source, name)?, &data_type)?;
                take(&values, &latest, None).context(ErrorKind::Internal, "oracle")?
            }
            Value::Window(window) => windows(window, source, &questions, &data_type)?,
        };
        columns.push(values);
        fields.push(Field::new(&feature.field.name, data_type, true));
    }
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(spine.num_rows()));
    RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)
        .context(ErrorKind::Internal, "oracle")
}

/// How the view answers the rows of the spine.
pub fn coverage(
    view: &FeatureView,
    source: &RecordBatch,
    spine: &RecordBatch,
    time: &str,
) -> Result<Coverage> {
    let mut coverage = Coverage::default();
    for asked in questions(view, source, spine, time)? {
        match asked.latest(None) {
            None => coverage.unknown += 1,
            Some(_) if asked.latest(view.ttl_seconds()).is_none() => coverage.expired += 1,
            Some(_) => coverage.found += 1,
        }
        coverage.hidden += u64::from(asked.hidden);
    }
    let keys = key::keys(view.keys(), source)?;
    let event = instants(source, view.event_time())?;
    let ignored = |row: &usize| keys[*row].is_none() || event.is_null(*row);
    coverage.ignored = (0..source.num_rows()).filter(ignored).count() as u64;
    Ok(coverage)
}

/// A row of the spine, with the rows of the source that it sees.
struct Question {
    /// The instant as of which it asks.
    at: i128,
    /// What it sees, in the source's order.
    seen: Vec<Row>,
    /// Whether something had happened that was not known yet.
    hidden: bool,
}

/// A row of the source that has a key and an event time.
#[derive(Clone, Copy)]
struct Row {
    /// Its place in the source.
    place: usize,
    event: i128,
    /// What its known-at column says.
    known: Option<i128>,
    /// The first instant at which it may be seen.
    known_at: i128,
}

fn questions(
    view: &FeatureView,
    source: &RecordBatch,
    spine: &RecordBatch,
    time: &str,
) -> Result<Vec<Question>> {
    let rows = rows(view, source)?;
    let source_keys = key::keys(view.keys(), source)?;
    let spine_keys = key::keys(view.keys(), spine)?;
    let asked_at = instants(spine, time)?;
    let question = |asked: usize| {
        let at = instant(&asked_at, asked).ok_or_else(|| {
            Error::invalid(format!("column `{time}`: row {asked} has no instant"))
        })?;
        // A missing key is equal to none, not even to another missing one.
        let own =
            |row: &&Row| spine_keys[asked].is_some() && spine_keys[asked] == source_keys[row.place];
        let happened: Vec<Row> =
            rows.iter().filter(own).filter(|row| row.event <= at).copied().collect();
        let hidden = happened.iter().any(|row| row.known_at > at);
        let seen = happened.into_iter().filter(|row| row.known_at <= at).collect();
        Ok(Question { at, seen, hidden })
    };
    (0..spine.num_rows()).map(question).collect()
}

/// The rows of the source that have an event time.
fn rows(view: &FeatureView, source: &RecordBatch) -> Result<Vec<Row>> {
    let event = instants(source, view.event_time())?;
    let known = view.known().column().map(|name| instants(source, name)).transpose()?;
    let row = |place: usize| {
        let event = instant(&event, place)?;
        let known = known.as_ref().and_then(|known| instant(known, place));
        let known_at = known_at(view.known(), event, known);
        Some(Row { place, event, known, known_at })
    };
    Ok((0..source.num_rows()).filter_map(row).collect())
}

/// When a row that happened at `event`, and whose known-at column says `known`, became known.
fn known_at(rule: &Known, event: i128, known: Option<i128>) -> i128 {
    match rule {
        Known::AtEvent => event,
        // What would be known after the last instant there is, is known at that instant.
        Known::After { seconds } => (event + seconds_of(*seconds)).min(i128::from(i64::MAX)),
        Known::Column(_) => known.unwrap_or(event).max(event),
        Known::Backfilled { until: None, .. } => event,
        Known::Backfilled { until: Some(until), .. } => match known {
            Some(known) if known > i128::from(until.micros()) * 1_000 => known.max(event),
            _ => event,
        },
    }
}

impl Question {
    /// The place of the latest row by event time, then by known-at column (a missing one is below
    /// all), then by the source's order, unless it is older than the TTL.
    fn latest(&self, ttl_seconds: Option<u32>) -> Option<u32> {
        let latest = self.seen.iter().max_by_key(|row| (row.event, row.known, row.place))?;
        let age = self.at - latest.event;
        let kept = ttl_seconds.is_none_or(|ttl| age <= seconds_of(ttl));
        kept.then_some(latest.place as u32)
    }

    /// The places of the rows in a window, from the earliest to the latest.
    fn within(&self, window: &Window) -> Vec<usize> {
        let mut begin = self.at - seconds_of(window.seconds);
        if let Some(hop) = window.hop_seconds.map(seconds_of) {
            begin = begin.div_euclid(hop) * hop;
        }
        let mut rows: Vec<&Row> = self.seen.iter().filter(|row| row.event > begin).collect();
        rows.sort_by_key(|row| (row.event, row.known, row.place));
        rows.into_iter().map(|row| row.place).collect()
    }
}

fn windows(
    window: &Window,
    source: &RecordBatch,
    questions: &[Question],
    output: &ArrowType,
) -> Result<ArrayRef> {
    let values = as_type(column(source, &window.column)?, &arrow_type(window.holds)?)?;
    let items = items(&values)?;
    let answer = |asked: &Question| {
        let inside = asked.within(window);
        let inside: Vec<Item> = inside.into_iter().filter_map(|row| items[row].clone()).collect();
        aggregate(window.aggregate, &inside)
    };
    let answers: Vec<Option<Item>> = questions.iter().map(answer).collect::<Result<_>>()?;
    column_of(&answers, output)
}

/// The values of a column; missing ones, and NaN, are none.
fn items(values: &ArrayRef) -> Result<Vec<Option<Item>>> {
    Ok(match values.data_type() {
        ArrowType::Boolean => values.as_boolean().iter().map(|v| v.map(Item::Flag)).collect(),
        ArrowType::Int64 => {
            values.as_primitive::<Int64Type>().iter().map(|v| v.map(Item::Whole)).collect()
        }
        ArrowType::Float64 => {
            let number = |value: Option<f64>| value.filter(|v| !v.is_nan()).map(Item::Number);
            values.as_primitive::<Float64Type>().iter().map(number).collect()
        }
        ArrowType::Utf8 => {
            let text = |value: Option<&str>| value.map(|text| Item::Text(text.to_owned()));
            values.as_string::<i32>().iter().map(text).collect()
        }
        other => return Err(Error::new(ErrorKind::Unsupported, format!("window of {other}"))),
    })
}

fn column_of(answers: &[Option<Item>], output: &ArrowType) -> Result<ArrayRef> {
    let each = answers.iter().map(Option::as_ref);
    Ok(match output {
        ArrowType::Boolean => {
            Arc::new(each.map(|a| a.and_then(Item::flag)).collect::<BooleanArray>())
        }
        ArrowType::Int64 => Arc::new(each.map(|a| a.and_then(Item::whole)).collect::<Int64Array>()),
        ArrowType::Float64 => {
            Arc::new(each.map(|a| a.and_then(Item::number)).collect::<Float64Array>())
        }
        ArrowType::Utf8 => Arc::new(each.map(|a| a.and_then(Item::text)).collect::<StringArray>()),
        other => return Err(Error::new(ErrorKind::Unsupported, format!("window to {other}"))),
    })
}

fn as_type(values: &ArrayRef, wanted: &ArrowType) -> Result<ArrayRef> {
    cast(values, wanted).context(ErrorKind::Invalid, "oracle")
}

fn instant(values: &TimestampNanosecondArray, row: usize) -> Option<i128> {
    values.is_valid(row).then(|| i128::from(values.value(row)))
}

fn seconds_of(seconds: u32) -> i128 {
    i128::from(seconds) * SECOND
}
