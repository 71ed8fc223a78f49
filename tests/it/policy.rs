//! The policy of the flights is fixed on their first eight weeks.

use kaizen::core::record::Trigger;
use kaizen::eval::Gate;
use kaizen::prelude::*;

use crate::flights::host::Host;
use crate::flights::question::{MARGIN, days, policy};
use crate::flights::world::World;

/// A model of four weeks and one of six are compared on the last two of the eight. The interval of
/// their difference says what two weeks can tell apart: half its width is about 0.5 a flight. A
/// challenger that is just as good passes a margin of that size half the time, and one of twice the
/// size nearly always. So the margin is twice the half-width. Nothing after the eighth week is read.
#[tokio::test]
async fn the_margin_is_twice_what_two_weeks_can_tell_apart() {
    let world = World::load(Some(56)).await.unwrap();
    let start = world.span().0;
    let first_gates = vec![Gate::Floor { metric: "auc".into(), at_least: 0.0 }];
    let policy = Policy { first_gates, ..policy(Triggers::default()) };
    let dir = tempfile::tempdir().unwrap();
    let mut host = Host::open(dir.path(), policy, &world, days().start(start)).await.unwrap();
    host.cycle.tick(days().start(start + 42)).await.unwrap();
    let tick = host.cycle.retrain(days().start(start + 56), Trigger::Schedule).await.unwrap();
    let evaluation = tick.retraining.unwrap().evaluation;
    let difference = evaluation.comparison.unwrap().differences["value"];
    let half_width = (difference.high - difference.low) / 2.0;
    println!("two weeks tell apart {half_width:.2} a flight; the margin is {MARGIN}");
    assert!((1.4..2.8).contains(&(MARGIN / half_width)), "{difference:?}");
}
