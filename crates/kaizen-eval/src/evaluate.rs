use std::collections::BTreeMap;

use kaizen_core::record::{Comparison, Estimate, Evaluation};
use kaizen_core::{Digest, Error, Result, TimeBlocks};
use kaizen_stats::{Bootstrap, metric};
use serde::{Deserialize, Serialize};

use crate::CostMatrix;

/// The metrics of every evaluation: the names in [`Evaluation::metrics`].
pub(crate) const METRICS: [&str; 4] = ["auc", "log_loss", "brier", "value"];

/// How to evaluate.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The unit of independence that the blocks of [`Rows`] count.
    pub unit: TimeBlocks,
    /// How the intervals resample those units.
    pub bootstrap: Bootstrap,
    /// What each outcome gains.
    pub costs: CostMatrix,
}

/// The rows that are scored, none of which the models were trained on.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    /// What happened, one per row.
    pub labels: &'a [bool],
    /// The unit of independence of each row, such as its day.
    pub blocks: &'a [i64],
}

/// What one model says of the rows.
#[derive(Clone, Copy, Debug)]
pub struct Scores<'a> {
    /// The model.
    pub model: Digest,
    /// The probability that the label is true, one per row.
    pub scores: &'a [f64],
}

/// Evaluates one model: `auc`, `log_loss`, `brier` and `value` (money per row, acting from the
/// threshold of the costs on), each with an interval over the units of independence.
///
/// `dataset` names the rows.
///
/// # Errors
///
/// Settings out of range, lengths that differ, scores that are no probabilities, labels of one
/// class only, or too few units for an interval.
pub fn evaluate(
    settings: &Settings,
    dataset: Digest,
    rows: &Rows<'_>,
    model: &Scores<'_>,
) -> Result<Evaluation> {
    let prepared = Prepared::new(settings, rows, model, "the model")?;
    let estimates = settings
        .bootstrap
        .intervals(rows.blocks, METRICS, |weights| prepared.metrics(weights))
        .map_err(|error| about(format!("evaluation of model {}", model.model), error))?;
    Ok(record(settings, dataset, rows, model, &estimates, None))
}

/// Evaluates a challenger and the champion on the same rows.
///
/// The differences, challenger minus champion, are paired: each draw resamples the same units for
/// both models, so what moves both, such as a day of snow, does not widen them.
///
/// # Errors
///
/// Those of [`evaluate`], for either model.
pub fn compare(
    settings: &Settings,
    dataset: Digest,
    rows: &Rows<'_>,
    challenger: &Scores<'_>,
    champion: &Scores<'_>,
) -> Result<Evaluation> {
    let ours = Prepared::new(settings, rows, challenger, "the challenger")?;
    let theirs = Prepared::new(settings, rows, champion, "the champion")?;
    let names: [&str; 12] = std::array::from_fn(|i| METRICS[i % 4]);
    let estimates = settings
        .bootstrap
        .intervals(rows.blocks, names, |weights| {
            let (ours, theirs) = (ours.metrics(weights), theirs.metrics(weights));
            std::array::from_fn(|i| match i / 4 {
                0 => ours[i],
                1 => theirs[i % 4],
                _ => ours[i % 4] - theirs[i % 4],
            })
        })
        .map_err(|error| about(format!("evaluation of model {}", challenger.model), error))?;
    let comparison = Comparison {
        champion: champion.model,
        metrics: named(&estimates[4..8]),
        differences: named(&estimates[8..]),
    };
    Ok(record(settings, dataset, rows, challenger, &estimates[..4], Some(comparison)))
}

fn record(
    settings: &Settings,
    dataset: Digest,
    rows: &Rows<'_>,
    model: &Scores<'_>,
    estimates: &[Estimate],
    comparison: Option<Comparison>,
) -> Evaluation {
    let mut blocks = rows.blocks.to_vec();
    blocks.sort_unstable();
    blocks.dedup();
    let evaluation = Evaluation {
        model: model.model,
        training_set: dataset,
        rows: rows.labels.len() as u64,
        unit: settings.unit,
        // The bootstrap refuses more units than fit.
        units: blocks.len() as u32,
        confidence: settings.bootstrap.confidence,
        metrics: named(estimates),
        comparison,
    };
    tracing::debug!(
        model = %evaluation.model,
        rows = evaluation.rows,
        units = evaluation.units,
        compared = evaluation.comparison.is_some(),
        "evaluated"
    );
    evaluation
}

