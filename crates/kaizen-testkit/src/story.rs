//! A short history of a model, in records and log entries, for whoever shows or exports one.

use std::collections::BTreeMap;

use kaizen_core::record::{
    Algorithm, Comparison, Decision, Deployment, DriftReport, Estimate, Evaluation, FeatureDrift,
    GateResult, Model, Occurrence, Override, Predictions, Release, RetrainRequest, Run,
    TrainingSet, Trigger,
};
use kaizen_core::{
    Actor, AliasChange, ArtifactStore, AuditLog, DataType, Digest, Entry, Event, Field,
    OperationId, Payload, Records as _, Result, Signature, TimeBlocks, Timestamp, media_type,
};

/// What [`story`] wrote. The model `late` has two versions: a person put the first above its gates;
/// the second beat it, was deployed, and an alarm sounded while it answered. A third training was
/// given up.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Story {
    /// The two versions of `late`.
    pub models: [Digest; 2],
    /// The training sets that they learned from.
    pub sets: [Digest; 2],
    /// Their evaluations.
    pub evaluations: [Digest; 2],
    /// The decisions about them.
    pub decisions: [Digest; 2],
    /// The release of the second.
    pub release: Digest,
    /// The batch of predictions that raised the alarm.
    pub predictions: Digest,
    /// The drift report.
    pub report: Digest,
    /// The one file of the source `flights` that only the first version learned from.
    pub file: Digest,
}

impl Story {
    /// The name under which the versions are counted.
    pub const NAME: &'static str = "late";
    /// The alias that the versions held, one after the other.
    pub const ALIAS: &'static str = "champion";
    /// The person that overrode the gates.
    pub const PERSON: &'static str = "ada <ada@example.com>";
    /// Why.
    pub const REASON: &'static str = "the gate counts a cancelled flight twice";
}

struct Teller<'a> {
    store: &'a dyn ArtifactStore,
    log: &'a dyn AuditLog,
}

/// Writes the history into a store and a log, both empty.
pub async fn story(store: &dyn ArtifactStore, log: &dyn AuditLog) -> Result<Story> {
    let teller = Teller { store, log };
    let first = teller.training(1, None).await?;
    let person = Occurrence { actor: Actor::person(Story::PERSON), ..on(1) };
    let change = AliasChange::Override { reason: Story::REASON.to_owned() };
    teller.promote(person, 1, &first, change).await?;
    let value = Some("warns of late flights".to_owned());
    let tag =
        Event::Tagged { name: Story::NAME.into(), version: None, key: "purpose".into(), value };
    teller.enter(&on(2), tag, Digest::of(Story::NAME), vec![]).await?;
    let second = teller.training(2, Some(&first)).await?;
    teller.promote(on(2), 2, &second, AliasChange::Promotion).await?;

    let release = Release {
        name: Story::NAME.into(),
        version: 2,
        model: second.model,
        service: Digest::of("service"),
        functions: vec![],
    };
    let release = store.put(&release, &[]).await?;
    teller.enter(&on(2), Event::Released, release, vec![second.model, second.decision]).await?;
    let deployment = Deployment {
        occurrence: on(3),
        target: "here".into(),
        slots: BTreeMap::from([("blue".into(), release)]),
        weights: BTreeMap::from([("blue".into(), 100)]),
        previous: None,
    };
    let deployment = store.put(&deployment, &[]).await?;
    let shifted = Event::Deployed { target: "here".into(), step: "shifted".into() };
    teller.enter(&on(3), shifted, deployment, vec![]).await?;
    let (predictions, report) = teller.alarm(second.model, second.set).await?;
    teller.given_up(second.model, report).await?;
    Ok(Story {
        models: [first.model, second.model],
        sets: [first.set, second.set],
        evaluations: [first.evaluation, second.evaluation],
        decisions: [first.decision, second.decision],
        release,
        predictions,
        report,
        file: Digest::of("flights of day 1"),
    })
}

struct Trained {
    model: Digest,
    set: Digest,
    evaluation: Digest,
    decision: Digest,
}

