//! `index.json`: the view of which blobs are manifests.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kaizen_core::{
    Bytes, Context, Descriptor, Digest, Error, ErrorKind, Manifest, Result, media_type,
};
use serde_json::{Value, json};

/// At most this many bytes in an index: some million manifests.
pub(crate) const MAX_BYTES: u64 = 1 << 30;

/// What a listed manifest is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Subject {
    /// It could not be read, perhaps only for now.
    #[default]
    Unread,
    Nothing,
    Of(Digest),
}

impl Subject {
    pub(crate) fn of(manifest: &Manifest) -> Self {
        manifest.subject.as_ref().map_or(Self::Nothing, |subject| Self::Of(subject.digest))
    }

    /// What these bytes of a listed manifest, as they were read, are about. Whether a store that
    /// does not answer holds a statement is not known, and is an error; one that is damaged or gone
    /// is to be read again.
    pub(crate) fn read(id: &Digest, bytes: Result<impl AsRef<[u8]>>) -> Result<Self> {
        match bytes.and_then(|bytes| Manifest::parse(bytes.as_ref())) {
            Ok(manifest) => Ok(Self::of(&manifest)),
            Err(error) if says_what_is_there(&error) => {
                tracing::warn!(manifest = %id, %error, "listed manifest cannot be read");
                Ok(Self::Unread)
            }
            Err(error) => Err(error),
        }
    }
}

/// Whether an error tells something of a blob, and not only of the moment.
fn says_what_is_there(error: &Error) -> bool {
    use ErrorKind as E;
    matches!(error.kind(), E::Corrupt | E::NotFound | E::Limit | E::Unsupported)
}

