//! Reading what records name.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kaizen_core::record::{self, ListedFile, TrainingSet};
use kaizen_core::{
    ArtifactStore, Bytes, Context as _, Digest, Error, ErrorKind, Manifest, Record as _,
    Records as _, Result, one_line,
};

use super::listings::{Listings, MAX_OF_SET};
use crate::closure::{is_own, named_in};

/// At most this many records in an index.
const MAX_RECORDS: usize = 1_000_000;

/// The kind of a manifest without an artefact type, and of one that is not ours to read. The record
/// `image` is another thing.
const CONTAINER: &str = "container image";
/// The kind of a record that cannot be read.
const UNREADABLE: &str = "unreadable record";

/// A record, and what it names.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) kind: String,
    pub(super) parents: Vec<Parent>,
}

/// What a record names.
#[derive(Clone, Debug)]
pub(super) enum Parent {
    /// A record; a training set calls one by the name of the source that it was.
    Record(Digest, Option<Arc<str>>),
    /// A source, with the files that this training set lists of it.
    Source(u32),
}

/// A record as it was read: nothing of it has been put in yet.
#[derive(Default)]
struct Described {
    kind: String,
    /// The records that it names, but for its sources.
    named: Vec<Digest>,
    /// The sources of a training set with their names, and the files that it lists of each.
    sources: Vec<(String, Digest, Vec<ListedFile>)>,
}

/// What was read so far.
pub(super) struct Reading<'a> {
    store: &'a dyn ArtifactStore,
    /// Every manifest in the store. What is none of them is no record, whoever names it.
    manifests: BTreeSet<Digest>,
    pub(super) records: BTreeMap<Digest, Node>,
    pub(super) listings: Listings,
    pub(super) unreadable: BTreeMap<Digest, String>,
}

impl<'a> Reading<'a> {
    pub(super) async fn start(store: &'a dyn ArtifactStore) -> Result<Self> {
        Ok(Self {
            store,
            manifests: store.manifests().await?.into_iter().collect(),
            records: BTreeMap::new(),
            listings: Listings::default(),
            unreadable: BTreeMap::new(),
        })
    }

    /// Reads every record of the store.
    pub(super) async fn all(mut self) -> Result<Self> {
        for id in self.manifests.clone() {
            self.add(&id).await?;
        }
        Ok(self)
    }

    /// Reads a record and those that it was made from.
    pub(super) async fn above(mut self, id: &Digest) -> Result<Self> {
        let mut waiting = vec![*id];
        while let Some(next) = waiting.pop() {
            if !self.manifests.contains(&next) || self.records.contains_key(&next) {
                continue;
            }
            self.add(&next).await?;
            for parent in self.records.get(&next).map_or(&[][..], |node| &node.parents) {
                match parent {
                    Parent::Record(id, _) => waiting.push(*id),
                    // A file may be a record.
                    Parent::Source(at) => {
                        waiting.extend(self.listings.files_of(*at).map(|(id, _)| *id));
                    }
                }
            }
        }
        Ok(self)
    }

