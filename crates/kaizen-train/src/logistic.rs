//! Logistic regression.

use std::sync::Arc;

use kaizen_core::record::Algorithm;
use kaizen_core::{Context, Error, ErrorKind, Result};
use kaizen_table::{Estimator, Predictor};
use ndarray::{Array2, ArrayView1, ArrayView2};
use serde::{Deserialize, Serialize};

use crate::linear::{Linear, Standard};
use crate::{checks, newton};

/// Logistic regression with a penalty on the squares of the weights, on candle tensors.
///
/// Each feature is brought to mean 0 and standard deviation 1. A missing value becomes the mean,
/// and a feature that was missing in some training row has a second weight that says what being
/// missing tells. Minimises the mean log loss plus `l2 / (2 rows)` times the sum of squared
/// weights, the intercept excepted, by Newton's method; as this is strictly convex there is one
/// answer, and it is found to `tolerance`. The seed changes nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogisticRegression {
    /// The penalty, above 0: scikit-learn's `1 / C`. Default 1.
    pub l2: f64,
    /// How small every component of the gradient must become; above 0. Default 1e-9.
    pub tolerance: f64,
    /// The most steps of Newton's method, 1 to 10,000; to need more is an error. Default 100.
    pub max_iterations: u32,
    /// Where the tensors live. Default the CPU.
    pub device: Device,
}

/// Where tensors live.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Device {
    /// In main memory.
    #[default]
    Cpu,
    /// On an NVIDIA GPU; needs the cargo feature `cuda`.
    Cuda {
        /// The number of the GPU, from 0.
        ordinal: usize,
    },
}

impl Device {
    pub(crate) fn open(self) -> Result<candle_core::Device> {
        match self {
            Self::Cpu => Ok(candle_core::Device::Cpu),
            Self::Cuda { ordinal } => candle_core::Device::new_cuda(ordinal)
                .context(ErrorKind::Unsupported, format!("CUDA device {ordinal}")),
        }
    }
}

impl Default for LogisticRegression {
    fn default() -> Self {
        Self { l2: 1.0, tolerance: 1e-9, max_iterations: 100, device: Device::Cpu }
    }
}

impl LogisticRegression {
    /// At most this many features: a step takes time with their third power.
    pub const MAX_FEATURES: usize = 2_000;

    fn check(&self, features: usize) -> Result<()> {
        if !(self.l2 > 0.0 && self.l2 <= 1e12) {
            return Err(checks::setting("l2", self.l2, "above 0 and up to 1e12"));
        }
        if !(self.tolerance > 0.0 && self.tolerance < 1.0) {
            return Err(checks::setting("tolerance", self.tolerance, "above 0 and below 1"));
        }
        if !(1..=10_000).contains(&self.max_iterations) {
            return Err(checks::setting("max_iterations", self.max_iterations, "1 to 10,000"));
        }
        if features > Self::MAX_FEATURES {
            let most = Self::MAX_FEATURES;
            let message = format!("logistic regression: {features} features, over {most}");
            return Err(Error::new(ErrorKind::Limit, message));
        }
        Ok(())
    }
}

impl Estimator for LogisticRegression {
    fn algorithm(&self) -> Algorithm {
        let device = match self.device {
            Device::Cpu => "cpu".to_owned(),
            Device::Cuda { ordinal } => format!("cuda:{ordinal}"),
        };
        let settings = [
            ("l2", self.l2.to_string()),
            ("tolerance", self.tolerance.to_string()),
            ("max_iterations", self.max_iterations.to_string()),
            ("device", device),
        ];
        let settings = settings.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        Algorithm { name: "logistic_regression".to_owned(), settings }
    }

    fn fit(
        &self,
        x: ArrayView2<f64>,
        y: ArrayView1<f64>,
        _seed: u64,
    ) -> Result<Arc<dyn Predictor>> {
        self.check(x.ncols())?;
        checks::training_input(x, y)?;
        let standard = Standard::of(x)?;
        let (design, sources) = design(x, &standard);
        let fitted = newton::minimise(self, design.view(), y)?;
        let (weights, intercept) = fitted.split_at(sources.len());
        let mut model = Linear::new(standard, intercept[0]);
        for (source, weight) in sources.iter().zip(weights) {
            match source {
                Column::Value(feature) => model.weight[*feature] = *weight,
                Column::Missing(feature) => model.missing_weight[*feature] = *weight,
            }
        }
        Ok(Arc::new(model))
    }
}

