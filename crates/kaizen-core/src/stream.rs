//! Bytes that come in pieces, so that a large blob never is in memory whole.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll, ready};

use bytes::Bytes;
use futures_core::Stream;

use crate::{Digest, Digester, Error, ErrorKind, Result};

/// Bytes that come in pieces of any size. An error ends them.
pub type ByteStream = Pin<Box<dyn Stream<Item = Result<Bytes>> + Send>>;

/// These bytes, in one piece.
pub fn once(bytes: Bytes) -> ByteStream {
    let size = bytes.len();
    chunked(bytes, size)
}

/// These bytes, in pieces of at most `most` bytes (at least one).
pub fn chunked(bytes: Bytes, most: usize) -> ByteStream {
    Box::pin(Chunked { rest: bytes, most: most.max(1) })
}

struct Chunked {
    rest: Bytes,
    most: usize,
}

impl Stream for Chunked {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut TaskContext<'_>) -> Poll<Option<Result<Bytes>>> {
        if self.rest.is_empty() {
            return Poll::Ready(None);
        }
        let next = self.rest.len().min(self.most);
        Poll::Ready(Some(Ok(self.rest.split_to(next))))
    }
}

/// The next piece, or `None` at the end.
pub async fn next(bytes: &mut ByteStream) -> Option<Result<Bytes>> {
    poll_fn(|context| bytes.as_mut().poll_next(context)).await
}

/// All bytes in one piece. More than `most` of them are [`ErrorKind::Limit`], and `what` is named.
pub async fn whole(mut bytes: ByteStream, most: u64, what: &str) -> Result<Bytes> {
    let Some(first) = next(&mut bytes).await.transpose()? else { return Ok(Bytes::new()) };
    let bound = |size: usize| {
        let over = || Error::new(ErrorKind::Limit, format!("{what}: more than {most} bytes"));
        if size as u64 > most { Err(over()) } else { Ok(()) }
    };
    bound(first.len())?;
    let Some(second) = next(&mut bytes).await.transpose()? else { return Ok(first) };
    let mut all = Vec::from(first);
    let mut piece = Some(second);
    while let Some(bytes_of_piece) = piece {
        bound(all.len().saturating_add(bytes_of_piece.len()))?;
        all.extend_from_slice(&bytes_of_piece);
        piece = next(&mut bytes).await.transpose()?;
    }
    Ok(all.into())
}

/// The same bytes, checked on the way: if they are not the ones that the digest names, the last
/// item is an [`ErrorKind::Corrupt`] error that names `what`.
///
/// Whoever acts on pieces before the end acts on bytes that nobody has vouched for.
pub fn verified(bytes: ByteStream, digest: Digest, what: impl Into<String>) -> ByteStream {
    let digester = Some(Digester::default());
    Box::pin(Verified { bytes, digest, digester, what: what.into() })
}

struct Verified {
    bytes: ByteStream,
    digest: Digest,
    /// `None` once the end is reached.
    digester: Option<Digester>,
    what: String,
}

impl Stream for Verified {
    type Item = Result<Bytes>;

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Bytes>>> {
        let this = &mut *self;
        let Some(digester) = &mut this.digester else { return Poll::Ready(None) };
        match ready!(this.bytes.as_mut().poll_next(context)) {
            Some(Ok(piece)) => {
                digester.update(&piece);
                return Poll::Ready(Some(Ok(piece)));
            }
            Some(Err(error)) => {
                this.digester = None;
                return Poll::Ready(Some(Err(error)));
            }
            None => {}
        }
        let found = this.digester.take().map(Digester::finish);
        let checked = found.map(|found| this.digest.check_found(&found, &this.what));
        Poll::Ready(checked.and_then(Result::err).map(Err))
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    /// The streams here are always ready.
    fn run<F: Future>(future: F) -> F::Output {
        let mut context = TaskContext::from_waker(Waker::noop());
        match std::pin::pin!(future).poll(&mut context) {
            Poll::Ready(done) => done,
            Poll::Pending => panic!("the stream is not ready"),
        }
    }

    #[test]
    fn pieces_of_any_size_give_the_whole_and_too_many_are_refused() {
        for most in [0, 1, 2, 3, 4, 100] {
            let pieces = || chunked(Bytes::from_static(b"abc"), most);
            assert_eq!(run(whole(pieces(), 3, "letters")).unwrap(), "abc");
            let error = run(whole(pieces(), 2, "letters")).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Limit);
            assert_eq!(error.to_string(), "letters: more than 2 bytes");
        }
        assert_eq!(run(whole(once(Bytes::new()), 0, "nothing")).unwrap(), "");
    }

    #[test]
    fn other_bytes_are_corrupt_at_their_end_and_then_nothing_comes() {
        for text in ["abc", "abd", "ab", "abcd", ""] {
            let pieces = chunked(Bytes::copy_from_slice(text.as_bytes()), 2);
            let mut checked = verified(pieces, Digest::of("abc"), "letters");
            let mut read = Vec::new();
            let end = loop {
                match run(next(&mut checked)) {
                    Some(Ok(piece)) => read.extend_from_slice(&piece),
                    Some(Err(error)) => break Some(error.kind()),
                    None => break None,
                }
            };
            assert_eq!(read, text.as_bytes(), "every piece comes before the verdict");
            assert_eq!(end, (text != "abc").then_some(ErrorKind::Corrupt));
            assert!(run(next(&mut checked)).is_none());
        }
    }
}
