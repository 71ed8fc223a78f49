//! Aggregates over the last so many seconds, exact at each probe's own instant.
//!
//! One sweep per entity answers all windows of a view: with the instant moving forward, a row
//! enters each window when it becomes known, unless it is too old by then, and leaves it when it
//! is. Windows of one column, length and hop share what they count.
//!
//! What is found is written by question as the sweep asks, entity by entity, a column per
//! aggregate; then each column is brought into the order of the probes. So little more is in
//! memory at once than the answer.

mod codes;
mod extremes;
mod questions;
mod ranges;
mod states;
mod sweep;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch, UInt32Array};
use arrow::buffer::{BooleanBuffer, Buffer, NullBuffer, ScalarBuffer};
use arrow::compute::take;
use kaizen_core::{Context, ErrorKind, Result};
use kaizen_table::{Aggregate, FeatureView, Value, Window};
use rayon::prelude::*;

use super::grouping;
use super::layout::Layout;
use super::timeline::{PARALLEL_FROM, Probe, Timelines};
use crate::typed::typed;
use crate::within::Within;
use questions::Questions;
use sweep::Sweep;

/// So many cells at once are worth a thread.
const CELLS_PER_TASK: usize = 16_384;

/// What an aggregate that is missing has as a cell: a NaN that no sum is, and no row's number.
const MISSING: u64 = 0x7ffc_6b61_697a_656e;

/// Windows of one column, length and hop.
#[derive(Debug)]
struct Group {
    slot: usize,
    /// One of them, for where they begin.
    window: Window,
    /// What is asked of them; each has a cell in the answer of a probe, from `first_cell` on. A
    /// mean has none where there are a sum and a count, of which it is made.
    aggregates: Vec<Aggregate>,
    first_cell: usize,
}

/// The windows of a view, each distinct one once.
#[derive(Debug, Default)]
struct Groups {
    groups: Vec<Group>,
    /// How many cells the answer of a probe has.
    width: usize,
}

impl Groups {
    fn of(windows: &[(usize, usize, &Window)]) -> Self {
        let mut groups: Vec<Group> = Vec::new();
        for (_, slot, window) in windows {
            let found = groups.iter_mut().find(|group| group.has(*slot, window));
            match found {
                Some(group) if group.aggregates.contains(&window.aggregate) => {}
                Some(group) => group.aggregates.push(window.aggregate),
                None => groups.push(Group {
                    slot: *slot,
                    window: (*window).clone(),
                    aggregates: vec![window.aggregate],
                    first_cell: 0,
                }),
            }
        }
        let mut width = 0;
        for group in &mut groups {
            let has = |aggregate| group.aggregates.contains(&aggregate);
            if has(Aggregate::Sum) && has(Aggregate::Count) {
                group.aggregates.retain(|aggregate| *aggregate != Aggregate::Mean);
            }
            group.first_cell = width;
            width += group.aggregates.len();
        }
        Self { groups, width }
    }

    /// The cell of an aggregate over this window.
    fn cell(&self, slot: usize, window: &Window, aggregate: Aggregate) -> Option<usize> {
        let group = self.groups.iter().find(|group| group.has(slot, window))?;
        let place = group.aggregates.iter().position(|known| *known == aggregate)?;
        Some(group.first_cell + place)
    }

    /// What the cells hold, and of which slot.
    fn cells(&self) -> impl Iterator<Item = (Aggregate, usize)> {
        let of_group = |group: &'_ Group| {
            let slot = group.slot;
            group.aggregates.clone().into_iter().map(move |aggregate| (aggregate, slot))
        };
        self.groups.iter().flat_map(of_group)
    }
}

impl Group {
    fn has(&self, slot: usize, window: &Window) -> bool {
        let same =
            |a: &Window, b: &Window| (a.seconds, a.hop_seconds) == (b.seconds, b.hop_seconds);
        self.slot == slot && same(&self.window, window)
    }
}

