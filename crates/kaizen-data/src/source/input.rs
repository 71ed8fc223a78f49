//! The bytes of one file, in memory or read in ranges.

use std::fmt;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

use bytes::Buf as _;
use kaizen_core::{Bytes, Context, Digest, Digester, Error, ErrorKind, Result};
use object_store::{GetOptions, GetRange, ObjectMeta, ObjectStore};
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, Length};

use crate::source::place::{object_error, version_of};

/// So many bytes are read at once where a whole file is.
const STRIDE: u64 = 8 << 20;

/// One file, as it is at one time. Reading blocks: not for an executor's own threads.
#[derive(Debug)]
pub(crate) struct Input {
    /// The file's path, for messages.
    pub(crate) name: String,
    pub(crate) size: u64,
    /// What tells that the file has changed, without reading it.
    pub(crate) version: String,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Memory(Bytes),
    Local(File),
    Remote(Remote),
}

pub(crate) struct Remote {
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) meta: ObjectMeta,
    pub(crate) runtime: tokio::runtime::Handle,
}

impl fmt::Debug for Remote {
    /// What the store itself would show may have its credentials in it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote").field("meta", &self.meta).finish_non_exhaustive()
    }
}

impl Input {
    pub(crate) fn memory(name: &str, bytes: Bytes) -> Self {
        let (name, size) = (name.to_owned(), bytes.len() as u64);
        Self { name, size, version: String::new(), kind: Kind::Memory(bytes) }
    }

    pub(crate) fn local(name: String, file: File) -> Result<Self> {
        let metadata = file.metadata().context(ErrorKind::Unavailable, format!("`{name}`"))?;
        if !metadata.is_file() {
            return Err(Error::invalid(format!("`{name}`: not a file")));
        }
        let version = version_of(&metadata);
        Ok(Self { name, size: metadata.len(), version, kind: Kind::Local(file) })
    }

    pub(crate) fn remote(name: String, version: String, remote: Remote) -> Self {
        Self { name, size: remote.meta.size, version, kind: Kind::Remote(remote) }
    }

    /// The same file with its bytes in memory.
    pub(crate) fn into_memory(self) -> Result<Self> {
        let bytes = self.range(0..self.size)?;
        Ok(Self { kind: Kind::Memory(bytes), ..self })
    }

    /// The bytes, if they are in memory.
    pub(crate) fn bytes(&self) -> Option<&Bytes> {
        match &self.kind {
            Kind::Memory(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// The bytes of a range, which must lie in the file.
    pub(crate) fn range(&self, range: Range<u64>) -> Result<Bytes> {
        if range.start > range.end || range.end > self.size {
            let (name, size) = (&self.name, self.size);
            return Err(Error::corrupt(format!("`{name}`: bytes {range:?} of a file of {size}")));
        }
        match &self.kind {
            Kind::Memory(bytes) => Ok(bytes.slice(range.start as usize..range.end as usize)),
            Kind::Local(file) => {
                let mut bytes = vec![0; (range.end - range.start) as usize];
                match file.read_exact_at(&mut bytes, range.start) {
                    Ok(()) => Ok(bytes.into()),
                    Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                        Err(self.changed())
                    }
                    Err(error) => {
                        Err(error).context(ErrorKind::Unavailable, format!("`{}`", self.name))
                    }
                }
            }
            Kind::Remote(remote) => remote.range(&self.name, range),
        }
    }

    /// The digest of all bytes.
    pub(crate) fn digest(&self) -> Result<Digest> {
        if let Kind::Memory(bytes) = &self.kind {
            return Ok(Digest::of(bytes));
        }
        let (mut digester, mut at) = (Digester::default(), 0);
        while at < self.size {
            let end = self.size.min(at + STRIDE);
            digester.update(&self.range(at..end)?);
            at = end;
        }
        Ok(digester.finish())
    }

    /// Checks that what was read is of one version. In memory it is; what is far is read under a
    /// condition each time, where the store has one.
    pub(crate) fn check_unchanged(&self) -> Result<()> {
        match &self.kind {
            Kind::Local(file) => {
                let now = file.metadata();
                let now = now.context(ErrorKind::Unavailable, format!("`{}`", self.name))?;
                match version_of(&now) == self.version {
                    true => Ok(()),
                    false => Err(self.changed()),
                }
            }
            Kind::Remote(remote) => remote.range(&self.name, 0..self.size.min(1)).map(drop),
            Kind::Memory(_) => Ok(()),
        }
    }

    /// Checks that the local file that was read still stands at its path, as it was.
    pub(crate) fn check_stands_at(&self, path: &Path) -> Result<()> {
        let now = std::fs::metadata(path);
        let now = now.context(ErrorKind::Unavailable, format!("`{}`", self.name))?;
        match version_of(&now) == self.version {
            true => Ok(()),
            false => Err(self.changed()),
        }
    }

    fn changed(&self) -> Error {
        Error::conflict(format!("`{}`: it changed while it was read", self.name))
    }
}

impl Remote {
    fn range(&self, name: &str, range: Range<u64>) -> Result<Bytes> {
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        let length = range.end - range.start;
        let options = GetOptions {
            if_match: self.meta.e_tag.clone(),
            version: self.meta.version.clone(),
            range: Some(GetRange::Bounded(range)),
            ..GetOptions::default()
        };
        let path = &self.meta.location;
        let got = async {
            let result = self.store.get_opts(path, options).await?;
            let (size, modified) = (result.meta.size, result.meta.last_modified);
            Ok((size, modified, result.bytes().await?))
        };
        let (size, modified, bytes) =
            self.runtime.block_on(got).map_err(|error| object_error(name, error))?;
        let same = size == self.meta.size && modified == self.meta.last_modified;
        if (self.meta.e_tag.is_none() && !same) || bytes.len() as u64 != length {
            return Err(Error::conflict(format!("`{name}`: it changed while it was read")));
        }
        Ok(bytes)
    }
}

impl Length for Input {
    fn len(&self) -> u64 {
        self.size
    }
}

impl ChunkReader for Input {
    type T = bytes::buf::Reader<Bytes>;

    fn get_read(&self, start: u64) -> parquet::errors::Result<Self::T> {
        let end = self.size.min(start.saturating_add(STRIDE));
        Ok(self.range(start..end).map_err(external)?.reader())
    }

    fn get_bytes(&self, start: u64, length: usize) -> parquet::errors::Result<Bytes> {
        self.range(start..start.saturating_add(length as u64)).map_err(external)
    }
}

fn external(error: Error) -> ParquetError {
    ParquetError::External(Box::new(error))
}

/// Our own error in one of Parquet's, which keeps its kind, or the file is corrupt.
pub(crate) fn parquet_error(message: String, error: ParquetError) -> Error {
    match error {
        ParquetError::External(inner) => match inner.downcast::<Error>() {
            Ok(ours) => *ours,
            Err(other) => Error::corrupt(message).with_source(other),
        },
        other => Error::corrupt(message).with_source(other),
    }
}
