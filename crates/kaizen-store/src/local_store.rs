//! Artefacts in an OCI image layout on local disk.

mod layout;
mod listing;
mod streams;

use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use kaizen_core::{
    ArtifactStore, ByteStream, Bytes, Context, Digest, Error, ErrorKind, Result, Timestamp,
    async_trait,
};
use serde_json::Value;

use crate::files::{self, Disk, Draft, Files, blocking};
use crate::index::Additions;

use listing::Listing;
pub use streams::read_file;

const LAYOUT_VERSION: &str = "1.0.0";

/// At most this many bytes in the file `oci-layout`.
pub(crate) const LAYOUT_BYTES: u64 = 1 << 16;

/// What the file `oci-layout` holds.
pub(crate) const LAYOUT: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;

/// The lock that keeps puts and the removal of old blobs apart.
const REMOVAL_LOCK: &str = "removal.lock";

/// An OCI image layout in a directory: `oci-layout`, `index.json`, `blobs/sha256/HEX`.
///
/// A blob is written under a temporary name, flushed to disk and renamed, so that a reader sees a
/// whole blob or none, after a crash too. What is read is checked against its digest every time.
/// `index.json` is a view: one that is missing or damaged is rebuilt from the blobs. Any number of
/// threads and processes may use the same directory at once. A call that nobody waits for any more
/// still runs to its end.
///
/// ```
/// # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
/// # runtime.block_on(async {
/// use kaizen_core::{ArtifactStore, Digest};
/// use kaizen_store::LocalStore;
///
/// # let scratch = tempfile::tempdir().unwrap();
/// # let dir = scratch.path();
/// let store = LocalStore::open(dir).await?;
/// let digest = store.put_blob("weights".into()).await?;
/// assert_eq!(store.get_blob(&digest).await?, "weights");
/// assert!(!store.contains(&Digest::of("other")).await?);
/// # Ok::<(), kaizen_core::Error>(())
/// # }).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct LocalStore(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    dir: PathBuf,
    blobs: PathBuf,
    files: Arc<dyn Files>,
    listing: Mutex<Listing>,
    additions: Additions,
}

impl LocalStore {
    /// Opens the layout in this directory, and makes it if it is not there.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Corrupt`] if `oci-layout` is not one, [`ErrorKind::Unsupported`] if it is of
    /// another version.
    pub async fn open(dir: impl Into<PathBuf>) -> Result<Self> {
        Self::open_on(dir.into(), Arc::new(Disk)).await
    }

    pub(crate) async fn open_on(dir: PathBuf, files: Arc<dyn Files>) -> Result<Self> {
        let inner = Arc::new(Inner::new(dir, files));
        let opening = Arc::clone(&inner);
        blocking(move || opening.open()).await?;
        Ok(Self(inner))
    }

    /// The layout as it is, for [`fsck`](crate::fsck): nothing is looked at, made or rebuilt.
    pub fn to_check(dir: impl Into<PathBuf>) -> Self {
        Self(Arc::new(Inner::new(dir.into(), Arc::new(Disk))))
    }

    /// The directory that holds the layout.
    pub fn dir(&self) -> &Path {
        &self.0.dir
    }

    /// The file that holds a blob, if the blob is there. For tools that want a path.
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.0.blob_path(digest)
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let inner = Arc::clone(&self.0);
        blocking(move || work(&inner)).await
    }
}

#[async_trait]
impl ArtifactStore for LocalStore {
    async fn put_blob(&self, bytes: Bytes) -> Result<Digest> {
        self.run(move |inner| inner.put_blob(&bytes)).await
    }

    async fn get_bounded(&self, digest: &Digest, most: u64) -> Result<Bytes> {
        let digest = *digest;
        self.run(move |inner| inner.get_bounded(&digest, most).map(Bytes::from)).await
    }

    async fn put_stream(&self, bytes: ByteStream, expected: Option<&Digest>) -> Result<Digest> {
        self.put_pieces(bytes, expected.copied()).await
    }

    async fn get_stream(&self, digest: &Digest) -> Result<ByteStream> {
        self.get_pieces(*digest).await
    }

    async fn get_blob(&self, digest: &Digest) -> Result<Bytes> {
        let digest = *digest;
        self.run(move |inner| inner.get_bounded(&digest, u64::MAX).map(Bytes::from)).await
    }

