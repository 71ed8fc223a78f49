//! What a rollout does when nothing fails.

use std::collections::BTreeMap;
use std::sync::Arc;

use kaizen_core::{AuditLog, Digest, Entry, Error, ErrorKind, Event, Result, Target, async_trait};
use kaizen_deploy::SmokeCheck;
use kaizen_testkit::target::MemoryTarget;

use crate::place::{Place, release, slots, turn};

#[tokio::test]
async fn a_release_takes_all_traffic_and_the_old_one_stays_warm() {
    let place = Place::new();
    let rollout = place.rollout();
    assert!(rollout.current().await.unwrap().is_none());

    rollout.release(&release(1), turn(), &[]).await.unwrap();
    assert_eq!(place.live().await, Some(("blue".into(), release(1))));
    let evidence = [Digest::of("the decision")];
    let id = rollout.release(&release(2), turn(), &evidence).await.unwrap();
    assert_eq!(place.live().await, Some(("green".into(), release(2))));
    assert!(place.target.status().await.unwrap()["blue"].ready);

    // The third takes the slot of the first.
    assert_eq!(rollout.current().await.unwrap().unwrap().id, id);
    rollout.release(&release(3), turn(), &[]).await.unwrap();
    assert_eq!(place.live().await, Some(("blue".into(), release(3))));

    assert_eq!(place.steps().await, ["started", "shifted"].repeat(3));
    let deployments = place.deployments().await;
    let expected = [
        (slots(&[("blue", 1)]), None),
        (slots(&[("blue", 1)]), Some("blue")),
        (slots(&[("blue", 1), ("green", 2)]), Some("blue")),
        (slots(&[("blue", 1), ("green", 2)]), Some("green")),
        (slots(&[("blue", 3), ("green", 2)]), Some("green")),
        (slots(&[("blue", 3), ("green", 2)]), Some("blue")),
    ];
    for ((_, deployment), (slots, live)) in deployments.iter().zip(expected) {
        assert_eq!(deployment.slots, slots);
        let weights = live.map(|slot| (slot.to_owned(), 100));
        assert_eq!(deployment.weights, BTreeMap::from_iter(weights));
        assert_eq!(deployment.target, "shop");
    }
    // Each names the one that it replaced, and the entries carry the evidence.
    let entries = place.entries().await;
    for (index, (_, deployment)) in deployments.iter().enumerate() {
        assert_eq!(deployment.previous, index.checked_sub(1).map(|before| entries[before].subject));
    }
    assert!(entries[2..4].iter().all(|entry| entry.evidence == evidence));
    assert!(entries.iter().all(|entry| entry.actor == turn().actor && entry.at == turn().at));
}

#[tokio::test]
async fn releasing_what_is_live_changes_nothing() {
    let place = Place::new();
    let first = place.rollout().release(&release(1), turn(), &[]).await.unwrap();
    // Another BlueGreen, as after a restart of the host.
    let again = place.rollout().release(&release(1), turn(), &[]).await.unwrap();
    assert_eq!(first, again);
    assert_eq!(place.steps().await, ["started", "shifted"]);
}

#[tokio::test]
async fn a_rollback_returns_to_the_warm_release_once() {
    let place = Place::new();
    let rollout = place.rollout();
    let error = rollout.rollback(turn(), &[]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused, "{error:#}");
    assert!(error.to_string().contains("no release to roll back to"), "{error}");

    for number in [1, 2] {
        rollout.release(&release(number), turn(), &[]).await.unwrap();
    }
    let report = Digest::of("drift report");
    let id = rollout.rollback(turn(), &[report]).await.unwrap();
    assert_eq!(place.live().await, Some(("blue".into(), release(1))));
    assert_eq!(rollout.current().await.unwrap().unwrap().id, id);
    assert_eq!(place.entries().await.last().unwrap().evidence, [report]);

    // What was rolled back from is not what a second rollback returns to.
    let error = rollout.rollback(turn(), &[]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused, "{error:#}");
    // It is warm, so releasing it again needs no start, and then a rollback is possible again.
    rollout.release(&release(2), turn(), &[]).await.unwrap();
    rollout.rollback(turn(), &[]).await.unwrap();
    assert_eq!(place.live().await, Some(("blue".into(), release(1))));
    assert_eq!(
        place.steps().await,
        ["started", "shifted", "started", "shifted", "rolled_back", "shifted", "rolled_back"]
    );
}

