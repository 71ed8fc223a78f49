//! Which record names which, kept in memory.

use std::collections::{BTreeMap, BTreeSet};

use kaizen_core::record::{self, TrainingSet};
use kaizen_core::{
    ArtifactStore, Bytes, Context, Digest, Error, ErrorKind, Manifest, Record as _, Records,
    Result, one_line,
};
use serde::Deserialize;
use serde_json::Value;

use super::{Lineage, LineageStep, MAX_STEPS};
use crate::closure::is_own;

/// At most this many records in an index.
const MAX_RECORDS: usize = 1_000_000;
/// At most this many bytes in a list of files.
const MAX_FILES_BYTES: u64 = 256 << 20;

/// The kind of a manifest without an artefact type. The record `image` is another thing.
const CONTAINER: &str = "container image";
const SOURCE: &str = "source";
const FILE: &str = "file";
/// The kind of a record that cannot be read.
const UNREADABLE: &str = "unreadable record";

/// What every record of a store names, read once: it answers any number of questions.
///
/// ```
/// # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
/// # runtime.block_on(async {
/// use kaizen_core::record::Release;
/// use kaizen_core::{Digest, Records};
/// use kaizen_store::LineageIndex;
/// use kaizen_testkit::MemoryStore;
///
/// let store = MemoryStore::default();
/// let release = Release {
///     name: "late".into(),
///     version: 1,
///     model: Digest::of("a model that is not in the store"),
///     service: Digest::of("a feature service"),
///     functions: vec![],
/// };
/// let id = store.put(&release, &[]).await?;
/// let index = LineageIndex::read(&store).await?;
/// assert_eq!(index.lineage(&id)?.steps().len(), 1);
/// # Ok::<(), kaizen_core::Error>(())
/// # }).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct LineageIndex {
    nodes: BTreeMap<Digest, Node>,
    /// Who names it, ordered by digest.
    children: BTreeMap<Digest, Vec<Digest>>,
    /// Records that cannot be read, and why.
    unreadable: BTreeMap<Digest, String>,
}

/// What was read so far.
#[derive(Default)]
struct Reading {
    nodes: BTreeMap<Digest, Node>,
    unreadable: BTreeMap<Digest, String>,
}

#[derive(Clone, Debug)]
struct Node {
    kind: String,
    parents: Vec<Parent>,
    /// Its own name: that of a source or file that stands for itself.
    name: Option<String>,
}

/// What a node names, and under which name: one file may have two paths.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Parent {
    id: Digest,
    name: Option<String>,
}

/// A file of a source, as the payload of a training set lists it.
#[derive(Deserialize)]
struct SourceFile {
    path: String,
    digest: Digest,
}

impl LineageIndex {
    /// Reads every record of the store. One that is damaged stands without what it names, and is
    /// among the [`unreadable`](Self::unreadable).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Limit`] beyond a million records; as reading the store.
    pub async fn read(store: &dyn ArtifactStore) -> Result<Self> {
        let manifests: BTreeSet<_> = store.manifests().await?.into_iter().collect();
        let mut reading = Reading::default();
        for id in &manifests {
            reading.add(store, id, &manifests).await?;
        }
        Ok(Self::of(reading))
    }

    /// Reads a record and those that it was made from.
    pub(super) async fn above(store: &dyn ArtifactStore, id: &Digest) -> Result<Self> {
        let manifests: BTreeSet<_> = store.manifests().await?.into_iter().collect();
        let (mut reading, mut waiting) = (Reading::default(), vec![*id]);
        while let Some(next) = waiting.pop() {
            if manifests.contains(&next) && !reading.nodes.contains_key(&next) {
                reading.add(store, &next, &manifests).await?;
                let parents = reading.nodes.get(&next).map_or(&[][..], |node| &node.parents);
                waiting.extend(parents.iter().map(|parent| parent.id));
            }
        }
        Ok(Self::of(reading))
    }

    fn of(Reading { nodes, unreadable }: Reading) -> Self {
        let mut children: BTreeMap<Digest, Vec<Digest>> = BTreeMap::new();
        for (id, node) in &nodes {
            for parent in &node.parents {
                let of_parent = children.entry(parent.id).or_default();
                if of_parent.last() != Some(id) {
                    of_parent.push(*id);
                }
            }
        }
        Self { nodes, children, unreadable }
    }

    /// The records that cannot be read, and why.
    pub fn unreadable(&self) -> &BTreeMap<Digest, String> {
        &self.unreadable
    }

    /// Both ways: what it was made from, and what was made of it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`] if neither a record, a source nor a file has this digest,
    /// [`ErrorKind::Corrupt`] if it is a record that cannot be read, [`ErrorKind::Limit`] beyond
    /// 100,000 steps either way.
    pub fn lineage(&self, id: &Digest) -> Result<Lineage> {
        let descendants = self.descendants(id)?.descendants;
        Ok(Lineage { descendants, ..self.ancestors(id)? })
    }

