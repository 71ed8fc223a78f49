//! Against a server that answers badly, or not at all.

use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::http::{StatusCode, Uri};
use axum::response::IntoResponse as _;
use kaizen_core::record::Evaluation;
use kaizen_core::{
    Actor, ArtifactStore as _, AuditLog as _, Entry, ErrorKind, Event, OperationId, Records as _,
    Result, Timestamp,
};
use kaizen_mlflow::{Exported, MlflowExporter};
use kaizen_testkit::Story;

use crate::World;

/// Exports to a server that answers everything so.
async fn export_to(status: StatusCode, body: String) -> Result<Exported> {
    export_of(&World::new().await, status, body).await
}

async fn export_of(world: &World, status: StatusCode, body: String) -> Result<Exported> {
    Ok(export_and_hear(world, status, body).await?.0)
}

/// What the server was told: the path of each call, and what was in it.
type Told = Vec<(String, String)>;

async fn export_and_hear(
    world: &World,
    status: StatusCode,
    body: String,
) -> Result<(Exported, Told)> {
    let told: Arc<Mutex<Told>> = Arc::default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let noted = Arc::clone(&told);
    let answer = move |uri: Uri, said: String| {
        noted.lock().unwrap().push((uri.path().to_owned(), said));
        let body = body.clone();
        async move { (status, body).into_response() }
    };
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await });
    let exporter = MlflowExporter::new(&format!("http://{address}/base/")).unwrap();
    let exporter = exporter.token("hush-hush");
    assert!(!format!("{exporter:?}").contains("hush"), "a token is never shown");
    let exported =
        exporter.export(&*world.store, &*world.log, &world.registry, Story::NAME).await?;
    let told = told.lock().unwrap().clone();
    Ok((exported, told))
}

#[tokio::test]
async fn bad_answers_are_errors_that_name_the_server_and_the_call() {
    let said = r#"{"error_code":"X","message":"no\u001b[2J room"}"#;
    let cases = [
        (500, said, ErrorKind::Unavailable),
        (429, "", ErrorKind::Unavailable),
        (400, said, ErrorKind::Invalid),
        (403, "<html>", ErrorKind::Refused),
        (302, "", ErrorKind::Invalid),
        (200, "<html>", ErrorKind::Corrupt),
        (200, "{}", ErrorKind::Corrupt),
        (200, "[1]", ErrorKind::Corrupt),
    ];
    for (status, body, kind) in cases {
        let status = StatusCode::from_u16(status).unwrap();
        let error = export_to(status, body.to_owned()).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{status} {body}: {error:?}");
        let text = format!("{error:#}");
        assert!(text.contains("MLflow server") && !text.contains('\u{1b}'), "{text}");
        assert!(!text.contains("hush"), "{text}");
    }
    let endless = export_to(StatusCode::OK, " ".repeat((16 << 20) + 1)).await.unwrap_err();
    assert_eq!(endless.kind(), ErrorKind::Limit);
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unavailable_and_a_bad_name_or_address_is_refused() {
    let world = World::new().await;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let exporter = MlflowExporter::new(&format!("http://{address}")).unwrap();
    let export = |name: &'static str| {
        let (exporter, world) = (&exporter, &world);
        async move { exporter.export(&*world.store, &*world.log, &world.registry, name).await }
    };
    assert_eq!(export("late").await.unwrap_err().kind(), ErrorKind::Unavailable);
    for bad in ["", "a'b", "a/b", "a%b"] {
        assert_eq!(export(bad).await.unwrap_err().kind(), ErrorKind::Invalid, "{bad}");
    }
}

#[tokio::test]
async fn no_error_shows_the_address_in_which_a_password_may_stand() {
    let bad = [
        "",
        "ftp://ann:secret@host",
        "ann:secret@host:5000",
        "http://ann:secret@host",
        "http://secret@host",
        "http://host:secret",
        "http://host/?token=secret",
        "http://host/#secret",
        "//secret",
        "http:",
    ];
    for bad in bad {
        let error = MlflowExporter::new(bad).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{bad}");
        assert!(!format!("{error:#} {error:?}").contains("secret"), "{bad}: {error:?}");
    }
}

#[tokio::test]
async fn a_token_does_not_travel_in_the_clear_unless_that_is_asked_for() {
    let world = World::new().await;
    let export = |exporter: MlflowExporter| {
        let world = &world;
        async move {
            let exported =
                exporter.export(&*world.store, &*world.log, &world.registry, Story::NAME).await;
            exported.unwrap_err().kind()
        }
    };
    // Of these names nothing is asked: the first word would be too much.
    let open = |url: &str| MlflowExporter::new(url).unwrap().token("hush");
    assert_eq!(export(open("http://mlflow.invalid")).await, ErrorKind::Refused);
    assert_eq!(export(open("http://x.localhost")).await, ErrorKind::Refused);
    let asked = open("http://mlflow.invalid").token_in_the_clear();
    assert_eq!(export(asked).await, ErrorKind::Unavailable);
    assert_eq!(export(open("http://127.0.0.1:1")).await, ErrorKind::Unavailable);
    assert_eq!(export(open("https://mlflow.invalid")).await, ErrorKind::Unsupported);
    let brought = open("https://mlflow.invalid").client(reqwest::Client::new());
    assert_eq!(export(brought).await, ErrorKind::Unavailable);
}

/// What every call finds that it looks for.
const AGREES: &str = r#"{"experiment":{"experiment_id":"1"},"run":{"info":{"run_id":"r"}},
    "model_version":{"version":"1"},"registered_model":{}}"#;

