//! Those who ask: over HTTP with features from the online store, or, for the policies that are only
//! compared with, in process with features joined offline.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use kaizen::arrow::array::AsArray;
use kaizen::arrow::datatypes::{Float64Type, Int64Type};
use kaizen::core::{Clock, Context, Silent};
use kaizen::data::RedbOnlineStore;
use kaizen::prelude::*;
use kaizen::serve::{Server, app};
use kaizen::table::{RecordBatch, column, prediction};
use serde_json::{Value, json};

use super::host::Host;
use super::question::{MODEL, TIME, days, service};
use super::world::World;

/// How a day's requests are answered.
pub enum Caller {
    InProcess,
    Http(Box<HttpCaller>),
}

/// A client of the model server, with an online store at its side.
pub struct HttpCaller {
    server: Server,
    client: reqwest::Client,
    online: Online,
    service: FeatureService,
    clock: Arc<ReplayClock>,
    /// For how many flights the online store gave the features of the offline join, and of how many.
    pub agreed: usize,
    pub asked: usize,
}

/// The clock of the replay: it stands at the start of the batch that is being replayed.
#[derive(Debug, Default)]
struct ReplayClock(AtomicI64);

impl Clock for ReplayClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.0.load(Ordering::Relaxed))
    }
}

impl HttpCaller {
    /// Serves the host's router on a free port of the loopback interface.
    pub async fn start(host: &Host, dir: &Path) -> Result<Self> {
        let clock = Arc::new(ReplayClock::default());
        let app = app(host.router.clone(), host.predictions.clone(), clock.clone());
        let store = RedbOnlineStore::open(dir.join("online.redb")).await?;
        Ok(Self {
            server: Server::bind("127.0.0.1:0", app).await?,
            client: reqwest::Client::new(),
            online: Online::new(Arc::new(store)).keep_seconds(25 * 3600),
            service: service()?,
            clock,
            agreed: 0,
            asked: 0,
        })
    }

    /// Where the server listens.
    pub fn url(&self) -> String {
        format!("http://{}", self.server.local_addr())
    }

    /// Answers what is in flight and stops.
    pub async fn stop(self) -> Result<()> {
        self.server.shutdown().await
    }

    async fn answer(&mut self, world: &World, day: i64, rows: Range<usize>) -> Result<Vec<f64>> {
        // A real host materialises every few minutes. Here it is done once a day, ahead, and a day
        // is kept: a look-up is made as of its own minute and sees nothing that became known later.
        for view in self.service.views() {
            let source = world.sources.iter().find(|source| source.name() == view.source());
            let source = source.context(ErrorKind::Internal, view.source())?;
            self.online.materialize(view, source.as_ref(), days().start(day + 1), &Silent).await?;
        }
        let mut scores = Vec::with_capacity(rows.len());
        for (start, rows) in world.batches(rows) {
            // A batch may begin before the day does; its answers belong to the day.
            let now = start.max(days().start(day));
            self.clock.0.store(now.micros(), Ordering::Relaxed);
            let offline = world.rows.slice(rows.start, rows.len());
            let request = offline
                .project(&self.request_columns(&offline)?)
                .context(ErrorKind::Internal, "request columns")?;
            let online = self.online.features(&self.service, &request, TIME).await?;
            self.compare(&online, &offline)?;
            scores.extend(self.infer(&online).await?);
        }
        Ok(scores)
    }

    /// The columns that a caller knows by itself: keys, instant and schedule.
    fn request_columns(&self, rows: &RecordBatch) -> Result<Vec<usize>> {
        let schema = rows.schema();
        let keys = ["flight_id", "tailnum", TIME];
        let own = self.service.request().iter().map(|field| field.name.as_str());
        let index = |name| schema.index_of(name).context(ErrorKind::Internal, name);
        keys.into_iter().chain(own).map(index).collect()
    }

    fn compare(&mut self, online: &RecordBatch, offline: &RecordBatch) -> Result<()> {
        self.asked += online.num_rows();
        let mut equal = true;
        for field in self.service.columns() {
            let (a, b) = (column(online, &field.name)?, column(offline, &field.name)?);
            equal &= a == b;
        }
        self.agreed += if equal { online.num_rows() } else { 0 };
        Ok(())
    }

    async fn infer(&self, rows: &RecordBatch) -> Result<Vec<f64>> {
        let mut inputs = Vec::new();
        for field in self.service.columns() {
            let (kind, data) = tensor(rows, &field)?;
            inputs.push(json!({
                "name": field.name, "datatype": kind, "shape": [rows.num_rows()], "data": data,
            }));
        }
        let ids = column(rows, "flight_id")?.as_primitive::<Int64Type>();
        let ids: Vec<String> = ids.values().iter().map(i64::to_string).collect();
        inputs.push(json!({
            "name": prediction::ID, "datatype": "BYTES", "shape": [ids.len()], "data": ids,
        }));
        let url = format!("{}/v2/models/{MODEL}/infer", self.url());
        let call = self.client.post(url).json(&json!({ "inputs": inputs })).send();
        let answer = call.await.context(ErrorKind::Unavailable, "infer")?;
        let status = answer.status();
        let body: Value = answer.json().await.context(ErrorKind::Invalid, "infer: its answer")?;
        if !status.is_success() {
            return Err(Error::internal(format!("infer: {status}: {}", body["error"])));
        }
        let scores = body["outputs"][0]["data"].as_array();
        let scores = scores.context(ErrorKind::Internal, "infer: no scores")?;
        Ok(scores.iter().filter_map(Value::as_f64).collect())
    }
}

impl Caller {
    /// The score of each of these requests.
    pub async fn answer(
        &mut self,
        host: &Host,
        world: &World,
        day: i64,
        rows: Range<usize>,
    ) -> Result<Vec<f64>> {
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        match self {
            Self::InProcess => {
                let serving = host.router.pick("any")?;
                Ok(serving.scorer().score(&world.rows.slice(rows.start, rows.len()))?.to_vec())
            }
            Self::Http(caller) => caller.answer(world, day, rows).await,
        }
    }
}

/// A column as a tensor of the Open Inference Protocol.
fn tensor(rows: &RecordBatch, field: &Field) -> Result<(&'static str, Vec<Value>)> {
    let values = column(rows, &field.name)?;
    Ok(match field.data_type {
        DataType::Utf8 => {
            let texts = kaizen::table::texts(rows, &field.name)?;
            ("BYTES", texts.iter().map(|text| json!(text)).collect())
        }
        DataType::Int64 => {
            let numbers =
                kaizen::arrow::compute::cast(values, &kaizen::arrow::datatypes::DataType::Int64)
                    .context(ErrorKind::Invalid, &field.name)?;
            ("INT64", numbers.as_primitive::<Int64Type>().iter().map(|n| json!(n)).collect())
        }
        _ => ("FP64", values.as_primitive::<Float64Type>().iter().map(|n| json!(n)).collect()),
    })
}
