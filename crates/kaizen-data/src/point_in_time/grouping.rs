//! Sorts rows by entity and, within each, by the instant from which they are known.
//!
//! A counting sort brings the rows of an entity together, in the source's order. Then each entity's
//! rows are sorted on their own, unless they already are: instants, less the earliest, and the
//! place within the entity are packed into 64 bits, so that equal instants keep the source's order
//! and what is sorted is plain integers. Both steps run in parallel by ranges of entities; the rows
//! of an entity that has very many are sorted in parallel, too. No result depends on the threads.

use std::ops::Range;

use rayon::prelude::*;

use super::timeline::{Knowledge, PARALLEL_FROM};
use crate::keys::NOBODY;

/// From so many rows on, those of one entity are sorted by all threads.
const DOMINATING: usize = 1 << 16;

/// Each range of entities is scattered by a pass over all rows, so there are not many.
const MAX_PASSES: usize = 8;

/// Rows by position. See [`Timelines`](super::Timelines).
#[derive(Debug, Default)]
pub(super) struct Grouped {
    pub(super) starts: Vec<u32>,
    pub(super) rows: Vec<u32>,
    pub(super) event: Vec<i64>,
    /// `None` if it is a fixed time after the event.
    pub(super) known_at: Option<Vec<i64>>,
    pub(super) latest: Option<Vec<u32>>,
    pub(super) by_event: Option<Vec<u32>>,
}

/// Groups rows; the arguments are those of [`Timelines::of`](super::Timelines::of).
pub(super) fn group(
    entity: &[u32],
    entities: usize,
    event: &[i64],
    knowledge: &Knowledge<'_>,
) -> Grouped {
    let starts = starts(entity, entities);
    let count = starts.last().copied().unwrap_or(0) as usize;
    let threads = if entity.len() < PARALLEL_FROM { 1 } else { rayon::current_num_threads() };
    let few = ranges(&starts, threads.min(MAX_PASSES));
    let many = ranges(&starts, if threads == 1 { 1 } else { threads * 8 });
    let known_at = match knowledge {
        Knowledge::After(_) => None,
        Knowledge::Each { known_at, .. } => Some(*known_at),
    };
    // Sorted by `sorted`; what happened when is found again from the row if that is another thing.
    let mut rows = vec![0_u32; count];
    let mut sorted = vec![0_i64; count];
    let instants = known_at.unwrap_or(event);
    let pieces = pieces(&mut rows, &starts, &few).into_iter();
    let pieces = pieces.zip(self::pieces(&mut sorted, &starts, &few)).zip(&few);
    let scatter = |((rows, sorted), range): ((&mut [u32], &mut [i64]), &Range<usize>)| {
        scatter(entity, instants, &starts, range, rows, sorted);
    };
    pieces.collect::<Vec<_>>().into_par_iter().for_each(scatter);
    let sort = |((rows, sorted), range): ((&mut [u32], &mut [i64]), &Range<usize>)| {
        let mut scratch = Scratch::default();
        each(&starts, range, |own| sort(&mut rows[own.clone()], &mut sorted[own], &mut scratch));
    };
    let pieces = self::pieces(&mut rows, &starts, &many).into_iter();
    let pieces = pieces.zip(self::pieces(&mut sorted, &starts, &many)).zip(&many);
    pieces.collect::<Vec<_>>().into_par_iter().for_each(sort);
    let Knowledge::Each { column, valid, .. } = knowledge else {
        return Grouped { starts, rows, event: sorted, ..Grouped::default() };
    };
    let known = |row: u32| {
        let valid = valid.is_none_or(|valid| valid.is_valid(row as usize));
        valid.then(|| column[row as usize])
    };
    let by_position = rows.par_iter().with_min_len(PARALLEL_FROM).map(|row| event[*row as usize]);
    let event: Vec<i64> = by_position.collect();
    let latest = running_latest(&starts, &many, &rows, &event, &known);
    let by_event = latest.as_ref().map(|_| by_event(&starts, &many, &rows, &event, &known));
    let known_at = Some(sorted).filter(|known_at| *known_at != event);
    Grouped { starts, rows, event, known_at, latest, by_event }
}

