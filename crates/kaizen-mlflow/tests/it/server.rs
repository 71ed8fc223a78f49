//! Against a real MLflow server, named by an environment variable.

use std::collections::BTreeMap;

use kaizen_core::record::Occurrence;
use kaizen_core::{Actor, AuditLog as _, Digest, OperationId, Timestamp};
use kaizen_mlflow::{Exported, MlflowExporter};
use kaizen_store::Registry;
use kaizen_testkit::Story;
use serde_json::{Value, json};

use crate::World;

const URL: &str = "KAIZEN_MLFLOW_URL";
/// The tests share one registered model, so they take turns.
static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

struct Server {
    url: String,
    http: reqwest::Client,
}

impl Server {
    fn named() -> Option<Self> {
        let Ok(url) = std::env::var(URL) else {
            println!("skipped: {URL} names no MLflow server");
            return None;
        };
        Some(Self { url, http: reqwest::Client::new() })
    }

    async fn get(&self, path: &str) -> Value {
        let url = format!("{}/api/2.0/mlflow/{path}", self.url);
        self.http.get(url).send().await.unwrap().json().await.unwrap()
    }

    async fn post(&self, path: &str, body: &Value) -> Value {
        let url = format!("{}/api/2.0/mlflow/{path}", self.url);
        self.http.post(url).json(body).send().await.unwrap().json().await.unwrap()
    }

    async fn runs(&self, experiment: &str) -> Vec<Value> {
        let body = json!({ "experiment_ids": [experiment] });
        let found = self.post("runs/search", &body).await;
        found["runs"].as_array().cloned().unwrap_or_default()
    }
}

/// Another experiment each time the tests are run against one server: its name is of no moment, but
/// the registered model is shared.
async fn fresh(server: &Server) -> String {
    for number in 0.. {
        let name = format!("kaizen judge {number}");
        let found = server.post("experiments/create", &json!({ "name": name })).await;
        if found["experiment_id"].is_string() {
            return name;
        }
    }
    unreachable!()
}

fn pairs(list: &Value) -> BTreeMap<String, String> {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let list = list.as_array().unwrap().iter();
    list.map(|pair| (text(&pair["key"]), text(&pair["value"]))).collect()
}

async fn export(world: &World, server: &Server, experiment: &str) -> Exported {
    let exporter = MlflowExporter::new(&server.url).unwrap().experiment(experiment);
    let (store, log) = (&*world.store, &*world.log);
    exporter.export(store, log, &world.registry, Story::NAME).await.unwrap()
}

#[tokio::test]
async fn runs_versions_and_aliases_are_in_mlflow_and_exporting_again_changes_nothing() {
    let Some(server) = Server::named() else { return };
    let _turn = TURN.lock().await;
    let world = World::new().await;
    let experiment = fresh(&server).await;
    let first = export(&world, &server, &experiment).await;
    assert_eq!(first.runs, 2);
    assert_eq!(first.numbers.len(), 2);

    let runs = server.runs(&first.experiment).await;
    assert_eq!(runs.len(), 2);
    let by_model: BTreeMap<String, &Value> =
        runs.iter().map(|run| (pairs(&run["data"]["tags"])["kaizen.model"].clone(), run)).collect();
    let run = by_model[&world.story.models[1].to_string()];
    assert_eq!(run["info"]["status"], "FINISHED");
    let params = pairs(&run["data"]["params"]);
    assert_eq!(params["algorithm"], "gradient_boosting");
    assert_eq!(params["setting.trees"], "200");
    assert_eq!(params["seed"], (u64::MAX - 2).to_string());
    let metrics = pairs(&run["data"]["metrics"]);
    let found: f64 = metrics["auc"].parse().unwrap();
    assert!((found - 0.76).abs() < 1e-12 && metrics.contains_key("difference.value.low"));

    let find =
        |number: &String| format!("model-versions/get?name={}&version={number}", Story::NAME);
    let one = server.get(&find(&first.numbers[&1])).await["model_version"].clone();
    assert!(one["description"].as_str().unwrap().contains("OVERRIDDEN by ada"), "{one}");
    assert!(pairs(&one["tags"])["kaizen.overridden"].contains(Story::REASON));
    let two = server.get(&find(&first.numbers[&2])).await["model_version"].clone();
    assert!(!pairs(&two["tags"]).contains_key("kaizen.overridden"));
    let champion =
        server.get(&format!("registered-models/alias?name={}&alias=champion", Story::NAME)).await;
    assert_eq!(champion["model_version"]["version"], two["version"]);

    let again = export(&world, &server, &experiment).await;
    assert!(again.is_unchanged(), "{again:?}");
    assert_eq!(server.runs(&first.experiment).await, runs);

    // What changes here changes there, and only that.
    let at = Timestamp::from_micros(0);
    let by = Occurrence::new(at, Actor::person("ada"), OperationId::new("tag", at));
    let value = Digest::of(&experiment).short();
    world.registry.tag(Story::NAME, Some(2), "reviewed", &value, by).await.unwrap();
    let tagged = export(&world, &server, &experiment).await;
    assert_eq!((tagged.tags, tagged.runs, tagged.versions, tagged.aliases), (1, 0, 0, 0));
}

#[tokio::test]
async fn a_run_that_was_cut_off_is_finished_by_the_next_export() {
    let Some(server) = Server::named() else { return };
    let _turn = TURN.lock().await;
    let world = World::new().await;
    let experiment = fresh(&server).await;
    let found = server
        .get(&format!("experiments/get-by-name?experiment_name={}", experiment.replace(' ', "%20")))
        .await;
    let id = found["experiment"]["experiment_id"].as_str().unwrap().to_owned();
    let tag = json!({ "key": "kaizen.model", "value": world.story.models[0].to_string() });
    let cut = json!({ "experiment_id": id, "start_time": 1, "tags": [tag] });
    let cut = server.post("runs/create", &cut).await;
    export(&world, &server, &experiment).await;
    let runs = server.runs(&id).await;
    assert_eq!(runs.len(), 2, "the one that was cut off is one of them");
    let finished = runs.iter().find(|run| run["info"]["run_id"] == cut["run"]["info"]["run_id"]);
    assert_eq!(finished.unwrap()["info"]["status"], "FINISHED");
}

#[tokio::test]
async fn a_log_that_was_pruned_is_exported_and_what_was_exported_stays() {
    let Some(server) = Server::named() else { return };
    let _turn = TURN.lock().await;
    let world = World::new().await;
    let experiment = fresh(&server).await;
    let whole = export(&world, &server, &experiment).await;
    let entries = world.log.read(0..world.log.size().await.unwrap()).await.unwrap();
    let first = entries.iter().position(|entry| entry.subject == world.story.sets[1]).unwrap();
    let at = entries[entries.len() - 1].at;
    let by = Occurrence::new(at, Actor::person("ada"), OperationId::new("prune", at));
    world.registry.snapshot(by.clone()).await.unwrap();
    world.log.prune(first as u64, &by).await.unwrap();
    let registry = Registry::new(world.store.clone(), world.log.clone());
    let pruned = World { registry, ..world };
    let again = export(&pruned, &server, &experiment).await;
    assert_eq!((again.runs, again.versions, again.aliases), (0, 0, 0), "{again:?}");
    assert_eq!(again.numbers, whole.numbers);
    assert_eq!(server.runs(&whole.experiment).await.len(), 2);
}
