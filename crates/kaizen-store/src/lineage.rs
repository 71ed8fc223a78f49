//! From a record back to everything that it was made from.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use kaizen_core::{ArtifactStore, Context, Digest, Error, ErrorKind, Manifest, Records, Result};
use serde_json::Value;

/// At most this many records in one lineage.
const MAX_RECORDS: usize = 100_000;

/// The kind of a manifest without an artefact type. The record `image` is another thing.
const CONTAINER: &str = "container image";

/// A record and all that it was made from, as a tree in reading order: each step is followed by
/// its parents, one deeper.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lineage {
    steps: Vec<LineageStep>,
}

/// One line of a [`Lineage`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LineageStep {
    /// How far it is from the record that was asked about, which has 0.
    pub depth: u32,
    /// The record.
    pub id: Digest,
    /// Its kind, such as `model`; `container image` for a manifest without an artefact type, and
    /// the whole artefact type for artefacts of others.
    pub kind: String,
    /// Whether it stood further up already; its parents are not listed again.
    pub repeated: bool,
}

impl Lineage {
    /// The steps in reading order. The first is the record that was asked about.
    pub fn steps(&self) -> &[LineageStep] {
        &self.steps
    }
}

/// Prints one line per step, indented by its depth: kind and the first digits of the digest.
impl fmt::Display for Lineage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for step in &self.steps {
            let indent = 2 * step.depth as usize;
            let again = if step.repeated { " (see above)" } else { "" };
            writeln!(f, "{:indent$}{} {}{again}", "", step.kind, step.id.short())?;
        }
        Ok(())
    }
}

/// The lineage of a record: every manifest of the store that its body names, and so on.
///
/// Digests that name something else than a manifest (a feature service, the data of a source) are
/// not followed.
///
/// # Errors
///
/// [`ErrorKind::NotFound`] if the store has no such manifest, [`ErrorKind::Corrupt`] if it or one
/// of its parents cannot be read, [`ErrorKind::Limit`] beyond 100,000 records.
pub async fn lineage(store: &dyn ArtifactStore, id: &Digest) -> Result<Lineage> {
    let manifests: BTreeSet<_> = store.manifests().await?.into_iter().collect();
    if !manifests.contains(id) {
        return Err(Error::not_found(format!("record {id}: not in the store")));
    }
    let mut records = BTreeMap::new();
    let mut waiting = vec![*id];
    while let Some(next) = waiting.pop() {
        if records.contains_key(&next) {
            continue;
        }
        if records.len() == MAX_RECORDS {
            let message = format!("lineage of {id}: over {MAX_RECORDS} records");
            return Err(Error::new(ErrorKind::Limit, message));
        }
        let (kind, named) = describe(store, &next).await?;
        let is_parent = |digest: &Digest| manifests.contains(digest) && *digest != next;
        let parents: Vec<_> = named.into_iter().filter(is_parent).collect();
        waiting.extend(&parents);
        records.insert(next, (kind, parents));
    }
    Ok(Lineage { steps: unfold(id, &records) })
}

/// The records whose bodies name this one, with their kinds, ordered by digest. It reads every
/// record of the store.
///
/// # Errors
///
/// [`ErrorKind::Corrupt`] if a record cannot be read.
pub async fn children(store: &dyn ArtifactStore, id: &Digest) -> Result<Vec<(Digest, String)>> {
    let mut children = Vec::new();
    for manifest in store.manifests().await? {
        let (kind, named) = describe(store, &manifest).await?;
        if manifest != *id && named.contains(id) {
            children.push((manifest, kind));
        }
    }
    Ok(children)
}

/// Puts the records in reading order. Without recursion: chains of deployments grow long.
fn unfold(id: &Digest, records: &BTreeMap<Digest, (String, Vec<Digest>)>) -> Vec<LineageStep> {
    let mut steps = Vec::new();
    let mut seen = BTreeSet::new();
    let mut waiting = vec![(*id, 0)];
    while let Some((id, depth)) = waiting.pop() {
        let Some((kind, parents)) = records.get(&id) else { continue };
        let repeated = !seen.insert(id);
        steps.push(LineageStep { depth, id, kind: kind.clone(), repeated });
        if !repeated {
            waiting.extend(parents.iter().rev().map(|parent| (*parent, depth + 1)));
        }
    }
    steps
}

/// The kind of a record, and every digest that its body names, in the order of the body.
async fn describe(store: &dyn ArtifactStore, id: &Digest) -> Result<(String, Vec<Digest>)> {
    let manifest = store.manifest(id).await?;
    let kind = kind_of(&manifest);
    let body = store.get_blob(&manifest.config.digest).await?;
    let mut named = Vec::new();
    match serde_json::from_slice::<Value>(&body) {
        Ok(body) => collect(&body, &mut named),
        // Only the bodies of our own records must be JSON.
        Err(error) if kind.contains('/') || kind == CONTAINER => {
            tracing::debug!(%id, %error, "body is not JSON");
        }
        Err(error) => {
            return Err(error).context(ErrorKind::Corrupt, format!("body of {kind} {id}"));
        }
    }
    Ok((kind, named))
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
