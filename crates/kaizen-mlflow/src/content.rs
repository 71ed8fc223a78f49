//! What a training comes to in MLflow's words: parameters, metrics, tags.

use std::collections::{BTreeMap, BTreeSet};

use kaizen_core::record::{Evaluation, Model, TrainingSet};
use kaizen_core::{ArtifactStore, AuditLog, Digest, Entry, Event, Records as _, Result, Timestamp};
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
    pub(crate) key: String,
    value: f64,
    timestamp: i64,
    /// The log's index of the evaluation that it is from, which stays what it is when other
    /// evaluations go.
    pub(crate) step: u64,
}

pub(crate) fn pair(key: &str, value: impl ToString) -> Pair {
    let value = value.to_string().chars().take(MAX_VALUE).collect();
    Pair { key: key_of(key), value }
}

/// A name as MLflow takes it: letters, digits, `_`, `-`, `.`, `/` and spaces, not too long, and no
/// path that means another. A name that had to be changed ends with digits of its digest, so that
/// two names never become one.
fn key_of(name: &str) -> String {
    let is_path = name.split('/').all(|part| !matches!(part, "" | "." | ".."));
    let allowed = |c: char| match c {
        '/' => is_path,
        c => is_word(c) || "_-. ".contains(c),
    };
    let length = name.chars().count();
    if (1..=MAX_KEY).contains(&length) && name.chars().all(allowed) {
        return name.to_owned();
    }
    let end = format!(".{}", Digest::of(name).short());
    let kept = name.chars().map(|c| if allowed(c) { c } else { '_' });
    kept.take(MAX_KEY - end.len()).chain(end.chars()).collect()
}

/// Letters and digits for MLflow, which is Python: of other scripts those without marks that only
/// some call letters.
fn is_word(c: char) -> bool {
    let plain = matches!(c,
        '\u{c0}'..='\u{24f}' | '\u{386}'..='\u{3ff}' | '\u{400}'..='\u{481}'
        | '\u{3041}'..='\u{3096}' | '\u{30a1}'..='\u{30fa}'
        | '\u{4e00}'..='\u{9fff}' | '\u{ac00}'..='\u{d7a3}');
    c.is_ascii_alphanumeric() || plain && c.is_alphabetic()
}

/// Each key once: MLflow refuses a parameter that has two values. The first counts.
fn distinct(pairs: Vec<Pair>) -> Vec<Pair> {
    let mut seen = BTreeSet::new();
    pairs.into_iter().filter(|pair| seen.insert(pair.key.clone())).collect()
}

fn millis(at: Timestamp) -> i64 {
    at.micros().div_euclid(1_000)
}

/// What the log says of trainings.
#[derive(Debug, Default)]
struct Heard {
    /// Models in the order in which they were trained, and then those that came from elsewhere as
    /// they were registered, with that entry.
    trained: Vec<(Digest, Entry)>,
    snapshots: BTreeMap<Digest, Timestamp>,
    /// Evaluations: where the log first says so, and when.
    evaluated: BTreeMap<Digest, (u64, Timestamp)>,
}

/// The trainings of the models of this name, in the order of the log: those that were registered,
/// and those that never were. What was collected since is left out: MLflow keeps what it has of it.
pub(crate) async fn trainings(
    store: &dyn ArtifactStore,
    log: &dyn AuditLog,
    registry: &Registry,
    name: &str,
) -> Result<Vec<Training>> {
    let heard = hear(log).await?;
    let versions = registry.versions(name).await?;
    let versions: BTreeSet<Digest> = versions.iter().map(|version| version.model).collect();
    let mut trainings = Vec::new();
    for (id, entry) in &heard.trained {
        let Some(model) = store.find::<Model>(id).await? else {
            tracing::debug!(model = %id, "the log names it, and the store has it no more");
            continue;
        };
        let model = model.record;
        if model.name == name || versions.contains(id) {
            let start = heard.snapshots.get(&model.training_set).copied().unwrap_or(entry.at);
            let set = store.find::<TrainingSet>(&model.training_set).await?;
            let set = set.map(|set| set.record);
            let found = heard.evaluations(store, id).await?;
            trainings.push(training(*id, &model, set.as_ref(), (start, entry), &found));
        }
    }
    Ok(trainings)
}

