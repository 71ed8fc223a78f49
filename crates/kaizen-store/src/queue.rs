//! Appends that wait for a log: those that wait at the same time share a commit.

use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use kaizen_core::{Bytes, Context, Entry, Error, ErrorKind, Result};
use tokio::sync::oneshot;

use crate::tail::Additions;

/// At most this many entries in one append.
const MAX_APPEND: usize = 1 << 20;
/// At most this many bytes in one append, and in what is committed together.
pub(crate) const MAX_BYTES: usize = 64 << 20;

/// The indices that an append got.
pub(crate) type Answer = Result<Range<u64>>;

/// What is to be appended.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) entries: Vec<Bytes>,
    /// How many bytes a log holds for them.
    bytes: usize,
    expected: Option<u64>,
}

impl Request {
    /// The bytes of these entries, to be appended if the log has as many as expected.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Limit`] if they are too many, or too long together.
    pub(crate) fn new(entries: &[Entry], expected: Option<u64>) -> Result<Self> {
        let count = entries.len();
        let over = |most: usize, what: &str| {
            let message = format!("append of {count} entries: over {most} {what}");
            Error::new(ErrorKind::Limit, message)
        };
        if count > MAX_APPEND {
            return Err(over(MAX_APPEND, "of them"));
        }
        let (mut encoded, mut bytes) = (Vec::with_capacity(count), 0);
        for entry in entries {
            let entry = Bytes::from(entry.to_bytes()?);
            bytes += size_of::<u16>() + entry.len();
            if bytes > MAX_BYTES {
                return Err(over(MAX_BYTES, "bytes"));
            }
            encoded.push(entry);
        }
        Ok(Self { entries: encoded, bytes, expected })
    }

    /// Adds the entries to what is to be committed, all or none. A wrong expectation is a
    /// conflict, and leaves no trace.
    pub(crate) fn admit(&self, additions: &mut Additions) -> Answer {
        let start = additions.peaks.size();
        if let Some(expected) = self.expected.filter(|expected| *expected != start) {
            let message = format!("log: it has {start} entries by now, not {expected}");
            return Err(Error::conflict(message));
        }
        for entry in &self.entries {
            additions.push(entry.clone());
        }
        Ok(start..additions.peaks.size())
    }
}

/// Appends that wait to be committed.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    waits: Mutex<Waits>,
    /// Held by the task that commits.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Waits {
    requests: Vec<(Request, oneshot::Sender<Answer>)>,
    /// Somebody has promised to commit all of them, and those that come meanwhile.
    taken_care_of: bool,
}

/// Where the answers to appends go that are committed together.
#[derive(Debug)]
pub(crate) struct Waiting(Vec<oneshot::Sender<Answer>>);

impl Queue {
    /// Waits until `commit`, or one that had the turn before it, has committed the request. It
    /// runs on its own, so that it runs to its end even if the caller goes away.
    pub(crate) async fn append(
        &self,
        request: Request,
        commit: impl Future<Output = ()> + Send + 'static,
    ) -> Answer {
        let (sender, outcome) = oneshot::channel();
        self.lock().requests.push((request, sender));
        tokio::spawn(commit);
        outcome.await.context(ErrorKind::Internal, "log append was cut off")?
    }

    /// Waits until nobody else commits or publishes.
    pub(crate) async fn turn(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.turn.lock().await
    }

    /// The first of what waits, in the order in which it came, up to so many bytes, but at least
    /// one; the rest is for the next turn. `None` if whoever had the turn before took it along.
    pub(crate) fn take(&self, most: usize) -> Option<(Vec<Request>, Waiting)> {
        self.lock().take(most)
    }

    /// Puts a request in the queue. If the second is true, nobody takes care of what waits: whoever
    /// asked must call [`Queue::next`] until there is nothing more, or [`Queue::abandon`].
    pub(crate) fn push(&self, request: Request) -> (oneshot::Receiver<Answer>, bool) {
        let (sender, outcome) = oneshot::channel();
        let mut waits = self.lock();
        waits.requests.push((request, sender));
        (outcome, !std::mem::replace(&mut waits.taken_care_of, true))
    }

