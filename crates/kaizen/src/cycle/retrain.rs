//! One retraining: snapshot, train, evaluate, decide, register, promote, release, roll out.

use std::ops::Range;

use kaizen_core::record::{
    Decision, Evaluation, Model, Occurrence, Profile, Release, RetrainRequest,
};
use kaizen_core::{
    Context, Digest, ErrorKind, Event, Payload, Records as _, Result, Stored, Timestamp, compute,
    media_type,
};
use kaizen_data::TrainingData;
use kaizen_eval::{Rows, Scores};
use kaizen_package::ModelParts;
use kaizen_pipeline::{Pipeline, Step};
use kaizen_store::Version;
use kaizen_table::arrow::array::BooleanArray;
use kaizen_table::arrow::compute::filter_record_batch;
use kaizen_table::{RecordBatch, Scorer, instants};
use kaizen_train::{Trained, Training};
use serde_json::json;
use tokio::sync::OnceCell;

use super::watch::{UNIT_VALUES, read_all};
use super::{CHAMPION, Cycle};

/// What a retraining came to.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Retraining {
    /// The request that it answers.
    pub request: Digest,
    /// The model that was trained.
    pub model: Digest,
    /// Its version in the registry.
    pub version: u32,
    /// Its evaluation, against the champion if there was one.
    pub evaluation: Evaluation,
    /// What the gates decided.
    pub decision: Decision,
    /// The release that took over the traffic, if the gates passed.
    pub release: Option<Digest>,
}

/// The rows of one retraining, divided by time: trained on, and held out.
#[derive(Clone, Debug)]
struct Snapshot {
    train: TrainingData,
    holdout: TrainingData,
}

impl Cycle {
    /// Carries a request through to its end. Every step is cached by content and every change of
    /// state is checked first, so a request that was cut off goes on where it stopped.
    pub(super) async fn fulfil(&self, id: Digest, request: &RetrainRequest) -> Result<Retraining> {
        let occurrence = request.occurrence.clone();
        let snapshot = OnceCell::new();
        let pipeline =
            Pipeline::new(self.parts.store.clone(), self.parts.log.clone(), occurrence.clone());
        let model = self.train(&pipeline, request, &snapshot).await?;
        let evaluation = self.evaluate(&pipeline, request, model, &snapshot).await?;
        let version =
            self.registry.register(&self.policy.model, &model, occurrence.clone()).await?;
        let (decision_id, decision) = self.decide(request, model, evaluation).await?;
        let release = match decision.approved() {
            // The same data gave the same model: it holds the alias already.
            true if request.champion == Some(model) => None,
            true => Some(self.promote(&occurrence, version, decision_id).await?),
            false => None,
        };
        let evaluation = self.parts.store.get::<Evaluation>(&evaluation).await?.record;
        Ok(Retraining { request: id, model, version, evaluation, decision, release })
    }

    async fn train(
        &self,
        pipeline: &Pipeline,
        request: &RetrainRequest,
        snapshot: &OnceCell<Snapshot>,
    ) -> Result<Digest> {
        let settings = json!({
            "request": request.occurrence.operation,
            "policy": request.policy,
            "algorithm": self.parts.estimator.algorithm(),
        });
        let step = Step::new("train", 1, &settings)?;
        let inputs = [self.parts.service.digest()?, self.parts.labels.digest()?];
        let work = async || {
            let train = self.snapshot(request, snapshot).await?.train.clone();
            let store = self.parts.store.as_ref();
            let set = train.save(store).await?;
            self.parts.enter(&request.occurrence, Event::DataSnapshot, set, vec![]).await?;
            let (policy, estimator) = (self.policy.clone(), self.parts.estimator.clone());
            let (trained, profile) = compute(move || {
                let TrainingData { record, rows, .. } = &train;
                let (name, seed) = (policy.model, policy.seed);
                let trained =
                    kaizen_train::train(&Training { name, estimator, seed }, set, record, rows)?;
                let (features, time) = (&record.features, &record.time);
                let profile = kaizen_drift::profile(set, rows, features, time, policy.unit)?;
                Ok((trained, profile))
            })
            .await?;
            store.put::<Profile>(&profile, &[]).await?;
            let model = kaizen_package::save_model(store, parts_of(trained)?).await?;
            self.parts.enter(&request.occurrence, Event::Trained, model, vec![set]).await?;
            Ok(model)
        };
        Ok(pipeline.run::<Model>(&step, &inputs, work).await?.output)
    }

