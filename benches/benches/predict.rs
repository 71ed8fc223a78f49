//! Prediction by gradient-boosted trees of the default settings: one row, as a server meets it, and
//! a thousand.
#![allow(clippy::expect_used, reason = "a bench")]

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use kaizen::ndarray::{Array1, Array2, ArrayView1, s};
use kaizen::table::Estimator;
use kaizen::train::GradientBoosting;

const ROWS: usize = 20_000;
const FEATURES: usize = 25;

/// Numbers between -1 and 1, some missing, and labels that the first three tell in part.
fn rows() -> (Array2<f64>, Array1<f64>) {
    let mut state = 1u64;
    let mut next = || {
        // Knuth's MMIX generator; its high bits are good enough to train on.
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    };
    let x = Array2::from_shape_fn((ROWS, FEATURES), |_| next());
    let label = |row: ArrayView1<f64>| f64::from(u8::from(row[0] * row[1] + row[2] + next() > 0.3));
    let y = x.rows().into_iter().map(label);
    let y = y.collect();
    (x.mapv_into(|value| if value > 0.9 { f64::NAN } else { value }), y)
}

fn predict(criterion: &mut Criterion) {
    let (x, y) = rows();
    let model = GradientBoosting::default().fit(x.view(), y.view(), 1).expect("sound rows train");
    let mut group = criterion.benchmark_group("predict/gradient_boosting");
    for rows in [1, 1_000] {
        group.throughput(Throughput::Elements(rows as u64));
        group.bench_function(format!("rows={rows}"), |bencher| {
            let mut start = 0;
            // Other rows each time, so that no branch is learnt by heart.
            let pick = || {
                start = (start + 7_919) % (ROWS - rows);
                x.slice(s![start..start + rows, ..])
            };
            bencher.iter_batched(pick, |x| black_box(model.predict(x)), BatchSize::SmallInput);
        });
    }
    group.finish();
}

criterion_group!(benches, predict);
criterion_main!(benches);