    async fn size_of(&self, digest: &Digest) -> Result<Option<u64>> {
        let digest = *digest;
        self.run(move |inner| inner.size_of(&digest)).await
    }

    async fn put_manifest(&self, manifest: Bytes) -> Result<Digest> {
        self.run(move |inner| inner.put_manifest(manifest)).await
    }

    async fn referrers(&self, subject: &Digest) -> Result<Vec<Digest>> {
        let subject = *subject;
        self.run(move |inner| inner.referrers(&subject)).await
    }

    async fn manifests(&self) -> Result<Vec<Digest>> {
        self.run(|inner| Ok(inner.fresh()?.index.manifests())).await
    }

    async fn blobs(&self) -> Result<Vec<(Digest, u64)>> {
        self.run(Inner::blobs).await
    }

    async fn remove_blob(&self, digest: &Digest) -> Result<bool> {
        let digest = *digest;
        self.run(move |inner| inner.remove_blob(&digest)).await
    }

    async fn remove_manifest(&self, digest: &Digest) -> Result<bool> {
        let digest = *digest;
        self.run(move |inner| inner.remove_manifest(&digest)).await
    }

    async fn stored_at(&self, digest: &Digest) -> Result<Option<Timestamp>> {
        let digest = *digest;
        self.run(move |inner| inner.stored_at(&digest)).await
    }

    async fn now(&self) -> Result<Timestamp> {
        self.run(Inner::now).await
    }

    async fn dated_blobs(&self) -> Result<Vec<(Digest, u64, Timestamp)>> {
        self.run(Inner::dated_blobs).await
    }

    async fn remove_stale(&self, digests: &[Digest], before: Timestamp) -> Result<Vec<Digest>> {
        let digests = digests.to_vec();
        self.run(move |inner| inner.remove_stale(&digests, before)).await
    }

    async fn remove_unfinished(&self, before: Timestamp) -> Result<u64> {
        self.run(move |inner| inner.remove_unfinished(before)).await
    }
}

impl Inner {
    fn new(dir: PathBuf, files: Arc<dyn Files>) -> Self {
        let blobs = dir.join("blobs").join("sha256");
        Self { dir, blobs, files, listing: Mutex::default(), additions: Additions::default() }
    }

    fn open(&self) -> Result<()> {
        let layout = self.dir.join("oci-layout");
        let mark = files::read_at_most(&layout, LAYOUT_BYTES)?;
        // It is written after the directories, so where it is they are on disk.
        if mark.is_none() || !self.blobs.is_dir() {
            files::create_dirs(&*self.files, &self.blobs)?;
        }
        match mark {
            Some(bytes) => check_layout(&layout.display().to_string(), &bytes)?,
            None => files::publish(&*self.files, &layout, LAYOUT.as_bytes())?,
        }
        drop(self.fresh()?);
        Ok(())
    }

    fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.blobs.join(digest.hex())
    }

    /// The size of a blob's file, if it is there.
    fn size_of(&self, digest: &Digest) -> Result<Option<u64>> {
        let path = self.blob_path(digest);
        match std::fs::metadata(&path) {
            Ok(metadata) => Ok(Some(metadata.len())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(files::failed(&path, error)),
        }
    }

    fn put_blob(&self, bytes: &[u8]) -> Result<Digest> {
        let digest = Digest::of(bytes);
        if !self.settle(&digest)? {
            let mut draft = Draft::create(&*self.files, &self.blobs)?;
            draft.write(bytes)?;
            self.publish(draft, &digest)?;
        }
        Ok(digest)
    }

    fn publish<F>(&self, draft: Draft<F>, digest: &Digest) -> Result<()>
    where
        F: Deref<Target = dyn Files>,
    {
        draft.publish_while(&self.blob_path(digest), || self.no_removal())
    }

    /// While this is held no blob is removed for being old: one is not put between the look at its
    /// age and its removal. It is held for a moment only.
    fn no_removal(&self) -> Result<files::Lock> {
        files::lock_shared(&self.removal_path())
    }

    fn removal_path(&self) -> PathBuf {
        self.dir.join(REMOVAL_LOCK)
    }

    /// Whether the blob is there already and whole; then it counts as put now.
    fn settle(&self, digest: &Digest) -> Result<bool> {
        if !self.is_whole(digest)? {
            return Ok(false);
        }
        // It may be removed in this moment.
        if !self.touch(digest)? {
            return Ok(false);
        }
        // It may be a moment old, with its name not yet on disk: whoever gets a digest from here
        // may rely on it.
        self.sync_blobs()?;
        Ok(true)
    }

    /// Says that a blob is put now; whether it is there.
    fn touch(&self, digest: &Digest) -> Result<bool> {
        let path = self.blob_path(digest);
        let _held = self.no_removal()?;
        match self.files.touch(&path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(files::failed(&path, error)),
        }
    }

    fn sync_blobs(&self) -> Result<()> {
        let synced = self.files.sync_dir(&self.blobs);
        synced.map_err(|error| files::failed(&self.blobs, error))
    }

    fn blobs(&self) -> Result<Vec<(Digest, u64)>> {
        let mut found = Vec::new();
        for path in files::list(&self.blobs)? {
            let Some(digest) = digest_of(&path) else { continue };
            found.extend(self.size_of(&digest)?.map(|size| (digest, size)));
        }
        Ok(found)
    }

    fn get_bounded(&self, digest: &Digest, most: u64) -> Result<Vec<u8>> {
        let path = self.blob_path(digest);
        let bytes = files::read_at_most(&path, most)?
            .context(ErrorKind::NotFound, format!("blob {digest}: no file {}", path.display()))?;
        digest.check(&bytes, &format!("blob {digest} in {}", path.display()))?;
        Ok(bytes)
    }

    /// The present instant, by the clock that dates the files.
    fn now(&self) -> Result<Timestamp> {
        let probe = Draft::create(&*self.files, &self.blobs)?;
        let lost = format!("{}: it was removed at once", probe.path().display());
        Ok(written(probe.path())?.context(ErrorKind::Unavailable, lost)?.0)
    }

    fn dated_blobs(&self) -> Result<Vec<(Digest, u64, Timestamp)>> {
        let mut found = Vec::new();
        for path in files::list(&self.blobs)? {
            let Some(digest) = digest_of(&path) else { continue };
            found.extend(written(&path)?.map(|(at, size)| (digest, size, at)));
        }
        Ok(found)
    }

    /// When a blob was put last.
    fn stored_at(&self, digest: &Digest) -> Result<Option<Timestamp>> {
        Ok(written(&self.blob_path(digest))?.map(|(at, _)| at))
    }

    /// Removes files under temporary names that no put has written to since `before`.
    fn remove_unfinished(&self, before: Timestamp) -> Result<u64> {
        let mut bytes = 0;
        for path in files::list(&self.dir)?.into_iter().chain(files::list(&self.blobs)?) {
            if !files::is_draft(&path) {
                continue;
            }
            if let Some((at, size)) = written(&path)?
                && at < before
            {
                self.files.remove(&path).map_err(|error| files::failed(&path, error))?;
                bytes += size;
            }
        }
        Ok(bytes)
    }
}

/// When a file was written last, and its size.
fn written(path: &Path) -> Result<Option<(Timestamp, u64)>> {
    let read =
        std::fs::metadata(path).and_then(|file| Ok((timestamp(file.modified()?), file.len())));
    match read {
        Ok(written) => Ok(Some(written)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(files::failed(path, error)),
    }
}

fn timestamp(at: SystemTime) -> Timestamp {
    let micros = match at.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_micros()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_micros()).map_or(i64::MIN, |us| -us),
    };
    Timestamp::from_micros(micros)
}

/// The digest that the name of a blob's file says; other files have none.
fn digest_of(path: &Path) -> Option<Digest> {
    let name = path.file_name()?.to_str()?;
    format!("sha256:{name}").parse().ok()
}

/// Checks what the file `oci-layout` at `path` holds.
pub(crate) fn check_layout(path: &str, bytes: &[u8]) -> Result<()> {
    let layout: Value = serde_json::from_slice(bytes)
        .context(ErrorKind::Corrupt, format!("{path}: not an OCI image layout"))?;
    match layout.get("imageLayoutVersion").and_then(Value::as_str) {
        Some(LAYOUT_VERSION) => Ok(()),
        Some(version) => Err(Error::new(
            ErrorKind::Unsupported,
            format!("{path}: OCI image layout {version}, not {LAYOUT_VERSION}"),
        )),
        None => Err(Error::corrupt(format!("{path}: not an OCI image layout"))),
    }
}
