//! Against a real MLflow server, named by an environment variable.

use std::collections::BTreeMap;

use kaizen_core::record::{Decision, Model, Occurrence, Override};
use kaizen_core::{
    Actor, AuditLog as _, Digest, Entry, Event, OperationId, Records as _, Timestamp,
};
use kaizen_mlflow::{Exported, MlflowExporter};
use kaizen_store::Registry;
use kaizen_testkit::Story;
use serde_json::{Value, json};

use crate::World;

/// The tests share one registered model, so they take turns.
static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

struct Server {
    url: String,
    http: reqwest::Client,
}

impl Server {
    fn named() -> Option<Self> {
        let url = kaizen_testkit::judge::variable("KAIZEN_MLFLOW_URL")?;
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

    async fn version(&self, number: &str) -> Value {
        let path = format!("model-versions/get?name={}&version={number}", Story::NAME);
        self.get(&path).await["model_version"].clone()
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

    let one = server.version(&first.numbers[&1]).await;
    assert!(one["description"].as_str().unwrap().contains("OVERRIDDEN by ada"), "{one}");
    assert!(pairs(&one["tags"])["kaizen.overridden"].contains(Story::REASON));
    let two = server.version(&first.numbers[&2]).await;
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
    let two = server.version(&first.numbers[&2]).await;
    assert_eq!(pairs(&two["tags"])["kaizen.tag.reviewed"], value);

    // What goes here goes there; what people noted there stays.
    let note =
        json!({ "name": Story::NAME, "version": first.numbers[&2], "key": "team", "value": "air" });
    server.post("model-versions/set-tag", &note).await;
    world.registry.untag(Story::NAME, Some(2), "reviewed", on(1)).await.unwrap();
    let untagged = export(&world, &server, &experiment).await;
    assert_eq!((untagged.tags, untagged.descriptions), (1, 0));
    let two = server.version(&first.numbers[&2]).await;
    let tags = pairs(&two["tags"]);
    assert!(!tags.contains_key("kaizen.tag.reviewed") && tags["team"] == "air", "{tags:?}");
    assert!(export(&world, &server, &experiment).await.is_unchanged());
}

fn on(day: i64) -> Occurrence {
    let at = Timestamp::from_micros(1_370_000_000_000_000).plus_seconds(day * 86_400);
    Occurrence::new(at, Actor::person("bob"), OperationId::new("later", at))
}

#[tokio::test]
async fn an_override_that_comes_after_the_export_is_told_there_too() {
    let Some(server) = Server::named() else { return };
    let _turn = TURN.lock().await;
    let world = World::new().await;
    let experiment = fresh(&server).await;
    let first = export(&world, &server, &experiment).await;
    let number = &first.numbers[&2];
    let noted = json!({ "name": Story::NAME, "version": number, "description": "noted by hand" });
    let url = format!("{}/api/2.0/mlflow/model-versions/update", server.url);
    server.http.patch(url).json(&noted).send().await.unwrap();
    assert!(export(&world, &server, &experiment).await.is_unchanged());

    let old = world.store.get::<Decision>(&world.story.decisions[1]).await.unwrap().record;
    let reason = format!("in the run {experiment}");
    let overridden = Some(Override { person: "bob".into(), reason: reason.clone() });
    let decision = Decision { occurrence: on(2), champion: None, overridden, ..old };
    let decision = world.store.put(&decision, &[]).await.unwrap();
    // `latest` and `v7` are MLflow's own.
    for alias in ["latest", "v7", "shadow"] {
        let by = on(3);
        world.registry.override_alias(Story::NAME, alias, 2, &decision, by).await.unwrap();
    }
    let later = export(&world, &server, &experiment).await;
    assert_eq!(later.refused_aliases, ["latest", "v7"]);
    assert_eq!((later.descriptions, later.runs, later.versions), (1, 0, 0));
    let two = server.version(number).await;
    let description = two["description"].as_str().unwrap();
    assert!(description.starts_with("noted by hand\nOVERRIDDEN by bob"), "{description}");
    assert_eq!(description.matches(&reason).count(), 3, "{description}");
    assert!(pairs(&two["tags"])["kaizen.overridden"].contains(&reason));
    let again = export(&world, &server, &experiment).await;
    assert!(again.is_unchanged() && again.refused_aliases.len() == 2, "{again:?}");
}

#[tokio::test]
async fn names_that_mlflow_takes_for_one_and_texts_beyond_a_request_are_exported_once() {
    let Some(server) = Server::named() else { return };
    let _turn = TURN.lock().await;
    let world = World::new().await;
    let experiment = fresh(&server).await;
    let tags =
        [("kaizen.model", "x"), ("kaizen.version", "y"), ("a:b", "1"), ("a_b", "2"), ("e", "")];
    for (key, value) in tags {
        world.registry.tag(Story::NAME, Some(1), key, value, on(4)).await.unwrap();
    }
    let mut model = world.store.get::<Model>(&world.story.models[1]).await.unwrap().record;
    let names = ["max:depth", "max_depth", "a//b", "a_", "../c", "संकेत", "改善"];
    let long = (0..350).map(|number| (format!("text {number}"), "é".repeat(5_000)));
    let settings = names.iter().map(|name| ((*name).to_owned(), (*name).to_owned()));
    model.algorithm.settings = settings.chain(long).collect();
    let settings = model.algorithm.settings.len();
    let model = world.store.put(&model, &[]).await.unwrap();
    let Occurrence { at, actor, operation } = on(5);
    let (event, evidence) = (Event::Trained, Vec::new());
    let entry = Entry { at, actor, operation, event, subject: model, evidence };
    world.log.append(&[entry], None).await.unwrap();

    let first = export(&world, &server, &experiment).await;
    assert_eq!(first.runs, 3);
    let runs = server.runs(&first.experiment).await;
    let run =
        runs.iter().find(|run| pairs(&run["data"]["tags"])["kaizen.model"] == model.to_string());
    let params = pairs(&run.unwrap()["data"]["params"]);
    let ours = params.keys().filter(|key| key.starts_with("setting.")).count();
    assert_eq!(ours, settings, "{:?}", params.keys().collect::<Vec<_>>());
    let one = pairs(&server.version(&first.numbers[&1]).await["tags"]);
    assert_eq!(one["kaizen.model"], world.story.models[0].to_string());
    assert_eq!((&*one["kaizen.tag.kaizen.model"], &*one["kaizen.tag.a_b"]), ("x", "2"));
    let again = export(&world, &server, &experiment).await;
    assert!(again.is_unchanged(), "{again:?}");
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
