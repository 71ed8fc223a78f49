//! The cycle on synthetic days: what it does, and what is left of it after a fault.

use std::ops::Range;
use std::sync::Arc;

use kaizen::EmbeddedTarget;
use kaizen::arrow::array::{ArrayRef, Float64Array, Int64Array, StringArray};
use kaizen::arrow::compute::cast;
use kaizen::core::record::{Decision, GateResult, Occurrence, Trigger};
use kaizen::core::{Entry, Event, OperationId};
use kaizen::cycle::{CHAMPION, Tick};
use kaizen::data::{MemorySource, PredictionLog};
use kaizen::eval::{CostMatrix, Gate};
use kaizen::prelude::*;
use kaizen::serve::Router;
use kaizen::stats::Bootstrap;
use kaizen::store::Version;
use kaizen::table::{PredictionSink, RecordBatch, instants, prediction, with_column};
use kaizen_testkit::drifting::Drifting;
use kaizen_testkit::{FaultyLog, MemoryLog, MemoryStore};

const MODEL: &str = "returns";

/// What outlives a process: the store, the log and the predictions.
struct World {
    data: Drifting,
    store: Arc<MemoryStore>,
    log: Arc<MemoryLog>,
    predictions: Arc<PredictionLog>,
    _folder: tempfile::TempDir,
}

/// What does not: the cycle, and the router that serves.
struct Process {
    cycle: Cycle,
    router: Arc<Router>,
}

impl World {
    async fn new(data: Drifting) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let predictions = Arc::new(PredictionLog::open(folder.path()).await.unwrap());
        let (store, log) = (Arc::new(MemoryStore::default()), Arc::new(MemoryLog::default()));
        Self { data, store, log, predictions, _folder: folder }
    }

    fn day(&self, day: u32) -> Timestamp {
        TimeBlocks::days().start(self.data.block(day))
    }

    fn rows(&self, days: Range<u32>) -> RecordBatch {
        let rows = self.data.rows(days.clone()).unwrap();
        let first = i64::from(days.start) * self.data.rows_per_day as i64;
        let ids: ArrayRef = Arc::new(Int64Array::from_iter(first..first + rows.num_rows() as i64));
        with_column(&rows, "id", ids).unwrap()
    }

    async fn open(&self, log: Arc<dyn AuditLog>, day: u32) -> Result<Process> {
        let source: Arc<dyn Source> = Arc::new(MemorySource::new("orders", self.rows(0..120)));
        let router = Arc::new(Router::new(MODEL));
        let formats = kaizen::train::formats();
        let target =
            EmbeddedTarget::new("here", router.clone(), self.store.clone(), formats.clone());
        let request = ["x0", "x1"].map(|name| Field::new(name, DataType::Float64)).to_vec();
        let parts = Parts {
            store: self.store.clone(),
            log,
            features: Arc::new(FeatureStore::new(vec![source.clone()])),
            service: FeatureService::new("orders", 1, request, vec![])?,
            labels: LabelView::new("returned", "orders", vec!["id".into()], "label", "time")?,
            examples: source,
            time: "time".into(),
            estimator: Arc::new(kaizen::train::LogisticRegression::default()),
            formats,
            predictions: self.predictions.clone(),
            target: Arc::new(target),
        };
        let cycle = Cycle::open(parts, policy(), self.day(day)).await?;
        Ok(Process { cycle, router })
    }

    async fn events(&self) -> Vec<Entry> {
        self.log.read(0..self.log.size().await.unwrap()).await.unwrap()
    }

    async fn count(&self, wanted: impl Fn(&Event) -> bool) -> usize {
        self.events().await.iter().filter(|entry| wanted(&entry.event)).count()
    }

    /// Answers a day's requests and keeps the answers, as a server does.
    async fn serve(&self, process: &Process, day: u32) {
        let rows = self.rows(day..day + 1);
        let servable = process.router.pick("any").unwrap();
        let scores = servable.scorer().score(&rows).unwrap().to_vec();
        let text = kaizen::arrow::datatypes::DataType::Utf8;
        let ids = cast(kaizen::table::column(&rows, "id").unwrap(), &text).unwrap();
        let model = vec![servable.release().model.to_string(); rows.num_rows()];
        let at: ArrayRef = Arc::new(instants(&rows, "time").unwrap());
        let mut table = rows.project(&[rows.schema().index_of("x0").unwrap()]).unwrap();
        let x1 = kaizen::table::column(&rows, "x1").unwrap().clone();
        let columns: [(&str, ArrayRef); 5] = [
            ("x1", x1),
            (prediction::ID, ids),
            (prediction::AT, at),
            (prediction::MODEL, Arc::new(StringArray::from(model))),
            (prediction::SCORE, Arc::new(Float64Array::from(scores))),
        ];
        for (name, values) in columns {
            table = with_column(&table, name, values).unwrap();
        }
        self.predictions.write(&table).await.unwrap();
    }
}

