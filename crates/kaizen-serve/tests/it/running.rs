//! A server that runs, what it logged, and how it stops.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use kaizen_core::{Error, ErrorKind, Result, Timestamp, async_trait};
use kaizen_serve::{Limits, Router, Servable, Server, app_within};
use kaizen_table::PredictionSink;
use kaizen_table::arrow::array::RecordBatch;
use kaizen_testkit::ManualClock;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::linear::{NAME, servable};

/// Keeps what is written; may fail, and may keep a writer waiting.
#[derive(Debug)]
pub(crate) struct Sink {
    pub(crate) rows: Mutex<Vec<RecordBatch>>,
    pub(crate) full: Mutex<bool>,
    pub(crate) gate: Semaphore,
    /// One permit for each write that has begun.
    pub(crate) begun: Semaphore,
}

impl Sink {
    pub(crate) fn open() -> Arc<Self> {
        Self::with_gate(Semaphore::MAX_PERMITS)
    }

    /// Each write waits for a permit at the gate.
    pub(crate) fn closed() -> Arc<Self> {
        Self::with_gate(0)
    }

    fn with_gate(permits: usize) -> Arc<Self> {
        Arc::new(Self {
            rows: Mutex::default(),
            full: Mutex::default(),
            gate: Semaphore::new(permits),
            begun: Semaphore::new(0),
        })
    }

    pub(crate) fn take(&self) -> Vec<RecordBatch> {
        std::mem::take(&mut self.rows.lock().unwrap())
    }
}

#[async_trait]
impl PredictionSink for Sink {
    async fn write(&self, rows: &RecordBatch) -> Result<()> {
        self.begun.add_permits(1);
        self.gate.acquire().await.unwrap().forget();
        if *self.full.lock().unwrap() {
            return Err(Error::new(ErrorKind::Unavailable, "disk full"));
        }
        self.rows.lock().unwrap().push(rows.clone());
        Ok(())
    }
}

pub(crate) fn now() -> Timestamp {
    "2013-03-01T12:00:00.000001Z".parse().unwrap()
}

pub(crate) struct Running {
    pub(crate) router: Arc<Router>,
    pub(crate) sink: Arc<Sink>,
    pub(crate) server: Server,
    pub(crate) client: reqwest::Client,
}

impl Running {
    /// A server of these slots: name, version, bias, weight.
    pub(crate) async fn of(slots: &[(&str, u32, f64, u32)]) -> Self {
        let slots: Vec<_> = slots
            .iter()
            .map(|(slot, version, bias, w)| (*slot, servable(*version, *bias), *w))
            .collect();
        Self::with(&slots, Sink::open(), Limits::default()).await
    }

    pub(crate) async fn with(
        slots: &[(&str, Arc<Servable>, u32)],
        sink: Arc<Sink>,
        limits: Limits,
    ) -> Self {
        let router = Arc::new(Router::new(NAME));
        for (slot, servable, _) in slots {
            router.set(slot, Arc::clone(servable)).unwrap();
        }
        let weights: BTreeMap<_, _> =
            slots.iter().map(|(slot, _, weight)| ((*slot).to_owned(), *weight)).collect();
        if weights.values().any(|weight| *weight > 0) {
            router.shift(&weights).unwrap();
        }
        let clock = Arc::new(ManualClock::at(now()));
        let app = app_within(limits, Arc::clone(&router), Arc::clone(&sink) as _, clock);
        let server = Server::bind("127.0.0.1:0", app).await.unwrap();
        Self { router, sink, server, client: reqwest::Client::new() }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.server.local_addr())
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, Value) {
        let response = self.client.get(self.url(path)).send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }

    pub(crate) async fn post(&self, path: &str, body: impl Into<reqwest::Body>) -> (u16, Value) {
        let response = self.client.post(self.url(path)).body(body).send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }

    pub(crate) async fn infer(&self, body: &Value) -> (u16, Value) {
        self.post("/v2/models/late/infer", body.to_string()).await
    }
}

/// A request of one row per element of `wind`.
pub(crate) fn request(wind: &[f64]) -> Value {
    let rows = wind.len();
    json!({"inputs": [
        {"name": "wind", "shape": [rows], "datatype": "FP64", "data": wind},
        {"name": "hour", "shape": [rows], "datatype": "INT64", "data": vec![Value::Null; rows]},
        {"name": "holiday", "shape": [rows], "datatype": "BOOL", "data": vec![false; rows]},
        {"name": "carrier", "shape": [rows], "datatype": "BYTES", "data": vec![Value::Null; rows]},
    ]})
}

/// What the model of this bias answers to that.
pub(crate) fn score(bias: f64, wind: f64) -> f64 {
    1.0 / (1.0 + (-(bias + wind)).exp())
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_drains_what_is_in_flight() {
    let sink = Sink::closed();
    let running = Running::with(&[("blue", servable(1, 0.0), 1)], sink, Limits::default()).await;
    let url = running.url("/v2/models/late/infer");
    let sending = running.client.post(&url).body(request(&[0.0]).to_string()).send();
    let sending = tokio::spawn(sending);
    running.sink.begun.acquire().await.unwrap().forget();
    let addr = running.server.local_addr();
    let stopping = tokio::spawn(running.server.shutdown());
    // No new connection is served any more.
    while tokio::net::TcpStream::connect(addr).await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert!(!stopping.is_finished(), "a request is still in flight");
    running.sink.gate.add_permits(1);
    let response = sending.await.unwrap().unwrap();
    assert_eq!(response.status(), 200);
    stopping.await.unwrap().unwrap();
    assert_eq!(running.sink.take().len(), 1);
}

#[tokio::test]
async fn a_server_says_which_address_it_could_not_bind() {
    let running = Running::of(&[]).await;
    let taken = running.server.local_addr();
    let error = Server::bind(taken, axum::Router::new()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains(&taken.port().to_string()), "{error}");
}

#[tokio::test]
async fn serve_until_waits_for_its_signal() {
    let running = Running::of(&[("blue", 1, 0.0, 1)]).await;
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let url = running.url("/v2/health/ready");
    let serving = tokio::spawn(running.server.serve_until(async move {
        stopped.await.unwrap();
    }));
    assert_eq!(running.client.get(&url).send().await.unwrap().status(), 200);
    stop.send(()).unwrap();
    serving.await.unwrap().unwrap();
    assert!(reqwest::get(&url).await.is_err());
}
