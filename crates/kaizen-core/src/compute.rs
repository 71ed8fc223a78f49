//! The one bridge between async code and computation.

use futures_channel::oneshot;

use crate::{Context, ErrorKind, Result};

/// Runs a computation on the thread pool for maths and waits for it without holding up the
/// executor.
///
/// The pool is rayon's, so at most one computation per core runs at a time. A computation whose
/// caller went away still runs to its end. If it panics, the caller gets an error.
pub async fn compute<T, F>(computation: F) -> Result<T>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T> + Send + 'static,
{
    let (sender, receiver) = oneshot::channel();
    rayon::spawn(move || {
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(computation));
        // A dropped receiver means that nobody waits any more, which is no fault.
        let _ = sender.send(caught);
    });
    let caught = receiver.await.context(ErrorKind::Internal, "the thread pool stopped")?;
    caught.ok().context(ErrorKind::Internal, "a computation panicked")?
}