    async fn evaluate(
        &self,
        pipeline: &Pipeline,
        request: &RetrainRequest,
        model: Digest,
        snapshot: &OnceCell<Snapshot>,
    ) -> Result<Digest> {
        let settings = json!({
            "request": request.occurrence.operation,
            "policy": request.policy,
        });
        let step = Step::new("evaluate", 1, &settings)?;
        let inputs: Vec<Digest> = [model].into_iter().chain(request.champion).collect();
        let work = async || {
            let holdout = self.snapshot(request, snapshot).await?.holdout.clone();
            let store = self.parts.store.as_ref();
            let set = holdout.save(store).await?;
            let challenger = self.scorer(&model).await?;
            let champion = match &request.champion {
                Some(champion) => Some(self.scorer(champion).await?),
                None => None,
            };
            let policy = self.policy.clone();
            let (evaluation, values) =
                compute(move || evaluation(&policy, set, &holdout, &challenger, champion.as_ref()))
                    .await?;
            let values = serde_json::to_vec(&values).context(ErrorKind::Internal, "values")?;
            let values = Payload::new(UNIT_VALUES, media_type::JSON, values);
            let id = store.put(&evaluation, &[values]).await?;
            self.parts.enter(&request.occurrence, Event::Evaluated, id, vec![model, set]).await?;
            Ok(id)
        };
        Ok(pipeline.run::<Evaluation>(&step, &inputs, work).await?.output)
    }

    /// What was known at the request's instant, made once for both steps.
    async fn snapshot<'a>(
        &self,
        request: &RetrainRequest,
        made: &'a OnceCell<Snapshot>,
    ) -> Result<&'a Snapshot> {
        made.get_or_try_init(async || {
            let parts = &self.parts;
            let cutoff = request.occurrence.at;
            let request_columns = parts.service.request().iter().map(|field| field.name.as_str());
            let views = parts.service.views().iter().flat_map(|view| view.keys());
            let keys = parts.labels.keys().iter().chain(views).map(String::as_str);
            let mut columns: Vec<&str> = vec![parts.time.as_str()];
            for name in keys.chain(request_columns) {
                if !columns.contains(&name) {
                    columns.push(name);
                }
            }
            let spine = read_all(&parts.examples, &columns).await?;
            // The holdout is the newest units whose labels have all had their time: flights that
            // are still in the air are the late ones. The model learns what was known before them.
            let unit = self.policy.unit;
            let matured = cutoff.plus_seconds(-i64::from(self.policy.maturity_seconds));
            let end = unit.block(matured);
            let start = unit.start(end - i64::from(self.policy.holdout_units));
            let (older, newer) = (Timestamp::from_micros(i64::MIN)..start, start..unit.start(end));
            let set = async |range: Range<Timestamp>, cutoff| {
                let rows = between(&spine, &parts.time, range)?;
                let (service, labels) = (&parts.service, &parts.labels);
                parts.features.training_set(service, labels, &rows, &parts.time, cutoff).await
            };
            Ok(Snapshot { train: set(older, start).await?, holdout: set(newer, cutoff).await? })
        })
        .await
    }

    async fn decide(
        &self,
        request: &RetrainRequest,
        model: Digest,
        evaluation: Digest,
    ) -> Result<(Digest, Decision)> {
        let store = self.parts.store.as_ref();
        let operation = &request.occurrence.operation;
        let entries = self.parts.entries().await?;
        let mut decided = entries.iter().filter(|e| matches!(e.event, Event::Decided { .. }));
        if let Some(entry) = decided.find(|entry| entry.operation == *operation) {
            // It was decided before the request was cut off, and is not decided again.
            let Stored { id, record, .. } = store.get::<Decision>(&entry.subject).await?;
            return Ok((id, record));
        }
        let record = store.get::<Evaluation>(&evaluation).await?.record;
        let gates = self.policy.gates_against(request.champion.as_ref());
        let (occurrence, champion) = (request.occurrence.clone(), request.champion);
        let decision =
            kaizen_eval::decide(gates, &record, occurrence, model, champion, evaluation)?;
        let id = store.put(&decision, &[]).await?;
        let event = Event::Decided { approved: decision.approved() };
        self.parts.enter(&request.occurrence, event, id, vec![model, evaluation]).await?;
        Ok((id, decision))
    }

    async fn promote(
        &self,
        occurrence: &Occurrence,
        version: u32,
        decision: Digest,
    ) -> Result<Digest> {
        let name = &self.policy.model;
        let moved = self.registry.promote(name, CHAMPION, version, &decision, occurrence.clone());
        let promoted = moved.await?;
        self.roll_out(occurrence, &promoted, &[decision]).await
    }

    /// Binds a version to what it needs and moves the traffic to it.
    pub(super) async fn roll_out(
        &self,
        occurrence: &Occurrence,
        version: &Version,
        evidence: &[Digest],
    ) -> Result<Digest> {
        let release = Release {
            name: self.policy.model.clone(),
            version: version.version,
            model: version.model,
            service: self.parts.service.digest()?,
            functions: Vec::new(),
        };
        let release = self.parts.store.put(&release, &[]).await?;
        let based_on = [version.model].into_iter().chain(evidence.iter().copied()).collect();
        self.parts.enter(occurrence, Event::Released, release, based_on).await?;
        self.rollout.release(&release, occurrence.clone(), evidence).await?;
        Ok(release)
    }

    async fn scorer(&self, model: &Digest) -> Result<Scorer> {
        let stored = kaizen_package::load_model(self.parts.store.as_ref(), model).await?;
        Scorer::from_parts(
            stored.id,
            stored.record,
            &stored.encoder,
            &stored.weights,
            &self.parts.formats,
        )
    }

    /// Whether a request is closed: refused by its gates, given up, or the alias has moved, after
    /// which [`reconcile`](Self::reconcile) sees to the traffic.
    pub(super) async fn fulfilled(&self, request: &RetrainRequest) -> Result<bool> {
        let entries = self.parts.entries().await?;
        let own = entries.iter().filter(|e| e.operation == request.occurrence.operation);
        Ok(own.into_iter().any(|entry| match &entry.event {
            Event::Decided { approved } => {
                !approved || entry.evidence.first() == request.champion.as_ref()
            }
            Event::RetrainAbandoned { .. } | Event::AliasMoved { .. } => true,
            _ => false,
        }))
    }
}