/// The retraining of this day.
fn on(day: i64) -> Occurrence {
    let at = Timestamp::from_micros(1_362_096_000_000_000).plus_seconds(86_400 * day);
    Occurrence::new(at, Actor::system("cycle"), OperationId::new("late-retrain", at))
}

fn estimate(value: f64, half: f64) -> Estimate {
    Estimate { value, low: value - half, high: value + half }
}

impl Teller<'_> {
    async fn enter(
        &self,
        by: &Occurrence,
        event: Event,
        subject: Digest,
        evidence: Vec<Digest>,
    ) -> Result<()> {
        let Occurrence { at, actor, operation } = by.clone();
        self.log.append(&[Entry { at, actor, operation, event, subject, evidence }], None).await?;
        Ok(())
    }

    async fn ask(&self, day: i64, champion: Option<Digest>, trigger: Trigger) -> Result<Digest> {
        let request = RetrainRequest {
            occurrence: on(day),
            model: Story::NAME.into(),
            policy: Digest::of("policy"),
            champion,
            trigger,
        };
        let id = self.store.put(&request, &[]).await?;
        self.enter(&on(day), Event::RetrainRequested, id, vec![]).await?;
        Ok(id)
    }

    async fn training(&self, day: i64, champion: Option<&Trained>) -> Result<Trained> {
        let beaten = champion.map(|champion| champion.model);
        self.ask(day, beaten, Trigger::Schedule).await?;
        let set = self.training_set(day).await?;
        self.enter(&on(day), Event::DataSnapshot, set, vec![]).await?;
        let weights = self.store.put_blob(format!("weights {day}").into()).await?;
        let inputs =
            vec![Field::new("distance", DataType::Float64), Field::new("carrier", DataType::Utf8)];
        let model = Model {
            name: Story::NAME.into(),
            training_set: set,
            algorithm: Algorithm {
                name: "gradient_boosting".into(),
                settings: BTreeMap::from([("trees".into(), "200".into())]),
            },
            seed: u64::MAX - day as u64,
            signature: Signature::new(inputs, vec![Field::new("score", DataType::Float64)])?,
            service: Digest::of("service"),
            format: "forust-json".into(),
            weights,
        };
        let model = self.store.put(&model, &[]).await?;
        self.enter(&on(day), Event::Trained, model, vec![set]).await?;
        let key = self.store.put_blob(format!("key {day}").into()).await?;
        let (step, inputs) = ("train".to_owned(), vec![set]);
        let run = Run { occurrence: on(day), step, key, inputs, output: model };
        let run = self.store.put(&run, &[]).await?;
        self.enter(&on(day), Event::Ran { step: "train".into() }, run, vec![model]).await?;
        let evaluation = self.evaluation(day, model, set, beaten).await?;
        self.enter(&on(day), Event::Evaluated, evaluation, vec![model, set]).await?;
        let event = Event::Registered { name: Story::NAME.into(), version: day as u32 };
        self.enter(&on(day), event, model, vec![]).await?;
        let passed = day > 1;
        let decision = Decision {
            occurrence: on(day),
            model,
            champion: beaten,
            evaluation,
            gates: vec![
                GateResult {
                    gate: "auc at least 0.7".into(),
                    passed,
                    evidence: format!("auc 0.{}", 60 + 8 * day),
                },
                GateResult {
                    gate: "value at least 1".into(),
                    passed: true,
                    evidence: "value per row 13.8 [10.0, 16.2] (95 %, 10 days)".into(),
                },
            ],
            overridden: (!passed)
                .then(|| Override { person: Story::PERSON.into(), reason: Story::REASON.into() }),
        };
        let approved = decision.approved();
        let decision = self.store.put(&decision, &[]).await?;
        let based_on = vec![model, evaluation];
        self.enter(&on(day), Event::Decided { approved }, decision, based_on).await?;
        Ok(Trained { model, set, evaluation, decision })
    }

    async fn training_set(&self, day: i64) -> Result<Digest> {
        let set = TrainingSet {
            service: Digest::of("service"),
            label_view: Digest::of("label view"),
            sources: BTreeMap::from([
                ("flights".into(), Digest::of(format!("flights until day {day}"))),
                ("weather".into(), Digest::of("weather that was pushed")),
            ]),
            cutoff: on(day).at,
            rows: 26_000 + day as u64,
            unlabelled: 12,
            features: vec![
                Field::new("distance", DataType::Float64),
                Field::new("carrier", DataType::Utf8),
            ],
            label: "late".into(),
            time: "scheduled".into(),
            coverage: BTreeMap::new(),
        };
        let (file, other) =
            (Digest::of(format!("flights of day {day}")), Digest::of("flights of 2012"));
        let sources = format!(
            r#"{{"flights":[{{"path":"2012.parquet","size":"9","digest":"{other}"}},{{"path":"2013/day={day}.parquet","size":"8","digest":"{file}"}}],"weather":[]}}"#
        );
        let columns = r#"[{"name":"distance","data_type":"Float64","rows":"26001","missing":"3","min":17.0,"max":4983.0,"mean":1039.9},{"name":"carrier","data_type":"Utf8","rows":"26001","missing":"0","distinct":16}]"#;
        let payloads = [
            Payload::new(TrainingSet::SOURCES, media_type::JSON, sources),
            Payload::new(TrainingSet::COLUMNS, media_type::JSON, columns),
        ];
        self.store.put(&set, &payloads).await
    }

    async fn evaluation(
        &self,
        day: i64,
        model: Digest,
        set: Digest,
        champion: Option<Digest>,
    ) -> Result<Digest> {
        let better = day as f64;
        let metrics = |better: f64| {
            BTreeMap::from([
                ("auc".to_owned(), estimate(0.60 + 0.08 * better, 0.02)),
                ("brier".to_owned(), estimate(0.19 - 0.01 * better, 0.004)),
                ("value".to_owned(), estimate(12.5 + 1.25 * better, 3.1)),
            ])
        };
        let evaluation = Evaluation {
            model,
            training_set: set,
            rows: 8_400,
            unit: TimeBlocks::days(),
            units: 10,
            confidence: 0.95,
            metrics: metrics(better),
            comparison: champion.map(|champion| Comparison {
                champion,
                metrics: metrics(better - 1.0),
                differences: BTreeMap::from([
                    ("auc".to_owned(), estimate(0.08, 0.01)),
                    ("value".to_owned(), estimate(1.25, 0.5)),
                ]),
            }),
        };
        self.store.put(&evaluation, &[]).await
    }

    async fn promote(
        &self,
        by: Occurrence,
        version: u32,
        trained: &Trained,
        change: AliasChange,
    ) -> Result<()> {
        let moved = Event::AliasMoved {
            name: Story::NAME.into(),
            alias: Story::ALIAS.into(),
            from: version.checked_sub(1).filter(|from| *from > 0),
            to: version,
            change,
        };
        let evidence = vec![trained.decision, trained.evaluation];
        self.enter(&by, moved, trained.model, evidence).await
    }

    async fn alarm(&self, model: Digest, set: Digest) -> Result<(Digest, Digest)> {
        let answered = Predictions { models: vec![model], from: on(4).at, to: on(5).at, rows: 901 };
        let predictions = self.store.put(&answered, &[]).await?;
        let operation = OperationId::new("late-watch", on(5).at);
        let occurrence = Occurrence { operation, ..on(5) };
        let drifted = |name: &str, evidence| FeatureDrift { name: name.into(), evidence, psi: 0.3 };
        let report = DriftReport {
            occurrence: occurrence.clone(),
            profile: set,
            model,
            unit: TimeBlocks::days(),
            block_start: on(4).at,
            looks: 9,
            alpha: 0.05,
            evidence: 41.5,
            alarm: true,
            features: vec![drifted("distance", 33.25), drifted("carrier", 2.5)],
        };
        let report = self.store.put(&report, &[]).await?;
        self.enter(&occurrence, Event::DriftAlarm, report, vec![predictions]).await?;
        Ok((predictions, report))
    }

    async fn given_up(&self, champion: Digest, report: Digest) -> Result<()> {
        let request = self.ask(6, Some(champion), Trigger::Drift { report }).await?;
        let reason = "column `late`: no label by the cut-off".to_owned();
        self.enter(&on(6), Event::RetrainAbandoned { reason }, request, vec![]).await
    }
}
