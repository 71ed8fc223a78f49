//! The export: experiment, runs, versions, aliases.

use std::collections::BTreeMap;

use kaizen_core::{ArtifactStore, AuditLog, Context, Digest, Error, ErrorKind, Result};
use kaizen_store::{Registry, VersionState};
use serde_json::{Value, json};

use crate::client::Server;
use crate::content::{CONTENT, MODEL, Pair, Training, pair, trainings};

/// The limits of one `runs/log-batch`.
const MAX_METRICS: usize = 1_000;
const MAX_PARAMS: usize = 100;
const MAX_TAGS: usize = 100;
/// And of all three together.
const MAX_TOGETHER: usize = 1_000;
/// At most this many pages of versions are read.
const MAX_PAGES: usize = 1_000;

/// Exports the models of one name to an MLflow server.
///
/// The server is spoken to without TLS, unless the host brings a client of its own that can.
#[derive(Clone, Debug)]
pub struct MlflowExporter {
    server: Server,
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
    /// Tags of versions that were set.
    pub tags: usize,
    /// The version in MLflow of each version here: they differ if MLflow had others before.
    pub numbers: BTreeMap<u32, String>,
}

impl Exported {
    /// Whether all was there already.
    pub fn is_unchanged(&self) -> bool {
        self.runs + self.versions + self.aliases + self.tags == 0
    }
}

