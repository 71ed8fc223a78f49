//! Calls of MLflow's REST API.

use std::fmt;
use std::time::Duration;

use kaizen_core::{Context, Error, ErrorKind, Result};
use reqwest::{Client, Method, StatusCode};
use serde_json::Value;
use url::Url;

/// At most this many bytes in an answer.
const MAX_ANSWER: usize = 16 << 20;
/// At most this many characters of a server's message are passed on.
const MAX_MESSAGE: usize = 500;
/// A call that takes longer is given up.
const TIME_LIMIT: Duration = Duration::from_secs(60);

/// Where the server is, and how to be let in.
#[derive(Clone)]
pub(crate) struct Server {
    base: Url,
    http: Client,
    token: Option<String>,
}

impl Server {
    pub(crate) fn new(url: &str) -> Result<Self> {
        let mut base: Url =
            url.parse().context(ErrorKind::Invalid, format!("MLflow server `{url}`"))?;
        if !["http", "https"].contains(&base.scheme()) || base.host().is_none() {
            return Err(Error::invalid(format!("MLflow server `{url}`: not an HTTP address")));
        }
        if !base.username().is_empty() || base.password().is_some() {
            // It would stand in error messages.
            let message = "MLflow server: its address has a password in it; give a token";
            return Err(Error::invalid(message));
        }
        let path = base.path().trim_end_matches('/').to_owned();
        base.set_path(&format!("{path}/api/2.0/mlflow/"));
        let http = Client::builder()
            .timeout(TIME_LIMIT)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .context(ErrorKind::Internal, "HTTP client")?;
        Ok(Self { base, http, token: None })
    }

    pub(crate) fn with_client(self, http: Client) -> Self {
        Self { http, ..self }
    }

    pub(crate) fn with_token(self, token: String) -> Self {
        Self { token: Some(token), ..self }
    }

    pub(crate) async fn get(&self, path: &str, query: &[(&str, &str)]) -> Result<Value> {
        let mut url = self.url(path)?;
        url.query_pairs_mut().extend_pairs(query);
        self.call(Method::GET, url, None, path).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Result<Value> {
        self.call(Method::POST, self.url(path)?, Some(body), path).await
    }

    fn url(&self, path: &str) -> Result<Url> {
        self.base.join(path).context(ErrorKind::Internal, format!("path `{path}`"))
    }

    async fn call(
        &self,
        method: Method,
        url: Url,
        body: Option<&Value>,
        path: &str,
    ) -> Result<Value> {
        let what = || format!("MLflow server {}, {path}", self.host());
        let mut request = self.http.request(method, url);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        // The error's own text holds the whole address.
        let answer = request.send().await.map_err(reqwest::Error::without_url);
        let mut answer = answer.context(ErrorKind::Unavailable, what())?;
        let status = answer.status();
        let mut bytes = Vec::new();
        while let Some(chunk) = answer
            .chunk()
            .await
            .map_err(reqwest::Error::without_url)
            .context(ErrorKind::Unavailable, what())?
        {
            if bytes.len() + chunk.len() > MAX_ANSWER {
                let message = format!("{}: an answer over {MAX_ANSWER} bytes", what());
                return Err(Error::new(ErrorKind::Limit, message));
            }
            bytes.extend_from_slice(&chunk);
        }
        if status.is_success() {
            return serde_json::from_slice(&bytes)
                .context(ErrorKind::Corrupt, format!("{}: not JSON", what()));
        }
        Err(refusal(&what(), status, &bytes))
    }

    fn host(&self) -> String {
        let host = self.base.host_str().unwrap_or_default();
        self.base.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
    }
}

/// An error that says what the server said, as far as that is fit to print.
fn refusal(what: &str, status: StatusCode, bytes: &[u8]) -> Error {
    let said: Value = serde_json::from_slice(bytes).unwrap_or_default();
    let code = said["error_code"].as_str().unwrap_or_default();
    let kind = match (code, status.as_u16()) {
        ("RESOURCE_DOES_NOT_EXIST", _) | (_, 404) => ErrorKind::NotFound,
        ("RESOURCE_ALREADY_EXISTS", _) => ErrorKind::AlreadyExists,
        (_, 401 | 403) => ErrorKind::Refused,
        (_, 429 | 500..) => ErrorKind::Unavailable,
        _ => ErrorKind::Invalid,
    };
    let message = said["message"].as_str().unwrap_or_default();
    let message: String = message.chars().filter(|c| !c.is_control()).take(MAX_MESSAGE).collect();
    Error::new(kind, format!("{what}: {status} {code} {message}").trim_end().to_owned())
}

/// The token is never shown.
impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("base", &self.base.as_str()).finish_non_exhaustive()
    }
}
