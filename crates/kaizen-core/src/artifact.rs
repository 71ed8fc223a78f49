//! The port of bytes: where artefacts live.

use std::collections::BTreeSet;
use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;
use serde::de::DeserializeOwned;

use crate::{
    ByteStream, Context, Descriptor, Digest, Error, ErrorKind, Manifest, Record, Result, Timestamp,
    media_type, record, stream,
};

/// Content-addressed storage in the model of an OCI image layout: blobs by digest, of which some
/// are manifests.
///
/// Implementations verify digests on the way in and on the way out, and publish atomically: a
/// reader sees a whole blob or none. Blobs travel as streams, so that a large one never is in
/// memory whole. `kaizen_testkit::artifact_store` is the conformance suite.
#[async_trait]
pub trait ArtifactStore: fmt::Debug + Send + Sync {
    /// Stores a blob as its bytes come, and gives its digest. Storing it again changes nothing.
    ///
    /// With `expected`, bytes of another digest are [`ErrorKind::Corrupt`]; a store that has the
    /// blob already need not read the stream. A stream that fails, bytes that are refused and a
    /// call whose caller goes away before the stream has ended leave nothing that can be seen.
    async fn put_stream(&self, bytes: ByteStream, expected: Option<&Digest>) -> Result<Digest>;

    /// The blob's bytes as they are read, checked on the way: if they are not the ones that the
    /// digest names, the last item is [`ErrorKind::Corrupt`]. A missing blob is
    /// [`ErrorKind::NotFound`].
    async fn get_stream(&self, digest: &Digest) -> Result<ByteStream>;

    /// The blob's size in bytes, if it is there, without reading it.
    async fn size_of(&self, digest: &Digest) -> Result<Option<u64>>;

    /// Stores a manifest, byte for byte. Every blob that it names must be there; its subject need
    /// not.
    async fn put_manifest(&self, manifest: Bytes) -> Result<Digest>;

    /// The manifests whose subject is this digest, ordered by digest.
    async fn referrers(&self, subject: &Digest) -> Result<Vec<Digest>>;

    /// Every manifest in the store, ordered by digest.
    async fn manifests(&self) -> Result<Vec<Digest>>;

    /// Every blob in the store with its size in bytes, manifests too, ordered by digest.
    async fn blobs(&self) -> Result<Vec<(Digest, u64)>>;

    /// Stores a blob that is in memory, and gives its digest. Storing it again changes nothing.
    async fn put_blob(&self, bytes: Bytes) -> Result<Digest> {
        let digest = Digest::of(&bytes);
        self.put_stream(stream::once(bytes), Some(&digest)).await
    }

    /// The blob's bytes, whole and verified: [`ErrorKind::NotFound`] or [`ErrorKind::Corrupt`]
    /// otherwise. It is for stores that are trusted with memory, and for small blobs: elsewhere
    /// say how much there may be ([`get_bounded`](Self::get_bounded)), or read the stream. A store
    /// that keeps this provided method gives at most 4 GiB.
    async fn get_blob(&self, digest: &Digest) -> Result<Bytes> {
        let size = self.size_of(digest).await?;
        let size = size.context(ErrorKind::NotFound, format!("blob {digest}"))?;
        if size > MAX_WHOLE_BYTES {
            let message = format!("blob {digest}: {size} bytes; read it as a stream");
            return Err(Error::new(ErrorKind::Limit, message));
        }
        self.get_bounded(digest, size).await
    }

    /// The same for a blob of at most `most` bytes, whatever size the store says it has; more of
    /// them are [`ErrorKind::Limit`].
    async fn get_bounded(&self, digest: &Digest, most: u64) -> Result<Bytes> {
        let what = format!("blob {digest}");
        let bytes = stream::whole(self.get_stream(digest).await?, most, &what).await?;
        digest.check(&bytes, &what)?;
        Ok(bytes)
    }

