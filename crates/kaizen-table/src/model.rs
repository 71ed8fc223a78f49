//! Estimators, predictors, and the scorer that a release is loaded into.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use kaizen_core::record::{Algorithm, Model};
use kaizen_core::{Context, Digest, Error, ErrorKind, Result};
use ndarray::{Array1, ArrayView1, ArrayView2};

use crate::Encoder;

/// Learns a predictor from a matrix. Equal inputs and seed give equal bytes, on any number of
/// threads.
///
/// `kaizen_testkit::estimator` is the conformance suite.
pub trait Estimator: fmt::Debug + Send + Sync {
    /// The algorithm's name and settings.
    fn algorithm(&self) -> Algorithm;

    /// Learns from `x` (rows × features; missing is NaN) and `y` (rows; 0 or 1).
    fn fit(&self, x: ArrayView2<f64>, y: ArrayView1<f64>, seed: u64) -> Result<Arc<dyn Predictor>>;
}

/// Answers the probability of the label.
pub trait Predictor: fmt::Debug + Send + Sync {
    /// The name of the format that [`to_bytes`](Self::to_bytes) writes.
    fn format(&self) -> &str;

    /// The probability for each row of `x` (rows × features; missing is NaN), in `[0, 1]`.
    fn predict(&self, x: ArrayView2<f64>) -> Result<Array1<f64>>;

    /// The weights, in a format that runs no code when it is loaded.
    fn to_bytes(&self) -> Result<Vec<u8>>;
}

/// Reads the weights of one format.
pub trait Loader: fmt::Debug + Send + Sync {
    /// The format's name, as [`Predictor::format`] gives it.
    fn format(&self) -> &str;

    /// Reads weights. Bytes of another format are [`ErrorKind::Corrupt`].
    fn load(&self, bytes: &[u8]) -> Result<Arc<dyn Predictor>>;
}

/// The formats that a host can load.
#[derive(Clone, Debug, Default)]
pub struct Formats(BTreeMap<String, Arc<dyn Loader>>);

impl Formats {
    /// Adds a format, in place of one of the same name.
    #[must_use]
    pub fn with(mut self, loader: impl Loader + 'static) -> Self {
        self.0.insert(loader.format().to_owned(), Arc::new(loader));
        self
    }

    /// Reads weights of this format.
    pub fn load(&self, format: &str, bytes: &[u8]) -> Result<Arc<dyn Predictor>> {
        let loader = self.0.get(format).with_formats(self, format)?;
        loader.load(bytes)
    }
}

trait WithFormats<T> {
    fn with_formats(self, formats: &Formats, wanted: &str) -> Result<T>;
}

impl<T> WithFormats<T> for Option<T> {
    fn with_formats(self, formats: &Formats, wanted: &str) -> Result<T> {
        let known = || formats.0.keys().cloned().collect::<Vec<_>>().join(", ");
        let message = || format!("model format `{wanted}`; this host loads: {}", known());
        self.ok_or_else(|| Error::new(ErrorKind::Unsupported, message()))
    }
}

/// A model that is loaded and ready: table in, scores out.
#[derive(Clone, Debug)]
pub struct Scorer {
    id: Digest,
    model: Model,
    encoder: Encoder,
    predictor: Arc<dyn Predictor>,
}

impl Scorer {
    /// Binds a model's parts together. They must fit each other.
    pub fn new(
        id: Digest,
        model: Model,
        encoder: Encoder,
        predictor: Arc<dyn Predictor>,
    ) -> Result<Self> {
        if encoder.fields().ne(model.signature.inputs()) {
            return Err(Error::corrupt(format!(
                "model {id}: its encoder takes other columns than its signature"
            )));
        }
        Ok(Self { id, model, encoder, predictor })
    }

    /// Binds the stored parts of a model: its record, the payload `encoder.json` and the weights,
    /// whose digests the caller has verified.
    pub fn from_parts(
        id: Digest,
        model: Model,
        encoder: &[u8],
        weights: &[u8],
        formats: &Formats,
    ) -> Result<Self> {
        let encoder = serde_json::from_slice(encoder)
            .context(ErrorKind::Corrupt, format!("encoder of model {id}"))?;
        let predictor = formats.load(&model.format, weights)?;
        Self::new(id, model, encoder, predictor)
    }

    /// The digest of the model's record.
    pub fn id(&self) -> &Digest {
        &self.id
    }

    /// The model's record.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The probability for each row. The table must have the signature's columns; others are
    /// ignored.
    pub fn score(&self, rows: &RecordBatch) -> Result<Array1<f64>> {
        let x = self.encoder.encode(rows)?;
        let scores = self.predictor.predict(x.view())?;
        if scores.len() != rows.num_rows() {
            return Err(Error::internal(format!("model {}: a score is missing", self.id)));
        }
        match scores.iter().find(|score| !(0.0..=1.0).contains(*score)) {
            Some(score) => Err(Error::internal(format!("model {}: scored {score}", self.id))),
            None => Ok(scores),
        }
    }
}