/// The error, of the same kind, under a message that names the thing at fault.
fn about(what: String, error: Error) -> Error {
    Error::new(error.kind(), what).with_source(error)
}

fn named(estimates: &[Estimate]) -> BTreeMap<String, Estimate> {
    METRICS.iter().zip(estimates).map(|(name, found)| ((*name).to_owned(), *found)).collect()
}

/// What can be computed once for all draws.
struct Prepared {
    order: metric::AucOrder,
    log_losses: Vec<f64>,
    squared_errors: Vec<f64>,
    values: Vec<f64>,
}

impl Prepared {
    fn new(settings: &Settings, rows: &Rows<'_>, model: &Scores<'_>, role: &str) -> Result<Self> {
        settings.costs.check()?;
        let Scores { model, scores } = model;
        let Rows { labels, blocks } = rows;
        if labels.len() != blocks.len() {
            let (labels, blocks) = (labels.len(), blocks.len());
            let message = format!("rows to evaluate on: {labels} labels and {blocks} blocks");
            return Err(Error::invalid(message));
        }
        let positives = labels.iter().filter(|label| **label).count();
        if positives == 0 || positives == labels.len() {
            return Err(Error::invalid(format!(
                "rows to evaluate on: {positives} of {} labels are positive, both classes are \
                 needed",
                labels.len()
            )));
        }
        let at_fault = |error| about(format!("scores of {role}, {model}"), error);
        let costs = &settings.costs;
        let value = |(score, label): (&f64, &bool)| costs.value(costs.acts(*score), *label);
        Ok(Self {
            order: metric::AucOrder::new(scores, labels).map_err(at_fault)?,
            log_losses: metric::log_losses(scores, labels).map_err(at_fault)?,
            squared_errors: metric::squared_errors(scores, labels).map_err(at_fault)?,
            values: scores.iter().zip(*labels).map(value).collect(),
        })
    }

