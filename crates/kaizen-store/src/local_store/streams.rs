//! Blobs that pass through in pieces.
//!
//! A thread is taken for each piece and given back with it, so that however many slow readers and
//! writers there are, none holds one.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, ready};

use futures_core::Stream;
use kaizen_core::{ByteStream, Bytes, Context, Digest, Digester, Error, ErrorKind, Result, stream};
use tokio::runtime::Handle;
use tokio::task::{JoinHandle, spawn_blocking};

use super::{Inner, LocalStore};
use crate::files::{self, Draft, Files, blocking};

/// How many bytes are read at a time.
const PIECE_BYTES: u64 = 1 << 20;

/// Small pieces are written together, up to this many bytes.
const PORTION_BYTES: usize = 1 << 18;

impl LocalStore {
    pub(super) async fn put_pieces(
        &self,
        mut bytes: ByteStream,
        expected: Option<Digest>,
    ) -> Result<Digest> {
        if let Some(expected) = expected
            && self.run(move |inner| inner.settle(&expected)).await?
        {
            return Ok(expected);
        }
        let inner = Arc::clone(&self.0);
        let mut writing = spawn_blocking(move || Writer::begin(inner));
        loop {
            // The next bytes may come while those before are written.
            let gathered = gather(&mut bytes).await;
            let mut writer = writing.await.context(ErrorKind::Internal, "file work panicked")??;
            let (portion, ended) = gathered?;
            if ended {
                return blocking(move || {
                    writer.write(&portion)?;
                    writer.publish(expected)
                })
                .await;
            }
            writing = spawn_blocking(move || {
                writer.write(&portion)?;
                Ok(writer)
            });
        }
    }

    pub(super) async fn get_pieces(&self, digest: Digest) -> Result<ByteStream> {
        let (path, file) = self.run(move |inner| inner.open_blob(&digest)).await?;
        Ok(Pieces::of(Source { file, path, check: Some((digest, Digester::default())) }))
    }
}

/// The next bytes of a stream, small pieces together, and whether it has ended.
async fn gather(bytes: &mut ByteStream) -> Result<(Bytes, bool)> {
    let mut portion = Vec::new();
    while let Some(piece) = stream::next(bytes).await.transpose()? {
        if portion.is_empty() && piece.len() >= PORTION_BYTES {
            return Ok((piece, false));
        }
        portion.extend_from_slice(&piece);
        if portion.len() >= PORTION_BYTES {
            return Ok((portion.into(), false));
        }
    }
    Ok((portion.into(), true))
}

/// A blob that is being written.
struct Writer {
    inner: Arc<Inner>,
    draft: Draft<Arc<dyn Files>>,
    digester: Digester,
}

impl Writer {
    fn begin(inner: Arc<Inner>) -> Result<Self> {
        let draft = Draft::create(Arc::clone(&inner.files), &inner.blobs)?;
        Ok(Self { inner, draft, digester: Digester::default() })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.digester.update(bytes);
        if bytes.is_empty() { Ok(()) } else { self.draft.write(bytes) }
    }

    fn publish(self, expected: Option<Digest>) -> Result<Digest> {
        let digest = self.digester.finish();
        if let Some(expected) = expected {
            expected.check_found(&digest, &format!("blob {expected}"))?;
        } else if self.inner.settle(&digest)? {
            return Ok(digest);
        }
        self.inner.publish(self.draft, &digest)?;
        Ok(digest)
    }
}

/// The bytes of a file as they are read, to be put into a store. Nobody has vouched for them.
///
/// # Errors
///
/// [`ErrorKind::Unavailable`] if the file cannot be opened; the stream ends with one if it cannot
/// be read to its end.
pub async fn read_file(path: impl Into<PathBuf>) -> Result<ByteStream> {
    let path = path.into();
    let (path, file) = blocking(move || match File::open(&path) {
        Ok(file) => Ok((path, file)),
        Err(error) => Err(files::failed(&path, error)),
    })
    .await?;
    Ok(Pieces::of(Source { file, path, check: None }))
}

/// A file that is being read.
struct Source {
    file: File,
    path: PathBuf,
    /// What its bytes must come to, and what they have come to.
    check: Option<(Digest, Digester)>,
}

impl Source {
    /// The next piece, and what follows it; `None` at the end, if the bytes were the right ones.
    fn read(mut self) -> Result<Option<(Bytes, Self)>> {
        let Some(piece) = read_piece(&mut self.file, &self.path)? else {
            if let Some((digest, digester)) = self.check {
                let what = format!("blob {digest} in {}", self.path.display());
                digest.check_found(&digester.finish(), &what)?;
            }
            return Ok(None);
        };
        if let Some((_, digester)) = &mut self.check {
            digester.update(&piece);
        }
        Ok(Some((piece, self)))
    }
}

/// A piece that is being read, and what follows it.
type Reading = JoinHandle<Result<Option<(Bytes, Source)>>>;

/// The pieces of a file. One is read ahead.
struct Pieces {
    runtime: Handle,
    what: String,
    /// `None` once the end is reached.
    reading: Option<Reading>,
}

impl Pieces {
    fn of(source: Source) -> ByteStream {
        let (runtime, what) = (Handle::current(), source.path.display().to_string());
        let reading = Some(runtime.spawn_blocking(move || source.read()));
        Box::pin(Self { runtime, what, reading })
    }
}

impl Stream for Pieces {
    type Item = Result<Bytes>;

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Bytes>>> {
        let this = &mut *self;
        let Some(reading) = &mut this.reading else { return Poll::Ready(None) };
        let read = ready!(Pin::new(reading).poll(context));
        this.reading = None;
        Poll::Ready(match read {
            Ok(Ok(Some((piece, source)))) => {
                this.reading = Some(this.runtime.spawn_blocking(move || source.read()));
                Some(Ok(piece))
            }
            Ok(Ok(None)) => None,
            Ok(Err(error)) => Some(Err(error)),
            // What was read so far is not the whole, and must not be taken for it.
            Err(error) => {
                let message = format!("{}: it was not read to its end", this.what);
                Some(Err(Error::new(ErrorKind::Unavailable, message).with_source(error)))
            }
        })
    }
}

impl Inner {
    fn open_blob(&self, digest: &Digest) -> Result<(PathBuf, File)> {
        let path = self.blob_path(digest);
        match File::open(&path) {
            Ok(file) => Ok((path, file)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let missing = format!("blob {digest}: no file {}", path.display());
                Err(Error::not_found(missing).with_source(error))
            }
            Err(error) => Err(files::failed(&path, error)),
        }
    }

    /// Whether the blob is there and whole, as far as its bytes tell.
    pub(super) fn is_whole(&self, digest: &Digest) -> Result<bool> {
        let (path, mut file) = match self.open_blob(digest) {
            Ok(opened) => opened,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        let mut digester = Digester::default();
        while let Some(piece) = read_piece(&mut file, &path)? {
            digester.update(piece);
        }
        Ok(digester.finish() == *digest)
    }
}

fn read_piece(file: &mut File, path: &Path) -> Result<Option<Bytes>> {
    let mut piece = Vec::with_capacity(PIECE_BYTES as usize);
    let read = file.by_ref().take(PIECE_BYTES).read_to_end(&mut piece);
    let read = read.map_err(|error| files::failed(path, error))?;
    Ok((read > 0).then(|| piece.into()))
}
