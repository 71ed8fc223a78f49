//! Time cut into spans of about so many rows, from where groups of rows lie in time.

use std::ops::Range;

/// A group of rows and the first and last instant in it, in nanoseconds UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stretch {
    pub(crate) first: i64,
    pub(crate) last: i64,
    pub(crate) rows: u64,
}

/// Densities in rows per nanosecond are held in units of 2^-80, as integers, so that what a group
/// adds at its first instant is taken away exactly after its last.
const UNIT_BITS: u32 = 80;

/// More rows than this in one group count as this many.
const MAX_ROWS: u64 = 1 << 40;

/// Spans in ascending order that hold all instants, each of about `rows` rows at most, if the rows
/// of a group lie evenly between its first and last instant. A cut is made where a group begins or
/// ends, where that costs a span no more than half of its rows: so that few groups lie in two.
pub(crate) fn spans(stretches: &[Stretch], rows: u64) -> Vec<Range<i64>> {
    let total: u128 = stretches.iter().map(|stretch| u128::from(stretch.rows)).sum();
    if total <= u128::from(rows) {
        return whole();
    }
    let mut changes: Vec<(i128, i128)> = Vec::with_capacity(stretches.len() * 2);
    for stretch in stretches.iter().filter(|stretch| stretch.first <= stretch.last) {
        let (first, end) = (i128::from(stretch.first), i128::from(stretch.last) + 1);
        let density = (i128::from(stretch.rows.min(MAX_ROWS)) << UNIT_BITS) / (end - first);
        changes.push((first, density));
        changes.push((end, -density));
    }
    changes.sort_unstable();
    let mut cuts = Cuts { most: rows.max(1) as f64, held: 0.0, cuts: Vec::new() };
    let (mut at, mut density) = (i128::from(i64::MIN), 0_i128);
    for (next, change) in changes {
        if next > at {
            cuts.pass(at, next, density as f64 / (UNIT_BITS as f64).exp2());
            at = next;
        }
        density = density.saturating_add(change);
    }
    cuts.spans()
}

/// All of time as one span.
pub(crate) fn whole() -> Vec<Range<i64>> {
    std::iter::once(i64::MIN..i64::MAX).collect()
}

struct Cuts {
    most: f64,
    /// Rows since the last cut.
    held: f64,
    cuts: Vec<i64>,
}

impl Cuts {
    /// Goes from one instant to before another, through rows of this density.
    fn pass(&mut self, from: i128, to: i128, density: f64) {
        let mut at = from;
        loop {
            let width = (to - at) as f64;
            if self.held + density * width <= self.most {
                self.held += density * width;
                return;
            }
            if self.held >= self.most / 2.0 {
                self.cut(at);
                continue;
            }
            let step = ((self.most - self.held) / density).floor().max(1.0);
            if step >= width {
                self.held += density * width;
                return;
            }
            at += step as i128;
            self.cut(at);
        }
    }

    fn cut(&mut self, at: i128) {
        self.held = 0.0;
        if let Ok(at) = i64::try_from(at)
            && at > i64::MIN
            && at < i64::MAX
            && self.cuts.last().is_none_or(|last| *last < at)
        {
            self.cuts.push(at);
        }
    }

    fn spans(self) -> Vec<Range<i64>> {
        let starts = std::iter::once(i64::MIN).chain(self.cuts.iter().copied());
        let ends = self.cuts.iter().copied().chain(std::iter::once(i64::MAX));
        starts.zip(ends).map(|(start, end)| start..end).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn point(at: i64, rows: u64) -> Stretch {
        Stretch { first: at, last: at, rows }
    }

    #[test]
    fn groups_that_lie_apart_are_not_cut() {
        let groups: Vec<Stretch> =
            (0..4).map(|n| Stretch { first: n * 100, last: n * 100 + 99, rows: 10 }).collect();
        assert_eq!(spans(&groups, 40), whole());
        assert_eq!(spans(&groups, 20), [i64::MIN..200, 200..i64::MAX]);
        assert_eq!(spans(&groups, 29), [i64::MIN..200, 200..i64::MAX]);
    }

    #[test]
    fn one_wide_group_is_cut_evenly() {
        let wide = [Stretch { first: 0, last: 999, rows: 1_000 }];
        assert_eq!(spans(&wide, 500), [i64::MIN..500, 500..i64::MAX]);
        let all = [Stretch { first: i64::MIN, last: i64::MAX, rows: 1_000 }];
        assert_eq!(spans(&all, 100).len(), 10);
    }

    proptest! {
        #[test]
        fn every_instant_is_in_one_span_and_no_span_is_much_too_large(
            times in prop::collection::vec(prop_oneof![Just(0_i64), any::<i64>(), -50..50_i64], 1..200),
            rows in 1..50_u64,
        ) {
            let points: Vec<Stretch> = times.iter().map(|at| point(*at, 1)).collect();
            let spans = spans(&points, rows);
            prop_assert_eq!(spans[0].start, i64::MIN);
            prop_assert_eq!(spans[spans.len() - 1].end, i64::MAX);
            for pair in spans.windows(2) {
                prop_assert_eq!(pair[0].end, pair[1].start);
            }
            for span in &spans {
                let inside = times.iter().filter(|at| span.contains(at)).count() as u64;
                let same = times.iter().map(|a| times.iter().filter(|b| a == *b).count()).max();
                prop_assert!(inside <= rows + same.unwrap_or(0) as u64, "{} in {:?}", inside, span);
            }
        }
    }
}
