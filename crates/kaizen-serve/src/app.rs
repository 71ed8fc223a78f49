//! The Open Inference Protocol V2 over HTTP.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router as Routes};
use kaizen_core::{Clock, Context, Error, ErrorKind, Result};
use kaizen_table::{PredictionSink, prediction};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::infer::{Answer, Call, infer};
use crate::router::Slots;
use crate::{Router, Servable, tensor};

/// What one request may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The most bytes in a body. 6 MiB unless set, which is what SageMaker passes on.
    pub body_bytes: usize,
    /// The most rows in a request. 10,000 unless set.
    pub rows: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { body_bytes: 6 << 20, rows: 10_000 }
    }
}

/// Up to this many bytes of body a request is answered where it was read: the work is then of the
/// order of the hop to the thread pool for maths. Larger ones go there.
const INLINE_BYTES: usize = 16 << 10;

#[derive(Debug)]
struct Shared {
    router: Arc<Router>,
    sink: Arc<dyn PredictionSink>,
    clock: Arc<dyn Clock>,
    limits: Limits,
    requests: AtomicU64,
}

/// The routes of the protocol, within the default [`Limits`]; see [`app_within`].
pub fn app(
    router: Arc<Router>,
    sink: Arc<dyn PredictionSink>,
    clock: Arc<dyn Clock>,
) -> axum::Router {
    app_within(Limits::default(), router, sink, clock)
}

/// The routes of the protocol, for the releases in `router`.
///
/// Each prediction is written to `sink` before it is answered: if that fails, the answer is 503 and
/// holds no score, because a prediction that nobody logged can be neither checked nor learnt from. A
/// caller that tries again should send the same ids: the failed attempt may stand in the log.
pub fn app_within(
    limits: Limits,
    router: Arc<Router>,
    sink: Arc<dyn PredictionSink>,
    clock: Arc<dyn Clock>,
) -> axum::Router {
    let requests = AtomicU64::new(0);
    Routes::new()
        .route("/v2", get(server))
        .route("/v2/health/live", get(live))
        .route("/v2/health/ready", get(ready))
        .route("/v2/models/{model}", get(metadata))
        .route("/v2/models/{model}/versions/{version}", get(metadata))
        .route("/v2/models/{model}/ready", get(model_ready))
        .route("/v2/models/{model}/versions/{version}/ready", get(model_ready))
        .route("/v2/models/{model}/infer", post(predict))
        .route("/v2/models/{model}/versions/{version}/infer", post(predict))
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .layer(DefaultBodyLimit::max(limits.body_bytes))
        .with_state(Arc::new(Shared { router, sink, clock, limits, requests }))
}

async fn server() -> Json<Value> {
    Json(json!({"name": "kaizen", "version": env!("CARGO_PKG_VERSION"), "extensions": []}))
}

async fn live() -> Json<Value> {
    Json(json!({"live": true}))
}

async fn ready(State(shared): State<Arc<Shared>>) -> (StatusCode, Json<Value>) {
    let ready = shared.router.slots().leading().is_some();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(json!({"ready": ready})))
}

/// The model, and perhaps the version, that a path names.
#[derive(Debug, Deserialize)]
struct Named {
    model: String,
    version: Option<String>,
}

type NamedPath = Result<Path<Named>, PathRejection>;

impl Named {
    /// The release that the path names by its version, if it names one.
    fn pinned(&self, router: &Router, slots: &Slots) -> Result<Option<Arc<Servable>>> {
        if self.model != router.name() {
            return Err(Error::not_found(format!("model `{}`: it is not served here", self.model)));
        }
        let Some(version) = &self.version else { return Ok(None) };
        let found = version.parse().ok().and_then(|version| slots.version(version));
        found.map(|servable| Some(Arc::clone(servable))).context(
            ErrorKind::NotFound,
            format!("model `{}`: version `{version}` is not loaded", self.model),
        )
    }

    /// The release that the path names, or the one that has the most traffic.
    fn servable(&self, router: &Router, slots: &Slots) -> Result<Arc<Servable>> {
        if let Some(servable) = self.pinned(router, slots)? {
            return Ok(servable);
        }
        slots.leading().map(Arc::clone).context(ErrorKind::Unavailable, router.idle())
    }
}

