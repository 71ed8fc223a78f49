use std::collections::BTreeMap;
use std::fmt;

use kaizen_core::record::{Decision, Estimate, Evaluation, GateResult, Occurrence};
use kaizen_core::{Digest, Error, Result};
use serde::{Deserialize, Serialize};

use crate::evaluate::METRICS;

/// What a model must show before it may take the champion's place; plain data, with a digest.
///
/// A gate reads the interval, not the best guess. An interval of 95 % has 2.5 % beyond each end,
/// so a gate passes a model that truly lies just on the wrong side in about 2.5 % of cases. All
/// gates must pass, so a model that fails any one in truth passes them all no more often than that
/// (an intersection-union test): more gates need no correction.
///
/// The rate is that of the bootstrap: good where the units' values spread evenly, and approximate
/// where units are few and the loss comes on rare ones. Over 14 days, a challenger that loses only
/// on 15 % of the days passes in about 5 % of cases: it may not have met such a day. One holdout is
/// one look: a gate applied to many challengers on the same rows errs for each.
///
/// The gates know that `log_loss` and `brier` are better when smaller, `auc` and `value` when
/// larger.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Gate {
    /// The lower end of the metric's interval is at least this much.
    Floor {
        /// The metric's name.
        metric: String,
        /// In the metric's unit; `value` is money per row.
        at_least: f64,
    },
    /// The upper end of the metric's interval is at most this much.
    Ceiling {
        /// The metric's name.
        metric: String,
        /// In the metric's unit.
        at_most: f64,
    },
    /// The interval of the paired difference excludes that the model is worse than the champion by
    /// more than the margin. Passes if there is no champion.
    NonInferior {
        /// The metric's name.
        metric: String,
        /// At least 0, in the metric's unit.
        margin: f64,
    },
    /// The interval of the paired difference lies wholly on the better side. Passes if there is no
    /// champion.
    Superior {
        /// The metric's name.
        metric: String,
    },
}

impl Gate {
    /// The metric that it reads.
    pub fn metric(&self) -> &str {
        match self {
            Self::Floor { metric, .. }
            | Self::Ceiling { metric, .. }
            | Self::NonInferior { metric, .. }
            | Self::Superior { metric } => metric,
        }
    }

    /// Checks that the metric is known and the number in range.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`](kaizen_core::ErrorKind::Invalid), naming the metric or the number.
    pub fn check(&self) -> Result<()> {
        let metric = self.metric();
        if !METRICS.contains(&metric) {
            let known = METRICS.join("`, `");
            let message = format!("gate on metric `{metric}`: unknown; there are `{known}`");
            return Err(Error::invalid(message));
        }
        let (field, number, fits) = match *self {
            Self::Floor { at_least, .. } => ("at_least", at_least, at_least.is_finite()),
            Self::Ceiling { at_most, .. } => ("at_most", at_most, at_most.is_finite()),
            Self::NonInferior { margin, .. } => {
                ("margin", margin, margin.is_finite() && margin >= 0.0)
            }
            Self::Superior { .. } => return Ok(()),
        };
        if fits {
            return Ok(());
        }
        Err(Error::invalid(format!("gate on metric `{metric}`: {field} is {number}")))
    }

    fn apply(&self, evaluation: &Evaluation) -> Result<GateResult> {
        self.check()?;
        let (passed, evidence) = match *self {
            Self::Floor { at_least, .. } => {
                let found = self.find(&evaluation.metrics, evaluation)?;
                let passed = found.low >= at_least;
                let verdict = if passed { "is at least" } else { "may be below" };
                (passed, self.absolute(found, evaluation, verdict, at_least))
            }
            Self::Ceiling { at_most, .. } => {
                let found = self.find(&evaluation.metrics, evaluation)?;
                let passed = found.high <= at_most;
                let verdict = if passed { "is at most" } else { "may be above" };
                (passed, self.absolute(found, evaluation, verdict, at_most))
            }
            Self::NonInferior { margin, .. } => self.relative(evaluation, |gained| {
                let passed = gained >= -margin;
                let verdict = if passed { "at most" } else { "may be more than" };
                (passed, format!("{verdict} {margin} worse"))
            })?,
            Self::Superior { .. } => self.relative(evaluation, |gained| {
                let passed = gained > 0.0;
                (passed, if passed { "better" } else { "may be no better" }.to_owned())
            })?,
        };
        Ok(GateResult { gate: self.to_string(), passed, evidence })
    }

