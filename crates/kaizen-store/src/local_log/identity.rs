//! Which file bears a name, asked for without its times.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// Tells a file from another that bore its name: of two files that are there at the same time, no
/// two have the same.
pub(super) type Inode = (u64, u64);

/// A file that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) inode: Inode,
    /// Its size in bytes.
    pub(super) length: u64,
}

impl Identity {
    /// That of the file that bears this name, if there is one.
    pub(super) fn named(path: &Path) -> io::Result<Option<Self>> {
        match ask::named(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            found => found.map(Some),
        }
    }

    /// That of a file that is open.
    pub(super) fn opened(file: &File) -> io::Result<Self> {
        ask::opened(file)
    }
}

impl From<fs::Metadata> for Identity {
    fn from(found: fs::Metadata) -> Self {
        Self { inode: (found.dev(), found.ino()), length: found.len() }
    }
}

/// Linux is asked for what is wanted alone. From 6.13 on, a file that was asked for its times gets
/// a finer one at its next write, so that its inode has to be flushed with it: another turn of the
/// disk for every append.
#[cfg(target_os = "linux")]
mod ask {
    use rustix::fs::{AtFlags, CWD, Statx, StatxFlags, statx};
    use rustix::io::{Errno, Result};

    use super::{File, Identity, Path, fs, io};

    const WANTED: StatxFlags = StatxFlags::INO.union(StatxFlags::SIZE);

    pub(super) fn named(path: &Path) -> io::Result<Identity> {
        found(statx(CWD, path, AtFlags::empty(), WANTED), || fs::metadata(path))
    }

    pub(super) fn opened(file: &File) -> io::Result<Identity> {
        found(statx(file, "", AtFlags::EMPTY_PATH, WANTED), || file.metadata())
    }

    /// `old` asks a kernel that does not know the call.
    fn found(
        found: Result<Statx>,
        old: impl FnOnce() -> io::Result<fs::Metadata>,
    ) -> io::Result<Identity> {
        match found {
            Ok(found) => {
                let device = rustix::fs::makedev(found.stx_dev_major, found.stx_dev_minor);
                Ok(Identity { inode: (device, found.stx_ino), length: found.stx_size })
            }
            Err(Errno::NOSYS) => Ok(old()?.into()),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod ask {
    use super::{File, Identity, Path, fs, io};

    pub(super) fn named(path: &Path) -> io::Result<Identity> {
        Ok(fs::metadata(path)?.into())
    }

    pub(super) fn opened(file: &File) -> io::Result<Identity> {
        Ok(file.metadata()?.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_told_from_the_one_that_takes_its_name_however_it_is_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        assert_eq!(Identity::named(&path).unwrap(), None);
        fs::write(&path, "seven b").unwrap();
        let file = File::open(&path).unwrap();
        let first = Identity::named(&path).unwrap().unwrap();
        assert_eq!(first.length, 7);
        assert_eq!(Identity::opened(&file).unwrap(), first);
        assert_eq!(Identity::from(fs::metadata(&path).unwrap()), first);
        fs::remove_file(&path).unwrap();
        fs::write(&path, "other").unwrap();
        let second = Identity::named(&path).unwrap().unwrap();
        assert_ne!(second.inode, first.inode, "the first is still open");
        assert_eq!(Identity::opened(&file).unwrap(), first);
    }
}
