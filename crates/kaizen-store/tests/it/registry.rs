mod search;
mod snapshots;

use std::collections::BTreeMap;
use std::sync::Arc;

use kaizen_core::record::{Algorithm, Decision, GateResult, Model, Occurrence, Override, Release};
use kaizen_core::{
    Actor, AliasChange, ArtifactStore, AuditLog, DataType, Digest, Entry, ErrorKind, Event, Field,
    OperationId, Records, Signature, Timestamp,
};
use kaizen_store::{Ed25519Signer, LocalLog, LocalStore, Registry, Search};
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
async fn a_model_that_is_registered_is_not_collected_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(LocalStore::open(dir.path()).await.unwrap());
    let registry = Registry::new(store.clone(), Arc::new(MemoryLog::default()));
    let old = model(&*store, 1).await;
    // A collection has said that it is removed, and is about to remove what was put before now.
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    let before = store.now().await.unwrap();
    assert_eq!(registry.register(NAME, &old, on(0)).await.unwrap(), 1);
    assert!(store.remove_stale(&[old], before).await.unwrap().is_empty());
    assert!(store.contains(&old).await.unwrap());
    // One that is a version has its number already, and nothing is put.
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    let before = store.now().await.unwrap();
    assert_eq!(registry.register(NAME, &old, on(0)).await.unwrap(), 1);
    assert_eq!(store.remove_stale(&[old], before).await.unwrap(), [old]);
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
    let back = |from, day| world.registry.rollback(NAME, ALIAS, from, &[], on(day));
    assert_eq!(back(3, 4).await.unwrap().version, 2);
    assert_eq!(back(3, 4).await.unwrap().version, 2, "the same operation rolls back once");
    assert_eq!(world.champion().await, Some(2));
    let error = back(3, 5).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "another operation has left 3 already");
    assert!(error.to_string().contains("version 2 holds it, and not 3"), "{error}");
    assert_eq!(back(2, 5).await.unwrap().version, 1);
    assert_eq!(back(1, 6).await.unwrap_err().kind(), ErrorKind::NotFound);
    let none = world.registry.rollback("unknown", ALIAS, 1, &[], on(7)).await.unwrap_err();
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
async fn a_rollback_does_not_undo_what_was_promoted_meanwhile() {
    let world = World::new();
    let (mut champion, mut ids) = (None, Vec::new());
    for seed in 1..=2 {
        let (model, version) = world.register(seed).await;
        let decision = world.decide(model, champion, &[true]).await;
        world.registry.promote(NAME, ALIAS, version, &decision, on(seed as i64)).await.unwrap();
        champion = Some(model);
        ids.push(model);
    }
    // Version 2 is bad. Whoever rolls it back never hears that it was done, and a third is
    // promoted.
    let back = || world.registry.rollback(NAME, ALIAS, 2, &[], on(3));
    assert_eq!(back().await.unwrap().version, 1);
    let (third, three) = world.register(3).await;
    let decision = world.decide(third, Some(ids[0]), &[true]).await;
    world.registry.promote(NAME, ALIAS, three, &decision, on(4)).await.unwrap();
    let size = world.log.size().await.unwrap();
    let error = back().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    assert!(error.to_string().contains("log entry"), "{error}");
    // Nor does who has not heard of the third bring version 2 back, or 1.
    let error = world.registry.rollback(NAME, ALIAS, 2, &[], on(5)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    assert_eq!(world.champion().await, Some(3));
    assert_eq!(world.log.size().await.unwrap(), size, "nothing was appended");
}

#[tokio::test]
async fn a_decision_that_was_rolled_back_does_not_come_into_force_again() {
    let world = World::new();
    let (first, one) = world.register(1).await;
    let (second, two) = world.register(2).await;
    let start = world.decide(first, None, &[true]).await;
    world.registry.promote(NAME, ALIAS, one, &start, on(1)).await.unwrap();
    let decision = world.decide(second, Some(first), &[true]).await;
    let promote = || world.registry.promote(NAME, ALIAS, two, &decision, on(2));
    promote().await.unwrap();
    assert_eq!(promote().await.unwrap().version, 2, "done again, it changes nothing");

    // Whoever promoted never heard of it, and somebody rolled back meanwhile, on this evidence.
    world.registry.rollback(NAME, ALIAS, 2, &[decision], on(3)).await.unwrap();
    let size = world.log.size().await.unwrap();
    let error = promote().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    assert!(error.to_string().contains("log entry 3"), "{error}");
    assert_eq!(world.champion().await, Some(1));
    // The same for what an earlier decision did.
    let error = world.registry.promote(NAME, ALIAS, one, &start, on(4)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    assert_eq!(world.log.size().await.unwrap(), size, "nothing was appended");
    // Deciding anew is what helps; an alias of another name has its own history.
    let passed = &[true, true];
    let anew = world.decide(second, Some(first), passed).await;
    assert_eq!(world.registry.promote(NAME, ALIAS, two, &anew, on(5)).await.unwrap().version, 2);
    world.registry.promote(NAME, "canary", one, &start, on(6)).await.unwrap();
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

#[tokio::test]
async fn tags_are_set_and_taken_away_on_versions_and_on_names_and_their_history_stays() {
    let world = World::new();
    let (model, _) = world.register(1).await;
    let registry = &world.registry;
    for (version, value) in [(Some(1), "a"), (Some(1), "a"), (Some(1), "b"), (None, "team")] {
        registry.tag(NAME, version, "stage", value, on(3)).await.unwrap();
    }
    assert_eq!(world.log.size().await.unwrap(), 4, "what it says already is not said again");
    assert_eq!(registry.tags(NAME, Some(1)).await.unwrap()["stage"], "b");
    assert_eq!(registry.tags(NAME, None).await.unwrap()["stage"], "team");
    assert!(registry.untag(NAME, Some(1), "stage", by(Actor::person("ada"), 4)).await.unwrap());
    assert!(!registry.untag(NAME, Some(1), "stage", on(5)).await.unwrap());
    assert!(registry.tags(NAME, Some(1)).await.unwrap().is_empty());

    let history = registry.tag_history(NAME, Some(1)).await.unwrap();
    let values: Vec<_> = history.iter().map(|change| change.value.as_deref()).collect();
    assert_eq!(values, [Some("a"), Some("b"), None]);
    assert_eq!((history[2].index, &history[2].actor), (4, &Actor::person("ada")));
    let entries = world.log.read(1..5).await.unwrap();
    assert_eq!((entries[0].subject, entries[2].subject), (model, Digest::of(NAME)));
    let anew = Registry::new(world.store.clone(), world.log.clone());
    assert_eq!(anew.tag_history(NAME, Some(1)).await.unwrap(), history);
}

#[tokio::test]
async fn tags_are_bounded_and_only_on_what_is_registered() {
    let world = World::new();
    world.register(1).await;
    let registry = &world.registry;
    let tag = |version, key: String, value: String| async move {
        registry.tag(NAME, version, &key, &value, on(1)).await.map_err(|error| error.kind())
    };
    assert_eq!(tag(Some(2), "k".into(), String::new()).await, Err(ErrorKind::NotFound));
    assert_eq!(tag(Some(0), "k".into(), String::new()).await, Err(ErrorKind::NotFound));
    let other = registry.tag("other", None, "k", "v", on(1)).await.unwrap_err();
    assert!(other.kind() == ErrorKind::NotFound && other.to_string().contains("other"), "{other}");
    for key in [String::new(), "a\nb".into(), "k".repeat(256)] {
        assert_eq!(tag(None, key, String::new()).await, Err(ErrorKind::Invalid));
    }
    assert_eq!(tag(None, "k".into(), "v".repeat(4_097)).await, Err(ErrorKind::Limit));
    for number in 0..100 {
        tag(Some(1), number.to_string(), "v".repeat(4_096)).await.unwrap();
    }
    assert_eq!(tag(Some(1), "one more".into(), String::new()).await, Err(ErrorKind::Limit));
    tag(Some(1), "7".into(), "changed".into()).await.unwrap();
    assert_eq!(world.log.size().await.unwrap(), 102, "what was refused is not in the log");
}

/// Ada puts the first version above its gates; then the second wins by them.
async fn overridden() -> (World, [Digest; 2]) {
    let world = World::new();
    let (first, _) = world.register(1).await;
    let (second, _) = world.register(2).await;
    let against = Some(("ada", "the gate is wrong"));
    let decision = world.decision(first, None, &[false], against).await;
    let ada = by(Actor::person("ada"), 2);
    world.registry.override_alias(NAME, ALIAS, 1, &decision, ada).await.unwrap();
    let decision = world.decide(second, Some(first), &[true]).await;
    world.registry.promote(NAME, ALIAS, 2, &decision, on(3)).await.unwrap();
    (world, [first, second])
}

#[tokio::test]
async fn an_override_is_marked_wherever_the_version_is_shown_for_ever() {
    let (world, [first, second]) = overridden().await;
    let state = world.registry.version(NAME, 1).await.unwrap().unwrap();
    assert!(state.version.overridden && state.aliases.is_empty());
    assert_eq!(
        state.to_string(),
        format!(
            "late 1 {} OVERRIDDEN\n  OVERRIDDEN by ada for `champion` on 1970-01-03: the gate is \
             wrong",
            first.short()
        )
    );
    let champion = world.registry.version(NAME, 2).await.unwrap().unwrap();
    assert_eq!(champion.to_string(), format!("late 2 {} [champion]", second.short()));
    let versions = world.registry.versions(NAME).await.unwrap();
    assert_eq!(versions.iter().map(|v| v.overridden).collect::<Vec<_>>(), [true, false]);
    // A rollback to it shows it too.
    world.registry.rollback(NAME, ALIAS, 2, &[], on(4)).await.unwrap();
    let holder = world.registry.alias(NAME, ALIAS).await.unwrap().unwrap();
    assert_eq!(holder.to_string(), format!("1 {} OVERRIDDEN", first.short()));
    assert_eq!(world.registry.aliases(NAME).await.unwrap()[ALIAS], holder);
    let history = world.registry.history(NAME, ALIAS).await.unwrap();
    let shown: Vec<_> = history.iter().map(ToString::to_string).collect();
    assert!(shown[0].ends_with("OVERRIDDEN, override: the gate is wrong"), "{shown:?}");
    assert!(shown[2].contains("2 to 1 ") && shown[2].contains("OVERRIDDEN, rollback"), "{shown:?}");
    assert!(world.registry.version(NAME, 3).await.unwrap().is_none());
}

#[tokio::test]
async fn a_search_finds_what_meets_every_condition() {
    let (world, [first, second]) = overridden().await;
    let registry = &world.registry;
    registry.register("other", &first, on(4)).await.unwrap();
    registry.tag(NAME, Some(1), "team", "ground", on(4)).await.unwrap();
    registry.tag("other", None, "team", "air", on(4)).await.unwrap();
    for (model, auc) in [(first, 0.6), (second, 0.8)] {
        world.evaluate(model, auc).await;
    }
    let found = |search: Search| async move {
        let found = registry.search(&search).await.unwrap();
        found
            .iter()
            .map(|s| format!("{}{}", s.name, s.version.version))
            .collect::<Vec<_>>()
            .join(" ")
    };
    let all = Search::new;
    assert_eq!(found(all()).await, "late1 late2 other1");
    assert_eq!(found(all().limit(2)).await, "late1 late2");
    assert_eq!(found(all().name_part("LAT")).await, "late1 late2");
    assert_eq!(found(all().alias(ALIAS)).await, "late2");
    assert_eq!(found(all().tagged("team")).await, "late1 other1");
    assert_eq!(found(all().tag("team", "air")).await, "other1");
    assert_eq!(found(all().overridden(true)).await, "late1");
    assert_eq!(found(all().algorithm("test")).await, "late1 late2 other1");
    assert_eq!(found(all().algorithm("another")).await, "");
    assert_eq!(found(all().metric_at_least("auc", 0.8)).await, "late2");
    assert_eq!(found(all().metric_at_most("auc", 0.7)).await, "late1 other1");
    let between = all().metric_at_least("auc", 0.65).metric_at_most("auc", 0.75);
    assert_eq!(found(between).await, "");
    assert_eq!(found(all().metric_at_least("brier", 0.0)).await, "");

    // What was collected fits no question about its record, and stands in nobody's way.
    world.store.remove_manifest(&first).await.unwrap();
    let gone = world.store.referrers(&second).await.unwrap();
    for about in gone {
        world.store.remove_manifest(&about).await.unwrap();
    }
    assert_eq!(found(all().algorithm("test")).await, "late2");
    assert_eq!(found(all().metric_at_least("auc", 0.8)).await, "");
    assert_eq!(found(all()).await, "late1 late2 other1");
}

#[tokio::test]
async fn no_alias_moves_to_a_model_that_the_log_calls_removed() {
    let world = World::new();
    let (first, _) = world.register(1).await;
    let (second, _) = world.register(2).await;
    let approved = world.decide(first, None, &[true]).await;
    world.registry.promote(NAME, ALIAS, 1, &approved, on(2)).await.unwrap();
    let removed = Event::Removed { reason: "garbage".into() };
    let say = async |event: Event, subject: Digest| {
        let (at, actor) = (Timestamp::from_micros(7), Actor::system("collector"));
        let operation = OperationId::new("collect", at);
        let entry = Entry { at, actor, operation, event, subject, evidence: Vec::new() };
        world.log.append(&[entry], None).await.unwrap();
    };
    say(removed.clone(), second).await;
    // The collection may not have come to it yet: it is there, and about to go.
    let approved = world.decide(second, Some(first), &[true]).await;
    let error = world.registry.promote(NAME, ALIAS, 2, &approved, on(3)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
    assert!(error.to_string().contains(&second.hex()), "{error}");
    assert_eq!(world.champion().await, Some(1));
    say(Event::Restored, second).await;
    world.registry.promote(NAME, ALIAS, 2, &approved, on(4)).await.unwrap();
    // Nor does it go back to one.
    say(removed, first).await;
    let error = world.registry.rollback(NAME, ALIAS, 2, &[], on(5)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
    say(Event::Trained, first).await;
    world.registry.rollback(NAME, ALIAS, 2, &[], on(6)).await.unwrap();
    assert_eq!(world.champion().await, Some(1));
}

/// One entry of each type, as the first version that knew it wrote it.
#[test]
fn entries_that_were_written_once_are_read_for_ever_and_written_the_same() {
    let lines = include_str!("../fixtures/entries.jsonl");
    let mut types = std::collections::BTreeSet::new();
    for line in lines.lines() {
        let entry: Entry = serde_json::from_str(line).unwrap();
        assert_eq!(String::from_utf8(entry.to_bytes().unwrap()).unwrap(), line);
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        types.insert(value["event"]["type"].as_str().unwrap().to_owned());
    }
    let known = "alias_moved configured data_snapshot decided deployed drift_alarm erased evaluated \
                 folded packaged pruned ran registered released removed restored retrain_abandoned \
                 retrain_requested tagged trained";
    assert_eq!(types.into_iter().collect::<Vec<_>>().join(" "), known);
}
