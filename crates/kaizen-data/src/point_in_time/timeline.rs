//! Rows grouped by entity, in the order in which they became known.

use std::ops::Range;

use kaizen_table::Known;
use rayon::prelude::*;

/// Below this many rows, handing work to other threads costs more than it saves.
pub(crate) const PARALLEL_FROM: usize = 4_096;

/// When a source's row happened, and since when it is known, in nanoseconds UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Moment {
    /// When it happened.
    pub(crate) event: i64,
    /// What its column of the known-at time says, if it has one.
    pub(crate) known: Option<i64>,
    /// The first instant at which it may be seen, at or after `event`.
    pub(crate) known_at: i64,
}

impl Moment {
    /// The moment of a row whose known-at column, if the view has one, says `column`.
    pub(crate) fn new(rule: &Known, event: i64, column: Option<i64>) -> Self {
        let known_at = match rule {
            Known::AtEvent => event,
            Known::After { seconds } => event.saturating_add(nanos(*seconds) as i64),
            Known::Column(_) => column.map_or(event, |known| known.max(event)),
            Known::Backfilled { until, .. } => {
                // Instants beyond what nanoseconds can tell are later than every row.
                let loaded = until.map_or(i64::MAX, |until| until.nanos().unwrap_or(i64::MAX));
                let live = column.filter(|known| *known > loaded);
                live.map_or(event, |known| known.max(event))
            }
        };
        Self { event, known: column, known_at }
    }

    /// What decides which of several rows is the latest; a missing known-at time wins no tie, and
    /// what is still equal goes to the later row of the source.
    fn rank(&self) -> (i64, Option<i64>) {
        (self.event, self.known)
    }
}

/// Seconds as nanoseconds; 32 bits of seconds always fit.
pub(crate) fn nanos(seconds: u32) -> u64 {
    u64::from(seconds) * 1_000_000_000
}

/// One question: this entity, as of this instant.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Probe {
    /// The number of the entity, if the source has it.
    pub(crate) entity: Option<u32>,
    /// The instant, in nanoseconds UTC.
    pub(crate) at: i64,
}

/// The rows of every entity. A *position* is a row's place here; the rows of an entity have
/// neighbouring positions, ascending by the instant from which they are known.
#[derive(Debug)]
pub(crate) struct Timelines {
    /// Where each entity's positions start; one more at the end.
    starts: Vec<usize>,
    /// The source's row at each position.
    rows: Vec<u32>,
    /// The instant from which the row at each position is known.
    known_at: Vec<i64>,
    /// The event time of the row at each position.
    event: Vec<i64>,
    /// The position of the latest row among the entity's rows up to each position.
    latest: Vec<u32>,
    /// The positions of each entity ascending by event time; `None` if they already are.
    by_event: Option<Vec<u32>>,
}

impl Timelines {
    /// Groups rows by entity. `entity` and `moments` have one element per row, and `entity` names
    /// numbers below `entities`, or none for rows that nobody can see.
    pub(crate) fn new(entity: &[Option<u32>], entities: usize, moments: &[Moment]) -> Self {
        let starts = starts(entity, entities);
        let mut rows = scatter(entity, &starts);
        let slices = split(&mut rows, &starts);
        let sort = |slice: &mut [u32]| slice.sort_by_key(|row| moments[*row as usize].known_at);
        if entity.len() < PARALLEL_FROM {
            slices.into_iter().for_each(sort);
        } else {
            slices.into_par_iter().for_each(sort);
        }
        let moment = |row: &u32| moments[*row as usize];
        let known_at = rows.iter().map(|row| moment(row).known_at).collect();
        let event: Vec<i64> = rows.iter().map(|row| moment(row).event).collect();
        let latest = running_latest(&starts, &rows, moments);
        let by_event = by_event(&starts, &event);
        Self { starts, rows, known_at, event, latest, by_event }
    }

    /// The row that the probe sees as the latest, if it is no older than `ttl` nanoseconds.
    pub(crate) fn latest(&self, probe: Probe, ttl: Option<u64>) -> Option<u32> {
        let range = self.positions(probe.entity);
        let seen = self.known_at[range.clone()].partition_point(|known| *known <= probe.at);
        let last = range.start + seen.checked_sub(1)?;
        let latest = self.latest[last] as usize;
        let age = probe.at.abs_diff(self.event[latest]);
        ttl.is_none_or(|ttl| age <= ttl).then(|| self.rows[latest])
    }

    /// The positions of an entity.
    pub(crate) fn positions(&self, entity: Option<u32>) -> Range<usize> {
        entity.map_or(0..0, |entity| {
            let entity = entity as usize;
            self.starts[entity]..self.starts[entity + 1]
        })
    }

    /// The source's row at a position.
    pub(crate) fn row(&self, position: usize) -> usize {
        self.rows[position] as usize
    }

    /// The instant from which the row at a position is known.
    pub(crate) fn known_at(&self, position: usize) -> i64 {
        self.known_at[position]
    }

    /// The event time of the row at a position.
    pub(crate) fn event(&self, position: usize) -> i64 {
        self.event[position]
    }

    /// The position that has this place when an entity's rows are ordered by event time. `place`
    /// counts over all entities, like a position.
    pub(crate) fn by_event(&self, place: usize) -> usize {
        self.by_event.as_ref().map_or(place, |order| order[place] as usize)
    }
}

/// Where each entity's rows start, after a counting sort.
fn starts(entity: &[Option<u32>], entities: usize) -> Vec<usize> {
    let mut starts = vec![0; entities + 1];
    for entity in entity.iter().flatten() {
        starts[*entity as usize + 1] += 1;
    }
    for index in 0..entities {
        starts[index + 1] += starts[index];
    }
    starts
}

/// The rows in the order of their entities, and of the source within each.
fn scatter(entity: &[Option<u32>], starts: &[usize]) -> Vec<u32> {
    let mut next = starts.to_vec();
    let mut rows = vec![0; starts.last().copied().unwrap_or(0)];
    for (row, entity) in entity.iter().enumerate() {
        if let Some(entity) = entity {
            let place = &mut next[*entity as usize];
            rows[*place] = row as u32;
            *place += 1;
        }
    }
    rows
}

/// One slice per entity.
fn split<'a>(mut rest: &'a mut [u32], starts: &[usize]) -> Vec<&'a mut [u32]> {
    let mut slices = Vec::with_capacity(starts.len());
    for pair in starts.windows(2) {
        let (slice, tail) = rest.split_at_mut(pair[1] - pair[0]);
        slices.push(slice);
        rest = tail;
    }
    slices
}

fn running_latest(starts: &[usize], rows: &[u32], moments: &[Moment]) -> Vec<u32> {
    let rank = |position: usize| {
        let row = rows[position];
        (moments[row as usize].rank(), row)
    };
    let mut latest = Vec::with_capacity(rows.len());
    for pair in starts.windows(2) {
        let mut best = pair[0];
        for position in pair[0]..pair[1] {
            if rank(position) >= rank(best) {
                best = position;
            }
            latest.push(best as u32);
        }
    }
    latest
}

fn by_event(starts: &[usize], event: &[i64]) -> Option<Vec<u32>> {
    let ascending = |pair: &[usize]| event[pair[0]..pair[1]].is_sorted();
    if starts.windows(2).all(ascending) {
        return None;
    }
    let mut order: Vec<u32> = (0..event.len() as u32).collect();
    for slice in split(&mut order, starts) {
        slice.sort_by_key(|position| event[*position as usize]);
    }
    Some(order)
}
