//! A store or a log that a test makes behave badly.

use std::fmt;
use std::ops::{Deref, DerefMut, Range};

use async_trait::async_trait;
use kaizen_core::record::Occurrence;
use kaizen_core::{
    ArtifactStore, AuditLog, ByteStream, Bytes, Checkpoint, Digest, Entry, Result, Timestamp,
};

/// A store that does what another does, but for the methods that a test writes anew. It is an
/// [`ArtifactStore`] within [`Doubled`].
///
/// ```
/// use kaizen_core::{ArtifactStore, Digest, Result};
/// use kaizen_testkit::{Doubled, MemoryStore, StoreDouble};
///
/// /// A store that has everything, and says so of nothing.
/// #[derive(Debug, Default)]
/// struct Forgetful(MemoryStore);
///
/// #[async_trait::async_trait]
/// impl StoreDouble for Forgetful {
///     fn inner(&self) -> &dyn ArtifactStore {
///         &self.0
///     }
///
///     async fn size_of(&self, _: &Digest) -> Result<Option<u64>> {
///         Ok(None)
///     }
/// }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<()> {
/// let store: Doubled<Forgetful> = Doubled::default();
/// let blob = store.put_blob("weights".into()).await?;
/// assert!(!store.contains(&blob).await? && store.inner().contains(&blob).await?);
/// # Ok(())
/// # }
/// ```
#[async_trait]
#[expect(missing_docs, reason = "each is the method of the port that has its name")]
pub trait StoreDouble: fmt::Debug + Send + Sync {
    /// The store that does what is not written anew.
    fn inner(&self) -> &dyn ArtifactStore;

    async fn put_stream(&self, bytes: ByteStream, expected: Option<&Digest>) -> Result<Digest> {
        self.inner().put_stream(bytes, expected).await
    }

    async fn get_stream(&self, digest: &Digest) -> Result<ByteStream> {
        self.inner().get_stream(digest).await
    }

    async fn size_of(&self, digest: &Digest) -> Result<Option<u64>> {
        self.inner().size_of(digest).await
    }

    async fn put_manifest(&self, manifest: Bytes) -> Result<Digest> {
        self.inner().put_manifest(manifest).await
    }

    async fn referrers(&self, subject: &Digest) -> Result<Vec<Digest>> {
        self.inner().referrers(subject).await
    }

    async fn manifests(&self) -> Result<Vec<Digest>> {
        self.inner().manifests().await
    }

    async fn remove_blob(&self, digest: &Digest) -> Result<bool> {
        self.inner().remove_blob(digest).await
    }

    async fn remove_stale(&self, digests: &[Digest], before: Timestamp) -> Result<Vec<Digest>> {
        self.inner().remove_stale(digests, before).await
    }
}

/// A log that does what another does, but for the methods that a test writes anew. It is an
/// [`AuditLog`] within [`Doubled`].
#[async_trait]
#[expect(missing_docs, reason = "each is the method of the port that has its name")]
pub trait LogDouble: fmt::Debug + Send + Sync {
    /// The log that does what is not written anew.
    fn inner(&self) -> &dyn AuditLog;

    async fn append(&self, entries: &[Entry], expected: Option<u64>) -> Result<Range<u64>> {
        self.inner().append(entries, expected).await
    }

    async fn first(&self) -> Result<u64> {
        self.inner().first().await
    }

    async fn read(&self, indices: Range<u64>) -> Result<Vec<Entry>> {
        self.inner().read(indices).await
    }
}

/// The double as a store, or as a log.
#[derive(Debug, Default)]
pub struct Doubled<T>(pub T);

impl<T> Deref for Doubled<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for Doubled<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

#[async_trait]
impl<T: StoreDouble> ArtifactStore for Doubled<T> {
    async fn put_stream(&self, bytes: ByteStream, expected: Option<&Digest>) -> Result<Digest> {
        self.0.put_stream(bytes, expected).await
    }

    async fn get_stream(&self, digest: &Digest) -> Result<ByteStream> {
        self.0.get_stream(digest).await
    }

    async fn size_of(&self, digest: &Digest) -> Result<Option<u64>> {
        self.0.size_of(digest).await
    }

    async fn put_manifest(&self, manifest: Bytes) -> Result<Digest> {
        self.0.put_manifest(manifest).await
    }

    async fn referrers(&self, subject: &Digest) -> Result<Vec<Digest>> {
        self.0.referrers(subject).await
    }

    async fn manifests(&self) -> Result<Vec<Digest>> {
        self.0.manifests().await
    }

    async fn blobs(&self) -> Result<Vec<(Digest, u64)>> {
        self.0.inner().blobs().await
    }

    async fn remove_blob(&self, digest: &Digest) -> Result<bool> {
        self.0.remove_blob(digest).await
    }

    async fn remove_manifest(&self, digest: &Digest) -> Result<bool> {
        self.0.inner().remove_manifest(digest).await
    }

    async fn stored_at(&self, digest: &Digest) -> Result<Option<Timestamp>> {
        self.0.inner().stored_at(digest).await
    }

    async fn now(&self) -> Result<Timestamp> {
        self.0.inner().now().await
    }

    async fn remove_stale(&self, digests: &[Digest], before: Timestamp) -> Result<Vec<Digest>> {
        self.0.remove_stale(digests, before).await
    }
}

#[async_trait]
impl<T: LogDouble> AuditLog for Doubled<T> {
    async fn append(&self, entries: &[Entry], expected: Option<u64>) -> Result<Range<u64>> {
        self.0.append(entries, expected).await
    }

    async fn size(&self) -> Result<u64> {
        self.0.inner().size().await
    }

    async fn first(&self) -> Result<u64> {
        self.0.first().await
    }

    async fn read(&self, indices: Range<u64>) -> Result<Vec<Entry>> {
        self.0.read(indices).await
    }

    async fn checkpoint(&self) -> Result<Checkpoint> {
        self.0.inner().checkpoint().await
    }

    async fn prune(&self, first: u64, occurrence: &Occurrence) -> Result<()> {
        self.0.inner().prune(first, occurrence).await
    }
}
