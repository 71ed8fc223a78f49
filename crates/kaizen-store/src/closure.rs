//! What a record leads to: its blobs, what it is about, and what its body names.

use kaizen_core::{ArtifactStore, Digest, Error, ErrorKind, Manifest, Result, stream};
use serde_json::Value;

/// At most this many records in one closure.
pub(crate) const MAX_RECORDS: usize = 1_000_000;

/// A body of more bytes than this is not looked through for digests.
const MAX_BODY_BYTES: u64 = 64 << 20;

/// The fields of a body that say what a record came after and not what it was made from: the
/// deployment before, and the champion that was beaten. They keep nothing: else every model that
/// was ever in production would be kept by the one that is.
const HISTORY: [&str; 2] = ["previous", "champion"];

/// Reads a manifest whose size is bounded before a byte of it is read.
pub(crate) async fn read_manifest(
    store: &dyn ArtifactStore,
    id: &Digest,
) -> Result<(Manifest, kaizen_core::Bytes)> {
    let most = Manifest::MAX_BYTES as u64;
    match store.size_of(id).await? {
        None => Err(Error::not_found(format!("manifest {id}: not in the store"))),
        Some(size) if size > most => Err(Error::corrupt(format!("manifest {id}: {size} bytes"))),
        Some(_) => {
            // Bounded also if the store has not told the truth.
            let bytes = read_whole(store, id, most, &format!("manifest {id}")).await?;
            Ok((Manifest::parse(&bytes)?, bytes))
        }
    }
}

/// A blob of at most so many bytes, whole and checked.
async fn read_whole(
    store: &dyn ArtifactStore,
    digest: &Digest,
    most: u64,
    what: &str,
) -> Result<kaizen_core::Bytes> {
    let bytes = stream::whole(store.get_stream(digest).await?, most, what).await?;
    digest.check(&bytes, what)?;
    Ok(bytes)
}

/// The digests that a record's body names, each once, in order; none if the body is no JSON or has
/// been removed. `with_history` says whether what the record came after is among them.
pub(crate) async fn named_in_body(
    store: &dyn ArtifactStore,
    manifest: &Manifest,
    with_history: bool,
) -> Result<Vec<Digest>> {
    let json = manifest.config.media_type.ends_with("json");
    if !json || manifest.config.size > MAX_BODY_BYTES {
        return Ok(Vec::new());
    }
    let (body, size) = (&manifest.config.digest, manifest.config.size);
    let body = match read_whole(store, body, size, &format!("body {body}")).await {
        Ok(body) => body,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut named = Vec::new();
    // Bodies of others need not be what their media type says. The reader bounds the depth.
    if let Ok(body) = serde_json::from_slice::<Value>(&body) {
        collect(&body, with_history, &mut named);
    }
    named.sort_unstable();
    named.dedup();
    Ok(named)
}

fn collect(value: &Value, with_history: bool, named: &mut Vec<Digest>) {
    match value {
        Value::String(text) => named.extend(text.parse::<Digest>()),
        Value::Array(values) => {
            values.iter().for_each(|value| collect(value, with_history, named));
        }
        Value::Object(fields) => {
            for (name, value) in fields {
                if with_history || !HISTORY.contains(&name.as_str()) {
                    collect(value, with_history, named);
                }
            }
        }
        _ => {}
    }
}
