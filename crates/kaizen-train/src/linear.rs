//! A linear model of the log odds, ready to predict.

use std::collections::HashMap;
use std::sync::Arc;

use kaizen_core::{Context, Error, ErrorKind, Result};
use kaizen_table::{Loader, Predictor};
use ndarray::{Array1, ArrayView2};
use rayon::prelude::*;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use crate::checks;

const FORMAT: &str = "kaizen-logistic-safetensors";

/// Rows per task.
const CHUNK: usize = 1_024;

/// The logistic function: from log odds to a probability.
pub(crate) fn sigmoid(margin: f64) -> f64 {
    1.0 / (1.0 + (-margin).exp())
}

/// How each feature is brought to mean 0 and standard deviation 1.
#[derive(Clone, Debug)]
pub(crate) struct Standard {
    mean: Vec<f64>,
    scale: Vec<f64>,
}

impl Standard {
    /// The mean and the standard deviation of each feature's values; missing ones do not count, and
    /// a feature without spread is only centred.
    pub(crate) fn of(x: ArrayView2<f64>) -> Result<Self> {
        let (mut mean, mut scale) = (Vec::new(), Vec::new());
        for (feature, column) in x.columns().into_iter().enumerate() {
            let values = || column.iter().filter(|value| !value.is_nan());
            let count = values().count().max(1) as f64;
            let centre = values().sum::<f64>() / count;
            let variance = values().map(|value| (value - centre).powi(2)).sum::<f64>() / count;
            if !centre.is_finite() || !variance.is_finite() {
                return Err(Error::invalid(format!(
                    "training: the values of feature {feature} are too large to standardise"
                )));
            }
            // A constant's deviation is the rounding of its mean.
            let spread = variance.sqrt() > 1e-12 * centre.abs();
            mean.push(centre);
            scale.push(if spread { variance.sqrt() } else { 1.0 });
        }
        Ok(Self { mean, scale })
    }

    /// A feature's value, standardised. It stops at a million standard deviations, where no
    /// training row lies, so that an absurd or infinite value still gives a probability.
    pub(crate) fn value(&self, feature: usize, value: f64) -> f64 {
        ((value - self.mean[feature]) / self.scale[feature]).clamp(-1e6, 1e6)
    }
}

/// The weights of a logistic regression; vectors have one element per feature.
#[derive(Clone, Debug)]
pub(crate) struct Linear {
    standard: Standard,
    /// The weight of the standardised value.
    pub(crate) weight: Vec<f64>,
    /// What a missing value adds instead.
    pub(crate) missing_weight: Vec<f64>,
    intercept: f64,
}

impl Linear {
    /// A model whose weights are still 0.
    pub(crate) fn new(standard: Standard, intercept: f64) -> Self {
        let zeros = vec![0.0; standard.mean.len()];
        Self { standard, weight: zeros.clone(), missing_weight: zeros, intercept }
    }

    fn parse(bytes: &[u8]) -> Result<Self> {
        let file = SafeTensors::deserialize(bytes).context(ErrorKind::Corrupt, FORMAT)?;
        let (_, header) = SafeTensors::read_metadata(bytes).context(ErrorKind::Corrupt, FORMAT)?;
        let named = header.metadata().as_ref().and_then(|metadata| metadata.get("format"));
        if named.map(String::as_str) != Some(FORMAT) {
            return Err(Error::corrupt(format!("{FORMAT}: other tensors")));
        }
        let [intercept] = vector(&file, "intercept")?[..] else {
            return Err(Error::corrupt(format!("{FORMAT}: more than one intercept")));
        };
        let model = Self {
            standard: Standard { mean: vector(&file, "mean")?, scale: vector(&file, "scale")? },
            weight: vector(&file, "weight")?,
            missing_weight: vector(&file, "missing_weight")?,
            intercept,
        };
        let features = model.weight.len();
        let all = [&model.standard.mean, &model.standard.scale, &model.missing_weight];
        if features == 0 || all.iter().any(|vector| vector.len() != features) {
            return Err(Error::corrupt(format!("{FORMAT}: its tensors differ in length")));
        }
        if model.standard.scale.iter().any(|scale| *scale <= 0.0) {
            return Err(Error::corrupt(format!("{FORMAT}: a scale is not above 0")));
        }
        Ok(model)
    }

    fn predict_row(&self, row: &[f64]) -> f64 {
        let mut margin = self.intercept;
        for (feature, value) in row.iter().enumerate() {
            margin += if value.is_nan() {
                self.missing_weight[feature]
            } else {
                self.standard.value(feature, *value) * self.weight[feature]
            };
        }
        sigmoid(margin)
    }
}

