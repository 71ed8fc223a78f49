//! Local files, off the executor.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use kaizen_core::{Bytes, Context, Error, ErrorKind, Result};

/// The most bytes of one file that goes into an image, and of one layer that comes out of it:
/// 4 GiB.
pub const MAX_FILE_BYTES: u64 = 4 << 30;

/// Runs file work on the threads that may block.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work).await.context(ErrorKind::Internal, "file work was cut off")?
}

/// What to do about a failed file operation.
pub(crate) fn kind(error: &std::io::Error) -> ErrorKind {
    match error.kind() {
        std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory => ErrorKind::NotFound,
        std::io::ErrorKind::AlreadyExists => ErrorKind::AlreadyExists,
        std::io::ErrorKind::PermissionDenied => ErrorKind::Refused,
        std::io::ErrorKind::InvalidInput
        | std::io::ErrorKind::InvalidData
        | std::io::ErrorKind::UnexpectedEof => ErrorKind::Corrupt,
        _ => ErrorKind::Unavailable,
    }
}

/// Names the file in the error of an operation on it.
pub(crate) fn at<T>(result: std::io::Result<T>, path: &Path) -> Result<T> {
    result.map_err(|source| {
        let message = format!("{}: {source}", path.display());
        Error::new(kind(&source), message).with_source(source)
    })
}

/// A regular file of at most `limit` bytes.
pub(crate) fn read(path: &Path, limit: u64) -> Result<Bytes> {
    let file = at(File::open(path), path)?;
    let size = at(file.metadata(), path)?;
    if !size.is_file() {
        return Err(Error::invalid(format!("{}: not a regular file", path.display())));
    }
    let mut bytes = Vec::with_capacity(size.len().min(limit) as usize);
    at(file.take(limit + 1).read_to_end(&mut bytes), path)?;
    if bytes.len() as u64 > limit {
        let message = format!("{}: more than {limit} bytes", path.display());
        return Err(Error::new(ErrorKind::Limit, message));
    }
    Ok(bytes.into())
}

/// Makes an empty folder, or takes one that is there and empty.
pub(crate) fn fresh_folder(path: &Path) -> Result<()> {
    at(fs::create_dir_all(path), path)?;
    if at(fs::read_dir(path), path)?.next().is_some() {
        let message = format!("folder {}: not empty", path.display());
        return Err(Error::new(ErrorKind::AlreadyExists, message));
    }
    Ok(())
}
