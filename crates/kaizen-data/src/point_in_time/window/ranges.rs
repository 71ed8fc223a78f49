//! Windows as ranges of rows, where rows become known in the order in which they happened.
//!
//! What can be added is then a difference of two running totals; the least and the greatest number
//! follow from one pass over the rows.

use kaizen_table::Aggregate;

use super::sweep::{Column, Rows};
use super::{Group, MISSING};

/// Running totals of a column, by position: of the rows before each, and of all.
#[derive(Debug, Default)]
pub(super) struct Totals {
    counts: Vec<u32>,
    sums: Vec<i128>,
    squares: Vec<i128>,
}

impl Totals {
    /// Adds up rows with their integers; none, if they are not needed or cannot be had.
    pub(super) fn load(&mut self, valid: &[bool], integers: &[i128], squares: bool) {
        running(&mut self.counts, valid.iter().map(|valid| u32::from(*valid)), |a, b| a + b);
        running(&mut self.sums, integers.iter().copied(), |a, b| a + b);
        self.squares.clear();
        if squares {
            let squares = integers.iter().map(|integer| integer * integer);
            running(&mut self.squares, squares, |a, b| a + b);
        }
    }
}

fn running<T: Copy + Default>(
    totals: &mut Vec<T>,
    values: impl Iterator<Item = T>,
    add: impl Fn(T, T) -> T,
) {
    totals.clear();
    let mut total = T::default();
    totals.push(total);
    totals.extend(values.map(|value| {
        total = add(total, value);
        total
    }));
}

/// The ranges of one group's windows, one per question.
#[derive(Debug, Default)]
pub(super) struct Ranges {
    /// The first position inside, and the first after.
    ranges: Vec<(u32, u32)>,
    candidates: Vec<u32>,
}

impl Ranges {
    /// Whether the group's windows over these rows can be told from ranges.
    pub(super) fn suit(group: &Group, rows: &Rows, column: &Column<'_>) -> bool {
        let suits = |aggregate: &Aggregate| match aggregate {
            Aggregate::Count | Aggregate::Min | Aggregate::Max => true,
            Aggregate::Sum | Aggregate::Mean => column.scaled.is_some(),
            Aggregate::StandardDeviation => column.has_squares(),
            _ => false,
        };
        rows.is_plain() && group.aggregates.iter().all(suits)
    }

    /// Answers the questions at these instants, of which each sees so many rows: a column per
    /// aggregate.
    pub(super) fn answer(
        &mut self,
        group: &Group,
        rows: &Rows,
        column: &Column<'_>,
        (instants, seen): (&[i64], &[u32]),
        cells: &mut [&mut [u64]],
    ) {
        let events = rows.events();
        let mut left = 0;
        self.ranges.clear();
        self.ranges.extend(instants.iter().zip(seen).map(|(at, seen)| {
            if let Some(begin) = group.window.begins_after(*at) {
                while events.get(left).is_some_and(|event| *event <= begin) {
                    left += 1;
                }
            }
            ((left as u32).min(*seen), *seen)
        }));
        for (aggregate, cells) in group.aggregates.iter().zip(cells) {
            match aggregate {
                Aggregate::Min => self.extremes::<false>(column, cells),
                Aggregate::Max => self.extremes::<true>(column, cells),
                Aggregate::Count => {
                    let counts = &column.totals.counts;
                    self.each(cells, |from, to| u64::from(counts[to] - counts[from]));
                }
                other => self.numbers(*other, column, cells),
            }
        }
    }

    fn each(&self, cells: &mut [u64], cell: impl Fn(usize, usize) -> u64) {
        for (found, (from, to)) in cells.iter_mut().zip(&self.ranges) {
            *found = cell(*from as usize, *to as usize);
        }
    }

    /// What is made of running totals.
    fn numbers(&self, aggregate: Aggregate, column: &Column<'_>, cells: &mut [u64]) {
        let Totals { counts, sums, squares } = &column.totals;
        let Some(scaled) = column.scaled else { return };
        let count = |from: usize, to: usize| i64::from(counts[to] - counts[from]);
        let sum = |from: usize, to: usize| scaled.sum(sums[to] - sums[from]);
        let of_some = |from: usize, to: usize, number: f64| match counts[to] > counts[from] {
            true => number.to_bits(),
            false => MISSING,
        };
        match aggregate {
            Aggregate::Sum => self.each(cells, |from, to| of_some(from, to, sum(from, to))),
            Aggregate::Mean => self
                .each(cells, |from, to| of_some(from, to, sum(from, to) / count(from, to) as f64)),
            _ => self.each(cells, |from, to| {
                let (total, squares) = (sums[to] - sums[from], squares[to] - squares[from]);
                let found = scaled.standard_deviation(count(from, to), total, squares);
                found.map_or(MISSING, f64::to_bits)
            }),
        }
    }

    /// The least number of each range, or the greatest. Of the rows inside, those that are beaten
    /// by a later one are out for good: of the others the first is the answer.
    fn extremes<const GREATEST: bool>(&mut self, column: &Column<'_>, cells: &mut [u64]) {
        let key = |position: usize| {
            let key = ascending(column.numbers[position]);
            if GREATEST { !key } else { key }
        };
        let candidates = &mut self.candidates;
        candidates.clear();
        let (mut first, mut entered) = (0, 0);
        for (cell, (from, to)) in cells.iter_mut().zip(&self.ranges) {
            for position in entered..*to as usize {
                if !column.valid[position] {
                    continue;
                }
                let own = key(position);
                while let Some(last) = candidates[first..].last()
                    && key(*last as usize) >= own
                {
                    candidates.pop();
                }
                candidates.push(position as u32);
            }
            entered = *to as usize;
            while candidates.get(first).is_some_and(|position| position < from) {
                first += 1;
            }
            let best = candidates.get(first);
            *cell = best.map_or(MISSING, |best| column.numbers[*best as usize].to_bits());
        }
    }
}

/// Integers in the total order of the floats.
fn ascending(number: f64) -> i64 {
    let bits = number.to_bits().cast_signed();
    bits ^ ((bits >> 63).cast_unsigned() >> 1).cast_signed()
}
