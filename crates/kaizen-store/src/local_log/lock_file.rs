//! The file `checkpoint.lock`: whoever holds its lock may write to the log, and says in the file
//! what is committed. Whoever only reads believes that, and needs no lock.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::time::Duration;

use kaizen_core::{Digest, Error, ErrorKind, Result};

use super::identity::{Identity, Inode};
use super::lock;
use crate::files;
use crate::head::Head;

const MAGIC: [u8; 8] = *b"KZLOGLCK";
const VERSION: u32 = 2;
/// How long a record is without the digest at its end.
const BODY: usize = 88;
const RECORD: usize = BODY + 32;

/// How often a record is read again that is not whole, and how long after: whoever reads has no
/// lock, and may meet one that is half written.
const READS: u32 = 20;
const PAUSE: Duration = Duration::from_millis(1);

/// What is committed in a log: flushed, and so acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Committed {
    /// The head over all of it.
    pub(super) head: Head,
    /// How many entries are in tiles.
    pub(super) published: u64,
    /// Where the journal ends that holds the others.
    pub(super) end: u64,
}

/// What the last one who held the lock says in its file.
///
/// It is never flushed. It tells one process what another did before it was killed, and for that
/// the memory of the machine will do. After a power cut it may be an earlier one, which is true of
/// what was committed then: the log has at least that. So it says during which run of the machine
/// it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) committed: Committed,
    /// Something is being written beyond that; or whoever did so was killed, or failed.
    pub(super) unfinished: bool,
    /// Of the run of the machine; zeros where that is not known.
    boot: [u8; 16],
}

/// No run of a machine is called that.
const NO_BOOT: [u8; 16] = [0xff; 16];

/// What Linux calls this run of the machine; zeros elsewhere.
fn this_boot() -> [u8; 16] {
    static BOOT: OnceLock<[u8; 16]> = OnceLock::new();
    *BOOT.get_or_init(|| {
        let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let number = u128::from_str_radix(&text.trim().replace('-', ""), 16);
        number.unwrap_or_default().to_be_bytes()
    })
}

impl Record {
    /// Whether it says exactly what is committed. One of an earlier run of the machine says only
    /// what was, at some time.
    pub(super) fn is_exact(&self) -> bool {
        self.boot == this_boot()
    }

    /// Whether its writer was cut off in the commit that would have followed these.
    pub(super) fn is_cut_off_at(&self, committed: &Committed) -> bool {
        self.is_exact() && self.unfinished && self.committed == *committed
    }

    /// Whether a writer may have been cut off there: after a power cut nobody can tell, unless the
    /// record says that more was committed.
    pub(super) fn may_be_cut_off_at(&self, committed: &Committed) -> bool {
        let place = |committed: &Committed| (committed.published, committed.end);
        match self.is_exact() {
            true => self.is_cut_off_at(committed),
            false => place(&self.committed) <= place(committed),
        }
    }

    fn to_bytes(self) -> [u8; RECORD] {
        let Committed { head, published, end } = self.committed;
        let mut bytes = [0; RECORD];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[12..16].copy_from_slice(&u32::from(self.unfinished).to_le_bytes());
        bytes[16..24].copy_from_slice(&head.size.to_le_bytes());
        bytes[24..56].copy_from_slice(head.root.as_bytes());
        bytes[56..64].copy_from_slice(&published.to_le_bytes());
        bytes[64..72].copy_from_slice(&end.to_le_bytes());
        bytes[72..BODY].copy_from_slice(&self.boot);
        let digest = Digest::of(&bytes[..BODY]);
        bytes[BODY..].copy_from_slice(digest.as_bytes());
        bytes
    }

    /// The record in these bytes; `None` if there is none that is whole.
    fn parse(bytes: &[u8; RECORD]) -> Option<Self> {
        let integer = |at: usize| bytes[at..].first_chunk().map(|found| u64::from_le_bytes(*found));
        let flag = match bytes[12..16] {
            [0, 0, 0, 0] => false,
            [1, 0, 0, 0] => true,
            _ => return None,
        };
        let known = bytes[..8] == MAGIC && bytes[8..12] == VERSION.to_le_bytes();
        if !known || bytes[BODY..] != *Digest::of(&bytes[..BODY]).as_bytes() {
            return None;
        }
        let head =
            Head { size: integer(16)?, root: Digest::from_bytes(*bytes[24..].first_chunk()?) };
        let committed = Committed { head, published: integer(56)?, end: integer(64)? };
        Some(Self { committed, unfinished: flag, boot: *bytes[72..].first_chunk()? })
    }
}

