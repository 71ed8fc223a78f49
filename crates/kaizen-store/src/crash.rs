//! Crashes at every file operation of a commit, on a disk that loses what was not flushed.

#![allow(clippy::clone_on_ref_ptr, reason = "it lets an `Arc<T>` become an `Arc<dyn Port>`")]

mod lock;
mod log;
mod store;

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kaizen_core::record::Release;
use kaizen_core::{ArtifactStore, Digest, Payload, Records};
use kaizen_testkit::artifact_store::release;

use crate::LocalStore;
use crate::files::{Disk, Files, Output, is_draft};

/// A disk that stops working after some number of operations.
#[derive(Debug, Default)]
struct FailingDisk(Arc<Mutex<State>>);

/// A file on that disk.
struct FailingOutput {
    file: Box<dyn Output>,
    number: usize,
    state: Arc<Mutex<State>>,
}

/// What of a file has reached the disk.
#[derive(Debug)]
struct Written {
    path: PathBuf,
    bytes: u64,
    /// So many of them are flushed.
    flushed: u64,
}

#[derive(Debug, Default)]
struct State {
    /// How many more operations succeed; without end if `None`.
    left: Option<u32>,
    /// Whether the operation that fails is done half.
    torn: bool,
    /// The last file that could not be written.
    not_written: Option<PathBuf>,
    /// Whether a power cut leaves half of what was not flushed, and not nothing.
    leaves_half: bool,
    /// How to undo what no flush of its directory has made safe, oldest first.
    unsafe_names: Vec<(PathBuf, Undo)>,
    /// Every file that was made.
    written: Vec<Written>,
}

#[derive(Debug)]
enum Undo {
    Restore(PathBuf, Option<Vec<u8>>),
    RemoveDir(PathBuf),
    Overwrite(PathBuf, u64, Vec<u8>),
}

impl FailingDisk {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fail_after(&self, operations: Option<u32>, torn: bool) {
        let mut state = self.state();
        (state.left, state.torn) = (operations, torn);
        state.leaves_half |= torn;
    }

    /// What a power cut does: bytes that were not flushed are gone, and every name that was not
    /// flushed is as it was before.
    fn lose_what_was_not_flushed(&self) {
        let mut state = self.state();
        let half = state.leaves_half;
        for file in state.written.drain(..).filter(|file| file.flushed < file.bytes) {
            let lost = file.bytes - file.flushed;
            let left = file.flushed + if half { lost / 2 } else { 0 };
            // One that was removed meanwhile has nothing to lose.
            if let Ok(opened) = File::options().write(true).open(&file.path) {
                opened.set_len(left).unwrap();
            }
        }
        drop(state);
        for (_, undo) in self.state().unsafe_names.drain(..).rev() {
            match undo {
                Undo::Restore(path, Some(bytes)) => {
                    fs::create_dir_all(path.parent().unwrap()).unwrap();
                    fs::write(path, bytes).unwrap();
                }
                Undo::Restore(path, None) => drop(fs::remove_file(path)),
                Undo::RemoveDir(path) => drop(fs::remove_dir_all(path)),
                Undo::Overwrite(path, offset, bytes) => write_over(&path, offset, &bytes).unwrap(),
            }
        }
    }

    fn step(&self) -> Result<(), bool> {
        step(&self.0)
    }

    fn remember(&self, path: &Path) {
        let undo = Undo::Restore(path.to_owned(), fs::read(path).ok());
        self.state().unsafe_names.push((path.parent().unwrap().to_owned(), undo));
    }

    fn output(&self, path: &Path, file: Box<dyn Output>) -> Box<dyn Output> {
        let mut state = self.state();
        // One that is written anew has the new bytes only.
        state
            .written
            .iter_mut()
            .filter(|file| file.path == path)
            .for_each(|file| file.path.clear());
        let number = state.written.len();
        state.written.push(Written { path: path.to_owned(), bytes: 0, flushed: 0 });
        Box::new(FailingOutput { file, number, state: Arc::clone(&self.0) })
    }
}

