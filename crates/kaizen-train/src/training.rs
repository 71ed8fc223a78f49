//! From a training set to a model.

use std::sync::Arc;

use kaizen_core::record::{Algorithm, TrainingSet};
use kaizen_core::{
    Context, DataType, Digest, Error, ErrorKind, Field, Result, Signature, TimeBlocks,
};
use kaizen_table::arrow::array::{Array, BooleanArray};
use kaizen_table::arrow::compute::filter_record_batch;
use kaizen_table::{Encoder, Estimator, Formats, Predictor, RecordBatch, blocks, numbers};
use ndarray::Array1;

use crate::{ForustJson, LogisticSafetensors};

/// How a model is trained.
#[derive(Clone, Debug)]
pub struct Training {
    /// The model's name, the same for all its versions.
    pub name: String,
    /// What learns, with its settings.
    pub estimator: Arc<dyn Estimator>,
    /// The seed of everything that is drawn.
    pub seed: u64,
}

impl Training {
    /// Trains a model of this name with this estimator and seed.
    pub fn new(name: impl Into<String>, estimator: Arc<dyn Estimator>, seed: u64) -> Self {
        Self { name: name.into(), estimator, seed }
    }
}

/// A trained model: all that its record will say, its preprocessing and its weights.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Trained {
    /// The model's name.
    pub name: String,
    /// The training set.
    pub training_set: Digest,
    /// How it was trained.
    pub algorithm: Algorithm,
    /// The seed of everything that was drawn.
    pub seed: u64,
    /// The training set's features in order, and the output [`score`](Trained::OUTPUT).
    pub signature: Signature,
    /// The digest of the feature service.
    pub service: Digest,
    /// The preprocessing.
    pub encoder: Encoder,
    /// The weights.
    pub predictor: Arc<dyn Predictor>,
}

impl Trained {
    /// The name of the output: the probability of the label.
    pub const OUTPUT: &'static str = "score";

    /// The probability of the label for each row. The table must have the signature's columns.
    pub fn score(&self, rows: &RecordBatch) -> Result<Array1<f64>> {
        self.predictor.predict(self.encoder.encode(rows)?.view())
    }
}

/// Trains a model on a training set: `set` is the digest of its record, `record` the record and
/// `rows` its rows. Equal arguments give equal bytes.
pub fn train(
    training: &Training,
    set: Digest,
    record: &TrainingSet,
    rows: &RecordBatch,
) -> Result<Trained> {
    if training.name.is_empty() {
        return Err(Error::invalid("training: the model's name is empty"));
    }
    if record.rows != rows.num_rows() as u64 {
        let (said, found) = (record.rows, rows.num_rows());
        return Err(Error::invalid(format!("training set {set}: {found} rows, not {said}")));
    }
    let span = tracing::info_span!("train", model = training.name, rows = rows.num_rows());
    let _entered = span.enter();
    let signature = signature(record)?;
    let (encoder, predictor) = fit(training, record, &signature, rows).map_err(|source| {
        let message = format!("model `{}` on training set {set}", training.name);
        Error::new(source.kind(), message).with_source(source)
    })?;
    Ok(Trained {
        name: training.name.clone(),
        training_set: set,
        algorithm: training.estimator.algorithm(),
        seed: training.seed,
        signature,
        service: record.service,
        encoder,
        predictor,
    })
}

/// Scores every row by a model that has not seen its time: the blocks are cut into `folds` runs of
/// equal length, and each run is scored by a model trained on the others. Length: the rows.
///
/// What it costs is `folds` trainings, and a model also sees blocks that lie after those that it
/// scores: good for a reference of scores, not for the figures of a release.
pub fn out_of_fold(
    training: &Training,
    record: &TrainingSet,
    rows: &RecordBatch,
    unit: TimeBlocks,
    folds: usize,
) -> Result<Array1<f64>> {
    let of_row = blocks(rows, &record.time, unit)?;
    let mut distinct = of_row.values().to_vec();
    distinct.sort_unstable();
    distinct.dedup();
    if folds < 2 || folds > distinct.len() {
        let found = distinct.len();
        return Err(Error::invalid(format!("{folds} folds of {found} blocks: not 2 to {found}")));
    }
    let fold = |block: &i64| distinct.partition_point(|b| b < block) * folds / distinct.len();
    let fold_of_row: Vec<usize> = of_row.values().iter().map(fold).collect();
    let signature = signature(record)?;
    let mut scores = Array1::zeros(rows.num_rows());
    for fold in 0..folds {
        let held_out: BooleanArray = fold_of_row.iter().map(|f| Some(*f == fold)).collect();
        let others: BooleanArray = fold_of_row.iter().map(|f| Some(*f != fold)).collect();
        let select = |mask| filter_record_batch(rows, mask).context(ErrorKind::Internal, "fold");
        let (encoder, predictor) = fit(training, record, &signature, &select(&others)?)?;
        let x = encoder.encode(&select(&held_out)?)?;
        let places = scores.iter_mut().zip(&fold_of_row).filter(|(_, f)| **f == fold);
        for ((place, _), score) in places.zip(&predictor.predict(x.view())?) {
            *place = *score;
        }
    }
    Ok(scores)
}

/// Every format that this crate writes.
pub fn formats() -> Formats {
    Formats::default().with(ForustJson).with(LogisticSafetensors)
}

fn signature(record: &TrainingSet) -> Result<Signature> {
    let output = Field::new(Trained::OUTPUT, DataType::Float64);
    Signature::new(record.features.clone(), vec![output])
}

fn fit(
    training: &Training,
    record: &TrainingSet,
    signature: &Signature,
    rows: &RecordBatch,
) -> Result<(Encoder, Arc<dyn Predictor>)> {
    let labels = numbers(rows, &record.label)?;
    if let Some(row) = (0..labels.len()).find(|row| labels.is_null(*row)) {
        return Err(Error::invalid(format!("label `{}`: row {row} has none", record.label)));
    }
    let y = Array1::from(labels.values().to_vec());
    let encoder = Encoder::fit(signature, rows, y.view())?;
    let x = encoder.encode(rows)?;
    let predictor = training.estimator.fit(x.view(), y.view(), training.seed)?;
    Ok((encoder, predictor))
}