    /// What it was made from.
    ///
    /// # Errors
    ///
    /// As [`lineage`](Self::lineage).
    pub fn ancestors(&self, id: &Digest) -> Result<Lineage> {
        let ancestors = self.walk(id, |node| {
            let parents = self.nodes.get(node).map_or(&[][..], |node| &node.parents);
            parents.iter().map(|parent| (parent.id, parent.name.clone())).collect()
        })?;
        Ok(self.found(ancestors[..1].to_vec(), ancestors))
    }

    /// What was made of it.
    ///
    /// # Errors
    ///
    /// As [`lineage`](Self::lineage).
    pub fn descendants(&self, id: &Digest) -> Result<Lineage> {
        let descendants = self.walk(id, |node| {
            let children = self.children.get(node).map_or(&[][..], Vec::as_slice);
            children.iter().map(|child| (*child, None)).collect()
        })?;
        let itself = descendants[..1].to_vec();
        Ok(self.found(descendants, itself))
    }

    fn found(&self, descendants: Vec<LineageStep>, ancestors: Vec<LineageStep>) -> Lineage {
        Lineage { ancestors, descendants, unreadable: self.unreadable.clone() }
    }

    /// The records that name it, with their kinds, ordered by digest.
    pub fn children(&self, id: &Digest) -> Vec<(Digest, String)> {
        let children = self.children.get(id).map_or(&[][..], Vec::as_slice);
        let known = children.iter().filter_map(|child| Some((*child, self.nodes.get(child)?)));
        known.map(|(child, node)| (child, node.kind.clone())).collect()
    }

    /// The files that training sets were made from: digest and path. One that was listed under
    /// several paths stands here with each.
    pub fn files(&self) -> Vec<(Digest, &str)> {
        let sources = self.nodes.values().filter(|node| node.kind == SOURCE);
        let files = sources.flat_map(|source| &source.parents);
        let named = files.filter_map(|file| Some((file.id, file.name.as_deref()?)));
        named.collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// The records whose digest begins with these hexadecimal digits, sources and files too.
    pub fn beginning_with(&self, digits: &str) -> Vec<Digest> {
        self.nodes.keys().filter(|id| id.hex().starts_with(digits)).copied().collect()
    }

    /// Puts what is reached in reading order. Without recursion: chains of deployments grow long.
    fn walk(
        &self,
        id: &Digest,
        next: impl Fn(&Digest) -> Vec<(Digest, Option<String>)>,
    ) -> Result<Vec<LineageStep>> {
        let known = self.nodes.contains_key(id);
        let message = format!("record {id}: not in the store, and no source or file of a record");
        known.then_some(()).context(ErrorKind::NotFound, message)?;
        if let Some(why) = self.unreadable.get(id) {
            return Err(Error::corrupt(why.clone()));
        }
        let (mut steps, mut seen) = (Vec::new(), BTreeSet::new());
        let mut waiting = vec![(*id, None, 0)];
        while let Some((id, name, depth)) = waiting.pop() {
            let Some(node) = self.nodes.get(&id) else { continue };
            if steps.len() == MAX_STEPS {
                let message = format!("lineage of {id}: over {MAX_STEPS} steps");
                return Err(Error::new(ErrorKind::Limit, message));
            }
            let repeated = !seen.insert(id);
            let name = name.or_else(|| node.name.clone());
            let kind = node.kind.clone();
            steps.push(LineageStep { depth, id, kind, name, repeated, said: None });
            if !repeated {
                let reached = next(&id).into_iter().rev();
                waiting.extend(reached.map(|(id, name)| (id, name, depth + 1)));
            }
        }
        Ok(steps)
    }
}

impl Reading {
    /// Adds a record with what its body names, and the sources and files of a training set.
    async fn add(
        &mut self,
        store: &dyn ArtifactStore,
        id: &Digest,
        manifests: &BTreeSet<Digest>,
    ) -> Result<()> {
        if self.nodes.len() >= MAX_RECORDS {
            let message = format!("lineage: over {MAX_RECORDS} records in the store");
            return Err(Error::new(ErrorKind::Limit, message));
        }
        let why = match describe(store, id, manifests, &mut self.nodes).await {
            Ok(()) => return Ok(()),
            // It was listed, and has been collected since.
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) if is_its_own_fault(&error) => format!("{error:#}"),
            Err(error) => return Err(error),
        };
        tracing::warn!(%id, why, "a record cannot be read");
        self.unreadable.insert(*id, one_line(&why));
        let lost = || Node { kind: UNREADABLE.to_owned(), parents: Vec::new(), name: None };
        self.nodes.entry(*id).or_insert_with(lost);
        Ok(())
    }
}

/// Whether the record is at fault, and not the way to it.
fn is_its_own_fault(error: &Error) -> bool {
    [ErrorKind::Corrupt, ErrorKind::Invalid, ErrorKind::Limit].contains(&error.kind())
}

