//! Requests to one registry: logged in, sent on where it says, and repeated.

use bytes::Bytes;
use hyper::header::{self, HeaderMap, HeaderName};
use hyper::{Method, StatusCode};
use kaizen_core::{Context, Digest, Error, ErrorKind, Result};
use url::Url;

use crate::auth::{Auth, Scopes};
use crate::location;
use crate::pace::{Backoff, Failed};
use crate::reference::shown;
use crate::wire::{Answer, Call, Wire};

/// At most this many times one request is sent on.
const MAX_REDIRECTS: usize = 5;
/// At most this many times one request is sent again because the registry wants to know who calls.
const MAX_CHALLENGED: usize = 2;
/// In which header a registry says the digest of what it answers.
const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// The way to one registry.
#[derive(Debug)]
pub(crate) struct Http {
    wire: Wire,
    auth: Auth,
    /// `https://host:port/v2/`.
    base: Url,
}

/// An answer that was read to its end.
#[derive(Debug)]
pub(crate) struct Whole {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Http {
    pub(crate) fn new(wire: Wire, auth: Auth, base: Url) -> Self {
        Self { wire, auth, base }
    }

    /// The address of something in this registry, of which `path` is made of checked names.
    pub(crate) fn url(&self, path: &str) -> Result<Url> {
        let address = format!("{}{path}", self.base);
        Url::parse(&address).context(ErrorKind::Invalid, address)
    }

    pub(crate) fn backoff(&self) -> Backoff {
        self.wire.backoff()
    }

    /// Waits before another attempt; the error if there is none.
    pub(crate) async fn wait(&self, backoff: &mut Backoff, failed: Failed) -> Result<()> {
        backoff.wait(&*self.wire.pace, failed).await
    }

    /// An answer that was not wanted, as an error.
    pub(crate) async fn failure(&self, answer: Answer) -> Failed {
        self.wire.failure(answer).await
    }

    /// Sends a request once: with what proves us, and, if it only reads, to where the registry
    /// sends it on. What proves us is shown to no other server.
    ///
    /// An answer that asks to come again later is a failure; any other is an answer.
    pub(crate) async fn attempt(&self, call: &Call, scopes: &Scopes) -> Result<Answer, Failed> {
        let mut url = call.url.clone();
        let (mut redirects, mut challenged) = (0, 0);
        let mut proof = None;
        if location::same_server(&url, &self.base) {
            proof = self.auth.proof(&self.wire, scopes).await?;
        }
        loop {
            let own = location::same_server(&url, &self.base);
            let answer = self.wire.exchange(call, &url, proof.as_ref().filter(|_| own)).await?;
            match answer.status.as_u16() {
                401 if own && challenged < MAX_CHALLENGED => {
                    challenged += 1;
                    let sent = proof.as_ref();
                    match self.auth.answer(&self.wire, scopes, &answer, sent).await? {
                        Some(answered) => proof = Some(answered),
                        None => return Err(self.failure(answer).await),
                    }
                }
                301 | 302 | 303 | 307 | 308 => {
                    url = self.sent_on(call, &url, &answer)?;
                    redirects += 1;
                    if redirects > MAX_REDIRECTS {
                        let text = format!("{}: over {MAX_REDIRECTS} redirects", call.name());
                        return Err(Error::new(ErrorKind::Limit, text).into());
                    }
                }
                401 | 403 | 408 | 425 | 429 | 500.. => return Err(self.failure(answer).await),
                _ => return Ok(answer),
            }
        }
    }

    fn sent_on(&self, call: &Call, from: &Url, answer: &Answer) -> Result<Url> {
        let name = &answer.name;
        if ![Method::GET, Method::HEAD].contains(&call.method) {
            return Err(Error::refused(format!("{name}: it sends what is written elsewhere")));
        }
        let to = answer.header(header::LOCATION)?;
        let to = to.context(ErrorKind::Corrupt, format!("{name}: a redirect to nowhere"))?;
        location::resolve(from, to)
    }

    /// Sends a request until it is answered, as often as the policy says.
    pub(crate) async fn send(&self, call: &Call, scopes: &Scopes) -> Result<Answer> {
        let mut backoff = self.backoff();
        loop {
            match self.attempt(call, scopes).await {
                Ok(answer) => return Ok(answer),
                Err(failed) => self.wait(&mut backoff, failed).await?,
            }
        }
    }

    /// Sends a request until its answer is read to its end. Of an answer without success, nothing
    /// is read but the error in it, unless its status is in `also`.
    pub(crate) async fn fetch(
        &self,
        call: &Call,
        scopes: &Scopes,
        (limit, also): (usize, &[StatusCode]),
    ) -> Result<Whole> {
        let mut backoff = self.backoff();
        loop {
            let failed = match self.attempt(call, scopes).await {
                Err(failed) => failed,
                Ok(answer) if !answer.status.is_success() && !also.contains(&answer.status) => {
                    self.failure(answer).await
                }
                Ok(answer) => {
                    let (status, headers) = (answer.status, answer.headers.clone());
                    match answer.whole(limit).await {
                        Ok(body) => return Ok(Whole { status, headers, body }),
                        Err(error) => error.into(),
                    }
                }
            };
            self.wait(&mut backoff, failed).await?;
        }
    }

    /// Where an answer says that a write goes on.
    pub(crate) fn next_location(&self, answer: &Answer, from: &Url) -> Result<Url> {
        let to = answer.header(header::LOCATION)?;
        let lost = || format!("{}: no Location in the answer", answer.name);
        location::resolve(from, to.context(ErrorKind::Corrupt, lost())?)
    }
}

/// Checks what an answer says of its digest, if it says anything: a server that means other bytes
/// than we do is found out before they travel.
pub(crate) fn check_digest(headers: &HeaderMap, digest: &Digest, what: &str) -> Result<()> {
    let Some(value) = headers.get(CONTENT_DIGEST) else { return Ok(()) };
    let text = value.to_str().unwrap_or_default();
    match text.parse::<Digest>() {
        Ok(found) if found != *digest => {
            Err(Error::corrupt(format!("{what}: the registry says {found}, not {digest}")))
        }
        Ok(_) => Ok(()),
        // Another algorithm's name for the same bytes may be right.
        Err(_) if text.starts_with("sha512:") => Ok(()),
        Err(_) => Err(Error::corrupt(format!("{what}: it says digest `{}`", shown(text)))),
    }
}

/// The digest that an answer says it has.
pub(crate) fn content_digest(headers: &HeaderMap) -> Option<Digest> {
    headers.get(CONTENT_DIGEST)?.to_str().ok()?.parse().ok()
}