impl Process {
    async fn champion(&self) -> Digest {
        self.version().await.model
    }

    async fn version(&self) -> Version {
        self.cycle.registry().alias(MODEL, CHAMPION).await.unwrap().unwrap()
    }

    /// A person takes it from whoever is champion.
    async fn roll_back(&mut self, at: Timestamp) {
        let from = self.version().await.version;
        self.cycle.rollback(from, at, Actor::person("ada")).await.unwrap();
    }

    fn served(&self) -> Digest {
        self.router.pick("any").unwrap().release().model
    }
}

fn policy() -> Policy {
    let costs = CostMatrix {
        true_negative: 0.,
        false_positive: -1.,
        false_negative: 0.,
        true_positive: 2.,
    };
    Policy {
        model: MODEL.into(),
        unit: TimeBlocks::days(),
        triggers: Triggers { drift: true, value: true },
        rest_units: 10,
        holdout_units: 8,
        maturity_seconds: 0,
        alpha: 0.1,
        costs,
        bootstrap: Bootstrap { draws: 200, confidence: 0.95, seed: 1 },
        first_gates: vec![Gate::Floor { metric: "auc".into(), at_least: 0.5 }],
        gates: vec![Gate::NonInferior { metric: "value".into(), margin: 1.0 }],
        seed: 1,
    }
}

fn manual() -> Trigger {
    Trigger::Manual { reason: "a test asks".into() }
}

#[tokio::test]
async fn wherever_the_log_fails_the_request_is_carried_through_once() {
    for nth in 1.. {
        let world = World::new(Drifting::default()).await;
        let mut first = world.open(world.log.clone(), 40).await.unwrap();
        first.cycle.tick(world.day(40)).await.unwrap();
        let before = world.events().await;

        let log = Arc::new(FaultyLog::new(world.log.clone()));
        log.fail_nth(nth);
        let cut_off = match world.open(log.clone(), 50).await {
            Ok(mut process) => process.cycle.retrain(world.day(50), manual()).await.is_err(),
            Err(_) => true,
        };
        assert_eq!(cut_off, !log.is_pending(), "fault {nth}");

        // The process is gone. Another opens what is left: what the alias names serves at once.
        let mut process = world.open(world.log.clone(), 51).await.unwrap();
        assert_eq!(process.served(), process.champion().await, "fault {nth}");
        process.cycle.tick(world.day(51)).await.unwrap();
        assert_eq!(process.served(), process.champion().await, "fault {nth}");
        let after = world.events().await;
        assert_eq!(after[..before.len()], before[..], "fault {nth}: history was rewritten");
        let requested = world.count(|e| *e == Event::RetrainRequested).await;
        let decided = world.count(|e| matches!(e, Event::Decided { .. })).await;
        assert_eq!(decided, requested, "fault {nth}");
        let versions = process.cycle.registry().versions(MODEL).await.unwrap();
        assert_eq!(versions.len(), requested, "fault {nth}");
        // Approved means promoted, and once.
        assert_eq!(process.champion().await, versions.last().unwrap().model, "fault {nth}");
        let moved = world.count(|e| matches!(e, Event::AliasMoved { .. })).await;
        assert_eq!(moved, requested, "fault {nth}");
        assert_eq!(world.count(|e| matches!(e, Event::RetrainAbandoned { .. })).await, 0);
        if !cut_off {
            assert!(nth > 8, "the retraining appended only {nth} times");
            return;
        }
    }
}

#[tokio::test]
async fn the_cycle_goes_on_with_a_log_that_was_pruned() {
    let world = World::new(Drifting::default()).await;
    let mut process = world.open(world.log.clone(), 40).await.unwrap();
    process.cycle.tick(world.day(40)).await.unwrap();
    let size = world.log.size().await.unwrap();
    process.cycle.retrain(world.day(50), manual()).await.unwrap();
    let at = world.day(50);
    let by = Occurrence::new(at, Actor::person("ada"), OperationId::new("prune", at));
    process.cycle.registry().snapshot(by.clone()).await.unwrap();
    // All of the first training goes, the rules in force with it.
    world.log.prune(size, &by).await.unwrap();
    assert_eq!(world.log.first().await.unwrap(), size);

    process.cycle.tick(world.day(51)).await.unwrap();
    let mut process = world.open(world.log.clone(), 52).await.unwrap();
    assert_eq!(process.served(), process.champion().await);
    assert!(process.cycle.tick(world.day(52)).await.unwrap().retraining.is_none());
    process.cycle.retrain(world.day(60), manual()).await.unwrap();
    assert_eq!(process.cycle.registry().versions(MODEL).await.unwrap().len(), 3);
    assert_eq!(process.served(), process.champion().await);
}

