//! Appends that wait for a log: those that wait at the same time share a commit.

use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use kaizen_core::{Bytes, Context, Entry, Error, ErrorKind, Result};
use tokio::sync::oneshot;

use crate::tail::Additions;

/// At most this many entries in one append.
const MAX_APPEND: usize = 1 << 20;

/// The indices that an append got.
pub(crate) type Answer = Result<Range<u64>>;

/// What is to be appended.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) entries: Vec<Bytes>,
    expected: Option<u64>,
}

impl Request {
    /// The bytes of these entries, to be appended if the log has as many as expected.
    pub(crate) fn new(entries: &[Entry], expected: Option<u64>) -> Result<Self> {
        if entries.len() > MAX_APPEND {
            let message = format!("append of {} entries: over {MAX_APPEND}", entries.len());
            return Err(Error::new(ErrorKind::Limit, message));
        }
        let entries = entries.iter().map(|entry| entry.to_bytes().map(Bytes::from));
        Ok(Self { entries: entries.collect::<Result<_>>()?, expected })
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
    waiting: Mutex<Vec<(Request, oneshot::Sender<Answer>)>>,
    /// Held by the task that commits.
    turn: tokio::sync::Mutex<()>,
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
        self.lock().push((request, sender));
        tokio::spawn(commit);
        outcome.await.context(ErrorKind::Internal, "log append was cut off")?
    }

    /// Waits until nobody else commits or publishes.
    pub(crate) async fn turn(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.turn.lock().await
    }

    /// Everything that waits; `None` if whoever had the turn before took it along.
    pub(crate) fn take(&self) -> Option<(Vec<Request>, Waiting)> {
        let (requests, senders): (Vec<_>, _) =
            std::mem::take(&mut *self.lock()).into_iter().unzip();
        (!requests.is_empty()).then_some((requests, Waiting(senders)))
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(Request, oneshot::Sender<Answer>)>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
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
