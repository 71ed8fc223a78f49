//! Blobs on their way to a registry.

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use hyper::header::{self, HeaderName};
use hyper::{Method, StatusCode};
use kaizen_core::{ByteStream, Digest, Digester, Error, ErrorKind, Result};
use url::Url;

use crate::auth::Scopes;
use crate::header as grammar;
use crate::http::check_digest;
use crate::pace::Failed;
use crate::registry::Inner;
use crate::wire::{Answer, Call};

/// The smallest chunk that a registry takes, where it says so.
const MIN_CHUNK: HeaderName = HeaderName::from_static("oci-chunk-min-length");
/// At most this much is held in memory because a registry takes no smaller chunk.
const MAX_CHUNK: u64 = 64 << 20;
/// At most this many requests for one chunk: each must bring it further.
const MAX_ROUNDS: usize = 64;

/// The bytes that are to be sent.
struct Source {
    stream: ByteStream,
    /// Read, but not yet taken.
    carry: Bytes,
    digester: Digester,
    read: u64,
}

impl Source {
    fn new(stream: ByteStream) -> Self {
        Self { stream, carry: Bytes::new(), digester: Digester::default(), read: 0 }
    }

    /// The next `count` bytes; fewer at the end.
    async fn take(&mut self, count: usize) -> Result<Bytes> {
        let mut taken = BytesMut::new();
        loop {
            let missing = count - taken.len();
            if taken.is_empty() && self.carry.len() >= missing {
                return Ok(self.carry.split_to(missing));
            }
            let part = self.carry.split_to(missing.min(self.carry.len()));
            taken.extend_from_slice(&part);
            if taken.len() == count {
                return Ok(taken.freeze());
            }
            match self.stream.next().await {
                Some(bytes) => self.carry = bytes?,
                None => return Ok(taken.freeze()),
            }
            self.digester.update(&self.carry);
            self.read += self.carry.len() as u64;
        }
    }

    /// The digest of all bytes, which are the expected ones or none are kept.
    fn finish(self, expected: Option<&Digest>) -> Result<Digest> {
        let found = self.digester.finish();
        match expected {
            Some(expected) if *expected != found => Err(Error::corrupt(format!(
                "blob {expected}: the {} bytes to be sent have digest {found}",
                self.read
            ))),
            _ => Ok(found),
        }
    }
}

/// What a registry opened for one blob.
#[derive(Debug)]
struct Session {
    url: Url,
    min_chunk: u64,
}

/// The answer to the wish to send a blob.
enum Begun {
    Session(Session),
    /// The registry took it from another repository.
    Mounted,
}

impl Inner {
    pub(crate) async fn put_stream(
        &self,
        bytes: ByteStream,
        expected: Option<&Digest>,
    ) -> Result<Digest> {
        let mut begun = None;
        if let Some(digest) = expected {
            if self.size_of(digest).await?.is_some() {
                return Ok(*digest);
            }
            for from in &self.options.mount_from {
                let before = begun.take();
                let mounted = match self.begin(Some((digest, from))).await? {
                    Begun::Mounted => true,
                    // It was not mounted; what was opened in its place is put to use.
                    Begun::Session(session) => {
                        begun = Some(session);
                        false
                    }
                };
                if let Some(session) = before {
                    self.abandon(&session).await;
                }
                if mounted {
                    return Ok(*digest);
                }
            }
        }
        let _permit = self.sending.acquire().await;
        let mut source = Source::new(bytes);
        let chunk = self.options.chunk_bytes.max(64 << 10);
        let first = source.take(chunk).await?;
        if first.len() < chunk {
            let digest = source.finish(expected)?;
            let there = expected.is_none() && self.size_of(&digest).await?.is_some();
            if !there {
                self.put_whole(&digest, first, begun).await?;
            }
            return Ok(digest);
        }
        self.put_chunks(source, first, expected, begun).await
    }

    /// Mounts a blob from another repository of the same registry; whether that was done.
    pub(crate) async fn mount(&self, digest: &Digest, from: &str) -> Result<bool> {
        match self.begin(Some((digest, from))).await? {
            Begun::Mounted => Ok(true),
            Begun::Session(session) => {
                self.abandon(&session).await;
                Ok(false)
            }
        }
    }

