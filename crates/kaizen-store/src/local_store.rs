//! Artefacts in an OCI image layout on local disk.

mod streams;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use kaizen_core::{
    ArtifactStore, ByteStream, Bytes, Context, Digest, Error, ErrorKind, Manifest, Result,
    Timestamp, async_trait,
};
use serde_json::Value;

use crate::files::{self, Disk, Files, blocking};
use crate::index::Index;

const LAYOUT_VERSION: &str = "1.0.0";

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
    index: Mutex<Index>,
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
        let blobs = dir.join("blobs").join("sha256");
        let inner = Arc::new(Inner { dir, blobs, files, index: Mutex::default() });
        let opening = Arc::clone(&inner);
        blocking(move || opening.open()).await?;
        Ok(Self(inner))
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

    async fn put_stream(&self, bytes: ByteStream, expected: Option<&Digest>) -> Result<Digest> {
        self.put_pieces(bytes, expected.copied()).await
    }

    async fn get_stream(&self, digest: &Digest) -> Result<ByteStream> {
        self.get_pieces(*digest).await
    }

    async fn get_blob(&self, digest: &Digest) -> Result<Bytes> {
        let digest = *digest;
        self.run(move |inner| inner.get_blob(&digest).map(Bytes::from)).await
    }

    async fn size_of(&self, digest: &Digest) -> Result<Option<u64>> {
        let digest = *digest;
        self.run(move |inner| inner.size_of(&digest)).await
    }

    async fn put_manifest(&self, manifest: Bytes) -> Result<Digest> {
        self.run(move |inner| inner.put_manifest(&manifest)).await
    }

    async fn referrers(&self, subject: &Digest) -> Result<Vec<Digest>> {
        let subject = *subject;
        self.run(move |inner| Ok(inner.fresh_index()?.referrers(&subject))).await
    }

    async fn manifests(&self) -> Result<Vec<Digest>> {
        self.run(|inner| Ok(inner.fresh_index()?.manifests())).await
    }

    async fn blobs(&self) -> Result<Vec<(Digest, u64)>> {
        self.run(Inner::blobs).await
    }

    async fn remove_blob(&self, digest: &Digest) -> Result<bool> {
        let digest = *digest;
        self.run(move |inner| inner.remove(&digest, Kind::Blob, None)).await
    }

    async fn remove_manifest(&self, digest: &Digest) -> Result<bool> {
        let digest = *digest;
        self.run(move |inner| inner.remove(&digest, Kind::Manifest, None)).await
    }

    async fn stored_at(&self, digest: &Digest) -> Result<Option<Timestamp>> {
        let digest = *digest;
        self.run(move |inner| inner.stored_at(&digest)).await
    }

    async fn remove_stale(&self, digest: &Digest, before: Timestamp) -> Result<bool> {
        let digest = *digest;
        self.run(move |inner| inner.remove(&digest, Kind::Any, Some(before))).await
    }
}

impl Inner {
    fn open(&self) -> Result<()> {
        files::create_dirs(&*self.files, &self.blobs)?;
        let layout = self.dir.join("oci-layout");
        match files::read(&layout)? {
            Some(bytes) => check_layout(&layout, &bytes)?,
            None => {
                let text = format!("{{\"imageLayoutVersion\":\"{LAYOUT_VERSION}\"}}");
                files::publish(&*self.files, &layout, text.as_bytes())?;
            }
        }
        drop(self.fresh_index()?);
        Ok(())
    }

    fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.blobs.join(digest.hex())
    }

    fn index_path(&self) -> PathBuf {
        self.dir.join("index.json")
    }

    fn lock_index_file(&self) -> Result<files::Lock> {
        files::lock(&self.dir.join("index.json.lock"))
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
            files::publish(&*self.files, &self.blob_path(&digest), bytes)?;
        }
        Ok(digest)
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

    fn get_blob(&self, digest: &Digest) -> Result<Vec<u8>> {
        let path = self.blob_path(digest);
        let bytes = files::read(&path)?
            .context(ErrorKind::NotFound, format!("blob {digest}: no file {}", path.display()))?;
        digest.check(&bytes, &format!("blob {digest} in {}", path.display()))?;
        Ok(bytes)
    }

    /// When a blob was put last.
    fn stored_at(&self, digest: &Digest) -> Result<Option<Timestamp>> {
        let path = self.blob_path(digest);
        match std::fs::metadata(&path).and_then(|metadata| metadata.modified()) {
            Ok(at) => Ok(Some(timestamp(at))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(files::failed(&path, error)),
        }
    }

    /// Takes out a blob or a manifest, if it is of this kind and was put before `before`.
    fn remove(&self, digest: &Digest, kind: Kind, before: Option<Timestamp>) -> Result<bool> {
        // Held to the end: a manifest that is put meanwhile waits, and then looks for its blobs.
        let mut index = self.lock_index();
        let _lock = self.lock_index_file()?;
        self.refresh(&mut index)?;
        if let Some(before) = before
            && self.stored_at(digest)?.is_none_or(|at| at >= before)
        {
            return Ok(false);
        }
        let listed = index.contains(digest);
        match kind {
            Kind::Blob if listed => {
                return Err(Error::invalid(format!("manifest {digest}: remove it as a manifest")));
            }
            Kind::Manifest if !listed => return Ok(false),
            _ => {}
        }
        if listed {
            let mut shrunk = index.clone();
            shrunk.remove(digest);
            self.replace(&mut index, shrunk)?;
        }
        let path = self.blob_path(digest);
        let removed = match self.files.remove(&path) {
            Ok(()) => true,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => false,
            Err(error) => return Err(files::failed(&path, error)),
        };
        // Also if it was gone: whoever removed it may have been cut off before its name was safe.
        self.sync_blobs()?;
        Ok(removed)
    }

    fn put_manifest(&self, bytes: &[u8]) -> Result<Digest> {
        let manifest = Manifest::parse(bytes)?;
        let digest = Digest::of(bytes);
        let mut index = self.lock_index();
        let _lock = self.lock_index_file()?;
        for blob in manifest.blobs() {
            let lost = format!("manifest {digest}: its blob {} is not in the store", blob.digest);
            let found = self.size_of(&blob.digest)?.context(ErrorKind::NotFound, lost)?;
            if found != blob.size {
                let (blob, wanted) = (blob.digest, blob.size);
                return Err(Error::invalid(format!(
                    "manifest {digest}: it gives blob {blob} {wanted} bytes, the file has {found}"
                )));
            }
            self.touch(&blob.digest)?;
        }
        self.put_blob(bytes)?;
        self.refresh(&mut index)?;
        if !index.contains(&digest) {
            let mut grown = index.clone();
            grown.add(&manifest, bytes)?;
            self.replace(&mut index, grown)?;
        }
        Ok(digest)
    }

    fn lock_index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The index as the disk has it now.
    fn fresh_index(&self) -> Result<MutexGuard<'_, Index>> {
        let mut index = self.lock_index();
        if !index.is_current(&self.index_path()) {
            let _lock = self.lock_index_file()?;
            self.refresh(&mut index)?;
        }
        Ok(index)
    }

    /// Reads the index again if another process wrote it, and rebuilds it if there is none. The
    /// caller holds the lock on the file.
    fn refresh(&self, index: &mut Index) -> Result<()> {
        let path = self.index_path();
        if index.is_current(&path) {
            return Ok(());
        }
        if let Some(read) = index.read(&path, |manifest| self.subject_of(manifest))? {
            *index = read;
            return Ok(());
        }
        let rebuilt = self.scan()?;
        if path.exists() {
            tracing::warn!(path = %path.display(), "index is damaged; rebuilt from the blobs");
        }
        self.replace(index, rebuilt)
    }

    fn replace(&self, index: &mut Index, with: Index) -> Result<()> {
        let path = self.index_path();
        files::publish(&*self.files, &path, &with.to_bytes()?)?;
        *index = with;
        index.written(&path);
        Ok(())
    }

    /// The subject of a listed manifest. One that cannot be read has none for now: reading the
    /// manifest itself gives the error.
    fn subject_of(&self, manifest: &Digest) -> Option<Digest> {
        match self.get_blob(manifest).and_then(|bytes| Manifest::parse(&bytes)) {
            Ok(parsed) => parsed.subject.map(|subject| subject.digest),
            Err(error) => {
                tracing::warn!(%manifest, %error, "listed manifest cannot be read");
                None
            }
        }
    }

    /// Finds every manifest among the blobs.
    fn scan(&self) -> Result<Index> {
        let mut index = Index::default();
        for path in files::list(&self.blobs)? {
            let Some(digest) = digest_of(&path) else { continue };
            if self.size_of(&digest)?.is_none_or(|size| size > Manifest::MAX_BYTES as u64) {
                continue;
            }
            // Blobs of other kinds, and damaged ones, are no manifests.
            let Ok(bytes) = self.get_blob(&digest) else { continue };
            if let Ok(manifest) = Manifest::parse(&bytes) {
                index.add(&manifest, &bytes)?;
            }
        }
        Ok(index)
    }
}

/// What is to be removed.
#[derive(Clone, Copy)]
enum Kind {
    Blob,
    Manifest,
    Any,
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

fn check_layout(path: &Path, bytes: &[u8]) -> Result<()> {
    let path = path.display();
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