async fn metadata(
    State(shared): State<Arc<Shared>>,
    path: NamedPath,
) -> Result<Json<Value>, Failure> {
    let Path(named) = path?;
    let slots = shared.router.slots();
    let servable = named.servable(&shared.router, &slots)?;
    let versions: Vec<String> = match &named.version {
        Some(_) => vec![servable.release().version.to_string()],
        None => slots.versions().iter().map(u32::to_string).collect(),
    };
    let mut inputs = Vec::new();
    for field in servable.scorer().model().signature.inputs() {
        let datatype = tensor::datatype_of(field.data_type)?;
        inputs.push(json!({"name": field.name, "datatype": datatype, "shape": [-1]}));
    }
    Ok(Json(json!({
        "name": named.model,
        "versions": versions,
        "platform": "kaizen",
        "inputs": inputs,
        "outputs": [{"name": prediction::SCORE, "datatype": "FP64", "shape": [-1]}],
    })))
}

async fn model_ready(
    State(shared): State<Arc<Shared>>,
    path: NamedPath,
) -> Result<Json<Value>, Failure> {
    let Path(named) = path?;
    named.servable(&shared.router, &shared.router.slots())?;
    Ok(Json(json!({"name": named.model, "ready": true})))
}

async fn predict(
    State(shared): State<Arc<Shared>>,
    path: NamedPath,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Failure> {
    let Path(named) = path?;
    let slots = shared.router.slots();
    let pinned = named.pinned(&shared.router, &slots)?;
    refuse_encodings(&headers)?;
    let call = Call {
        router: Arc::clone(&shared.router),
        slots,
        pinned,
        body: body?,
        at: shared.clock.now(),
        number: shared.requests.fetch_add(1, Ordering::Relaxed),
        limits: shared.limits,
    };
    let Answer { response, log } = match call.body.len() {
        ..=INLINE_BYTES => infer(&call)?,
        _ => kaizen_core::compute(move || infer(&call)).await?,
    };
    for rows in &log {
        let written = shared.sink.write(rows).await;
        written.context(ErrorKind::Unavailable, "the predictions could not be logged")?;
    }
    Ok(Json(response).into_response())
}

/// The bodies that we cannot read announce themselves in a header.
fn refuse_encodings(headers: &HeaderMap) -> Result<()> {
    if headers.contains_key("inference-header-content-length") {
        return Err(Error::invalid("request: binary tensors are not supported; send JSON `data`"));
    }
    match headers.get(header::CONTENT_ENCODING) {
        Some(encoding) if encoding != "identity" => {
            Err(Error::invalid(format!("request: content encoding {encoding:?} is not supported")))
        }
        _ => Ok(()),
    }
}

async fn no_route() -> Failure {
    Failure(StatusCode::NOT_FOUND, "no such route".to_owned())
}

async fn no_method() -> Failure {
    Failure(StatusCode::METHOD_NOT_ALLOWED, "this route has no such method".to_owned())
}

/// An error as the protocol wants it: a status and `{"error": "…"}`.
#[derive(Debug)]
struct Failure(StatusCode, String);

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let status = match error.kind() {
            ErrorKind::Invalid | ErrorKind::Unsupported => StatusCode::BAD_REQUEST,
            ErrorKind::NotFound => StatusCode::NOT_FOUND,
            ErrorKind::Limit => StatusCode::PAYLOAD_TOO_LARGE,
            ErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        if status.is_server_error() {
            tracing::warn!(%status, error = format!("{error:#}"), "request failed");
        }
        Self(status, format!("{error:#}"))
    }
}

impl From<BytesRejection> for Failure {
    fn from(rejection: BytesRejection) -> Self {
        let what = match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => "request body: too many bytes".to_owned(),
            _ => format!("request body: {}", rejection.body_text()),
        };
        Self(rejection.status(), what)
    }
}

impl From<PathRejection> for Failure {
    fn from(rejection: PathRejection) -> Self {
        Self(rejection.status(), format!("path: {}", rejection.body_text()))
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (self.0, Json(json!({"error": self.1}))).into_response()
    }
}
