//! Synthetic tables whose days resemble themselves, and that drift from a day on.

use std::f64::consts::TAU;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Float64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use kaizen_core::{Context, Error, ErrorKind, Result, TimeBlocks, Timestamp};
use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// A seeded table of rows in days, with a shift from [`from_day`](Self::from_day) on.
///
/// Columns: `time` (instants, UTC), `x0`, `x1`, … (numbers), `c0`, `c1`, … (texts `a` to `e`),
/// `label` (booleans: more often true when `x0` is high). All rows of a day share an effect on each
/// number (normal, of standard deviation [`day_effect`](Self::day_effect); the rows within a day
/// have 1) and on each text's shares, so that rows are not independent but days are. The rows of
/// a day depend on the seed and the day alone.
///
/// ```
/// use kaizen_testkit::drifting::Drifting;
///
/// let data = Drifting { rows_per_day: 20, ..Drifting::default() };
/// let rows = data.rows(0..3)?;
/// assert_eq!(rows.num_rows(), 60);
/// assert_eq!(data.rows(2..3)?, rows.slice(40, 20));
/// # Ok::<(), kaizen_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Drifting {
    /// Fixes every value.
    pub seed: u64,
    /// Rows in each day.
    pub rows_per_day: usize,
    /// Columns of numbers.
    pub numbers: usize,
    /// Columns of texts.
    pub texts: usize,
    /// The standard deviation of what the rows of a day share; theirs within the day is 1.
    pub day_effect: f64,
    /// The first day of the shifts below.
    pub from_day: u32,
    /// The first so many columns of each kind shift.
    pub shifted: usize,
    /// How far the numbers shift, in standard deviations of day effects.
    pub mean_shift: f64,
    /// The share of texts that become the new text `z`.
    pub new_category: f64,
    /// The share of values that go missing.
    pub missing: f64,
    /// How much more often the label is true whatever `x0` is (a change of the concept).
    pub label_shift: f64,
}

impl Default for Drifting {
    /// 200 rows a day, 4 numbers, 2 texts, a day effect of 1, and no shift (but set from day 0 on,
    /// for the first 3 columns of each kind).
    fn default() -> Self {
        Self {
            seed: 1,
            rows_per_day: 200,
            numbers: 4,
            texts: 2,
            day_effect: 1.0,
            from_day: 0,
            shifted: 3,
            mean_shift: 0.0,
            new_category: 0.0,
            missing: 0.0,
            label_shift: 0.0,
        }
    }
}

const TEXTS: [&str; 5] = ["a", "b", "c", "d", "e"];

impl Drifting {
    /// The number of a day's block, for days that start at midnight UTC: day 0 is 2020-01-01.
    pub fn block(&self, day: u32) -> i64 {
        18_262 + i64::from(day)
    }

    /// The rows of these days, in order of time.
    pub fn rows(&self, days: Range<u32>) -> Result<RecordBatch> {
        let mut columns = Columns::new(self);
        for day in days {
            self.fill(day, &mut columns);
        }
        columns.table()
    }

    fn fill(&self, day: u32, columns: &mut Columns) {
        let mut random = Random::new(self.seed, day);
        let drifted = day >= self.from_day;
        let shift = |column: usize| drifted && column < self.shifted;
        let means: Vec<f64> = (0..self.numbers)
            .map(|column| {
                let moved = if shift(column) { self.mean_shift } else { 0.0 };
                self.day_effect * (random.normal() + moved)
            })
            .collect();
        let weights: Vec<[f64; TEXTS.len()]> = (0..self.texts)
            .map(|_| TEXTS.map(|_| (0.3 * self.day_effect * random.normal()).exp()))
            .collect();
        let start = TimeBlocks::days().start(self.block(day));
        for row in 0..self.rows_per_day {
            let micros = 86_400_000_000 * row as i64 / self.rows_per_day as i64;
            columns.time.push(Timestamp::from_micros(start.micros() + micros).micros());
            let mut first = 0.0;
            for (column, mean) in means.iter().enumerate() {
                let value = mean + random.normal();
                let missing = random.uniform() < self.missing && shift(column);
                columns.numbers[column].push(if missing { None } else { Some(value) });
                first = if column == 0 { value } else { first };
            }
            for (column, weights) in weights.iter().enumerate() {
                let text = TEXTS[random.pick(weights)];
                let fresh = random.uniform() < self.new_category && shift(column);
                let missing = random.uniform() < self.missing && shift(column);
                let text = if fresh { "z" } else { text };
                columns.texts[column].push(if missing { None } else { Some(text) });
            }
            let moved = if drifted { self.label_shift } else { 0.0 };
            let chance = 0.8 / (1.0 + (-first).exp()) + 0.1 + moved;
            columns.label.push(random.uniform() < chance);
        }
    }
}