    fn find<'a>(
        &self,
        metrics: &'a BTreeMap<String, Estimate>,
        evaluation: &Evaluation,
    ) -> Result<&'a Estimate> {
        let metric = self.metric();
        let found = metrics.get(metric).ok_or_else(|| {
            let model = evaluation.model;
            Error::invalid(format!("gate on metric `{metric}`: not in the evaluation of {model}"))
        })?;
        if found.low <= found.high {
            return Ok(found);
        }
        Err(Error::invalid(format!(
            "gate on metric `{metric}`: its interval [{}, {}] is none",
            found.low, found.high
        )))
    }

    fn absolute(&self, found: &Estimate, of: &Evaluation, verdict: &str, bound: f64) -> String {
        let (name, basis) = (display_name(self.metric()), basis(of));
        let d = decimals(found);
        format!(
            "{name} {:.d$} [{:.d$}, {:.d$}] ({basis}) {verdict} {bound}",
            found.value, found.low, found.high
        )
    }

    /// Judges the least that the model gains on the champion according to the interval.
    fn relative(
        &self,
        evaluation: &Evaluation,
        judge: impl Fn(f64) -> (bool, String),
    ) -> Result<(bool, String)> {
        self.find(&evaluation.metrics, evaluation)?;
        let Some(comparison) = &evaluation.comparison else {
            return Ok((true, "there is no champion to compare with".to_owned()));
        };
        let found = self.find(&comparison.differences, evaluation)?;
        let least = if smaller_is_better(self.metric()) { -found.high } else { found.low };
        let (passed, verdict) = judge(least);
        let (name, basis) = (display_name(self.metric()), basis(evaluation));
        let d = decimals(found);
        let evidence = format!(
            "{name} minus the champion's {:+.d$} [{:+.d$}, {:+.d$}] ({basis}): {verdict}",
            found.value, found.low, found.high
        );
        Ok((passed, evidence))
    }
}

impl fmt::Display for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = display_name(self.metric());
        match self {
            Self::Floor { at_least, .. } => write!(f, "{name} at least {at_least}"),
            Self::Ceiling { at_most, .. } => write!(f, "{name} at most {at_most}"),
            Self::NonInferior { margin, .. } => {
                write!(f, "{name} at most {margin} worse than the champion's")
            }
            Self::Superior { .. } => write!(f, "{name} better than the champion's"),
        }
    }
}

/// What each gate finds in an evaluation, in order.
///
/// # Errors
///
/// A gate that names an unknown metric or a number out of range.
pub fn apply(gates: &[Gate], evaluation: &Evaluation) -> Result<Vec<GateResult>> {
    gates.iter().map(|gate| gate.apply(evaluation)).collect()
}

/// Applies the gates and makes the record of the decision.
///
/// `evaluation_id` is the evaluation's id in the store. `model` and `champion` are the ones that
/// the caller means to replace one by the other: the evaluation must be about them.
///
/// # Errors
///
/// Those of [`apply`], and an evaluation of another model or against another champion. Without this
/// check, an evaluation made without the champion would pass every gate of comparison.
pub fn decide(
    gates: &[Gate],
    evaluation: &Evaluation,
    occurrence: Occurrence,
    model: Digest,
    champion: Option<Digest>,
    evaluation_id: Digest,
) -> Result<Decision> {
    if evaluation.model != model {
        return Err(Error::invalid(format!(
            "decision on model {model}: evaluation {evaluation_id} is of model {}",
            evaluation.model
        )));
    }
    let compared = evaluation.comparison.as_ref().map(|comparison| comparison.champion);
    if compared != champion {
        let name = |model: Option<Digest>| match model {
            Some(model) => format!("model {model}"),
            None => "none".to_owned(),
        };
        return Err(Error::invalid(format!(
            "decision on model {model}: the champion is {}, evaluation {evaluation_id} compares \
             with {}",
            name(champion),
            name(compared)
        )));
    }
    let gates = apply(gates, evaluation)?;
    tracing::info!(
        %model,
        passed = gates.iter().filter(|gate| gate.passed).count(),
        gates = gates.len(),
        "decided"
    );
    Ok(Decision { occurrence, model, champion, evaluation: evaluation_id, gates, overridden: None })
}

