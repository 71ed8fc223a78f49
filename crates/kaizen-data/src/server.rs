//! Features over HTTP, for clients of Feast's feature server.

mod catalogue;
mod failure;
mod reply;
mod request;

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, TimestampNanosecondArray};
use arrow::datatypes::{Field, Schema};
use axum::Json;
use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use kaizen_core::{Clock, Context, ErrorKind};
use kaizen_table::FeatureService;

use crate::{Answer, Online};
use catalogue::{Catalogue, Wanted};
use failure::Failure;
use reply::Reply;
use request::{Entities, Request};

/// At most this many bytes in a request.
const MAX_BODY: usize = 8 << 20;

/// Routes that answer as Feast's feature server does, for a host to nest in its own.
///
/// * `POST /get-online-features`: the features of a `feature_service`, or those listed under
///   `features` as `view:feature`, of the `entities`, whose columns are lists of equal length. Columns
///   that a service takes from its caller stand among the entities.
/// * `GET /health`: 200 while it runs.
///
/// Keys and request columns are read in the types that the views and the service have; integers may
/// be written as text, and keys that JSON has no type for are: instants in RFC 3339, bytes in
/// Base64. The answer has a column for each key and then for each feature: its values, for each value
/// a status, and the event time of the row that it is of, rounded down to microseconds. The status is
/// `PRESENT` where there is a value; else `NULL_VALUE` if the entity's row has none,
/// `OUTSIDE_MAX_AGE` if the row is older than the TTL, and `NOT_FOUND` if there is no row. What is
/// computed on demand, and keys, have no event time: it is 1970. NaN is a missing value, as it is to
/// Feast; the infinities are the texts `Infinity` and `-Infinity`.
///
/// `feature_service` names the service's highest version. A view that several services define
/// differently is that of the first of them under `features`; so is a function, under its own name.
///
/// What is wrong with a request is answered with 400 (no JSON), 404 (no such service or view, or a
/// request column is missing), 413 (over 8 MiB) or 422 (anything else, such as lists of unequal
/// length, over 10,000 entities, over 1,000 columns or over 1,000 features); a view that was never
/// materialised with 503. So is a store that does not answer, and any other failure with 500: a
/// client is not told why, the host's log is. The body is `{"detail": …}`, and where Feast's client has an exception of its own for it, that exception in
/// the form in which the client reads it.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> kaizen_core::Result<()> {
/// use std::sync::Arc;
///
/// use axum::Router;
/// use axum::routing::get;
/// use kaizen_core::{DataType, SystemClock};
/// use kaizen_data::{MemoryOnlineStore, Online, feature_server};
/// use kaizen_table::{FeatureService, FeatureView};
///
/// let online = Online::new(Arc::new(MemoryOnlineStore::default()));
/// let drivers = FeatureView::builder("drivers")
///     .source("trips")
///     .key("driver_id")
///     .column("rating", DataType::Float64)
///     .build()?;
/// let service = FeatureService::new("dispatch", 1, vec![], vec![drivers])?;
/// let features = feature_server(Arc::new(online), vec![service], Arc::new(SystemClock));
///
/// // The host's own routes, and Feast's beside them: `POST /features/get-online-features`.
/// let app: Router = Router::new().route("/", get(|| async { "host" })).nest("/features", features);
/// # drop(app);
/// # Ok(())
/// # }
/// ```
pub fn feature_server(
    online: Arc<Online>,
    services: Vec<FeatureService>,
    clock: Arc<dyn Clock>,
) -> Router {
    let shared = Shared { online, catalogue: Catalogue::new(services), clock };
    Router::new()
        .route("/get-online-features", post(features))
        .route("/health", get(|| async { StatusCode::OK }))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(Arc::new(shared))
}

/// A name for the column of instants that no other column has.
fn free_name(service: &FeatureService, columns: &[(String, ArrayRef)]) -> String {
    let features = service.columns();
    let taken: Vec<&String> = features.iter().map(|field| &field.name).collect();
    let mut name = "asked_at".to_owned();
    while taken.contains(&&name) || columns.iter().any(|(other, _)| *other == name) {
        name.push('_');
    }
    name
}

#[derive(Debug)]
struct Shared {
    online: Arc<Online>,
    catalogue: Catalogue,
    clock: Arc<dyn Clock>,
}

async fn features(
    State(shared): State<Arc<Shared>>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Reply>, Failure> {
    let request = Request::parse(&body?)?;
    let wanted = shared.catalogue.resolve(&request)?;
    let now = shared.clock.now().nanos()?;
    let mut answers = Vec::with_capacity(wanted.services.len());
    for service in &wanted.services {
        answers.push(shared.answer(service, &request.entities, now).await?);
    }
    Shared::reply(&request, &wanted, &answers)
}

impl Shared {
    /// Asks for all features of a service, as of `now`.
    async fn answer(
        &self,
        service: &FeatureService,
        entities: &Entities,
        now: i64,
    ) -> Result<Answer, Failure> {
        let rows = entities.rows();
        let mut columns: Vec<(String, ArrayRef)> = Vec::new();
        for view in service.views() {
            let types = self.online.key_types(view).await.map_err(|error| match error.kind() {
                ErrorKind::NotFound => Failure::not_materialised(view.name()),
                _ => Failure::from(error),
            })?;
            for (key, data_type) in types.typed_columns() {
                if columns.iter().all(|(name, _)| name != key) {
                    columns.push((key.clone(), entities.key(key, data_type, view.name())?));
                }
            }
        }
        for field in service.request() {
            if columns.iter().all(|(name, _)| *name != field.name) {
                let values = entities.request_column(field)?;
                columns.push((field.name.clone(), values));
            }
        }
        let time = free_name(service, &columns);
        let instants = TimestampNanosecondArray::from(vec![now; rows]).with_timezone("UTC");
        columns.push((time.clone(), Arc::new(instants)));
        let field = |(name, values): &(String, ArrayRef)| {
            Field::new(name, values.data_type().clone(), true)
        };
        let schema = Schema::new(columns.iter().map(field).collect::<Vec<_>>());
        let columns = columns.into_iter().map(|(_, values)| values).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = RecordBatch::try_new_with_options(Arc::new(schema), columns, &options)
            .context(ErrorKind::Internal, "the request as a table")?;
        Ok(self.online.answer(service, &batch, &time).await?)
    }

    /// The key columns in the request's order, and then the features that were asked for.
    fn reply(
        request: &Request,
        wanted: &Wanted,
        answers: &[Answer],
    ) -> Result<Json<Reply>, Failure> {
        let mut reply = Reply::default();
        for name in request.entities.names() {
            let is_key = |service: &Arc<FeatureService>| {
                service.views().iter().any(|view| view.keys().contains(name))
            };
            if let Some(place) = wanted.services.iter().position(is_key) {
                reply.key(name, &answers[place].rows, &request.entities)?;
            }
        }
        for feature in &wanted.features {
            let answer = &answers[feature.service];
            reply.feature(&feature.shown, &feature.column, &feature.view, answer)?;
        }
        Ok(Json(reply))
    }
}