    async fn begin(&self, mount: Option<(&Digest, &str)>) -> Result<Begun> {
        let mut url = self.url("blobs/uploads/")?;
        let mut scopes = self.push_scopes();
        if let Some((digest, from)) = mount {
            let digest = digest.to_string();
            url.query_pairs_mut().append_pair("mount", &digest).append_pair("from", from);
            scopes.push(format!("repository:{from}:pull"));
        }
        let call = Call::new(Method::POST, url);
        let sent = self.http.send(&call, &scopes).await;
        let answer = match (sent, mount) {
            // Who may not read the other repository sends the blob.
            (Err(error), Some(_)) if error.kind() == ErrorKind::Refused => {
                return Box::pin(self.begin(None)).await;
            }
            (sent, _) => sent?,
        };
        match answer.status {
            StatusCode::CREATED if mount.is_some() => {
                if let Some((digest, _)) = mount {
                    check_digest(&answer.headers, digest, &answer.name)?;
                    self.known().blob(*digest);
                }
                Ok(Begun::Mounted)
            }
            StatusCode::ACCEPTED => {
                let url = self.http.next_location(&answer, &call.url)?;
                let least = answer.header(MIN_CHUNK)?.and_then(grammar::digits).unwrap_or(0);
                if least > MAX_CHUNK {
                    let text = format!("{}: it takes no chunk below {least} bytes", answer.name);
                    return Err(Error::new(ErrorKind::Unsupported, text));
                }
                Ok(Begun::Session(Session { url, min_chunk: least }))
            }
            _ => Err(self.http.failure(answer).await.error),
        }
    }

    async fn session(&self) -> Result<Session> {
        match self.begin(None).await? {
            Begun::Session(session) => Ok(session),
            Begun::Mounted => Err(Error::internal("a blob was mounted unasked")),
        }
    }

    /// Tells the registry that nothing more comes. If it does not hear, it finds out by itself.
    async fn abandon(&self, session: &Session) {
        let call = Call::new(Method::DELETE, session.url.clone());
        if let Err(failed) = self.http.attempt(&call, &self.push_scopes()).await {
            tracing::debug!(error = %failed.error, "an upload was left to expire");
        }
    }

    /// Sends a blob that is in memory, each time from its start.
    async fn put_whole(&self, digest: &Digest, bytes: Bytes, begun: Option<Session>) -> Result<()> {
        let mut backoff = self.http.backoff();
        let mut begun = begun;
        loop {
            let session = match begun.take() {
                Some(session) => session,
                None => self.session().await?,
            };
            match self.close(&session.url, digest, bytes.clone()).await {
                Ok(()) => return Ok(()),
                Err(failed) => self.http.wait(&mut backoff, failed).await?,
            }
            // The blob may be there, and only the answer lost.
            if self.size_of(digest).await?.is_some() {
                return Ok(());
            }
        }
    }

    /// Ends a session: from here on the registry has the blob.
    async fn close(&self, session: &Url, digest: &Digest, bytes: Bytes) -> Result<(), Failed> {
        let mut url = session.clone();
        url.query_pairs_mut().append_pair("digest", &digest.to_string());
        let call = Call::new(Method::PUT, url)
            .header(header::CONTENT_TYPE, "application/octet-stream")?
            .body(bytes);
        let answer = self.http.attempt(&call, &self.push_scopes()).await?;
        if !answer.status.is_success() {
            return Err(self.unfinished(answer).await);
        }
        check_digest(&answer.headers, digest, &answer.name)?;
        self.known().blob(*digest);
        Ok(())
    }

    /// What a session answered that did not take what was sent. One that the registry does not know
    /// any more fails for now: a new one may be opened.
    async fn unfinished(&self, answer: Answer) -> Failed {
        let lost = answer.status == StatusCode::NOT_FOUND;
        let Failed { ask, error } = self.http.failure(answer).await;
        if !lost {
            return Failed { ask, error };
        }
        let text = format!("{error}: the upload is lost");
        Failed { ask, error: Error::new(ErrorKind::Unavailable, text).with_source(error) }
    }

    /// Sends a blob that is larger than a chunk. A chunk that is cut off goes on where the registry
    /// says that it was.
    async fn put_chunks(
        &self,
        source: Source,
        first: Bytes,
        expected: Option<&Digest>,
        begun: Option<Session>,
    ) -> Result<Digest> {
        let session = match begun {
            Some(session) => session,
            None => self.session().await?,
        };
        let mut upload = Upload { inner: self, session, sent: 0 };
        let done = upload.send(source, first, expected).await;
        if done.is_err() {
            self.abandon(&upload.session).await;
        }
        done
    }
}

/// A blob that travels in chunks.
struct Upload<'a> {
    inner: &'a Inner,
    session: Session,
    /// How many bytes the registry has.
    sent: u64,
}