#[tokio::test]
async fn a_rollback_to_a_release_that_is_gone_is_refused() {
    let place = Place::new();
    let rollout = place.rollout();
    for number in [1, 2] {
        rollout.release(&release(number), turn(), &[]).await.unwrap();
    }
    place.target.set_ready("blue", false);
    let error = rollout.rollback(turn(), &[]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(error.to_string().contains(&release(1).to_string()), "{error}");
    assert_eq!(place.live().await, Some(("green".into(), release(2))));
}

#[derive(Debug)]
struct Refuses(Digest);

#[async_trait]
impl SmokeCheck for Refuses {
    async fn check(&self, slot: &str, release: &Digest) -> Result<()> {
        if *release == self.0 {
            return Err(Error::refused(format!("slot `{slot}`: scores are constant")));
        }
        Ok(())
    }
}

#[tokio::test]
async fn a_release_that_fails_its_check_gets_no_traffic_and_no_rollback_leads_to_it() {
    let place = Place::new();
    let rollout = place.rollout().with_check(Arc::new(Refuses(release(2))));
    rollout.release(&release(1), turn(), &[]).await.unwrap();
    let error = rollout.release(&release(2), turn(), &[]).await.unwrap_err();
    assert!(error.to_string().contains("scores are constant"), "{error}");
    assert_eq!(place.live().await, Some(("blue".into(), release(1))));
    assert_eq!(place.steps().await, ["started", "shifted", "started", "retired"]);
    assert_eq!(place.logged().await, place.live().await);
    assert_eq!(place.target.status().await.unwrap().len(), 1, "the failed release was stopped");
    assert_eq!(rollout.rollback(turn(), &[]).await.unwrap_err().kind(), ErrorKind::Refused);
}

#[tokio::test]
async fn an_unknown_release_leaves_the_traffic_alone() {
    let place = Place::new();
    let rollout = place.rollout();
    rollout.release(&release(1), turn(), &[]).await.unwrap();
    let error = rollout.release(&release(77), turn(), &[]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert_eq!(place.live().await, Some(("blue".into(), release(1))));
    assert_eq!(place.logged().await, place.live().await);
}

#[tokio::test]
async fn divided_traffic_is_not_ours_to_move() {
    let place = Place::new();
    let rollout = place.rollout();
    for number in [1, 2] {
        rollout.release(&release(number), turn(), &[]).await.unwrap();
    }
    let split = [("blue".to_owned(), 50), ("green".to_owned(), 50)];
    place.target.shift(&BTreeMap::from(split)).await.unwrap();
    let error = rollout.release(&release(3), turn(), &[]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.to_string().contains("divided between `blue` and `green`"), "{error}");
}

#[tokio::test]
async fn recovery_runs_what_the_log_says() {
    let place = Place::new();
    let rollout = place.rollout();
    assert_eq!(rollout.recover().await.unwrap(), None);
    rollout.release(&release(1), turn(), &[]).await.unwrap();
    let id = rollout.release(&release(2), turn(), &[]).await.unwrap();
    let entries = place.log.size().await.unwrap();

    place.target.crash();
    assert_eq!(place.rollout().recover().await.unwrap(), Some(id));
    assert_eq!(place.live().await, Some(("green".into(), release(2))));
    assert_eq!(place.log.size().await.unwrap(), entries, "a recovery logs nothing");
    // A second recovery finds nothing to do, and the rollback has stayed possible.
    assert_eq!(place.rollout().recover().await.unwrap(), Some(id));
    place.rollout().rollback(turn(), &[]).await.unwrap();
    assert_eq!(place.live().await, Some(("blue".into(), release(1))));

    place.target.crash();
    place.rollout().recover().await.unwrap();
    assert_eq!(place.live().await, Some(("blue".into(), release(1))));
}

#[tokio::test]
async fn what_was_not_logged_has_not_happened() {
    let place = Place::new();
    let rollout = place.rollout();
    rollout.release(&release(1), turn(), &[]).await.unwrap();
    // The host died between the shift and its entry, and the target lives on.
    place.target.start("green", &release(2)).await.unwrap();
    place.target.shift(&BTreeMap::from([("green".to_owned(), 100)])).await.unwrap();
    let error = rollout.rollback(turn(), &[]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error:#}");
    rollout.recover().await.unwrap();
    assert_eq!(place.live().await, Some(("blue".into(), release(1))));

    // To repeat the release instead is to write the entry that is owed.
    place.target.shift(&BTreeMap::from([("green".to_owned(), 100)])).await.unwrap();
    rollout.release(&release(2), turn(), &[]).await.unwrap();
    assert_eq!(place.logged().await, Some(("green".into(), release(2))));
    assert_eq!(place.steps().await, ["started", "shifted", "shifted"]);
}

#[tokio::test]
async fn targets_share_a_log_without_seeing_each_other() {
    let shop = Place::new();
    let other = Arc::new(MemoryTarget::new("other", (1..=9).map(release)));
    let other = shop.rollout_on(other);
    shop.rollout().release(&release(1), turn(), &[]).await.unwrap();
    // Many pages of entries about other things.
    let noise = Entry {
        at: turn().at,
        actor: turn().actor,
        operation: turn().operation,
        event: Event::DriftAlarm,
        subject: Digest::of("noise"),
        evidence: Vec::new(),
    };
    shop.log.append(&vec![noise; 1_000], None).await.unwrap();
    other.release(&release(2), turn(), &[]).await.unwrap();

    let current = shop.rollout().current().await.unwrap().unwrap().record;
    assert_eq!((current.target.as_str(), current.slots), ("shop", slots(&[("blue", 1)])));
    assert!(other.current().await.unwrap().unwrap().record.previous.is_some());
    shop.rollout().release(&release(3), turn(), &[]).await.unwrap();
    shop.rollout().rollback(turn(), &[]).await.unwrap();
    assert_eq!(shop.live().await, Some(("blue".into(), release(1))));
}