/// Takes a small blob, as it was read, for a manifest if it is one. A damaged one may have been
/// one and is named; a store that does not answer is an error.
pub(crate) fn scanned<B: AsRef<[u8]>>(
    id: &Digest,
    bytes: Result<B>,
) -> Result<Option<(Manifest, B)>> {
    match bytes {
        Ok(bytes) => Ok(Manifest::parse(bytes.as_ref()).ok().map(|manifest| (manifest, bytes))),
        Err(error) if says_what_is_there(&error) => {
            tracing::warn!(blob = %id, %error, "left out of the index: it cannot be read");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// The index as it stood when it was last read, and what follows from its manifests.
#[derive(Clone, Debug)]
pub(crate) struct Index {
    /// The whole document: entries and fields of other tools are kept as they are.
    document: Value,
    /// Each with what it is about.
    manifests: BTreeMap<Digest, Subject>,
    /// Pairs of a subject and a manifest about it.
    referrers: BTreeSet<(Digest, Digest)>,
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

    /// What is known of the subject of a manifest.
    pub(crate) fn subject(&self, manifest: &Digest) -> Subject {
        self.manifests.get(manifest).copied().unwrap_or_default()
    }

    /// The listed manifests that could not be read.
    pub(crate) fn unread(&self) -> Vec<Digest> {
        let unread = self.manifests.iter().filter(|(_, subject)| **subject == Subject::Unread);
        unread.map(|(manifest, _)| *manifest).collect()
    }

    pub(crate) fn referrers(&self, subject: &Digest) -> Vec<Digest> {
        let first = (*subject, Digest::from_bytes([0; 32]));
        let about = self.referrers.range(first..).take_while(|(of, _)| of == subject);
        about.map(|(_, manifest)| *manifest).collect()
    }

    /// Reads the document, and lists its manifests; `None` if it is no index.
    pub(crate) fn parse(bytes: &[u8]) -> Option<(Value, BTreeSet<Digest>)> {
        let document: Value = serde_json::from_slice(bytes).ok()?;
        let listed = document.get("manifests")?.as_array()?;
        let listed = listed.iter().filter_map(manifest_of).collect();
        Some((document, listed))
    }

    /// The index of this document, whose manifests have these subjects.
    pub(crate) fn new(
        document: Value,
        subjects: impl IntoIterator<Item = (Digest, Subject)>,
    ) -> Self {
        let mut index = Self { document, ..Self::default() };
        for (manifest, subject) in subjects {
            index.insert(manifest, subject);
        }
        index
    }

    /// Adds manifests; those that are listed already stay as they are.
    pub(crate) fn add<'a>(
        &mut self,
        manifests: impl IntoIterator<Item = (&'a Manifest, &'a [u8])>,
    ) -> Result<()> {
        let mut added = Vec::new();
        for (manifest, bytes) in manifests {
            let descriptor = entry(manifest, bytes);
            let listed = self.contains(&descriptor.digest);
            self.insert(descriptor.digest, Subject::of(manifest));
            if listed {
                continue;
            }
            let entry = serde_json::to_value(descriptor);
            added.push(entry.context(ErrorKind::Internal, "descriptor as JSON")?);
        }
        let entries = self.document.get_mut("manifests").and_then(Value::as_array_mut);
        let entries = entries.context(ErrorKind::Internal, "index.json without manifests")?;
        entries.append(&mut added);
        // By digest, so that the same manifests give the same bytes in whatever order they came.
        entries.sort_by(|a, b| digest_text(a).cmp(digest_text(b)));
        Ok(())
    }

    /// Takes manifests out.
    pub(crate) fn remove(&mut self, removed: &BTreeSet<Digest>) {
        let entries = self.document.get_mut("manifests").and_then(Value::as_array_mut);
        if let Some(entries) = entries {
            entries.retain(|entry| manifest_of(entry).is_none_or(|m| !removed.contains(&m)));
        }
        for manifest in removed {
            if let Some(Subject::Of(subject)) = self.manifests.remove(manifest) {
                self.referrers.remove(&(subject, *manifest));
            }
        }
    }

    pub(crate) fn to_bytes(&self) -> Result<Vec<u8>> {
        serde_json::to_vec(&self.document).context(ErrorKind::Internal, "index.json as JSON")
    }

    pub(crate) fn insert(&mut self, manifest: Digest, subject: Subject) {
        self.manifests.insert(manifest, subject);
        if let Subject::Of(subject) = subject {
            self.referrers.insert((subject, manifest));
        }
    }
}

/// How a manifest is listed.
pub(crate) fn entry(manifest: &Manifest, bytes: &[u8]) -> Descriptor {
    let mut descriptor = Descriptor::of(media_type::MANIFEST, bytes);
    descriptor.artifact_type.clone_from(&manifest.artifact_type);
    descriptor
}

fn digest_text(entry: &Value) -> &str {
    entry.get("digest").and_then(Value::as_str).unwrap_or_default()
}

/// The digest of an entry that describes an image manifest; entries of other kinds are not ours.
fn manifest_of(entry: &Value) -> Option<Digest> {
    let kind = entry.get("mediaType").and_then(Value::as_str);
    if kind == Some(media_type::MANIFEST) { digest_text(entry).parse().ok() } else { None }
}

/// Manifests that wait for the index to be written. Whoever writes it next takes all of them, so
/// that many puts at the same time cost one rewrite.
#[derive(Debug, Default)]
pub(crate) struct Additions(Mutex<Vec<Arc<Addition>>>);

/// A manifest that waits.
#[derive(Debug)]
pub(crate) struct Addition {
    pub(crate) manifest: Manifest,
    pub(crate) bytes: Bytes,
    outcome: Mutex<Option<Result<()>>>,
}

impl Addition {
    pub(crate) fn digest(&self) -> Digest {
        Digest::of(&self.bytes)
    }

    /// Says how it went; the first word counts.
    pub(crate) fn settle(&self, outcome: Result<()>) {
        self.lock().get_or_insert(outcome);
    }

    fn is_settled(&self) -> bool {
        self.lock().is_some()
    }

    /// How it went, if somebody has seen to it.
    pub(crate) fn outcome(&self) -> Option<Result<()>> {
        self.lock().take()
    }

    fn lock(&self) -> MutexGuard<'_, Option<Result<()>>> {
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Additions {
    pub(crate) fn push(&self, manifest: Manifest, bytes: Bytes) -> Arc<Addition> {
        let addition = Arc::new(Addition { manifest, bytes, outcome: Mutex::default() });
        self.waiting().push(Arc::clone(&addition));
        addition
    }

    /// Takes all that wait.
    pub(crate) fn take(&self) -> Vec<Arc<Addition>> {
        std::mem::take(&mut *self.waiting())
    }

    /// Puts back those whose rewrite failed, and of which nothing is said yet: each tries for
    /// itself.
    pub(crate) fn give_back(&self, batch: Vec<Arc<Addition>>) {
        let open = |addition: &Arc<Addition>| !addition.is_settled();
        self.waiting().extend(batch.into_iter().filter(open));
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<Arc<Addition>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
