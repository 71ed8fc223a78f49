//! The two OCI structures that records are stored in.
//!
//! They are ours and not `oci-spec`'s, whose maps have no order: a record's id is the digest of
//! these bytes, so equal records must serialise equally.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Context, Digest, Error, ErrorKind, Result, one_line};

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

/// At most this many bytes in the file name that a blob stands for.
const MAX_TITLE: usize = 1_024;

/// Whether a title is the name of a file, perhaps in folders, and leads nowhere else.
fn stays_inside(title: &str) -> bool {
    let climbs = title.split('/').any(|part| matches!(part, "" | "." | ".."));
    let drive = title.as_bytes().get(1) == Some(&b':');
    let odd = title.chars().any(|c| c == '\\' || c.is_control());
    !climbs && !drive && !odd && title.len() <= MAX_TITLE
}

/// An OCI image manifest, the envelope of every record, model and image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    schema_version: u32,
    /// OCI 1.1 lets it be left out.
    #[serde(default = "image_manifest")]
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

    /// Reads the stored bytes of a manifest. A manifest of another kind, such as an image index,
    /// and one with digests of another algorithm than SHA-256 are [`ErrorKind::Unsupported`];
    /// whatever else is no image manifest is [`ErrorKind::Corrupt`].
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let digest = Digest::of(bytes);
        if bytes.len() > Self::MAX_BYTES {
            return Err(Error::corrupt(format!("manifest {digest}: {} bytes", bytes.len())));
        }
        let manifest: Self = match serde_json::from_slice(bytes) {
            Ok(manifest) => manifest,
            Err(error) => {
                let message = format!("manifest {digest}");
                return Err(Error::new(no_manifest(bytes), message).with_source(error));
            }
        };
        if manifest.schema_version != 2 || manifest.media_type != media_type::MANIFEST {
            let message = format!("manifest {digest}: not an OCI image manifest");
            return Err(Error::new(no_manifest(bytes), message));
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

    /// Checks that none of its blobs would be a file outside of the folder into which somebody
    /// unpacks it. [`ErrorKind::Refused`] names the manifest as `what` says it.
    pub fn check_titles(&self, what: &str) -> Result<()> {
        let mut titles = self.blobs().filter_map(Descriptor::title);
        let Some(title) = titles.find(|title| !stays_inside(title)) else { return Ok(()) };
        let title: String = one_line(title).chars().take(80).collect();
        Err(Error::refused(format!("{what}: a layer's title is `{title}`")))
    }

    /// Every blob that the manifest needs: its body and its payloads.
    pub fn blobs(&self) -> impl Iterator<Item = &Descriptor> {
        std::iter::once(&self.config).chain(&self.layers)
    }
}

fn image_manifest() -> String {
    media_type::MANIFEST.to_owned()
}

/// The kinds of manifest that registries hold and that are no OCI image manifests.
const OTHERS: [&str; 3] = [
    media_type::INDEX,
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
];

fn no_manifest(bytes: &[u8]) -> ErrorKind {
    if is_of_others(bytes) { ErrorKind::Unsupported } else { ErrorKind::Corrupt }
}

/// Whether these bytes, which are none of our manifests, are a manifest all the same: of another
/// kind, or with digests of another algorithm.
fn is_of_others(bytes: &[u8]) -> bool {
    let Ok(Value::Object(document)) = serde_json::from_slice(bytes) else { return false };
    if document.get("schemaVersion") != Some(&Value::from(2)) {
        return false;
    }
    let kind = document.get("mediaType").and_then(Value::as_str);
    let of_another_kind = kind.is_some_and(|kind| OTHERS.contains(&kind))
        || (kind.is_none() && document.get("manifests").is_some_and(Value::is_array));
    let layers = document.get("layers").and_then(Value::as_array);
    let single = ["config", "subject"].iter().filter_map(|name| document.get(*name));
    let mut digests = layers
        .into_iter()
        .flatten()
        .chain(single)
        .filter_map(|blob| blob.get("digest").and_then(Value::as_str));
    of_another_kind || digests.any(|digest| !digest.starts_with("sha256:") && digest.contains(':'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn titles_that_lead_elsewhere_are_refused() {
        let check = |title: &str| {
            let layer = Descriptor::of("a/b", b"").annotate(media_type::TITLE, title);
            Manifest::new(Descriptor::of("a/b", b""), vec![layer]).check_titles("m")
        };
        for good in ["model.safetensors", "a/b.bin", "..a", "a b", "é"] {
            check(good).unwrap();
        }
        let long = "x".repeat(MAX_TITLE + 1);
        for bad in ["", "/etc/passwd", "..", "a/../b", "a//b", "./a", "a\\b", "C:x", "a\0", &long] {
            assert_eq!(check(bad).unwrap_err().kind(), ErrorKind::Refused, "{bad}");
        }
    }

    #[test]
    fn manifests_of_others_are_told_from_what_is_none() {
        let empty = Digest::of("{}");
        let blob = |digest: &str| format!(r#"{{"mediaType":"a/b","digest":"{digest}","size":2}}"#);
        let ours = blob(&empty.to_string());
        let sha512 = blob(&format!("sha512:{}", "0".repeat(128)));
        let manifest = |kind: &str, config: &str, rest: &str| {
            format!(r#"{{"schemaVersion":2,{kind}"config":{config},"layers":[]{rest}}}"#)
        };
        let typed = format!(r#""mediaType":"{}","#, media_type::MANIFEST);
        for text in [manifest(&typed, &ours, ""), manifest("", &ours, "")] {
            let parsed = Manifest::parse(text.as_bytes()).unwrap();
            assert_eq!(parsed.config.digest, empty);
        }
        let index = format!(
            r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[{ours}]}}"#,
            media_type::INDEX
        );
        let unsupported = [
            manifest(&typed, &sha512, ""),
            manifest("", &ours, &format!(r#","subject":{sha512}"#)),
            index,
            format!(r#"{{"schemaVersion":2,"manifests":[{ours}]}}"#),
            manifest(&format!(r#""mediaType":"{}","#, OTHERS[1]), &ours, ""),
        ];
        for text in unsupported {
            let error = Manifest::parse(text.as_bytes()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{text}");
        }
        for text in ["{}", "[]", "", r#"{"schemaVersion":2}"#, r#"{"schemaVersion":1}"#] {
            let error = Manifest::parse(text.as_bytes()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{text}");
        }
    }
}
