//! Gradient-boosted trees.

use std::sync::Arc;

use forust_ml::sampler::SampleMethod;
use forust_ml::{GradientBooster, Matrix};
use kaizen_core::record::Algorithm;
use kaizen_core::{Context, ErrorKind, Result};
use kaizen_table::{Estimator, Predictor};
use ndarray::{ArrayView1, ArrayView2};
use serde::{Deserialize, Serialize};

use crate::checks;
use crate::forest::Forest;

/// Gradient-boosted trees with logistic loss, by the crate `forust-ml`: histograms, second-order
/// splits as in XGBoost (Chen and Guestrin 2016), trees limited by depth. A missing value goes to
/// the side of each split that serves the training rows best.
///
/// The defaults suit tens to hundreds of thousands of rows with some tens of features. Trains on
/// rayon's current thread pool; the bytes do not depend on its size.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GradientBoosting {
    /// How many trees, 1 to 10,000. Default 120.
    pub trees: u32,
    /// The factor on each tree's answer, above 0 and up to 1. Default 0.1.
    pub learning_rate: f64,
    /// The most splits between a tree's root and a leaf, 1 to 16. Default 6.
    pub max_depth: u32,
    /// The least sum of the loss's second derivative in a leaf, each row counting at most 1/4; 0 or
    /// more. Default 10: no leaf of fewer than 40 rows.
    pub min_leaf_weight: f64,
    /// The penalty on the squares of the leaves' answers, 0 or more. Default 1.
    pub l2: f64,
    /// How many bins each feature is cut into at quantiles, 2 to 4,096. Default 256.
    pub bins: u16,
    /// The share of rows, drawn anew by the seed, that each tree learns from; above 0 and up to 1.
    /// Default 1: every row, and the seed changes nothing.
    pub subsample: f64,
}

impl Default for GradientBoosting {
    fn default() -> Self {
        Self {
            trees: 120,
            learning_rate: 0.1,
            max_depth: 6,
            min_leaf_weight: 10.0,
            l2: 1.0,
            bins: 256,
            subsample: 1.0,
        }
    }
}

impl GradientBoosting {
    fn check(&self) -> Result<()> {
        let share = |value: f64| value > 0.0 && value <= 1.0;
        let penalty = |value: f64| (0.0..=1e9).contains(&value);
        if !(1..=10_000).contains(&self.trees) {
            return Err(checks::setting("trees", self.trees, "1 to 10,000"));
        }
        if !share(self.learning_rate) {
            let demand = "above 0 and up to 1";
            return Err(checks::setting("learning_rate", self.learning_rate, demand));
        }
        if !(1..=16).contains(&self.max_depth) {
            return Err(checks::setting("max_depth", self.max_depth, "1 to 16"));
        }
        if !penalty(self.min_leaf_weight) {
            let demand = "0 to 1e9";
            return Err(checks::setting("min_leaf_weight", self.min_leaf_weight, demand));
        }
        if !penalty(self.l2) {
            return Err(checks::setting("l2", self.l2, "0 to 1e9"));
        }
        if !(2..=4_096).contains(&self.bins) {
            return Err(checks::setting("bins", self.bins, "2 to 4,096"));
        }
        if !share(self.subsample) {
            return Err(checks::setting("subsample", self.subsample, "above 0 and up to 1"));
        }
        Ok(())
    }

    /// The library's own form of the settings. `num_threads` stays unset, so that the host's thread
    /// pool governs, and `max_leaves` without end, because its leaf-wise growth is defective. Tiled
    /// histograms are the faster ones here.
    fn booster(&self, seed: u64) -> GradientBooster {
        let method = if self.subsample < 1.0 { SampleMethod::Random } else { SampleMethod::None };
        GradientBooster::default()
            .set_iterations(self.trees as usize)
            .set_learning_rate(self.learning_rate as f32)
            .set_max_depth(self.max_depth as usize)
            .set_min_leaf_weight(self.min_leaf_weight as f32)
            .set_l2(self.l2 as f32)
            .set_nbins(self.bins)
            .set_sample_method(method)
            .set_subsample(self.subsample as f32)
            .set_missing(f64::NAN)
            .set_initialize_base_score(true)
            .set_parallel(true)
            .set_tiled_histograms(true)
            .set_seed(seed)
    }
}

impl Estimator for GradientBoosting {
    fn algorithm(&self) -> Algorithm {
        let settings = [
            ("trees", self.trees.to_string()),
            ("learning_rate", self.learning_rate.to_string()),
            ("max_depth", self.max_depth.to_string()),
            ("min_leaf_weight", self.min_leaf_weight.to_string()),
            ("l2", self.l2.to_string()),
            ("bins", self.bins.to_string()),
            ("subsample", self.subsample.to_string()),
        ];
        let settings = settings.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        Algorithm { name: "gradient_boosting".to_owned(), settings }
    }

    fn fit(&self, x: ArrayView2<f64>, y: ArrayView1<f64>, seed: u64) -> Result<Arc<dyn Predictor>> {
        self.check()?;
        checks::training_input(x, y)?;
        let (rows, features) = x.dim();
        // The library wants one column after the other.
        let columns: Vec<f64> = x.t().iter().copied().collect();
        let mut booster = self.booster(seed);
        booster
            .fit_unweighted(&Matrix::new(&columns, rows, features), &y.to_vec(), None)
            .context(ErrorKind::Internal, "gradient boosting")?;
        Ok(Arc::new(Forest::of_booster(booster, features)?))
    }
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;

    #[test]
    fn a_bad_setting_is_named() {
        let fit = |settings: GradientBoosting| {
            settings.fit(array![[0.0], [1.0]].view(), array![0.0, 1.0].view(), 0)
        };
        let good = GradientBoosting::default();
        let bad = [
            ("trees", GradientBoosting { trees: 0, ..good.clone() }),
            ("learning_rate", GradientBoosting { learning_rate: f64::NAN, ..good.clone() }),
            ("max_depth", GradientBoosting { max_depth: 17, ..good.clone() }),
            ("min_leaf_weight", GradientBoosting { min_leaf_weight: -1.0, ..good.clone() }),
            ("l2", GradientBoosting { l2: f64::INFINITY, ..good.clone() }),
            ("bins", GradientBoosting { bins: 1, ..good.clone() }),
            ("subsample", GradientBoosting { subsample: 0.0, ..good.clone() }),
        ];
        for (name, settings) in bad {
            let error = fit(settings).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert!(error.to_string().contains(&format!("`{name}`")), "{error}");
        }
        fit(good).unwrap();
    }

    #[test]
    fn huge_numbers_are_numbers() {
        let x = array![[1e308, 1.0], [-1e308, f64::MAX], [1e308, f64::NAN], [0.0, f64::MIN]];
        let settings = GradientBoosting { min_leaf_weight: 0.0, ..Default::default() };
        let y = array![1.0, 0.0, 1.0, 0.0];
        let scores = settings.fit(x.view(), y.view(), 0).unwrap().predict(x.view()).unwrap();
        assert_eq!(scores.mapv(f64::round), y);
    }

    #[test]
    fn settings_are_data_with_defaults() {
        let settings: GradientBoosting = serde_json::from_str(r#"{"trees": 7}"#).unwrap();
        assert_eq!(settings, GradientBoosting { trees: 7, ..Default::default() });
        assert!(serde_json::from_str::<GradientBoosting>(r#"{"tree": 7}"#).is_err());
    }
}