/// The columns while they are filled.
struct Columns {
    time: Vec<i64>,
    numbers: Vec<Vec<Option<f64>>>,
    texts: Vec<Vec<Option<&'static str>>>,
    label: Vec<bool>,
}

impl Columns {
    fn new(of: &Drifting) -> Self {
        Self {
            time: Vec::new(),
            numbers: vec![Vec::new(); of.numbers],
            texts: vec![Vec::new(); of.texts],
            label: Vec::new(),
        }
    }

    fn table(self) -> Result<RecordBatch> {
        if self.time.is_empty() {
            return Err(Error::invalid("drifting table: no rows"));
        }
        let time = TimestampMicrosecondArray::from(self.time).with_timezone("UTC");
        let mut columns: Vec<(String, ArrayRef)> = vec![("time".into(), Arc::new(time))];
        for (index, values) in self.numbers.into_iter().enumerate() {
            columns.push((format!("x{index}"), Arc::new(Float64Array::from(values))));
        }
        for (index, values) in self.texts.into_iter().enumerate() {
            columns.push((format!("c{index}"), Arc::new(StringArray::from(values))));
        }
        columns.push(("label".into(), Arc::new(BooleanArray::from(self.label))));
        let nullable = columns.into_iter().map(|(name, values)| (name, values, true));
        RecordBatch::try_from_iter_with_nullable(nullable)
            .context(ErrorKind::Internal, "drifting table")
    }
}

/// The random numbers of one day.
struct Random(ChaCha8Rng);

impl Random {
    fn new(seed: u64, day: u32) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(u64::from(day));
        Self(rng)
    }

    fn uniform(&mut self) -> f64 {
        ((self.0.next_u64() >> 12) as f64 + 0.5) / (1u64 << 52) as f64
    }

    /// Standard normal, by Box and Muller.
    fn normal(&mut self) -> f64 {
        let radius = (-2.0 * self.uniform().ln()).sqrt();
        radius * (TAU * self.uniform()).cos()
    }

    /// An index, in proportion to the weights.
    fn pick(&mut self, weights: &[f64]) -> usize {
        let mut left = self.uniform() * weights.iter().sum::<f64>();
        let passed = |weight: &&f64| {
            left -= **weight;
            left > 0.0
        };
        weights.iter().take_while(passed).count().min(weights.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Array, AsArray};
    use arrow::datatypes::Float64Type;

    use super::*;

    #[test]
    fn it_shifts_from_its_day_on_and_not_before() {
        let plain = Drifting { numbers: 2, ..Drifting::default() };
        let shifted = Drifting {
            from_day: 5,
            shifted: 1,
            mean_shift: 30.0,
            new_category: 0.5,
            missing: 0.25,
            ..plain.clone()
        };
        assert_eq!(plain.rows(0..5).unwrap(), shifted.rows(0..5).unwrap());
        let (before, after) = (plain.rows(5..9).unwrap(), shifted.rows(5..9).unwrap());
        assert_eq!(before["x1"].to_data(), after["x1"].to_data());
        assert_eq!(before["c1"].to_data(), after["c1"].to_data());
        let x0 = after["x0"].as_primitive::<Float64Type>();
        assert!((150..250).contains(&x0.null_count()), "{}", x0.null_count());
        assert!(x0.iter().flatten().all(|value| value > 15.0));
        let c0 = after["c0"].as_string::<i32>();
        let fresh = c0.iter().flatten().filter(|text| *text == "z").count();
        assert!((230..370).contains(&fresh), "{fresh}");
    }

    #[test]
    fn rows_of_a_day_share_their_effect() {
        let data = Drifting { rows_per_day: 400, day_effect: 2.0, ..Drifting::default() };
        let mean = |day| {
            let rows = data.rows(day..day + 1).unwrap();
            rows["x0"].as_primitive::<Float64Type>().values().iter().sum::<f64>() / 400.0
        };
        let means: Vec<f64> = (0..60).map(mean).collect();
        let centre = means.iter().sum::<f64>() / 60.0;
        let variance = means.iter().map(|m| (m - centre).powi(2)).sum::<f64>() / 59.0;
        // 4 of the days; rows alone would give 1/400.
        assert!((2.0..7.0).contains(&variance), "{variance}");
    }
}
