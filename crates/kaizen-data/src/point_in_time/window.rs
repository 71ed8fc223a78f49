//! Aggregates over the last so many seconds, exact at each probe's own instant.
//!
//! One sweep per entity answers all windows of a view: with the instant moving forward, a row
//! enters each window when it becomes known, unless it is too old by then, and leaves it when it
//! is. Windows of one column, length and hop share what they count.

mod codes;
mod extremes;
mod states;
mod sweep;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, UInt32Array};
use arrow::compute::take;
use kaizen_core::{Context, Error, ErrorKind, Result};
use kaizen_table::{Aggregate, FeatureView, Value, Window};
use rayon::prelude::*;

use super::layout::Layout;
use super::timeline::{PARALLEL_FROM, Probe, Timelines};
use crate::typed::typed;
use crate::within::Within;
use sweep::Sweep;

/// What an aggregate that is missing has as a cell: a NaN that no sum is, and no row's number.
const MISSING: u64 = 0x7ffc_6b61_697a_656e;

/// Windows of one column, length and hop.
#[derive(Debug)]
struct Group {
    slot: usize,
    /// One of them, for where they begin.
    window: Window,
    /// What is asked of them; each has a cell in the answer of a probe, from `first_cell` on.
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
            group.first_cell = width;
            width += group.aggregates.len();
        }
        Self { groups, width }
    }

    fn cell(&self, slot: usize, window: &Window) -> Option<usize> {
        let group = self.groups.iter().find(|group| group.has(slot, window))?;
        let place = group.aggregates.iter().position(|known| *known == window.aggregate)?;
        Some(group.first_cell + place)
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
    let order = by_entity(probes);
    let cells = swept(&groups, timelines, values, probes, &order)?;
    let mut columns = BTreeMap::new();
    for (place, slot, window) in windows {
        let field = &view.features()[place].field;
        let name = || format!("feature `{}`", field.name);
        let cell = groups.cell(slot, window).context(ErrorKind::Internal, name())?;
        let mut column = vec![MISSING; probes.len()];
        for (found, index) in cells.chunks_exact(groups.width).zip(&order) {
            column[*index as usize] = found[cell];
        }
        let array = array(window.aggregate, column, &values[slot]).within(name())?;
        columns.insert(place, as_declared(array, field).within(name())?);
    }
    Ok(columns)
}

/// The cells of every probe, in this order of the probes: first by entity, then by instant.
fn swept(
    groups: &Groups,
    timelines: &Timelines,
    values: &[ArrayRef],
    probes: &[Probe],
    order: &[u32],
) -> Result<Vec<u64>> {
    let mut cells = vec![MISSING; groups.width * order.len()];
    let same = |a: &u32, b: &u32| probes[*a as usize].entity == probes[*b as usize].entity;
    let mut runs = Vec::new();
    let mut rest = cells.as_mut_slice();
    for run in order.chunk_by(same) {
        let (own, tail) = rest.split_at_mut(run.len() * groups.width);
        runs.push((run, own));
        rest = tail;
    }
    let of_run = |sweep: &mut Sweep<'_>, (run, cells): (&[u32], &mut [u64])| -> Result<()> {
        let instants = run.iter().map(|index| probes[*index as usize].at);
        let entity = run.first().and_then(|index| probes[*index as usize].entity);
        sweep.run(entity, instants, cells)
    };
    let sweep = || Sweep::new(groups, timelines, values);
    if order.len() < PARALLEL_FROM {
        let mut sweep = sweep()?;
        runs.into_iter().try_for_each(|run| of_run(&mut sweep, run))?;
    } else {
        sweep()?;
        let sweep = || sweep().ok();
        let each = |sweep: &mut Option<Sweep<'_>>, run| match sweep {
            Some(sweep) => of_run(sweep, run),
            None => Err(Error::internal("windows that cannot be answered")),
        };
        runs.into_par_iter().with_min_len(16).map_init(sweep, each).collect::<Result<()>>()?;
    }
    Ok(cells)
}

/// The cells of an aggregate as a column; those of a row as that row's value.
fn array(aggregate: Aggregate, cells: Vec<u64>, values: &ArrayRef) -> Result<ArrayRef> {
    let present = |cell: &u64| (*cell != MISSING).then_some(*cell);
    Ok(match aggregate {
        Aggregate::Count | Aggregate::Distinct | Aggregate::ApproximateDistinct => {
            Arc::new(cells.into_iter().map(u64::cast_signed).collect::<Int64Array>())
        }
        Aggregate::First | Aggregate::Last => {
            let row = |cell: &u64| present(cell).map(|row| row as u32);
            let rows: UInt32Array = cells.iter().map(row).collect();
            take(values, &rows, None).context(ErrorKind::Internal, "values of rows")?
        }
        _ => {
            let number = |cell: &u64| present(cell).map(f64::from_bits);
            Arc::new(cells.iter().map(number).collect::<Float64Array>())
        }
    })
}

/// A definition read from JSON may declare a count as a float, or a sum as an integer.
pub(crate) fn as_declared(values: ArrayRef, field: &kaizen_core::Field) -> Result<ArrayRef> {
    let only = RecordBatch::try_from_iter([(field.name.as_str(), values)])
        .context(ErrorKind::Internal, "window")?;
    typed(&only, &field.name, field.data_type)
}

/// The probes ordered by entity, then by instant.
fn by_entity(probes: &[Probe]) -> Vec<u32> {
    let mut order: Vec<u32> = (0..probes.len() as u32).collect();
    let key = |index: &u32| {
        let probe = probes[*index as usize];
        (probe.entity, probe.at, *index)
    };
    if order.is_sorted_by_key(key) {
        return order;
    }
    if order.len() < PARALLEL_FROM {
        order.sort_unstable_by_key(key);
    } else {
        order.par_sort_unstable_by_key(key);
    }
    order
}
