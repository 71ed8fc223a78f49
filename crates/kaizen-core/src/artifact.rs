//! The port of bytes: where artefacts live.

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;

use crate::{
    Context, Descriptor, Digest, Error, ErrorKind, Manifest, Record, Result, media_type, record,
};

/// Content-addressed storage in the model of an OCI image layout: blobs by digest, of which some
/// are manifests.
///
/// Implementations verify digests on the way in and on the way out, and publish atomically: a
/// reader sees a whole blob or none. `kaizen_testkit::artifact_store` is the conformance suite.
#[async_trait]
pub trait ArtifactStore: fmt::Debug + Send + Sync {
    /// Stores a blob and gives its digest. Storing it again changes nothing.
    async fn put_blob(&self, bytes: Bytes) -> Result<Digest>;

    /// The blob's bytes, verified: [`ErrorKind::NotFound`] or [`ErrorKind::Corrupt`] otherwise.
    async fn get_blob(&self, digest: &Digest) -> Result<Bytes>;

    /// Whether the blob is there, without reading it.
    async fn contains(&self, digest: &Digest) -> Result<bool>;

    /// Stores a manifest, byte for byte. Every blob that it names must be there; its subject need
    /// not.
    async fn put_manifest(&self, manifest: Bytes) -> Result<Digest>;

    /// The manifests whose subject is this digest, ordered by digest.
    async fn referrers(&self, subject: &Digest) -> Result<Vec<Digest>>;

    /// Every manifest in the store, ordered by digest.
    async fn manifests(&self) -> Result<Vec<Digest>>;

    /// Takes a blob out of the store; whether it was there. A manifest is
    /// [`ErrorKind::Invalid`]: manifests that name the blob stay, so that what was made of it can
    /// still be told, and only reading the blob is [`ErrorKind::NotFound`]. The caller writes the
    /// tombstone into the audit log first. A store that only reads gives
    /// [`ErrorKind::Refused`].
    async fn remove_blob(&self, digest: &Digest) -> Result<bool> {
        Err(Error::refused(format!("{digest}: this store removes nothing")))
    }
}

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
    /// Reads a payload by its name.
    pub async fn payload(&self, store: &dyn ArtifactStore, name: &str) -> Result<Bytes> {
        let found = self.manifest.layers.iter().find(|layer| layer.title() == Some(name));
        let layer = found.context(
            ErrorKind::NotFound,
            format!("{} {}: it has no payload `{name}`", R::KIND, self.id),
        )?;
        store.get_blob(&layer.digest).await
    }
}

/// Puts and gets records, over any [`ArtifactStore`].
#[async_trait]
pub trait Records: ArtifactStore {
    /// Stores a record with its payloads, and gives its id.
    async fn put<R: Record>(&self, body: &R, payloads: &[Payload]) -> Result<Digest> {
        let bytes = serde_json::to_vec(body)
            .context(ErrorKind::Internal, format!("{} as JSON", R::KIND))?;
        let config = Descriptor::of(record::body_type(R::KIND), &bytes);
        self.put_blob(bytes.into()).await?;
        let mut layers = Vec::with_capacity(payloads.len());
        for payload in payloads {
            self.put_blob(payload.bytes.clone()).await?;
            layers.push(payload.descriptor());
        }
        let mut manifest = Manifest::new(config, layers);
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
        let body = self.get_blob(&manifest.config.digest).await?;
        let record = serde_json::from_slice(&body)
            .context(ErrorKind::Corrupt, format!("{} {id}", R::KIND))?;
        Ok(Stored { id: *id, record, manifest })
    }

    /// Reads a manifest of any kind.
    async fn manifest(&self, id: &Digest) -> Result<Manifest> {
        Manifest::parse(&self.get_blob(id).await?)
    }

    /// Describes a stored manifest, as a subject must be.
    async fn describe(&self, id: &Digest) -> Result<Descriptor> {
        Ok(Descriptor::of(media_type::MANIFEST, &self.get_blob(id).await?))
    }
}

impl<S: ArtifactStore + ?Sized> Records for S {}
