//! Logistic regression against an independent one: iteratively reweighted least squares on the
//! whole matrix, solved by Gauss-Jordan elimination.

use kaizen_table::Estimator;
use kaizen_train::LogisticRegression;
use ndarray::{Array1, Array2, Axis, concatenate};
use proptest::prelude::*;
use rand::{Rng, SeedableRng};

/// The probabilities of the penalised fit. `x` has its missing values.
fn reference(x: &Array2<f64>, y: &Array1<f64>, l2: f64) -> Array1<f64> {
    let rows = x.nrows();
    let mut columns: Vec<Array1<f64>> = Vec::new();
    for column in x.columns() {
        let known: Vec<f64> = column.iter().copied().filter(|v| !v.is_nan()).collect();
        let mean = known.iter().sum::<f64>() / known.len() as f64;
        let spread = known.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>();
        let sd = (spread / known.len() as f64).sqrt();
        columns.push(column.mapv(|v| if v.is_nan() { 0.0 } else { (v - mean) / sd }));
    }
    for column in x.columns().into_iter().filter(|c| c.iter().any(|v| v.is_nan())) {
        columns.push(column.mapv(|v| f64::from(u8::from(v.is_nan()))));
    }
    columns.push(Array1::ones(rows));
    let columns: Vec<_> = columns.iter().map(|c| c.view().insert_axis(Axis(1))).collect();
    let z = concatenate(Axis(1), &columns).unwrap();
    let count = z.ncols();
    let mut beta = Array1::<f64>::zeros(count);
    for _ in 0..60 {
        let eta = z.dot(&beta);
        let p = eta.mapv(|m| 1.0 / (1.0 + (-m).exp()));
        let w = p.mapv(|p| (p * (1.0 - p)).max(1e-12));
        let target = &eta + &((y - &p) / &w);
        let weighted = &z * &w.view().insert_axis(Axis(1));
        let mut normal = z.t().dot(&weighted);
        for index in 0..count - 1 {
            normal[[index, index]] += l2;
        }
        beta = gauss_jordan(normal, weighted.t().dot(&target));
    }
    z.dot(&beta).mapv(|m| 1.0 / (1.0 + (-m).exp()))
}

fn gauss_jordan(mut a: Array2<f64>, mut b: Array1<f64>) -> Array1<f64> {
    let count = b.len();
    for column in 0..count {
        let size = |row: &usize| a[[*row, column]].abs();
        let pivot = (column..count).max_by(|l, r| size(l).total_cmp(&size(r))).unwrap();
        for k in 0..count {
            a.swap([column, k], [pivot, k]);
        }
        b.swap(column, pivot);
        for row in (0..count).filter(|row| *row != column) {
            let factor = a[[row, column]] / a[[column, column]];
            for k in column..count {
                a[[row, k]] -= factor * a[[column, k]];
            }
            b[row] -= factor * b[column];
        }
    }
    (0..count).map(|row| b[row] / a[[row, row]]).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn agrees_with_reweighted_least_squares(
        seed in any::<u64>(),
        rows in 60usize..20_000,
        l2 in 0.01f64..50.0,
        holes in prop::bool::ANY,
    ) {
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
        let x = Array2::from_shape_fn((rows, 4), |(_, column)| {
            let value = rng.random_range(-1.0..1.0) * 10f64.powi(column as i32 * 3 - 4) + 5.0;
            if holes && column < 2 && rng.random_bool(0.15) { f64::NAN } else { value }
        });
        let y: Array1<f64> = x.rows().into_iter().enumerate().map(|(row, values)| {
            let known = if values[1].is_nan() { 0.8 } else { 0.3 };
            f64::from(u8::from(row < 2 && row % 2 == 0 || row >= 2 && rng.random_bool(known)))
        }).collect();
        let settings = LogisticRegression { l2, ..Default::default() };
        let ours = settings.fit(x.view(), y.view(), 0).unwrap().predict(x.view()).unwrap();
        let theirs = reference(&x, &y, l2);
        for (ours, theirs) in ours.iter().zip(&theirs) {
            prop_assert!((ours - theirs).abs() < 1e-7, "{ours} {theirs}");
        }
    }
}
