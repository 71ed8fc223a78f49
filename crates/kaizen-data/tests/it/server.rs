//! The feature server: Feast's requests and replies, and what is refused.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray};
use kaizen_core::{
    Bytes, Clock, DataType, Error, ErrorKind, Field, Silent, Timestamp, async_trait,
};
use kaizen_data::{MemoryOnlineStore, MemorySource, Online, feature_server};
use kaizen_table::{
    Aggregate, FeatureService, FeatureView, Functions, OnDemand, OnlineEntry, OnlinePage,
    OnlineStore, RecordBatch as Rows, numbers,
};
use kaizen_testkit::ManualClock;
use serde_json::{Value, json};

use crate::cases::instants;

const S: i64 = 1_000_000_000;
/// When requests ask: 2026-01-01T00:00:00Z.
const NOW: i64 = 1_767_225_600;

fn stats() -> FeatureView {
    FeatureView::builder("stats")
        .source("drivers")
        .key("driver_id")
        .ttl_seconds(3600)
        .column("trips", DataType::Int64)
        .column("rating", DataType::Float64)
        .column("name", DataType::Utf8)
        .column("active", DataType::Bool)
        .build()
        .unwrap()
}

fn weather() -> FeatureView {
    FeatureView::builder("weather")
        .source("weather")
        .key("origin")
        .column("wind", DataType::Float64)
        .column("rating", DataType::Float64)
        .build()
        .unwrap()
}

fn counts() -> FeatureView {
    FeatureView::builder("counts")
        .source("drivers")
        .key("driver_id")
        .window("rides", Aggregate::Count, "trips", 7200)
        .build()
        .unwrap()
}

