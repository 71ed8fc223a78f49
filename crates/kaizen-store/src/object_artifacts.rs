//! Artefacts in an OCI image layout on an object store.

mod layout;
mod listing;
mod upload;

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::{StreamExt as _, TryStreamExt as _};
use kaizen_core::{
    ArtifactStore, ByteStream, Bytes, Context, Descriptor, Digest, Error, ErrorKind, Manifest,
    Result, Timestamp, async_trait, stream,
};
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt as _, PutMode};
use tokio::sync::Mutex;

use crate::index::Additions;
use crate::local_store::{LAYOUT, check_layout};
use crate::objects::{Folder, unique};

use listing::Listing;

/// How many requests run at the same time on behalf of one call.
const REQUESTS: usize = 16;

/// Whoever names a blob that was put longer ago than this, in seconds, says that it is put now. No
/// grace period of a collection may be shorter.
const FRESH_S: i64 = 60;

/// An OCI image layout in a folder of an object store: `oci-layout`, `index.json`,
/// `blobs/sha256/HEX`.
///
/// It stands on conditional writes, and a store without them is refused. A small blob is created
/// in one request, a large one in parts, which become an object only after the digest was found to
/// be right. `index.json` is written by compare-and-set, so any number of processes may use the
/// same folder at once; those that wait in one process share a write. It is rebuilt from the blobs
/// if it is missing or damaged. A blob that is there already and is put again is read and checked,
/// and written anew if it is damaged.
///
/// Two more folders: `touched/HEX` says that a blob which was there already was put again, and
/// `uploads/` holds large blobs whose digest is known only at their end. These are copied to their
/// place by the store, which some stores do up to 5 GB only: announce the digest of a larger blob.
///
/// ```
/// # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
/// # runtime.block_on(async {
/// use std::sync::Arc;
/// use kaizen_core::ArtifactStore;
/// use kaizen_store::ObjectArtifacts;
///
/// let bucket = Arc::new(object_store::memory::InMemory::new());
/// let store = ObjectArtifacts::open(bucket, "models").await?;
/// let digest = store.put_blob("weights".into()).await?;
/// assert_eq!(store.get_blob(&digest).await?, "weights");
/// # Ok::<(), kaizen_core::Error>(())
/// # }).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct ObjectArtifacts(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    folder: Folder,
    listing: Mutex<Listing>,
    additions: Additions,
}

impl ObjectArtifacts {
    /// Opens the layout in this folder of a store, and makes it if it is not there. The folder is
    /// empty for the whole store, or names parted by `/`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`] if the store has no conditional writes, or the layout is of
    /// another version; [`ErrorKind::Corrupt`] if `oci-layout` is not one.
    pub async fn open(store: Arc<dyn ObjectStore>, folder: &str) -> Result<Self> {
        let opened = Self::to_check(store, folder)?;
        let folder = &opened.0.folder;
        folder.demand_conditional_puts().await?;
        if folder.put("oci-layout", LAYOUT, PutMode::Create).await?.is_none() {
            let path = folder.path("oci-layout");
            let read = async { folder.store.get(&path).await?.bytes().await };
            let bytes = read.await.map_err(|error| folder.failed("oci-layout", error))?;
            check_layout(&folder.place("oci-layout"), &bytes)?;
        }
        opened.0.refresh(&mut *opened.0.listing.lock().await).await?;
        Ok(opened)
    }

    /// An empty layout in memory, gone when the last clone of it is.
    pub async fn in_memory() -> Result<Self> {
        Self::open(Arc::new(object_store::memory::InMemory::new()), "").await
    }

    /// The layout as it is, for [`fsck`](crate::fsck): nothing is looked at, made or rebuilt.
    pub fn to_check(store: Arc<dyn ObjectStore>, folder: &str) -> Result<Self> {
        let folder = Folder::new(store, folder)?;
        let (listing, additions) = (Mutex::default(), Additions::default());
        Ok(Self(Arc::new(Inner { folder, listing, additions })))
    }
}

