use std::collections::BTreeMap;
use std::sync::Arc;

use kaizen_core::record::{Algorithm, Decision, GateResult, Model, Occurrence, Override, Release};
use kaizen_core::{
    Actor, AliasChange, ArtifactStore, AuditLog, DataType, Digest, Entry, ErrorKind, Event, Field,
    OperationId, Records, Signature, Timestamp,
};
use kaizen_store::{Ed25519Signer, LocalLog, Registry};
use kaizen_testkit::{MemoryLog, MemoryStore};

const NAME: &str = "late";
const ALIAS: &str = "champion";

fn by(actor: Actor, day: i64) -> Occurrence {
    let at = Timestamp::from_micros(0).plus_seconds(day * 86_400);
    Occurrence::new(at, actor, OperationId::new("test", at))
}

fn on(day: i64) -> Occurrence {
    by(Actor::system("cycle"), day)
}

async fn model(store: &dyn ArtifactStore, seed: u64) -> Digest {
    let weights = store.put_blob(format!("weights {seed}").into()).await.unwrap();
    let inputs = vec![Field::new("distance", DataType::Float64)];
    let model = Model {
        name: NAME.into(),
        training_set: Digest::of("a training set"),
        algorithm: Algorithm { name: "test".into(), settings: BTreeMap::new() },
        seed,
        signature: Signature::new(inputs, vec![]).unwrap(),
        service: Digest::of("a service"),
        format: "test".into(),
        weights,
    };
    store.put(&model, &[]).await.unwrap()
}

struct World {
    store: Arc<MemoryStore>,
    log: Arc<MemoryLog>,
    registry: Registry,
}

impl World {
    fn new() -> Self {
        let (store, log) = (Arc::new(MemoryStore::default()), Arc::new(MemoryLog::default()));
        let registry = Registry::new(store.clone(), log.clone());
        Self { store, log, registry }
    }

    async fn register(&self, seed: u64) -> (Digest, u32) {
        let model = model(&*self.store, seed).await;
        (model, self.registry.register(NAME, &model, on(0)).await.unwrap())
    }

    async fn decide(&self, model: Digest, champion: Option<Digest>, passed: &[bool]) -> Digest {
        self.decision(model, champion, passed, None).await
    }

    async fn decision(
        &self,
        model: Digest,
        champion: Option<Digest>,
        passed: &[bool],
        overridden: Option<(&str, &str)>,
    ) -> Digest {
        let gates = passed.iter().map(|passed| GateResult {
            gate: "auc at least 0.7".into(),
            passed: *passed,
            evidence: "auc 0.72".into(),
        });
        let decision = Decision {
            occurrence: on(1),
            model,
            champion,
            evaluation: Digest::of("an evaluation"),
            gates: gates.collect(),
            overridden: overridden
                .map(|(person, reason)| Override { person: person.into(), reason: reason.into() }),
        };
        self.store.put(&decision, &[]).await.unwrap()
    }

    async fn champion(&self) -> Option<u32> {
        self.registry.alias(NAME, ALIAS).await.unwrap().map(|version| version.version)
    }
}

#[tokio::test]
async fn versions_count_from_one_and_a_model_keeps_its_own() {
    let world = World::new();
    let (first, one) = world.register(1).await;
    let (second, two) = world.register(2).await;
    assert_eq!((one, two), (1, 2));
    assert_eq!(world.register(1).await, (first, 1));
    assert_eq!(world.log.size().await.unwrap(), 2, "registering again writes nothing");
    let versions = world.registry.versions(NAME).await.unwrap();
    let found: Vec<_> = versions.iter().map(|v| (v.version, v.model)).collect();
    assert_eq!(found, [(1, first), (2, second)]);
    assert_eq!(world.registry.register("other", &second, on(0)).await.unwrap(), 1);
    assert_eq!(world.registry.names().await.unwrap(), [NAME, "other"]);

    let missing = world.registry.register(NAME, &Digest::of("nothing"), on(0)).await;
    assert_eq!(missing.unwrap_err().kind(), ErrorKind::NotFound);
    let release =
        Release { name: NAME.into(), version: 1, model: first, service: first, functions: vec![] };
    let release = world.store.put(&release, &[]).await.unwrap();
    let wrong = world.registry.register(NAME, &release, on(0)).await;
    assert_eq!(wrong.unwrap_err().kind(), ErrorKind::Invalid);
    let unnamed = world.registry.register("", &first, on(0)).await;
    assert_eq!(unnamed.unwrap_err().kind(), ErrorKind::Invalid);
}