/// Counts an operation; on the one that fails, gives whether to do half of it.
fn step(state: &Mutex<State>) -> Result<(), bool> {
    let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
    let torn = state.torn;
    match &mut state.left {
        None => Ok(()),
        Some(0) => {
            state.torn = false;
            Err(torn)
        }
        Some(left) => {
            *left -= 1;
            Ok(())
        }
    }
}

impl FailingOutput {
    fn broken(&self) -> io::Error {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let file = state.written.get(self.number).map(|file| file.path.clone());
        // Errors of drafts name the file that they were to become.
        state.not_written = file.filter(|path| !is_draft(path));
        broken()
    }

    /// What is known of the file; nothing after a power cut.
    fn written(&self, change: impl FnOnce(&mut Written)) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(written) = state.written.get_mut(self.number) {
            change(written);
        }
    }
}

impl io::Write for FailingOutput {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let (length, done) = match step(&self.state) {
            Ok(()) => (bytes.len(), Ok(bytes.len())),
            Err(true) => (bytes.len() / 2, Err(self.broken())),
            Err(false) => (0, Err(self.broken())),
        };
        self.file.write_all(&bytes[..length])?;
        self.written(|file| file.bytes += length as u64);
        done
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Output for FailingOutput {
    fn sync(&mut self) -> io::Result<()> {
        step(&self.state).map_err(|_| self.broken())?;
        // The machine itself does not fail, so there is nothing to wait for.
        self.written(|file| file.flushed = file.bytes);
        Ok(())
    }
}

fn broken() -> io::Error {
    io::Error::other("the disk of the test is broken")
}

impl Files for FailingDisk {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.step().map_err(|_| broken())?;
        let above = dir.parent().unwrap().to_owned();
        self.state().unsafe_names.push((above, Undo::RemoveDir(dir.to_owned())));
        Disk.create_dir(dir)
    }

    fn create_new(&self, path: &Path) -> io::Result<Box<dyn Output>> {
        self.step().map_err(|_| broken())?;
        self.remember(path);
        Ok(self.output(path, Disk.create_new(path)?))
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn Output>> {
        self.step().map_err(|_| {
            self.state().not_written = Some(path.to_owned());
            broken()
        })?;
        self.remember(path);
        Ok(self.output(path, Disk.create(path)?))
    }

    fn touch(&self, path: &Path) -> io::Result<()> {
        self.step().map_err(|_| broken())?;
        Disk.touch(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step().map_err(|_| broken())?;
        self.remember(to);
        self.remember(from);
        Disk.rename(from, to)?;
        for file in &mut self.state().written {
            if file.path == to {
                // It has no name any more.
                file.path.clear();
            } else if file.path == from {
                to.clone_into(&mut file.path);
            }
        }
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.step().map_err(|_| broken())?;
        self.remember(path);
        Disk.remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.step().map_err(|_| broken())?;
        // The machine itself does not fail, so there is nothing to wait for.
        self.state().unsafe_names.retain(|(of, _)| of != dir);
        Ok(())
    }

    /// Two steps: the bytes reach the kernel, and they reach the disk.
    fn overwrite(&self, file: &File, path: &Path, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let half = bytes.len() / 2;
        if let Err(torn) = self.step() {
            if torn {
                file.write_all_at(&bytes[..half], offset)?;
            }
            return Err(broken());
        }
        let mut before = vec![0; bytes.len()];
        file.read_exact_at(&mut before, offset)?;
        file.write_all_at(bytes, offset)?;
        if let Err(torn) = self.step() {
            // The machine has the new bytes. The disk has the old ones, or the later half of the
            // new ones: nothing says in what order they go out.
            before.truncate(if torn { half } else { bytes.len() });
            let undo = Undo::Overwrite(path.to_owned(), offset, before);
            self.state().unsafe_names.push((path.to_owned(), undo));
            return Err(broken());
        }
        // What a failed flush has left behind stays lost, except where it was written again.
        for (_, undo) in &mut self.state().unsafe_names {
            if let Undo::Overwrite(of, at, before) = undo
                && of == path
            {
                let from = offset.max(*at);
                let to = (offset + bytes.len() as u64).min(*at + before.len() as u64);
                if from < to {
                    before[(from - *at) as usize..(to - *at) as usize]
                        .copy_from_slice(&bytes[(from - offset) as usize..(to - offset) as usize]);
                }
            }
        }
        Ok(())
    }
}

type Overwrites = dyn Fn(&File, u64, &[u8]) -> io::Result<()> + Send + Sync;
type Removes = dyn Fn(&Path) -> io::Result<()> + Send + Sync;

/// The disk of the machine, where a test sees to what becomes of some operations.
struct Meddling {
    overwrites: Box<Overwrites>,
    removes: Box<Removes>,
}

impl std::fmt::Debug for Meddling {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Meddling").finish_non_exhaustive()
    }
}

impl Meddling {
    fn overwriting(
        overwrites: impl Fn(&File, u64, &[u8]) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        Self { overwrites: Box::new(overwrites), removes: Box::new(|path| Disk.remove(path)) }
    }
}

impl Files for Meddling {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        Disk.create_dir(dir)
    }

