//! OpenLineage 2-0-2 run events.

mod datasets;
mod facets;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use kaizen_core::record::{Decision, DriftReport, Evaluation, Model, Release, Run as RunRecord};
use kaizen_core::{
    ArtifactStore, AuditLog, Context, Digest, Entry, Error, ErrorKind, Event, OperationId, Record,
    Records, Result, Timestamp,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::gather::{self, remembered};

/// Where the schema of the events is.
const SCHEMA: &str = "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent";
/// The base of the URLs of our own facets, unless the host has another.
const FACETS: &str = "kaizen:openlineage/1-0-0";
/// At most this many entries of the log at once.
const MAX_ENTRIES: u64 = 1 << 20;

/// Facets by their names.
pub(crate) type Facets = BTreeMap<String, Value>;

/// One event: a run that started, ended or failed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct RunEvent {
    /// What became of the run.
    pub event_type: RunState,
    /// When.
    pub event_time: Timestamp,
    /// Which run.
    pub run: Run,
    /// Of which job.
    pub job: Job,
    /// What it read.
    #[serde(default)]
    pub inputs: Vec<Dataset>,
    /// What it wrote.
    #[serde(default)]
    pub outputs: Vec<Dataset>,
    /// Who says so.
    pub producer: String,
    /// The schema of the event.
    #[serde(rename = "schemaURL")]
    pub schema_url: String,
}

/// What became of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
#[non_exhaustive]
pub enum RunState {
    /// It started.
    Start,
    /// It ended well.
    Complete,
    /// It failed, or was given up.
    Fail,
    /// More about a run that has ended.
    Other,
}

/// A run: a UUID, made of the digest of its operation and, for a step, of its place in the log, so
/// that an event that is sent twice is known.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Run {
    /// The UUID.
    pub run_id: String,
    /// What is said of the run.
    #[serde(default)]
    pub facets: BTreeMap<String, Value>,
}

/// A job: the operation's name, and the step after a dot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Job {
    /// The namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
    /// What is said of the job.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub facets: BTreeMap<String, Value>,
}

/// A dataset: a source, a training set, a model, an evaluation, a batch of predictions. Its name
/// stays; its version is the digest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Dataset {
    /// The namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
    /// What is said of the dataset.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub facets: BTreeMap<String, Value>,
    /// What is said of it as an input.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub input_facets: BTreeMap<String, Value>,
    /// What is said of it as an output.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub output_facets: BTreeMap<String, Value>,
}

/// Writes OpenLineage events from the log and the records.
///
/// A retraining that was asked for is a run that starts with the request and ends with the
/// decision; what its operation did are runs of their own, which name it as their parent. The log
/// gives each step one instant, so a step starts and ends at it.
///
/// ```
/// # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
/// # runtime.block_on(async {
/// use kaizen_testkit::{MemoryLog, MemoryStore};
/// use kaizen_views::OpenLineage;
///
/// let lineage = OpenLineage::new("example.com/models", "https://example.com/trainer");
/// let events = lineage.events(&MemoryStore::default(), &MemoryLog::default(), 0..0).await?;
/// assert!(events.is_empty());
/// # Ok::<(), kaizen_core::Error>(())
/// # }).unwrap();
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenLineage {
    namespace: String,
    producer: String,
    schemas: String,
}

/// The JSON Schemas of our own facets, by file name, for whoever serves them.
pub(crate) const OWN_SCHEMAS: [(&str, &str); 4] = [
    ("AliasRunFacet.json", include_str!("../schemas/AliasRunFacet.json")),
    ("DriftRunFacet.json", include_str!("../schemas/DriftRunFacet.json")),
    ("EntryRunFacet.json", include_str!("../schemas/EntryRunFacet.json")),
    ("GateRunFacet.json", include_str!("../schemas/GateRunFacet.json")),
];

/// What an entry comes to: the step, what went in, what came out, and what is said of the run.
#[derive(Default)]
struct Step {
    name: String,
    inputs: Vec<Dataset>,
    outputs: Vec<Dataset>,
    facets: Facets,
}

impl OpenLineage {
    /// Events of this namespace, said by this producer: a URI that names the program.
    pub fn new(namespace: impl Into<String>, producer: impl Into<String>) -> Self {
        let (namespace, producer) = (namespace.into(), producer.into());
        Self { namespace, producer, schemas: FACETS.to_owned() }
    }

    /// With our own facets' schemas at this URL, where the host serves
    /// [`schemas`](Self::schemas).
    #[must_use]
    pub fn schemas_at(self, url: impl Into<String>) -> Self {
        Self { schemas: url.into(), ..self }
    }

