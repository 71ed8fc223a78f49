//! Files that appear whole or not at all.

use std::fs::{self, File};
use std::io;
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
        step("create", &path)?;
        Ok(Self { file, path, place: place.to_owned(), renamed: false })
    }

    pub(crate) fn file(&mut self) -> &mut File {
        &mut self.file
    }

    /// Makes sure that its bytes are on disk.
    pub(crate) fn sync(&self) -> io::Result<()> {
        step("sync", &self.path)?;
        self.file.sync_all()
    }

    /// Gives it its name, which another file may have had. That the name is on disk only
    /// [`sync_folder`] makes sure.
    pub(crate) fn rename(mut self) -> io::Result<()> {
        step("rename", &self.path)?;
        fs::rename(&self.path, &self.place)?;
        self.renamed = true;
        Ok(())
    }

    /// Puts it in its place, on disk with its bytes and its name.
    pub(crate) fn finish(self) -> io::Result<()> {
        self.sync()?;
        self.publish()
    }

    /// Puts it in its place with its name on disk. Its bytes were made sure of by
    /// [`sync`](Self::sync).
    pub(crate) fn publish(self) -> io::Result<()> {
        let folder = above(&self.place).to_owned();
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

/// Whether a file of this name was to become another, and is not whole.
pub(crate) fn is_unfinished(name: &str) -> bool {
    name.starts_with('.') && name.ends_with(ENDING)
}

/// The name of the file that a file of this name was to become.
fn becoming(name: &str) -> Option<&str> {
    let (place, number) = name.strip_prefix('.')?.strip_suffix(ENDING)?.rsplit_once('.')?;
    number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-').then_some(place)
}

/// Removes what is left of writings of this file that were cut off. Nobody else may be writing it.
pub(crate) fn clear_unfinished(place: &Path) -> io::Result<()> {
    let name = name(place)?;
    clear_unfinished_in(above(place), |other| other == name)
}

/// Removes what is left in a folder of writings that were cut off, of files with these names.
/// Nobody else may be writing them.
pub(crate) fn clear_unfinished_in(folder: &Path, of: impl Fn(&str) -> bool) -> io::Result<()> {
    step("list", folder)?;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_str().and_then(becoming).is_some_and(&of) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Makes sure that the names of the files in a folder are on disk.
pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    step("sync folder", path)?;
    File::open(path)?.sync_all()
}

/// Makes a folder that is not there, and those above it, with their names on disk.
pub(crate) fn make_folder(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let above = above(path);
    make_folder(above)?;
    match fs::create_dir(path) {
        // Somebody else made it meanwhile.
        Err(_) if path.is_dir() => {}
        made => made?,
    }
    sync_folder(above).inspect_err(|_| {
        // So that the next call syncs it again.
        let _ = fs::remove_dir(path);
    })
}

/// The folder in which a file or a folder lies.
fn above(place: &Path) -> &Path {
    let folder = place.parent().filter(|folder| !folder.as_os_str().is_empty());
    folder.unwrap_or(Path::new("."))
}

fn name(place: &Path) -> io::Result<&str> {
    let name = place.file_name().and_then(|name| name.to_str());
    name.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "it names no file"))
}

/// Where tests look on, and let a step fail.
fn step(what: &str, path: &Path) -> io::Result<()> {
    #[cfg(test)]
    return tests::step(what, path);
    #[cfg(not(test))]
    {
        let _ = (what, path);
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::cell::RefCell;
    use std::io::Write as _;

    use super::*;

    type Watch = Box<dyn FnMut(&str, &Path) -> io::Result<()>>;

    thread_local! {
        static WATCH: RefCell<Option<Watch>> = const { RefCell::new(None) };
    }

    /// Calls `watch` before each step that `work` does on this thread; a step fails if it does.
    pub(crate) fn watched<T>(
        watch: impl FnMut(&str, &Path) -> io::Result<()> + 'static,
        work: impl FnOnce() -> T,
    ) -> T {
        WATCH.set(Some(Box::new(watch)));
        let done = work();
        WATCH.set(None);
        done
    }

    pub(super) fn step(what: &str, path: &Path) -> io::Result<()> {
        // What the watch itself does is not watched.
        let Some(mut watch) = WATCH.take() else { return Ok(()) };
        let result = watch(what, path);
        WATCH.set(Some(watch));
        result
    }

    fn write_whole(place: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut unfinished = Unfinished::of(place)?;
        unfinished.file().write_all(bytes)?;
        unfinished.finish()
    }

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
    #[test]
    fn folders_that_are_made_are_on_disk_with_their_names() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("a/b");
        let (sender, synced) = std::sync::mpsc::channel();
        let make = |fails: usize| {
            let (sender, mut left) = (sender.clone(), fails);
            let watch = move |what: &str, path: &Path| {
                assert_eq!(what, "sync folder");
                if left == 0 {
                    return Err(io::ErrorKind::StorageFull.into());
                }
                left -= 1;
                sender.send(path.to_owned()).unwrap();
                Ok(())
            };
            watched(watch, || make_folder(&path))
        };
        let names = || synced.try_iter().collect::<Vec<_>>();
        assert!(make(0).is_err() && !root.path().join("a").exists());
        assert!(make(1).is_err() && !path.exists());
        assert_eq!(names(), [root.path()]);
        make(1).unwrap();
        assert_eq!(names(), [root.path().join("a")]);
        make(0).unwrap();
        assert!(path.is_dir() && names().is_empty());
        fs::write(path.join("file"), b"x").unwrap();
        assert!(make_folder(&path.join("file/folder")).is_err());
    }
}
