//! What a rollout leaves behind when a call fails: traffic on exactly one healthy release, always.

use std::sync::Arc;

use kaizen_core::{AuditLog, Error, ErrorKind, Result, async_trait};
use kaizen_deploy::{BlueGreen, SmokeCheck};
use kaizen_testkit::target::Fault;
use proptest::prelude::*;

use kaizen_testkit::FaultyLog;

use crate::place::{Place, release, turn};

/// More calls than any change makes.
const CALLS: u32 = 12;

#[tokio::test]
async fn a_release_survives_a_fault_at_any_call() {
    for fault in [Fault::Before, Fault::After] {
        let mut failures = 0;
        for call in 1..=CALLS {
            let place = Place::new();
            for number in [1, 2] {
                place.rollout().release(&release(number), turn(), &[]).await.unwrap();
            }
            let (target, rollout) = place.faulty(fault, call);
            let result = rollout.release(&release(3), turn(), &[]).await;
            assert_eq!(result.is_err(), target.has_failed(), "call {call}: {result:?}");
            let live = if result.is_ok() { release(3) } else { release(2) };
            assert_eq!(place.live().await.unwrap().1, live, "call {call}, {fault:?}");
            assert_eq!(place.logged().await, place.live().await, "call {call}, {fault:?}");
            failures += u32::from(result.is_err());

            // The same call again gets there.
            place.rollout().release(&release(3), turn(), &[]).await.unwrap();
            assert_eq!(place.live().await.unwrap().1, release(3));
            assert_eq!(place.logged().await, place.live().await);
        }
        assert!(failures >= 4, "only {failures} calls failed");
    }
}

#[tokio::test]
async fn a_rollback_survives_a_fault_at_any_call() {
    for fault in [Fault::Before, Fault::After] {
        for call in 1..=CALLS {
            let place = Place::new();
            for number in [1, 2] {
                place.rollout().release(&release(number), turn(), &[]).await.unwrap();
            }
            let (_, rollout) = place.faulty(fault, call);
            let live = if rollout.rollback(turn(), &[]).await.is_ok() { 1 } else { 2 };
            assert_eq!(place.live().await.unwrap().1, release(live), "call {call}, {fault:?}");
            assert_eq!(place.logged().await, place.live().await, "call {call}, {fault:?}");
        }
    }
}

#[tokio::test]
async fn a_log_that_takes_no_entry_gets_no_change() {
    let place = Place::new();
    let log = Arc::new(FaultyLog::new(place.log.clone()));
    let rollout = BlueGreen::new(
        Arc::clone(&place.target) as _,
        Arc::clone(&place.store) as _,
        Arc::clone(&log) as Arc<dyn AuditLog>,
    );
    for number in [1, 2] {
        rollout.release(&release(number), turn(), &[]).await.unwrap();
    }
    log.set_broken(true);
    assert!(rollout.rollback(turn(), &[]).await.unwrap_err().to_string().contains("disk full"));
    assert_eq!(place.live().await, Some(("green".into(), release(2))));
    assert!(rollout.release(&release(3), turn(), &[]).await.is_err());
    assert_eq!(place.live().await, Some(("green".into(), release(2))));
    assert_eq!(place.logged().await, place.live().await);

    log.set_broken(false);
    rollout.release(&release(3), turn(), &[]).await.unwrap();
    assert_eq!(place.logged().await, Some(("blue".into(), release(3))));
}

/// While it checks one release, somebody else deploys another.
#[derive(Debug)]
struct Intruder(BlueGreen);

#[async_trait]
impl SmokeCheck for Intruder {
    async fn check(&self, _: &str, _: &kaizen_core::Digest) -> Result<()> {
        self.0.release(&release(9), turn(), &[]).await.map(drop)
    }
}

#[tokio::test]
async fn a_change_by_somebody_else_is_a_conflict() {
    let place = Place::new();
    place.rollout().release(&release(1), turn(), &[]).await.unwrap();
    let elsewhere = Place::new();
    // The intruder shares the log, and thinks of the target by the same name.
    let intruder = BlueGreen::new(
        Arc::clone(&elsewhere.target) as _,
        Arc::clone(&place.store) as _,
        Arc::clone(&place.log) as _,
    );
    let rollout = place.rollout().with_check(Arc::new(Intruder(intruder)));
    let error: Error = rollout.release(&release(2), turn(), &[]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error:#}");
    assert!(error.to_string().contains("came in between"), "{error}");
    assert_eq!(place.live().await, Some(("blue".into(), release(1))));
}

#[derive(Clone, Debug)]
enum Act {
    Release(u8),
    Rollback,
    Crash,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn whatever_happens_one_healthy_release_has_the_traffic(
        acts in prop::collection::vec(
            (
                prop_oneof![
                    4 => (1..5_u8).prop_map(Act::Release),
                    2 => Just(Act::Rollback),
                    1 => Just(Act::Crash),
                ],
                // 0 is no fault.
                0..CALLS,
                prop_oneof![Just(Fault::Before), Just(Fault::After)],
            ),
            1..16,
        ),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let place = Place::new();
            place.rollout().release(&release(1), turn(), &[]).await.unwrap();
            for (act, call, fault) in acts {
                let before = place.live().await;
                let (target, rollout) = place.faulty(fault, call);
                match act {
                    Act::Release(number) => {
                        match rollout.release(&release(number), turn(), &[]).await {
                            Ok(_) => assert_eq!(place.live().await.unwrap().1, release(number)),
                            Err(error) => {
                                assert!(call > 0 && target.has_failed(), "{error:#}");
                                assert_eq!(place.live().await, before);
                            }
                        }
                    }
                    Act::Rollback => {
                        let result = rollout.rollback(turn(), &[]).await;
                        assert_eq!(result.is_ok(), place.live().await != before);
                    }
                    Act::Crash => {
                        place.target.crash();
                        while rollout.recover().await.is_err() {}
                        assert_eq!(place.live().await, before);
                    }
                }
                assert!(place.live().await.is_some());
                assert_eq!(place.logged().await, place.live().await);
            }
        });
    }
}
