//! The few file operations that a commit is made of, behind a seam where tests can make them fail.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::ops::Deref;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use kaizen_core::{Context, Error, ErrorKind, Result};
use rustix::fs::{AtFlags, CWD, OFlags, Timespec, Timestamps, UTIME_NOW, utimensat};

/// How the name of a file ends that is not finished.
pub(crate) const TEMPORARY: &str = ".tmp";

/// Everything that changes the disk. Reading needs no seam: it cannot lose anything.
pub(crate) trait Files: fmt::Debug + Send + Sync {
    /// Makes one directory.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;

    /// Makes a file that is not there yet, to be written in pieces.
    fn create_new(&self, path: &Path) -> io::Result<Box<dyn Output>>;

    /// Makes an empty file of one that may be there, to be written in pieces.
    fn create(&self, path: &Path) -> io::Result<Box<dyn Output>>;

    /// Writes a whole file, in place, and waits until its bytes are on disk. The file's *name* is
    /// only safe after [`Files::sync_dir`].
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut file = self.create(path)?;
        file.write_all(bytes)?;
        file.sync()
    }

    /// Says that the file was written now, by the clock of its file system.
    fn touch(&self, path: &Path) -> io::Result<()>;

    /// Gives a file another name in one step, in place of what bore that name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Waits until the names in a directory are on disk.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Writes over a part of a file, which has this path and is long enough already, and waits
    /// until those bytes are on disk. If it fails, any of them may be.
    fn overwrite(&self, file: &File, path: &Path, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Writes each of these files as [`Files::write`] does, in any order. The error names the one
    /// that could not be written.
    fn write_each(&self, files: &[(PathBuf, Vec<u8>)]) -> Result<()> {
        files.iter().try_for_each(|(path, bytes)| write_one(self, path, bytes))
    }
}

/// A file that is being written.
pub(crate) trait Output: io::Write + Send {
    /// Waits until what was written is on disk.
    fn sync(&mut self) -> io::Result<()>;
}

impl Output for File {
    fn sync(&mut self) -> io::Result<()> {
        self.sync_all()
    }
}

/// At most this many files are written at the same time: a disk flushes many for little more than
/// the price of one.
const WRITERS: usize = 16;

/// The disk of the machine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Disk;

