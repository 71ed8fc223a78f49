//! Blobs on their way from a registry.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream;
use hyper::{Method, StatusCode, header};
use kaizen_core::{ByteStream, Digest, Digester, Error, ErrorKind, Result};
use tokio::sync::OwnedSemaphorePermit;

use crate::header as grammar;
use crate::http::check_digest;
use crate::pace::{Backoff, Failed};
use crate::registry::Inner;
use crate::wire::{Answer, Call};

/// After so many bytes without a cut, earlier cuts count no more.
const PROGRESS: u64 = 1 << 20;

/// A blob that is being read. Where it is cut off, it goes on from there.
struct Download {
    inner: Arc<Inner>,
    digest: Digest,
    call: Call,
    /// The answer that is being read; none after it was cut off.
    answer: Option<Answer>,
    /// The size, where the registry has said it.
    total: Option<u64>,
    /// How many bytes were given on.
    position: u64,
    /// Where it was cut off last.
    cut: u64,
    digester: Digester,
    backoff: Backoff,
    _permit: Option<OwnedSemaphorePermit>,
}

/// A blob's bytes, checked on the way; `None` if there is no such blob.
pub(crate) async fn open(inner: &Arc<Inner>, digest: &Digest) -> Result<Option<ByteStream>> {
    let permit = Arc::clone(&inner.fetching).acquire_owned().await.ok();
    let call = Call::new(Method::GET, inner.url(&format!("blobs/{digest}"))?);
    let answer = inner.http.send(&call, &inner.pull_scopes()).await?;
    match answer.status {
        StatusCode::OK => {}
        StatusCode::NOT_FOUND => return Ok(None),
        _ => return Err(inner.http.failure(answer).await.error),
    }
    check_digest(&answer.headers, digest, &answer.name)?;
    let total = answer.length()?;
    inner.check_size(digest, total.unwrap_or(0))?;
    let download = Download {
        inner: Arc::clone(inner),
        digest: *digest,
        call,
        answer: Some(answer),
        total,
        position: 0,
        cut: 0,
        digester: Digester::default(),
        backoff: inner.http.backoff(),
        _permit: permit,
    };
    // After an error nothing more comes.
    Ok(Some(Box::pin(stream::unfold(Some(download), |download| async {
        let mut download = download?;
        match download.next().await {
            Ok(Some(bytes)) => Some((Ok(bytes), Some(download))),
            Ok(None) => None,
            Err(error) => Some((Err(error), None)),
        }
    }))))
}

impl Download {
    async fn next(&mut self) -> Result<Option<Bytes>> {
        loop {
            let Some(answer) = &mut self.answer else {
                self.reopen().await?;
                continue;
            };
            let failed = match answer.chunk().await {
                Ok(Some(bytes)) => return self.take(bytes).map(Some),
                Ok(None) if self.total.is_none_or(|total| self.position >= total) => {
                    return self.end().map(|()| None);
                }
                Ok(None) => {
                    let text =
                        format!("blob {}: it ends after {} bytes", self.digest, self.position);
                    Error::new(ErrorKind::Unavailable, text)
                }
                Err(error) => error,
            };
            self.cut_off(failed.into()).await?;
        }
    }

    fn take(&mut self, bytes: Bytes) -> Result<Bytes> {
        self.position += bytes.len() as u64;
        self.inner.check_size(&self.digest, self.position)?;
        if let Some(total) = self.total.filter(|total| self.position > *total) {
            let text = format!("blob {}: more than the {total} bytes that were said", self.digest);
            return Err(Error::corrupt(text));
        }
        self.digester.update(&bytes);
        Ok(bytes)
    }

    fn end(&mut self) -> Result<()> {
        let found = std::mem::take(&mut self.digester).finish();
        if found == self.digest {
            return Ok(());
        }
        let (digest, host) = (self.digest, self.inner.reference.host());
        Err(Error::corrupt(format!("blob {digest}: the bytes from {host} have digest {found}")))
    }

    async fn cut_off(&mut self, failed: Failed) -> Result<()> {
        self.answer = None;
        if self.position >= self.cut.saturating_add(PROGRESS) {
            self.backoff.progressed();
        }
        self.cut = self.position;
        self.inner.http.wait(&mut self.backoff, failed).await
    }

    /// Asks for the rest.
    async fn reopen(&mut self) -> Result<()> {
        let call = self.call.clone().header(header::RANGE, &format!("bytes={}-", self.position))?;
        let answer = match self.inner.http.attempt(&call, &self.inner.pull_scopes()).await {
            Ok(answer) => answer,
            Err(failed) => return self.cut_off(failed).await,
        };
        match answer.status {
            StatusCode::PARTIAL_CONTENT => {
                let said = answer.header(header::CONTENT_RANGE)?.and_then(grammar::content_range);
                let fits = said.is_some_and(|(first, _, size)| {
                    first == self.position && (size.is_none() || size == self.total.or(size))
                });
                if !fits {
                    let text = format!("{}: another part than was asked for", answer.name);
                    return Err(Error::corrupt(text));
                }
                self.answer = Some(answer);
            }
            StatusCode::OK => self.skip(answer).await?,
            _ => return Err(self.inner.http.failure(answer).await.error),
        }
        Ok(())
    }

    /// Reads over what is known already, where a registry only gives the whole. The digest shows
    /// if it was not the same.
    async fn skip(&mut self, mut answer: Answer) -> Result<()> {
        let mut left = self.position;
        while left > 0 {
            match answer.chunk().await {
                Ok(Some(bytes)) if bytes.len() as u64 > left => {
                    answer.unread(bytes.slice(left as usize..));
                    left = 0;
                }
                Ok(Some(bytes)) => left -= bytes.len() as u64,
                Ok(None) => {
                    let text = format!("blob {}: it became shorter", self.digest);
                    return Err(Error::corrupt(text));
                }
                Err(error) => return self.cut_off(error.into()).await,
            }
        }
        self.answer = Some(answer);
        Ok(())
    }
}
