//! Against a server that answers badly, or not at all.

use axum::Router;
use axum::http::StatusCode;
use axum::response::IntoResponse as _;
use kaizen_core::{ArtifactStore as _, ErrorKind, Result};
use kaizen_mlflow::{Exported, MlflowExporter};
use kaizen_testkit::Story;

use crate::World;

/// Exports to a server that answers everything so.
async fn export_to(status: StatusCode, body: String) -> Result<Exported> {
    export_of(&World::new().await, status, body).await
}

async fn export_of(world: &World, status: StatusCode, body: String) -> Result<Exported> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let answer = move || {
        let body = body.clone();
        async move { (status, body).into_response() }
    };
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await });
    let exporter = MlflowExporter::new(&format!("http://{address}/base/")).unwrap();
    let exporter = exporter.token("hush-hush");
    assert!(!format!("{exporter:?}").contains("hush"), "a token is never shown");
    exporter.export(&*world.store, &*world.log, &world.registry, Story::NAME).await
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
