//! Calls of MLflow's REST API.

use std::fmt;
use std::time::Duration;

use kaizen_core::{Context, Error, ErrorKind, Result, one_line};
use reqwest::{Client, Method, StatusCode};
use serde_json::Value;
use url::{Host, Url};

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
    /// Whether the host brought the client.
    is_host_client: bool,
    token: Option<String>,
    in_the_clear: bool,
}

impl Server {
    /// The address is shown in no error: what was meant as a password may stand anywhere in it.
    pub(crate) fn new(url: &str) -> Result<Self> {
        let bad = |why: &str| Err(Error::invalid(format!("address of the MLflow server: {why}")));
        let Ok(mut base) = url.parse::<Url>() else {
            return bad("it is none, such as `http://127.0.0.1:5000` is");
        };
        if !base.username().is_empty() || base.password().is_some() {
            return bad("it has a user or a password in it; give a token");
        }
        if !["http", "https"].contains(&base.scheme()) || base.host().is_none() {
            return bad("it does not begin with `http://` or `https://` and a host");
        }
        if base.query().is_some() || base.fragment().is_some() {
            return bad("it has a query or a fragment");
        }
        let path = base.path().trim_end_matches('/').to_owned();
        base.set_path(&format!("{path}/api/2.0/mlflow/"));
        // A proxy of the environment would be sent the token too, also on the way to this machine.
        let http = Client::builder()
            .no_proxy()
            .timeout(TIME_LIMIT)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .context(ErrorKind::Internal, "HTTP client")?;
        Ok(Self { base, http, is_host_client: false, token: None, in_the_clear: false })
    }

    pub(crate) fn with_client(self, http: Client) -> Self {
        Self { http, is_host_client: true, ..self }
    }

    pub(crate) fn with_token(self, token: String) -> Self {
        Self { token: Some(token), ..self }
    }

    pub(crate) fn in_the_clear(self) -> Self {
        Self { in_the_clear: true, ..self }
    }

    /// Whether it may be spoken to at all, before the first word.
    pub(crate) fn check(&self) -> Result<()> {
        let what = format!("MLflow server {}", self.host());
        if self.base.scheme() == "https" && !self.is_host_client {
            let message = format!("{what}: https needs an HTTP client of the host that has TLS");
            return Err(Error::new(ErrorKind::Unsupported, message));
        }
        let is_open = self.base.scheme() == "http" && !is_loopback(&self.base);
        if self.token.is_some() && is_open && !self.in_the_clear {
            return Err(Error::refused(format!(
                "{what}: by http anybody on the way reads the token"
            )));
        }
        Ok(())
    }

    pub(crate) async fn get(&self, path: &str, query: &[(&str, &str)]) -> Result<Value> {
        let mut url = self.url(path)?;
        url.query_pairs_mut().extend_pairs(query);
        self.call(Method::GET, url, None, path).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Result<Value> {
        self.call(Method::POST, self.url(path)?, Some(body), path).await
    }

    pub(crate) async fn patch(&self, path: &str, body: &Value) -> Result<Value> {
        self.call(Method::PATCH, self.url(path)?, Some(body), path).await
    }

    pub(crate) async fn delete(&self, path: &str, body: &Value) -> Result<Value> {
        self.call(Method::DELETE, self.url(path)?, Some(body), path).await
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
    let message: String = one_line(message).chars().take(MAX_MESSAGE).collect();
    let code: String = one_line(code).chars().take(MAX_MESSAGE).collect();
    Error::new(kind, format!("{what}: {status} {code} {message}").trim_end().to_owned())
}

/// Whether the address is within this machine.
fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// The token is never shown.
impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("base", &self.base.as_str()).finish_non_exhaustive()
    }
}
