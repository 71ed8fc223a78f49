//! The policy of a cycle: plain data, fixed before the first tick, recorded in the log.

use kaizen_core::{Digest, Error, Result, TimeBlocks, serde_int};
use kaizen_eval::{CostMatrix, Gate, Settings};
use kaizen_stats::Bootstrap;
use serde::{Deserialize, Serialize};

/// When to retrain, what a challenger must show, and what errors cost.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// The name under which the models are registered and served.
    pub model: String,
    /// The unit of independence; the cycle looks once for each.
    pub unit: TimeBlocks,
    /// What retrains without being asked.
    pub triggers: Triggers,
    /// After a decision, the triggers rest for this many units.
    pub rest_units: u32,
    /// The newest units are held out from training, and evaluated on.
    pub holdout_units: u32,
    /// A unit's value is reckoned this many seconds after its end, when its labels are known.
    pub maturity_seconds: u32,
    /// From one decision to the next: the probability of any false alarm, half for the monitor of
    /// drift, half for that of value.
    pub alpha: f64,
    /// What each kind of answer is worth, in money.
    pub costs: CostMatrix,
    /// How intervals are made.
    pub bootstrap: Bootstrap,
    /// What the first model must show, before there is a champion.
    pub first_gates: Vec<Gate>,
    /// What a challenger must show.
    pub gates: Vec<Gate>,
    /// The seed of everything that is drawn.
    #[serde(with = "serde_int")]
    pub seed: u64,
}

/// What retrains without being asked. With neither, only [`Cycle::retrain`](super::Cycle::retrain)
/// does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Triggers {
    /// An alarm of the monitor of drift.
    pub drift: bool,
    /// An alarm of the monitor of value.
    pub value: bool,
}

impl Policy {
    /// Checks the policy, naming the field at fault.
    pub fn check(&self) -> Result<()> {
        let bad = |what: &str| Err(Error::invalid(format!("policy `{}`: {what}", self.model)));
        if self.model.is_empty() {
            return bad("`model` is empty");
        }
        if self.holdout_units < 2 {
            return bad("`holdout_units` is below 2: no interval without two units");
        }
        if !(self.alpha > 0.0 && self.alpha < 1.0) {
            return bad("`alpha` is not between 0 and 1");
        }
        for (name, gates) in [("first_gates", &self.first_gates), ("gates", &self.gates)] {
            if gates.is_empty() {
                return bad(&format!("`{name}` is empty: nothing would ever be approved"));
            }
            gates.iter().try_for_each(Gate::check)?;
        }
        self.costs.check()
    }

    /// The digest of the policy, by which the log names it.
    pub fn digest(&self) -> Result<Digest> {
        Digest::of_json(self)
    }

    /// The gates of a request: those of the first model, or those of a challenger.
    pub(super) fn gates_against(&self, champion: Option<&Digest>) -> &[Gate] {
        if champion.is_some() { &self.gates } else { &self.first_gates }
    }

    /// How evaluations are made under this policy.
    pub fn evaluation(&self) -> Settings {
        Settings { unit: self.unit, bootstrap: self.bootstrap, costs: self.costs }
    }
}
