//! Predictions as lines of JSON.

use std::io::{Error, Write};
use std::sync::{Arc, Mutex};

use kaizen_core::ErrorKind;
use kaizen_serve::{JsonLines, Router, Server, app};
use kaizen_table::PredictionSink;
use kaizen_table::arrow::array::{ArrayRef, Int32Array, Int64Array, RecordBatch};
use kaizen_testkit::ManualClock;
use serde_json::{Value, json};

use crate::linear::servable;
use crate::running::{now, request};

#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Error> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> Result<(), Error> {
        Ok(())
    }
}

#[tokio::test]
async fn each_prediction_is_one_line() {
    let out = Shared::default();
    let router = Arc::new(Router::new("late"));
    router.set("blue", servable(1, 0.0)).unwrap();
    router.shift(&[("blue".to_owned(), 1)].into()).unwrap();
    let clock = Arc::new(ManualClock::at(now()));
    let app = app(router, Arc::new(JsonLines::new(out.clone())), clock);
    let server = Server::bind("127.0.0.1:0", app).await.unwrap();
    let mut body = request(&[0.0, 0.5]);
    body["id"] = json!("r");
    body["inputs"][1]["data"] = json!([i64::MAX, null]);
    let url = format!("http://{}/v2/models/late/infer", server.local_addr());
    let client = reqwest::Client::new();
    let response = client.post(url).body(body.to_string()).send().await.unwrap();
    assert_eq!(response.status(), 200);
    let answer: Value = response.json().await.unwrap();

    let text = String::from_utf8(out.0.lock().unwrap().clone()).unwrap();
    assert!(text.ends_with('\n'));
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2);
    let mut expected = json!({
        "prediction_id": "r/0",
        "at": "2013-03-01T12:00:00.000001Z",
        "model": servable(1, 0.0).scorer().id().to_string(),
        "score": answer["outputs"][0]["data"][0],
        "wind": 0.0, "hour": i64::MAX, "holiday": false, "carrier": null,
    });
    assert_eq!(lines[0], expected);
    expected["prediction_id"] = json!("r/1");
    expected["score"] = answer["outputs"][0]["data"][1].clone();
    expected["wind"] = json!(0.5);
    expected["hour"] = Value::Null;
    assert_eq!(lines[1], expected);
}

struct Full;

impl Write for Full {
    fn write(&mut self, _: &[u8]) -> Result<usize, Error> {
        Err(Error::other("pipe closed"))
    }

    fn flush(&mut self) -> Result<(), Error> {
        Ok(())
    }
}

#[tokio::test]
async fn a_line_that_was_not_written_is_an_error() {
    let table = |column: ArrayRef| RecordBatch::try_from_iter([("n", column)]).unwrap();
    let rows = table(Arc::new(Int64Array::from(vec![1])));
    let error = JsonLines::new(Full).write(&rows).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(format!("{error:#}").contains("pipe closed"), "{error:#}");
    let narrow = table(Arc::new(Int32Array::from(vec![1])));
    let error = JsonLines::new(Vec::new()).write(&narrow).await.unwrap_err();
    assert!(error.to_string().contains("column `n`: Int32"), "{error}");
}