#[tokio::test]
async fn no_record_that_was_collected_stops_an_export() {
    assert_eq!(export_to(StatusCode::OK, AGREES.to_owned()).await.unwrap().runs, 2);
    for gone in World::new().await.store.manifests().await.unwrap() {
        let world = World::new().await;
        assert!(world.store.remove_manifest(&gone).await.unwrap());
        let exported = export_of(&world, StatusCode::OK, AGREES.to_owned()).await.unwrap();
        let models = world.story.models;
        assert_eq!(exported.runs, if models.contains(&gone) { 1 } else { 2 }, "{gone}");
        assert_eq!(exported.numbers.len(), 2);
    }
}

/// Set where this test runs itself, with a proxy in the environment.
const CHILD: &str = "KAIZEN_MLFLOW_TEST_BEHIND_PROXY";

#[tokio::test]
async fn a_proxy_of_the_environment_hears_nothing() {
    if std::env::var_os(CHILD).is_some() {
        let world = World::new().await;
        // Nobody answers there.
        let exporter = MlflowExporter::new("http://127.0.0.1:1").unwrap().token("hush");
        let exported = exporter.export(&*world.store, &*world.log, &world.registry, "late").await;
        assert_eq!(exported.unwrap_err().kind(), ErrorKind::Unavailable);
        return;
    }
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = format!("http://{}", listener.local_addr().unwrap());
    let heard = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&heard);
    std::thread::spawn(move || {
        for client in listener.incoming() {
            count.fetch_add(1, Ordering::SeqCst);
            drop(client);
        }
    });
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "fake::a_proxy_of_the_environment_hears_nothing"]).env(CHILD, "1");
    for name in ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"] {
        child.env(name, &proxy);
    }
    for name in ["NO_PROXY", "no_proxy", "REQUEST_METHOD"] {
        child.env_remove(name);
    }
    let output = child.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
    assert_eq!(heard.load(Ordering::SeqCst), 0, "the proxy was spoken to");
}

#[tokio::test]
async fn an_alias_that_people_gave_to_a_version_of_their_own_stays() {
    let world = World::new().await;
    let answer = |tags: &str| {
        let version = format!(r#"{{"version":"7","tags":[{tags}]}}"#);
        let aliases = r#"{"aliases":[{"alias":"champion","version":"7"}]}"#;
        let agrees = AGREES.trim_end_matches(r#""registered_model":{}}"#);
        format!(r#"{agrees}"model_versions":[{version}],"registered_model":{aliases}}}"#)
    };
    let moves = |told: &Told| told.iter().filter(|(path, _)| path.ends_with("/alias")).count();
    let (exported, told) = export_and_hear(&world, StatusCode::OK, answer("")).await.unwrap();
    assert_eq!((exported.foreign_aliases, exported.aliases), (vec!["champion".to_owned()], 0));
    assert_eq!(moves(&told), 0);

    // One that is from here moves on; a tag that a person gave it stays.
    let model = world.story.models[0];
    let tags = format!(
        r#"{{"key":"kaizen.model","value":"{model}"}},{{"key":"kaizen.reviewed","value":"x"}},
        {{"key":"kaizen.tag.gone","value":"x"}}"#
    );
    let (exported, told) = export_and_hear(&world, StatusCode::OK, answer(&tags)).await.unwrap();
    assert_eq!((exported.foreign_aliases.len(), exported.aliases, moves(&told)), (0, 1, 1));
    assert_eq!(exported.numbers[&1], "7");
    let gone = told.iter().filter(|(path, _)| path.ends_with("/delete-tag"));
    let gone: Vec<_> = gone.map(|(_, said)| said.contains("kaizen.tag.gone")).collect();
    assert_eq!(gone, [true]);
}

#[tokio::test]
async fn the_step_of_an_evaluation_stays_when_an_earlier_one_goes() {
    let world = World::new().await;
    let first = world.story.evaluations[0];
    let old = world.store.get::<Evaluation>(&first).await.unwrap().record;
    let model = old.model;
    let later = Evaluation { rows: old.rows + 1, ..old };
    let later = world.store.put(&later, &[]).await.unwrap();
    let at = Timestamp::from_micros(1_370_000_000_000_000);
    let (actor, operation) = (Actor::person("ada"), OperationId::new("evaluate", at));
    let (event, evidence) = (Event::Evaluated, Vec::new());
    let entry = Entry { at, actor, operation, event, subject: later, evidence };
    world.log.append(&[entry], None).await.unwrap();

    let steps = async || {
        let (_, told) = export_and_hear(&world, StatusCode::OK, AGREES.to_owned()).await.unwrap();
        let mut steps = Vec::new();
        let mut ours = false;
        for (path, said) in told {
            if path.ends_with("runs/search") {
                ours = said.contains(&model.to_string());
            }
            if ours && path.ends_with("runs/log-batch") {
                let said: serde_json::Value = serde_json::from_str(&said).unwrap();
                let metrics = said["metrics"].as_array().into_iter().flatten();
                let metrics = metrics.filter(|metric| metric["key"] == "evaluation.rows");
                steps.extend(metrics.map(|metric| metric["step"].as_u64().unwrap()));
            }
        }
        steps
    };
    let both = steps().await;
    assert_eq!((both.len(), both[0] < both[1]), (2, true), "{both:?}");
    assert!(world.store.remove_manifest(&first).await.unwrap());
    assert_eq!(steps().await, [both[1]]);
}
