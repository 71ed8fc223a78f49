//! What a window holds while it moves.

use kaizen_stats::{ExactMoments, ExactSum};
use kaizen_table::Aggregate;

use super::MISSING;
use super::codes::{Buckets, Distinct, Registers};
use super::extremes::{Places, Skyline};
use super::sweep::{Column, Rows};
use crate::point_in_time::layout::Needs;

/// The windows of one group at one instant.
#[derive(Debug)]
pub(super) struct State {
    needs: Needs,
    /// The next place to leave.
    left: usize,
    /// The next position to enter.
    entered: usize,
    count: i64,
    /// Sums of scaled integers, where the column has them.
    total: i128,
    squares: i128,
    sum: ExactSum,
    moments: ExactMoments,
    least: Skyline,
    greatest: Skyline,
    first: Places,
    last: Option<u32>,
    distinct: Distinct,
    registers: Registers,
    buckets: Buckets,
}

impl State {
    /// An empty window for these aggregates.
    pub(super) fn new(aggregates: &[Aggregate]) -> Self {
        let mut needs = Needs::default();
        aggregates.iter().for_each(|aggregate| needs.add(*aggregate));
        Self {
            needs,
            left: 0,
            entered: 0,
            count: 0,
            total: 0,
            squares: 0,
            sum: ExactSum::default(),
            moments: ExactMoments::default(),
            least: Skyline::least(),
            greatest: Skyline::greatest(),
            first: Places::default(),
            last: None,
            distinct: Distinct::default(),
            registers: Registers::default(),
            buckets: Buckets::default(),
        }
    }

    /// Empties the window, before another entity's rows in this column.
    pub(super) fn reset(&mut self, column: &Column<'_>) {
        (self.left, self.entered, self.count) = (0, 0, 0);
        (self.total, self.squares, self.last) = (0, 0, None);
        if self.needs.sum && column.scaled.is_none() {
            self.sum = ExactSum::default();
        }
        if self.needs.moments && !column.has_squares() {
            self.moments = ExactMoments::default();
        }
        self.least.clear();
        self.greatest.clear();
        self.first.clear();
        if self.needs.distinct {
            self.distinct.reset(column.words.values.len());
        }
        if self.needs.registers {
            self.registers.reset(column.cells.values.len());
        }
        if self.needs.buckets {
            self.buckets.reset(column.buckets.values.len());
        }
    }

    /// Moves to where rows up to `begin` are out and the first `seen` positions are known.
    pub(super) fn advance(
        &mut self,
        rows: &Rows,
        column: &Column<'_>,
        begin: Option<i64>,
        seen: usize,
    ) {
        if let Some(begin) = begin {
            while self.left < rows.len() && rows.event_at(self.left) <= begin {
                let position = rows.position(self.left);
                // The others are too old before they could enter.
                if position < self.entered && column.valid[position] {
                    self.apply(column, position, -1);
                }
                self.left += 1;
            }
            let left = self.left as u32;
            self.least.leave_before(left);
            self.greatest.leave_before(left);
            self.first.leave_before(left);
        }
        while self.entered < seen {
            let position = self.entered;
            let place = rows.place(position);
            if place >= self.left && column.valid[position] {
                self.apply(column, position, 1);
                self.enter(column, position, place as u32);
            }
            self.entered += 1;
        }
    }

    /// What can be added and taken away.
    fn apply(&mut self, column: &Column<'_>, position: usize, sign: i64) {
        self.count += sign;
        let needs = self.needs;
        if needs.sum || needs.moments {
            self.apply_number(column, position, sign);
        }
        if needs.distinct {
            let code = column.words.of[position];
            if sign > 0 { self.distinct.enter(code) } else { self.distinct.leave(code) }
        }
        if needs.registers {
            let (code, cells) = (column.cells.of[position], &column.cells.values);
            match sign > 0 {
                true => self.registers.enter(code, cells),
                false => self.registers.leave(code, cells),
            }
        }
        if needs.buckets {
            let code = column.buckets.of[position];
            if sign > 0 { self.buckets.enter(code) } else { self.buckets.leave(code) }
        }
    }

    fn apply_number(&mut self, column: &Column<'_>, position: usize, sign: i64) {
        let number = column.numbers[position];
        if column.scaled.is_some() {
            let integer = column.integers[position];
            self.total += i128::from(sign) * integer;
            if self.needs.moments && column.has_squares() {
                self.squares += i128::from(sign) * integer * integer;
            }
        } else if self.needs.sum {
            match sign > 0 {
                true => self.sum.add(number),
                false => self.sum.subtract(number),
            }
        }
        if self.needs.moments && !column.has_squares() {
            match sign > 0 {
                true => self.moments.add(number),
                false => self.moments.subtract(number),
            }
        }
    }

    /// What follows the rows inside by their places.
    fn enter(&mut self, column: &Column<'_>, position: usize, place: u32) {
        if self.needs.least {
            self.least.enter(place, column.numbers[position]);
        }
        if self.needs.greatest {
            self.greatest.enter(place, column.numbers[position]);
        }
        if self.needs.first {
            self.first.enter(place);
        }
        if self.needs.last {
            self.last = self.last.max(Some(place));
        }
    }

    /// The cell of an aggregate.
    pub(super) fn cell(&self, aggregate: Aggregate, rows: &Rows, column: &Column<'_>) -> u64 {
        match aggregate {
            Aggregate::Count => self.count.cast_unsigned(),
            Aggregate::Distinct => self.distinct.different.cast_unsigned(),
            Aggregate::ApproximateDistinct => self.registers.estimate().round() as u64,
            Aggregate::First => row(rows, self.first.first()),
            Aggregate::Last => row(rows, self.last.filter(|place| *place as usize >= self.left)),
            other => self.number(other, column).map_or(MISSING, f64::to_bits),
        }
    }

    fn number(&self, aggregate: Aggregate, column: &Column<'_>) -> Option<f64> {
        let sum = || match column.scaled {
            Some(scaled) => scaled.sum(self.total),
            None => self.sum.value(),
        };
        match aggregate {
            Aggregate::Sum => (self.count > 0).then(sum),
            Aggregate::Mean => (self.count > 0).then(|| sum() / self.count as f64),
            Aggregate::StandardDeviation => match column.scaled.filter(|_| column.has_squares()) {
                Some(scaled) => scaled.standard_deviation(self.count, self.total, self.squares),
                None => self.moments.standard_deviation(),
            },
            Aggregate::Min => self.least.best(),
            Aggregate::Max => self.greatest.best(),
            Aggregate::Quantile { per_mille } => {
                self.buckets.quantile(per_mille, &column.buckets.values)
            }
            _ => None,
        }
    }
}

fn row(rows: &Rows, place: Option<u32>) -> u64 {
    place.map_or(MISSING, |place| rows.row(rows.position(place as usize)) as u64)
}
