//! A folder that one program writes to, file by file, each whole or not there.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write as _};
use std::path::PathBuf;

use kaizen_core::{Context, Error, ErrorKind, Result};

use crate::whole_file::{Unfinished, is_unfinished, make_folder, sync_folder};

/// Locked while the folder is open.
const LOCK: &str = "lock";

/// The folder, and the lock on it, which the operating system lifts when the program ends.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    _lock: File,
    #[cfg(test)]
    pub(crate) disk: tests::Disk,
}

impl Folder {
    /// Makes the folder if it is not there, locks it, and clears away what was not finished.
    pub(crate) fn open(path: PathBuf) -> Result<Self> {
        let place = || format!("`{}`", path.display());
        make_folder(&path).context(ErrorKind::Unavailable, place())?;
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
            disk: tests::Disk::default(),
        };
        for name in folder.names()?.iter().filter(|name| is_unfinished(name)) {
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
        self.step()?;
        let mut unfinished = Unfinished::of(&self.path.join(name))?;
        let (first, second) = bytes.split_at(bytes.len() / 2);
        unfinished.file().write_all(first)?;
        self.step()?;
        unfinished.file().write_all(second)?;
        self.step()?;
        unfinished.sync()?;
        self.step()?;
        unfinished.rename()?;
        self.sync()
    }

    /// Removes a file, if it is there.
    pub(crate) fn remove(&self, name: &str) -> Result<()> {
        let removed = self.step().and_then(|()| match fs::remove_file(self.path.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        });
        #[cfg(test)]
        self.disk.names_not_synced.store(removed.is_ok(), std::sync::atomic::Ordering::Relaxed);
        removed.context(ErrorKind::Unavailable, self.file(name))
    }

    /// Makes sure that the names of files are on disk.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.step()?;
        #[cfg(test)]
        self.disk.names_not_synced.store(false, std::sync::atomic::Ordering::Relaxed);
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
        self.disk.step()?;
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::ops::Range;
    use std::sync::Mutex;
    use std::sync::atomic::AtomicBool;

    use super::*;

    /// A disk some of whose steps fail.
    #[derive(Debug, Default)]
    pub(crate) struct Disk {
        /// How many steps were made.
        steps: Mutex<usize>,
        /// Which of them fail, of these every so many.
        failing: Mutex<(Range<usize>, usize)>,
        /// Whether a name was removed, and may be there again when the power was cut.
        pub(crate) names_not_synced: AtomicBool,
    }

    impl Disk {
        /// Of these steps, counted from now on, every so many fail.
        pub(crate) fn fail(&self, steps: Range<usize>, every: usize) {
            *self.steps.lock().unwrap() = 0;
            *self.failing.lock().unwrap() = (steps, every);
        }

        pub(super) fn step(&self) -> io::Result<()> {
            let mut steps = self.steps.lock().unwrap();
            let step = *steps;
            *steps += 1;
            let (failing, every) = self.failing.lock().unwrap().clone();
            match failing.contains(&step) && (step - failing.start).is_multiple_of(every) {
                true => Err(io::Error::from(io::ErrorKind::StorageFull)),
                false => Ok(()),
            }
        }
    }
}
