//! Conformance suite for estimators, their predictors and the loaders of their formats.
//!
//! ```no_run
//! # fn mine() -> std::sync::Arc<dyn kaizen_table::Estimator> { unimplemented!() }
//! # fn formats() -> kaizen_table::Formats { unimplemented!() }
//! kaizen_testkit::estimator::suite(&*mine(), &formats());
//! ```

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a suite fails by panicking"
)]

use kaizen_core::ErrorKind;
use kaizen_table::{Estimator, Formats, Predictor};
use ndarray::{Array1, Array2, ArrayView1, ArrayView2, s};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

const ROWS: usize = 20_000;
const FEATURES: usize = 6;
const SEED: u64 = 42;

/// Every rule of [`Estimator`], [`Predictor`] and the loader of their format. Panics with the rule
/// that is broken.
///
/// # Panics
/// If a rule is broken.
pub fn suite(estimator: &dyn Estimator, formats: &Formats) {
    algorithm_is_named(estimator);
    let (x, y) = separable();
    let predictor = fit(estimator, x.view(), y.view());
    learns(&*predictor, x.view(), y.view());
    predicts_row_by_row(&*predictor, x.view());
    accepts_missing(estimator, x.view(), y.view());
    accepts_extremes(&*predictor);
    same_bytes_on_any_number_of_threads(estimator, x.view(), y.view(), &*predictor);
    round_trips(&*predictor, formats, x.view());
    refuses_foreign_bytes(&*predictor, formats);
    refuses_bad_training_input(estimator);
    refuses_other_features(&*predictor, x.view());
}

/// Two classes that a line parts but for one row in twenty; features 0 and 1 tell it, the others do
/// not. Rows × features, and the labels.
pub fn separable() -> (Array2<f64>, Array1<f64>) {
    let mut rng = ChaCha8Rng::seed_from_u64(SEED);
    let x = Array2::from_shape_fn((ROWS, FEATURES), |_| rng.random_range(-1.0..1.0));
    let y = x.rows().into_iter().map(|row| {
        let label = row[0] + 0.5 * row[1] > 0.1;
        f64::from(u8::from(label != rng.random_bool(0.05)))
    });
    let y = y.collect();
    (x, y)
}

fn fit(
    estimator: &dyn Estimator,
    x: ArrayView2<f64>,
    y: ArrayView1<f64>,
) -> std::sync::Arc<dyn Predictor> {
    estimator.fit(x, y, SEED).expect("sound input trains")
}

fn predict(predictor: &dyn Predictor, x: ArrayView2<f64>) -> Array1<f64> {
    let scores = predictor.predict(x).expect("sound input is predicted");
    assert_eq!(scores.len(), x.nrows(), "one score per row");
    let inside = scores.iter().all(|score| (0.0..=1.0).contains(score));
    assert!(inside, "every score is a probability");
    scores
}

fn bits(scores: &Array1<f64>) -> Vec<u64> {
    scores.iter().map(|score| score.to_bits()).collect()
}

fn algorithm_is_named(estimator: &dyn Estimator) {
    let algorithm = estimator.algorithm();
    assert!(!algorithm.name.is_empty(), "the algorithm has a name");
    assert_eq!(algorithm, estimator.algorithm(), "the algorithm is always described alike");
}

fn learns(predictor: &dyn Predictor, x: ArrayView2<f64>, y: ArrayView1<f64>) {
    let scores = predict(predictor, x);
    let hits = scores.iter().zip(y).filter(|(score, y)| (**score > 0.5) == (**y > 0.5)).count();
    let share = hits as f64 / y.len() as f64;
    assert!(share > 0.9, "of rows that a line parts but for 5 %, it gets {share} right");
    let sum = |label: f64| {
        let of_label = scores.iter().zip(y).filter(|(_, y)| **y == label);
        of_label.map(|(score, _)| *score).sum::<f64>()
    };
    assert!(sum(1.0) > sum(0.0), "the score is that of label 1");
    let calibration = scores.mean().unwrap_or(f64::NAN) - y.mean().unwrap_or(f64::NAN);
    assert!(calibration.abs() < 0.02, "the scores' mean is off the labels' by {calibration}");
}

fn predicts_row_by_row(predictor: &dyn Predictor, x: ArrayView2<f64>) {
    let all = predict(predictor, x);
    for row in [0, 1, ROWS / 2, ROWS - 1] {
        let one = predict(predictor, x.slice(s![row..=row, ..]));
        assert_eq!(one[0].to_bits(), all[row].to_bits(), "row {row} alone scores as among others");
    }
    let columns_first = x.t().as_standard_layout().into_owned();
    let turned = predict(predictor, columns_first.t());
    assert_eq!(bits(&turned), bits(&all), "the memory order of the matrix does not matter");
    assert!(predict(predictor, x.slice(s![0..0, ..])).is_empty(), "no rows, no scores");
}

