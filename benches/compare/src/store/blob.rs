//! A large blob in and out of the store, and the same work by `openssl` and `cp`.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use kaizen_core::{ArtifactStore, Context, Digest, Error, ErrorKind, Result, stream};
use kaizen_store::{LocalStore, read_file};
use tokio::runtime::Runtime;

use crate::contender::{Contender, Found, Stopwatch};

/// Bytes that do not compress, the same in every run: splitmix64.
fn make(path: &Path, bytes: u64) -> Result<()> {
    if fs::metadata(path).is_ok_and(|metadata| metadata.len() == bytes) {
        return Ok(());
    }
    let failed = || path.display();
    let mut file = BufWriter::new(File::create(path).context(ErrorKind::Unavailable, failed())?);
    let mut state = 1_u64;
    let mut left = bytes;
    while left > 0 {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let word = (z ^ (z >> 31)).to_le_bytes();
        let take = left.min(8);
        file.write_all(&word[..take as usize]).context(ErrorKind::Unavailable, failed())?;
        left -= take;
    }
    file.flush().context(ErrorKind::Unavailable, failed())
}

/// Our own side.
pub(super) struct Ours {
    runtime: Runtime,
    source: PathBuf,
    stored: Option<(LocalStore, Digest)>,
}

impl Ours {
    pub(super) fn new() -> Result<Self> {
        let runtime = Runtime::new().context(ErrorKind::Unavailable, "threads")?;
        Ok(Self { runtime, source: PathBuf::new(), stored: None })
    }

    /// From a file into a new store: nothing is there that could be shared.
    fn put(&mut self, stopwatch: &mut Stopwatch) -> Result<Found> {
        let folder = self.source.with_extension("store");
        drop(fs::remove_dir_all(&folder));
        let store = self.runtime.block_on(LocalStore::open(&folder))?;
        let put = stopwatch.time(|| {
            self.runtime.block_on(async {
                let bytes = read_file(&self.source).await?;
                store.put_stream(bytes, None).await
            })
        })?;
        self.stored = Some((store, put));
        Ok(Found::new())
    }

    fn get(&self, stopwatch: &mut Stopwatch) -> Result<Found> {
        let (store, digest) = self.stored.as_ref().context(ErrorKind::Invalid, "nothing stored")?;
        let bytes = stopwatch.time(|| {
            self.runtime.block_on(async {
                let mut pieces = store.get_stream(digest).await?;
                let mut bytes = 0;
                while let Some(piece) = stream::next(&mut pieces).await {
                    bytes += piece?.len();
                }
                Ok::<_, Error>(bytes)
            })
        })?;
        Ok(Found::from([("bytes".to_owned(), bytes as f64)]))
    }
}

impl Contender for Ours {
    fn answer(&mut self, question: &[&str], stopwatch: &mut Stopwatch) -> Result<Found> {
        match question {
            ["load", path, bytes] => {
                self.source = PathBuf::from(path);
                make(&self.source, bytes.parse().context(ErrorKind::Invalid, *bytes)?)?;
                Ok(Found::new())
            }
            ["put"] => self.put(stopwatch),
            ["get"] => self.get(stopwatch),
            _ => Err(Error::invalid(format!("question {question:?}"))),
        }
    }
}

/// The commands that people have: the hash by `openssl`, the copy by `cp`.
#[derive(Default)]
pub(super) struct OpenSsl {
    source: PathBuf,
}

impl OpenSsl {
    fn copy(&self) -> PathBuf {
        self.source.with_extension("copy")
    }

    fn hash(path: &Path) -> Result<()> {
        succeed(Command::new("openssl").args(["dgst", "-sha256"]).arg(path))
    }

    fn put(&self, stopwatch: &mut Stopwatch) -> Result<()> {
        drop(fs::remove_file(self.copy()));
        stopwatch.time(|| {
            Self::hash(&self.source)?;
            succeed(Command::new("cp").arg(&self.source).arg(self.copy()))?;
            succeed(Command::new("sync").arg(self.copy()))
        })
    }
}

impl Contender for OpenSsl {
    fn answer(&mut self, question: &[&str], stopwatch: &mut Stopwatch) -> Result<Found> {
        match question {
            ["load", path, bytes] => {
                self.source = PathBuf::from(path);
                make(&self.source, bytes.parse().context(ErrorKind::Invalid, *bytes)?)?;
            }
            ["put"] => self.put(stopwatch)?,
            ["get"] => {
                stopwatch.time(|| Self::hash(&self.copy()))?;
                let copied = fs::metadata(self.copy()).context(ErrorKind::Unavailable, "copy")?;
                return Ok(Found::from([("bytes".to_owned(), copied.len() as f64)]));
            }
            // Every bundle of entries of a log: the bytes that verification must hash at least.
            ["hash_all", folder] => {
                let all = "find \"$0/tile/entries\" -type f -print0 | xargs -0 cat | openssl dgst -sha256";
                let mut command = Command::new("sh");
                stopwatch.time(|| succeed(command.args(["-c", all, folder])))?;
            }
            _ => return Err(Error::invalid(format!("question {question:?}"))),
        }
        Ok(Found::new())
    }
}

fn succeed(command: &mut Command) -> Result<()> {
    let program = command.get_program().display().to_string();
    let status =
        command.stdout(Stdio::null()).status().context(ErrorKind::Unavailable, &program)?;
    if status.success() {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Unavailable, format!("{program}: {status}")))
}