    /// The same for a blob that a manifest names: another size than it says is
    /// [`ErrorKind::Corrupt`].
    async fn get_described(&self, blob: &Descriptor) -> Result<Bytes> {
        self.get_bounded(&blob.digest, blob.size).await.map_err(|error| match error.kind() {
            ErrorKind::Limit => {
                let message = format!("blob {}: a manifest says it has fewer bytes", blob.digest);
                Error::corrupt(message).with_source(error)
            }
            _ => error,
        })
    }

    /// Whether the blob is there, without reading it.
    async fn contains(&self, digest: &Digest) -> Result<bool> {
        Ok(self.size_of(digest).await?.is_some())
    }

    /// Takes a blob out of the store; whether it was there. A manifest is
    /// [`ErrorKind::Invalid`]: manifests that name the blob stay, so that what was made of it can
    /// still be told, and only reading the blob is [`ErrorKind::NotFound`]. The caller writes the
    /// tombstone into the audit log first. A store that only reads gives
    /// [`ErrorKind::Refused`].
    async fn remove_blob(&self, digest: &Digest) -> Result<bool> {
        Err(Error::refused(format!("{digest}: this store removes nothing")))
    }

    /// Takes a manifest out of the store; whether it was one. Its blobs and its referrers stay.
    /// The caller writes the tombstone into the audit log first. A store that only reads gives
    /// [`ErrorKind::Refused`].
    async fn remove_manifest(&self, digest: &Digest) -> Result<bool> {
        Err(Error::refused(format!("manifest {digest}: this store removes nothing")))
    }

    /// When a blob was put last, by the clock of the store, if it is there. Naming the blob in a
    /// manifest that is put counts as putting it. A store that does not know gives
    /// [`ErrorKind::Unsupported`].
    async fn stored_at(&self, digest: &Digest) -> Result<Option<Timestamp>> {
        let message = format!("{digest}: this store does not know when it was put");
        Err(Error::new(ErrorKind::Unsupported, message))
    }

    /// The present instant by the clock of the store, the one that [`stored_at`](Self::stored_at)
    /// speaks of. A store that does not know gives [`ErrorKind::Unsupported`].
    async fn now(&self) -> Result<Timestamp> {
        Err(Error::new(ErrorKind::Unsupported, "this store has no clock"))
    }

    /// Every blob with its size in bytes and when it was put last, ordered by digest: what
    /// [`blobs`](Self::blobs) and [`stored_at`](Self::stored_at) say, in as few steps as the store
    /// can.
    async fn dated_blobs(&self) -> Result<Vec<(Digest, u64, Timestamp)>> {
        let mut dated = Vec::new();
        for (digest, size) in self.blobs().await? {
            dated.extend(self.stored_at(&digest).await?.map(|at| (digest, size, at)));
        }
        Ok(dated)
    }

    /// Takes those of these blobs and manifests out of the store that were put last before
    /// `before`, and gives them. Collection of garbage calls it: a store that can makes it one
    /// step, so that what is put at the same time is not taken.
    async fn remove_stale(&self, digests: &[Digest], before: Timestamp) -> Result<Vec<Digest>> {
        let mut removed = Vec::new();
        for digest in digests {
            if self.stored_at(digest).await?.is_some_and(|at| at < before)
                && (self.remove_manifest(digest).await? || self.remove_blob(digest).await?)
            {
                removed.push(*digest);
            }
        }
        Ok(removed)
    }

    /// Clears away what puts that never ended left behind before this instant, and gives its size
    /// in bytes. A store in which nothing is left behind has nothing to do.
    async fn remove_unfinished(&self, before: Timestamp) -> Result<u64> {
        let _ = before;
        Ok(0)
    }
}

/// At most this many bytes are taken into memory because a store says that a blob has them.
const MAX_WHOLE_BYTES: u64 = 4 << 30;

/// A file that travels with a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payload {
    /// The file's name, distinct within the record.
    pub name: String,
    /// What kind of content it is.
    pub media_type: String,
    /// The content.
    pub bytes: Bytes,
}

