//! Windows: aggregates over the rows of the last so many seconds.

use kaizen_core::{DataType, Error, Result};
use serde::{Deserialize, Serialize};

/// An aggregate over the rows whose event time lies in the window.
///
/// As of `t` a window without hops is `(t - seconds, t]`, exact at both ends. With hops of `h`
/// seconds it begins at a whole multiple of `h` since the epoch: it is `(b, t]` with
/// `b = floor((t - seconds) / h) * h`, so it is up to `h` longer, and what is kept online of all but
/// the newest rows is one tile for each hop instead of the rows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// The aggregate.
    pub aggregate: Aggregate,
    /// The column that is aggregated. Missing values, and NaN, do not count.
    pub column: String,
    /// The length of the window in seconds.
    pub seconds: u32,
    /// The length of a hop in seconds; it divides the length of the window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hop_seconds: Option<u32>,
    /// The type in which the column's values are taken: numbers, unless the aggregate is one that
    /// takes any type.
    #[serde(default = "number", skip_serializing_if = "is_number")]
    pub holds: DataType,
}

/// How a window's values become one.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Aggregate {
    /// How many values there are; 0 if none. Of any type.
    Count,
    /// Their sum, exact before it is rounded once; missing if there are none.
    Sum,
    /// Their sum over their count; missing if there are none.
    Mean,
    /// The least; missing if there are none.
    Min,
    /// The greatest; missing if there are none.
    Max,
    /// The standard deviation of the sample, over `n - 1`; missing if there are fewer than two.
    StandardDeviation,
    /// The value of the earliest row, by event time, then by when it became known, then by the
    /// source's order. Of any type.
    First,
    /// The value of the latest row, in the same order. Of any type.
    Last,
    /// How many different values there are, exactly; 0 if none. Of any type.
    Distinct,
    /// How many different values there are, by a sketch of bounded size. Of any type.
    ApproximateDistinct,
    /// A quantile by a sketch of bounded size: within 1 % of a value whose rank is the wanted one;
    /// missing if there are none.
    Quantile {
        /// Which: 500 is the median, 950 the 95th percentile; at most 1,000.
        per_mille: u16,
    },
}

impl Aggregate {
    /// Whether it takes values of any type, and not numbers alone.
    pub fn takes_any_type(self) -> bool {
        use Aggregate::{ApproximateDistinct, Count, Distinct, First, Last};
        matches!(self, Count | First | Last | Distinct | ApproximateDistinct)
    }
}

impl Window {
    /// A window of numbers without hops.
    pub fn new(aggregate: Aggregate, column: impl Into<String>, seconds: u32) -> Self {
        let column = column.into();
        Self { aggregate, column, seconds, hop_seconds: None, holds: DataType::Float64 }
    }

    /// With hops of this length.
    #[must_use]
    pub fn hop_seconds(mut self, seconds: u32) -> Self {
        self.hop_seconds = Some(seconds);
        self
    }

    /// Of values of this type.
    #[must_use]
    pub fn holds(mut self, data_type: DataType) -> Self {
        self.holds = data_type;
        self
    }

    /// The type of its feature.
    pub fn output(&self) -> DataType {
        match self.aggregate {
            Aggregate::Count | Aggregate::Distinct | Aggregate::ApproximateDistinct => {
                DataType::Int64
            }
            Aggregate::First | Aggregate::Last => self.holds,
            _ => DataType::Float64,
        }
    }

    /// How far back it ever looks, in seconds.
    pub fn reach_seconds(&self) -> u32 {
        self.seconds.saturating_add(self.hop_seconds.unwrap_or(0))
    }

    /// The instant, in nanoseconds UTC, after which a row's event time must lie to be in the window
    /// as of `at`; `None` if there is none so early.
    pub fn begins_after(&self, at: i64) -> Option<i64> {
        let nanos = |seconds: u32| i64::from(seconds) * 1_000_000_000;
        let begin = at.checked_sub(nanos(self.seconds))?;
        match self.hop_seconds.map(nanos) {
            Some(hop) => begin.div_euclid(hop).checked_mul(hop),
            None => Some(begin),
        }
    }

    pub(crate) fn check(&self, output: DataType) -> Result<()> {
        if self.seconds == 0 {
            return Err(Error::invalid("it has a length of 0"));
        }
        if let Some(hop) =
            self.hop_seconds.filter(|hop| *hop == 0 || !self.seconds.is_multiple_of(*hop))
        {
            let seconds = self.seconds;
            return Err(Error::invalid(format!("hops of {hop} s do not divide {seconds} s")));
        }
        if self.holds != DataType::Float64 && !self.aggregate.takes_any_type() {
            let (aggregate, holds) = (self.aggregate, self.holds);
            return Err(Error::invalid(format!("{aggregate:?} is of numbers, not of {holds:?}")));
        }
        if let Aggregate::Quantile { per_mille } = self.aggregate
            && per_mille > 1_000
        {
            return Err(Error::invalid(format!("a quantile of {per_mille} per mille")));
        }
        if output != self.output() {
            let (aggregate, gives) = (self.aggregate, self.output());
            return Err(Error::invalid(format!("{aggregate:?} gives {gives:?}, not {output:?}")));
        }
        Ok(())
    }
}

fn number() -> DataType {
    DataType::Float64
}

fn is_number(data_type: &DataType) -> bool {
    *data_type == DataType::Float64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hopping_window_begins_at_a_hop_and_the_other_does_not() {
        let exact = Window::new(Aggregate::Sum, "x", 60);
        assert_eq!(exact.begins_after(100_000_000_001), Some(40_000_000_001));
        let hopping = exact.clone().hop_seconds(30);
        assert_eq!(hopping.begins_after(100_000_000_001), Some(30_000_000_000));
        assert_eq!(hopping.begins_after(-1), Some(-90_000_000_000));
        assert_eq!((exact.reach_seconds(), hopping.reach_seconds()), (60, 90));
        assert_eq!(exact.begins_after(i64::MIN), None);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let sum = || Window::new(Aggregate::Sum, "x", 60);
        let cases = [
            (sum().hop_seconds(0), "hops of 0 s"),
            (sum().hop_seconds(50), "hops of 50 s do not divide 60 s"),
            (sum().holds(DataType::Utf8), "Sum is of numbers"),
            (Window::new(Aggregate::Quantile { per_mille: 1_001 }, "x", 60), "1001 per mille"),
            (Window::new(Aggregate::Sum, "x", 0), "length of 0"),
        ];
        for (window, part) in cases {
            let error = window.check(window.output()).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
        assert!(sum().check(DataType::Int64).is_err());
        let text = Window::new(Aggregate::Last, "x", 60).holds(DataType::Utf8);
        assert_eq!(text.output(), DataType::Utf8);
        text.check(DataType::Utf8).unwrap();
    }
}
