//! Aggregates over the last so many seconds, exact at each probe's own instant.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch};
use arrow::datatypes::Float64Type;
use kaizen_core::{Context, Error, ErrorKind, Result};
use kaizen_stats::ExactSum;
use kaizen_table::{Aggregate, FeatureView, Value, Window};
use rayon::prelude::*;

use super::layout::Layout;
use super::timeline::{PARALLEL_FROM, Probe, Timelines, nanos};
use crate::typed::typed;
use crate::within::Within;

/// The window features of a view, by their place in it: a column each, with an element per probe.
/// `values` are the slots of the layout, with an element per row of the timelines.
pub(crate) fn columns(
    view: &FeatureView,
    layout: &Layout,
    timelines: &Timelines,
    values: &[ArrayRef],
    probes: &[Probe],
) -> Result<BTreeMap<usize, ArrayRef>> {
    let mut order = None;
    let mut tallies: BTreeMap<(usize, u32), Tallies> = BTreeMap::new();
    let mut columns = BTreeMap::new();
    for (place, feature) in view.features().iter().enumerate() {
        let Value::Window(Window { aggregate, seconds, .. }) = &feature.value else { continue };
        let slot = layout.slot(place);
        let order = order.get_or_insert_with(|| by_entity(probes));
        let tally = tallies.entry((slot, *seconds)).or_insert_with(|| {
            let values = values[slot].as_primitive::<Float64Type>();
            tally(timelines, values, nanos(*seconds), probes, order)
        });
        let column = aggregated(*aggregate, tally)
            .within(format!("feature `{}`", feature.field.name))
            .and_then(|values| as_declared(values, &feature.field))?;
        columns.insert(place, column);
    }
    Ok(columns)
}

fn aggregated(aggregate: Aggregate, tallies: &Tallies) -> Result<ArrayRef> {
    let pairs = || tallies.count.iter().zip(&tallies.sum);
    Ok(match aggregate {
        Aggregate::Count => Arc::new(Int64Array::from(tallies.count.clone())),
        Aggregate::Sum => Arc::new(
            pairs().map(|(count, sum)| (*count > 0).then_some(*sum)).collect::<Float64Array>(),
        ),
        Aggregate::Mean => Arc::new(
            pairs()
                .map(|(count, sum)| (*count > 0).then(|| sum / *count as f64))
                .collect::<Float64Array>(),
        ),
        other => {
            return Err(Error::new(ErrorKind::Unsupported, format!("aggregate {other:?}")));
        }
    })
}

/// A definition read from JSON may declare a count as a float, or a sum as an integer.
fn as_declared(values: ArrayRef, field: &kaizen_core::Field) -> Result<ArrayRef> {
    let only = RecordBatch::try_from_iter([(field.name.as_str(), values)])
        .context(ErrorKind::Internal, "window")?;
    typed(&only, &field.name, field.data_type)
}

/// What a window of one column holds at each probe.
#[derive(Debug)]
pub(crate) struct Tallies {
    /// How many values.
    pub(crate) count: Vec<i64>,
    /// Their sum, rounded once.
    pub(crate) sum: Vec<f64>,
}

/// The probes ordered by entity, then by instant.
pub(crate) fn by_entity(probes: &[Probe]) -> Vec<u32> {
    let mut order: Vec<u32> = (0..probes.len() as u32).collect();
    let key = |index: &u32| {
        let probe = probes[*index as usize];
        (probe.entity, probe.at, *index)
    };
    if order.len() < PARALLEL_FROM {
        order.sort_unstable_by_key(key);
    } else {
        order.par_sort_unstable_by_key(key);
    }
    order
}

/// Aggregates, for every probe, the values of the rows that it sees and that happened less than
/// `length` nanoseconds before it. `values` has one element per row of the source; `order` is
/// [`by_entity`] of the probes.
///
/// One sweep per entity: with the instant moving forward, a row enters when it becomes known,
/// unless it is too old by then, and leaves when it is. Each row enters and leaves once.
pub(crate) fn tally(
    timelines: &Timelines,
    values: &Float64Array,
    length: u64,
    probes: &[Probe],
    order: &[u32],
) -> Tallies {
    let same = |a: &u32, b: &u32| probes[*a as usize].entity == probes[*b as usize].entity;
    let sweep = |run: &[u32]| {
        let mut sweep = Sweep::new(timelines, values, length, probes[run[0] as usize].entity);
        run.iter().map(|index| sweep.advance(probes[*index as usize].at)).collect::<Vec<_>>()
    };
    let swept: Vec<Vec<(i64, f64)>> = match order.len() < PARALLEL_FROM {
        true => order.chunk_by(same).map(sweep).collect(),
        false => order.par_chunk_by(same).map(sweep).collect(),
    };
    let mut tallies = Tallies { count: vec![0; probes.len()], sum: vec![0.0; probes.len()] };
    for (index, (count, sum)) in order.iter().zip(swept.into_iter().flatten()) {
        tallies.count[*index as usize] = count;
        tallies.sum[*index as usize] = sum;
    }
    tallies
}

/// The window of one entity, moving forward.
struct Sweep<'a> {
    timelines: &'a Timelines,
    values: &'a Float64Array,
    length: u64,
    /// The next position to enter, in the order of becoming known.
    entering: usize,
    /// The next place to leave, in the order of event times.
    leaving: usize,
    end: usize,
    /// The instant at which the window stands.
    now: Option<i64>,
    count: i64,
    sum: ExactSum,
}

impl<'a> Sweep<'a> {
    fn new(
        timelines: &'a Timelines,
        values: &'a Float64Array,
        length: u64,
        entity: Option<u32>,
    ) -> Self {
        let range = timelines.positions(entity);
        Self {
            timelines,
            values,
            length,
            entering: range.start,
            leaving: range.start,
            end: range.end,
            now: None,
            count: 0,
            sum: ExactSum::default(),
        }
    }

    /// Moves to an instant that is not before the last one; gives count and sum there.
    fn advance(&mut self, at: i64) -> (i64, f64) {
        self.leave(at);
        self.enter(at);
        self.now = Some(at);
        (self.count, self.sum.value())
    }

    fn leave(&mut self, at: i64) {
        while self.leaving < self.end {
            let position = self.timelines.by_event(self.leaving);
            let event = self.timelines.event(position);
            if event > at || at.abs_diff(event) < self.length {
                break;
            }
            // Only what had become known by the last instant is in the window; the rest is too old
            // before it could enter.
            if self.now.is_some_and(|now| self.timelines.known_at(position) <= now) {
                self.apply(position, -1);
            }
            self.leaving += 1;
        }
    }

    fn enter(&mut self, at: i64) {
        while self.entering < self.end && self.timelines.known_at(self.entering) <= at {
            if at.abs_diff(self.timelines.event(self.entering)) < self.length {
                self.apply(self.entering, 1);
            }
            self.entering += 1;
        }
    }

    fn apply(&mut self, position: usize, sign: i64) {
        let row = self.timelines.row(position);
        if self.values.is_null(row) {
            return;
        }
        let value = self.values.value(row);
        self.count += sign;
        if sign > 0 {
            self.sum.add(value);
        } else {
            self.sum.subtract(value);
        }
    }
}
