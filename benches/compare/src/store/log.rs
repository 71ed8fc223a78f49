//! Appends to the audit log and its verification, and the same bytes on the bare disk.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kaizen_core::{
    Actor, AuditLog, Context, Digest, Entry, Error, ErrorKind, Event, OperationId, Result,
    Timestamp,
};
use kaizen_store::{Ed25519Signer, LocalLog};
use tokio::runtime::Runtime;

use crate::contender::{Contender, Found, Stopwatch};

/// The log's name, and the seed of its key: figures need no secret.
const ORIGIN: &str = "example.com/compare";
const SEED: [u8; 32] = [7; 32];

/// How many entries of a long log are appended at once.
const FILL: u64 = 100_000;

/// What the bare disk writes to, over and over.
const PREALLOCATED: usize = 8 << 20;

fn entry(number: u64) -> Result<Entry> {
    let at = Timestamp::from_micros(1_700_000_000_000_000 + number.cast_signed());
    let digest = |what: &str| Digest::of(format!("{what} {number}"));
    Ok(Entry {
        at,
        actor: Actor::system("compare"),
        operation: OperationId::new("append", at),
        event: Event::Ran { step: format!("step {number}") },
        subject: digest("subject"),
        evidence: vec![digest("evidence")],
    })
}

fn entries(first: u64, count: u64) -> Result<Vec<Entry>> {
    (first..first + count).map(entry).collect()
}

fn number(word: &str) -> Result<u64> {
    word.parse().context(ErrorKind::Invalid, format!("`{word}` as a number"))
}

/// A folder that is there and empty.
fn emptied(folder: &Path) -> Result<()> {
    drop(fs::remove_dir_all(folder));
    fs::create_dir_all(folder).context(ErrorKind::Unavailable, folder.display())
}

/// Our own side.
pub(super) struct Ours {
    runtime: Runtime,
    log: Option<LocalLog>,
    /// The number of the next entry.
    next: u64,
}

impl Ours {
    pub(super) fn new() -> Result<Self> {
        let runtime = Runtime::new().context(ErrorKind::Unavailable, "threads")?;
        Ok(Self { runtime, log: None, next: 0 })
    }

    fn opened(&self, folder: &Path) -> Result<LocalLog> {
        let signer = Arc::new(Ed25519Signer::from_seed(ORIGIN, SEED)?);
        self.runtime.block_on(LocalLog::open(folder, signer))
    }

    fn log(&self) -> Result<&LocalLog> {
        self.log.as_ref().context(ErrorKind::Invalid, "no log is open")
    }

    fn batch(&mut self, count: u64) -> Result<Vec<Entry>> {
        self.next += count;
        entries(self.next - count, count)
    }

    fn single(&mut self, count: u64, stopwatch: &mut Stopwatch) -> Result<Found> {
        for _ in 0..count {
            let batch = self.batch(1)?;
            let log = self.log()?;
            stopwatch.time(|| self.runtime.block_on(log.append(&batch, None)))?;
        }
        Ok(Found::new())
    }

    fn batched(&mut self, batches: u64, size: u64, stopwatch: &mut Stopwatch) -> Result<Found> {
        let all: Vec<_> = (0..batches).map(|_| self.batch(size)).collect::<Result<_>>()?;
        let log = self.log()?;
        stopwatch.time(|| {
            self.runtime.block_on(async {
                for batch in &all {
                    log.append(batch, None).await?;
                }
                Ok::<_, Error>(())
            })
        })?;
        Ok(Found::new())
    }

    /// So many tasks at once, of which each appends an entry after the other.
    fn concurrent(&mut self, tasks: u64, each: u64, stopwatch: &mut Stopwatch) -> Result<Found> {
        let all: Vec<_> = (0..tasks).map(|_| self.batch(each)).collect::<Result<_>>()?;
        let log = self.log()?.clone();
        stopwatch.time(|| {
            self.runtime.block_on(async {
                let append = |batch: Vec<Entry>| {
                    let log = log.clone();
                    tokio::spawn(async move {
                        for entry in &batch {
                            log.append(std::slice::from_ref(entry), None).await?;
                        }
                        Ok::<_, Error>(())
                    })
                };
                let running: Vec<_> = all.into_iter().map(append).collect();
                for task in running {
                    task.await.context(ErrorKind::Internal, "a task")??;
                }
                Ok::<_, Error>(())
            })
        })?;
        Ok(Found::new())
    }

