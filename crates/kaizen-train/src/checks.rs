//! What every estimator demands of its input.

use kaizen_core::{Error, Result};
use ndarray::{ArrayView1, ArrayView2};

/// Checks `x` (rows × features, missing as NaN, nothing infinite) and `y` (rows, 0 and 1 both
/// present).
pub(crate) fn training_input(x: ArrayView2<f64>, y: ArrayView1<f64>) -> Result<()> {
    let (rows, features) = x.dim();
    if rows != y.len() {
        return Err(Error::invalid(format!("training: {rows} rows with {} labels", y.len())));
    }
    if rows == 0 || features == 0 {
        return Err(Error::invalid(format!("training: {rows} rows of {features} features")));
    }
    if let Some(row) = y.iter().position(|label| *label != 0.0 && *label != 1.0) {
        return Err(Error::invalid(format!(
            "training: row {row} has label {}, not 0 or 1",
            y[row]
        )));
    }
    let positives = y.iter().filter(|label| **label == 1.0).count();
    if positives == 0 || positives == rows {
        let label = u8::from(positives > 0);
        return Err(Error::invalid(format!("training: all {rows} rows have label {label}")));
    }
    if let Some(((row, feature), value)) = x.indexed_iter().find(|(_, value)| value.is_infinite()) {
        return Err(Error::invalid(format!(
            "training: row {row} has {value} as feature {feature}"
        )));
    }
    Ok(())
}

/// Checks that the table has as many features as the model was trained on.
pub(crate) fn features(x: ArrayView2<f64>, expected: usize) -> Result<()> {
    if x.ncols() != expected {
        let found = x.ncols();
        return Err(Error::invalid(format!("model takes {expected} features, not {found}")));
    }
    Ok(())
}

/// An error about the value of a setting.
pub(crate) fn setting<T>(name: &str, value: T, demand: &str) -> Error
where
    T: std::fmt::Display,
{
    Error::invalid(format!("setting `{name}`: {value} is not {demand}"))
}
