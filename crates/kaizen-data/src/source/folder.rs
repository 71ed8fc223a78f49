//! A folder that one program writes to, file by file, each whole or not there.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use kaizen_core::{Context, Error, ErrorKind, Result};

/// Locked while the folder is open.
const LOCK: &str = "lock";

/// The ending of a file that is not whole yet.
const TEMPORARY: &str = ".tmp";

/// The folder, and the lock on it, which the operating system lifts when the program ends.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    _lock: File,
    /// How many more steps succeed.
    #[cfg(test)]
    pub(crate) steps_left: std::sync::atomic::AtomicUsize,
}

impl Folder {
    /// Makes the folder if it is not there, locks it, and clears away what was not finished.
    pub(crate) fn open(path: PathBuf) -> Result<Self> {
        let place = || format!("`{}`", path.display());
        fs::create_dir_all(&path).context(ErrorKind::Unavailable, place())?;
        let lock = File::options().create(true).truncate(false).write(true).open(path.join(LOCK));
        let lock = lock.context(ErrorKind::Unavailable, place())?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Error::conflict(format!("{}: it is open already", place())));
            }
            Err(TryLockError::Error(error)) => {
                return Err(error).context(ErrorKind::Unavailable, place());
            }
        }
        let folder = Self {
            path,
            _lock: lock,
            #[cfg(test)]
            steps_left: usize::MAX.into(),
        };
        for name in folder.names()?.iter().filter(|name| name.ends_with(TEMPORARY)) {
            folder.remove(name)?;
        }
        Ok(folder)
    }

    /// The names of all files, in ascending order.
    pub(crate) fn names(&self) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path).context(ErrorKind::Unavailable, self.place())? {
            let entry = entry.context(ErrorKind::Unavailable, self.place())?;
            names.extend(entry.file_name().into_string().ok());
        }
        names.sort_unstable();
        Ok(names)
    }

    /// The bytes of a file.
    pub(crate) fn read(&self, name: &str) -> Result<Vec<u8>> {
        fs::read(self.path.join(name)).map_err(|error| {
            let kind = match error.kind() {
                io::ErrorKind::NotFound => ErrorKind::NotFound,
                _ => ErrorKind::Unavailable,
            };
            Error::new(kind, self.file(name)).with_source(error)
        })
    }

    /// The size of a file in bytes.
    pub(crate) fn size(&self, name: &str) -> Result<u64> {
        let metadata = fs::metadata(self.path.join(name));
        Ok(metadata.context(ErrorKind::Unavailable, self.file(name))?.len())
    }

    /// Makes a file, or puts another in its place, so that it is on disk when this returns. If it
    /// fails, the file may be there all the same.
    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        self.try_write(name, bytes).context(ErrorKind::Unavailable, self.file(name))
    }

    fn try_write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let temporary = self.path.join(format!(".{name}{TEMPORARY}"));
        let whole = || {
            self.step()?;
            let mut file = File::create(&temporary)?;
            let (first, second) = bytes.split_at(bytes.len() / 2);
            file.write_all(first)?;
            self.step()?;
            file.write_all(second)?;
            self.step()?;
            file.sync_all()?;
            self.step()?;
            fs::rename(&temporary, self.path.join(name))
        };
        if let Err(error) = whole() {
            // On a full disk this makes room again; what remains is cleared away when it is opened.
            let _ = fs::remove_file(&temporary);
            return Err(error);
        }
        self.sync()
    }

    /// Removes a file, if it is there.
    pub(crate) fn remove(&self, name: &str) -> Result<()> {
        let removed = self.step().and_then(|()| match fs::remove_file(self.path.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        });
        removed.context(ErrorKind::Unavailable, self.file(name))
    }

    /// Makes sure that the names of files are on disk.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.step()?;
        sync_folder(&self.path)
    }

    /// The file, for a message.
    pub(crate) fn file(&self, name: &str) -> String {
        format!("`{}`", self.path.join(name).display())
    }

    fn place(&self) -> String {
        format!("`{}`", self.path.display())
    }

    /// Where tests let the disk fail.
    fn step(&self) -> io::Result<()> {
        #[cfg(test)]
        {
            use std::sync::atomic::Ordering::Relaxed;
            let left = self.steps_left.load(Relaxed);
            if left == 0 {
                return Err(io::Error::from(io::ErrorKind::StorageFull));
            }
            self.steps_left.store(left - 1, Relaxed);
        }
        Ok(())
    }
}

/// Makes sure that the names of the files in a folder are on disk.
pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}
