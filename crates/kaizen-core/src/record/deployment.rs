use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Occurrence, Record};
use crate::Digest;

/// What runs where after a change: the state of a target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deployment {
    /// When, who, in which operation.
    #[serde(flatten)]
    pub occurrence: Occurrence,
    /// The target's name.
    pub target: String,
    /// The release in each slot.
    pub slots: BTreeMap<String, Digest>,
    /// The weight of each slot; a slot that is not named has none.
    pub weights: BTreeMap<String, u32>,
    /// The deployment that this one replaced.
    pub previous: Option<Digest>,
}

impl Record for Deployment {
    const KIND: &'static str = "deployment";
}

/// Which deployments of a target count: told by its steps in the log, the latest first.
///
/// ```
/// use kaizen_core::Digest;
/// use kaizen_core::record::InForce;
///
/// let [first, second, third] = ["first", "second", "back at the first"].map(Digest::of);
/// let mut in_force = InForce::default();
/// for (step, deployment) in [("rolled_back", third), ("shifted", second), ("shifted", first)] {
///     in_force.earlier(step, deployment);
/// }
/// assert_eq!(in_force.current(), Some(third));
/// assert_eq!(in_force.shifts(), [first]);
/// ```
#[derive(Clone, Debug, Default)]
pub struct InForce {
    last: Option<Digest>,
    current: Option<Digest>,
    /// Rollbacks whose shifts are not found yet.
    undone: u32,
    shifts: Vec<Digest>,
}

impl InForce {
    /// Takes the step before those that it was given.
    pub fn earlier(&mut self, step: &str, deployment: Digest) {
        self.last.get_or_insert(deployment);
        if matches!(step, "shifted" | "rolled_back") {
            self.current.get_or_insert(deployment);
        }
        match step {
            "rolled_back" => self.undone += 1,
            "shifted" if self.undone > 0 => self.undone -= 1,
            "shifted" => self.shifts.push(deployment),
            // What was started or retired has no traffic.
            _ => {}
        }
    }

    /// The last deployment, whatever it did.
    pub fn last(&self) -> Option<Digest> {
        self.last
    }

    /// The deployment that says where the traffic is: the last shift or rollback.
    pub fn current(&self) -> Option<Digest> {
        self.current
    }

    /// The shifts that no rollback has undone, the latest first, as far as steps were given. A
    /// rollback leads from the first to the second.
    pub fn shifts(&self) -> &[Digest] {
        &self.shifts
    }
}