/// The window features of a view that `given` does not have, by their place in it: a column each,
/// with an element per probe. `values` are the slots of the layout, with an element per row of the
/// timelines.
pub(crate) fn columns(
    view: &FeatureView,
    layout: &Layout,
    timelines: &Timelines,
    values: &[ArrayRef],
    probes: &[Probe],
    given: &BTreeMap<usize, ArrayRef>,
) -> Result<BTreeMap<usize, ArrayRef>> {
    let wanted = |(place, feature): (usize, &kaizen_table::Feature)| match &feature.value {
        Value::Window(_) if given.contains_key(&place) => None,
        Value::Window(_) => Some(place),
        Value::Column(_) => None,
    };
    let places: Vec<usize> = view.features().iter().enumerate().filter_map(wanted).collect();
    let windows = places.iter().filter_map(|place| match &view.features()[*place].value {
        Value::Window(window) => Some((*place, layout.slot(*place), window)),
        Value::Column(_) => None,
    });
    let windows: Vec<(usize, usize, &Window)> = windows.collect();
    if windows.is_empty() {
        return Ok(BTreeMap::new());
    }
    let groups = Groups::of(&windows);
    let found = answers(&groups, timelines, values, probes)?;
    let mut columns = BTreeMap::new();
    for (place, slot, window) in windows {
        let field = &view.features()[place].field;
        let name = || format!("feature `{}`", field.name);
        let cell = |aggregate| groups.cell(slot, window, aggregate).map(|cell| &found[cell]);
        let column = match cell(window.aggregate) {
            Some(column) => Arc::clone(column),
            None => {
                let parts = cell(Aggregate::Sum).zip(cell(Aggregate::Count));
                let (sums, counts) = parts.context(ErrorKind::Internal, name())?;
                means(sums.as_primitive(), counts.as_primitive())
            }
        };
        columns.insert(place, as_declared(column, field).within(name())?);
    }
    Ok(columns)
}

/// A column per cell, with an element per probe.
fn answers(
    groups: &Groups,
    timelines: &Timelines,
    values: &[ArrayRef],
    probes: &[Probe],
) -> Result<Vec<ArrayRef>> {
    let questions = Questions::of(probes, timelines.entities());
    let sweep = || swept(groups, timelines, values, &questions);
    let (cells, ranks) = match probes.len() < PARALLEL_FROM {
        true => (sweep()?, questions.ranks()),
        false => {
            let (cells, ranks) = rayon::join(sweep, || questions.ranks());
            (cells?, ranks)
        }
    };
    drop(questions);
    let mut spare = Vec::new();
    let mut arrays = Vec::with_capacity(groups.width);
    for (mut cells, (aggregate, slot)) in cells.into_iter().zip(groups.cells()) {
        let missing = match &ranks {
            Some(ranks) => arrange(&mut cells, &mut spare, ranks),
            None => cells.contains(&MISSING),
        };
        arrays.push(array(aggregate, cells, missing, &values[slot])?);
    }
    Ok(arrays)
}

/// The cells of every question, a column per cell, in the order of the questions.
fn swept(
    groups: &Groups,
    timelines: &Timelines,
    values: &[ArrayRef],
    questions: &Questions,
) -> Result<Vec<Vec<u64>>> {
    let count = questions.order.len();
    let mut cells: Vec<Vec<u64>> = (0..groups.width).map(|_| vec![0; count]).collect();
    for (cells, (aggregate, _)) in cells.iter_mut().zip(groups.cells()) {
        if !is_count(aggregate) {
            // Of nobody nothing is known.
            cells[questions.instants.len()..].fill(MISSING);
        }
    }
    let parts = if count < PARALLEL_FROM { 1 } else { rayon::current_num_threads() * 16 };
    let ranges = grouping::ranges(&questions.starts, parts);
    let mut rests: Vec<&mut [u64]> = cells.iter_mut().map(Vec::as_mut_slice).collect();
    let mut pieces = Vec::with_capacity(ranges.len());
    for range in ranges {
        let length = (questions.starts[range.end] - questions.starts[range.start]) as usize;
        let mut own = Vec::with_capacity(rests.len());
        for rest in &mut rests {
            let (piece, tail) = std::mem::take(rest).split_at_mut(length);
            own.push(piece);
            *rest = tail;
        }
        pieces.push((range, own));
    }
    let of_piece = |(range, mut cells): (Range<usize>, Vec<&mut [u64]>)| -> Result<()> {
        let mut sweep = Sweep::new(groups, timelines, values)?;
        let base = questions.starts[range.start] as usize;
        for place in range {
            let own = questions.starts[place] as usize..questions.starts[place + 1] as usize;
            let instants = &questions.instants[own.clone()];
            let mut cells: Vec<&mut [u64]> = cells
                .iter_mut()
                .map(|cells| &mut cells[own.start - base..own.end - base])
                .collect();
            sweep.run(questions.entities[place], instants, &mut cells);
        }
        Ok(())
    };
    match pieces.len() {
        0 | 1 => pieces.into_iter().try_for_each(of_piece)?,
        _ => pieces.into_par_iter().map(of_piece).collect::<Result<()>>()?,
    }
    Ok(cells)
}