/// Drivers 1 (fresh), 2 (fresh, with values missing) and 3 (older than the TTL).
fn drivers() -> RecordBatch {
    let event = [NOW * S - 1_500_000_000, (NOW - 60) * S, (NOW - 3601) * S];
    let columns: [(&str, ArrayRef); 6] = [
        ("driver_id", Arc::new(Int64Array::from(vec![1, 2, 3]))),
        ("event_time", instants(event.map(Some).to_vec())),
        ("trips", Arc::new(Int64Array::from(vec![Some(i64::MAX), None, Some(3)]))),
        ("rating", Arc::new(Float64Array::from(vec![Some(4.5), Some(f64::NAN), Some(1.0)]))),
        ("name", Arc::new(StringArray::from(vec![Some("ana"), None, Some("cleo")]))),
        ("active", Arc::new(BooleanArray::from(vec![Some(true), Some(false), None]))),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

fn airports() -> RecordBatch {
    let columns: [(&str, ArrayRef); 4] = [
        ("origin", Arc::new(StringArray::from(vec!["JFK", "EWR"]))),
        ("event_time", instants(vec![Some((NOW - 7200) * S); 2])),
        ("wind", Arc::new(Float64Array::from(vec![10.0, f64::INFINITY]))),
        ("rating", Arc::new(Float64Array::from(vec![3.0, 2.5]))),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

fn scaled(rows: &Rows) -> kaizen_core::Result<Vec<ArrayRef>> {
    let (rating, factor) = (numbers(rows, "rating")?, numbers(rows, "factor")?);
    let product = rating.iter().zip(&factor).map(|(rating, factor)| Some(rating? * factor?));
    Ok(vec![Arc::new(product.collect::<Float64Array>())])
}

fn services() -> Vec<FeatureService> {
    let scaled = OnDemand {
        name: "scale".into(),
        version: 1,
        inputs: vec![
            Field::new("rating", DataType::Float64),
            Field::new("factor", DataType::Float64),
        ],
        outputs: vec![Field::new("scaled", DataType::Float64)],
    };
    let factor = vec![Field::new("factor", DataType::Float64)];
    vec![
        FeatureService::new("dispatch", 1, vec![], vec![weather()]).unwrap(),
        FeatureService::new("dispatch", 2, vec![], vec![stats()]).unwrap(),
        FeatureService::new("scaling", 1, factor, vec![stats()])
            .unwrap()
            .with_on_demand(vec![scaled])
            .unwrap(),
        FeatureService::new("counting", 1, vec![], vec![counts()]).unwrap(),
        FeatureService::new("never", 1, vec![], vec![never()]).unwrap(),
    ]
}

fn never() -> FeatureView {
    let view = FeatureView::builder("never").source("drivers").key("driver_id");
    view.column("trips", DataType::Int64).build().unwrap()
}

/// A server on a loopback port, nested under `/features`.
async fn serve() -> String {
    let online = Online::new(Arc::new(MemoryOnlineStore::default()))
        .with_functions(Functions::default().with("scale", 1, scaled));
    let until = Timestamp::from_nanos(NOW * S);
    let drivers = MemorySource::new("drivers", drivers());
    for view in [stats(), counts()] {
        online.materialize(&view, &drivers, until, &Silent).await.unwrap();
    }
    let airports = MemorySource::new("weather", airports());
    online.materialize(&weather(), &airports, until, &Silent).await.unwrap();
    serve_from(online, until).await
}

async fn serve_from(online: Online, now: Timestamp) -> String {
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::at(now));
    let features = feature_server(Arc::new(online), services(), clock);
    let app = axum::Router::new().nest("/features", features);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    format!("http://{address}/features")
}

async fn ask(address: &str, body: &Value) -> (u16, Value) {
    let url = format!("{address}/get-online-features");
    let response = reqwest::Client::new().post(url).json(body).send().await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap())
}

/// The epoch, which stands where there is no event time.
const NEVER: &str = "1970-01-01T00:00:00Z";

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_is_feasts_reply() {
    let address = serve().await;
    let body = json!({
        "features": ["stats:name", "stats:trips", "stats:rating", "stats:active"],
        "entities": {"unused": ["a", "b", "c", "d", "e"], "driver_id": [1, "2", 3.0, 9, null]},
    });
    let (status, reply) = ask(&address, &body).await;
    assert_eq!(status, 200, "{reply}");
    let times =
        ["2025-12-31T23:59:58.500Z", "2025-12-31T23:59:00Z", "2025-12-31T22:59:59Z", NEVER, NEVER];
    let column = |values: Value, statuses: [&str; 5], times: [&str; 5]| json!({"values": values, "statuses": statuses, "event_timestamps": times});
    let [p, n, o, f] = ["PRESENT", "NULL_VALUE", "OUTSIDE_MAX_AGE", "NOT_FOUND"];
    let expected = json!({
        "results": [
            column(json!([1, 2, 3, 9, null]), [p; 5], [NEVER; 5]),
            column(json!(["ana", null, null, null, null]), [p, n, o, f, f], times),
            column(json!([i64::MAX, null, null, null, null]), [p, n, o, f, f], times),
            column(json!([4.5, null, null, null, null]), [p, n, o, f, f], times),
            column(json!([true, false, null, null, null]), [p, p, o, f, f], times),
        ],
        "metadata": {"feature_names": ["driver_id", "name", "trips", "rating", "active"]},
    });
    // A row older than the TTL when it was written is not kept, and so has no event time.
    let mut found = reply.clone();
    for place in 1..5 {
        let times = &mut found["results"][place]["event_timestamps"];
        assert!([NEVER, "2025-12-31T22:59:59Z"].contains(&times[2].as_str().unwrap()), "{reply}");
        times[2] = json!("2025-12-31T22:59:59Z");
    }
    assert_eq!(found, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_is_its_highest_version_and_full_names_have_the_view() {
    let address = serve().await;
    let body = json!({"feature_service": "dispatch", "entities": {"driver_id": [1]}});
    let (status, reply) = ask(&address, &body).await;
    assert_eq!(status, 200, "{reply}");
    let names = json!(["driver_id", "trips", "rating", "name", "active"]);
    assert_eq!(reply["metadata"]["feature_names"], names);

    let body = json!({
        "features": ["weather:rating", "stats:rating", "weather:wind"],
        "entities": {"origin": ["EWR", "XXX"], "driver_id": [1, 9]},
        "full_feature_names": true,
    });
    // In the order of the request's own text, which `json!` does not keep.
    let text = body.to_string();
    let swapped = text.replace(
        r#""driver_id":[1,9],"origin":["EWR","XXX"]"#,
        r#""origin":["EWR","XXX"],"driver_id":[1,9]"#,
    );
    assert_ne!(swapped, text);
    let url = format!("{address}/get-online-features");
    let response = reqwest::Client::new().post(url).body(swapped).send().await.unwrap();
    assert_eq!(response.status(), 200);
    let reply: Value = response.json().await.unwrap();
    let names = json!(["origin", "driver_id", "weather__rating", "stats__rating", "weather__wind"]);
    assert_eq!(reply["metadata"]["feature_names"], names);
    let values: Vec<&Value> =
        reply["results"].as_array().unwrap().iter().map(|column| &column["values"]).collect();
    let expected = [
        json!(["EWR", "XXX"]),
        json!([1, 9]),
        json!([2.5, null]),
        json!([4.5, null]),
        json!(["Infinity", null]),
    ];
    assert_eq!(values, expected.iter().collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn on_demand_features_take_the_requests_own_columns() {
    let address = serve().await;
    let entities = json!({"driver_id": [1, 2, 9], "factor": [2.0, 2, 2]});
    let by_service = json!({"feature_service": "scaling", "entities": entities});
    let by_name = json!({"features": ["scale:scaled"], "entities": entities});
    for (body, place) in [(by_service, 5), (by_name, 1)] {
        let (status, reply) = ask(&address, &body).await;
        assert_eq!(status, 200, "{reply}");
        assert_eq!(reply["metadata"]["feature_names"][place], "scaled");
        let found = &reply["results"][place];
        assert_eq!(found["values"], json!([9.0, null, null]));
        assert_eq!(found["statuses"], json!(["PRESENT", "NULL_VALUE", "NULL_VALUE"]));
        assert_eq!(found["event_timestamps"], json!([NEVER, NEVER, NEVER]));
        let names = reply["metadata"]["feature_names"].as_array().unwrap();
        assert!(!names.contains(&json!("factor")), "what the caller brought is not sent back");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_count_of_nothing_is_a_value() {
    let address = serve().await;
    let body = json!({"feature_service": "counting", "entities": {"driver_id": [3, 9]}});
    let (_, reply) = ask(&address, &body).await;
    assert_eq!(reply["results"][1]["values"], json!([1, 0]), "{reply}");
    assert_eq!(reply["results"][1]["statuses"], json!(["PRESENT", "PRESENT"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_request_is_said() {
    let address = serve().await;
    let one = json!({"driver_id": [1]});
    let many: Vec<i64> = (0..10_001).collect();
    let columns = |count: usize| -> Value {
        (0..count).map(|n| (format!("c{n}"), json!([1]))).collect::<serde_json::Map<_, _>>().into()
    };
    let cases = [
        (json!({"features": ["stats:trips"]}), 422, "entities"),
        (json!({"features": ["stats:trips"], "entities": {}}), 422, "there are none"),
        (json!({"features": ["stats:trips"], "entities": [1]}), 422, "lists of values by column"),
        (json!({"features": "stats:trips", "entities": one}), 422, "sequence"),
        (json!({"entities": one}), 422, "no features"),
        (json!({"features": [], "entities": one}), 422, "no features"),
        (
            json!({"features": ["stats:trips"], "feature_service": "dispatch", "entities": one}),
            422,
            "give one of them",
        ),
        (json!({"features": ["trips"], "entities": one}), 422, "`view:feature`"),
        (json!({"features": ["stats:none"], "entities": one}), 404, "no feature `none`"),
        (json!({"features": ["none:trips"], "entities": one}), 404, "Feature view none"),
        (json!({"feature_service": "none", "entities": one}), 404, "Feature service none"),
        (json!({"feature_service": "scaling", "entities": one}), 404, "factor"),
        (
            json!({"features": ["stats:trips", "stats:trips"], "entities": one}),
            422,
            "FeatureNameCollisionError",
        ),
        (json!({"features": ["stats:trips"], "entities": {"driver": [1]}}), 422, "`driver_id` is"),
        (
            json!({"features": ["stats:trips"], "entities": {"driver_id": [1], "x": []}}),
            422,
            "`x` has 0 values, `driver_id` has 1",
        ),
        (
            json!({"features": ["stats:trips"], "entities": {"driver_id": ["one"]}}),
            422,
            "\"one\" is not Int64",
        ),
        (
            json!({"features": ["stats:trips"], "entities": {"driver_id": [1.5]}}),
            422,
            "1.5 is not Int64",
        ),
        (json!({"features": ["weather:wind"], "entities": {"origin": [7]}}), 422, "7 is not Utf8"),
        (
            json!({"features": ["stats:trips"], "entities": {"driver_id": many}}),
            422,
            "over 10000 values",
        ),
        (json!({"features": vec!["stats:trips"; 1_001], "entities": one}), 422, "over 1000 values"),
        (json!({"features": ["stats:trips"], "entities": columns(1_001)}), 422, "1000 columns"),
        (json!({"features": ["never:trips"], "entities": one}), 503, "never materialised"),
    ];
    for (body, expected, part) in cases {
        let (status, reply) = ask(&address, &body).await;
        let text = reply.to_string().replace("\\\"", "\"");
        assert_eq!(status, expected, "{text}");
        assert!(text.contains(part), "{text} lacks {part}");
    }
}

/// A store that fails and says more than clients should read.
#[derive(Debug)]
struct Broken(ErrorKind);

#[async_trait]
impl OnlineStore for Broken {
    async fn get(&self, _: &str, _: &[Bytes]) -> kaizen_core::Result<Vec<Option<Bytes>>> {
        let cause = Error::invalid("redis://user:password@host");
        Err(Error::new(self.0, "store /secret/path").with_source(cause))
    }

    async fn put(&self, _: Vec<OnlineEntry>) -> kaizen_core::Result<()> {
        Ok(())
    }

    async fn spaces(&self) -> kaizen_core::Result<Vec<String>> {
        Ok(Vec::new())
    }

    async fn page(&self, _: &str, _: Option<&Bytes>, _: usize) -> kaizen_core::Result<OnlinePage> {
        Err(Error::new(self.0, "store /secret/path"))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_is_not_told_what_failed_inside() {
    let body = json!({"features": ["stats:trips"], "entities": {"driver_id": [1]}});
    for (kind, status, text) in [
        (ErrorKind::Unavailable, 503, "the online store is unavailable"),
        (ErrorKind::Corrupt, 500, "internal error"),
        (ErrorKind::Internal, 500, "internal error"),
    ] {
        let online = Online::new(Arc::new(Broken(kind)));
        let address = serve_from(online, Timestamp::from_nanos(NOW * S)).await;
        assert_eq!(ask(&address, &body).await, (status, json!({"detail": text})), "{kind:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_request_is_refused() {
    let address = serve().await;
    let post = |body: Vec<u8>| {
        let url = format!("{address}/get-online-features");
        async move { reqwest::Client::new().post(url).body(body).send().await.unwrap() }
    };
    let twice =
        r#"{"features": ["stats:trips"], "entities": {"driver_id": [1], "driver_id": [2]}}"#;
    let response = post(twice.into()).await;
    assert_eq!(response.status(), 422);
    assert!(response.text().await.unwrap().contains("stands twice"));
    for text in ["", "nope", "{\"entities\": ", "{\"entities\": {\"a\": [1e999]}}"] {
        let response = post(text.into()).await;
        assert_eq!(response.status(), 400, "{text}");
        assert!(response.json::<Value>().await.unwrap()["detail"].is_string(), "{text}");
    }
    assert_eq!(post(vec![b' '; (8 << 20) + 1]).await.status(), 413);
    let client = reqwest::Client::new();
    let health = client.get(format!("{address}/health")).send().await.unwrap();
    assert_eq!((health.status().as_u16(), health.text().await.unwrap()), (200, String::new()));
    let other = client.get(format!("{address}/get-online-features")).send().await.unwrap();
    assert_eq!(other.status(), 405);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_any_type_are_read() {
    let keys: [(&str, ArrayRef, Value, Value); 7] = [
        (
            "u64",
            Arc::new(arrow::array::UInt64Array::from(vec![u64::MAX])),
            json!([u64::MAX]),
            json!([1]),
        ),
        ("i8", Arc::new(arrow::array::Int8Array::from(vec![-3])), json!(["-3"]), json!([3])),
        ("f64", Arc::new(Float64Array::from(vec![0.5])), json!([0.5]), json!(["NaN"])),
        ("bool", Arc::new(BooleanArray::from(vec![true])), json!([true]), json!([false])),
        (
            "date",
            Arc::new(arrow::array::Date32Array::from(vec![1])),
            json!(["1970-01-02"]),
            json!(["1970-01-03"]),
        ),
        (
            "at",
            instants(vec![Some(S)]),
            json!(["1970-01-01T02:00:01+02:00"]),
            json!(["1970-01-01T00:00:02Z"]),
        ),
        (
            "bytes",
            Arc::new(arrow::array::BinaryArray::from(vec![&b"\xff\0"[..]])),
            json!(["/wA="]),
            json!([""]),
        ),
    ];
    for (name, key, there, elsewhere) in keys {
        let view = FeatureView::builder("v").source("s").key("key").column("x", DataType::Float64);
        let view = view.build().unwrap();
        let columns: [(&str, ArrayRef); 3] = [
            ("key", key),
            ("event_time", instants(vec![Some(0)])),
            ("x", Arc::new(Float64Array::from(vec![1.0]))),
        ];
        let source = MemorySource::new("s", RecordBatch::try_from_iter(columns).unwrap());
        let online = Online::new(Arc::new(MemoryOnlineStore::default()));
        let until = Timestamp::from_nanos(NOW * S);
        online.materialize(&view, &source, until, &Silent).await.unwrap();
        let service = FeatureService::new("s", 1, vec![], vec![view]).unwrap();
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::at(until));
        let app = feature_server(Arc::new(online), vec![service], clock);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, app).await });
        for (asked, found) in [(there, json!([1.0])), (elsewhere, json!([null]))] {
            let body = json!({"features": ["v:x"], "entities": {"key": asked}});
            let (status, reply) = ask(&address, &body).await;
            assert_eq!(status, 200, "{name}: {reply}");
            assert_eq!(reply["results"][1]["values"], found, "{name}: {reply}");
            assert_eq!(reply["results"][0]["values"].as_array().unwrap().len(), 1, "{name}");
        }
        if name == "at" {
            let naive = json!({"features": ["v:x"], "entities": {"key": ["1970-01-01T00:00:01"]}});
            let (status, reply) = ask(&address, &naive).await;
            assert_eq!(status, 422, "{reply}");
        }
    }
}

/// Feast's own client, software that we did not write, asks our server.
#[tokio::test(flavor = "multi_thread")]
async fn feast_gets_its_features() {
    let Some(python) = kaizen_testkit::judge::variable("KAIZEN_FEAST_PYTHON") else { return };
    let address = serve().await;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/judges/feast_online.py");
    let run = move || std::process::Command::new(python).args([script, &address]).output();
    let output = tokio::task::spawn_blocking(run).await.unwrap().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();

    // Feast's numbers of the statuses: 1 present, 2 null, 3 not found, 4 outside the maximal age.
    let column = |values: Value, statuses: Value| json!({"values": values, "statuses": statuses});
    let references = json!({
        "driver_id": column(json!([1, 2, 3, 9]), json!([1, 1, 1, 1])),
        "trips": column(json!([i64::MAX, null, null, null]), json!([1, 2, 4, 3])),
        "rating": column(json!([4.5, null, null, null]), json!([1, 2, 4, 3])),
        "name": column(json!(["ana", null, null, null]), json!([1, 2, 4, 3])),
        "active": column(json!([true, false, null, null]), json!([1, 1, 4, 3])),
    });
    assert_eq!(found["references"], references);
    let service = json!({
        "driver_id": column(json!([1, 9]), json!([1, 1])),
        "trips": column(json!([i64::MAX, null]), json!([1, 3])),
        "rating": column(json!([4.5, null]), json!([1, 3])),
        "name": column(json!(["ana", null]), json!([1, 3])),
        "active": column(json!([true, null]), json!([1, 3])),
    });
    assert_eq!(found["service"], service);
    let full_names = json!({
        "driver_id": column(json!([1, 2]), json!([1, 1])),
        "origin": column(json!(["JFK", "EWR"]), json!([1, 1])),
        "stats__rating": column(json!([4.5, null]), json!([1, 2])),
        "weather__rating": column(json!([3.0, 2.5]), json!([1, 1])),
        "weather__wind": column(json!([10.0, "Infinity"]), json!([1, 1])),
    });
    assert_eq!(found["full_names"], full_names);
    let [first, second, third] = [0, 1, 2].map(|row| found["online_read"][row].clone());
    assert_eq!(first, json!({"trips": i64::MAX, "rating": 4.5, "name": "ana", "active": true}));
    let second = (second["trips"].clone(), second["name"].clone(), second["active"].clone());
    assert_eq!(second, (Value::Null, Value::Null, json!(false)));
    assert_eq!(third, json!({"trips": null, "rating": null, "name": null, "active": null}));
    assert_eq!(found["event_timestamp"], "2025-12-31T23:59:58.500000+00:00");

    let errors = [
        ("no_service", "FeatureServiceNotFoundException", "Feature service none does not exist"),
        ("no_view", "FeatureViewNotFoundException", "Feature view none does not exist"),
        ("collision", "FeatureNameCollisionError", "two features are called rating"),
        ("bad_key", "RuntimeError", "422"),
        ("unequal", "RuntimeError", "`origin` has 2 values, `driver_id` has 1"),
    ];
    for (case, class, part) in errors {
        assert_eq!(found[case][0], class, "{case}: {}", found[case]);
        assert!(found[case][1].as_str().unwrap().contains(part), "{case}: {}", found[case]);
    }
}
