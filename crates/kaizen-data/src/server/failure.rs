//! Errors as clients of Feast's feature server read them.

use axum::Json;
use axum::extract::rejection::BytesRejection;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use kaizen_core::{Error, ErrorKind};
use serde_json::{Value, json};

/// A status and a body: `{"detail": …}`, or an exception of Feast's client as it reads it.
#[derive(Debug)]
pub(super) struct Failure(StatusCode, Value);

impl Failure {
    fn detail(status: StatusCode, detail: impl Into<String>) -> Self {
        Self(status, json!({"detail": detail.into()}))
    }

    /// An exception that Feast's client raises by its name. It is a text that holds JSON.
    fn exception(status: StatusCode, class: &str, message: &str) -> Self {
        let body = json!({"module": "feast.errors", "class": class, "message": message});
        Self(status, Value::String(body.to_string()))
    }

    /// The body is no JSON.
    pub(super) fn no_json(error: &serde_json::Error) -> Self {
        Self::detail(StatusCode::BAD_REQUEST, format!("request body: no JSON: {error}"))
    }

    /// The request does not mean anything.
    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::detail(StatusCode::UNPROCESSABLE_ENTITY, message)
    }

    /// There is no such service.
    pub(super) fn no_service(name: &str) -> Self {
        let message = format!("Feature service {name} does not exist");
        Self::exception(StatusCode::NOT_FOUND, "FeatureServiceNotFoundException", &message)
    }

    /// There is no such view.
    pub(super) fn no_view(name: &str) -> Self {
        let message = format!("Feature view {name} does not exist");
        Self::exception(StatusCode::NOT_FOUND, "FeatureViewNotFoundException", &message)
    }

    /// The view, or this definition of it, is not online yet.
    pub(super) fn not_materialised(view: &str) -> Self {
        let detail = format!("view `{view}`: it was never materialised online as it is defined");
        Self::detail(StatusCode::SERVICE_UNAVAILABLE, detail)
    }

    /// The view has no such feature.
    pub(super) fn no_feature(view: &str, feature: &str) -> Self {
        Self::detail(
            StatusCode::NOT_FOUND,
            format!("feature view `{view}`: it has no feature `{feature}`"),
        )
    }

    /// What is no `view:feature`.
    pub(super) fn bad_reference(reference: &str) -> Self {
        Self::invalid(format!("feature `{reference}`: it is not of the form `view:feature`"))
    }

    /// A column that the service takes from its caller is missing.
    pub(super) fn no_request_column(name: &str) -> Self {
        let message = format!("column {name}, which the caller brings, is not among the entities");
        let class = "RequestDataNotFoundInEntityRowsException";
        Self::exception(StatusCode::NOT_FOUND, class, &message)
    }

    /// Two features would be shown under one name.
    pub(super) fn collision(name: &str, full_feature_names: bool) -> Self {
        let hint = if full_feature_names { "" } else { "; ask with full_feature_names" };
        let message = format!("two features are called {name}{hint}");
        Self::exception(StatusCode::UNPROCESSABLE_ENTITY, "FeatureNameCollisionError", &message)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let status = match error.kind() {
            ErrorKind::Invalid | ErrorKind::Unsupported | ErrorKind::Limit => {
                StatusCode::UNPROCESSABLE_ENTITY
            }
            // What a request names is found before.
            ErrorKind::NotFound | ErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        if status.is_server_error() {
            tracing::warn!(%status, error = format!("{error:#}"), "request failed");
        }
        // What a client cannot change is for the log alone: it may name paths, addresses and parts
        // of the store.
        let detail = match (status, error.kind()) {
            (StatusCode::SERVICE_UNAVAILABLE, _) => "the online store is unavailable".to_owned(),
            (StatusCode::INTERNAL_SERVER_ERROR, _) => "internal error".to_owned(),
            _ => format!("{error:#}"),
        };
        Self::detail(status, detail)
    }
}

impl From<BytesRejection> for Failure {
    fn from(rejection: BytesRejection) -> Self {
        let detail = match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => "request body: too many bytes".to_owned(),
            _ => format!("request body: {}", rejection.body_text()),
        };
        Self::detail(rejection.status(), detail)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (self.0, Json(self.1)).into_response()
    }
}