/// Brings cells into the order of the probes: each is the one of its rank. Whether one is missing.
fn arrange(cells: &mut Vec<u64>, spare: &mut Vec<u64>, ranks: &[u32]) -> bool {
    spare.resize(ranks.len(), 0);
    let fill = |(arranged, ranks): (&mut [u64], &[u32])| {
        let mut missing = false;
        for (arranged, rank) in arranged.iter_mut().zip(ranks) {
            *arranged = cells[*rank as usize];
            missing |= *arranged == MISSING;
        }
        missing
    };
    let missing = if ranks.len() < PARALLEL_FROM {
        fill((spare, ranks))
    } else {
        let ranks = ranks.par_chunks(CELLS_PER_TASK);
        let chunks = spare.par_chunks_mut(CELLS_PER_TASK).zip(ranks);
        chunks.map(fill).reduce(|| false, |one, other| one | other)
    };
    std::mem::swap(cells, spare);
    missing
}

/// Whether an aggregate of nothing is 0, and not missing.
fn is_count(aggregate: Aggregate) -> bool {
    use Aggregate::{ApproximateDistinct, Count, Distinct};
    matches!(aggregate, Count | Distinct | ApproximateDistinct)
}

/// The cells of an aggregate as a column; those of a row as that row's value. `missing` says
/// whether there may be missing ones.
fn array(
    aggregate: Aggregate,
    mut cells: Vec<u64>,
    missing: bool,
    values: &ArrayRef,
) -> Result<ArrayRef> {
    if is_count(aggregate) {
        let counts: ScalarBuffer<i64> = Buffer::from_vec(cells).into();
        return Ok(Arc::new(Int64Array::new(counts, None)));
    }
    let nulls = missing.then(|| {
        let valid = BooleanBuffer::collect_bool(cells.len(), |place| cells[place] != MISSING);
        cells.iter_mut().filter(|cell| **cell == MISSING).for_each(|cell| *cell = 0);
        NullBuffer::new(valid)
    });
    if let Aggregate::First | Aggregate::Last = aggregate {
        let rows: Vec<u32> = cells.into_iter().map(|row| row as u32).collect();
        let rows = UInt32Array::new(rows.into(), nulls);
        return take(values, &rows, None).context(ErrorKind::Internal, "values of rows");
    }
    let numbers: ScalarBuffer<f64> = Buffer::from_vec(cells).into();
    Ok(Arc::new(Float64Array::new(numbers, nulls)))
}

/// Means, missing where the sums are.
fn means(sums: &Float64Array, counts: &Int64Array) -> ArrayRef {
    let mean = |(sum, count): (&f64, &i64)| if *count > 0 { sum / *count as f64 } else { 0.0 };
    let (numbers, counts) = (sums.values(), counts.values());
    let means: Vec<f64> = match numbers.len() < PARALLEL_FROM {
        true => numbers.iter().zip(counts).map(mean).collect(),
        false => {
            let numbers = numbers.par_iter().with_min_len(CELLS_PER_TASK);
            numbers.zip(counts.par_iter()).map(mean).collect()
        }
    };
    Arc::new(Float64Array::new(means.into(), sums.nulls().cloned()))
}

/// A definition read from JSON may declare a count as a float, or a sum as an integer.
pub(crate) fn as_declared(values: ArrayRef, field: &kaizen_core::Field) -> Result<ArrayRef> {
    let only = RecordBatch::try_from_iter([(field.name.as_str(), values)])
        .context(ErrorKind::Internal, "window")?;
    typed(&only, &field.name, field.data_type)
}
