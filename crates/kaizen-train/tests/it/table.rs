//! Training on tables.

use std::collections::BTreeMap;
use std::sync::Arc;

use kaizen_core::record::{Model, TrainingSet};
use kaizen_core::{DataType, Digest, ErrorKind, Field, TimeBlocks};
use kaizen_table::arrow::array::{
    ArrayRef, BooleanArray, Float64Array, StringArray, TimestampSecondArray,
};
use kaizen_table::{Estimator, RecordBatch, Scorer, with_column};
use kaizen_train::{GradientBoosting, LogisticRegression, Training, formats, out_of_fold, train};
use rand::{Rng, SeedableRng};

const ROWS: usize = 4_000;

/// Rows whose label depends on a text, a number and a flag, over 40 days.
fn rows() -> RecordBatch {
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(11);
    let mut columns: (Vec<_>, Vec<_>, Vec<_>, Vec<_>, Vec<_>) = Default::default();
    for row in 0..ROWS {
        let carrier = rng.random_bool(0.95).then(|| ["UA", "DL", "B6"][rng.random_range(0..3)]);
        let hour = rng.random_bool(0.9).then(|| rng.random_range(5.0..23.0));
        let holiday = Some(rng.random_bool(0.1));
        let odds = f64::from(u8::from(carrier == Some("B6"))) * 2.0
            + hour.unwrap_or(12.0) / 6.0
            + f64::from(u8::from(holiday == Some(true)))
            - 4.0;
        columns.0.push(carrier);
        columns.1.push(hour);
        columns.2.push(holiday);
        columns.3.push(rng.random_bool(1.0 / (1.0 + f64::exp(-odds))));
        columns.4.push((row * 40 / ROWS) as i64 * 86_400 + 1_356_998_400);
    }
    let time = TimestampSecondArray::from(columns.4).with_timezone("UTC");
    RecordBatch::try_from_iter([
        ("carrier", Arc::new(StringArray::from(columns.0)) as ArrayRef),
        ("hour", Arc::new(Float64Array::from(columns.1))),
        ("holiday", Arc::new(BooleanArray::from(columns.2))),
        ("late", Arc::new(BooleanArray::from(columns.3))),
        ("time", Arc::new(time)),
    ])
    .unwrap()
}

fn record(rows: usize) -> TrainingSet {
    TrainingSet {
        coverage: BTreeMap::new(),
        service: Digest::of("service"),
        label_view: Digest::of("late"),
        sources: BTreeMap::new(),
        cutoff: "2013-03-01T00:00:00Z".parse().unwrap(),
        rows: rows as u64,
        unlabelled: 0,
        features: vec![
            Field::new("carrier", DataType::Utf8),
            Field::new("hour", DataType::Float64),
            Field::new("holiday", DataType::Bool),
        ],
        label: "late".to_owned(),
        time: "time".to_owned(),
    }
}

fn estimators() -> [Arc<dyn Estimator>; 2] {
    let boosting = GradientBoosting { trees: 40, ..Default::default() };
    [Arc::new(boosting), Arc::new(LogisticRegression::default())]
}

#[test]
fn a_trained_model_scores_and_is_the_same_when_it_is_loaded() {
    let (rows, set) = (rows(), Digest::of("set"));
    for estimator in estimators() {
        let training = Training::new("delays", estimator, 5);
        let trained = train(&training, set, &record(ROWS), &rows).unwrap();
        assert_eq!(trained.signature.inputs(), record(ROWS).features);
        assert_eq!(trained.signature.outputs(), [Field::new("score", DataType::Float64)]);
        assert_eq!((trained.training_set, trained.service), (set, Digest::of("service")));
        let scores = trained.score(&rows).unwrap();
        assert!(crate::flights::auc(&scores, &rows) > 0.7);

        let weights = trained.predictor.to_bytes().unwrap();
        let model = Model {
            name: trained.name.clone(),
            training_set: set,
            algorithm: trained.algorithm.clone(),
            seed: trained.seed,
            signature: trained.signature.clone(),
            service: trained.service,
            format: trained.predictor.format().to_owned(),
            weights: Digest::of(&weights),
        };
        let encoder = serde_json::to_vec(&trained.encoder).unwrap();
        let id = Digest::of("model");
        let scorer = Scorer::from_parts(id, model, &encoder, &weights, &formats()).unwrap();
        let again = scorer.score(&rows).unwrap();
        assert!(scores.iter().zip(&again).all(|(a, b)| a.to_bits() == b.to_bits()));

        let twin = train(&training, set, &record(ROWS), &rows).unwrap();
        assert_eq!(twin.predictor.to_bytes().unwrap(), weights);
    }
}

#[test]
fn bad_tables_are_named() {
    let [estimator, _] = estimators();
    let training = Training::new("delays", estimator, 5);
    let rows = rows();
    let set = Digest::of("set");
    let fails = |training: &Training, record: &TrainingSet, rows: &RecordBatch, part: &str| {
        let error = train(training, set, record, rows).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(format!("{error:#}").contains(part), "{error:#}");
    };
    let column = |values: Vec<Option<f64>>| {
        let late = values.into_iter().cycle().take(ROWS).collect::<Float64Array>();
        with_column(&rows, "late", Arc::new(late)).unwrap()
    };
    let nameless = Training { name: String::new(), ..training.clone() };
    fails(&nameless, &record(ROWS), &rows, "name");
    fails(&training, &record(ROWS - 1), &rows, "4000 rows, not 3999");
    fails(&training, &record(ROWS), &column(vec![Some(1.0), None]), "label `late`: row 1");
    fails(&training, &record(ROWS), &column(vec![Some(1.0), Some(2.0)]), "row 1 has label 2");
    fails(&training, &record(ROWS), &column(vec![Some(1.0)]), "all 4000 rows have label 1");
    let unknown = TrainingSet { label: "lat".to_owned(), ..record(ROWS) };
    fails(&training, &unknown, &rows, "column `lat` is missing");
    let featureless = TrainingSet { features: vec![], ..record(ROWS) };
    fails(&training, &featureless, &rows, "0 inputs");
    let no_rows = rows.slice(0, 0);
    fails(&training, &record(0), &no_rows, "0 rows");
}

#[test]
fn out_of_fold_scores_come_from_models_that_did_not_see_the_days() {
    let rows = rows();
    let training = Training::new("delays", Arc::new(LogisticRegression::default()), 5);
    let days = TimeBlocks::days();
    let scores = out_of_fold(&training, &record(ROWS), &rows, days, 4).unwrap();
    assert_eq!(scores.len(), ROWS);
    assert!(crate::flights::auc(&scores, &rows) > 0.7);
    // The first fold is the first ten days: as if trained on the others alone.
    let others = rows.slice(ROWS / 4, ROWS - ROWS / 4);
    let set = Digest::of("others");
    let alone = train(&training, set, &record(others.num_rows()), &others).unwrap();
    let first = alone.score(&rows.slice(0, ROWS / 4)).unwrap();
    assert!(first.iter().zip(&scores).all(|(a, b)| a.to_bits() == b.to_bits()));

    for folds in [0, 1, 41] {
        let error = out_of_fold(&training, &record(ROWS), &rows, days, folds).unwrap_err();
        assert!(error.to_string().contains("40 blocks"), "{error}");
    }
}
