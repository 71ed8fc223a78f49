//! The bootstrap over units of independence: an interval for any statistic of rows.

use kaizen_core::record::Estimate;
use kaizen_core::{Error, ErrorKind, Result, serde_int};
use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, Normal, StudentsT};

/// More draws than this are refused: an interval's ends stop moving long before.
const MOST_DRAWS: u32 = 100_000;

/// The share of draws on which a statistic may be undefined before its interval is refused.
const MOST_UNDEFINED: f64 = 0.05;

/// How to resample: whole units (such as days) with replacement, never single rows.
///
/// The interval is the *expanded percentile interval* (Hesterberg, "What Teachers Should Know about
/// the Bootstrap", The American Statistician 69, 2015, §4.3). The plain percentile interval is too
/// narrow for few units: it misses Student's t and a factor √((n-1)/n), so that at 14 units one
/// said to hold 95 % holds 92 %. So its tail α/2 becomes Φ(-√(n/(n-1)) · t), where t is the upper
/// α/2 point of Student's t with n - 1 degrees of freedom, and n the number of units. Order
/// statistics of the draws are interpolated linearly (Hyndman and Fan's type 7). Where the tail
/// holds less than one draw, the ends are the smallest and the largest draw: below about 5 units no
/// resampling can hold 95 %.
///
/// A draw on which the statistic is undefined (NaN; an AUC when only one class was drawn) is left
/// out. If that happens on more than one draw in 20, the interval is refused: it would tell of
/// other data than these.
///
/// Draw i takes its numbers from stream i of the generator, so the bits do not depend on the number
/// of threads, and every statistic computed with the same `Bootstrap` and units sees the same draws.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bootstrap {
    /// How many times to resample: at least 2 / (1 - `confidence`), at most 100,000.
    pub draws: u32,
    /// The probability with which the interval should hold the true value, such as 0.95.
    pub confidence: f64,
    /// The seed of the generator (ChaCha8).
    #[serde(with = "serde_int")]
    pub seed: u64,
}

impl Bootstrap {
    /// The statistic of the rows as they are, and its interval.
    ///
    /// `units[i]` is the unit of row i. The statistic gets a weight per row: how often the unit of
    /// that row was drawn, a whole number. It returns NaN where it is not defined.
    ///
    /// # Errors
    ///
    /// Settings out of range, fewer than two units, or a statistic that is undefined on the rows
    /// as they are or on more than one draw in 20.
    pub fn interval<F>(&self, units: &[i64], statistic: F) -> Result<Estimate>
    where
        F: Fn(&[f64]) -> f64 + Sync,
    {
        let [estimate] = self.intervals(units, ["statistic"], |weights| [statistic(weights)])?;
        Ok(estimate)
    }

    /// Several statistics of the same draws, such as two models' and their difference: see
    /// [`Self::interval`]. Their names are for messages.
    ///
    /// # Errors
    ///
    /// Those of [`Self::interval`].
    pub fn intervals<const N: usize, F>(
        &self,
        units: &[i64],
        names: [&str; N],
        statistics: F,
    ) -> Result<[Estimate; N]>
    where
        F: Fn(&[f64]) -> [f64; N] + Sync,
    {
        self.check()?;
        let (unit_of_row, count) = number_units(units)?;
        let tail = expanded_tail(self.confidence, count)?;
        let values = statistics(&vec![1.0; units.len()]);
        let draws: Vec<[f64; N]> = (0..self.draws)
            .into_par_iter()
            .map_init(
                || (vec![0.0; count as usize], vec![0.0; units.len()]),
                |(times, weights), draw| {
                    self.draw(draw, times);
                    for (weight, unit) in weights.iter_mut().zip(&unit_of_row) {
                        *weight = times[*unit as usize];
                    }
                    statistics(weights)
                },
            )
            .collect();
        let mut estimates = [Estimate { value: 0.0, low: 0.0, high: 0.0 }; N];
        for (i, estimate) in estimates.iter_mut().enumerate() {
            let of_draws = draws.iter().map(|draw| draw[i]).collect();
            let (low, high) = percentiles(names[i], values[i], of_draws, tail)?;
            *estimate = Estimate { value: values[i], low, high };
        }
        Ok(estimates)
    }