#[tokio::test]
async fn a_rollback_ends_a_request_that_waits_for_the_log() {
    for nth in 1..20 {
        let world = World::new(Drifting::default()).await;
        let log = Arc::new(FaultyLog::new(world.log.clone()));
        let mut process = world.open(log.clone(), 40).await.unwrap();
        process.cycle.tick(world.day(40)).await.unwrap();
        process.cycle.retrain(world.day(50), manual()).await.unwrap();
        log.fail_nth(nth);
        if process.cycle.retrain(world.day(60), manual()).await.is_ok() {
            assert!(nth > 8, "the retraining appended only {nth} times");
            return;
        }
        // A person rolls back while the request is open: it does not come back.
        process.roll_back(world.day(61)).await;
        let chosen = process.champion().await;
        let tick = process.cycle.tick(world.day(62)).await.unwrap();
        assert!(tick.retraining.is_none(), "fault {nth}");
        assert_eq!((process.champion().await, process.served()), (chosen, chosen), "fault {nth}");
    }
}

#[tokio::test]
async fn a_rollback_that_comes_late_ends_no_request() {
    let world = World::new(Drifting::default()).await;
    let log = Arc::new(FaultyLog::new(world.log.clone()));
    let mut process = world.open(log.clone(), 40).await.unwrap();
    process.cycle.tick(world.day(40)).await.unwrap();
    process.cycle.retrain(world.day(50), manual()).await.unwrap();
    process.roll_back(world.day(51)).await;
    log.fail_nth(3);
    process.cycle.retrain(world.day(60), manual()).await.unwrap_err();
    let late = process.cycle.rollback(2, world.day(61), Actor::person("bob")).await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::Conflict, "{late}");
    assert_eq!(world.count(|e| matches!(e, Event::RetrainAbandoned { .. })).await, 0);
    let tick = process.cycle.tick(world.day(62)).await.unwrap();
    assert!(tick.retraining.is_some(), "the request was open still");
}

#[tokio::test]
async fn the_same_data_twice_changes_nothing() {
    let world = World::new(Drifting::default()).await;
    let mut process = world.open(world.log.clone(), 40).await.unwrap();
    process.cycle.tick(world.day(40)).await.unwrap();
    let first = process.served();
    let later = world.day(40).plus_seconds(3600);
    let again = process.cycle.retrain(later, manual()).await.unwrap().retraining.unwrap();
    assert_eq!((again.model, again.release), (first, None));
    assert_eq!(process.served(), first);
    let mut process = world.open(world.log.clone(), 41).await.unwrap();
    assert!(process.cycle.tick(world.day(41)).await.unwrap().retraining.is_none());
    assert_eq!(world.count(|e| matches!(e, Event::RetrainAbandoned { .. })).await, 0);
}

#[tokio::test]
async fn decisions_of_strangers_about_the_champion_change_nothing() {
    let world = World::new(Drifting::default()).await;
    let mut process = world.open(world.log.clone(), 40).await.unwrap();
    process.cycle.tick(world.day(40)).await.unwrap();
    let champion = process.champion().await;
    // Pulled from somewhere, with evaluations that nobody has; some digests come before ours.
    for number in 0..20 {
        let at = world.day(number);
        let passed = GateResult { gate: "any".into(), passed: true, evidence: "all".into() };
        let decision = Decision {
            occurrence: Occurrence::new(at, Actor::system("x"), OperationId::new("x", at)),
            model: champion,
            champion: None,
            evaluation: Digest::of(format!("evaluation {number}")),
            gates: vec![passed],
            overridden: None,
        };
        world.store.put(&decision, &[]).await.unwrap();
    }
    let mut process = world.open(world.log.clone(), 41).await.unwrap();
    process.cycle.tick(world.day(41)).await.unwrap();
    assert_eq!((process.champion().await, process.served()), (champion, champion));
}

