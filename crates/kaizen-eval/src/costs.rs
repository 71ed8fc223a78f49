use kaizen_core::{Error, Result};
use serde::{Deserialize, Serialize};

/// What each outcome gains, in money; a loss is negative. To *act* is to treat a row as positive.
///
/// If acting costs 35 and saves 100 when the row is positive, the gains are 0, -35, 0 and 65:
///
/// ```
/// use kaizen_eval::CostMatrix;
///
/// let costs = CostMatrix {
///     true_negative: 0.0,
///     false_positive: -35.0,
///     false_negative: 0.0,
///     true_positive: 65.0,
/// };
/// assert_eq!(costs.threshold(), 0.35);
/// assert!(costs.acts(0.35) && !costs.acts(0.3499));
/// // Warned of a late flight; left a punctual one alone; warned for nothing.
/// assert_eq!(costs.total(&[0.8, 0.1, 0.5], &[true, false, false]), 30.0);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CostMatrix {
    /// Not acted, and rightly so.
    pub true_negative: f64,
    /// Acted for nothing.
    pub false_positive: f64,
    /// Not acted, and missed one.
    pub false_negative: f64,
    /// Acted, and rightly so.
    pub true_positive: f64,
}

impl CostMatrix {
    /// Checks that the gains are finite, and that acting pays on a positive row and not on a
    /// negative one. Otherwise always or never acting is best, and no model is needed.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`](kaizen_core::ErrorKind::Invalid), naming the gains at fault.
    pub fn check(&self) -> Result<()> {
        let Self { true_negative, false_positive, false_negative, true_positive } = *self;
        for (name, gain) in [
            ("true_negative", true_negative),
            ("false_positive", false_positive),
            ("false_negative", false_negative),
            ("true_positive", true_positive),
        ] {
            if !gain.is_finite() {
                return Err(Error::invalid(format!("cost matrix: {name} is {gain}")));
            }
        }
        if true_positive <= false_negative {
            return Err(Error::invalid(format!(
                "cost matrix: acting on a positive row gains {true_positive}, no more than not \
                 acting ({false_negative})"
            )));
        }
        if true_negative <= false_positive {
            return Err(Error::invalid(format!(
                "cost matrix: acting on a negative row gains {false_positive}, no less than not \
                 acting ({true_negative})"
            )));
        }
        Ok(())
    }

    /// The probability from which on acting gains at least as much as not acting, in expectation
    /// (Elkan, "The foundations of cost-sensitive learning", 2001): what acting on a negative row
    /// loses, divided by that and what acting on a positive row gains.
    ///
    /// It lies between 0 and 1 if [`Self::check`] passes.
    pub fn threshold(&self) -> f64 {
        let lost = self.true_negative - self.false_positive;
        let gained = self.true_positive - self.false_negative;
        lost / (lost + gained)
    }

    /// Whether to act on a row with this score: it is at least the [threshold](Self::threshold).
    pub fn acts(&self, score: f64) -> bool {
        score >= self.threshold()
    }

    /// What one row gained.
    pub fn value(&self, acted: bool, label: bool) -> f64 {
        match (acted, label) {
            (false, false) => self.true_negative,
            (true, false) => self.false_positive,
            (false, true) => self.false_negative,
            (true, true) => self.true_positive,
        }
    }

    /// What all rows gained, acting where the score says so. Scores and labels go in pairs; what
    /// is left over on the longer side does not count.
    pub fn total(&self, scores: &[f64], labels: &[bool]) -> f64 {
        let pairs = scores.iter().zip(labels);
        pairs.map(|(score, label)| self.value(self.acts(*score), *label)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLIGHTS: CostMatrix = CostMatrix {
        true_negative: 0.0,
        false_positive: -35.0,
        false_negative: 0.0,
        true_positive: 65.0,
    };

    #[test]
    fn the_threshold_is_where_acting_and_not_acting_gain_the_same() {
        let fraud = CostMatrix {
            true_negative: 1.5,
            false_positive: -20.0,
            false_negative: -400.0,
            true_positive: -5.0,
        };
        for costs in [FLIGHTS, fraud] {
            costs.check().unwrap();
            let p = costs.threshold();
            let gain = |acted| p * costs.value(acted, true) + (1.0 - p) * costs.value(acted, false);
            assert!((gain(true) - gain(false)).abs() < 1e-12, "{costs:?}");
        }
    }

    #[test]
    fn costs_that_need_no_model_are_refused() {
        for (costs, word) in [
            (CostMatrix { true_positive: 0.0, ..FLIGHTS }, "positive row gains 0"),
            (CostMatrix { false_positive: 1.0, ..FLIGHTS }, "negative row gains 1"),
            (CostMatrix { false_negative: f64::NAN, ..FLIGHTS }, "false_negative is NaN"),
        ] {
            let error = costs.check().unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }
}