/// Who is next, of the threads of this process that write: in the order in which they came. The
/// lock of a file does not tell threads apart that share a handle.
#[derive(Debug, Default)]
struct Turns {
    /// The number of the next one who comes, and of the one whose turn it is.
    next: Mutex<(u64, u64)>,
    passed: Condvar,
}

/// Somebody's turn, until this is dropped.
#[derive(Debug)]
struct Turn<'a>(&'a Turns);

impl Turns {
    fn wait(&self) -> Turn<'_> {
        let mut next = lock(&self.next);
        let mine = next.0;
        next.0 += 1;
        while next.1 != mine {
            next = self.passed.wait(next).unwrap_or_else(std::sync::PoisonError::into_inner);
        }
        Turn(self)
    }

    fn at_once(&self) -> Option<Turn<'_>> {
        let mut next = lock(&self.next);
        if next.0 != next.1 {
            return None;
        }
        next.0 += 1;
        Some(Turn(self))
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        lock(&self.0.next).1 += 1;
        self.0.passed.notify_all();
    }
}

/// The file, kept open.
#[derive(Debug)]
pub(super) struct LockFile {
    path: PathBuf,
    /// Whether it may be made.
    writes: bool,
    turns: Turns,
    opened: Mutex<Option<Arc<Opened>>>,
}

#[derive(Debug)]
struct Opened {
    file: File,
    inode: Inode,
}

/// The right to write to the log, until this is dropped.
#[derive(Debug)]
pub(super) struct Held<'a> {
    path: &'a Path,
    opened: Arc<Opened>,
    _turn: Turn<'a>,
}

impl LockFile {
    /// The lock of a log that this process may write to, or may only read.
    pub(super) fn new(path: PathBuf, writes: bool) -> Self {
        Self { path, writes, turns: Turns::default(), opened: Mutex::default() }
    }

    /// Waits until nobody else, here or in another process, may write.
    pub(super) fn hold(&self) -> Result<Held<'_>> {
        let turn = self.turns.wait();
        let known = lock(&self.opened).clone();
        // Mostly nobody has it, and one look at the name is enough.
        let mut opened = match known.filter(|known| known.file.try_lock().is_ok()) {
            Some(known) => known,
            None => self.locked()?,
        };
        // Locked is the file that bore the name then. Others lock the one that does now.
        while !Arc::ptr_eq(&opened, &self.opened()?) {
            opened.file.unlock().map_err(|error| self.failed(error))?;
            opened = self.locked()?;
        }
        Ok(Held { path: &self.path, opened, _turn: turn })
    }

    /// Waits for the file that bears the name now.
    fn locked(&self) -> Result<Arc<Opened>> {
        let opened = self.opened()?;
        opened.file.lock().map_err(|error| self.failed(error))?;
        Ok(opened)
    }

    /// The right to write, if nobody else has it just now.
    pub(super) fn hold_at_once(&self) -> Result<Option<Held<'_>>> {
        let Some(turn) = self.turns.at_once() else { return Ok(None) };
        let opened = self.opened()?;
        match opened.file.try_lock() {
            Ok(()) => {
                let held = Held { path: &self.path, opened, _turn: turn };
                Ok(held.bears_the_name()?.then_some(held))
            }
            Err(fs::TryLockError::WouldBlock) => Ok(None),
            Err(fs::TryLockError::Error(error)) => Err(self.failed(error)),
        }
    }

    /// What the file says; `None` if nothing that is whole.
    pub(super) fn read(&self) -> Result<Option<Record>> {
        if !self.writes && !self.path.exists() {
            return Ok(None);
        }
        let opened = self.opened()?;
        said_in(&opened.file).map_err(|error| self.failed(error))
    }

    /// The file that bears the name now.
    fn opened(&self) -> Result<Arc<Opened>> {
        let mut known = lock(&self.opened);
        let now = Identity::named(&self.path).map_err(|error| self.failed(error))?;
        let now = now.map(|now| now.inode);
        if let Some(opened) = known.as_ref().filter(|opened| now == Some(opened.inode)) {
            return Ok(Arc::clone(opened));
        }
        let mut options = files::options();
        options.create(self.writes).read(true).write(self.writes).truncate(false);
        let file = options.open(&self.path).map_err(|error| self.failed(error))?;
        let inode = Identity::opened(&file).map_err(|error| self.failed(error))?.inode;
        Ok(Arc::clone(known.insert(Arc::new(Opened { file, inode }))))
    }

    fn failed(&self, error: io::Error) -> Error {
        files::failed(&self.path, error)
    }
}