/// Where each entity's rows start, after a counting sort.
fn starts(entity: &[u32], entities: usize) -> Vec<u32> {
    let mut starts = vec![0; entities + 1];
    for entity in entity.iter().filter(|entity| **entity != NOBODY) {
        starts[*entity as usize + 1] += 1;
    }
    for index in 0..entities {
        starts[index + 1] += starts[index];
    }
    starts
}

/// Ranges of entities that hold about equally many rows, at most `parts`, which cover all.
pub(super) fn ranges(starts: &[u32], parts: usize) -> Vec<Range<usize>> {
    let entities = starts.len() - 1;
    let count = u64::from(starts[entities]);
    let mut ranges = Vec::with_capacity(parts);
    let mut begin = 0;
    for part in 1..=parts as u64 {
        let wanted = count * part / parts as u64;
        let end = starts.partition_point(|start| u64::from(*start) < wanted).min(entities);
        let end = if part == parts as u64 { entities } else { end };
        if end > begin {
            ranges.push(begin..end);
            begin = end;
        }
    }
    ranges
}

/// The positions of each range of entities, which cover all.
fn pieces<'a, T>(
    mut rest: &'a mut [T],
    starts: &[u32],
    ranges: &[Range<usize>],
) -> Vec<&'a mut [T]> {
    let mut pieces = Vec::with_capacity(ranges.len());
    for range in ranges {
        let (piece, tail) = rest.split_at_mut((starts[range.end] - starts[range.start]) as usize);
        pieces.push(piece);
        rest = tail;
    }
    pieces
}

/// Calls for each entity of a range with its positions, counted from the range's first.
fn each(starts: &[u32], range: &Range<usize>, mut call: impl FnMut(Range<usize>)) {
    let base = starts[range.start];
    for pair in starts[range.start..=range.end].windows(2) {
        if pair[0] < pair[1] {
            call((pair[0] - base) as usize..(pair[1] - base) as usize);
        }
    }
}

/// Puts the rows of a range of entities, and their instants, in the order of the entities, and of
/// the source within each.
fn scatter(
    entity: &[u32],
    instants: &[i64],
    starts: &[u32],
    range: &Range<usize>,
    rows: &mut [u32],
    sorted: &mut [i64],
) {
    let base = starts[range.start];
    let mut next: Vec<u32> = starts[range.clone()].iter().map(|start| start - base).collect();
    let first = range.start as u32;
    for (row, (entity, instant)) in entity.iter().zip(instants).enumerate() {
        if let Some(next) = next.get_mut(entity.wrapping_sub(first) as usize) {
            rows[*next as usize] = row as u32;
            sorted[*next as usize] = *instant;
            *next += 1;
        }
    }
}

#[derive(Debug, Default)]
struct Scratch {
    packed: Vec<u64>,
    rows: Vec<u32>,
}

/// Sorts the rows of one entity by their instants; equal ones keep their order.
fn sort(rows: &mut [u32], instants: &mut [i64], scratch: &mut Scratch) {
    if instants.is_sorted() {
        return;
    }
    let Scratch { packed, rows: before } = scratch;
    before.clear();
    before.extend_from_slice(rows);
    let (low, high) = instants
        .iter()
        .fold((i64::MAX, i64::MIN), |(low, high), instant| (low.min(*instant), high.max(*instant)));
    let bits = usize::BITS - (rows.len() - 1).leading_zeros();
    if high.abs_diff(low) > u64::MAX >> bits {
        let mut order: Vec<u32> = (0..rows.len() as u32).collect();
        order.par_sort_by_key(|place| instants[*place as usize]);
        let unsorted = instants.to_vec();
        for ((row, instant), place) in rows.iter_mut().zip(instants).zip(order) {
            (*row, *instant) = (before[place as usize], unsorted[place as usize]);
        }
        return;
    }
    packed.clear();
    let pack = |(place, instant): (usize, &i64)| instant.abs_diff(low) << bits | place as u64;
    packed.extend(instants.iter().enumerate().map(pack));
    match packed.len() < DOMINATING {
        true => packed.sort_unstable(),
        false => packed.par_sort_unstable(),
    }
    let places = (1_u64 << bits) - 1;
    for ((row, instant), packed) in rows.iter_mut().zip(instants).zip(packed) {
        *row = before[(*packed & places) as usize];
        *instant = low.wrapping_add_unsigned(*packed >> bits);
    }
}

