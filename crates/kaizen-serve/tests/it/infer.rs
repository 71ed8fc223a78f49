//! Requests for scores: what is answered, what is logged, what is refused.

use kaizen_serve::Limits;
use kaizen_table::arrow::array::{Array, AsArray};
use kaizen_table::arrow::datatypes::{Int64Type, TimestampNanosecondType};
use kaizen_table::{arrow_type, prediction};
use serde_json::{Value, json};

use crate::linear::{servable, signature};
use crate::running::{Running, Sink, now, request, score};

#[tokio::test]
async fn scores_come_in_the_order_of_the_rows_and_are_logged() {
    let running = Running::of(&[("blue", 3, 0.5, 1)]).await;
    // Inputs in another order than the signature's, nested and flat, with missing values.
    let body = json!({
        "id": "call-7",
        "inputs": [
            {"name": "carrier", "shape": [3, 1], "datatype": "BYTES", "data": [[null], [null], [null]]},
            {"name": "hour", "shape": [3], "datatype": "INT32", "data": [1, -2, null]},
            {"name": "holiday", "shape": [3, 1], "datatype": "BOOL", "data": [true, false, null]},
            {"name": "wind", "shape": [3], "datatype": "FP32", "data": [0.1, null, 2]},
        ],
        "outputs": [{"name": "score", "parameters": {"binary_data": true}}],
        "parameters": {"ignored": true},
    });
    let (status, answer) = running.infer(&body).await;
    assert_eq!(status, 200, "{answer}");
    let sums = [f64::from(0.1_f32) + 1.0 + 1.0, -2.0 + 0.0, 2.0];
    let expected: Vec<f64> = sums.iter().map(|sum| score(0.5, *sum)).collect();
    let release = servable(3, 0.5);
    assert_eq!(
        answer,
        json!({
            "model_name": "late",
            "model_version": "3",
            "id": "call-7",
            "parameters": {"versions": "3", "releases": release.id().to_string()},
            "outputs": [{"name": "score", "datatype": "FP64", "shape": [3], "data": expected}],
        })
    );

    let [rows] = &running.sink.take()[..] else { panic!("one table is logged") };
    let schema = rows.schema();
    let names: Vec<_> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    assert_eq!(
        names,
        ["prediction_id", "at", "model", "score", "wind", "hour", "holiday", "carrier"]
    );
    for field in signature().inputs() {
        let column = rows.column_by_name(&field.name).unwrap();
        assert_eq!(*column.data_type(), arrow_type(field.data_type).unwrap());
    }
    let ids = kaizen_table::texts(rows, prediction::ID).unwrap();
    assert_eq!(ids.iter().flatten().collect::<Vec<_>>(), ["call-7/0", "call-7/1", "call-7/2"]);
    let at = kaizen_table::instants(rows, prediction::AT).unwrap();
    assert_eq!(at.values(), &[now().nanos().unwrap(); 3]);
    assert_eq!(
        rows.column_by_name(prediction::AT)
            .unwrap()
            .as_primitive::<TimestampNanosecondType>()
            .timezone(),
        Some("UTC")
    );
    let models = kaizen_table::texts(rows, prediction::MODEL).unwrap();
    assert_eq!(models.value(0), release.scorer().id().to_string());
    let scores = kaizen_table::numbers(rows, prediction::SCORE).unwrap();
    assert_eq!(scores.values(), &expected[..]);
    let hours = rows.column_by_name("hour").unwrap().as_primitive::<Int64Type>();
    assert_eq!((hours.value(1), hours.null_count()), (-2, 1));
}

#[tokio::test]
async fn predictions_are_named_by_the_caller_or_by_us() {
    let running = Running::of(&[("blue", 1, 0.0, 1)]).await;
    let mut body = request(&[1.0, 2.0]);
    body["inputs"].as_array_mut().unwrap().push(json!(
        {"name": "prediction_id", "shape": [2], "datatype": "BYTES", "data": ["a", "b"]}
    ));
    assert_eq!(running.infer(&body).await.0, 200);
    let rows = running.sink.take();
    let ids = kaizen_table::texts(&rows[0], prediction::ID).unwrap();
    assert_eq!(ids.iter().flatten().collect::<Vec<_>>(), ["a", "b"]);

    // The same request twice, without an id: two ids, and the answer tells them.
    let mut seen = Vec::new();
    for _ in 0..2 {
        let (_, answer) = running.infer(&request(&[1.0])).await;
        let rows = running.sink.take();
        let id = kaizen_table::texts(&rows[0], prediction::ID).unwrap().value(0).to_owned();
        assert_eq!(id, format!("{}/0", answer["id"].as_str().unwrap()));
        seen.push(id);
    }
    assert_ne!(seen[0], seen[1]);
}

