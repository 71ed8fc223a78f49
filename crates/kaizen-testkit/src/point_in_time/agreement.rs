//! How far an answer may be from the oracle's.
#![allow(clippy::panic, reason = "a comparison fails by panicking")]

use arrow::array::{ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{Float64Type, Int64Type};
use kaizen_table::{Aggregate, FeatureView, Value};

/// Checks the answer of a point-in-time join against the [oracle](super::oracle)'s, feature by
/// feature. Everything is equal, floats to the last bit (NaN is NaN), but for these:
///
/// * a standard deviation, within 1e-9 of itself, for the oracle rounds in each step;
/// * a sketch of distinct values, within 5 %, rounded up to a whole value, and two more: of few
///   values some may share a register;
/// * a sketch of a quantile, within 1 % of the value of that rank.
pub fn assert_agree(view: &FeatureView, found: &RecordBatch, expected: &RecordBatch) {
    assert_eq!(found.schema(), expected.schema());
    assert_eq!(found.num_rows(), expected.num_rows());
    let columns = found.columns().iter().zip(expected.columns());
    for (feature, (found, expected)) in view.features().iter().zip(columns) {
        let allowed: Option<fn(f64) -> f64> = match &feature.value {
            Value::Window(window) => match window.aggregate {
                Aggregate::StandardDeviation => Some(|exact| 1e-9 * exact.abs().max(1.0)),
                Aggregate::ApproximateDistinct => Some(|exact| (0.05 * exact).ceil() + 2.0),
                // The last digits are the sketch's own rounding.
                Aggregate::Quantile { .. } => Some(|exact| 0.010_000_001 * exact.abs()),
                _ => None,
            },
            Value::Column(_) => None,
        };
        let name = &feature.field.name;
        match (numbers(found), numbers(expected)) {
            (Some(found), Some(expected)) => {
                for (row, pair) in found.into_iter().zip(expected).enumerate() {
                    let near = match pair {
                        (Some(found), Some(exact)) if found.to_bits() != exact.to_bits() => {
                            (found.is_nan() && exact.is_nan())
                                || allowed.is_some_and(|of| (found - exact).abs() <= of(exact))
                        }
                        (found, exact) => found.is_some() == exact.is_some(),
                    };
                    assert!(near, "feature `{name}`, row {row}: {:?}, not {:?}", pair.0, pair.1);
                }
            }
            _ => assert_eq!(found, expected, "feature `{name}`"),
        }
    }
}

/// Numbers as floats, and so bits as they are; small integers fit.
fn numbers(values: &ArrayRef) -> Option<Vec<Option<f64>>> {
    if let Some(floats) = values.as_primitive_opt::<Float64Type>() {
        return Some(floats.iter().collect());
    }
    let whole = values.as_primitive_opt::<Int64Type>()?;
    // Beyond 2^53 a float would lose digits: such values are compared as they are.
    let small = whole.iter().flatten().all(|value| value.unsigned_abs() < 1 << 53);
    small.then(|| whole.iter().map(|value| value.map(|value| value as f64)).collect())
}