impl Payload {
    /// A payload of this name, media type and content.
    pub fn new(
        name: impl Into<String>,
        media_type: impl Into<String>,
        bytes: impl Into<Bytes>,
    ) -> Self {
        Self { name: name.into(), media_type: media_type.into(), bytes: bytes.into() }
    }

    /// Where the payload is stored.
    pub fn descriptor(&self) -> Descriptor {
        Descriptor::of(&self.media_type, &self.bytes).annotate(media_type::TITLE, &self.name)
    }
}

/// A record as it was read: its id, its body, and the manifest that leads to its payloads.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Stored<R> {
    /// The digest of the manifest as stored.
    pub id: Digest,
    /// The body.
    pub record: R,
    /// The envelope.
    pub manifest: Manifest,
}

impl<R: Record> Stored<R> {
    /// Reads a payload by its name; it has as many bytes as the manifest says.
    pub async fn payload(&self, store: &dyn ArtifactStore, name: &str) -> Result<Bytes> {
        store.get_described(self.layer(name)?).await
    }

    /// Reads a payload by its name, as a stream: checked at its end, as
    /// [`ArtifactStore::get_stream`] says.
    pub async fn payload_stream(
        &self,
        store: &dyn ArtifactStore,
        name: &str,
    ) -> Result<ByteStream> {
        store.get_stream(&self.layer(name)?.digest).await
    }

    /// Where the payload of this name is stored.
    pub fn layer(&self, name: &str) -> Result<&Descriptor> {
        let found = self.manifest.layers.iter().find(|layer| layer.title() == Some(name));
        let missing = format!("{} {}: it has no payload `{name}`", R::KIND, self.id);
        found.context(ErrorKind::NotFound, missing)
    }
}

/// Puts and gets records, over any [`ArtifactStore`].
#[async_trait]
pub trait Records: ArtifactStore {
    /// Stores a record with its payloads, and gives its id.
    async fn put<R: Record>(&self, body: &R, payloads: &[Payload]) -> Result<Digest> {
        let mut layers = Vec::with_capacity(payloads.len());
        for payload in payloads {
            self.put_blob(payload.bytes.clone()).await?;
            layers.push(payload.descriptor());
        }
        self.put_with(body, layers).await
    }

    /// Stores what will be a payload as its bytes come, for one that is too large for memory, and
    /// describes it for [`put_with`](Self::put_with).
    async fn put_payload(
        &self,
        name: &str,
        media_type: &str,
        bytes: ByteStream,
    ) -> Result<Descriptor> {
        let digest = self.put_stream(bytes, None).await?;
        let size = self.size_of(&digest).await?;
        let size = size.context(ErrorKind::NotFound, format!("payload `{name}`, blob {digest}"))?;
        Ok(Descriptor::new(media_type, digest, size).annotate(media_type::TITLE, name))
    }

    /// Stores a record whose payloads are in the store already, and gives its id. Two payloads of
    /// one name are [`ErrorKind::Invalid`], and so is a name that is no file's
    /// ([`Manifest::check_titles`]); a body of over 64 MiB is [`ErrorKind::Limit`].
    async fn put_with<R: Record>(&self, body: &R, layers: Vec<Descriptor>) -> Result<Digest> {
        if let Some(name) = named_twice(&layers) {
            let message = format!("{}: it has two payloads `{name}`", R::KIND);
            return Err(Error::invalid(message));
        }
        let bytes = serde_json::to_vec(body)
            .context(ErrorKind::Internal, format!("{} as JSON", R::KIND))?;
        check_body(R::KIND, bytes.len() as u64)?;
        let config = Descriptor::of(record::body_type(R::KIND), &bytes);
        let mut manifest = Manifest::new(config, layers);
        // Nobody would take it by a copy.
        let named = manifest.check_titles(R::KIND);
        named.map_err(|error| Error::invalid("a payload's name").with_source(error))?;
        self.put_blob(bytes.into()).await?;
        manifest.artifact_type = Some(record::artifact_type(R::KIND));
        manifest.subject = match body.subject() {
            Some(digest) => Some(self.describe(&digest).await?),
            None => None,
        };
        self.put_manifest(manifest.to_bytes()?.into()).await
    }

