//! Models that were written by the first version of each format stay readable, with their scores.

use kaizen_train::formats;
use ndarray::{Array2, array};

fn rows() -> Array2<f64> {
    array![[1.0, -0.5], [-1.0, 0.5], [0.25, f64::NAN], [f64::NAN, 2.0], [f64::NAN, f64::NAN]]
}

fn assert_scores(format: &str, bytes: &[u8], expected: [f64; 5]) {
    let model = formats().load(format, bytes).unwrap();
    assert_eq!(model.to_bytes().unwrap(), bytes);
    let scores = model.predict(rows().view()).unwrap();
    for (score, expected) in scores.iter().zip(expected) {
        assert!((score - expected).abs() < 1e-12, "{format}: {scores:?}");
    }
}

#[test]
fn forust_json() {
    let expected = [
        0.45872617875635724,
        0.3008277308307262,
        0.45872617875635724,
        0.3008277308307262,
        0.3008277308307262,
    ];
    assert_scores("forust-json", include_bytes!("../fixtures/forust.json"), expected);
}

#[test]
fn logistic_safetensors() {
    let expected = [
        0.8456221154380712,
        0.050964126422304024,
        0.34384452046881586,
        0.13151124471373105,
        0.03311770925069528,
    ];
    let bytes = include_bytes!("../fixtures/logistic.safetensors");
    assert_scores("kaizen-logistic-safetensors", bytes, expected);
}
