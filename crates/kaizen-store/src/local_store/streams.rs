//! Blobs that pass through in pieces.
//!
//! Hashing and file work take about as long as each other, so they run at the same time.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::task::{Context as TaskContext, Poll};
use std::thread;

use futures_core::Stream;
use kaizen_core::{ByteStream, Bytes, Context, Digest, Digester, Error, ErrorKind, Result, stream};
use tokio::sync::mpsc;

use super::{Inner, LocalStore};
use crate::files::{self, Draft, blocking};

/// How many bytes are read at a time.
const PIECE_BYTES: u64 = 1 << 20;

/// How many pieces may wait for the next stage.
const PIECES_AHEAD: usize = 4;

/// Small pieces are written together, up to this many bytes.
const BUFFER_BYTES: usize = 1 << 18;

enum Piece {
    Bytes(Bytes),
    /// The stream ended as it should. Without this the caller went away, or the stream failed.
    End,
}

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
        let (sender, receiver) = mpsc::channel(PIECES_AHEAD);
        let inner = Arc::clone(&self.0);
        let writing = blocking(move || inner.write_pieces(receiver, expected));
        let writing = tokio::spawn(writing);
        let feeding = async move {
            while let Some(piece) = stream::next(&mut bytes).await.transpose()? {
                if sender.send(Piece::Bytes(piece)).await.is_err() {
                    // The writer has failed and says why.
                    return Ok(());
                }
            }
            let _ = sender.send(Piece::End).await;
            Ok(())
        };
        let fed: Result<()> = feeding.await;
        let written = writing.await.context(ErrorKind::Internal, "file work panicked")?;
        fed?;
        written
    }

    pub(super) async fn get_pieces(&self, digest: Digest) -> Result<ByteStream> {
        let (path, file) = self.run(move |inner| inner.open_blob(&digest)).await?;
        let (sender, receiver) = mpsc::channel(PIECES_AHEAD);
        // Nobody waits for it: the stream's end says how it went.
        drop(tokio::spawn(blocking(move || {
            if let Err(error) = read_pieces(file, &path, &digest, &sender) {
                let _ = sender.blocking_send(Err(error));
            }
            Ok(())
        })));
        Ok(Box::pin(Pieces(receiver)))
    }
}

/// The bytes of a file as they are read, to be put into a store. Nobody has vouched for them.
///
/// # Errors
///
/// [`ErrorKind::Unavailable`] if the file cannot be opened; the stream ends with one if it cannot be
/// read to its end.
pub async fn read_file(path: impl Into<PathBuf>) -> Result<ByteStream> {
    let path = path.into();
    let (path, mut file) = blocking(move || match File::open(&path) {
        Ok(file) => Ok((path, file)),
        Err(error) => Err(files::failed(&path, error)),
    })
    .await?;
    let (sender, receiver) = mpsc::channel(PIECES_AHEAD);
    drop(tokio::spawn(blocking(move || {
        while let Some(piece) = read_piece(&mut file, &path).transpose() {
            let ends = piece.is_err();
            // A reader that went away has no need of the rest.
            if sender.blocking_send(piece).is_err() || ends {
                break;
            }
        }
        Ok(())
    })));
    Ok(Box::pin(Pieces(receiver)))
}

struct Pieces(mpsc::Receiver<Result<Bytes>>);

impl Stream for Pieces {
    type Item = Result<Bytes>;

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Bytes>>> {
        self.0.poll_recv(context)
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

    fn write_pieces(
        &self,
        mut pieces: mpsc::Receiver<Piece>,
        expected: Option<Digest>,
    ) -> Result<Digest> {
        let mut draft = Draft::create(&*self.files, &self.blobs)?;
        let ((), digest) = while_hashing(|hasher| {
            let mut buffer = Vec::new();
            loop {
                let piece = match pieces.blocking_recv() {
                    Some(Piece::Bytes(piece)) => piece,
                    Some(Piece::End) => break,
                    None => return Err(Error::invalid("a blob was cut off before its end")),
                };
                // The hasher only ends when this sender is gone.
                let _ = hasher.send(piece.clone());
                if buffer.len() + piece.len() > BUFFER_BYTES {
                    draft.write(&buffer)?;
                    buffer.clear();
                }
                if piece.len() > BUFFER_BYTES {
                    draft.write(&piece)?;
                } else {
                    buffer.extend_from_slice(&piece);
                }
            }
            draft.write(&buffer)
        })?;
        if let Some(expected) = expected {
            expected.check_found(&digest, &format!("blob {expected}"))?;
        } else if self.settle(&digest)? {
            return Ok(digest);
        }
        draft.publish(&self.blob_path(&digest))?;
        Ok(digest)
    }
}

fn read_piece(file: &mut File, path: &Path) -> Result<Option<Bytes>> {
    let mut piece = Vec::with_capacity(PIECE_BYTES as usize);
    let read = file.by_ref().take(PIECE_BYTES).read_to_end(&mut piece);
    let read = read.map_err(|error| files::failed(path, error))?;
    Ok((read > 0).then(|| piece.into()))
}

fn read_pieces(
    mut file: File,
    path: &Path,
    digest: &Digest,
    to: &mpsc::Sender<Result<Bytes>>,
) -> Result<()> {
    let (all_taken, found) = while_hashing(|hasher| {
        while let Some(piece) = read_piece(&mut file, path)? {
            let _ = hasher.send(piece.clone());
            if to.blocking_send(Ok(piece)).is_err() {
                // The reader went away.
                return Ok(false);
            }
        }
        Ok(true)
    })?;
    if !all_taken {
        return Ok(());
    }
    digest.check_found(&found, &format!("blob {digest} in {}", path.display()))
}

/// Does work that gives pieces to a hasher, which runs at the same time; gives their digest.
fn while_hashing<T>(work: impl FnOnce(&SyncSender<Bytes>) -> Result<T>) -> Result<(T, Digest)> {
    thread::scope(|scope| {
        let (sender, receiver) = sync_channel::<Bytes>(PIECES_AHEAD);
        let hashing = scope.spawn(move || {
            let mut digester = Digester::default();
            receiver.into_iter().for_each(|piece| digester.update(piece));
            digester.finish()
        });
        let done = work(&sender);
        drop(sender);
        let digest = hashing.join().ok().context(ErrorKind::Internal, "hashing panicked")?;
        Ok((done?, digest))
    })
}