    /// Makes a log of so many entries, if it is not there.
    fn fill(&mut self, folder: &Path, count: u64) -> Result<Found> {
        let made = |log: &LocalLog| self.runtime.block_on(log.size());
        if folder.exists() && made(&self.opened(folder)?)? == count {
            return Ok(Found::new());
        }
        emptied(folder)?;
        let log = self.opened(folder)?;
        let mut first = 0;
        while first < count {
            let size = FILL.min(count - first);
            self.runtime.block_on(log.append(&entries(first, size)?, None))?;
            first += size;
        }
        self.runtime.block_on(log.publish())?;
        Ok(Found::new())
    }

    fn verify(&self, folder: &Path, stopwatch: &mut Stopwatch) -> Result<Found> {
        let key = Ed25519Signer::from_seed(ORIGIN, SEED)?.verifier();
        let verified = stopwatch.time(|| self.runtime.block_on(LocalLog::verify(folder, &key)))?;
        if verified.size == 0 {
            return Err(Error::corrupt("an empty log was verified"));
        }
        Ok(Found::new())
    }

    /// Proofs of entries drawn from all over the log, each asked for twice: tiles are in the cache
    /// the second time, and that is timed.
    fn prove(&self, folder: &Path, count: u64, stopwatch: &mut Stopwatch) -> Result<Found> {
        let log = self.opened(folder)?;
        let size = self.runtime.block_on(log.size())?;
        let prove = |index| self.runtime.block_on(log.inclusion_proof(index, size));
        for number in 0..count {
            // Few tiles, so that all of them stay in the cache.
            let index = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) % size.min(100_000);
            prove(index)?;
            stopwatch.time(|| prove(index))?;
        }
        Ok(Found::new())
    }
}

impl Contender for Ours {
    fn answer(&mut self, question: &[&str], stopwatch: &mut Stopwatch) -> Result<Found> {
        match question {
            ["open", folder] => {
                emptied(Path::new(folder))?;
                self.log = Some(self.opened(Path::new(folder))?);
                Ok(Found::new())
            }
            ["single", count] => self.single(number(count)?, stopwatch),
            ["batched", batches, size] => self.batched(number(batches)?, number(size)?, stopwatch),
            ["concurrent", tasks, each] => {
                self.concurrent(number(tasks)?, number(each)?, stopwatch)
            }
            ["fill", folder, count] => self.fill(Path::new(folder), number(count)?),
            ["verify", folder] => self.verify(Path::new(folder), stopwatch),
            ["prove", folder, count] => self.prove(Path::new(folder), number(count)?, stopwatch),
            _ => Err(Error::invalid(format!("question {question:?}"))),
        }
    }
}

/// The same bytes, written over a file whose blocks are there, and synchronised.
#[derive(Default)]
pub(super) struct Disk {
    file: Option<(PathBuf, File)>,
    next: u64,
    at: usize,
}

impl Disk {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let (path, file) = self.file.as_ref().context(ErrorKind::Invalid, "no file is open")?;
        if self.at + bytes.len() > PREALLOCATED {
            self.at = 0;
        }
        let written = file.write_all_at(bytes, self.at as u64).and_then(|()| file.sync_data());
        self.at += bytes.len();
        written.context(ErrorKind::Unavailable, path.display())
    }

    fn bytes(&mut self, count: u64) -> Result<Vec<u8>> {
        let entries = entries(self.next, count)?;
        self.next += count;
        let bytes: Result<Vec<_>> = entries.iter().map(Entry::to_bytes).collect();
        Ok(bytes?.concat())
    }
}

impl Contender for Disk {
    fn answer(&mut self, question: &[&str], stopwatch: &mut Stopwatch) -> Result<Found> {
        match question {
            ["open", folder] => {
                let path = Path::new(folder).with_extension("bare");
                let opened = File::options().create(true).write(true).truncate(true).open(&path);
                let file = opened.context(ErrorKind::Unavailable, path.display())?;
                let filled =
                    file.write_all_at(&vec![0; PREALLOCATED], 0).and_then(|()| file.sync_all());
                filled.context(ErrorKind::Unavailable, path.display())?;
                self.file = Some((path, file));
            }
            ["single", count] => {
                for _ in 0..number(count)? {
                    let bytes = self.bytes(1)?;
                    stopwatch.time(|| self.write(&bytes))?;
                }
            }
            ["batched", batches, size] => {
                let groups: Vec<_> = (0..number(batches)?)
                    .map(|_| self.bytes(number(size)?))
                    .collect::<Result<_>>()?;
                stopwatch.time(|| groups.iter().try_for_each(|bytes| self.write(bytes)))?;
            }
            _ => return Err(Error::invalid(format!("question {question:?}"))),
        }
        Ok(Found::new())
    }
}