impl Upload<'_> {
    /// Sends everything and ends the session.
    async fn send(
        &mut self,
        mut source: Source,
        first: Bytes,
        expected: Option<&Digest>,
    ) -> Result<Digest> {
        self.run(&mut source, first).await?;
        let digest = source.finish(expected)?;
        let mut backoff = self.inner.http.backoff();
        loop {
            let closed = self.inner.close(&self.session.url, &digest, Bytes::new()).await;
            let Err(failed) = closed else { return Ok(digest) };
            self.inner.http.wait(&mut backoff, failed).await?;
            if self.inner.size_of(&digest).await?.is_some() {
                return Ok(digest);
            }
            let sent = self.sent;
            self.position(sent..=sent, false).await?;
        }
    }

    async fn run(&mut self, source: &mut Source, first: Bytes) -> Result<()> {
        let mut next = first;
        let size = (next.len() as u64).max(self.session.min_chunk) as usize;
        while !next.is_empty() {
            if next.len() < size {
                let more = source.take(size - next.len()).await?;
                next = [next, more].concat().into();
            }
            self.chunk(&next).await?;
            next = source.take(size).await?;
        }
        Ok(())
    }

    async fn chunk(&mut self, bytes: &Bytes) -> Result<()> {
        let (start, end) = (self.sent, self.sent + bytes.len() as u64);
        let mut backoff = self.inner.http.backoff();
        for _ in 0..MAX_ROUNDS {
            if self.sent == end {
                return Ok(());
            }
            let rest = bytes.slice((self.sent - start) as usize..);
            let call = Call::new(Method::PATCH, self.session.url.clone())
                .header(header::CONTENT_TYPE, "application/octet-stream")?
                .header(header::CONTENT_RANGE, &format!("{}-{}", self.sent, end - 1))?
                .body(rest);
            let mut out_of_range = false;
            let failed = match self.inner.http.attempt(&call, &self.inner.push_scopes()).await {
                Ok(answer) if answer.status.is_success() => {
                    self.taken(&answer, end)?;
                    continue;
                }
                Ok(answer) if answer.status == StatusCode::RANGE_NOT_SATISFIABLE => {
                    out_of_range = true;
                    let text = format!("{}: it has another part of the blob", answer.name);
                    Error::new(ErrorKind::Unavailable, text).into()
                }
                Ok(answer) => self.inner.unfinished(answer).await,
                Err(failed) => failed,
            };
            self.inner.http.wait(&mut backoff, failed).await?;
            self.position(start..=end, out_of_range).await?;
        }
        let text = format!("{}: it takes a blob in too small parts", self.session.url.path());
        Err(Error::new(ErrorKind::Limit, text))
    }

    /// Notes where a registry goes on after a chunk.
    fn taken(&mut self, answer: &Answer, end: u64) -> Result<()> {
        let range = answer.header(header::RANGE)?.and_then(grammar::upload_range);
        let sent = range.map_or(end, |(_, last)| last.saturating_add(1));
        if !(self.sent + 1..=end).contains(&sent) {
            let text = format!("{}: it has {sent} bytes of {end} sent", answer.name);
            return Err(Error::corrupt(text));
        }
        self.session.url = self.inner.http.next_location(answer, &self.session.url)?;
        self.sent = sent;
        Ok(())
    }

    /// Asks how many bytes the registry has; they must be among those that can be sent on.
    ///
    /// What "0-0" means is not clear, nothing or one byte: it is taken for nothing, and for one
    /// byte if the registry has `refused` to go on from nothing.
    async fn position(&mut self, can: std::ops::RangeInclusive<u64>, refused: bool) -> Result<()> {
        let lost = |why: &str| {
            let text = format!("{}: the upload is lost: {why}", self.session.url.path());
            Error::new(ErrorKind::Unavailable, text)
        };
        let call = Call::new(Method::GET, self.session.url.clone());
        let answer = self.inner.http.send(&call, &self.inner.push_scopes()).await?;
        if !answer.status.is_success() {
            let failed = self.inner.http.failure(answer).await;
            return Err(lost("the registry does not know it").with_source(failed.error));
        }
        let range = answer.header(header::RANGE)?.and_then(grammar::upload_range);
        let has = match range {
            None => 0,
            Some((_, 0)) if *can.start() == 0 && !refused => 0,
            Some((_, last)) => last.saturating_add(1),
        };
        if !can.contains(&has) {
            return Err(lost(&format!("the registry has {has} bytes of it")));
        }
        if answer.headers.contains_key(header::LOCATION) {
            self.session.url = self.inner.http.next_location(&answer, &self.session.url)?;
        }
        self.sent = has;
        Ok(())
    }
}

impl Inner {
    pub(crate) fn push_scopes(&self) -> Scopes {
        vec![format!("repository:{}:pull,push", self.reference.repository())]
    }
}