impl MlflowExporter {
    /// An exporter to the server at this address, such as `http://127.0.0.1:5000`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`] if it is no HTTP address, or has a password in it.
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
    /// [`ErrorKind::Invalid`] if MLflow cannot take the name; [`ErrorKind::Unavailable`] if the
    /// server does not answer: what was exported stays, and the next export goes on from there.
    pub async fn export(
        &self,
        store: &dyn ArtifactStore,
        log: &dyn AuditLog,
        registry: &Registry,
        name: &str,
    ) -> Result<Exported> {
        if name.is_empty() || name.contains(['\'', '"', '/', ':', '\\', '%']) {
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
        self.registered_model(name).await?;
        self.versions(name, &states, &runs, &mut exported).await?;
        self.aliases(name, registry, &mut exported).await?;
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
        let id = match found["runs"].get(0) {
            Some(run) => {
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
        self.log(&id, training).await?;
        let update = json!({ "run_id": id, "status": "FINISHED", "end_time": training.end });
        self.server.post("runs/update", &update).await?;
        // Last of all: a run without it was cut off, and is written again.
        let done = json!({ "run_id": id, "tags": [pair(CONTENT, &content)] });
        self.server.post("runs/log-batch", &done).await?;
        Ok((id, true))
    }

    /// Parameters, tags and metrics, in batches that the server takes. Values that are there
    /// already are the same, and MLflow lets them be.
    async fn log(&self, run: &str, training: &Training) -> Result<()> {
        let mut params = training.params.chunks(MAX_PARAMS);
        let mut tags = training.tags.chunks(MAX_TAGS);
        let room = MAX_METRICS.min(MAX_TOGETHER - MAX_PARAMS - MAX_TAGS);
        let mut metrics = training.metrics.chunks(room);
        loop {
            let (p, t, m) = (params.next(), tags.next(), metrics.next());
            if p.is_none() && t.is_none() && m.is_none() {
                return Ok(());
            }
            let batch = json!({
                "run_id": run,
                "params": p.unwrap_or_default(),
                "tags": t.unwrap_or_default(),
                "metrics": m.unwrap_or_default(),
            });
            self.server.post("runs/log-batch", &batch).await?;
        }
    }

    async fn registered_model(&self, name: &str) -> Result<()> {
        let body = json!({ "name": name });
        match self.server.post("registered-models/create", &body).await {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
            _ => Ok(()),
        }
    }

    async fn versions(
        &self,
        name: &str,
        states: &[VersionState],
        runs: &BTreeMap<Digest, String>,
        exported: &mut Exported,
    ) -> Result<()> {
        let mut known = self.known_versions(name).await?;
        for state in states {
            let model = state.version.model;
            let wanted = tags_for(state);
            let number = match known.remove(&model.to_string()) {
                Some((number, tags)) => {
                    for Pair { key, value } in &wanted {
                        if tags.get(key) != Some(value) {
                            let body = json!({
                                "name": name, "version": number, "key": key, "value": value,
                            });
                            self.server.post("model-versions/set-tag", &body).await?;
                            exported.tags += 1;
                        }
                    }
                    number
                }
                None => {
                    let body = json!({
                        "name": name,
                        "source": format!("kaizen:/{}", model.hex()),
                        "run_id": runs.get(&model),
                        "description": description(state),
                        "tags": wanted,
                    });
                    let made = self.server.post("model-versions/create", &body).await?;
                    exported.versions += 1;
                    text(&made, &["model_version", "version"])?
                }
            };
            exported.numbers.insert(state.version.version, number);
        }
        Ok(())
    }

    /// The versions that bear our tag: number and tags, by model.
    async fn known_versions(
        &self,
        name: &str,
    ) -> Result<BTreeMap<String, (String, BTreeMap<String, String>)>> {
        let filter = format!("name = '{name}'");
        let (mut known, mut token) = (BTreeMap::new(), String::new());
        for _ in 0..MAX_PAGES {
            let mut query = vec![("filter", filter.as_str()), ("max_results", "1000")];
            if !token.is_empty() {
                query.push(("page_token", &token));
            }
            let page = self.server.get("model-versions/search", &query).await?;
            for version in page["model_versions"].as_array().into_iter().flatten() {
                let tags = tags_of(&version["tags"]);
                if let Some(model) = tags.get(MODEL) {
                    known.insert(model.clone(), (text(version, &["version"])?, tags));
                }
            }
            token = page["next_page_token"].as_str().unwrap_or_default().to_owned();
            if token.is_empty() {
                return Ok(known);
            }
        }
        let message = format!("versions of `{name}` in MLflow: over {MAX_PAGES} pages");
        Err(Error::new(ErrorKind::Limit, message))
    }

    async fn aliases(
        &self,
        name: &str,
        registry: &Registry,
        exported: &mut Exported,
    ) -> Result<()> {
        let found = self.server.get("registered-models/get", &[("name", name)]).await?;
        let there: BTreeMap<&str, String> = found["registered_model"]["aliases"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|a| Some((a["alias"].as_str()?, text(a, &["version"]).ok()?)))
            .collect();
        for (alias, version) in registry.aliases(name).await? {
            let Some(number) = exported.numbers.get(&version.version) else { continue };
            if there.get(alias.as_str()) != Some(number) {
                let body = json!({ "name": name, "alias": alias, "version": number });
                self.server.post("registered-models/alias", &body).await?;
                exported.aliases += 1;
            }
        }
        Ok(())
    }
}

/// The tags of a version: ours, those that it has here, and the mark of an override.
fn tags_for(state: &VersionState) -> Vec<Pair> {
    let version = state.version.version;
    let mut tags = vec![pair(MODEL, state.version.model), pair("kaizen.version", version)];
    tags.extend(state.tags.iter().map(|(key, value)| pair(key, value)));
    if let Some(mark) = state.overrides.last() {
        tags.push(pair("kaizen.overridden", mark));
    }
    tags
}

fn description(state: &VersionState) -> String {
    let lines: Vec<_> = state.overrides.iter().map(ToString::to_string).collect();
    lines.join("\n")
}

/// A text or a number in an answer, as text.
fn text(answer: &Value, path: &[&str]) -> Result<String> {
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

fn tags_of(tags: &Value) -> BTreeMap<String, String> {
    let tags = tags.as_array().into_iter().flatten();
    let pairs = tags.filter_map(|t| Some((t["key"].as_str()?.into(), t["value"].as_str()?.into())));
    pairs.collect()
}