/// What a column of the design matrix stands for.
#[derive(Clone, Copy)]
enum Column {
    Value(usize),
    Missing(usize),
}

/// The matrix that is fitted: standardised values, 1 where a feature is missing, and a last column
/// of ones. Rows × (features + features with missing values + 1).
fn design(x: ArrayView2<f64>, standard: &Standard) -> (Array2<f64>, Vec<Column>) {
    let missing = |feature: &usize| x.column(*feature).iter().any(|value| value.is_nan());
    let sources: Vec<Column> = (0..x.ncols())
        .map(Column::Value)
        .chain((0..x.ncols()).filter(missing).map(Column::Missing))
        .collect();
    let mut design = Array2::ones((x.nrows(), sources.len() + 1));
    for (source, mut out) in sources.iter().zip(design.columns_mut()) {
        match *source {
            Column::Value(feature) => {
                for (out, value) in out.iter_mut().zip(x.column(feature)) {
                    *out = if value.is_nan() { 0.0 } else { standard.value(feature, *value) };
                }
            }
            Column::Missing(feature) => {
                for (out, value) in out.iter_mut().zip(x.column(feature)) {
                    *out = if value.is_nan() { 1.0 } else { 0.0 };
                }
            }
        }
    }
    (design, sources)
}

#[cfg(test)]
mod tests {
    use ndarray::{Array1, array};

    use super::*;

    #[test]
    fn a_bad_setting_is_named() {
        let fit = |settings: LogisticRegression| {
            settings.fit(array![[0.0], [1.0]].view(), array![0.0, 1.0].view(), 0)
        };
        let good = LogisticRegression::default();
        let bad = [
            ("l2", LogisticRegression { l2: 0.0, ..good.clone() }),
            ("tolerance", LogisticRegression { tolerance: f64::NAN, ..good.clone() }),
            ("max_iterations", LogisticRegression { max_iterations: 0, ..good.clone() }),
        ];
        for (name, settings) in bad {
            let error = fit(settings).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert!(error.to_string().contains(&format!("`{name}`")), "{error}");
        }
        fit(good).unwrap();
    }

    #[test]
    fn too_few_steps_and_too_many_features_are_errors() {
        let settings = LogisticRegression { max_iterations: 1, ..Default::default() };
        let x = array![[0.0], [1.0], [2.0], [3.0]];
        let y = array![0.0, 1.0, 0.0, 1.0];
        let error = settings.fit(x.view(), y.view(), 0).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Limit);
        assert!(error.to_string().contains("1 steps"), "{error}");

        let wide = Array2::zeros((2, LogisticRegression::MAX_FEATURES + 1));
        let y = array![0.0, 1.0];
        let error = LogisticRegression::default().fit(wide.view(), y.view(), 0).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Limit);
    }

    #[test]
    fn perfectly_separable_and_far_off_values_still_converge() {
        let x = array![[-1e9, 1.0], [-2e9, 1.0], [1e9, 1.0], [2e9, 1.0], [f64::NAN, 1.0]];
        let y = array![0.0, 0.0, 1.0, 1.0, 1.0];
        let settings = LogisticRegression { l2: 1e-6, ..Default::default() };
        let scores = settings.fit(x.view(), y.view(), 0).unwrap().predict(x.view()).unwrap();
        let rounded: Array1<f64> = scores.mapv(f64::round);
        assert_eq!(rounded, y);
    }

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn a_gpu_that_the_build_does_not_know_is_unsupported() {
        let settings =
            LogisticRegression { device: Device::Cuda { ordinal: 0 }, ..Default::default() };
        let error = settings.fit(array![[0.0], [1.0]].view(), array![0.0, 1.0].view(), 0);
        assert_eq!(error.unwrap_err().kind(), ErrorKind::Unsupported);
    }
}