    /// Counts into `times` how often each unit is drawn in this draw.
    fn draw(&self, draw: u32, times: &mut [f64]) {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        rng.set_stream(u64::from(draw));
        times.fill(0.0);
        for _ in 0..times.len() {
            // Multiply and shift (Lemire, 2019). The bias is below units / 2^64, and the numbers
            // stay the same whatever a version of `rand` does for ranges.
            let product = u128::from(rng.next_u64()) * times.len() as u128;
            times[(product >> 64) as usize] += 1.0;
        }
    }

    fn check(&self) -> Result<()> {
        let Self { draws, confidence, .. } = *self;
        if !(confidence > 0.0 && confidence < 1.0) {
            return Err(Error::invalid(format!(
                "bootstrap: confidence {confidence} is not between 0 and 1"
            )));
        }
        if draws > MOST_DRAWS {
            let message = format!("bootstrap: {draws} draws, at most {MOST_DRAWS}");
            return Err(Error::new(ErrorKind::Limit, message));
        }
        // With fewer, not even one draw lies beyond each end. Rounding may not refuse 20 for 0.9.
        let least = (2.0 / (1.0 - confidence) - 1e-6).ceil();
        if f64::from(draws) < least {
            return Err(Error::invalid(format!(
                "bootstrap: {draws} draws are too few for confidence {confidence}: at least {least}"
            )));
        }
        Ok(())
    }
}

/// Numbers the units from 0 in their order; returns the number of each row's unit, and how many.
fn number_units(units: &[i64]) -> Result<(Vec<u32>, u32)> {
    let mut distinct = units.to_vec();
    distinct.sort_unstable();
    distinct.dedup();
    let count = u32::try_from(distinct.len()).map_err(|_| {
        let message = format!("bootstrap: {} units, at most 2^32 - 1", distinct.len());
        Error::new(ErrorKind::Limit, message)
    })?;
    if count < 2 {
        return Err(Error::invalid(format!(
            "bootstrap: {} rows in {count} units of independence: at least 2 units are needed",
            units.len()
        )));
    }
    // A place in `distinct` is below `count`, which fits.
    let number = |unit: &i64| distinct.partition_point(|other| other < unit) as u32;
    Ok((units.iter().map(number).collect(), count))
}

/// The probability beyond each end, widened for few units: Φ(-√(n/(n-1)) · t).
fn expanded_tail(confidence: f64, units: u32) -> Result<f64> {
    let tail = (1.0 - confidence) / 2.0;
    let n = f64::from(units);
    let internal = |what: &str| Error::internal(format!("bootstrap: no {what} distribution"));
    let student = StudentsT::new(0.0, 1.0, n - 1.0).map_err(|_| internal("Student's t"))?;
    let normal = Normal::new(0.0, 1.0).map_err(|_| internal("normal"))?;
    Ok(normal.cdf((n / (n - 1.0)).sqrt() * student.inverse_cdf(tail)))
}

/// Both ends of the interval of a statistic, from its values on the draws.
fn percentiles(name: &str, value: f64, mut draws: Vec<f64>, tail: f64) -> Result<(f64, f64)> {
    if value.is_nan() {
        return Err(Error::invalid(format!(
            "bootstrap: {name} is undefined on the rows as they are"
        )));
    }
    let asked = draws.len();
    draws.retain(|draw| !draw.is_nan());
    let undefined = asked - draws.len();
    if undefined as f64 > MOST_UNDEFINED * asked as f64 {
        return Err(Error::invalid(format!(
            "bootstrap: {name} is undefined on {undefined} of {asked} draws: too few units \
             hold what it needs"
        )));
    }
    draws.sort_unstable_by(f64::total_cmp);
    let tail = if tail * (draws.len() as f64) < 1.0 { 0.0 } else { tail };
    Ok((quantile(&draws, tail), quantile(&draws, 1.0 - tail)))
}