    /// Reads a record. One of another kind is [`ErrorKind::Invalid`], an unreadable one
    /// [`ErrorKind::Corrupt`].
    async fn get<R: Record>(&self, id: &Digest) -> Result<Stored<R>> {
        let manifest = self.manifest(id).await?;
        let wanted = record::artifact_type(R::KIND);
        if manifest.artifact_type.as_deref() != Some(wanted.as_str()) {
            let found = manifest.artifact_type.as_deref().unwrap_or("a container image");
            return Err(Error::invalid(format!("{id}: is {found}, not {wanted}")));
        }
        let what = format!("{} {id}", R::KIND);
        if let Some(name) = named_twice(&manifest.layers) {
            return Err(Error::corrupt(format!("{what}: it has two payloads `{name}`")));
        }
        check_body(&what, manifest.config.size)?;
        let body = self.get_described(&manifest.config).await?;
        let record = serde_json::from_slice(&body).context(ErrorKind::Corrupt, what)?;
        Ok(Stored { id: *id, record, manifest })
    }

    /// Reads a record that may be gone: what the log has spoken of is collected in time. `None` if
    /// it is not in the store, or its body is not.
    async fn find<R: Record>(&self, id: &Digest) -> Result<Option<Stored<R>>> {
        match self.get(id).await {
            Ok(found) => Ok(Some(found)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Reads a manifest of any kind.
    async fn manifest(&self, id: &Digest) -> Result<Manifest> {
        Manifest::parse(&self.get_bounded(id, Manifest::MAX_BYTES as u64).await?)
    }

    /// Reads a payload as JSON into memory; `None` if the manifest has none of this name, or the
    /// store has it no more, as after an erasure. One of more than `most` bytes is
    /// [`ErrorKind::Limit`], one that is no such JSON or larger than its manifest says is
    /// [`ErrorKind::Corrupt`].
    async fn payload_json<T: DeserializeOwned>(
        &self,
        manifest: &Manifest,
        name: &str,
        most: u64,
    ) -> Result<Option<T>> {
        let Some(layer) = manifest.layers.iter().find(|layer| layer.title() == Some(name)) else {
            return Ok(None);
        };
        let what = || format!("payload `{name}`, blob {}", layer.digest);
        if layer.size > most {
            let message = format!("{}: {} bytes, over {most}", what(), layer.size);
            return Err(Error::new(ErrorKind::Limit, message));
        }
        match self.get_described(layer).await {
            Ok(bytes) => {
                serde_json::from_slice(&bytes).context(ErrorKind::Corrupt, what()).map(Some)
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Describes a stored manifest, as a subject must be.
    async fn describe(&self, id: &Digest) -> Result<Descriptor> {
        let size = self.size_of(id).await?.context(ErrorKind::NotFound, format!("blob {id}"))?;
        // What a statement is about may also be a blob, of any size.
        if size > Manifest::MAX_BYTES as u64 {
            return Ok(Descriptor::new(media_type::MANIFEST, *id, size));
        }
        let bytes = self.get_bounded(id, Manifest::MAX_BYTES as u64).await?;
        Ok(Descriptor::of(media_type::MANIFEST, &bytes))
    }
}

fn named_twice(layers: &[Descriptor]) -> Option<&str> {
    let mut seen = BTreeSet::new();
    layers.iter().filter_map(Descriptor::title).find(|name| !seen.insert(*name))
}

fn check_body(what: &str, size: u64) -> Result<()> {
    if size > record::MAX_BODY_BYTES {
        let most = record::MAX_BODY_BYTES;
        let message = format!("{what}: a body of {size} bytes, over {most}");
        return Err(Error::new(ErrorKind::Limit, message));
    }
    Ok(())
}

impl<S: ArtifactStore + ?Sized> Records for S {}
