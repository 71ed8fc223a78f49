//! The export: experiment, runs, versions, aliases.

use std::collections::BTreeMap;

use kaizen_core::{ArtifactStore, AuditLog, Context, Digest, Error, ErrorKind, Result};
use kaizen_store::Registry;
use serde_json::{Value, json};

use crate::batch::batches;
use crate::client::Server;
use crate::content::{CONTENT, MODEL, Metric, Training, pair, trainings};

/// Exports the models of one name to an MLflow server.
///
/// The server is spoken to without TLS, and through no proxy, whatever the environment says, unless the
/// host brings a client of its own. A token travels by plain HTTP only within this machine, or if that is
/// asked for.
#[derive(Clone, Debug)]
pub struct MlflowExporter {
    pub(crate) server: Server,
    experiment: Option<String>,
}

/// What an export did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Exported {
    /// The experiment's id.
    pub experiment: String,
    /// Runs that were made, finished or brought up to date.
    pub runs: usize,
    /// Versions that were made.
    pub versions: usize,
    /// Aliases that were moved.
    pub aliases: usize,
    /// Aliases that MLflow keeps for itself or cannot take, such as `latest` and `v2`: they are not
    /// there.
    pub refused_aliases: Vec<String>,
    /// Aliases that point there to a version that is not from here: they were left as they are. Who
    /// takes one away there has it set by the next export.
    pub foreign_aliases: Vec<String>,
    /// Tags of versions that were set or taken away.
    pub tags: usize,
    /// Descriptions of versions to which an override was added.
    pub descriptions: usize,
    /// The version in MLflow of each version here: they differ if MLflow had others before.
    pub numbers: BTreeMap<u32, String>,
}

impl Exported {
    /// Whether all was there already.
    pub fn is_unchanged(&self) -> bool {
        self.runs + self.versions + self.aliases + self.tags + self.descriptions == 0
    }
}

impl MlflowExporter {
    /// An exporter to the server at this address, such as `http://127.0.0.1:5000`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`] if it is no HTTP address, or has a password, a query or a fragment in
    /// it. The error does not show the address.
    pub fn new(url: &str) -> Result<Self> {
        Ok(Self { server: Server::new(url)?, experiment: None })
    }

    /// Into the experiment of this name, instead of that of the model.
    #[must_use]
    pub fn experiment(self, name: impl Into<String>) -> Self {
        Self { experiment: Some(name.into()), ..self }
    }

    /// With this bearer token.
    #[must_use]
    pub fn token(self, token: impl Into<String>) -> Self {
        Self { server: self.server.with_token(token.into()), ..self }
    }

    /// Lets the token travel by plain HTTP to another machine, where anybody on the way can read it.
    #[must_use]
    pub fn token_in_the_clear(self) -> Self {
        Self { server: self.server.in_the_clear(), ..self }
    }

    /// With this HTTP client: one with TLS, a proxy, certificates. It should not follow redirects.
    #[must_use]
    pub fn client(self, client: reqwest::Client) -> Self {
        Self { server: self.server.with_client(client), ..self }
    }

    /// Exports the trainings, versions and aliases of a name. Exporting again changes nothing but
    /// what has changed here.
    ///
    /// Two exporters of one name at the same time may make a run twice: run one.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`] if MLflow cannot take the name; [`ErrorKind::Refused`] if a token would
    /// travel in the clear; [`ErrorKind::Unsupported`] for https without a client of the host's;
    /// [`ErrorKind::Unavailable`] if the server does not answer: what was exported stays, and the
    /// next export goes on from there.
    pub async fn export(
        &self,
        store: &dyn ArtifactStore,
        log: &dyn AuditLog,
        registry: &Registry,
        name: &str,
    ) -> Result<Exported> {
        self.server.check()?;
        let odd = name.trim().is_empty() || [".", ".."].contains(&name);
        if odd || name.contains(['\'', '"', '/', ':', '\\', '%']) {
            let message = format!("model `{name}`: MLflow takes no such name");
            return Err(Error::invalid(message));
        }
        let experiment = self.experiment_id(self.experiment.as_deref().unwrap_or(name)).await?;
        let mut exported = Exported { experiment, ..Exported::default() };
        let mut runs = BTreeMap::new();
        for training in trainings(store, log, registry, name).await? {
            let (run, changed) = self.run(&exported.experiment, &training).await?;
            exported.runs += usize::from(changed);
            runs.insert(training.model, run);
        }
        let mut states = Vec::new();
        for version in registry.versions(name).await? {
            states.extend(registry.version(name, version.version).await?);
        }
        if states.is_empty() {
            return Ok(exported);
        }
        let ours = self.export_versions(name, &states, &runs, &mut exported).await?;
        self.export_aliases(name, registry, &ours, &mut exported).await?;
        Ok(exported)
    }