    /// The JSON Schemas of our own facets: file name and content.
    pub fn schemas() -> &'static [(&'static str, &'static str)] {
        &OWN_SCHEMAS
    }

    /// The events of these entries of the log, in its order. The same entries give the same events;
    /// what came before them is read only to know which operations were asked for. An entry whose
    /// record was collected since gives no event of a step: what it did is not known any more.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Limit`] for more than 2²⁰ entries; [`ErrorKind::Corrupt`] if a record that the
    /// log names cannot be read.
    pub async fn events(
        &self,
        store: &dyn ArtifactStore,
        log: &dyn AuditLog,
        range: Range<u64>,
    ) -> Result<Vec<RunEvent>> {
        if range.end.saturating_sub(range.start) > MAX_ENTRIES {
            let message = format!("log entries {range:?}: over {MAX_ENTRIES} at once");
            return Err(Error::new(ErrorKind::Limit, message));
        }
        let mut operations = Operations::default();
        let before = 0..range.start;
        gather::entries(log, before, |_, entry| operations.see(&entry)).await?;
        let mut entries = Vec::new();
        gather::entries(log, range, |index, entry| entries.push((index, entry))).await?;
        let mut events = Vec::new();
        for (index, entry) in &entries {
            let step = self.step(store, entry).await;
            let step = step.map_err(|error| {
                Error::new(error.kind(), format!("log entry {index}")).with_source(error)
            })?;
            if let Some(step) = step {
                let parent = operations.asked.contains(&entry.operation);
                events.extend(self.pair(*index, entry, step, parent));
            }
            events.extend(self.of_operation(*index, entry, &operations));
            operations.see(entry);
        }
        Ok(events)
    }

    /// One JSON object a line, as tools read them from a file.
    ///
    /// # Errors
    ///
    /// None in practice: [`ErrorKind::Internal`].
    pub fn to_lines(events: &[RunEvent]) -> Result<String> {
        let mut lines = String::new();
        for event in events {
            let line = serde_json::to_string(event);
            lines.push_str(&line.context(ErrorKind::Internal, "event as JSON")?);
            lines.push('\n');
        }
        Ok(lines)
    }

    async fn step(&self, store: &dyn ArtifactStore, entry: &Entry) -> Result<Option<Step>> {
        let subject = &entry.subject;
        let step = match &entry.event {
            Event::DataSnapshot => return self.snapshot(store, subject).await,
            Event::Trained => return self.trained(store, subject).await,
            Event::Evaluated => return self.evaluated(store, subject).await,
            Event::Decided { .. } => return self.decided(store, subject).await,
            Event::Ran { .. } => return self.ran(store, subject).await,
            Event::AliasMoved { name, .. } => Step {
                name: "alias".to_owned(),
                outputs: vec![self.dataset(name, subject)],
                facets: self.alias_facet(entry),
                ..Step::default()
            },
            Event::Released => {
                let Some(release) = remembered::<Release>(store, subject).await? else {
                    return Ok(None);
                };
                Step {
                    name: "release".to_owned(),
                    inputs: vec![self.dataset(&release.name, &release.model)],
                    outputs: vec![self.dataset(&format!("{}/release", release.name), subject)],
                    ..Step::default()
                }
            }
            Event::Deployed { target, step } => Step {
                name: format!("deploy.{step}"),
                outputs: vec![self.dataset(&format!("{target}/deployment"), subject)],
                ..Step::default()
            },
            Event::DriftAlarm => return self.alarm(store, entry).await,
            _ => return Ok(None),
        };
        Ok(Some(step))
    }

    /// A step of a pipeline. Those that made a training set, a model or an evaluation are passed
    /// over: entries of their own say more of them.
    async fn ran(&self, store: &dyn ArtifactStore, id: &Digest) -> Result<Option<Step>> {
        let Some(run) = remembered::<RunRecord>(store, id).await? else { return Ok(None) };
        let Some(kind) = self.kind(store, &run.output).await? else { return Ok(None) };
        if [Model::KIND, Evaluation::KIND, "training-set"].contains(&kind.as_str()) {
            return Ok(None);
        }
        let mut inputs = Vec::new();
        for input in &run.inputs {
            let kind = self.kind(store, input).await?;
            inputs.extend(kind.map(|kind| self.dataset(&kind, input)));
        }
        let outputs = vec![self.dataset(&kind, &run.output)];
        Ok(Some(Step { name: run.step, inputs, outputs, facets: Facets::new() }))
    }

    async fn decided(&self, store: &dyn ArtifactStore, id: &Digest) -> Result<Option<Step>> {
        let Some(decision) = remembered::<Decision>(store, id).await? else { return Ok(None) };
        let Some(model) = remembered::<Model>(store, &decision.model).await? else {
            return Ok(None);
        };
        let name = format!("{}/evaluation", model.name);
        let mut evaluation = self.dataset(&name, &decision.evaluation);
        evaluation.input_facets = self.assertions(&decision);
        Ok(Some(Step {
            name: "gate".to_owned(),
            inputs: vec![self.dataset(&model.name, &decision.model), evaluation],
            outputs: vec![self.dataset(&format!("{}/decision", model.name), id)],
            facets: self.gate_facet(&decision),
        }))
    }

    async fn alarm(&self, store: &dyn ArtifactStore, entry: &Entry) -> Result<Option<Step>> {
        let id = &entry.subject;
        let Some(report) = remembered::<DriftReport>(store, id).await? else { return Ok(None) };
        let Some(model) = remembered::<Model>(store, &report.model).await? else {
            return Ok(None);
        };
        let mut inputs = Vec::new();
        for digest in &entry.evidence {
            let kind = self.kind(store, digest).await?;
            let name = kind.map(|kind| format!("{}/{kind}", model.name));
            inputs.extend(name.map(|name| self.dataset(&name, digest)));
        }
        let outputs = vec![self.dataset(&format!("{}/drift-report", model.name), id)];
        let facets = self.drift_facet(&report);
        Ok(Some(Step { name: "watch".to_owned(), inputs, outputs, facets }))
    }

    /// Start and end of a step.
    fn pair(&self, index: u64, entry: &Entry, step: Step, parent: bool) -> [RunEvent; 2] {
        let operation = &entry.operation;
        // The index tells two steps of one operation about one record apart: two aliases that moved
        // to one model, a target that was shifted twice.
        let id = uuid(&[&operation.to_string(), &step.name, &index.to_string()]);
        let mut facets = self.run_facets(index, entry);
        if parent {
            facets.extend(self.parent_facet(operation));
        }
        let job = self.job(format!("{}.{}", operation.name(), step.name), "TASK");
        let start = RunEvent {
            event_type: RunState::Start,
            event_time: entry.at,
            run: Run { run_id: id, facets },
            job,
            inputs: step.inputs,
            outputs: Vec::new(),
            producer: self.producer.clone(),
            schema_url: SCHEMA.to_owned(),
        };
        let mut end = start.clone();
        end.event_type = RunState::Complete;
        end.outputs = step.outputs;
        end.run.facets.extend(step.facets);
        [start, end]
    }

    /// What the entry means for the operation as a whole.
    fn of_operation(&self, index: u64, entry: &Entry, known: &Operations) -> Option<RunEvent> {
        let operation = &entry.operation;
        let (asked, decided) = (known.asked.contains(operation), known.decided.contains(operation));
        let event_type = match &entry.event {
            Event::RetrainRequested if !asked => RunState::Start,
            Event::Decided { .. } if asked && !decided => RunState::Complete,
            Event::RetrainAbandoned { .. } if asked && !decided => RunState::Fail,
            Event::RetrainAbandoned { .. } if asked => RunState::Other,
            _ => return None,
        };
        let mut facets = self.run_facets(index, entry);
        if let Event::RetrainAbandoned { reason } = &entry.event {
            facets.extend(self.error_facet(reason));
        }
        Some(RunEvent {
            event_type,
            event_time: entry.at,
            run: Run { run_id: uuid(&[&operation.to_string()]), facets },
            job: self.job(operation.name().to_owned(), "JOB"),
            inputs: Vec::new(),
            outputs: Vec::new(),
            producer: self.producer.clone(),
            schema_url: SCHEMA.to_owned(),
        })
    }

    fn job(&self, name: String, kind: &str) -> Job {
        let facets = self.job_type_facet(kind);
        Job { namespace: self.namespace.clone(), name, facets }
    }

    /// The kind of a record, `image` of a manifest that is none, or `blob`; `None` of what is gone:
    /// nothing else says it.
    async fn kind(&self, store: &dyn ArtifactStore, id: &Digest) -> Result<Option<String>> {
        let manifest = match store.manifest(id).await {
            Ok(manifest) => manifest,
            Err(error) => {
                return match error.kind() {
                    ErrorKind::NotFound => Ok(None),
                    // No manifest is that large.
                    ErrorKind::Corrupt | ErrorKind::Limit => Ok(Some("blob".to_owned())),
                    // An image index, or a manifest with digests of another algorithm.
                    ErrorKind::Unsupported => Ok(Some("image".to_owned())),
                    _ => Err(error),
                };
            }
        };
        let kind = manifest.artifact_type.unwrap_or_else(|| "image".to_owned());
        let short = kind.strip_prefix("application/vnd.kaizen.");
        let short = short.and_then(|kind| kind.strip_suffix(".v1+json"));
        Ok(Some(short.unwrap_or(&kind).to_owned()))
    }
}

/// The operations that the log has spoken of so far.
#[derive(Default)]
struct Operations {
    asked: BTreeSet<OperationId>,
    decided: BTreeSet<OperationId>,
}

impl Operations {
    fn see(&mut self, entry: &Entry) {
        match entry.event {
            Event::RetrainRequested => drop(self.asked.insert(entry.operation.clone())),
            Event::Decided { .. } => drop(self.decided.insert(entry.operation.clone())),
            _ => {}
        }
    }
}

/// A UUID of version 8 (RFC 9562), from the digest of these texts.
fn uuid(parts: &[&str]) -> String {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&Digest::of(parts.join("\n")).as_bytes()[..16]);
    bytes[6] = bytes[6] & 0x0f | 0x80;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex = bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let [a, b, c, d, e] = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]];
    format!("{a}-{b}-{c}-{d}-{e}")
}

/// A facet: who says it, where its schema is, and what it says.
fn facet(producer: &str, schema: String, body: Value) -> Value {
    let mut facet = Map::new();
    facet.insert("_producer".to_owned(), json!(producer));
    facet.insert("_schemaURL".to_owned(), json!(schema));
    if let Value::Object(fields) = body {
        facet.extend(fields);
    }
    Value::Object(facet)
}
