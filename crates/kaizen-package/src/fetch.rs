//! Reading from a store and checking what was read, whatever the store promises.

use kaizen_core::{
    ArtifactStore, Bytes, Descriptor, Digest, Error, Manifest, Record, Records, Result, Stored,
    compute,
};

/// The most bytes of the body of a record: 64 MiB.
const MAX_BODY_BYTES: u64 = 64 << 20;

/// From this many bytes on, a digest is computed off the executor.
const MANY_BYTES: usize = 1 << 20;

/// The blob of this digest. `what` names it in the error.
pub(crate) async fn blob(store: &dyn ArtifactStore, digest: &Digest, what: &str) -> Result<Bytes> {
    let bytes = store
        .get_blob(digest)
        .await
        .map_err(|error| Error::new(error.kind(), format!("{what}: {error}")).with_source(error))?;
    if bytes.len() < MANY_BYTES {
        digest.check(&bytes, what)?;
        return Ok(bytes);
    }
    let (digest, what) = (*digest, what.to_owned());
    compute(move || digest.check(&bytes, &what).map(|()| bytes)).await
}

/// The blob that this descriptor points to, of the size that it states and at most `limit` bytes.
pub(crate) async fn described(
    store: &dyn ArtifactStore,
    descriptor: &Descriptor,
    limit: u64,
    what: &str,
) -> Result<Bytes> {
    if descriptor.size > limit {
        let size = descriptor.size;
        return Err(Error::corrupt(format!("{what}: {size} bytes, more than {limit}")));
    }
    let bytes = blob(store, &descriptor.digest, what).await?;
    if bytes.len() as u64 != descriptor.size {
        let (found, stated) = (bytes.len(), descriptor.size);
        return Err(Error::corrupt(format!("{what}: {found} bytes, its manifest says {stated}")));
    }
    Ok(bytes)
}

/// The manifest of this digest.
pub(crate) async fn manifest(
    store: &dyn ArtifactStore,
    digest: &Digest,
    what: &str,
) -> Result<Manifest> {
    Manifest::parse(&blob(store, digest, &format!("{what}, manifest")).await?)
}

/// The record of this digest; its manifest and its body have been checked, its payloads not.
pub(crate) async fn record<R: Record>(store: &dyn ArtifactStore, id: &Digest) -> Result<Stored<R>> {
    let what = format!("{} {id}", R::KIND);
    let manifest = manifest(store, id, &what).await?;
    described(store, &manifest.config, MAX_BODY_BYTES, &format!("{what}, body")).await?;
    store.get(id).await
}