/// A vector of finite numbers.
fn vector(file: &SafeTensors<'_>, name: &str) -> Result<Vec<f64>> {
    let tensor = file.tensor(name).context(ErrorKind::Corrupt, FORMAT)?;
    let (words, rest) = tensor.data().as_chunks::<8>();
    let values: Vec<f64> = words.iter().map(|word| f64::from_le_bytes(*word)).collect();
    let sound = tensor.dtype() == Dtype::F64 && tensor.shape().len() == 1 && rest.is_empty();
    if !sound || values.iter().any(|value| !value.is_finite()) {
        let message = format!("{FORMAT}: `{name}` is not a vector of finite 64-bit floats");
        return Err(Error::corrupt(message));
    }
    Ok(values)
}

impl Predictor for Linear {
    fn format(&self) -> &str {
        FORMAT
    }

    fn predict(&self, x: ArrayView2<f64>) -> Result<Array1<f64>> {
        let features = self.weight.len();
        checks::features(x, features)?;
        let mut out = vec![0.0; x.nrows()];
        let x = x.as_standard_layout();
        let rows = x.as_slice().context(ErrorKind::Internal, "matrix in row order")?;
        let predict = |(rows, out): (&[f64], &mut [f64])| {
            for (row, out) in rows.chunks_exact(features).zip(out) {
                *out = self.predict_row(row);
            }
        };
        if out.len() <= CHUNK {
            predict((rows, &mut out));
        } else {
            rows.par_chunks(CHUNK * features).zip(out.par_chunks_mut(CHUNK)).for_each(predict);
        }
        Ok(out.into())
    }

    fn to_bytes(&self) -> Result<Vec<u8>> {
        let vectors = [
            ("intercept", std::slice::from_ref(&self.intercept)),
            ("mean", &self.standard.mean),
            ("missing_weight", &self.missing_weight),
            ("scale", &self.standard.scale),
            ("weight", &self.weight),
        ];
        let bytes = vectors.map(|(name, values)| {
            (name, values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>())
        });
        let tensors = bytes.iter().map(|(name, bytes)| {
            Ok((*name, TensorView::new(Dtype::F64, vec![bytes.len() / 8], bytes)?))
        });
        let tensors = tensors
            .collect::<Result<Vec<_>, safetensors::SafeTensorError>>()
            .context(ErrorKind::Internal, FORMAT)?;
        let metadata = HashMap::from([("format".to_owned(), FORMAT.to_owned())]);
        safetensors::serialize(tensors, Some(metadata)).context(ErrorKind::Internal, FORMAT)
    }
}

/// Loads `kaizen-logistic-safetensors`: vectors of 64-bit floats named `mean`, `scale`, `weight`,
/// `missing_weight` (one element per feature) and `intercept` (one element). The log odds are the
/// intercept plus, over the features, `(value - mean) / scale * weight`, or `missing_weight`.
#[derive(Clone, Copy, Debug, Default)]
pub struct LogisticSafetensors;

impl Loader for LogisticSafetensors {
    fn format(&self) -> &str {
        FORMAT
    }

    fn load(&self, bytes: &[u8]) -> Result<Arc<dyn Predictor>> {
        Ok(Arc::new(Linear::parse(bytes)?))
    }
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;

    fn model(mean: Vec<f64>, scale: Vec<f64>) -> Linear {
        Linear {
            standard: Standard { mean, scale },
            weight: vec![2.0, 1.0],
            missing_weight: vec![0.5, -1.0],
            intercept: -1.0,
        }
    }

    #[test]
    fn the_formula_and_the_missing_value() {
        let model = model(vec![1.0, 0.0], vec![2.0, 1.0]);
        let scores = model.predict(array![[3.0, 1.0], [f64::NAN, f64::NAN]].view()).unwrap();
        assert_eq!(scores, array![sigmoid(2.0), sigmoid(-1.5)]);
        let scores = model.predict(array![[f64::NEG_INFINITY, f64::MAX]].view()).unwrap();
        assert_eq!(scores, array![0.0]);
    }

    #[test]
    fn tensors_that_make_no_model_are_refused() {
        for (mean, scale) in [
            (vec![1.0], vec![1.0, 1.0]),
            (vec![1.0, f64::NAN], vec![1.0, 1.0]),
            (vec![1.0, 1.0], vec![1.0, 0.0]),
        ] {
            let bytes = model(mean, scale).to_bytes().unwrap();
            assert_eq!(LogisticSafetensors.load(&bytes).unwrap_err().kind(), ErrorKind::Corrupt);
        }
        let values = 1.0f64.to_le_bytes();
        let view = TensorView::new(Dtype::F64, vec![1], &values).unwrap();
        let foreign = safetensors::serialize([("weight", view)], None).unwrap();
        let error = LogisticSafetensors.load(&foreign).unwrap_err();
        assert!(error.to_string().contains("other tensors"), "{error}");
    }
}
