//! The two OCI structures that records are stored in.
//!
//! They are ours and not `oci-spec`'s, whose maps have no order: a record's id is the digest of
//! these bytes, so equal records must serialise equally.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Context, Digest, Error, ErrorKind, Result};

/// Media types and annotation keys in use.
pub mod media_type {
    /// An OCI image manifest.
    pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    /// An OCI image index.
    pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
    /// JSON.
    pub const JSON: &str = "application/json";
    /// Apache Parquet.
    pub const PARQUET: &str = "application/vnd.apache.parquet";
    /// The annotation that names a layer's file.
    pub const TITLE: &str = "org.opencontainers.image.title";
}

/// Points to a blob: what it is, its digest and its size in bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What kind of content the blob holds.
    pub media_type: String,
    /// The digest of the blob.
    pub digest: Digest,
    /// The size of the blob in bytes. A number and not a string: OCI demands it.
    pub size: u64,
    /// What kind of artefact a manifest holds, in an index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// Notes, ordered by key.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl Descriptor {
    /// Describes these bytes.
    pub fn of(media_type: impl Into<String>, bytes: &[u8]) -> Self {
        Self::new(media_type, Digest::of(bytes), bytes.len() as u64)
    }

    /// Describes the blob of this digest and size in bytes.
    pub fn new(media_type: impl Into<String>, digest: Digest, size: u64) -> Self {
        Self {
            media_type: media_type.into(),
            digest,
            size,
            artifact_type: None,
            annotations: BTreeMap::new(),
        }
    }

    /// Adds a note.
    #[must_use]
    pub fn annotate(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.annotations.insert(key.into(), value.into());
        self
    }

    /// The file name that the blob stands for, where it has one.
    pub fn title(&self) -> Option<&str> {
        self.annotations.get(media_type::TITLE).map(String::as_str)
    }
}

/// An OCI image manifest, the envelope of every record, model and image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    schema_version: u32,
    media_type: String,
    /// What kind of artefact this is; absent for a container image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The body.
    pub config: Descriptor,
    /// The payloads.
    pub layers: Vec<Descriptor>,
    /// The manifest that this one is a statement about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Notes, ordered by key.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl Manifest {
    /// At most this many bytes in a manifest, as registries agree.
    pub const MAX_BYTES: usize = 4 << 20;

    /// At most this many payloads in a manifest.
    pub const MAX_LAYERS: usize = 10_000;

    /// A manifest with this body and these payloads.
    pub fn new(config: Descriptor, layers: Vec<Descriptor>) -> Self {
        Self {
            schema_version: 2,
            media_type: media_type::MANIFEST.to_owned(),
            artifact_type: None,
            config,
            layers,
            subject: None,
            annotations: BTreeMap::new(),
        }
    }

    /// Reads the stored bytes of a manifest.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let digest = Digest::of(bytes);
        if bytes.len() > Self::MAX_BYTES {
            return Err(Error::corrupt(format!("manifest {digest}: {} bytes", bytes.len())));
        }
        let manifest: Self = serde_json::from_slice(bytes)
            .context(ErrorKind::Corrupt, format!("manifest {digest}"))?;
        if manifest.schema_version != 2 || manifest.media_type != media_type::MANIFEST {
            return Err(Error::corrupt(format!("manifest {digest}: not an OCI image manifest")));
        }
        if manifest.layers.len() > Self::MAX_LAYERS {
            let found = manifest.layers.len();
            return Err(Error::corrupt(format!("manifest {digest}: {found} layers")));
        }
        Ok(manifest)
    }

    /// The bytes to store. They are written once and never serialised again.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        serde_json::to_vec(self).context(ErrorKind::Internal, "manifest as JSON")
    }

    /// Every blob that the manifest needs: its body and its payloads.
    pub fn blobs(&self) -> impl Iterator<Item = &Descriptor> {
        std::iter::once(&self.config).chain(&self.layers)
    }
}
