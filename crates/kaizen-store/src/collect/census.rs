//! What the small blobs of a store are, told from their bytes.
//!
//! The index is a view: an entry that is lost or altered must not make a record look like a blob
//! that leads nowhere.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::{StreamExt as _, stream};
use kaizen_core::{ArtifactStore, Digest, Error, ErrorKind, Manifest, Result};

use super::REQUESTS;
use crate::closure::names_in;

#[derive(Debug, Default)]
pub(super) struct Census {
    manifests: BTreeMap<Digest, Manifest>,
    /// Manifests of other kinds, such as image indices, with all that they name.
    others: BTreeMap<Digest, Vec<Digest>>,
    /// What is said about a digest.
    about: BTreeMap<Digest, Vec<Digest>>,
    damaged: BTreeMap<Digest, Error>,
}

impl Census {
    /// Reads every blob that is small enough to be a manifest.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Corrupt`] if a blob that may be a manifest is damaged: nobody knows what it
    /// leads to, or what it is about.
    pub(super) async fn read(
        store: &dyn ArtifactStore,
        blobs: impl IntoIterator<Item = (Digest, u64)>,
    ) -> Result<Self> {
        let most = Manifest::MAX_BYTES as u64;
        let (mut census, mut there) = (Self::default(), BTreeSet::new());
        let mut small = Vec::new();
        for (digest, size) in blobs {
            there.insert(digest);
            small.extend((size <= most).then_some(digest));
        }
        let reading = small
            .into_iter()
            .map(|digest| async move { (digest, store.get_bounded(&digest, most).await) });
        let mut reading = stream::iter(reading).buffer_unordered(REQUESTS);
        while let Some((digest, bytes)) = reading.next().await {
            match bytes {
                Ok(bytes) => census.take(digest, &bytes),
                // Removed since it was listed.
                Err(error) if error.kind() == ErrorKind::NotFound => drop(there.remove(&digest)),
                Err(error) if error.kind() == ErrorKind::Corrupt => {
                    census.damaged.insert(digest, error);
                }
                Err(error) => return Err(error),
            }
        }
        census.check(store, &there).await?;
        Ok(census)
    }

    pub(super) fn manifest(&self, id: &Digest) -> Option<&Manifest> {
        self.manifests.get(id)
    }

    pub(super) fn is_manifest(&self, id: &Digest) -> bool {
        self.manifests.contains_key(id) || self.others.contains_key(id)
    }

    /// What a manifest of another kind names.
    pub(super) fn named_by_other(&self, id: &Digest) -> &[Digest] {
        self.others.get(id).map_or(&[], Vec::as_slice)
    }

    /// The manifests about this digest.
    pub(super) fn about(&self, subject: &Digest) -> &[Digest] {
        self.about.get(subject).map_or(&[], Vec::as_slice)
    }

    fn take(&mut self, digest: Digest, bytes: &[u8]) {
        match Manifest::parse(bytes) {
            Ok(manifest) => {
                if let Some(subject) = &manifest.subject {
                    self.about.entry(subject.digest).or_default().push(digest);
                }
                self.manifests.insert(digest, manifest);
            }
            Err(error) if error.kind() == ErrorKind::Unsupported => {
                self.others.insert(digest, names_in(bytes, true).unwrap_or_default());
            }
            Err(_) => {}
        }
    }

    async fn check(&mut self, store: &dyn ArtifactStore, there: &BTreeSet<Digest>) -> Result<()> {
        // What a manifest needs as body or payload is no manifest.
        for blob in self.manifests.values().flat_map(Manifest::blobs) {
            self.damaged.remove(&blob.digest);
        }
        let unknown = std::mem::take(&mut self.damaged).into_iter().next();
        if let Some((digest, error)) = unknown {
            let message = format!("blob {digest} is damaged, and may be a record");
            return Err(Error::corrupt(message).with_source(error));
        }
        for listed in store.manifests().await? {
            if there.contains(&listed) && !self.is_manifest(&listed) {
                let message = format!("manifest {listed} is listed, and is none");
                return Err(Error::corrupt(message));
            }
        }
        Ok(())
    }
}
