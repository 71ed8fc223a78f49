//! The flights of the example, for tests: its own modules, on fewer days.

#![allow(dead_code, unreachable_pub, reason = "the example uses more than the tests do")]

#[path = "../../examples/flight_delays/caller.rs"]
pub mod caller;
#[path = "../../examples/flight_delays/host.rs"]
pub mod host;
#[path = "../../examples/flight_delays/question.rs"]
pub mod question;
#[path = "../../examples/flight_delays/world.rs"]
pub mod world;

use kaizen::eval::Gate;
use kaizen::prelude::*;

/// The example's policy for a month: shorter holdout and rest, and gates that two weeks of
/// training can pass.
pub fn monthly_policy(triggers: Triggers) -> Policy {
    let policy = question::policy(triggers);
    let first_gates = vec![Gate::Floor { metric: "auc".into(), at_least: 0.55 }];
    let gates = vec![Gate::NonInferior { metric: "value".into(), margin: 5.0 }];
    Policy { holdout_units: 7, rest_units: 3, first_gates, gates, ..policy }
}