fn accepts_missing(estimator: &dyn Estimator, x: ArrayView2<f64>, y: ArrayView1<f64>) {
    let mut rng = ChaCha8Rng::seed_from_u64(SEED + 1);
    let mut holes = x.slice(s![..2_000, ..]).to_owned();
    holes.mapv_inplace(|value| if rng.random_bool(0.2) { f64::NAN } else { value });
    holes.column_mut(2).fill(f64::NAN);
    holes.column_mut(3).fill(7.0);
    let predictor = fit(estimator, holes.view(), y.slice(s![..2_000]));
    predict(&*predictor, holes.view());
    let nothing_known = Array2::from_elem((3, FEATURES), f64::NAN);
    predict(&*predictor, nothing_known.view());
    // Trained without a hole, it still takes one.
    let predictor = fit(estimator, x.slice(s![..2_000, ..]), y.slice(s![..2_000]));
    predict(&*predictor, nothing_known.view());
}

fn accepts_extremes(predictor: &dyn Predictor) {
    for value in [f64::MAX, f64::MIN, f64::INFINITY, f64::NEG_INFINITY, 0.0, -0.0, 5e-324] {
        predict(predictor, Array2::from_elem((2, FEATURES), value).view());
    }
}

fn same_bytes_on_any_number_of_threads(
    estimator: &dyn Estimator,
    x: ArrayView2<f64>,
    y: ArrayView1<f64>,
    predictor: &dyn Predictor,
) {
    let expected = predictor.to_bytes().expect("weights have bytes");
    let scores = bits(&predict(predictor, x));
    for threads in [1, 3] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
        pool.install(|| {
            let again = fit(estimator, x, y);
            let bytes = again.to_bytes().expect("weights have bytes");
            assert!(bytes == expected, "other bytes on {threads} threads from the same seed");
            let same = bits(&predict(&*again, x)) == scores;
            assert!(same, "other scores on {threads} threads from the same weights");
        });
    }
}

fn round_trips(predictor: &dyn Predictor, formats: &Formats, x: ArrayView2<f64>) {
    let bytes = predictor.to_bytes().expect("weights have bytes");
    let loaded = formats.load(predictor.format(), &bytes).expect("its own bytes load");
    assert_eq!(loaded.format(), predictor.format(), "the format keeps its name");
    assert_eq!(loaded.to_bytes().expect("bytes"), bytes, "loaded weights have the same bytes");
    let same = bits(&predict(&*loaded, x)) == bits(&predict(predictor, x));
    assert!(same, "loaded weights give other scores");
}

fn refuses_foreign_bytes(predictor: &dyn Predictor, formats: &Formats) {
    let bytes = predictor.to_bytes().expect("weights have bytes");
    let half = &bytes[..bytes.len() / 2];
    let huge = [u64::MAX.to_le_bytes().as_slice(), b"{}"].concat();
    let foreign: [&[u8]; 7] = [b"", b"{}", b"null", b"PAR1", &[0xff; 64], half, &huge];
    for bytes in foreign {
        let error = formats.load(predictor.format(), bytes).expect_err("foreign bytes are refused");
        assert_eq!(error.kind(), ErrorKind::Corrupt, "foreign bytes are corrupt: {error}");
    }
}

fn refuses_bad_training_input(estimator: &dyn Estimator) {
    let x = Array2::from_shape_fn((4, 2), |(row, column)| (row * 2 + column) as f64);
    let y = Array1::from(vec![0.0, 1.0, 0.0, 1.0]);
    let label = |value: f64| Array1::from(vec![0.0, 1.0, value, 1.0]);
    let mut infinite = x.clone();
    infinite[[1, 1]] = f64::INFINITY;
    let cases = [
        ("no rows", x.slice(s![0..0, ..]), Array1::default(0)),
        ("no features", x.slice(s![.., 0..0]), y.clone()),
        ("more rows than labels", x.view(), y.slice(s![..3]).to_owned()),
        ("more labels than rows", x.slice(s![..3, ..]), y.clone()),
        ("one class", x.view(), Array1::ones(4)),
        ("the other class", x.view(), Array1::zeros(4)),
        ("a NaN label", x.view(), label(f64::NAN)),
        ("a label of 0.5", x.view(), label(0.5)),
        ("an infinite feature", infinite.view(), y),
    ];
    for (what, x, y) in cases {
        match estimator.fit(x, y.view(), SEED) {
            Ok(_) => panic!("{what}: it trains"),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Invalid, "{what} is invalid input: {error}");
            }
        }
    }
}

fn refuses_other_features(predictor: &dyn Predictor, x: ArrayView2<f64>) {
    for features in [0, FEATURES - 1] {
        let error = predictor.predict(x.slice(s![..2, ..features]));
        let error = error.expect_err("a table of other features is refused");
        assert_eq!(error.kind(), ErrorKind::Invalid, "other features are invalid: {error}");
    }
}