/// The position of the latest row up to each position; `None` if that is each position itself.
fn running_latest(
    starts: &[u32],
    ranges: &[Range<usize>],
    rows: &[u32],
    event: &[i64],
    known: &(impl Fn(u32) -> Option<i64> + Sync),
) -> Option<Vec<u32>> {
    let mut latest = vec![0_u32; rows.len()];
    // What decides which of several rows is the latest: a missing known-at time wins no tie, and
    // what is still equal goes to the later row of the source.
    let wins = |position: usize, best: usize| {
        let rank = |position: usize| (known(rows[position]), rows[position]);
        event[position] > event[best]
            || (event[position] == event[best] && rank(position) >= rank(best))
    };
    let fill = |(latest, range): (&mut [u32], &Range<usize>)| {
        let base = starts[range.start] as usize;
        let mut plain = true;
        each(starts, range, |own| {
            let mut best = base + own.start;
            for place in own {
                if wins(base + place, best) {
                    best = base + place;
                }
                plain &= best == base + place;
                latest[place] = best as u32;
            }
        });
        plain
    };
    let pieces: Vec<_> = pieces(&mut latest, starts, ranges).into_iter().zip(ranges).collect();
    let plain: Vec<bool> = pieces.into_par_iter().map(fill).collect();
    plain.contains(&false).then_some(latest)
}

/// The positions of each entity ascending by event time, then by what decides which is the latest.
fn by_event(
    starts: &[u32],
    ranges: &[Range<usize>],
    rows: &[u32],
    event: &[i64],
    known: &(impl Fn(u32) -> Option<i64> + Sync),
) -> Vec<u32> {
    let mut order: Vec<u32> = (0..event.len() as u32).collect();
    let arrange = |(order, range): (&mut [u32], &Range<usize>)| {
        let base = starts[range.start] as usize;
        let (mut scratch, mut instants) = (Scratch::default(), Vec::new());
        each(starts, range, |own| {
            instants.clear();
            instants.extend_from_slice(&event[base + own.start..base + own.end]);
            let own = &mut order[own];
            sort(own, &mut instants, &mut scratch);
            let same = |a: &u32, b: &u32| event[*a as usize] == event[*b as usize];
            for tied in own.chunk_by_mut(same).filter(|tied| tied.len() > 1) {
                tied.sort_unstable_by_key(|position| {
                    let row = rows[*position as usize];
                    (known(row), row)
                });
            }
        });
    };
    let pieces: Vec<_> = pieces(&mut order, starts, ranges).into_iter().zip(ranges).collect();
    pieces.into_par_iter().for_each(arrange);
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_too_far_apart_to_be_packed_are_sorted_all_the_same() {
        let mut rows = vec![5, 6, 7, 8];
        let mut instants = vec![i64::MAX, 3, i64::MIN, 3];
        sort(&mut rows, &mut instants, &mut Scratch::default());
        assert_eq!(rows, [7, 6, 8, 5]);
        assert_eq!(instants, [i64::MIN, 3, 3, i64::MAX]);
    }

    #[test]
    fn ranges_cover_every_entity_once() {
        let cases: [&[u32]; 5] =
            [&[0], &[0, 0, 0], &[0, 9, 9, 9], &[0, 1, 2, 3, 4], &[0, 0, 9, 10]];
        for starts in cases {
            for parts in 1..6 {
                let ranges = ranges(starts, parts);
                let covered: Vec<usize> = ranges.into_iter().flatten().collect();
                let wanted: Vec<usize> = (0..starts.len() - 1).collect();
                assert_eq!(covered, wanted, "{starts:?} in {parts}");
            }
        }
    }
}
