//! One request and its answer, within bounds. Nothing here knows what a registry is.

use std::error::Error as StdError;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use kaizen_core::{Clock, Context, Error, ErrorKind, Result};
use serde::Deserialize;
use tokio::time::{Instant, timeout};
use url::Url;

use crate::connect::{self, Connector};
use crate::header as grammar;
use crate::location::plain;
use crate::pace::{Backoff, Failed, Pace, Retry};
use crate::reference::shown;

/// At most this many bytes in all headers of an answer.
const MAX_HEADERS: usize = 64 << 10;
/// At most this many bytes are read of an answer that only says why not.
const MAX_REFUSAL: usize = 64 << 10;
/// A body that travels slower than so many bytes a second is given up, either way.
const SLOWEST: u64 = 16 << 10;

/// A request.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Call {
    pub(crate) fn new(method: Method, url: Url) -> Self {
        Self { method, url, headers: HeaderMap::new(), body: Bytes::new() }
    }

    pub(crate) fn header(mut self, name: HeaderName, value: &str) -> Result<Self> {
        let read = HeaderValue::from_str(value);
        let value =
            read.context(ErrorKind::Invalid, format!("header {name} to {}", self.name()))?;
        self.headers.insert(name, value);
        Ok(self)
    }

    pub(crate) fn body(mut self, body: Bytes) -> Self {
        self.body = body;
        self
    }

    /// The request for people, without what may be secret in it.
    pub(crate) fn name(&self) -> String {
        format!("{} {}", self.method, plain(&self.url))
    }
}

/// The way to all servers.
#[derive(Debug)]
pub(crate) struct Wire {
    client: Client<Connector, Full<Bytes>>,
    pub(crate) pace: Arc<dyn Pace>,
    pub(crate) clock: Arc<dyn Clock>,
    retry: Retry,
    stall: Duration,
}

impl Wire {
    pub(crate) fn new(
        connector: Connector,
        (pace, clock): (Arc<dyn Pace>, Arc<dyn Clock>),
        (retry, stall): (Retry, Duration),
    ) -> Self {
        let mut builder = Client::builder(TokioExecutor::new());
        builder.http1_max_buf_size(MAX_HEADERS).pool_max_idle_per_host(8);
        Self { client: builder.build(connector), pace, clock, retry, stall }
    }

    pub(crate) fn backoff(&self) -> Backoff {
        Backoff::new(self.retry)
    }

    /// Sends a request once. Any answer is one, whatever its status.
    pub(crate) async fn exchange(
        &self,
        call: &Call,
        url: &Url,
        proof: Option<&HeaderValue>,
    ) -> Result<Answer, Failed> {
        let name = format!("{} {}", call.method, plain(url));
        let mut request = Request::builder().method(call.method.clone()).uri(url.as_str());
        if let Some(headers) = request.headers_mut() {
            headers.extend(call.headers.clone());
            let agent = concat!("kaizen/", env!("CARGO_PKG_VERSION"));
            headers.insert(header::USER_AGENT, HeaderValue::from_static(agent));
            if ![Method::GET, Method::HEAD].contains(&call.method) {
                headers.insert(header::CONTENT_LENGTH, HeaderValue::from(call.body.len()));
            }
            if let Some(proof) = proof {
                headers.insert(header::AUTHORIZATION, proof.clone());
            }
        }
        let built = request.body(Full::new(call.body.clone()));
        let request = built.context(ErrorKind::Invalid, &name)?;
        let limit = self.stall + Duration::from_secs(call.body.len() as u64 / SLOWEST);
        let answered = timeout(limit, self.client.request(request)).await;
        let late = || Error::new(ErrorKind::Unavailable, format!("{name}: no answer in time"));
        let answer = answered.map_err(|_| late())?.map_err(|error| {
            let kind = kind_of(&error);
            Error::new(kind, name.clone()).with_source(error)
        })?;
        let (head, body) = answer.into_parts();
        Ok(Answer {
            status: head.status,
            headers: head.headers,
            body,
            unread: Bytes::new(),
            name,
            stall: self.stall,
            waited: Duration::ZERO,
            read: 0,
        })
    }

    /// What an answer that was not wanted says, as an error; with how long it asks to wait.
    pub(crate) async fn failure(&self, answer: Answer) -> Failed {
        let ask = match answer.header(header::RETRY_AFTER) {
            Ok(Some(text)) => grammar::retry_after(text, self.clock.now()),
            _ => None,
        };
        let (status, name) = (answer.status, answer.name.clone());
        let body = answer.whole(MAX_REFUSAL).await.unwrap_or_default();
        let text = format!("{name}: {}{}", status.as_u16(), reasons(&body));
        Failed { ask, error: Error::new(kind_of_status(status), text) }
    }
}