impl Files for Disk {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        fs::create_dir(dir)
    }

    fn create_new(&self, path: &Path) -> io::Result<Box<dyn Output>> {
        Ok(Box::new(File::create_new(path)?))
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn Output>> {
        Ok(Box::new(File::create(path)?))
    }

    fn touch(&self, path: &Path) -> io::Result<()> {
        let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
        let now = Timestamps { last_access: now, last_modification: now };
        Ok(utimensat(CWD, path, &now, AtFlags::empty())?)
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

    fn overwrite(&self, file: &File, _path: &Path, offset: u64, bytes: &[u8]) -> io::Result<()> {
        file.write_all_at(bytes, offset)?;
        file.sync_data()
    }

    fn write_each(&self, files: &[(PathBuf, Vec<u8>)]) -> Result<()> {
        let writers = files.len().div_ceil(2).clamp(1, WRITERS);
        let mut parts = files.chunks(files.len().div_ceil(writers).max(1));
        let write = |part: &[(PathBuf, Vec<u8>)]| {
            part.iter().try_for_each(|(path, bytes)| write_one(self, path, bytes))
        };
        let mine = parts.next().unwrap_or_default();
        std::thread::scope(|scope| {
            let started: Vec<_> = parts.map(|part| scope.spawn(move || write(part))).collect();
            let written = write(mine);
            let others = started.into_iter().map(|writer| {
                writer.join().unwrap_or_else(|_| Err(Error::internal("a writer of files panicked")))
            });
            others.fold(written, Result::and)
        })
    }
}

fn write_one<F: Files + ?Sized>(files: &F, path: &Path, bytes: &[u8]) -> Result<()> {
    files.write(path, bytes).map_err(|error| failed(path, error))
}

/// Makes a directory and those above it, durably. One that is there already is fine.
pub(crate) fn create_dirs(files: &dyn Files, dir: &Path) -> Result<()> {
    if dir.is_dir() {
        return sync_names(files, dir);
    }
    let above = parent(dir)?;
    create_dirs(files, above)?;
    match files.create_dir(dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(failed(dir, error)),
        _ => files.sync_dir(above).map_err(|error| failed(above, error)),
    }
}

/// Waits until the names that lead to a directory are on disk: whoever made it may have been cut
/// off before they were.
fn sync_names(files: &dyn Files, dir: &Path) -> Result<()> {
    let whole = std::path::absolute(dir).map_err(|error| failed(dir, error))?;
    for above in whole.ancestors().skip(1) {
        match files.sync_dir(above) {
            Ok(()) => {}
            // Nobody like us has made a name there.
            Err(error) if cannot_be_synced(&error) => break,
            Err(error) => return Err(failed(above, error)),
        }
    }
    Ok(())
}

/// Whether a directory is not ours to open, or its file system cannot flush one.
pub(crate) fn cannot_be_synced(error: &io::Error) -> bool {
    use io::ErrorKind as E;
    let kinds = [E::PermissionDenied, E::ReadOnlyFilesystem, E::InvalidInput, E::Unsupported];
    kinds.contains(&error.kind())
}

/// Puts a file in place of whatever stands at `path`: a reader sees the old bytes or the new ones,
/// and after a crash too.
pub(crate) fn publish(files: &(dyn Files + 'static), path: &Path, bytes: &[u8]) -> Result<()> {
    let mut draft = Draft::create(files, parent(path)?)?;
    draft.write(bytes)?;
    draft.publish(path)
}

/// A file under a temporary name, which nobody reads. Unless it is published it goes away.
pub(crate) struct Draft<F: Deref<Target = dyn Files>> {
    files: F,
    path: PathBuf,
    output: Box<dyn Output>,
    published: bool,
}

impl<F: Deref<Target = dyn Files>> Draft<F> {
    /// Begins a file in this directory.
    pub(crate) fn create(files: F, dir: &Path) -> Result<Self> {
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        loop {
            let number = COUNTER.fetch_add(1, Ordering::Relaxed);
            let path = dir.join(format!(".{}-{number}{TEMPORARY}", std::process::id()));
            match files.create_new(&path) {
                Ok(output) => return Ok(Self { files, path, output, published: false }),
                // Left by a process that was killed, or in use by one of another machine.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(failed(&path, error)),
            }
        }
    }

    /// Adds bytes.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.output.write_all(bytes).map_err(|error| failed(&self.path, error))
    }

    /// The file under its temporary name.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Puts the file in place of whatever stands at `path`, in the same directory.
    pub(crate) fn publish(self, path: &Path) -> Result<()> {
        self.publish_while(path, || Ok(()))
    }

    /// The same; what `hold` gives is held while the file gets its name.
    pub(crate) fn publish_while<T>(
        mut self,
        path: &Path,
        hold: impl FnOnce() -> Result<T>,
    ) -> Result<()> {
        self.output.sync().map_err(|error| failed(path, error))?;
        let held = hold()?;
        self.files.rename(&self.path, path).map_err(|error| failed(path, error))?;
        drop(held);
        self.published = true;
        let dir = parent(path)?;
        self.files.sync_dir(dir).map_err(|error| failed(dir, error))
    }
}

impl<F: Deref<Target = dyn Files>> Drop for Draft<F> {
    fn drop(&mut self) {
        if !self.published {
            // What was begun is of no use to anybody, and nobody would find it: the name is ours.
            let _ = self.files.remove(&self.path);
        }
    }
}

/// Whether a file bears a temporary name.
pub(crate) fn is_draft(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.starts_with('.') && name.ends_with(TEMPORARY)
}

/// How files are opened that somebody else may have put there: not to wait for the other end of
/// what is no file.
pub(crate) fn options() -> OpenOptions {
    let mut options = File::options();
    options.custom_flags(OFlags::NONBLOCK.bits().cast_signed());
    options
}

/// The bytes of a file, or `None` if there is none. More than `most` are [`ErrorKind::Limit`].
pub(crate) fn read_at_most(path: &Path, most: u64) -> Result<Option<Vec<u8>>> {
    let file = match options().read(true).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(path, error)),
    };
    // What is read is bounded, and not only what the file is said to have: it may grow.
    let said = file.metadata().map_err(|error| failed(path, error))?;
    if !said.is_file() {
        let message = format!("{}: it is no file", path.display());
        return Err(Error::new(ErrorKind::Unavailable, message));
    }
    let mut bytes = Vec::with_capacity(said.len().min(most).min(1 << 20) as usize);
    let read = file.take(most.saturating_add(1)).read_to_end(&mut bytes);
    read.map_err(|error| failed(path, error))?;
    if bytes.len() as u64 > most {
        let message = format!("{}: more than {most} bytes", path.display());
        return Err(Error::new(ErrorKind::Limit, message));
    }
    Ok(Some(bytes))
}

/// The same of a file of ours, which never is longer than `most`: one that is has been damaged.
pub(crate) fn read_whole(path: &Path, most: u64) -> Result<Option<Vec<u8>>> {
    read_at_most(path, most).map_err(|error| match error.kind() {
        ErrorKind::Limit => Error::corrupt(error.to_string()),
        _ => error,
    })
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
    locked(path, File::lock)
}

/// Waits for the lock that this file stands for, which many may hold like this at the same time.
pub(crate) fn lock_shared(path: &Path) -> Result<Lock> {
    locked(path, File::lock_shared)
}

fn locked(path: &Path, lock: fn(&File) -> io::Result<()>) -> Result<Lock> {
    let opened = File::options().create(true).write(true).truncate(false).open(path);
    let file = opened.map_err(|error| failed(path, error))?;
    lock(&file).map_err(|error| failed(path, error))?;
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

pub(crate) fn parent(path: &Path) -> Result<&Path> {
    match path.parent() {
        Some(dir) if dir.as_os_str().is_empty() => Ok(Path::new(".")),
        Some(dir) => Ok(dir),
        None => Err(Error::invalid(format!("{}: no directory above it", path.display()))),
    }
}
