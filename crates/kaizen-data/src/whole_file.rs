//! Files that appear whole or not at all.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The ending of a file that is not whole yet; its name begins with `.` besides.
const ENDING: &str = ".tmp";

/// Distinguishes files that one process writes at the same time.
static WRITES: AtomicU64 = AtomicU64::new(0);

/// A file that is written under another name, beside its place, until it is whole. If it is dropped
/// before, it is removed.
#[derive(Debug)]
pub(crate) struct Unfinished {
    file: File,
    path: PathBuf,
    place: PathBuf,
    renamed: bool,
}

impl Unfinished {
    /// Begins a file that is to stand at this path.
    pub(crate) fn of(place: &Path) -> io::Result<Self> {
        let name = name(place)?;
        let (process, count) = (std::process::id(), WRITES.fetch_add(1, Relaxed));
        let path = place.with_file_name(format!(".{name}.{process}-{count}{ENDING}"));
        let file = File::create(&path)?;
        Ok(Self { file, path, place: place.to_owned(), renamed: false })
    }

    pub(crate) fn file(&mut self) -> &mut File {
        &mut self.file
    }

    /// Makes sure that its bytes are on disk.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.file.sync_all()
    }

    /// Gives it its name, which another file may have had. That the name is on disk only
    /// [`sync_folder`] makes sure.
    pub(crate) fn rename(mut self) -> io::Result<()> {
        fs::rename(&self.path, &self.place)?;
        self.renamed = true;
        Ok(())
    }

    /// Puts it in its place, on disk with its bytes and its name.
    pub(crate) fn finish(self) -> io::Result<()> {
        self.sync()?;
        let folder = folder(&self.place).to_owned();
        self.rename()?;
        sync_folder(&folder)
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.renamed {
            // On a full disk this makes room again; what cannot be removed is never read.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Writes a file of these bytes, whole or not at all, in place of one of that name. Blocks.
pub(crate) fn write_whole(place: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut unfinished = Unfinished::of(place)?;
    unfinished.file().write_all(bytes)?;
    unfinished.finish()
}

/// Whether a file of this name was to become another, and is not whole.
pub(crate) fn is_unfinished(name: &str) -> bool {
    name.starts_with('.') && name.ends_with(ENDING)
}

/// Removes what is left of writings of this file that were cut off. Nobody else may be writing it.
pub(crate) fn clear_unfinished(place: &Path) -> io::Result<()> {
    let begin = format!(".{}.", name(place)?);
    for entry in fs::read_dir(folder(place))? {
        let entry = entry?;
        let found = entry.file_name();
        let number =
            found.to_str().and_then(|name| name.strip_prefix(&begin)?.strip_suffix(ENDING));
        let ours = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
        if number.is_some_and(ours) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Makes sure that the names of the files in a folder are on disk.
pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

fn folder(place: &Path) -> &Path {
    let folder = place.parent().filter(|folder| !folder.as_os_str().is_empty());
    folder.unwrap_or(Path::new("."))
}

fn name(place: &Path) -> io::Result<&str> {
    let name = place.file_name().and_then(|name| name.to_str());
    name.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "it names no file"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_whole_or_not_there() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("a");
        let names = || fs::read_dir(folder.path()).unwrap().count();
        let mut first = Unfinished::of(&place).unwrap();
        first.file().write_all(b"half").unwrap();
        let second = Unfinished::of(&place).unwrap();
        assert_eq!(names(), 2, "two writings do not meet");
        drop((first, second));
        assert_eq!(names(), 0);
        write_whole(&place, b"one").unwrap();
        write_whole(&place, b"two").unwrap();
        assert_eq!((fs::read(&place).unwrap().as_slice(), names()), (&b"two"[..], 1));
        for left in [".a.12-3.tmp", ".ab.12-3.tmp", ".a.b.tmp"] {
            fs::write(folder.path().join(left), b"x").unwrap();
            assert!(is_unfinished(left));
        }
        clear_unfinished(&place).unwrap();
        assert_eq!(names(), 3, "only what is left of this file is removed");
        assert!(write_whole(&folder.path().join("none/a"), b"x").is_err());
        assert!(write_whole(Path::new("/"), b"x").is_err());
    }
}