    /// As [`Queue::take`], for whoever takes care of what waits. After `None` nobody does.
    pub(crate) fn next(&self, most: usize) -> Option<(Vec<Request>, Waiting)> {
        let mut waits = self.lock();
        let batch = waits.take(most);
        waits.taken_care_of = batch.is_some();
        batch
    }

    /// Whoever took care of what waits does so no more: all of it is told that it was cut off.
    pub(crate) fn abandon(&self) {
        *self.lock() = Waits::default();
    }

    fn lock(&self) -> MutexGuard<'_, Waits> {
        self.waits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waits {
    fn take(&mut self, most: usize) -> Option<(Vec<Request>, Waiting)> {
        let mut bytes = 0_usize;
        let fits = self.requests.iter().take_while(|(request, _)| {
            let first = bytes == 0;
            bytes = bytes.saturating_add(request.bytes.max(1));
            first || bytes <= most
        });
        let count = fits.count();
        let (requests, senders): (Vec<_>, _) = self.requests.drain(..count).unzip();
        (!requests.is_empty()).then_some((requests, Waiting(senders)))
    }
}

impl Waiting {
    /// Gives each its own answer, or all the same error.
    pub(crate) fn answer(self, written: Result<Vec<Answer>>) {
        let same = |error: &Error| Err(Error::new(error.kind(), format!("{error:#}")));
        let answers = match written {
            Ok(answers) => answers,
            Err(error) => self.0.iter().map(|_| same(&error)).collect(),
        };
        for (sender, answer) in self.0.into_iter().zip(answers) {
            // The caller may have gone away.
            let _ = sender.send(answer);
        }
    }
}

#[cfg(test)]
mod tests {
    use kaizen_testkit::audit_log::entry;

    use super::*;

    fn request(entries: &[Entry]) -> Request {
        Request::new(entries, None).unwrap()
    }

    #[test]
    fn what_is_committed_together_is_bounded_and_nothing_is_passed_over() {
        let queue = Queue::default();
        let sizes = [3, 1, 0, 2, 9, 1, 1];
        for size in sizes {
            let entries = vec![entry(0); size];
            queue.lock().requests.push((request(&entries), oneshot::channel().0));
        }
        let one = request(&[entry(0)]).bytes;
        let mut batches = Vec::new();
        while let Some((requests, waiting)) = queue.take(4 * one) {
            assert_eq!(requests.len(), waiting.0.len());
            batches.push(requests.iter().map(|request| request.entries.len()).collect::<Vec<_>>());
        }
        assert_eq!(batches, [vec![3, 1], vec![0, 2], vec![9], vec![1, 1]]);
    }

    #[test]
    fn an_append_that_is_too_long_is_refused_by_its_size() {
        let long =
            Entry { event: kaizen_core::Event::Ran { step: "s".repeat(60_000) }, ..entry(0) };
        let error = Request::new(&vec![long; 1_200], None).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Limit);
        assert!(error.to_string().contains("1200 entries: over 67108864 bytes"), "{error}");
    }

    #[test]
    fn one_takes_care_of_what_waits_until_nothing_does() {
        let queue = Queue::default();
        let push = || queue.push(request(&[entry(0)]));
        let (first, second, third) = (push(), push(), push());
        assert_eq!([first.1, second.1, third.1], [true, false, false]);
        assert!(queue.next(1).is_some() && queue.next(usize::MAX).is_some());
        assert!(!push().1, "it was not told yet that nothing waits");
        assert!(queue.next(1).is_some() && queue.next(1).is_none());
        let (mut last, first) = push();
        assert!(first);
        queue.abandon();
        assert!(matches!(last.try_recv(), Err(oneshot::error::TryRecvError::Closed)));
        assert!(push().1, "somebody else takes care of what comes after");
    }
}