/// A connection that fails may work later; one that speaks no HTTP, or shows a certificate that is
/// not trusted, will not.
fn kind_of(error: &(dyn StdError + 'static)) -> ErrorKind {
    let mut cause = Some(error);
    while let Some(one) = cause {
        if one.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_parse) {
            return ErrorKind::Corrupt;
        }
        if connect::is_distrust(one) {
            return ErrorKind::Refused;
        }
        cause = one.source();
    }
    ErrorKind::Unavailable
}

fn kind_of_status(status: StatusCode) -> ErrorKind {
    match status.as_u16() {
        401 | 403 => ErrorKind::Refused,
        404 | 410 => ErrorKind::NotFound,
        405 | 501 | 505 => ErrorKind::Unsupported,
        409 | 412 => ErrorKind::Conflict,
        413 => ErrorKind::Limit,
        408 | 425 | 429 | 500.. => ErrorKind::Unavailable,
        _ => ErrorKind::Invalid,
    }
}

#[derive(Deserialize)]
struct Reasons {
    errors: Vec<Reason>,
}

#[derive(Deserialize)]
struct Reason {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

/// The first reasons in the body of an answer, as the distribution protocol writes them.
fn reasons(body: &[u8]) -> String {
    let Ok(read) = serde_json::from_slice::<Reasons>(body) else { return String::new() };
    let show = |one: &Reason| format!(": {} ({})", shown(&one.code), shown(&one.message));
    read.errors.iter().take(3).map(show).collect()
}

/// What a server answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    body: Incoming,
    /// Bytes that were read and given back.
    unread: Bytes,
    /// The request, for people.
    pub(crate) name: String,
    stall: Duration,
    /// How long the server was waited for in all, and how many bytes came of it.
    waited: Duration,
    read: u64,
}

impl Answer {
    /// A header as text.
    pub(crate) fn header(&self, name: HeaderName) -> Result<Option<&str>> {
        let Some(value) = self.headers.get(&name) else { return Ok(None) };
        if value.len() > grammar::MAX_BYTES {
            let text = format!("{}: header {name} has {} bytes", self.name, value.len());
            return Err(Error::new(ErrorKind::Limit, text));
        }
        let text = value.to_str();
        text.map(Some).context(ErrorKind::Corrupt, format!("{}: header {name}", self.name))
    }

    /// What the `Content-Length` says.
    pub(crate) fn length(&self) -> Result<Option<u64>> {
        let Some(text) = self.header(header::CONTENT_LENGTH)? else { return Ok(None) };
        let lost = format!("{}: Content-Length `{}`", self.name, shown(text));
        grammar::digits(text).map(Some).context(ErrorKind::Corrupt, lost)
    }

    /// Gives bytes back, to be read again as the next ones.
    pub(crate) fn unread(&mut self, bytes: Bytes) {
        self.unread = bytes;
    }

    /// The next bytes of the body; `None` at its end.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>> {
        if !self.unread.is_empty() {
            return Ok(Some(std::mem::take(&mut self.unread)));
        }
        loop {
            // Who sends a byte now and then stalls too. Only waiting counts: the reader has its
            // time.
            let earned = self.stall + Duration::from_secs(self.read / SLOWEST);
            let limit = self.stall.min(earned.saturating_sub(self.waited));
            let since = Instant::now();
            let frame = timeout(limit, self.body.frame()).await;
            self.waited += since.elapsed();
            let late = || Error::new(ErrorKind::Unavailable, format!("{}: it stalls", self.name));
            match frame.map_err(|_| late())? {
                None => return Ok(None),
                Some(frame) => {
                    let frame = frame.context(ErrorKind::Unavailable, &self.name)?;
                    // Trailers say nothing that is needed.
                    if let Ok(data) = frame.into_data()
                        && !data.is_empty()
                    {
                        self.read += data.len() as u64;
                        return Ok(Some(data));
                    }
                }
            }
        }
    }

    /// The whole body, if it has at most so many bytes.
    pub(crate) async fn whole(mut self, limit: usize) -> Result<Bytes> {
        let over = |name: &str| {
            Error::new(ErrorKind::Limit, format!("{name}: it answers more than {limit} bytes"))
        };
        if self.length()?.is_some_and(|length| length > limit as u64) {
            return Err(over(&self.name));
        }
        let mut bytes = BytesMut::new();
        while let Some(chunk) = self.chunk().await? {
            if bytes.len() + chunk.len() > limit {
                return Err(over(&self.name));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes.freeze())
    }
}