    /// In the order of [`METRICS`].
    fn metrics(&self, weights: &[f64]) -> [f64; 4] {
        [
            self.order.weighted(weights),
            metric::weighted_mean(&self.log_losses, weights),
            metric::weighted_mean(&self.squared_errors, weights),
            metric::weighted_mean(&self.values, weights),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LABELS: [bool; 8] = [true, false, false, true, true, false, false, false];
    const BLOCKS: [i64; 8] = [1, 1, 2, 2, 3, 3, 4, 4];
    const GOOD: [f64; 8] = [0.9, 0.2, 0.1, 0.7, 0.3, 0.6, 0.2, 0.1];
    const COIN: [f64; 8] = [0.5; 8];

    fn settings() -> Settings {
        Settings {
            unit: TimeBlocks::days(),
            bootstrap: Bootstrap { draws: 200, confidence: 0.95, seed: 3 },
            costs: CostMatrix {
                true_negative: 0.0,
                false_positive: -35.0,
                false_negative: 0.0,
                true_positive: 65.0,
            },
        }
    }

    fn scores(scores: &[f64]) -> Scores<'_> {
        Scores { model: Digest::of(format!("{scores:?}")), scores }
    }

    fn of(labels: &[bool], blocks: &[i64], of: &[f64]) -> Result<Evaluation> {
        evaluate(&settings(), Digest::of("rows"), &Rows { labels, blocks }, &scores(of))
    }

    #[test]
    fn the_metrics_are_the_hand_computed_ones() {
        let found = of(&LABELS, &BLOCKS, &GOOD).unwrap();
        assert_eq!((found.rows, found.units, found.confidence), (8, 4, 0.95));
        // 0.9 and 0.7 beat all five negatives, 0.3 beats all but 0.6.
        assert_eq!(found.metrics["auc"].value, 14.0 / 15.0);
        let brier = (0.01 + 0.04 + 0.01 + 0.09 + 0.49 + 0.36 + 0.04 + 0.01) / 8.0;
        assert!((found.metrics["brier"].value - brier).abs() < 1e-15);
        let probabilities: [f64; 8] = [0.9, 0.8, 0.9, 0.7, 0.3, 0.4, 0.8, 0.9];
        let log_loss = -probabilities.iter().map(|p| p.ln()).sum::<f64>() / 8.0;
        assert!((found.metrics["log_loss"].value - log_loss).abs() < 1e-15);
        // Acted on 0.9, 0.7 and 0.6, the last for nothing.
        assert_eq!(found.metrics["value"].value, (65.0 + 65.0 - 35.0) / 8.0);
        assert_eq!(found.comparison, None);
        for (name, estimate) in &found.metrics {
            assert!(estimate.low <= estimate.value && estimate.value <= estimate.high, "{name}");
        }
    }

    #[test]
    fn a_comparison_is_challenger_minus_champion_on_the_same_draws() {
        let rows = Rows { labels: &LABELS, blocks: &BLOCKS };
        let compare = |challenger, champion| {
            let (ours, theirs) = (scores(challenger), scores(champion));
            compare(&settings(), Digest::of("rows"), &rows, &ours, &theirs).unwrap()
        };
        let found = compare(&GOOD, &COIN);
        let of_champion = found.comparison.unwrap();
        assert_eq!(found.metrics, of(&LABELS, &BLOCKS, &GOOD).unwrap().metrics);
        assert_eq!(of_champion.metrics, of(&LABELS, &BLOCKS, &COIN).unwrap().metrics);
        for (name, difference) in &of_champion.differences {
            let wanted = found.metrics[name].value - of_champion.metrics[name].value;
            assert_eq!(difference.value, wanted, "{name}");
        }
        // A model against itself differs by nothing on any draw.
        let same = compare(&GOOD, &GOOD).comparison.unwrap();
        for estimate in same.differences.values() {
            assert_eq!((estimate.low, estimate.value, estimate.high), (0.0, 0.0, 0.0));
        }
        // The other way round, all signs turn.
        let turned = compare(&COIN, &GOOD).comparison.unwrap();
        for (name, estimate) in &of_champion.differences {
            assert!((turned.differences[name].low + estimate.high).abs() < 1e-12, "{name}");
        }
    }

    #[test]
    fn bad_input_is_refused_by_name() {
        let cases = [
            (of(&LABELS, &BLOCKS[..7], &GOOD), "8 labels and 7 blocks"),
            (of(&LABELS, &BLOCKS, &GOOD[..7]), "7 scores for 8 labels"),
            (of(&[true; 8], &BLOCKS, &GOOD), "8 of 8 labels are positive"),
            (of(&[], &[], &[]), "0 of 0 labels"),
            (of(&LABELS, &[5; 8], &GOOD), "1 units"),
            (of(&LABELS, &BLOCKS, &[1.5; 8]), "score 1.5 in row 0"),
            (of(&LABELS, &BLOCKS, &[f64::NAN; 8]), "row 0 is not finite"),
            // Only day 1 holds positives: 32 % of the draws of 4 days miss it.
            (of(&BLOCKS.map(|block| block == 1), &BLOCKS, &GOOD), "bootstrap: auc is undefined"),
        ];
        for (found, word) in cases {
            let error = format!("{:#}", found.unwrap_err());
            assert!(error.contains(word), "{error}");
        }
        let costs = CostMatrix { true_positive: f64::INFINITY, ..settings().costs };
        let rows = Rows { labels: &LABELS, blocks: &BLOCKS };
        let settings = Settings { costs, ..settings() };
        let error = evaluate(&settings, Digest::of("rows"), &rows, &scores(&GOOD)).unwrap_err();
        assert!(error.to_string().contains("true_positive"), "{error}");
    }
}