fn smaller_is_better(metric: &str) -> bool {
    matches!(metric, "log_loss" | "brier")
}

fn display_name(metric: &str) -> &str {
    if metric == "value" { "value per row" } else { metric }
}

/// Confidence and number of units, as `95 %, 14 days`.
fn basis(evaluation: &Evaluation) -> String {
    let confidence = (evaluation.confidence * 1e5).round() / 1e3;
    let start = evaluation.unit.start(0);
    let seconds = (evaluation.unit.start(1).micros() - start.micros()) / 1_000_000;
    let unit = match seconds {
        3_600 => "hours".to_owned(),
        86_400 => "days".to_owned(),
        604_800 => "weeks".to_owned(),
        _ => format!("blocks of {} s", seconds),
    };
    format!("{confidence} %, {} {unit}", evaluation.units)
}

/// As many decimals as give half the interval's width two digits; at most 6.
fn decimals(found: &Estimate) -> usize {
    let half = (found.high - found.low) / 2.0;
    if half > 0.0 { (1.0 - half.log10().floor()).clamp(0.0, 6.0) as usize } else { 4 }
}

#[cfg(test)]
mod tests {
    use kaizen_core::record::Comparison;
    use kaizen_core::{Actor, ErrorKind, OperationId, TimeBlocks, Timestamp};

    use super::*;

    fn estimate(value: f64, low: f64, high: f64) -> Estimate {
        Estimate { value, low, high }
    }

    fn named(value: Estimate, log_loss: Estimate) -> BTreeMap<String, Estimate> {
        BTreeMap::from([("value".to_owned(), value), ("log_loss".to_owned(), log_loss)])
    }

    fn evaluation(compared: bool) -> Evaluation {
        let comparison = Comparison {
            champion: Digest::of("champion"),
            metrics: named(estimate(1.8, 1.5, 2.1), estimate(0.5, 0.48, 0.52)),
            differences: named(
                estimate(0.12, -0.05, 0.30),
                // Smaller is better: surely better by 0.002, perhaps by 0.02.
                estimate(-0.011, -0.02, -0.002),
            ),
        };
        Evaluation {
            model: Digest::of("challenger"),
            training_set: Digest::of("rows"),
            rows: 9_000,
            unit: TimeBlocks::days(),
            units: 14,
            confidence: 0.95,
            metrics: named(estimate(1.92, 1.6, 2.25), estimate(0.489, 0.47, 0.51)),
            comparison: compared.then_some(comparison),
        }
    }

    fn floor(metric: &str, at_least: f64) -> Gate {
        Gate::Floor { metric: metric.to_owned(), at_least }
    }

    fn ceiling(metric: &str, at_most: f64) -> Gate {
        Gate::Ceiling { metric: metric.to_owned(), at_most }
    }

    fn non_inferior(metric: &str, margin: f64) -> Gate {
        Gate::NonInferior { metric: metric.to_owned(), margin }
    }

    fn superior(metric: &str) -> Gate {
        Gate::Superior { metric: metric.to_owned() }
    }

    #[test]
    fn gates_judge_the_end_of_the_interval_and_say_so() {
        let value = "value per row 1.92 [1.60, 2.25] (95 %, 14 days)";
        let loss = "log_loss 0.489 [0.470, 0.510] (95 %, 14 days)";
        let gained = "value per row minus the champion's +0.12 [-0.05, +0.30] (95 %, 14 days)";
        let lost = "log_loss minus the champion's -0.0110 [-0.0200, -0.0020] (95 %, 14 days)";
        for (gate, passed, evidence) in [
            (floor("value", 0.0), true, format!("{value} is at least 0")),
            (floor("value", 1.6), true, format!("{value} is at least 1.6")),
            (floor("value", 1.61), false, format!("{value} may be below 1.61")),
            (ceiling("log_loss", 0.51), true, format!("{loss} is at most 0.51")),
            (ceiling("log_loss", 0.5), false, format!("{loss} may be above 0.5")),
            (non_inferior("value", 0.05), true, format!("{gained}: at most 0.05 worse")),
            (non_inferior("value", 0.0), false, format!("{gained}: may be more than 0 worse")),
            (superior("value"), false, format!("{gained}: may be no better")),
            (non_inferior("log_loss", 0.0), true, format!("{lost}: at most 0 worse")),
            (superior("log_loss"), true, format!("{lost}: better")),
        ] {
            let found = apply(std::slice::from_ref(&gate), &evaluation(true)).unwrap();
            assert_eq!(found, [GateResult { gate: gate.to_string(), passed, evidence }]);
        }
        let text = non_inferior("log_loss", 0.005).to_string();
        assert_eq!(text, "log_loss at most 0.005 worse than the champion's");
    }

