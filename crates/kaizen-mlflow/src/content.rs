//! What a training comes to in MLflow's words: parameters, metrics, tags.

use std::collections::BTreeMap;

use kaizen_core::record::{Evaluation, Model, TrainingSet};
use kaizen_core::{
    ArtifactStore, AuditLog, Digest, Entry, ErrorKind, Event, Records as _, Result, Timestamp,
};
use kaizen_store::Registry;
use serde::Serialize;

/// The tag by which a run or a version is found again.
pub(crate) const MODEL: &str = "kaizen.model";
/// The tag that is written last, with the digest of all that was written before it.
pub(crate) const CONTENT: &str = "kaizen.content";
/// So many entries of the log are read at once.
const PAGE: u64 = 4_096;
/// MLflow takes values of parameters up to this many characters, of tags up to more.
const MAX_VALUE: usize = 5_000;
/// And names up to this many.
const MAX_KEY: usize = 250;

/// A training, as it is exported.
#[derive(Debug, Serialize)]
pub(crate) struct Training {
    pub(crate) model: Digest,
    pub(crate) name: String,
    /// Milliseconds since the epoch.
    pub(crate) start: i64,
    pub(crate) end: i64,
    pub(crate) params: Vec<Pair>,
    pub(crate) tags: Vec<Pair>,
    pub(crate) metrics: Vec<Metric>,
}

/// A parameter or a tag.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Pair {
    pub(crate) key: String,
    pub(crate) value: String,
}

/// A value of a metric.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Metric {
    key: String,
    value: f64,
    timestamp: i64,
    step: u64,
}

pub(crate) fn pair(key: &str, value: impl ToString) -> Pair {
    let value = value.to_string().chars().take(MAX_VALUE).collect();
    Pair { key: key_of(key), value }
}

/// MLflow allows letters, digits, `_`, `-`, `.`, `/` and spaces in a name.
fn key_of(name: &str) -> String {
    let allowed = |c: char| if c.is_alphanumeric() || "_-./ ".contains(c) { c } else { '_' };
    name.chars().map(allowed).take(MAX_KEY).collect()
}

fn millis(at: Timestamp) -> i64 {
    at.micros().div_euclid(1_000)
}

/// What the log says of the trainings of one name.
#[derive(Debug, Default)]
struct Heard {
    /// Models in the order in which they were trained or registered, with that entry.
    trained: Vec<(Digest, Entry)>,
    snapshots: BTreeMap<Digest, Timestamp>,
    evaluated: Vec<(Digest, Timestamp)>,
}

/// The trainings of the models of this name, in the order of the log: those that were registered,
/// and those that never were.
pub(crate) async fn trainings(
    store: &dyn ArtifactStore,
    log: &dyn AuditLog,
    registry: &Registry,
    name: &str,
) -> Result<Vec<Training>> {
    let heard = hear(log).await?;
    let versions = registry.versions(name).await?;
    let mut evaluations: BTreeMap<Digest, Vec<(Timestamp, Evaluation)>> = BTreeMap::new();
    for (id, at) in &heard.evaluated {
        let evaluation = store.get::<Evaluation>(id).await?.record;
        evaluations.entry(evaluation.model).or_default().push((*at, evaluation));
    }
    let mut trainings = Vec::new();
    for (id, entry) in &heard.trained {
        let model = match store.get::<Model>(id).await {
            Ok(model) => model.record,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                tracing::warn!(model = %id, "trained by the log, and not in the store");
                continue;
            }
            Err(error) => return Err(error),
        };
        if model.name == name || versions.iter().any(|version| version.model == *id) {
            let found = evaluations.remove(id).unwrap_or_default();
            let start = heard.snapshots.get(&model.training_set).copied().unwrap_or(entry.at);
            let set = match store.get::<TrainingSet>(&model.training_set).await {
                Ok(set) => Some(set.record),
                Err(error) if error.kind() == ErrorKind::NotFound => None,
                Err(error) => return Err(error),
            };
            trainings.push(training(*id, &model, set.as_ref(), (start, entry), &found));
        }
    }
    Ok(trainings)
}

async fn hear(log: &dyn AuditLog) -> Result<Heard> {
    let (mut heard, mut start, size) = (Heard::default(), log.first().await?, log.size().await?);
    let mut registered = Vec::new();
    while start < size {
        let end = size.min(start + PAGE);
        for entry in log.read(start..end).await? {
            let (id, at) = (entry.subject, entry.at);
            let known = |list: &[(Digest, Entry)]| list.iter().any(|(known, _)| *known == id);
            match entry.event {
                Event::DataSnapshot => drop(heard.snapshots.insert(id, at)),
                Event::Evaluated if !heard.evaluated.iter().any(|(known, _)| *known == id) => {
                    heard.evaluated.push((id, at));
                }
                Event::Trained if !known(&heard.trained) => heard.trained.push((id, entry)),
                Event::Registered { .. } if !known(&registered) => registered.push((id, entry)),
                _ => {}
            }
        }
        start = end;
    }
    // A model that came from elsewhere has no entry of its training.
    registered.retain(|(id, _)| !heard.trained.iter().any(|(known, _)| known == id));
    heard.trained.extend(registered);
    Ok(heard)
}

fn training(
    id: Digest,
    model: &Model,
    set: Option<&TrainingSet>,
    (start, entry): (Timestamp, &Entry),
    evaluations: &[(Timestamp, Evaluation)],
) -> Training {
    let mut params = vec![
        pair("algorithm", &model.algorithm.name),
        pair("seed", model.seed),
        pair("format", &model.format),
        pair("features", model.signature.inputs().len()),
    ];
    let settings = model.algorithm.settings.iter();
    params.extend(settings.map(|(key, value)| pair(&format!("setting.{key}"), value)));
    if let Some(set) = set {
        params.extend([
            pair("data.rows", set.rows),
            pair("data.cutoff", set.cutoff),
            pair("data.label", &set.label),
        ]);
    }
    let tags = vec![
        pair(MODEL, id),
        pair("kaizen.training_set", model.training_set),
        pair("kaizen.weights", model.weights),
        pair("kaizen.operation", &entry.operation),
        pair("kaizen.actor", &entry.actor),
        pair("mlflow.source.name", "kaizen"),
        pair("mlflow.source.type", "JOB"),
    ];
    let mut metrics = Vec::new();
    for (step, (at, evaluation)) in (0..).zip(evaluations) {
        let mut note = |key: String, value: f64| {
            // JSON has no other numbers, and no record holds any.
            if value.is_finite() {
                metrics.push(Metric { key: key_of(&key), value, timestamp: millis(*at), step });
            }
        };
        note("evaluation.rows".to_owned(), evaluation.rows as f64);
        let differences = evaluation.comparison.iter().flat_map(|found| &found.differences);
        let differences = differences.map(|(name, found)| (format!("difference.{name}"), found));
        let own = evaluation.metrics.iter().map(|(name, found)| (name.clone(), found));
        for (name, estimate) in own.chain(differences) {
            note(format!("{name}.low"), estimate.low);
            note(format!("{name}.high"), estimate.high);
            note(name, estimate.value);
        }
    }
    let name = format!("{} {}", model.name, id.short());
    let (start, end) = (millis(start.min(entry.at)), millis(entry.at));
    Training { model: id, name, start, end, params, tags, metrics }
}
