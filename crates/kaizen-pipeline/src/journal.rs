//! What ran before, whether what came out is still whole, and the entry of it in the log.

use kaizen_core::record::Run;
use kaizen_core::{
    ArtifactStore, AuditLog, Digest, Entry, Error, ErrorKind, Event, Manifest, Record, Records,
    Result,
};

/// How many entries of the log are read at a time, from its end backwards.
const PAGE: u64 = 256;

/// The latest run of this key whose output is still whole, with its id.
pub(crate) async fn find<R: Record>(
    store: &dyn ArtifactStore,
    key: &Digest,
) -> Result<Option<(Digest, Run)>> {
    let mut runs = Vec::new();
    for id in store.referrers(key).await? {
        if let Some(stored) = present(store.get::<Run>(&id).await)? {
            runs.push((id, stored.record));
        }
    }
    runs.sort_by_key(|(id, run)| (run.occurrence.at, *id));
    while let Some((id, run)) = runs.pop() {
        if is_whole::<R>(store, &run.output).await? {
            return Ok(Some((id, run)));
        }
        tracing::info!(step = run.step, output = %run.output, "output lost or damaged");
    }
    Ok(None)
}

/// Whether this is a record of type `R` of which every byte is there: its body, its payloads, and
/// what it is a statement about, as the weights are of which a model speaks.
async fn is_whole<R: Record>(store: &dyn ArtifactStore, id: &Digest) -> Result<bool> {
    let Some(stored) = present(store.get::<R>(id).await)? else {
        return Ok(false);
    };
    if !has_blobs(store, &stored.manifest).await? {
        return Ok(false);
    }
    let Some(subject) = &stored.manifest.subject else {
        return Ok(true);
    };
    let Some(bytes) = present(store.get_blob(&subject.digest).await)? else {
        return Ok(false);
    };
    match Manifest::parse(&bytes) {
        Ok(manifest) => has_blobs(store, &manifest).await,
        // A subject need not be a manifest: that of a run is a blob.
        Err(_) => Ok(true),
    }
}

async fn has_blobs(store: &dyn ArtifactStore, manifest: &Manifest) -> Result<bool> {
    for blob in manifest.blobs() {
        if present(store.get_blob(&blob.digest).await)?.is_none() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Takes what is lost, damaged or of another kind for absent; a store that cannot answer is an
/// error.
fn present<T>(read: Result<T>) -> Result<Option<T>> {
    match read {
        Ok(value) => Ok(Some(value)),
        Err(error) => match error.kind() {
            ErrorKind::NotFound | ErrorKind::Corrupt | ErrorKind::Invalid => Ok(None),
            _ => Err(error),
        },
    }
}

/// The log's entry of a run.
pub(crate) fn entry(id: Digest, run: &Run) -> Entry {
    Entry {
        at: run.occurrence.at,
        actor: run.occurrence.actor.clone(),
        operation: run.occurrence.operation.clone(),
        event: Event::Ran { step: run.step.clone() },
        subject: id,
        evidence: vec![run.output],
    }
}

/// Whether the log has the entry of a run. Reads from the end back to the first entry that is
/// older than the run.
pub(crate) async fn has_entry(log: &dyn AuditLog, id: &Digest, run: &Run) -> Result<bool> {
    let (mut end, first) = (log.size().await?, log.first().await?);
    while end > first {
        let start = end.saturating_sub(PAGE).max(first);
        let entries = log.read(start..end).await?;
        if entries.is_empty() {
            return Err(Error::corrupt(format!("log entries {start} to {end}: none came")));
        }
        if entries.iter().any(|entry| entry.subject == *id) {
            return Ok(true);
        }
        if entries.iter().any(|entry| entry.at < run.occurrence.at) {
            return Ok(false);
        }
        end = start;
    }
    Ok(false)
}