    fn create_new(&self, path: &Path) -> io::Result<Box<dyn Output>> {
        Disk.create_new(path)
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn Output>> {
        Disk.create(path)
    }

    fn touch(&self, path: &Path) -> io::Result<()> {
        Disk.touch(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        Disk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        (self.removes)(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        Disk.sync_dir(dir)
    }

    fn overwrite(&self, file: &File, _: &Path, offset: u64, bytes: &[u8]) -> io::Result<()> {
        (self.overwrites)(file, offset, bytes)
    }
}

fn write_over(path: &Path, offset: u64, bytes: &[u8]) -> io::Result<()> {
    File::options().write(true).open(path)?.write_all_at(bytes, offset)
}

/// What the machine does when the disk fails.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Then {
    /// The process goes on, and the disk works again.
    GoesOn,
    /// The process is killed; the kernel keeps what was written.
    Killed,
    /// The power fails.
    PowerCut,
}

const CASES: [(bool, Then); 6] = [
    (false, Then::GoesOn),
    (true, Then::GoesOn),
    (false, Then::Killed),
    (true, Then::Killed),
    (false, Then::PowerCut),
    (true, Then::PowerCut),
];

#[test]
fn the_disk_of_these_tests_loses_bytes_that_were_not_flushed() {
    for (flushes, torn, left) in [(true, false, "abcd"), (false, true, "ab"), (false, false, "")] {
        let scratch = tempfile::tempdir().unwrap();
        let (path, disk) = (scratch.path().join("file"), FailingDisk::default());
        disk.fail_after(None, torn);
        let mut file = disk.create_new(&path).unwrap();
        io::Write::write_all(&mut file, b"abcd").unwrap();
        if flushes {
            file.sync().unwrap();
        }
        let named = path.with_extension("named");
        disk.rename(&path, &named).unwrap();
        disk.sync_dir(scratch.path()).unwrap();
        disk.lose_what_was_not_flushed();
        assert_eq!(fs::read_to_string(named).unwrap(), left);
    }
}

/// Opens a store and puts records, with the disk failing after `operations`.
async fn store_survives(operations: u32, torn: bool, then: Then) -> bool {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path().join("store");
    let what = format!("{operations} operations, torn {torn}, {then:?}");
    let disk = Arc::new(FailingDisk::default());
    disk.fail_after(Some(operations), torn);
    let mut put = Vec::new();
    let mut failed = true;
    let opened = LocalStore::open_on(dir.clone(), disk.clone()).await;
    if let Ok(store) = &opened {
        failed = false;
        for version in 0..3 {
            match store.put(&release(version), &[]).await {
                Ok(id) => put.push(id),
                Err(_) => {
                    failed = true;
                    break;
                }
            }
        }
    }
    disk.fail_after(None, false);
    if then == Then::PowerCut {
        disk.lose_what_was_not_flushed();
    }
    let store = match opened {
        Ok(store) if then == Then::GoesOn => store,
        _ => {
            let opened = LocalStore::open_on(dir, disk.clone()).await;
            opened.unwrap_or_else(|error| panic!("{what}: {error:?}"))
        }
    };
    let listed = store.manifests().await.unwrap();
    for (version, id) in (0..).zip(&put) {
        let stored = store.get::<Release>(id).await;
        let stored = stored.unwrap_or_else(|error| panic!("{what}: {error:?}"));
        assert_eq!(stored.record, release(version), "{what}");
        assert!(listed.contains(id), "{what}: {id} is not listed");
    }
    // Whatever was begun can be done again.
    for version in 0..3 {
        let id = store.put(&release(version), &[]).await.unwrap();
        assert_eq!(store.get::<Release>(&id).await.unwrap().record, release(version), "{what}");
    }
    assert_eq!(store.manifests().await.unwrap().len(), 3, "{what}");
    // And what was done again is on disk, also where the first attempt had made a part of it.
    disk.lose_what_was_not_flushed();
    let store = LocalStore::open_on(store.dir().to_owned(), disk).await.unwrap();
    assert_eq!(store.manifests().await.unwrap().len(), 3, "{what}");
    failed
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_survives_a_failure_at_every_file_operation() {
    for (torn, then) in CASES {
        let mut operations = 0;
        while store_survives(operations, torn, then).await {
            operations += 1;
        }
        assert!(operations > 20, "opening and putting take {operations} operations");
    }
}

/// Removes the payload of a record, with the disk failing after `operations`.
async fn removal_survives(operations: u32, torn: bool, then: Then) -> bool {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path().join("store");
    let what = format!("{operations} operations, torn {torn}, {then:?}");
    let disk = Arc::new(FailingDisk::default());
    let mut store = LocalStore::open_on(dir.clone(), disk.clone()).await.unwrap();
    let payload = Payload::new("rows", "text/plain", "rows of a person");
    let id = store.put(&release(1), std::slice::from_ref(&payload)).await.unwrap();
    let other = store.put(&release(2), &[]).await.unwrap();
    let doomed = Digest::of(&payload.bytes);

    disk.fail_after(Some(operations), torn);
    let removed = store.remove_blob(&doomed).await;
    disk.fail_after(None, false);
    if then == Then::PowerCut {
        disk.lose_what_was_not_flushed();
    }
    if then != Then::GoesOn {
        let files: Arc<dyn Files> = disk;
        store = LocalStore::open_on(dir, files).await.unwrap();
    }
    let there = store.contains(&doomed).await.unwrap();
    if removed.is_ok() {
        assert!(!there, "{what}: it was removed for good");
    }
    if there {
        assert_eq!(store.get_blob(&doomed).await.unwrap(), payload.bytes, "{what}");
    }
    let mut both = vec![id, other];
    both.sort_unstable();
    assert_eq!(store.manifests().await.unwrap(), both, "{what}");
    assert_eq!(store.get::<Release>(&id).await.unwrap().record, release(1), "{what}");
    // Done again, it is gone, and can come back.
    assert_eq!(store.remove_blob(&doomed).await.unwrap(), there, "{what}");
    assert!(!store.contains(&doomed).await.unwrap(), "{what}");
    store.put(&release(1), &[payload]).await.unwrap();
    assert!(store.contains(&doomed).await.unwrap(), "{what}");
    removed.is_err()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removal_survives_a_failure_at_every_file_operation() {
    for (torn, then) in CASES {
        let mut operations = 0;
        while removal_survives(operations, torn, then).await {
            operations += 1;
        }
        assert_eq!(operations, 2, "a removal is a removal and a flush");
    }
}
