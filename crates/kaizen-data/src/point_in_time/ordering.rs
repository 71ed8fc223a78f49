//! The order of a source's rows, which several views share.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, TimestampNanosecondArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{
    DataType as ArrowType, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampSecondType,
};
use kaizen_core::{Digest, Error, ErrorKind, Result};
use kaizen_table::{FeatureView, Known, column, instants};
use rayon::prelude::*;
use serde::Serialize;

use super::timeline::{Knowledge, Moment, Probe, Timelines, nanos};
use crate::keys::{KeyTypes, NOBODY, Ranks};
use crate::within::Within;

/// So many instants at once are worth a thread.
const INSTANTS_PER_TASK: usize = 16_384;

/// The rows of a source in the order in which questions are answered: by entity, then by when they
/// became known.
///
/// It depends on the rows and, of a view, on the source, the keys, the event time and when rows
/// become known. Views that agree in these share it, and it can be kept in a file.
#[derive(Clone, Debug)]
pub struct Ordering {
    pub(super) definition: Digest,
    pub(super) key_types: KeyTypes,
    pub(super) ranks: Arc<Ranks>,
    pub(super) timelines: Timelines,
    pub(super) rows: u32,
}

/// What of a view an order depends on.
#[derive(Serialize)]
struct Definition<'a> {
    source: &'a str,
    keys: &'a [String],
    event_time: &'a str,
    known: &'a Known,
}

impl Ordering {
    /// Orders a source's rows, of which it needs the view's keys, event time and known-at column.
    ///
    /// [`ErrorKind::Limit`] from 2^32 - 1 rows on.
    pub fn new(view: &FeatureView, source: &RecordBatch) -> Result<Self> {
        let place = || format!("view `{}`, source `{}`", view.name(), view.source());
        Self::build(view, source).within(place())
    }

    /// The digest of what an order for this view depends on, besides the rows.
    pub fn definition(view: &FeatureView) -> Result<Digest> {
        Digest::of_json(&Definition {
            source: view.source(),
            keys: view.keys(),
            event_time: view.event_time(),
            known: view.known(),
        })
    }

    /// How many rows it orders.
    pub fn rows(&self) -> u64 {
        u64::from(self.rows)
    }

    /// How many rows of the source nobody can see, for want of an event time or a key.
    pub fn ignored(&self) -> u64 {
        u64::from(self.rows) - self.timelines.rows.len() as u64
    }

    pub(super) fn build(view: &FeatureView, source: &RecordBatch) -> Result<Self> {
        let Some(rows) = u32::try_from(source.num_rows()).ok().filter(|rows| *rows < NOBODY) else {
            let rows = source.num_rows();
            return Err(Error::new(ErrorKind::Limit, format!("{rows} rows, over 2^32 - 2")));
        };
        let key_types = KeyTypes::of(source, view.keys())?;
        let (ranks, mut entity) = Ranks::of(&key_types.cells(source)?);
        let event = nanoseconds(source, view.event_time())?;
        if event.null_count() > 0 {
            let timeless = (0..event.len()).filter(|row| event.is_null(*row));
            timeless.for_each(|row| entity[row] = NOBODY);
        }
        let known = view.known().column().map(|name| nanoseconds(source, name)).transpose()?;
        let entities = ranks.len();
        let timelines = match (view.known(), &known) {
            (Known::After { seconds }, _) => {
                let knowledge = Knowledge::After(nanos(*seconds));
                Timelines::of(&entity, entities, event.values(), &knowledge)
            }
            (_, None) => Timelines::of(&entity, entities, event.values(), &Knowledge::After(0)),
            (rule, Some(column)) => {
                let known_at = known_at(rule, &event, column);
                let (column, valid) = (column.values().as_ref(), column.nulls());
                let knowledge = Knowledge::Each { known_at: &known_at, column, valid };
                Timelines::of(&entity, entities, event.values(), &knowledge)
            }
        };
        let ordering = Self {
            definition: Self::definition(view)?,
            key_types,
            ranks: Arc::new(ranks),
            timelines,
            rows,
        };
        let (view, ignored) = (view.name(), ordering.ignored());
        tracing::debug!(view, rows, entities, ignored, "ordered");
        Ok(ordering)
    }

    /// The questions that rows ask, at the instants in their column `time`.
    pub(super) fn probes(&self, rows: &RecordBatch, time: &str) -> Result<Vec<Probe>> {
        let entity = self.ranks.find(&self.key_types.cells(rows)?);
        probes(entity, rows, time)
    }
}

fn known_at(
    rule: &Known,
    event: &TimestampNanosecondArray,
    column: &TimestampNanosecondArray,
) -> Vec<i64> {
    let valid: Option<&NullBuffer> = column.nulls();
    let known_at = |row: usize| {
        let said = valid.is_none_or(|valid| valid.is_valid(row)).then(|| column.value(row));
        Moment::new(rule, event.value(row), said).known_at
    };
    let rows = (0..event.len()).into_par_iter().with_min_len(INSTANTS_PER_TASK);
    rows.map(known_at).collect()
}

/// The questions that rows ask, at the instants in their column `time`.
pub(crate) fn probes(
    entity: Vec<Option<u32>>,
    rows: &RecordBatch,
    time: &str,
) -> Result<Vec<Probe>> {
    let at = nanoseconds(rows, time)?;
    if at.null_count() > 0
        && let Some(row) = (0..at.len()).find(|row| at.is_null(*row))
    {
        return Err(Error::invalid(format!("column `{time}`: row {row} has no instant")));
    }
    let probe = |(entity, at): (Option<u32>, &i64)| Probe { entity, at: *at };
    if entity.len() < INSTANTS_PER_TASK {
        return Ok(entity.into_iter().zip(at.values()).map(probe).collect());
    }
    let questions = entity.into_par_iter().zip(at.values().par_iter());
    Ok(questions.with_min_len(INSTANTS_PER_TASK).map(probe).collect())
}

/// [`instants`], on all threads where that is simple.
fn nanoseconds(batch: &RecordBatch, name: &str) -> Result<TimestampNanosecondArray> {
    let found = column(batch, name)?;
    let (values, factor) = match found.data_type() {
        ArrowType::Timestamp(TimeUnit::Second, Some(_)) => (second(found), 1_000_000_000),
        ArrowType::Timestamp(TimeUnit::Millisecond, Some(_)) => (milli(found), 1_000_000),
        ArrowType::Timestamp(TimeUnit::Microsecond, Some(_)) => (micro(found), 1_000),
        _ => return instants(batch, name),
    };
    let most = i64::MAX / factor;
    let chunks = values.par_chunks(INSTANTS_PER_TASK);
    let fits =
        |chunk: &[i64]| chunk.iter().fold(true, |fits, at| fits & (-most..=most).contains(at));
    if !chunks.map(fits).reduce(|| true, |a, b| a & b) {
        return instants(batch, name);
    }
    let scaled = values.par_iter().with_min_len(INSTANTS_PER_TASK).map(|at| at * factor);
    let scaled: Vec<i64> = scaled.collect();
    let nulls = found.nulls().cloned();
    Ok(TimestampNanosecondArray::new(scaled.into(), nulls).with_timezone("UTC"))
}

fn second(values: &ArrayRef) -> &[i64] {
    values.as_primitive::<TimestampSecondType>().values()
}

fn milli(values: &ArrayRef) -> &[i64] {
    values.as_primitive::<TimestampMillisecondType>().values()
}

fn micro(values: &ArrayRef) -> &[i64] {
    values.as_primitive::<TimestampMicrosecondType>().values()
}