/// What the file of a log says, if it is whole; for one who has the lock.
fn record_in(file: &File) -> io::Result<Option<Record>> {
    Ok(read(file)?.and_then(|bytes| Record::parse(&bytes)))
}

/// Keeps writers off for as long as the file is open, if none of them keeps others off for
/// `patience`: it may have been stopped.
pub(super) fn keep_off(file: &File, patience: Duration) -> bool {
    let tries = patience.as_micros() / PAUSE.as_micros();
    (0..tries).any(|_| match file.try_lock_shared() {
        Err(fs::TryLockError::WouldBlock) => {
            std::thread::sleep(PAUSE);
            false
        }
        locked => locked.is_ok(),
    })
}

/// What the file of a log says, if it is whole; for one who may have no lock.
pub(super) fn said_in(file: &File) -> io::Result<Option<Record>> {
    whole(|| read(file))
}

/// The bytes of a record; `None` if the file is too short for one.
fn read(file: &File) -> io::Result<Option<[u8; RECORD]>> {
    let mut bytes = [0; RECORD];
    match file.read_exact_at(&mut bytes, 0) {
        Ok(()) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

/// The record, read until it is whole. What stays damaged is none.
fn whole(mut read: impl FnMut() -> io::Result<Option<[u8; RECORD]>>) -> io::Result<Option<Record>> {
    for _ in 0..READS {
        let Some(bytes) = read()? else { return Ok(None) };
        if let Some(record) = Record::parse(&bytes) {
            return Ok(Some(record));
        }
        std::thread::sleep(PAUSE);
    }
    Ok(None)
}

impl Held<'_> {
    /// What the last one who held the lock says; `None` if nothing that is whole.
    pub(super) fn record(&self) -> Result<Option<Record>> {
        record_in(&self.opened.file).map_err(|error| files::failed(self.path, error))
    }

    /// Says that something is about to be written beyond what is committed.
    pub(super) fn begin(&self, committed: Committed) -> Result<()> {
        self.still_alone()?;
        self.write(Record { committed, unfinished: true, boot: this_boot() })
    }

    /// The same where a log is brought to an end. What is said to be committed is what the last one
    /// said, and worth no more than it was then: `base`, where nobody has said anything, is less
    /// than what is committed.
    pub(super) fn begin_to_settle(&self, last: Option<Record>, base: Committed) -> Result<()> {
        self.still_alone()?;
        let last = last.unwrap_or(Record { committed: base, unfinished: true, boot: NO_BOOT });
        self.write(Record { unfinished: true, ..last })
    }

    /// Says what is committed now.
    pub(super) fn finish(&self, committed: Committed) -> Result<()> {
        self.write(Record { committed, unfinished: false, boot: this_boot() })
    }

    /// Makes sure that others are still kept off.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unavailable`] if the file was removed: others may write already.
    pub(super) fn still_alone(&self) -> Result<()> {
        if self.bears_the_name()? {
            return Ok(());
        }
        let message = format!("{}: it was removed while the log was written", self.path.display());
        Err(Error::new(ErrorKind::Unavailable, message))
    }

    /// Whether the file that is locked is the one that others would lock.
    fn bears_the_name(&self) -> Result<bool> {
        let now = Identity::named(self.path).map_err(|error| files::failed(self.path, error))?;
        Ok(now.is_some_and(|now| now.inode == self.opened.inode))
    }

    fn write(&self, record: Record) -> Result<()> {
        let written = self.opened.file.write_all_at(&record.to_bytes(), 0);
        written.map_err(|error| files::failed(self.path, error))
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.opened.file.unlock() {
            tracing::warn!(path = %self.path.display(), %error, "lock not given back");
        }
    }
}

/// Makes the record in this file one of an earlier run of the machine.
#[cfg(test)]
pub(crate) fn age(path: &Path) {
    let file = File::options().read(true).write(true).open(path).unwrap();
    if let Some(record) = record_in(&file).unwrap() {
        file.write_all_at(&Record { boot: [7; 16], ..record }.to_bytes(), 0).unwrap();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn committed(size: u64) -> Committed {
        let head = Head { size, root: Digest::of(size.to_be_bytes()) };
        Committed { head, published: size / 2, end: 4096 * size }
    }

    #[test]
    fn a_record_comes_back_and_one_with_any_changed_byte_is_none() {
        for unfinished in [false, true] {
            let record = Record { committed: committed(77), unfinished, boot: [5; 16] };
            let bytes = record.to_bytes();
            assert_eq!(Record::parse(&bytes), Some(record));
            for at in 0..RECORD {
                let mut changed = bytes;
                changed[at] ^= 1 << (at % 8);
                assert_eq!(Record::parse(&changed), None, "{at}");
            }
        }
        assert_eq!(Record::parse(&[0; RECORD]), None);
    }

    #[test]
    fn a_record_that_is_half_written_is_read_again() {
        let record = Record { committed: committed(3), unfinished: false, boot: this_boot() };
        let mut torn = record.to_bytes();
        torn[30..].fill(1);
        let mut reads = [torn, torn, record.to_bytes()].into_iter();
        assert_eq!(whole(|| Ok(reads.next())).unwrap(), Some(record));
        assert_eq!(whole(|| Ok(Some(torn))).unwrap(), None);
        assert_eq!(whole(|| Ok(None)).unwrap(), None);
        assert!(record.is_exact() && !Record { boot: [7; 16], ..record }.is_exact());
    }

    #[test]
    fn one_holds_the_lock_at_a_time_and_a_file_that_takes_the_name_is_the_lock_from_then_on() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("checkpoint.lock");
        let (one, other) = (LockFile::new(path.clone(), true), LockFile::new(path.clone(), true));
        assert_eq!(one.read().unwrap(), None);
        let held = one.hold().unwrap();
        assert!(one.hold_at_once().unwrap().is_none());
        assert!(other.hold_at_once().unwrap().is_none());
        held.begin(committed(3)).unwrap();
        assert_eq!(
            other.read().unwrap(),
            Some(Record { committed: committed(3), unfinished: true, boot: this_boot() })
        );
        held.finish(committed(4)).unwrap();
        drop(held);
        let held = other.hold_at_once().unwrap().unwrap();
        assert_eq!(held.record().unwrap().unwrap().committed, committed(4));
        drop(held);

        let held = one.hold().unwrap();
        held.still_alone().unwrap();
        fs::remove_file(&path).unwrap();
        assert_eq!(held.still_alone().unwrap_err().kind(), ErrorKind::Unavailable);
        assert_eq!(held.begin(committed(5)).unwrap_err().kind(), ErrorKind::Unavailable);
        drop(held);
        let held = one.hold().unwrap();
        assert_eq!(held.record().unwrap(), None);
        assert!(other.hold_at_once().unwrap().is_none(), "both see the new one");
        drop(held);
        assert!(other.hold_at_once().unwrap().is_some());
    }

    #[test]
    fn whoever_came_first_holds_the_lock_first() {
        let dir = tempfile::tempdir().unwrap();
        let file = LockFile::new(dir.path().join("checkpoint.lock"), true);
        let order = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            let held = file.hold().unwrap();
            for number in 1..=5 {
                scope.spawn({
                    let (file, order) = (&file, &order);
                    move || {
                        let _held = file.hold().unwrap();
                        lock(order).push(number);
                    }
                });
                while lock(&file.turns.next).0 != number + 1 {
                    std::thread::yield_now();
                }
            }
            drop(held);
        });
        assert_eq!(order.into_inner().unwrap(), [1, 2, 3, 4, 5]);
    }
}
