//! What a record leads to: its blobs, what it is about, and what its body names.

use std::collections::BTreeSet;

use kaizen_core::{
    ArtifactStore, Bytes, Digest, Error, ErrorKind, Event, Manifest, Result, record,
};
use serde_json::Value;

/// At most this many records in one closure.
pub(crate) const MAX_RECORDS: usize = 1_000_000;

/// The fields of a body that say what a record came after and not what it was made from: the
/// deployment before, and the champion that was beaten. They keep nothing: else every model that
/// was ever in production would be kept by the one that is.
const HISTORY: [&str; 2] = ["previous", "champion"];

/// What a digest that may be a manifest turned out to be.
#[derive(Debug)]
pub(crate) enum Found {
    Manifest(Box<Manifest>, Bytes),
    /// A blob that is none, or a manifest that is not ours to read, and why.
    Other(Error),
    Missing,
}

/// Reads a manifest, whatever size the store says it has. Only damage, and a store that does not
/// answer, are errors.
pub(crate) async fn find_manifest(store: &dyn ArtifactStore, id: &Digest) -> Result<Found> {
    let bytes = match store.get_bounded(id, Manifest::MAX_BYTES as u64).await {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Found::Missing),
        Err(error) if error.kind() == ErrorKind::Limit => return Ok(Found::Other(error)),
        Err(error) => return Err(error),
    };
    // The store may not have checked them.
    id.check(&bytes, &format!("manifest {id}"))?;
    Ok(match Manifest::parse(&bytes) {
        Ok(manifest) => Found::Manifest(Box::new(manifest), bytes),
        Err(error) => Found::Other(error),
    })
}

/// What the body of a record names.
#[derive(Debug)]
pub(crate) enum Body {
    /// These digests, each once, in order.
    Names(Vec<Digest>),
    /// The store does not have it.
    Missing,
}

/// The digests that the body of a manifest names. `with_history` says whether what the record came
/// after is among them. A body that is no JSON names nothing and never will, whoever put it there:
/// else one that others put into a store would stop its collection for ever.
pub(crate) async fn read_body(
    store: &dyn ArtifactStore,
    manifest: &Manifest,
    with_history: bool,
) -> Result<Body> {
    let own = is_own(manifest);
    let (digest, size) = (&manifest.config.digest, manifest.config.size);
    // A media type may have parameters after it.
    let kind = manifest.config.media_type.split(';').next().unwrap_or_default().trim_end();
    let nothing = |why: &str| {
        if own {
            tracing::warn!(%digest, size, why, "body of a record names nothing");
        }
        Ok(Body::Names(Vec::new()))
    };
    if !own && !kind.ends_with("json") {
        return nothing("no JSON");
    }
    if size > record::MAX_BODY_BYTES {
        return nothing("too large");
    }
    let body = match store.get_bounded(digest, size).await {
        Ok(body) => body,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Body::Missing),
        Err(error) => return Err(error),
    };
    digest.check(&body, &format!("body {digest}"))?;
    match names_in(&body, with_history) {
        Some(names) => Ok(Body::Names(names)),
        None => nothing("no JSON that can be read"),
    }
}

/// Whether a manifest says that it is a record of Kaizen's, which has a body of JSON.
pub(crate) fn is_own(manifest: &Manifest) -> bool {
    manifest.artifact_type.as_deref().is_some_and(record::is_artifact_type)
}

/// The digests that a JSON document names, each once, ordered; `None` if it is none.
pub(crate) fn names_in(bytes: &[u8], with_history: bool) -> Option<Vec<Digest>> {
    let mut named = named_in(bytes, with_history).ok()?;
    named.sort_unstable();
    Some(named)
}

/// The digests that a JSON document names, each once, as they follow one another in it.
pub(crate) fn named_in(bytes: &[u8], with_history: bool) -> serde_json::Result<Vec<Digest>> {
    // The reader bounds the depth.
    let document: Value = serde_json::from_slice(bytes)?;
    let (mut named, mut seen) = (Vec::new(), BTreeSet::new());
    collect(&document, with_history, &mut |digest| {
        if seen.insert(digest) {
            named.push(digest);
        }
    });
    Ok(named)
}

fn collect(value: &Value, with_history: bool, found: &mut impl FnMut(Digest)) {
    match value {
        Value::String(text) => text.parse::<Digest>().into_iter().for_each(found),
        Value::Array(values) => {
            values.iter().for_each(|value| collect(value, with_history, found));
        }
        Value::Object(fields) => {
            for (name, value) in fields {
                if with_history || !HISTORY.contains(&name.as_str()) {
                    collect(value, with_history, found);
                }
            }
        }
        _ => {}
    }
}

/// Whether the subject of such an entry is a record, which therefore was in the store.
pub(crate) fn speaks_of_record(event: &Event) -> bool {
    matches!(
        event,
        Event::Registered { .. }
            | Event::AliasMoved { .. }
            | Event::Evaluated
            | Event::Decided { .. }
            | Event::Deployed { .. }
            | Event::DriftAlarm
            | Event::RetrainRequested
            | Event::Erased
    ) || makes_record(event)
}

/// Whether such an entry says that its subject, a record, was made.
pub(crate) fn makes_record(event: &Event) -> bool {
    matches!(
        event,
        Event::DataSnapshot
            | Event::Ran { .. }
            | Event::Trained
            | Event::Released
            | Event::Packaged
    )
}