#[tokio::test]
async fn a_request_that_cannot_succeed_is_given_up() {
    let world = World::new(Drifting::default()).await;
    let mut process = world.open(world.log.clone(), 2).await.unwrap();
    process.cycle.tick(world.day(2)).await.unwrap_err();
    assert_eq!(world.count(|e| matches!(e, Event::RetrainAbandoned { .. })).await, 1);
    let tick = process.cycle.tick(world.day(40)).await.unwrap();
    assert!(tick.retraining.unwrap().release.is_some());
}

#[tokio::test]
async fn a_dropped_future_does_not_forget_the_request() {
    let world = World::new(Drifting::default()).await;
    let mut process = world.open(world.log.clone(), 40).await.unwrap();
    process.cycle.tick(world.day(40)).await.unwrap();
    let requested = async |world: &World| world.count(|e| *e == Event::RetrainRequested).await;
    {
        let asked = process.cycle.retrain(world.day(50), manual());
        tokio::pin!(asked);
        while requested(&world).await < 2 {
            let turn = std::future::poll_fn(|context| {
                std::task::Poll::Ready(asked.as_mut().poll(context).is_ready())
            });
            assert!(!turn.await, "it was done before it could be dropped");
            tokio::task::yield_now().await;
        }
    }
    let tick = process.cycle.tick(world.day(51)).await.unwrap();
    assert!(tick.retraining.is_some());
    assert_eq!(requested(&world).await, 2);
}

#[tokio::test]
async fn a_rollback_moves_alias_and_traffic_and_a_hand_at_the_alias_is_followed() {
    let world = World::new(Drifting::default()).await;
    let mut process = world.open(world.log.clone(), 40).await.unwrap();
    process.cycle.tick(world.day(40)).await.unwrap();
    let first = process.served();
    process.cycle.retrain(world.day(50), manual()).await.unwrap();
    let second = process.served();
    assert_ne!(first, second);

    process.roll_back(world.day(51)).await;
    // Once: that champion is gone.
    let again = process.cycle.rollback(2, world.day(52), Actor::person("bob")).await.unwrap_err();
    assert_eq!(again.kind(), ErrorKind::Conflict, "{again}");
    assert_eq!((process.champion().await, process.served()), (first, first));
    process.cycle.tick(world.day(52)).await.unwrap();
    assert_eq!(process.served(), first);

    process.cycle.retrain(world.day(60), manual()).await.unwrap();
    assert_ne!(process.served(), first);
    let at = world.day(61);
    let operation = OperationId::new("by hand", at);
    let occurrence = Occurrence::new(at, Actor::person("ada"), operation);
    let from = process.version().await.version;
    process.cycle.registry().rollback(MODEL, CHAMPION, from, &[], occurrence).await.unwrap();
    process.cycle.tick(world.day(61)).await.unwrap();
    assert_eq!(process.served(), process.champion().await);
}

#[tokio::test]
async fn drift_alarms_retrains_and_a_restart_remembers_the_evidence() {
    let drifting = Drifting { from_day: 60, mean_shift: 3.0, ..Drifting::default() };
    let world = World::new(drifting).await;
    let mut process = world.open(world.log.clone(), 48).await.unwrap();
    process.cycle.tick(world.day(48)).await.unwrap();
    let first = process.served();
    let mut alarmed = None;
    for day in 48..90 {
        world.serve(&process, day).await;
        world.predictions.flush().await.unwrap();
        if day == 56 {
            // Another process that opens the same state knows what this one knows.
            let mut other = world.open(world.log.clone(), day).await.unwrap();
            let fresh = other.cycle.tick(world.day(day + 1)).await.unwrap();
            let running = process.cycle.tick(world.day(day + 1)).await.unwrap();
            assert!(running.drift_evidence.is_some() && running.value_evidence.is_some());
            assert_eq!(fresh.drift_evidence, running.drift_evidence);
            assert_eq!(fresh.value_evidence, running.value_evidence);
        }
        let Tick { alarm, retraining, .. } = process.cycle.tick(world.day(day + 1)).await.unwrap();
        if let Some(retraining) = retraining {
            assert!(matches!(alarm, Some(Trigger::Drift { .. } | Trigger::ValueFell { .. })));
            assert!(retraining.release.is_some(), "{:?}", retraining.decision.gates);
            alarmed = Some(day);
            break;
        }
    }
    let day = alarmed.expect("the drift is found");
    assert!((60..75).contains(&day), "alarm on day {day}");
    assert_ne!(process.served(), first);
    assert_eq!(world.count(|e| *e == Event::DriftAlarm).await, 1);
}
