//! `index.json`: the view of which blobs are manifests.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::SystemTime;

use kaizen_core::{Context, Descriptor, Digest, ErrorKind, Manifest, Result, media_type};
use serde_json::{Value, json};

use crate::files;

/// What tells one version of a file from the next.
type Stamp = (u64, SystemTime);

/// The index as it stood when it was last read, and what follows from its manifests.
#[derive(Clone, Debug)]
pub(crate) struct Index {
    /// The whole document: entries and fields of other tools are kept as they are.
    document: Value,
    manifests: BTreeMap<Digest, Option<Digest>>,
    /// Pairs of a subject and a manifest about it.
    referrers: BTreeSet<(Digest, Digest)>,
    stamp: Option<Stamp>,
}

impl Default for Index {
    fn default() -> Self {
        Self {
            document: json!({
                "schemaVersion": 2,
                "mediaType": media_type::INDEX,
                "manifests": [],
            }),
            manifests: BTreeMap::new(),
            referrers: BTreeSet::new(),
            stamp: None,
        }
    }
}

impl Index {
    pub(crate) fn contains(&self, manifest: &Digest) -> bool {
        self.manifests.contains_key(manifest)
    }

    pub(crate) fn manifests(&self) -> Vec<Digest> {
        self.manifests.keys().copied().collect()
    }

    pub(crate) fn referrers(&self, subject: &Digest) -> Vec<Digest> {
        let first = (*subject, Digest::from_bytes([0; 32]));
        let about = self.referrers.range(first..).take_while(|(of, _)| of == subject);
        about.map(|(_, manifest)| *manifest).collect()
    }

    /// Whether the file at `path` is the one that was read or written last.
    pub(crate) fn is_current(&self, path: &Path) -> bool {
        self.stamp.is_some() && self.stamp == stamp(path)
    }

    /// Says that the file at `path` now holds this index.
    pub(crate) fn written(&mut self, path: &Path) {
        self.stamp = stamp(path);
    }

    /// Reads the index; `None` if it is missing or no index. `subject` reads a manifest's subject,
    /// and is only asked about manifests that `self` does not know.
    pub(crate) fn read(
        &self,
        path: &Path,
        subject: impl Fn(&Digest) -> Option<Digest>,
    ) -> Result<Option<Self>> {
        let stamp = stamp(path);
        let Some(bytes) = files::read(path)? else { return Ok(None) };
        let Ok(document) = serde_json::from_slice::<Value>(&bytes) else { return Ok(None) };
        let Some(entries) = document.get("manifests").and_then(Value::as_array) else {
            return Ok(None);
        };
        let mut read = Self { stamp, ..Self::default() };
        for digest in entries.iter().filter_map(manifest_of) {
            let known = self.manifests.get(&digest).copied();
            read.insert(digest, known.unwrap_or_else(|| subject(&digest)));
        }
        read.document = document;
        Ok(Some(read))
    }

    /// Adds a manifest.
    pub(crate) fn add(&mut self, manifest: &Manifest, bytes: &[u8]) -> Result<()> {
        let mut descriptor = Descriptor::of(media_type::MANIFEST, bytes);
        descriptor.artifact_type.clone_from(&manifest.artifact_type);
        let digest = descriptor.digest;
        let entry =
            serde_json::to_value(descriptor).context(ErrorKind::Internal, "descriptor as JSON")?;
        let entries = self.document.get_mut("manifests").and_then(Value::as_array_mut);
        let entries = entries.context(ErrorKind::Internal, "index.json without manifests")?;
        entries.push(entry);
        // By digest, so that the same manifests give the same bytes in whatever order they came.
        entries.sort_by(|a, b| digest_text(a).cmp(digest_text(b)));
        self.insert(digest, manifest.subject.as_ref().map(|subject| subject.digest));
        Ok(())
    }

    /// Takes a manifest out.
    pub(crate) fn remove(&mut self, manifest: &Digest) {
        let entries = self.document.get_mut("manifests").and_then(Value::as_array_mut);
        if let Some(entries) = entries {
            entries.retain(|entry| manifest_of(entry).as_ref() != Some(manifest));
        }
        if let Some(Some(subject)) = self.manifests.remove(manifest) {
            self.referrers.remove(&(subject, *manifest));
        }
    }

    pub(crate) fn to_bytes(&self) -> Result<Vec<u8>> {
        serde_json::to_vec(&self.document).context(ErrorKind::Internal, "index.json as JSON")
    }

    fn insert(&mut self, manifest: Digest, subject: Option<Digest>) {
        self.manifests.insert(manifest, subject);
        self.referrers.extend(subject.map(|subject| (subject, manifest)));
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.len(), metadata.modified().ok()?))
}

fn digest_text(entry: &Value) -> &str {
    entry.get("digest").and_then(Value::as_str).unwrap_or_default()
}

/// The digest of an entry that describes an image manifest; entries of other kinds are not ours.
fn manifest_of(entry: &Value) -> Option<Digest> {
    let kind = entry.get("mediaType").and_then(Value::as_str);
    if kind == Some(media_type::MANIFEST) { digest_text(entry).parse().ok() } else { None }
}