/// Type 7 of Hyndman and Fan: linear between order statistics. `sorted` is not empty.
fn quantile(sorted: &[f64], probability: f64) -> f64 {
    let place = probability * (sorted.len() - 1) as f64;
    let below = place.floor() as usize;
    let above = (below + 1).min(sorted.len() - 1);
    let share = place - place.floor();
    if share == 0.0 {
        return sorted[below];
    }
    sorted[below] + share * (sorted[above] - sorted[below])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric;

    const BOOTSTRAP: Bootstrap = Bootstrap { draws: 400, confidence: 0.95, seed: 7 };

    fn uniform(rng: &mut ChaCha8Rng) -> f64 {
        (rng.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Days whose rate of late rows is anything between 0 and 50 %, the same for all rows of a day.
    fn late_days(rng: &mut ChaCha8Rng, days: i64) -> (Vec<i64>, Vec<bool>) {
        let (mut units, mut labels) = (Vec::new(), Vec::new());
        for day in 0..days {
            let rate = 0.5 * uniform(rng);
            for _ in 0..40 + (uniform(rng) * 40.0) as usize {
                units.push(day);
                labels.push(uniform(rng) < rate);
            }
        }
        (units, labels)
    }

    #[test]
    fn intervals_over_days_cover_the_truth_and_intervals_over_rows_do_not() {
        let bootstrap = Bootstrap { draws: 200, ..BOOTSTRAP };
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        // The score is always the true rate 0.25, so the expected Brier score is 0.25 · 0.75.
        let (runs, truth) = (600, 0.1875);
        for (days, least) in [(14, 0.925), (40, 0.93)] {
            let (mut over_days, mut over_rows) = (0, 0);
            for _ in 0..runs {
                let (units, labels) = late_days(&mut rng, days);
                let losses = metric::squared_errors(&vec![0.25; labels.len()], &labels).unwrap();
                let rows: Vec<i64> = (0..labels.len() as i64).collect();
                let covers = |units: &[i64]| {
                    let mean = |weights: &[f64]| metric::weighted_mean(&losses, weights);
                    let found = bootstrap.interval(units, mean).unwrap();
                    i32::from(found.low <= truth && truth <= found.high)
                };
                over_days += covers(&units);
                over_rows += covers(&rows);
            }
            let (over_days, over_rows) =
                (f64::from(over_days) / f64::from(runs), f64::from(over_rows) / f64::from(runs));
            // 2.5 standard errors of 600 runs at 95 % are 0.022.
            assert!((least..=0.975).contains(&over_days), "{days} days: {over_days}");
            assert!(over_rows < 0.65, "{days} days, by rows: {over_rows}");
        }
    }

    #[test]
    fn with_many_units_the_interval_is_the_one_of_the_central_limit() {
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        let values: Vec<f64> = (0..400).map(|_| uniform(&mut rng)).collect();
        let units: Vec<i64> = (0..400).collect();
        let bootstrap = Bootstrap { draws: 4000, ..BOOTSTRAP };
        let mean = |weights: &[f64]| metric::weighted_mean(&values, weights);
        let found = bootstrap.interval(&units, mean).unwrap();
        // The standard deviation of a uniform number is √(1/12).
        let half = 1.96 * (1.0_f64 / 12.0 / 400.0).sqrt();
        assert!(((found.high - found.low) / (2.0 * half) - 1.0).abs() < 0.08, "{found:?}");
        assert!((found.high + found.low - 2.0 * found.value).abs() < 0.1 * half, "{found:?}");
    }

    #[test]
    fn the_tail_widens_for_few_units_as_the_formula_says() {
        // scipy.stats: norm.cdf(-sqrt(n / (n - 1)) * t.ppf(0.975, n - 1)).
        for (units, wanted) in [
            (3, 6.834_137_311_941_282e-8),
            (5, 9.541_005_518_824_907e-4),
            (14, 0.012_483_255_223_348_378),
            (60, 0.021_801_790_933_923_385),
            (300, 0.024_349_485_848_844_627),
        ] {
            let found = expanded_tail(0.95, units).unwrap();
            assert!((found / wanted - 1.0).abs() < 1e-6, "{units}: {found} != {wanted}");
        }
    }

    #[test]
    fn quantiles_are_those_of_type_7() {
        // numpy.quantile([1, 2, 3, 5], [0, 0.1, 0.5, 0.75, 1]).
        for (probability, wanted) in [(0.0, 1.0), (0.1, 1.3), (0.5, 2.5), (0.75, 3.5), (1.0, 5.0)] {
            let found = quantile(&[1.0, 2.0, 3.0, 5.0], probability);
            assert!((found - wanted).abs() < 1e-12, "{probability}: {found} != {wanted}");
        }
    }

    #[test]
    fn the_bits_do_not_depend_on_threads_or_on_what_else_is_computed() {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let (units, labels) = late_days(&mut rng, 9);
        let scores: Vec<f64> = labels.iter().map(|_| uniform(&mut rng)).collect();
        let order = metric::AucOrder::new(&scores, &labels).unwrap();
        let auc = |weights: &[f64]| order.weighted(weights);
        let brier = |weights: &[f64]| metric::weighted_brier(&scores, &labels, weights);
        let alone = BOOTSTRAP.interval(&units, auc).unwrap();
        for threads in [1, 2, 5] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let names = ["brier", "auc"];
            let both = pool.install(|| {
                BOOTSTRAP.intervals(&units, names, |weights| [brier(weights), auc(weights)])
            });
            assert_eq!(both.unwrap()[1], alone, "{threads} threads");
        }
        let other = Bootstrap { seed: 8, ..BOOTSTRAP }.interval(&units, auc).unwrap();
        assert_ne!(other, alone);
        assert_eq!(other.value, alone.value);
    }

    #[test]
    fn draws_without_a_class_are_left_out_while_they_are_few() {
        let scores = [0.2, 0.4, 0.6, 0.8, 0.1, 0.9, 0.3, 0.7, 0.5, 0.35];
        let units: Vec<i64> = (0..10).collect();
        let auc = |positives: usize| {
            let labels: Vec<bool> = (0..10).map(|row| row < positives).collect();
            BOOTSTRAP.interval(&units, |weights| metric::weighted_auc(&scores, &labels, weights))
        };
        // 0.6^10 + 0.4^10 of the draws have one class only: 0.6 %.
        let found = auc(4).unwrap();
        assert!(found.low <= found.value && found.value <= found.high);
        // 0.9^10: 35 %.
        let error = auc(1).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains("draws"), "{error}");
        assert!(auc(0).unwrap_err().to_string().contains("as they are"));
    }

    #[test]
    fn settings_and_units_out_of_range_are_refused() {
        let none = |bootstrap: Bootstrap, units: &[i64]| {
            bootstrap.interval(units, |weights| weights.iter().sum()).unwrap_err().to_string()
        };
        let with = |draws, confidence| Bootstrap { draws, confidence, seed: 0 };
        assert!(none(BOOTSTRAP, &[]).contains("0 units"));
        assert!(none(BOOTSTRAP, &[4, 4, 4]).contains("3 rows in 1 units"));
        assert!(none(with(39, 0.95), &[1, 2]).contains("at least 40"));
        assert!(none(with(100_001, 0.95), &[1, 2]).contains("at most 100000"));
        for confidence in [0.0, 1.0, f64::NAN] {
            assert!(none(with(1000, confidence), &[1, 2]).contains("confidence"));
        }
        // At the border, and with units at both ends of their range.
        let sum = |weights: &[f64]| weights[0];
        let found = with(20, 0.9).interval(&[i64::MIN, i64::MAX], sum).unwrap();
        assert_eq!((found.low, found.value, found.high), (0.0, 1.0, 2.0));
    }
}
