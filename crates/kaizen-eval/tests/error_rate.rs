//! How often gates pass a model that is truly worse, on rows whose days move together.
#![allow(clippy::unwrap_used, reason = "tests")]

use kaizen_core::{Digest, TimeBlocks};
use kaizen_eval::{CostMatrix, Gate, Rows, Scores, Settings, apply, compare};
use kaizen_stats::Bootstrap;
use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;

const COSTS: CostMatrix = CostMatrix {
    true_negative: 0.0,
    false_positive: -35.0,
    false_negative: 0.0,
    true_positive: 65.0,
};

fn uniform(rng: &mut ChaCha8Rng) -> f64 {
    (rng.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
}

/// The share of `runs` in which each gate passes. Each run has 14 days; all rows of a day are late
/// with the same rate, which `rate` makes from a uniform number. The challenger warns of every row,
/// the champion of none.
fn pass_rates(runs: u32, gates: &[Gate], by_row: bool, rate: impl Fn(f64) -> f64) -> Vec<f64> {
    let mut rng = ChaCha8Rng::seed_from_u64(11);
    let settings = Settings {
        unit: TimeBlocks::days(),
        bootstrap: Bootstrap { draws: 200, confidence: 0.95, seed: 5 },
        costs: COSTS,
    };
    let mut passed = vec![0; gates.len()];
    for _ in 0..runs {
        let (mut labels, mut blocks) = (Vec::new(), Vec::new());
        for day in 0..14 {
            let rate = rate(uniform(&mut rng));
            for _ in 0..20 + (uniform(&mut rng) * 20.0) as usize {
                labels.push(uniform(&mut rng) < rate);
                blocks.push(if by_row { labels.len() as i64 } else { day });
            }
        }
        let rows = Rows { labels: &labels, blocks: &blocks };
        let challenger = vec![0.6; labels.len()];
        let challenger = Scores { model: Digest::of("challenger"), scores: &challenger };
        let champion = vec![0.2; labels.len()];
        let champion = Scores { model: Digest::of("champion"), scores: &champion };
        let found = compare(&settings, Digest::of("rows"), &rows, &challenger, &champion).unwrap();
        for (count, gate) in passed.iter_mut().zip(apply(gates, &found).unwrap()) {
            *count += u32::from(gate.passed);
        }
    }
    passed.iter().map(|count| f64::from(*count) / f64::from(runs)).collect()
}

/// Gates whose margins are exactly what the challenger loses in truth, at this rate of late rows:
/// all metrics are linear in the rate here.
fn gates_at_the_truth(rate: f64) -> Vec<Gate> {
    let of = |late: f64, punctual: f64| rate * late + (1.0 - rate) * punctual;
    let value = of(65.0, -35.0);
    let brier = of(0.16, 0.36) - of(0.64, 0.04);
    let log_loss = of(-0.6_f64.ln(), -0.4_f64.ln()) - of(-0.2_f64.ln(), -0.8_f64.ln());
    assert!(value < 0.0 && brier > 0.0 && log_loss > 0.0, "the challenger is worse");
    let gate = |metric: &str, margin| Gate::NonInferior { metric: metric.to_owned(), margin };
    vec![gate("value", -value), gate("brier", brier), gate("log_loss", log_loss)]
}

#[test]
fn a_challenger_that_is_worse_by_the_margin_passes_in_one_case_of_forty() {
    let gates = gates_at_the_truth(0.25);
    let runs = 1000;
    // Three standard errors of 1,000 runs at 2.5 % are 1.5 %.
    for rate in pass_rates(runs, &gates, false, |u| 0.5 * u) {
        assert!(rate <= 0.025 + 0.015, "{rate}");
        assert!(
            rate >= 0.005,
            "{rate}: a gate that never passes holds its rate too, but is no use"
        );
    }
    // The same gates over single rows, as if the rows of a day were independent.
    for rate in pass_rates(200, &gates, true, |u| 0.5 * u) {
        assert!(rate > 0.1, "{rate}");
    }
}

/// The limit of what 14 units can tell, stated in the documentation of [`Gate`].
#[test]
fn losses_that_come_on_rare_days_double_the_rate_and_rare_gains_lower_it() {
    let gates = gates_at_the_truth(0.25);
    // On 15 % of days the challenger's warnings are nearly all for nothing.
    for rate in pass_rates(1000, &gates, false, |u| if u < 0.15 { 0.02 } else { 0.2906 }) {
        assert!(rate > 0.025 && rate < 0.08, "{rate}");
    }
    // On 15 % of days nearly all are right.
    for rate in pass_rates(1000, &gates, false, |u| if u < 0.15 { 0.9 } else { 0.1353 }) {
        assert!(rate < 0.025, "{rate}");
    }
}