/// The rows whose instant lies in this range.
fn between(rows: &RecordBatch, time: &str, range: Range<Timestamp>) -> Result<RecordBatch> {
    let at = instants(rows, time)?;
    let inside = |nanos: Option<i64>| Some(range.contains(&Timestamp::from_nanos(nanos?)));
    let mask: BooleanArray = at.iter().map(inside).collect();
    filter_record_batch(rows, &mask).context(ErrorKind::Internal, "rows between two instants")
}

fn parts_of(trained: Trained) -> Result<ModelParts> {
    let encoder = serde_json::to_vec(&trained.encoder).context(ErrorKind::Internal, "encoder")?;
    Ok(ModelParts {
        name: trained.name,
        training_set: trained.training_set,
        algorithm: trained.algorithm,
        seed: trained.seed,
        signature: trained.signature,
        service: trained.service,
        format: trained.predictor.format().to_owned(),
        encoder: encoder.into(),
        weights: trained.predictor.to_bytes()?.into(),
    })
}

/// The challenger's evaluation and its value per row in each unit of the holdout.
fn evaluation(
    policy: &super::Policy,
    set: Digest,
    holdout: &TrainingData,
    challenger: &Scorer,
    champion: Option<&Scorer>,
) -> Result<(Evaluation, Vec<f64>)> {
    let labels = holdout.labels();
    let units = kaizen_table::blocks(&holdout.rows, &holdout.record.time, policy.unit)?;
    let rows = Rows { labels: &labels, blocks: units.values() };
    let scores = challenger.score(&holdout.rows)?.to_vec();
    let mut by_unit = std::collections::BTreeMap::<i64, (f64, f64)>::new();
    for ((unit, score), label) in units.values().iter().zip(&scores).zip(&labels) {
        let (value, rows) = by_unit.entry(*unit).or_default();
        *value += policy.costs.value(policy.costs.acts(*score), *label);
        *rows += 1.0;
    }
    let values = by_unit.values().map(|(value, rows)| value / rows).collect();
    let settings = policy.evaluation();
    let challenger = Scores { model: *challenger.id(), scores: &scores };
    let evaluation = match champion {
        None => kaizen_eval::evaluate(&settings, set, &rows, &challenger)?,
        Some(champion) => {
            let scores = champion.score(&holdout.rows)?.to_vec();
            let champion = Scores { model: *champion.id(), scores: &scores };
            kaizen_eval::compare(&settings, set, &rows, &challenger, &champion)?
        }
    };
    Ok((evaluation, values))
}