    /// Adds a record with what its body names, and what a training set says of its sources.
    async fn add(&mut self, id: &Digest) -> Result<()> {
        if self.records.len() >= MAX_RECORDS {
            let message = format!("lineage: over {MAX_RECORDS} records in the store");
            return Err(Error::new(ErrorKind::Limit, message));
        }
        let described = match self.describe(id).await {
            Ok(described) => described,
            // It was listed, and has been collected since.
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) if is_its_own_fault(&error) => {
                let why = format!("{error:#}");
                tracing::warn!(%id, why, "a record cannot be read");
                self.unreadable.insert(*id, one_line(&why));
                Described { kind: UNREADABLE.to_owned(), ..Described::default() }
            }
            Err(error) => return Err(error),
        };
        let Described { kind, named, sources } = described;
        let mut parents: Vec<_> = named.into_iter().map(|id| Parent::Record(id, None)).collect();
        for (name, data, listed) in sources {
            // A source that is a record says itself what it was made from.
            parents.push(match self.manifests.contains(&data) {
                true => Parent::Record(data, Some(name.into())),
                false => Parent::Source(self.listings.add(*id, (name, data), listed)?),
            });
        }
        self.records.insert(*id, Node { kind, parents });
        Ok(())
    }

    async fn describe(&self, id: &Digest) -> Result<Described> {
        let manifest = match self.store.manifest(id).await {
            // Other tools may share the store, and name their blobs by other digests.
            Err(error) if error.kind() == ErrorKind::Unsupported => {
                tracing::debug!(%id, %error, "not ours to read");
                return Ok(Described { kind: CONTAINER.to_owned(), ..Described::default() });
            }
            manifest => manifest?,
        };
        let kind = kind_of(&manifest);
        let body = match body_of(self.store, &manifest).await {
            Ok(body) => Some(body),
            // It was removed for good; what it was about is still known.
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let mut named = match body.as_deref().map(|body| named_in(body, true)) {
            None => Vec::new(),
            Some(Ok(named)) => named,
            // Only the bodies of our own records must be JSON.
            Some(Err(error)) if !is_own(&manifest) => {
                tracing::debug!(%id, %error, "body is not JSON");
                Vec::new()
            }
            Some(Err(error)) => {
                return Err(error).context(ErrorKind::Corrupt, format!("body of {kind} {id}"));
            }
        };
        let subject = manifest.subject.as_ref().map(|subject| subject.digest);
        named.extend(subject.filter(|subject| !named.contains(subject)));
        named.retain(|digest| self.manifests.contains(digest) && digest != id);
        let mut sources = Vec::new();
        if let Some(body) = body.filter(|_| kind == TrainingSet::KIND) {
            sources = self.sources(id, &manifest, &body).await?;
            // They stand once, with their names.
            let again: BTreeSet<Digest> = sources.iter().map(|(_, data, _)| *data).collect();
            named.retain(|digest| !again.contains(digest));
        }
        Ok(Described { kind, named, sources })
    }

    /// The sources of a training set, each with the files that it lists.
    async fn sources(
        &self,
        id: &Digest,
        manifest: &Manifest,
        body: &[u8],
    ) -> Result<Vec<(String, Digest, Vec<ListedFile>)>> {
        let what = || format!("{} {id}", TrainingSet::KIND);
        let set: TrainingSet = serde_json::from_slice(body).context(ErrorKind::Corrupt, what())?;
        let files = TrainingSet::files(self.store, manifest).await;
        let mut files =
            files.map_err(|error| Error::new(error.kind(), what()).with_source(error))?;
        let listed = files.values().map(Vec::len).sum::<usize>() + set.sources.len();
        if listed > MAX_OF_SET {
            let message = format!("{}: over {MAX_OF_SET} sources and files", what());
            return Err(Error::new(ErrorKind::Limit, message));
        }
        let with_files = |(name, data)| {
            let listed = files.remove(&name).unwrap_or_default();
            (name, data, listed)
        };
        Ok(set.sources.into_iter().map(with_files).collect())
    }
}

/// Whether the record is at fault, and not the way to it, nor all records together.
fn is_its_own_fault(error: &Error) -> bool {
    [ErrorKind::Corrupt, ErrorKind::Invalid, ErrorKind::Limit].contains(&error.kind())
}

/// The body of a record; of what others put there, nothing that is larger than a body may be.
async fn body_of(store: &dyn ArtifactStore, manifest: &Manifest) -> Result<Bytes> {
    let size = manifest.config.size;
    if size > record::MAX_BODY_BYTES && !is_own(manifest) {
        return Ok(Bytes::new());
    }
    store.get_bounded(&manifest.config.digest, size.min(record::MAX_BODY_BYTES)).await
}

fn kind_of(manifest: &Manifest) -> String {
    let Some(artifact_type) = &manifest.artifact_type else { return CONTAINER.to_owned() };
    artifact_type
        .strip_prefix("application/vnd.kaizen.")
        .and_then(|rest| rest.strip_suffix(".v1+json"))
        .unwrap_or(artifact_type)
        .to_owned()
}