impl Heard {
    /// The evaluations of a model that the log knows, in its order, each with its index there.
    async fn evaluations(
        &self,
        store: &dyn ArtifactStore,
        model: &Digest,
    ) -> Result<Vec<(u64, Timestamp, Evaluation)>> {
        let about = store.referrers(model).await?.into_iter();
        let known = about.filter_map(|id| Some((*self.evaluated.get(&id)?, id)));
        let known: BTreeMap<(u64, Timestamp), Digest> = known.collect();
        let mut found = Vec::new();
        for ((index, at), id) in known {
            let evaluation = store.find::<Evaluation>(&id).await?;
            found.extend(evaluation.map(|evaluation| (index, at, evaluation.record)));
        }
        Ok(found)
    }
}

async fn hear(log: &dyn AuditLog) -> Result<Heard> {
    let (mut heard, mut start, size) = (Heard::default(), log.first().await?, log.size().await?);
    let (mut trained, mut registered) = (BTreeSet::new(), Vec::new());
    while start < size {
        let end = size.min(start + PAGE);
        for (index, entry) in (start..).zip(log.read(start..end).await?) {
            let (id, at) = (entry.subject, entry.at);
            match entry.event {
                Event::DataSnapshot => drop(heard.snapshots.insert(id, at)),
                Event::Evaluated => drop(heard.evaluated.entry(id).or_insert((index, at))),
                Event::Trained if trained.insert(id) => heard.trained.push((id, entry)),
                Event::Registered { .. } => registered.push((id, entry)),
                _ => {}
            }
        }
        start = end;
    }
    // A model that came from elsewhere has no entry of its training.
    registered.retain(|(id, _)| trained.insert(*id));
    heard.trained.extend(registered);
    Ok(heard)
}

fn training(
    id: Digest,
    model: &Model,
    set: Option<&TrainingSet>,
    (start, entry): (Timestamp, &Entry),
    evaluations: &[(u64, Timestamp, Evaluation)],
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
    for (step, at, evaluation) in evaluations {
        let numbers = numbers(evaluation).into_iter();
        let (step, timestamp) = (*step, millis(*at));
        metrics.extend(numbers.map(|(key, value)| Metric { key, value, timestamp, step }));
    }
    let (params, tags) = (distinct(params), distinct(tags));
    let name = format!("{} {}", model.name, id.short());
    let (start, end) = (millis(start.min(entry.at)), millis(entry.at));
    Training { model: id, name, start, end, params, tags, metrics }
}

/// What an evaluation found, each number by a name of its own: a metric's own name wins over the
/// names that are made here.
fn numbers(evaluation: &Evaluation) -> BTreeMap<String, f64> {
    let mut found = BTreeMap::new();
    let mut note = |key: &str, value: f64| {
        // JSON has no other numbers, and no record holds any.
        if value.is_finite() {
            found.entry(key_of(key)).or_insert(value);
        }
    };
    for (name, estimate) in &evaluation.metrics {
        note(name, estimate.value);
    }
    let differences = evaluation.comparison.iter().flat_map(|found| &found.differences);
    let differences = differences.map(|(name, found)| (format!("difference.{name}"), found));
    let own = evaluation.metrics.iter().map(|(name, found)| (name.clone(), found));
    for (name, estimate) in own.chain(differences) {
        note(&name, estimate.value);
        note(&format!("{name}.low"), estimate.low);
        note(&format!("{name}.high"), estimate.high);
    }
    note("evaluation.rows", evaluation.rows as f64);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_as_mlflow_takes_them_and_no_two_become_one() {
        for kept in ["auc", "setting.max depth", "slice/late", "a.b-c_d", "dépôt", "改善"] {
            assert_eq!(key_of(kept), kept);
        }
        let long = "x".repeat(MAX_KEY + 1);
        let changed = ["a:b", "a%b", "a//b", "../b", "/a", "a/", "", "संकेत", &long];
        let mut keys: Vec<_> = changed.iter().map(|name| key_of(name)).collect();
        assert!(keys[0].starts_with("a_b."), "{keys:?}");
        assert!(keys.iter().all(|key| (1..=MAX_KEY).contains(&key.len())), "{keys:?}");
        assert!(keys.iter().all(|key| !key.contains('/')), "{keys:?}");
        keys.push(key_of("a_b"));
        assert_eq!(keys.iter().collect::<BTreeSet<_>>().len(), changed.len() + 1, "{keys:?}");
    }
}
