//! The extremes of a window, whatever the order in which rows enter.
//!
//! Rows leave in the order of their places: by event time, then by rank. They may enter in any.

use std::cmp::Ordering;
use std::collections::VecDeque;

/// The least or the greatest value of a window: its skyline.
///
/// A row that leaves earlier than another which is as good can never be the answer. What is left,
/// by place, gets worse and worse, so that the first is the answer. A row finds its place by binary
/// search and pushes others out once: amortised O(log n).
#[derive(Debug)]
pub(super) struct Skyline {
    /// Places ascending, each value worse than the one before.
    rows: VecDeque<(u32, f64)>,
    /// What a better value is, compared with a worse one.
    better: Ordering,
}

impl Skyline {
    /// Of least values.
    pub(super) fn least() -> Self {
        Self { rows: VecDeque::new(), better: Ordering::Less }
    }

    /// Of greatest values.
    pub(super) fn greatest() -> Self {
        Self { rows: VecDeque::new(), better: Ordering::Greater }
    }

    /// Forgets all rows.
    pub(super) fn clear(&mut self) {
        self.rows.clear();
    }

    /// The row with this place enters.
    pub(super) fn enter(&mut self, place: u32, value: f64) {
        let beaten = |other: &f64| value.total_cmp(other) == self.better || same(value, *other);
        let mut at = self.rows.len();
        if self.rows.back().is_some_and(|(last, _)| *last > place) {
            at = self.rows.partition_point(|(other, _)| *other < place);
            let later = self.rows[at].1;
            if later.total_cmp(&value) == self.better || same(later, value) {
                return;
            }
        }
        let mut from = at;
        while from > 0 && beaten(&self.rows[from - 1].1) {
            from -= 1;
        }
        if at == self.rows.len() {
            self.rows.truncate(from);
            self.rows.push_back((place, value));
        } else {
            self.rows.drain(from..at);
            self.rows.insert(from, (place, value));
        }
    }

    /// All rows with a place before this one leave.
    pub(super) fn leave_before(&mut self, place: u32) {
        while self.rows.front().is_some_and(|(first, _)| *first < place) {
            self.rows.pop_front();
        }
    }

    /// The best value.
    pub(super) fn best(&self) -> Option<f64> {
        self.rows.front().map(|(_, value)| *value)
    }
}

fn same(a: f64, b: f64) -> bool {
    a.to_bits() == b.to_bits()
}

/// The places of a window's rows, for the earliest of them.
#[derive(Debug, Default)]
pub(super) struct Places(VecDeque<u32>);

impl Places {
    /// Forgets all rows.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// The row with this place enters.
    pub(super) fn enter(&mut self, place: u32) {
        if self.0.back().is_some_and(|last| *last > place) {
            let at = self.0.partition_point(|other| *other < place);
            self.0.insert(at, place);
        } else {
            self.0.push_back(place);
        }
    }

    /// All rows with a place before this one leave.
    pub(super) fn leave_before(&mut self, place: u32) {
        while self.0.front().is_some_and(|first| *first < place) {
            self.0.pop_front();
        }
    }

    /// The earliest place.
    pub(super) fn first(&self) -> Option<u32> {
        self.0.front().copied()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_best_is_the_best_of_those_inside(
            steps in prop::collection::vec((0_u32..40, -4_i32..4, 0_u32..4), 0..60),
        ) {
            let mut inside: Vec<(u32, f64)> = Vec::new();
            let (mut least, mut greatest) = (Skyline::least(), Skyline::greatest());
            let mut places = Places::default();
            let mut from = 0;
            for (place, value, gone) in steps {
                from += gone;
                least.leave_before(from);
                greatest.leave_before(from);
                places.leave_before(from);
                inside.retain(|(place, _)| *place >= from);
                if place >= from && inside.iter().all(|(other, _)| *other != place) {
                    let value = if value == 3 { -0.0 } else { f64::from(value) };
                    inside.push((place, value));
                    least.enter(place, value);
                    greatest.enter(place, value);
                    places.enter(place);
                }
                let values = || inside.iter().map(|(_, value)| *value);
                let bits = |best: Option<f64>| best.map(f64::to_bits);
                prop_assert_eq!(bits(least.best()), bits(values().min_by(f64::total_cmp)));
                prop_assert_eq!(bits(greatest.best()), bits(values().max_by(f64::total_cmp)));
                prop_assert_eq!(places.first(), inside.iter().map(|(place, _)| *place).min());
            }
        }
    }
}
