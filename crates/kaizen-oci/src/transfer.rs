//! Push and pull: copies that go on when the connection is lost.

use std::sync::atomic::{AtomicU64, Ordering};

use kaizen_core::{ArtifactStore, Digest, Progress, Result};
use kaizen_store::{Copied, CopyOptions, copy};

use crate::registry::RemoteRegistry;

/// Passes reports of several attempts on as those of one.
#[derive(Debug)]
struct Whole<'a> {
    progress: &'a dyn Progress,
    /// What the first attempt that knew it had to do; all ones before.
    first: AtomicU64,
    /// What the latest attempt had to do.
    latest: AtomicU64,
}

impl Progress for Whole<'_> {
    fn report(&self, task: &str, done: u64, total: Option<u64>) {
        let Some(total) = total else { return self.progress.report(task, done, total) };
        self.latest.store(total, Ordering::Relaxed);
        let unset = u64::MAX;
        let kept = self.first.compare_exchange(unset, total, Ordering::Relaxed, Ordering::Relaxed);
        let first = kept.map_or_else(|first| first, |_| total).max(total);
        self.progress.report(task, first - total + done, Some(first));
    }
}

impl RemoteRegistry {
    /// Copies a record to this repository, as [`kaizen_store::copy`] does it. Where that fails for
    /// now, it is tried again, as often as [`Retry`](crate::Retry) says: what arrived does not
    /// travel again, and each blob that arrived sets the count back. The progress is that of all
    /// attempts together; what is given counts the last one.
    ///
    /// # Errors
    ///
    /// As [`kaizen_store::copy`] gives them;
    /// [`ErrorKind::Refused`](kaizen_core::ErrorKind::Refused) if the registry does not let us
    /// write.
    pub async fn push(
        &self,
        from: &dyn ArtifactStore,
        id: &Digest,
        options: &CopyOptions,
        progress: &dyn Progress,
    ) -> Result<Copied> {
        self.transfer((from, self), id, options, progress).await
    }

    /// Copies a record from this repository, as [`push`](Self::push) does it the other way.
    pub async fn pull(
        &self,
        to: &dyn ArtifactStore,
        id: &Digest,
        options: &CopyOptions,
        progress: &dyn Progress,
    ) -> Result<Copied> {
        self.transfer((self, to), id, options, progress).await
    }

    async fn transfer(
        &self,
        (from, to): (&dyn ArtifactStore, &dyn ArtifactStore),
        id: &Digest,
        options: &CopyOptions,
        progress: &dyn Progress,
    ) -> Result<Copied> {
        let mut backoff = self.0.http.backoff();
        let mut left = u64::MAX;
        let whole =
            Whole { progress, first: AtomicU64::new(u64::MAX), latest: AtomicU64::new(u64::MAX) };
        loop {
            let error = match copy(from, to, id, options, &whole).await {
                Ok(copied) => return Ok(copied),
                Err(error) => error,
            };
            let latest = whole.latest.load(Ordering::Relaxed);
            if latest < left {
                backoff.progressed();
                left = latest;
            }
            self.0.http.wait(&mut backoff, error.into()).await?;
        }
    }
}
