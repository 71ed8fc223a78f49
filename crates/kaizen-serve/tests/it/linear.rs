//! A tiny model: the logistic function of the sum of its inputs, plus a bias.

use std::sync::Arc;

use kaizen_core::record::{Algorithm, Model, Release};
use kaizen_core::{
    ArtifactStore, Context, DataType, Digest, ErrorKind, Field, Records, Result, Signature,
};
use kaizen_package::{ModelParts, save_model};
use kaizen_serve::Servable;
use kaizen_table::arrow::array::{
    ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray,
};
use kaizen_table::{Encoder, Formats, Loader, Predictor, Scorer};
use ndarray::{Array1, ArrayView2, array};

/// Missing inputs count as zero.
#[derive(Debug)]
struct Linear {
    bias: f64,
}

#[derive(Debug)]
struct LoadLinear;

const FORMAT: &str = "linear";

impl Predictor for Linear {
    fn format(&self) -> &str {
        FORMAT
    }

    fn predict(&self, x: ArrayView2<f64>) -> Result<Array1<f64>> {
        let sum = |row: ndarray::ArrayView1<f64>| row.iter().filter(|v| !v.is_nan()).sum::<f64>();
        Ok(x.rows().into_iter().map(|row| 1.0 / (1.0 + (-(self.bias + sum(row))).exp())).collect())
    }

    fn to_bytes(&self) -> Result<Vec<u8>> {
        Ok(self.bias.to_string().into_bytes())
    }
}

impl Loader for LoadLinear {
    fn format(&self) -> &str {
        FORMAT
    }

    fn load(&self, bytes: &[u8]) -> Result<Arc<dyn Predictor>> {
        let text = std::str::from_utf8(bytes).context(ErrorKind::Corrupt, "linear weights")?;
        let bias = text.parse().context(ErrorKind::Corrupt, "linear weights")?;
        Ok(Arc::new(Linear { bias }))
    }
}

pub(crate) fn formats() -> Formats {
    Formats::default().with(LoadLinear)
}

pub(crate) const NAME: &str = "late";

pub(crate) fn service() -> Digest {
    Digest::of("the feature service")
}

/// One column of each type.
pub(crate) fn signature() -> Signature {
    let inputs = vec![
        Field::new("wind", DataType::Float64),
        Field::new("hour", DataType::Int64),
        Field::new("holiday", DataType::Bool),
        Field::new("carrier", DataType::Utf8),
    ];
    Signature::new(inputs, vec![Field::new("score", DataType::Float64)]).unwrap()
}

/// A table of that signature.
pub(crate) fn table(
    wind: Vec<Option<f64>>,
    hour: Vec<Option<i64>>,
    holiday: Vec<Option<bool>>,
    carrier: Vec<Option<&str>>,
) -> RecordBatch {
    let columns: [(&str, ArrayRef); 4] = [
        ("wind", Arc::new(Float64Array::from(wind))),
        ("hour", Arc::new(Int64Array::from(hour))),
        ("holiday", Arc::new(BooleanArray::from(holiday))),
        ("carrier", Arc::new(StringArray::from(carrier))),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.map(|(n, c)| (n, c, true))).unwrap()
}

fn encoder() -> Encoder {
    let rows = table(
        vec![Some(1.0); 2],
        vec![Some(1); 2],
        vec![Some(true); 2],
        vec![Some("UA"), Some("AA")],
    );
    Encoder::fit(&signature(), &rows, array![1.0, 0.0].view()).unwrap()
}

pub(crate) fn parts(bias: f64) -> ModelParts {
    ModelParts {
        name: NAME.into(),
        training_set: Digest::of("the training set"),
        algorithm: Algorithm { name: FORMAT.into(), settings: Default::default() },
        seed: 1,
        signature: signature(),
        service: service(),
        format: FORMAT.into(),
        encoder: serde_json::to_vec(&encoder()).unwrap().into(),
        weights: Linear { bias }.to_bytes().unwrap().into(),
    }
}

/// Saves a model of this bias and its release of this version.
pub(crate) async fn save(store: &dyn ArtifactStore, version: u32, bias: f64) -> Digest {
    let model = save_model(store, parts(bias)).await.unwrap();
    let functions = Vec::new();
    let release = Release { name: NAME.into(), version, model, service: service(), functions };
    store.put(&release, &[]).await.unwrap()
}

/// A loaded release without a store.
pub(crate) fn servable(version: u32, bias: f64) -> Arc<Servable> {
    let parts = parts(bias);
    let record = Model {
        name: parts.name,
        training_set: parts.training_set,
        algorithm: parts.algorithm,
        seed: parts.seed,
        signature: parts.signature,
        service: parts.service,
        format: parts.format,
        weights: Digest::of(&parts.weights),
    };
    let model = Digest::of_json(&record).unwrap();
    let scorer = Scorer::new(model, record, encoder(), Arc::new(Linear { bias })).unwrap();
    let functions = Vec::new();
    let release = Release { name: NAME.into(), version, model, service: service(), functions };
    Arc::new(Servable::new(Digest::of_json(&release).unwrap(), release, scorer).unwrap())
}
