//! The aggregates, each by its definition.

use kaizen_core::{Error, ErrorKind, Result};
use kaizen_table::Aggregate;

/// A value that is there: not missing, not NaN.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Item {
    Flag(bool),
    Whole(i64),
    Number(f64),
    Text(String),
}

impl Item {
    pub(super) fn flag(&self) -> Option<bool> {
        if let Self::Flag(flag) = self { Some(*flag) } else { None }
    }

    pub(super) fn whole(&self) -> Option<i64> {
        if let Self::Whole(whole) = self { Some(*whole) } else { None }
    }

    pub(super) fn number(&self) -> Option<f64> {
        if let Self::Number(number) = self { Some(*number) } else { None }
    }

    pub(super) fn text(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }
}

/// The aggregate of the values of a window, which stand from the earliest to the latest.
///
/// Approximate ones are answered exactly.
pub(super) fn aggregate(aggregate: Aggregate, values: &[Item]) -> Result<Option<Item>> {
    let numbers: Vec<f64> = values.iter().filter_map(Item::number).collect();
    let number =
        |of: &dyn Fn(&[f64]) -> f64| (!numbers.is_empty()).then(|| Item::Number(of(&numbers)));
    Ok(match aggregate {
        Aggregate::Count => Some(Item::Whole(values.len() as i64)),
        Aggregate::Sum => number(&sum),
        Aggregate::Mean => number(&mean),
        Aggregate::Min => number(&|numbers| sorted(numbers)[0]),
        Aggregate::Max => number(&|numbers| sorted(numbers)[numbers.len() - 1]),
        Aggregate::StandardDeviation => {
            (numbers.len() >= 2).then(|| Item::Number(standard_deviation(&numbers)))
        }
        Aggregate::First => values.first().cloned(),
        Aggregate::Last => values.last().cloned(),
        Aggregate::Distinct | Aggregate::ApproximateDistinct => Some(Item::Whole(distinct(values))),
        Aggregate::Quantile { per_mille } => {
            number(&|numbers| sorted(numbers)[rank(per_mille, numbers.len())])
        }
        other => return Err(Error::new(ErrorKind::Unsupported, format!("aggregate {other:?}"))),
    })
}

/// The rank, from 0, of a quantile among `count` values, of which there is at least one:
/// `q * (count - 1)`, rounded down.
fn rank(per_mille: u16, count: usize) -> usize {
    usize::from(per_mille) * (count - 1) / 1_000
}

/// Ascending, with negative zero before zero.
fn sorted(numbers: &[f64]) -> Vec<f64> {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

fn sum(numbers: &[f64]) -> f64 {
    numbers.iter().fold(0.0, |sum, number| sum + number)
}

fn mean(numbers: &[f64]) -> f64 {
    sum(numbers) / numbers.len() as f64
}

/// Of the sample, in two passes.
fn standard_deviation(numbers: &[f64]) -> f64 {
    let mean = mean(numbers);
    let squares: Vec<f64> = numbers.iter().map(|number| (number - mean).powi(2)).collect();
    (sum(&squares) / (numbers.len() - 1) as f64).sqrt()
}

/// How many values differ from all before them.
fn distinct(values: &[Item]) -> i64 {
    let new = |place: &usize| !values[..*place].contains(&values[*place]);
    (0..values.len()).filter(new).count() as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(kind: Aggregate, numbers: &[f64]) -> Option<Item> {
        let items: Vec<Item> = numbers.iter().copied().map(Item::Number).collect();
        aggregate(kind, &items).unwrap()
    }

    #[test]
    fn aggregates_of_four_numbers() {
        let numbers = [4.0, 1.0, 4.0, 7.0];
        let quantile = |per_mille| of(Aggregate::Quantile { per_mille }, &numbers);
        let number = |value| Some(Item::Number(value));
        assert_eq!(of(Aggregate::Count, &numbers), Some(Item::Whole(4)));
        assert_eq!(of(Aggregate::Sum, &numbers), number(16.0));
        assert_eq!(of(Aggregate::Mean, &numbers), number(4.0));
        assert_eq!(of(Aggregate::Min, &numbers), number(1.0));
        assert_eq!(of(Aggregate::Max, &numbers), number(7.0));
        assert_eq!(of(Aggregate::StandardDeviation, &numbers), number(6_f64.sqrt()));
        assert_eq!(of(Aggregate::First, &numbers), number(4.0));
        assert_eq!(of(Aggregate::Last, &numbers), number(7.0));
        assert_eq!(of(Aggregate::Distinct, &numbers), Some(Item::Whole(3)));
        let quantiles = [0, 333, 334, 500, 667, 999, 1_000].map(quantile);
        assert_eq!(quantiles, [1.0, 1.0, 4.0, 4.0, 4.0, 4.0, 7.0].map(number));
    }

    #[test]
    fn counts_of_nothing_are_zero_and_the_rest_is_missing() {
        assert_eq!(of(Aggregate::Count, &[]), Some(Item::Whole(0)));
        assert_eq!(of(Aggregate::ApproximateDistinct, &[]), Some(Item::Whole(0)));
        assert_eq!(of(Aggregate::StandardDeviation, &[1.0]), None);
        for kind in [Aggregate::Sum, Aggregate::Min, Aggregate::Last] {
            assert_eq!(of(kind, &[]), None);
        }
    }
}