#[tokio::test]
async fn a_promotion_needs_an_approving_decision_about_this_model() {
    let world = World::new();
    let (first, one) = world.register(1).await;
    let (second, _) = world.register(2).await;
    let registry = &world.registry;
    let promote = |version, decision| async move {
        let promoted = registry.promote(NAME, ALIAS, version, &decision, on(2)).await;
        promoted.map(|version| version.version)
    };
    for gates in [&[][..], &[false], &[true, false]] {
        let rejecting = world.decide(first, None, gates).await;
        let error = world.registry.promote(NAME, ALIAS, one, &rejecting, on(2)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
    }
    let other = world.decide(second, None, &[true]).await;
    let error = promote(one, other).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
    assert!(error.to_string().contains(&second.hex()), "{error}");
    let good = world.decide(first, None, &[true]).await;
    assert_eq!(promote(9, good).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(promote(one, first).await.unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(world.champion().await, None, "nothing was promoted so far");

    assert_eq!(promote(one, good).await.unwrap(), 1);
    assert_eq!(world.champion().await, Some(1));
    let size = world.log.size().await.unwrap();
    assert_eq!(promote(one, good).await.unwrap(), 1, "the same decision again changes nothing");
    assert_eq!(world.log.size().await.unwrap(), size);
    let again = world.decide(first, Some(first), &[true]).await;
    assert_eq!(promote(one, again).await.unwrap_err().kind(), ErrorKind::AlreadyExists);
}

#[tokio::test]
async fn a_promotion_fails_if_the_champion_has_changed() {
    let world = World::new();
    let (first, one) = world.register(1).await;
    let (second, two) = world.register(2).await;
    let (third, three) = world.register(3).await;
    let decided = world.decide(first, None, &[true]).await;
    world.registry.promote(NAME, ALIAS, one, &decided, on(2)).await.unwrap();
    // Both were compared with the first; only one can take its place.
    let second_wins = world.decide(second, Some(first), &[true]).await;
    let third_wins = world.decide(third, Some(first), &[true]).await;
    world.registry.promote(NAME, ALIAS, two, &second_wins, on(3)).await.unwrap();
    let late = world.registry.promote(NAME, ALIAS, three, &third_wins, on(3)).await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::Conflict);
    let text = late.to_string();
    assert!(text.contains(&first.hex()) && text.contains(&second.hex()), "names both: {text}");
    assert_eq!(world.champion().await, Some(2));
}

#[tokio::test]
async fn an_override_needs_a_person_and_a_reason_and_says_so() {
    let world = World::new();
    let (first, one) = world.register(1).await;
    let person = || by(Actor::person("ada"), 2);
    let override_by = |decision: Digest, occurrence| {
        let registry = &world.registry;
        async move { registry.override_alias(NAME, ALIAS, one, &decision, occurrence).await }
    };
    let plain = world.decide(first, None, &[false]).await;
    let nameless = world.decision(first, None, &[false], Some((" ", "why not"))).await;
    let unexplained = world.decision(first, None, &[false], Some(("ada", ""))).await;
    let good = world.decision(first, None, &[false], Some(("ada", "the gate is wrong"))).await;
    for decision in [plain, nameless, unexplained] {
        let error = override_by(decision, person()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
    }
    for actor in [Actor::system("ada"), Actor::person("bob")] {
        let error = override_by(good, by(actor, 2)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
    }
    let quiet = world.registry.promote(NAME, ALIAS, one, &good, person()).await.unwrap_err();
    assert_eq!(quiet.kind(), ErrorKind::Refused, "an override is never a plain promotion");
    assert_eq!(world.champion().await, None);

    override_by(good, person()).await.unwrap();
    let history = world.registry.history(NAME, ALIAS).await.unwrap();
    let [only] = &history[..] else { panic!("{history:?}") };
    assert_eq!(only.change, AliasChange::Override { reason: "the gate is wrong".into() });
    assert_eq!(only.actor, Actor::person("ada"));
    assert!(only.evidence.contains(&good));
}

#[tokio::test]
async fn a_rollback_returns_to_the_holder_before_and_then_further() {
    let world = World::new();
    let mut champion = None;
    for seed in 1..=3 {
        let (model, version) = world.register(seed).await;
        let decision = world.decide(model, champion, &[true]).await;
        world.registry.promote(NAME, ALIAS, version, &decision, on(seed as i64)).await.unwrap();
        champion = Some(model);
    }
    let back = |day| world.registry.rollback(NAME, ALIAS, &[], on(day));
    assert_eq!(back(4).await.unwrap().version, 2);
    assert_eq!(back(4).await.unwrap().version, 2, "the same operation rolls back once");
    assert_eq!(world.champion().await, Some(2));
    assert_eq!(back(5).await.unwrap().version, 1);
    assert_eq!(back(6).await.unwrap_err().kind(), ErrorKind::NotFound);
    let none = world.registry.rollback("unknown", ALIAS, &[], on(7)).await.unwrap_err();
    assert_eq!(none.kind(), ErrorKind::NotFound);

    let history = world.registry.history(NAME, ALIAS).await.unwrap();
    let moves: Vec<_> = history.iter().map(|m| (m.from, m.to.version)).collect();
    assert_eq!(moves, [(None, 1), (Some(1), 2), (Some(2), 3), (Some(3), 2), (Some(2), 1)]);
    assert_eq!(history[3].change, AliasChange::Rollback);
    // A registry that reads the log from the start comes to the same.
    let anew = Registry::new(world.store.clone(), world.log.clone());
    assert_eq!(anew.history(NAME, ALIAS).await.unwrap(), history);
    assert_eq!(anew.alias(NAME, ALIAS).await.unwrap().unwrap().version, 1);
}

#[tokio::test]
async fn a_log_that_contradicts_itself_is_corrupt() {
    let world = World::new();
    let (model, _) = world.register(1).await;
    let at = Timestamp::from_micros(0);
    let forged = Entry {
        at,
        actor: Actor::system("forger"),
        operation: OperationId::new("forgery", at),
        event: Event::Registered { name: NAME.into(), version: 7 },
        subject: model,
        evidence: vec![],
    };
    world.log.append(&[forged], None).await.unwrap();
    let error = world.registry.versions(NAME).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().contains("entry 1"), "{error}");
}

/// Two registries on one log, as two processes have them.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_registries_never_both_win() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::new();
    let signer = Arc::new(Ed25519Signer::from_seed("kaizen.test/log", [1; 32]).unwrap());
    let mut registries = Vec::new();
    for _ in 0..2 {
        let log = Arc::new(LocalLog::open(dir.path(), signer.clone()).await.unwrap());
        registries.push(Arc::new(Registry::new(world.store.clone(), log)));
    }
    let mut champion = None;
    for round in 0..6_u64 {
        let mut challengers = Vec::new();
        let mut tasks = Vec::new();
        for (number, registry) in registries.iter().enumerate() {
            let model = model(&*world.store, 10 * round + number as u64).await;
            let decision = world.decide(model, champion, &[true]).await;
            challengers.push(model);
            let registry = Arc::clone(registry);
            tasks.push(tokio::spawn(async move {
                let version = registry.register(NAME, &model, on(0)).await.unwrap();
                registry.promote(NAME, ALIAS, version, &decision, on(round as i64)).await
            }));
        }
        let mut won = Vec::new();
        for task in tasks {
            match task.await.unwrap() {
                Ok(version) => won.push(version.model),
                Err(error) => assert_eq!(error.kind(), ErrorKind::Conflict, "{error}"),
            }
        }
        let [winner] = won[..] else { panic!("round {round}: {won:?}") };
        for registry in &registries {
            let holder = registry.alias(NAME, ALIAS).await.unwrap();
            assert_eq!(holder.map(|version| version.model), Some(winner));
        }
        champion = Some(winner);
    }
    assert_eq!(registries[0].versions(NAME).await.unwrap().len(), 12);
}

#[tokio::test]
async fn erasures_and_removals_in_the_log_do_not_touch_the_registry() {
    let world = World::new();
    let (first, _) = world.register(1).await;
    let decision = world.decide(first, None, &[true]).await;
    world.registry.promote(NAME, ALIAS, 1, &decision, on(1)).await.unwrap();
    let entry = |event| Entry {
        at: on(2).at,
        actor: Actor::person("ada"),
        operation: OperationId::new("erase", on(2).at),
        event,
        subject: Digest::of("rows"),
        evidence: vec![first],
    };
    let removed = Event::Removed { reason: "asked for".into() };
    world.log.append(&[entry(removed), entry(Event::Erased)], None).await.unwrap();
    let (second, version) = world.register(2).await;
    assert_eq!(version, 2);
    let decision = world.decide(second, Some(first), &[true]).await;
    world.registry.promote(NAME, ALIAS, 2, &decision, on(3)).await.unwrap();
    assert_eq!(world.registry.history(NAME, ALIAS).await.unwrap().len(), 2);
    let fresh = Registry::new(world.store.clone(), world.log.clone());
    assert_eq!(fresh.alias(NAME, ALIAS).await.unwrap().unwrap().model, second);
}
