//! Work on files, which blocks.

use kaizen_core::{Context, ErrorKind, Result};

/// Does work that blocks where it holds up nobody. It goes on when the caller goes away, so that
/// files and what is known of them do not part ways.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work).await.context(ErrorKind::Internal, "work on files")?
}
