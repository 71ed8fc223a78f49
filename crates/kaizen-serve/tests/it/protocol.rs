//! Every route beside `infer`, and what is said where there is none.

use serde_json::json;

use crate::linear::servable;
use crate::running::{Running, request};

#[tokio::test]
async fn a_server_with_a_release_is_live_and_ready() {
    let running = Running::of(&[("blue", 3, 0.0, 9), ("green", 4, 0.0, 1)]).await;
    let (status, server) = running.get("/v2").await;
    assert_eq!(
        (status, &server["name"], &server["extensions"]),
        (200, &json!("kaizen"), &json!([]))
    );
    assert_eq!(running.get("/v2/health/live").await, (200, json!({"live": true})));
    assert_eq!(running.get("/v2/health/ready").await, (200, json!({"ready": true})));
    for path in ["/v2/models/late/ready", "/v2/models/late/versions/4/ready"] {
        assert_eq!(running.get(path).await, (200, json!({"name": "late", "ready": true})));
    }
    let metadata = |versions: &[&str]| {
        json!({
            "name": "late",
            "versions": versions,
            "platform": "kaizen",
            "inputs": [
                {"name": "wind", "datatype": "FP64", "shape": [-1]},
                {"name": "hour", "datatype": "INT64", "shape": [-1]},
                {"name": "holiday", "datatype": "BOOL", "shape": [-1]},
                {"name": "carrier", "datatype": "BYTES", "shape": [-1]},
            ],
            "outputs": [{"name": "score", "datatype": "FP64", "shape": [-1]}],
        })
    };
    assert_eq!(running.get("/v2/models/late").await, (200, metadata(&["3", "4"])));
    assert_eq!(running.get("/v2/models/late/versions/3").await, (200, metadata(&["3"])));
}

#[tokio::test]
async fn without_traffic_it_is_live_but_not_ready() {
    let running = Running::of(&[("blue", 3, 0.0, 0)]).await;
    assert_eq!(running.get("/v2/health/live").await.0, 200);
    assert_eq!(running.get("/v2/health/ready").await, (503, json!({"ready": false})));
    let idle = json!({"error": "model `late`: no release has traffic"});
    for path in ["/v2/models/late", "/v2/models/late/ready"] {
        assert_eq!(running.get(path).await, (503, idle.clone()));
    }
    assert_eq!(running.infer(&request(&[1.0])).await, (503, idle));
    // The version can be asked before it gets traffic: that is how it is tried.
    assert_eq!(running.get("/v2/models/late/versions/3/ready").await.0, 200);
    let body = request(&[1.0]).to_string();
    let (status, answer) = running.post("/v2/models/late/versions/3/infer", body).await;
    assert_eq!((status, &answer["model_version"]), (200, &json!("3")));
}

#[tokio::test]
async fn what_is_not_there_is_named() {
    let running = Running::of(&[("blue", 3, 0.0, 1)]).await;
    for path in ["/v2/models/early", "/v2/models/early/ready", "/v2/models/early/versions/3"] {
        let expected = json!({"error": "model `early`: it is not served here"});
        assert_eq!(running.get(path).await, (404, expected));
    }
    for version in ["4", "-1", "x", "99999999999999999999"] {
        for tail in ["", "/ready"] {
            let (status, answer) =
                running.get(&format!("/v2/models/late/versions/{version}{tail}")).await;
            let expected = format!("model `late`: version `{version}` is not loaded");
            assert_eq!((status, answer), (404, json!({"error": expected})));
        }
    }
    let body = request(&[1.0]).to_string();
    let (status, answer) = running.post("/v2/models/late/versions/4/infer", body.clone()).await;
    assert_eq!(status, 404, "{answer}");
    assert_eq!(running.post("/v2/models/early/infer", body.clone()).await.0, 404);

    assert_eq!(running.get("/v3").await, (404, json!({"error": "no such route"})));
    let expected = json!({"error": "this route has no such method"});
    assert_eq!(running.get("/v2/models/late/infer").await, (405, expected.clone()));
    assert_eq!(running.post("/v2/health/live", body).await, (405, expected));
    let (status, answer) = running.get("/v2/models/%ff").await;
    assert_eq!(status, 400, "{answer}");
    assert!(answer["error"].as_str().unwrap().starts_with("path: "), "{answer}");
}

#[tokio::test]
async fn a_request_is_answered_by_the_releases_that_it_began_with() {
    let running = Running::of(&[("blue", 3, 0.0, 1)]).await;
    let picked = running.router.pick("x").unwrap();
    running.router.set("green", servable(4, 1.0)).unwrap();
    running.router.shift(&[("green".to_owned(), 1)].into()).unwrap();
    running.router.remove("blue").unwrap();
    assert_eq!(picked.release().version, 3);
    assert_eq!(running.get("/v2/models/late").await.1["versions"], json!(["4"]));
}