    #[test]
    fn without_a_champion_gates_of_comparison_pass_and_say_why() {
        let gates = [superior("value"), non_inferior("log_loss", 0.01), floor("value", 5.0)];
        let found = apply(&gates, &evaluation(false)).unwrap();
        assert_eq!(found.iter().map(|gate| gate.passed).collect::<Vec<_>>(), [true, true, false]);
        assert_eq!(found[0].evidence, "there is no champion to compare with");
    }

    #[test]
    fn a_gate_that_cannot_be_judged_is_an_error_with_or_without_a_champion() {
        for (gate, word) in [
            (superior("profit"), "`profit`: unknown; there are `auc`"),
            (floor("Value", 0.0), "`Value`: unknown"),
            (superior("auc"), "`auc`: not in the evaluation"),
            (floor("value", f64::NAN), "at_least is NaN"),
            (ceiling("value", f64::INFINITY), "at_most is inf"),
            (non_inferior("value", -0.1), "margin is -0.1"),
        ] {
            for compared in [false, true] {
                let error = apply(std::slice::from_ref(&gate), &evaluation(compared)).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Invalid);
                assert!(error.to_string().contains(word), "{error}");
            }
        }
        let mut broken = evaluation(true);
        broken.metrics.insert("value".to_owned(), estimate(1.0, f64::NAN, 2.0));
        assert!(apply(&[floor("value", 0.0)], &broken).is_err());
    }

    #[test]
    fn a_decision_is_about_the_models_that_the_caller_means() {
        let at = Timestamp::from_micros(0);
        let occurrence = Occurrence::new(at, Actor::system("test"), OperationId::new("t", at));
        let (challenger, champion) = (Digest::of("challenger"), Digest::of("champion"));
        let decide = |compared, model, champion| {
            let gates = [floor("value", 0.0), superior("log_loss")];
            let (evaluation, id) = (evaluation(compared), Digest::of("evaluation"));
            decide(&gates, &evaluation, occurrence.clone(), model, champion, id)
        };
        let decision = decide(true, challenger, Some(champion)).unwrap();
        assert!(decision.approved() && decision.gates.len() == 2);
        assert_eq!((decision.model, decision.champion), (challenger, Some(champion)));
        assert!(decide(false, challenger, None).unwrap().approved());
        // Made without the champion, it would pass every gate of comparison.
        for (compared, model, champion, word) in [
            (false, challenger, Some(champion), "compares with none"),
            (true, challenger, None, "champion is none"),
            (true, challenger, Some(challenger), "compares with model"),
            (true, champion, Some(champion), "is of model"),
        ] {
            let error = decide(compared, model, champion).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn gates_are_data_with_a_digest() {
        let text = r#"{"type":"non_inferior","metric":"value","margin":0.1}"#;
        let gate: Gate = serde_json::from_str(text).unwrap();
        assert_eq!(gate, non_inferior("value", 0.1));
        assert_eq!(Digest::of_json(&gate).unwrap(), Digest::of(text));
        for bad in [
            r#"{"type":"non_inferior","metric":"value"}"#,
            r#"{"type":"non_inferior","metric":"value","margin":0.1,"margn":0.2}"#,
            r#"{"type":"inferior","metric":"value"}"#,
        ] {
            assert!(serde_json::from_str::<Gate>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn units_of_other_lengths_have_their_names() {
        let with = |seconds| {
            let unit = TimeBlocks::of_seconds(seconds).unwrap().starting_at(18_000);
            basis(&Evaluation { unit, confidence: 0.999, ..evaluation(false) })
        };
        assert_eq!(with(3_600), "99.9 %, 14 hours");
        assert_eq!(with(900), "99.9 %, 14 blocks of 900 s");
    }
}