    async fn experiment_id(&self, name: &str) -> Result<String> {
        let query = [("experiment_name", name)];
        let find = || self.server.get("experiments/get-by-name", &query);
        let found = match find().await {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let body = json!({ "name": name });
                match self.server.post("experiments/create", &body).await {
                    Ok(made) => return text(&made, &["experiment_id"]),
                    // Somebody else made it in between.
                    Err(error) if error.kind() == ErrorKind::AlreadyExists => find().await?,
                    Err(error) => return Err(error),
                }
            }
            found => found?,
        };
        text(&found, &["experiment", "experiment_id"])
    }

    /// The run of a training, and whether anything had to be written.
    async fn run(&self, experiment: &str, training: &Training) -> Result<(String, bool)> {
        let content = Digest::of_json(training)?.to_string();
        let filter = format!("tags.`{MODEL}` = '{}'", training.model);
        let search = json!({ "experiment_ids": [experiment], "filter": filter, "max_results": 1 });
        let found = self.server.post("runs/search", &search).await?;
        let mut there = BTreeMap::new();
        let id = match found["runs"].get(0) {
            Some(run) => {
                there = latest_steps(&run["data"]["metrics"]);
                let known = tags_of(&run["data"]["tags"]).remove(CONTENT);
                let id = text(run, &["info", "run_id"])?;
                if known == Some(content.clone()) {
                    return Ok((id, false));
                }
                id
            }
            None => {
                let body = json!({
                    "experiment_id": experiment,
                    "run_name": training.name,
                    "start_time": training.start,
                    "tags": training.tags,
                });
                let made = self.server.post("runs/create", &body).await?;
                text(&made, &["run", "info", "run_id"])?
            }
        };
        // What is there already is not sent again: some backends would keep it twice.
        let is_new = |metric: &&Metric| there.get(&metric.key).is_none_or(|s| *s < metric.step);
        let metrics: Vec<_> = training.metrics.iter().filter(is_new).collect();
        for batch in batches(&id, &training.params, &training.tags, &metrics)? {
            self.server.post("runs/log-batch", &batch).await?;
        }
        let update = json!({ "run_id": id, "status": "FINISHED", "end_time": training.end });
        self.server.post("runs/update", &update).await?;
        // Last of all: a run without it was cut off, and is written again.
        let done = json!({ "run_id": id, "tags": [pair(CONTENT, &content)] });
        self.server.post("runs/log-batch", &done).await?;
        Ok((id, true))
    }
}

/// The last step of each metric of a run.
fn latest_steps(metrics: &Value) -> BTreeMap<String, u64> {
    let metrics = metrics.as_array().into_iter().flatten();
    let step = |value: &Value| match value {
        Value::String(text) => text.parse().ok(),
        // What is not said is 0.
        Value::Null => Some(0),
        value => value.as_u64(),
    };
    metrics.filter_map(|m| Some((m["key"].as_str()?.to_owned(), step(&m["step"])?))).collect()
}

/// A text or a number in an answer, as text.
pub(crate) fn text(answer: &Value, path: &[&str]) -> Result<String> {
    let found = path.iter().fold(answer, |value, key| &value[*key]);
    let found = match found {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    found.context(
        ErrorKind::Corrupt,
        format!("answer of the MLflow server: no `{}`", path.join(".")),
    )
}

pub(crate) fn tags_of(tags: &Value) -> BTreeMap<String, String> {
    let tags = tags.as_array().into_iter().flatten();
    // A value that is not there is empty.
    let value = |tag: &Value| tag["value"].as_str().unwrap_or_default().to_owned();
    tags.filter_map(|tag| Some((tag["key"].as_str()?.to_owned(), value(tag)))).collect()
}