fn blob(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn touched(digest: &Digest) -> String {
    format!("touched/{}", digest.hex())
}

fn at(meta: &ObjectMeta) -> Timestamp {
    Timestamp::from_micros(meta.last_modified.timestamp_micros())
}

impl Inner {
    async fn head(&self, name: &str) -> Result<Option<ObjectMeta>> {
        match self.folder.store.head(&self.folder.path(name)).await {
            Ok(meta) => Ok(Some(meta)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.folder.failed(name, error)),
        }
    }

    /// The present instant, by the clock that dates the objects.
    async fn now(&self) -> Result<Timestamp> {
        let name = format!("uploads/{}", unique()?);
        self.folder.put(&name, Bytes::new(), PutMode::Create).await?;
        let probe = self.head(&name).await;
        self.folder.delete(&name).await?;
        let lost = format!("{}: it was removed at once", self.folder.place(&name));
        Ok(at(&probe?.context(ErrorKind::Unavailable, lost)?))
    }

    async fn stored_at(&self, digest: &Digest) -> Result<Option<Timestamp>> {
        let Some(put) = self.head(&blob(digest)).await? else { return Ok(None) };
        let again = self.head(&touched(digest)).await?;
        Ok(again.iter().chain([&put]).map(at).max())
    }

    /// Says that a blob which is there is put now.
    async fn touch(&self, digest: &Digest) -> Result<()> {
        self.folder.put(&touched(digest), Bytes::new(), PutMode::Overwrite).await.map(drop)
    }

    async fn get_stream(&self, digest: &Digest) -> Result<ByteStream> {
        let name = blob(digest);
        let got = match self.folder.store.get(&self.folder.path(&name)).await {
            Ok(got) => got,
            Err(object_store::Error::NotFound { .. }) => {
                return Err(Error::not_found(format!(
                    "blob {digest}: {}",
                    self.folder.place(&name)
                )));
            }
            Err(error) => return Err(self.folder.failed(&name, error)),
        };
        let (folder, what) = (self.folder.clone(), self.folder.place(&name));
        let pieces = got.into_stream();
        let pieces = pieces.map_err(move |error| folder.failed(&name, error)).boxed();
        Ok(stream::verified(pieces, *digest, format!("blob {digest}, {what}")))
    }

    async fn blobs(&self) -> Result<Vec<(Digest, u64)>> {
        let listed = self.list_digests("blobs/sha256").await?;
        Ok(listed.into_iter().map(|(digest, meta)| (digest, meta.size)).collect())
    }

    async fn dated_blobs(&self) -> Result<Vec<(Digest, u64, Timestamp)>> {
        let blobs = self.list_digests("blobs/sha256").await?;
        // After the blobs: what is put again meanwhile is seen to be.
        let touched: BTreeMap<_, _> = self.list_digests("touched").await?.into_iter().collect();
        let dated = blobs.into_iter().map(|(digest, put)| {
            let again = touched.get(&digest).map_or(at(&put), at);
            (digest, put.size, again.max(at(&put)))
        });
        Ok(dated.collect())
    }

    /// The objects of a folder that are named by digests, in their order.
    async fn list_digests(&self, folder: &str) -> Result<Vec<(Digest, ObjectMeta)>> {
        let mut found = Vec::new();
        for (name, meta) in self.list(folder).await? {
            let hex = name.rsplit('/').next().unwrap_or_default();
            let digest = format!("sha256:{hex}").parse();
            found.extend(digest.map(|digest: Digest| (digest, meta)));
        }
        found.sort_unstable_by_key(|(digest, _)| *digest);
        Ok(found)
    }

    /// Every object under a folder of the layout, by name.
    async fn list(&self, folder: &str) -> Result<Vec<(String, ObjectMeta)>> {
        let prefix = self.folder.path(folder);
        let listed = self.folder.store.list(Some(&prefix)).try_collect::<Vec<_>>().await;
        let listed = listed.map_err(|error| self.folder.failed(folder, error))?;
        let named = |meta: ObjectMeta| Some((self.folder.name(&meta.location)?, meta));
        Ok(listed.into_iter().filter_map(named).collect())
    }

    /// Checks that the blobs of a manifest are there, and sees to it that each counts as put a
    /// short time before `now`, by the clock of the store.
    async fn has_blobs_of(&self, manifest: &Manifest, id: Digest, now: Timestamp) -> Result<()> {
        let check = |wanted: Descriptor| async move {
            let lost = || format!("manifest {id}: its blob {} is not in the store", wanted.digest);
            let meta = self.head(&blob(&wanted.digest)).await?;
            let meta = meta.context(ErrorKind::NotFound, lost())?;
            if meta.size != wanted.size {
                let (blob, said, found) = (wanted.digest, wanted.size, meta.size);
                return Err(Error::invalid(format!(
                    "manifest {id}: it gives blob {blob} {said} bytes, the object has {found}"
                )));
            }
            if at(&meta) < now.plus_seconds(-FRESH_S) {
                self.touch(&wanted.digest).await?;
                // A collection that had not seen that may have taken it.
                let meta = self.head(&blob(&wanted.digest)).await?;
                meta.context(ErrorKind::NotFound, lost())?;
            }
            Ok(())
        };
        let checks: Vec<_> = manifest.blobs().cloned().map(check).collect();
        let mut checked = futures_util::stream::iter(checks).buffer_unordered(REQUESTS);
        while let Some(one) = checked.next().await {
            one?;
        }
        Ok(())
    }
}

#[async_trait]
impl ArtifactStore for ObjectArtifacts {
    async fn put_stream(&self, bytes: ByteStream, expected: Option<&Digest>) -> Result<Digest> {
        self.0.put_pieces(bytes, expected).await
    }

    async fn get_stream(&self, digest: &Digest) -> Result<ByteStream> {
        self.0.get_stream(digest).await
    }

    async fn size_of(&self, digest: &Digest) -> Result<Option<u64>> {
        Ok(self.0.head(&blob(digest)).await?.map(|meta| meta.size))
    }

    async fn put_blob(&self, bytes: Bytes) -> Result<Digest> {
        let (inner, digest) = (Arc::clone(&self.0), Digest::of(&bytes));
        let pieces = stream::once(bytes);
        // Nothing is missing any more, so it happens even if nobody waits for it.
        let put = tokio::spawn(async move { inner.put_pieces(pieces, Some(&digest)).await });
        put.await.context(ErrorKind::Internal, "a put panicked")?
    }

    async fn put_manifest(&self, manifest: Bytes) -> Result<Digest> {
        let inner = Arc::clone(&self.0);
        // Others may wait for what it writes, so it goes on even if its own caller goes away.
        let put = tokio::spawn(async move { inner.put_manifest(manifest).await });
        put.await.context(ErrorKind::Internal, "a put panicked")?
    }

    async fn referrers(&self, subject: &Digest) -> Result<Vec<Digest>> {
        let mut listing = self.0.listing.lock().await;
        self.0.refresh(&mut listing).await?;
        for manifest in listing.index.unread() {
            let found = self.0.subject_of(&manifest).await?;
            listing.index.insert(manifest, found);
        }
        Ok(listing.index.referrers(subject))
    }

    async fn manifests(&self) -> Result<Vec<Digest>> {
        let mut listing = self.0.listing.lock().await;
        self.0.refresh(&mut listing).await?;
        Ok(listing.index.manifests())
    }

    async fn blobs(&self) -> Result<Vec<(Digest, u64)>> {
        self.0.blobs().await
    }

    async fn remove_blob(&self, digest: &Digest) -> Result<bool> {
        let mut listing = self.0.listing.lock().await;
        self.0.refresh(&mut listing).await?;
        if listing.index.contains(digest) {
            return Err(Error::invalid(format!("manifest {digest}: remove it as a manifest")));
        }
        Ok(!self.0.take_out(&mut listing, &[*digest], None).await?.is_empty())
    }

    async fn remove_manifest(&self, digest: &Digest) -> Result<bool> {
        let mut listing = self.0.listing.lock().await;
        self.0.refresh(&mut listing).await?;
        let listed = listing.index.contains(digest);
        if listed {
            self.0.take_out(&mut listing, &[*digest], None).await?;
        }
        Ok(listed)
    }

    async fn stored_at(&self, digest: &Digest) -> Result<Option<Timestamp>> {
        self.0.stored_at(digest).await
    }

    async fn now(&self) -> Result<Timestamp> {
        self.0.now().await
    }

    async fn dated_blobs(&self) -> Result<Vec<(Digest, u64, Timestamp)>> {
        self.0.dated_blobs().await
    }

    async fn remove_stale(&self, digests: &[Digest], before: Timestamp) -> Result<Vec<Digest>> {
        let mut listing = self.0.listing.lock().await;
        let inner = &self.0;
        let mut dated = futures_util::stream::iter(digests.to_vec())
            .map(|digest| async move { Ok::<_, Error>((digest, inner.stored_at(&digest).await?)) })
            .buffer_unordered(REQUESTS);
        let mut stale = Vec::new();
        while let Some(one) = dated.next().await {
            let (digest, put) = one?;
            stale.extend(put.is_some_and(|at| at < before).then_some(digest));
        }
        self.0.take_out(&mut listing, &stale, Some(before)).await
    }

    async fn remove_unfinished(&self, before: Timestamp) -> Result<u64> {
        let mut bytes = 0;
        for (name, meta) in self.0.list("uploads").await? {
            if at(&meta) < before {
                self.0.folder.delete(&name).await?;
                bytes += meta.size;
            }
        }
        Ok(bytes)
    }
}