/// Changes a good request of two rows and asks it.
async fn refusal(running: &Running, change: impl Fn(&mut Vec<Value>)) -> (u16, String) {
    let mut body = request(&[1.0, 2.0]);
    change(body["inputs"].as_array_mut().unwrap());
    let (status, answer) = running.infer(&body).await;
    assert_eq!(answer.as_object().unwrap().len(), 1, "{answer}");
    (status, answer["error"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn a_refusal_names_the_tensor() {
    let running = Running::of(&[("blue", 1, 0.0, 1)]).await;
    let ids = |data: Value| json!({"name": "prediction_id", "shape": [2], "datatype": "BYTES", "data": data});
    type Change<'a> = Box<dyn Fn(&mut Vec<Value>) + 'a>;
    let set = |key: &'static str, value: Value| -> Change<'_> {
        Box::new(move |inputs| inputs[0][key] = value.clone())
    };
    let push =
        |tensor: Value| -> Change<'_> { Box::new(move |inputs| inputs.push(tensor.clone())) };
    let cases: Vec<(Change<'_>, &str)> = vec![
        (Box::new(|inputs| drop(inputs.remove(0))), "input `wind`: it is missing"),
        (Box::new(|inputs| inputs.clear()), "it has no inputs"),
        (Box::new(|inputs| inputs.push(inputs[0].clone())), "input `wind`: it stands twice"),
        (set("name", json!("wnd")), "input `wnd`: the model takes no such input"),
        (set("datatype", json!("BYTES")), "input `wind`: datatype `BYTES`, not FP64"),
        (set("datatype", json!("FP8")), "input `wind`: datatype `FP8`, not FP64"),
        (set("data", json!([1.0])), "input `wind`: 1 values for a shape of 2 rows"),
        (set("data", Value::Null), "input `wind`: it has no `data`"),
        (set("data", json!([1.0, "x"])), "input `wind`: row 1 holds \"x\", which is not FP64"),
        (set("data", json!([1.0, true])), "input `wind`: row 1 holds true, which is not FP64"),
        (set("data", json!([[1.0], [2.0]])), "input `wind`: row 0 holds [1.0]"),
        (set("shape", json!([2, 2])), "input `wind`: shape [2, 2]"),
        (set("shape", json!([u64::MAX])), "input `wind`: 2 values for a shape of"),
        (Box::new(|inputs| inputs[1]["data"][0] = json!(1.5)), "input `hour`: row 0 holds 1.5"),
        (
            Box::new(|inputs| {
                inputs[1]["data"] = json!([1]);
                inputs[1]["shape"] = json!([1]);
            }),
            "input `hour`: 1 rows, but `wind` has 2",
        ),
        (
            push(json!({"name": "x", "shape": [2], "datatype": "FP64", "data": [1, 2]})),
            "input `x`: the model takes no such input",
        ),
        (push(ids(json!(["a", "a"]))), "input `prediction_id`: row 1 repeats `a`"),
        (push(ids(json!(["a", null]))), "input `prediction_id`: row 1 holds null"),
        (push(ids(json!(["", "b"]))), "input `prediction_id`: row 0: 0 bytes"),
        (push(ids(json!(["a", "b".repeat(257)]))), "input `prediction_id`: row 1: 257 bytes"),
    ];
    for (change, expected) in cases {
        let (status, error) = refusal(&running, change).await;
        assert_eq!(status, 400, "{error}");
        assert!(error.contains(expected), "`{error}` lacks `{expected}`");
    }
    assert!(running.sink.take().is_empty(), "what was refused is not logged");
}

#[tokio::test]
async fn a_body_that_is_no_request_is_refused() {
    let running = Running::of(&[("blue", 1, 0.0, 1)]).await;
    let mut other_output = request(&[1.0]);
    other_output["outputs"] = json!([{"name": "logits"}]);
    let mut long_id = request(&[1.0]);
    long_id["id"] = json!("x".repeat(300));
    for (body, expected) in [
        (String::new(), "request body"),
        ("[]".to_owned(), "request body"),
        (r#"{"inputs": [{"name": "wind"}]}"#.to_owned(), "missing field `shape`"),
        // What Python writes for a missing number, which is no JSON.
        (request(&[1.5]).to_string().replace("1.5", "NaN"), "request body"),
        (format!("{}{}", "[".repeat(100_000), "]".repeat(100_000)), "request body"),
        (json!({"inputs": []}).to_string(), "it has no inputs"),
        (request(&[]).to_string(), "input `wind`: it has no rows"),
        (other_output.to_string(), "output `logits`"),
        (long_id.to_string(), "request `id`: 300 bytes"),
    ] {
        let (status, answer) = running.post("/v2/models/late/infer", body).await;
        let error = answer["error"].as_str().unwrap();
        assert_eq!(status, 400, "{error}");
        assert!(error.contains(expected), "`{error}` lacks `{expected}`");
    }
}

#[tokio::test]
async fn requests_have_limits() {
    let limits = Limits { body_bytes: 2_000, rows: 3 };
    let slots = [("blue", servable(1, 0.0), 1)];
    let running = Running::with(&slots, Sink::open(), limits).await;
    assert_eq!(running.infer(&request(&[1.0; 3])).await.0, 200);
    let (status, answer) = running.infer(&request(&[1.0; 4])).await;
    assert_eq!(
        (status, &answer["error"]),
        (413, &json!("input `wind`: 4 rows, at most 3 in a request"))
    );
    let (status, answer) = running.infer(&request(&[1.0; 200])).await;
    assert_eq!((status, &answer["error"]), (413, &json!("request body: too many bytes")));
}

#[tokio::test]
async fn encodings_that_are_not_read_are_refused_by_name() {
    let running = Running::of(&[("blue", 1, 0.0, 1)]).await;
    for (header, value, expected) in [
        ("Inference-Header-Content-Length", "90", "binary tensors are not supported"),
        ("Content-Encoding", "gzip", "gzip"),
    ] {
        let url = running.url("/v2/models/late/infer");
        let body = request(&[1.0]).to_string();
        let response = running.client.post(url).header(header, value).body(body).send().await;
        let response = response.unwrap();
        assert_eq!(response.status(), 400);
        let answer: Value = response.json().await.unwrap();
        assert!(answer["error"].as_str().unwrap().contains(expected), "{answer}");
    }
}

#[tokio::test]
async fn what_could_not_be_logged_is_not_answered() {
    let running = Running::of(&[("blue", 1, 0.0, 1)]).await;
    *running.sink.full.lock().unwrap() = true;
    let (status, answer) = running.infer(&request(&[1.0])).await;
    assert_eq!(status, 503);
    assert_eq!(answer, json!({"error": "the predictions could not be logged: disk full"}));
    *running.sink.full.lock().unwrap() = false;
    assert_eq!(running.infer(&request(&[1.0])).await.0, 200);
}

#[tokio::test]
async fn large_requests_answer_the_same_as_small_ones() {
    let running = Running::of(&[("blue", 1, 0.25, 1)]).await;
    let wind: Vec<f64> = (0..5_000).map(|row| f64::from(row) / 1_000.0 - 2.5).collect();
    let body = request(&wind);
    assert!(body.to_string().len() > 16 << 10, "it goes to the thread pool");
    let (status, answer) = running.infer(&body).await;
    assert_eq!(status, 200);
    let expected: Vec<f64> = wind.iter().map(|wind| score(0.25, *wind)).collect();
    // Bit for bit: the digits in JSON are those of the float.
    assert_eq!(answer["outputs"][0]["data"], json!(expected));
    let (_, one) = running.infer(&request(&wind[77..78])).await;
    assert_eq!(one["outputs"][0]["data"][0], answer["outputs"][0]["data"][77]);
}
