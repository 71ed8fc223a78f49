//! In which spans of a source the rows lie that became known one after another, of so many rows that
//! not even their instants are held.

use std::collections::BTreeSet;

use rayon::prelude::*;

/// At most so many runs are kept of a span.
const RUNS: usize = 1_024;

/// Rows of a span that became known one after another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    span: u32,
    rows: usize,
    /// The instants at which the first and the last of them became known.
    first: i64,
    last: i64,
}

/// Rows that are read together: all that became known after the stretch before, and until an
/// instant.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Stretch {
    pub(crate) until: i64,
    /// The spans in which they may lie, ascending.
    pub(crate) spans: Vec<u32>,
}

/// The rows of a span in at most [`RUNS`] runs, of as many rows each; `known_at` are the instants.
pub(crate) fn runs(span: u32, mut known_at: Vec<i64>) -> Vec<Run> {
    known_at.par_sort_unstable();
    let size = known_at.len().div_ceil(RUNS).max(1);
    let run = |own: &[i64]| Some((*own.first()?, *own.last()?, own.len()));
    let runs = known_at.chunks(size).filter_map(run);
    runs.map(|(first, last, rows)| Run { span, rows, first, last }).collect()
}

/// Stretches of about `most` rows, which together are all rows of these runs, ascending.
///
/// Rows that became known at the same instant are in the same stretch. A run whose rows are in two
/// is counted in the later: of each span a stretch may have a run more than `most` says.
pub(crate) fn stretches(mut runs: Vec<Run>, most: usize) -> Vec<Stretch> {
    runs.par_sort_unstable_by_key(|run| (run.last, run.first, run.span));
    let (mut ends, mut rows) = (Vec::new(), 0_usize);
    for run in &runs {
        let full = rows > 0 && rows.saturating_add(run.rows) > most;
        match ends.last_mut() {
            Some(end) if *end == run.last || !full => *end = run.last,
            _ => {
                ends.push(run.last);
                rows = 0;
            }
        }
        rows = rows.saturating_add(run.rows);
    }
    let mut spans = vec![BTreeSet::new(); ends.len()];
    for run in &runs {
        let first = ends.partition_point(|end| *end < run.first);
        let last = ends.partition_point(|end| *end < run.last);
        spans[first..=last].iter_mut().for_each(|spans| {
            spans.insert(run.span);
        });
    }
    let stretch = |(until, spans): (i64, BTreeSet<u32>)| Stretch {
        until,
        spans: spans.into_iter().collect(),
    };
    ends.into_iter().zip(spans).map(stretch).collect()
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_kept_of_a_span_does_not_grow_with_its_rows() {
        for rows in [0, 1, RUNS, RUNS + 1, 10 * RUNS, 100 * RUNS + 7] {
            let runs = runs(3, (0..rows as i64).rev().collect());
            assert!(runs.len() <= RUNS, "{rows} rows in {} runs", runs.len());
            assert_eq!(runs.iter().map(|run| run.rows).sum::<usize>(), rows);
        }
    }

    #[test]
    fn rows_of_runs_of_one_row_are_counted_exactly() {
        let pending = [runs(0, vec![1, 2, 2, 5]), runs(1, vec![2, 6]), runs(2, vec![7, 8, 9])];
        let stretch = |until, spans: &[u32]| Stretch { until, spans: spans.to_vec() };
        let found = stretches(pending.concat(), 3);
        // The third row at 2 comes with the others.
        assert_eq!(found, [stretch(2, &[0, 1]), stretch(7, &[0, 1, 2]), stretch(9, &[2])]);
        assert_eq!(stretches(pending.concat(), 0).len(), 7);
        assert_eq!(stretches(pending.concat(), usize::MAX), [stretch(9, &[0, 1, 2])]);
        assert_eq!(stretches(Vec::new(), 3), []);
    }

    proptest! {
        /// Spans with far more rows than runs: every row is read, in one stretch, which is about
        /// as large as it should be.
        #[test]
        fn every_row_is_in_the_stretch_of_its_instant(
            spans in vec((0_i64..5_000, 1_i64..50_000, 0_usize..9_000), 1..5),
            most in 1_usize..20_000,
        ) {
            // Any order of instants, with many that are equal or few.
            let known_at = |(start, width, rows): &(i64, i64, usize)| {
                (0..*rows as i64).map(|row| start + row * 7_919 % width).collect::<Vec<_>>()
            };
            let spans: Vec<Vec<i64>> = spans.iter().map(known_at).collect();
            let pending = (0..).zip(&spans).flat_map(|(span, at)| runs(span, at.clone()));
            let found = stretches(pending.collect(), most);
            prop_assert!(found.windows(2).all(|pair| pair[0].until < pair[1].until));
            let mut rows = vec![0; found.len()];
            for (span, known_at) in (0_u32..).zip(&spans) {
                for at in known_at {
                    let place = found.partition_point(|stretch| stretch.until < *at);
                    prop_assert!(found[place].spans.contains(&span));
                    rows[place] += 1;
                }
            }
            let ties = |until: i64| {
                spans.iter().flatten().filter(|at| **at == until).count()
            };
            for (stretch, rows) in found.iter().zip(rows) {
                let run = spans.iter().map(|at| at.len().div_ceil(RUNS)).sum::<usize>();
                let bound = most + 2 * run + ties(stretch.until);
                prop_assert!(rows <= bound, "{rows} rows, {bound} at most");
            }
        }
    }
}
