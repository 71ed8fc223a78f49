//! The few file operations that a commit is made of, behind a seam where tests can make them fail.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use kaizen_core::{Context, Error, ErrorKind, Result};

/// Everything that changes the disk. Reading needs no seam: it cannot lose anything.
pub(crate) trait Files: fmt::Debug + Send + Sync {
    /// Makes one directory.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;

    /// Writes a whole file, in place, and waits until its bytes are on disk. The file's *name* is
    /// only safe after [`Files::sync_dir`].
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;

    /// Gives a file another name in one step, in place of what bore that name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Waits until the names in a directory are on disk.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
}

/// The disk of the machine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Disk;

impl Files for Disk {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        fs::create_dir(dir)
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut file = File::create(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }
}

/// Makes a directory and those above it, durably. One that is there already is fine.
pub(crate) fn create_dirs(files: &dyn Files, dir: &Path) -> Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    let above = parent(dir)?;
    create_dirs(files, above)?;
    match files.create_dir(dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(failed(dir, error)),
        _ => files.sync_dir(above).map_err(|error| failed(above, error)),
    }
}

/// Puts a file in place of whatever stands at `path`: a reader sees the old bytes or the new ones,
/// and after a crash too.
pub(crate) fn publish(files: &dyn Files, path: &Path, bytes: &[u8]) -> Result<()> {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let dir = parent(path)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let number = COUNTER.fetch_add(1, Ordering::Relaxed);
    let temporary = dir.join(format!(".{name}.{}-{number}.tmp", std::process::id()));
    let renamed = files.write(&temporary, bytes).and_then(|()| files.rename(&temporary, path));
    if let Err(error) = renamed {
        // What was begun is of no use to anybody, and nobody would find it: the name is ours.
        let _ = files.remove(&temporary);
        return Err(failed(path, error));
    }
    files.sync_dir(dir).map_err(|error| failed(dir, error))
}

/// Writes a file that no reader looks at before a later step makes it valid.
pub(crate) fn place(files: &dyn Files, path: &Path, bytes: &[u8]) -> Result<()> {
    let dir = parent(path)?;
    create_dirs(files, dir)?;
    files.write(path, bytes).map_err(|error| failed(path, error))?;
    files.sync_dir(dir).map_err(|error| failed(dir, error))
}

/// The bytes of a file, or `None` if there is none.
pub(crate) fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(path, error)),
    }
}

/// Names in a directory, ascending; none if there is no such directory.
pub(crate) fn list(dir: &Path) -> Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(dir, error)),
    };
    let paths: io::Result<Vec<_>> = entries.map(|entry| Ok(entry?.path())).collect();
    let mut paths = paths.map_err(|error| failed(dir, error))?;
    paths.sort_unstable();
    Ok(paths)
}

/// An advisory lock between processes and threads, held until this is dropped.
#[derive(Debug)]
pub(crate) struct Lock(#[expect(dead_code, reason = "held, not read")] File);

/// Waits for the lock that this file stands for.
pub(crate) fn lock(path: &Path) -> Result<Lock> {
    let opened = File::options().create(true).write(true).truncate(false).open(path);
    let file = opened.map_err(|error| failed(path, error))?;
    file.lock().map_err(|error| failed(path, error))?;
    Ok(Lock(file))
}

/// A file operation failed: the world's fault, perhaps only for now.
pub(crate) fn failed(path: &Path, error: io::Error) -> Error {
    Error::new(ErrorKind::Unavailable, path.display().to_string()).with_source(error)
}

/// Runs file work off the executor. It runs to its end even if nobody waits for it any more.
pub(crate) async fn blocking<T, F>(work: F) -> Result<T>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T> + Send + 'static,
{
    let joined = tokio::task::spawn_blocking(work).await;
    joined.context(ErrorKind::Internal, "file work panicked")?
}

fn parent(path: &Path) -> Result<&Path> {
    match path.parent() {
        Some(dir) if dir.as_os_str().is_empty() => Ok(Path::new(".")),
        Some(dir) => Ok(dir),
        None => Err(Error::invalid(format!("{}: no directory above it", path.display()))),
    }
}