/// Adds a record with what its body names, and the sources and files of a training set.
async fn describe(
    store: &dyn ArtifactStore,
    id: &Digest,
    manifests: &BTreeSet<Digest>,
    nodes: &mut BTreeMap<Digest, Node>,
) -> Result<()> {
    let manifest = store.manifest(id).await?;
    let kind = kind_of(&manifest);
    let body = match body_of(store, &manifest).await {
        Ok(body) => Some(body),
        // It was removed for good; what it was about is still known.
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    let mut named = Vec::new();
    match body.as_deref().map(serde_json::from_slice::<Value>).transpose() {
        Ok(body) => collect(body.as_ref().unwrap_or(&Value::Null), &mut named),
        // Only the bodies of our own records must be JSON.
        Err(error) if kind.contains('/') || kind == CONTAINER => {
            tracing::debug!(%id, %error, "body is not JSON");
        }
        Err(error) => {
            return Err(error).context(ErrorKind::Corrupt, format!("body of {kind} {id}"));
        }
    }
    let subject = manifest.subject.as_ref().map(|subject| subject.digest);
    named.extend(subject.filter(|subject| !named.contains(subject)));
    let is_parent = |digest: &Digest| manifests.contains(digest) && digest != id;
    let parents = named.into_iter().filter(is_parent).map(|id| Parent { id, name: None });
    let mut parents: Vec<_> = parents.collect();
    if let Some(body) = body.filter(|_| kind == TrainingSet::KIND) {
        parents.extend(sources(store, id, &manifest, &body, nodes).await?);
    }
    nodes.insert(*id, Node { kind, parents, name: None });
    Ok(())
}

/// The body of a record; of what others put there, nothing that is larger than a body may be.
async fn body_of(store: &dyn ArtifactStore, manifest: &Manifest) -> Result<Bytes> {
    let size = manifest.config.size;
    if size > record::MAX_BODY_BYTES && !is_own(manifest) {
        return Ok(Bytes::new());
    }
    store.get_bounded(&manifest.config.digest, size.min(record::MAX_BODY_BYTES)).await
}

/// Adds the sources of a training set, each with the files that were read of it.
async fn sources(
    store: &dyn ArtifactStore,
    id: &Digest,
    manifest: &Manifest,
    body: &[u8],
    nodes: &mut BTreeMap<Digest, Node>,
) -> Result<Vec<Parent>> {
    let what = || format!("{} {id}", TrainingSet::KIND);
    let set: TrainingSet = serde_json::from_slice(body).context(ErrorKind::Corrupt, what())?;
    let layer = manifest.layers.iter().find(|l| l.title() == Some(TrainingSet::SOURCES));
    let mut files: BTreeMap<String, Vec<SourceFile>> = match layer {
        Some(layer) if layer.size > MAX_FILES_BYTES => {
            let message = format!("{}: {} of {} bytes", what(), TrainingSet::SOURCES, layer.size);
            return Err(Error::new(ErrorKind::Limit, message));
        }
        Some(layer) => match store.get_bounded(&layer.digest, layer.size).await {
            Ok(bytes) => serde_json::from_slice(&bytes).context(ErrorKind::Corrupt, what())?,
            // It was removed for good; the record still names the sources.
            Err(error) if error.kind() == ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(error),
        },
        None => BTreeMap::new(),
    };
    let mut parents = Vec::new();
    for (source, data) in set.sources {
        let listed = files.remove(&source).unwrap_or_default().into_iter();
        let listed = listed.map(|file| (file.digest, file.path));
        let of_source: Vec<_> = listed.filter(|(file, _)| *file != data && file != id).collect();
        for (file, path) in &of_source {
            leaf(nodes, *file, FILE, path);
        }
        let node = leaf(nodes, data, SOURCE, &source);
        let known: BTreeSet<_> = node.parents.iter().cloned().collect();
        let read = of_source.into_iter().map(|(id, path)| Parent { id, name: Some(path) });
        // Two sets of the same data list the same files; an old one may list none.
        node.parents.extend(read.filter(|file| !known.contains(file)));
        parents.push(Parent { id: data, name: Some(source) });
    }
    Ok(parents)
}

fn leaf<'a>(
    nodes: &'a mut BTreeMap<Digest, Node>,
    id: Digest,
    kind: &str,
    name: &str,
) -> &'a mut Node {
    nodes.entry(id).or_insert_with(|| Node {
        kind: kind.to_owned(),
        parents: Vec::new(),
        name: Some(name.to_owned()),
    })
}

fn kind_of(manifest: &Manifest) -> String {
    let Some(artifact_type) = &manifest.artifact_type else { return CONTAINER.to_owned() };
    artifact_type
        .strip_prefix("application/vnd.kaizen.")
        .and_then(|rest| rest.strip_suffix(".v1+json"))
        .unwrap_or(artifact_type)
        .to_owned()
}

/// Every digest in a JSON value, each once. The depth is bounded by the JSON reader.
fn collect(value: &Value, named: &mut Vec<Digest>) {
    match value {
        Value::String(text) => {
            if let Ok(digest) = text.parse()
                && !named.contains(&digest)
            {
                named.push(digest);
            }
        }
        Value::Array(values) => values.iter().for_each(|value| collect(value, named)),
        Value::Object(fields) => fields.values().for_each(|value| collect(value, named)),
        _ => {}
    }
}
