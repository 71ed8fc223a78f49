//! Blobs on their way into an object store.

use kaizen_core::{ByteStream, Bytes, Digest, Digester, Error, ErrorKind, Result, stream};
use object_store::path::Path;
use object_store::{MultipartUpload, ObjectStoreExt as _, PutMode};
use tokio::task::JoinSet;

use super::{Inner, blob};
use crate::objects::unique;

/// A blob up to this size is one request, and a larger one comes in parts of it. Stores demand 5
/// MiB at least and take 10,000 parts at most, so a blob may have 78 GiB.
const PART_BYTES: usize = 8 << 20;

/// The most parts that a store takes.
const MAX_PARTS: u32 = 10_000;

/// How many parts of a blob travel at the same time.
const PARTS: usize = 4;

impl Inner {
    pub(super) async fn put_pieces(
        &self,
        mut bytes: ByteStream,
        expected: Option<&Digest>,
    ) -> Result<Digest> {
        if let Some(expected) = expected
            && self.settle(expected).await?
        {
            return Ok(*expected);
        }
        let mut digester = Digester::default();
        let mut buffer = Vec::new();
        let mut upload = None;
        let mut name = String::new();
        while let Some(piece) = stream::next(&mut bytes).await.transpose()? {
            digester.update(&piece);
            buffer.extend_from_slice(&piece);
            while buffer.len() > PART_BYTES {
                let rest = buffer.split_off(PART_BYTES);
                let part = std::mem::replace(&mut buffer, rest);
                if upload.is_none() {
                    name = match expected {
                        Some(digest) => blob(digest),
                        None => format!("uploads/{}", unique()?),
                    };
                    upload = Some(self.begin(&name).await?);
                }
                if let Some(upload) = &mut upload {
                    upload.parts += 1;
                    if upload.parts == MAX_PARTS {
                        let message = format!("{name}: more than {MAX_PARTS} parts of 8 MiB");
                        return Err(Error::new(ErrorKind::Limit, message));
                    }
                    let sent = upload.send(part.into()).await;
                    sent.map_err(|error| self.folder.failed(&name, error))?;
                }
            }
        }
        let digest = digester.finish();
        if let Some(expected) = expected {
            expected.check_found(&digest, &format!("blob {expected}"))?;
        }
        let Some(upload) = upload else {
            self.put_whole(buffer.into(), &digest).await?;
            return Ok(digest);
        };
        let finished = upload.finish(buffer.into()).await;
        finished.map_err(|error| self.folder.failed(&name, error))?;
        if expected.is_none() {
            let (from, to) = (self.folder.path(&name), self.folder.path(&blob(&digest)));
            let copied = self.folder.store.copy(&from, &to).await;
            copied.map_err(|error| self.folder.failed(&blob(&digest), error))?;
            self.folder.delete(&name).await?;
        }
        Ok(digest)
    }

    /// Creates a blob in one request, also in place of a damaged one.
    pub(super) async fn put_whole(&self, bytes: Bytes, digest: &Digest) -> Result<()> {
        let name = blob(digest);
        if self.folder.put(&name, bytes.clone(), PutMode::Create).await?.is_none()
            && !self.settle(digest).await?
        {
            self.folder.put(&name, bytes, PutMode::Overwrite).await?;
        }
        Ok(())
    }

    /// Whether the blob is there already and whole; then it counts as put now.
    async fn settle(&self, digest: &Digest) -> Result<bool> {
        let mut pieces = match self.get_stream(digest).await {
            Ok(pieces) => pieces,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        loop {
            match stream::next(&mut pieces).await.transpose() {
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(error) if error.kind() == ErrorKind::Corrupt => {
                    tracing::warn!(%error, "damaged blob is put anew");
                    return Ok(false);
                }
                Err(error) => return Err(error),
            }
        }
        self.touch(digest).await?;
        // A collection that did not see this may have removed it just now.
        Ok(self.head(&blob(digest)).await?.is_some())
    }

    async fn begin(&self, name: &str) -> Result<Upload> {
        let path: Path = self.folder.path(name);
        let begun = self.folder.store.put_multipart(&path).await;
        let upload = begun.map_err(|error| self.folder.failed(name, error))?;
        Ok(Upload { upload: Some(upload), sending: JoinSet::new(), parts: 0 })
    }
}

/// An object that comes in parts. Unless it is finished, its parts go away.
struct Upload {
    upload: Option<Box<dyn MultipartUpload>>,
    sending: JoinSet<object_store::Result<()>>,
    parts: u32,
}

impl Upload {
    async fn send(&mut self, part: Bytes) -> object_store::Result<()> {
        while self.sending.len() >= PARTS {
            self.sent().await?;
        }
        if let Some(upload) = &mut self.upload {
            self.sending.spawn(upload.put_part(part.into()));
        }
        Ok(())
    }

    /// Waits for one of the parts that travel.
    async fn sent(&mut self) -> object_store::Result<()> {
        self.sending.join_next().await.map_or(Ok(()), |joined| joined?)
    }

    async fn finish(mut self, last: Bytes) -> object_store::Result<()> {
        self.send(last).await?;
        while !self.sending.is_empty() {
            self.sent().await?;
        }
        if let Some(upload) = &mut self.upload {
            upload.complete().await?;
        }
        self.upload = None;
        Ok(())
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        let Some(mut upload) = self.upload.take() else { return };
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                if let Err(error) = upload.abort().await {
                    tracing::warn!(%error, "parts of an upload that was cut off stay behind");
                }
            });
        }
    }
}
