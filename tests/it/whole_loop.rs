//! The whole loop on a month of flights: features, training, gates, HTTP, labels, drift, retraining.

use kaizen::core::record::Trigger;
use kaizen::core::{AuditLog as _, Event};
use kaizen::cycle::CHAMPION;
use kaizen::prelude::*;
use kaizen::store::{LocalLog, lineage};

use crate::flights::caller::{Caller, HttpCaller};
use crate::flights::host::Host;
use crate::flights::monthly_policy;
use crate::flights::question::{MODEL, days};
use crate::flights::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn a_month_of_flights_turns_the_loop() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::load(Some(31)).await.unwrap();
    let start = world.span().0;
    let policy = monthly_policy(Triggers { drift: true, value: true });
    let mut host = Host::open(dir.path(), policy, &world, days().start(start)).await.unwrap();
    let mut http = Caller::Http(Box::new(HttpCaller::start(&host, dir.path()).await.unwrap()));

    let (mut retrained, mut looks) = (Vec::new(), 0);
    let (mut scores, mut late) = (Vec::new(), Vec::new());
    for day in start + 21..=start + 30 {
        let now = days().start(day);
        let tick = match day - start {
            28 => {
                let trigger = Trigger::Manual { reason: "a test asks".into() };
                host.cycle.retrain(now, trigger).await.unwrap()
            }
            _ => host.cycle.tick(now).await.unwrap(),
        };
        looks += usize::from(tick.drift_evidence.is_some());
        retrained.extend(tick.retraining);
        host.predictions.flush().await.unwrap();
        let rows = world.on(day);
        late.extend_from_slice(&world.late[rows.clone()]);
        scores.extend(http.answer(&host, &world, day, rows).await.unwrap());
    }

    // The first training was forced by the lack of a champion, another by a person; both models
    // are in the registry, and the better one serves.
    assert!(retrained.len() >= 2, "{retrained:?}");
    assert!(retrained[0].release.is_some(), "{:?}", retrained[0].decision);
    let versions = host.cycle.registry().versions(MODEL).await.unwrap();
    assert_eq!(versions.len(), retrained.len());
    let champion = host.cycle.registry().alias(MODEL, CHAMPION).await.unwrap().unwrap();
    assert_eq!(host.router.pick("x").unwrap().release().model, champion.model);

    // It was watched on every morning after the first but the one on which a person asked.
    assert!(looks >= 7, "{looks} looks");

    // It predicts: what it answered over HTTP ranks the flights far better than chance.
    let auc = kaizen::stats::metric::auc(&scores, &late).unwrap();
    assert!(auc > 0.62, "AUC {auc}");

    // What was served is what is trained on, bit for bit.
    let Caller::Http(http) = http else { unreachable!() };
    assert!(http.asked > 5_000);
    assert_eq!(http.agreed, http.asked);
    http.stop().await.unwrap();

    // Every step is in the log, and the log verifies from its files alone.
    let entries = host.log.read(0..host.log.size().await.unwrap()).await.unwrap();
    let has = |wanted: &dyn Fn(&Event) -> bool| entries.iter().any(|entry| wanted(&entry.event));
    assert!(has(&|e| *e == Event::Configured));
    assert!(has(&|e| *e == Event::DataSnapshot));
    assert!(has(&|e| *e == Event::Trained));
    assert!(has(&|e| *e == Event::Evaluated));
    assert!(has(&|e| matches!(e, Event::Decided { approved: true })));
    assert!(has(&|e| matches!(e, Event::AliasMoved { alias, .. } if alias == CHAMPION)));
    assert!(has(&|e| matches!(e, Event::Deployed { step, .. } if step == "shifted")));
    let verified = LocalLog::verify(dir.path().join("log"), host.log.key()).await.unwrap();
    assert_eq!(verified.size, entries.len() as u64);

    // And from the model that serves, the walk leads back to the data.
    let lineage = lineage(host.store.as_ref(), &champion.model).await.unwrap().to_string();
    assert!(lineage.contains("training-set"), "{lineage}");
}

#[tokio::test]
async fn the_same_inputs_give_the_same_model_and_evaluation() {
    let world = World::load(Some(21)).await.unwrap();
    let now = days().start(world.span().1 + 1);
    let mut digests = Vec::new();
    for _ in 0..2 {
        let dir = tempfile::tempdir().unwrap();
        let policy = monthly_policy(Triggers::default());
        let mut host = Host::open(dir.path(), policy, &world, now).await.unwrap();
        let tick = host.cycle.tick(now).await.unwrap();
        let retraining = tick.retraining.unwrap();
        digests.push((retraining.model, retraining.decision.evaluation, retraining.release));
    }
    assert_eq!(digests[0], digests[1]);
}
