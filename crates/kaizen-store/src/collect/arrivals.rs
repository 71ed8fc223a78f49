//! Manifests that are put while a collection runs.

use std::collections::BTreeSet;

use kaizen_core::{ArtifactStore, Digest, Result};

use super::Collected;
use crate::closure::{Body, Found, find_manifest, read_body};

/// The manifests of which is known what they reach.
#[derive(Debug)]
pub(super) struct Arrivals {
    known: BTreeSet<Digest>,
}

impl Arrivals {
    /// Those that the store lists now, before everything is looked at.
    pub(super) async fn of(store: &dyn ArtifactStore) -> Result<Self> {
        Ok(Self { known: store.manifests().await?.into_iter().collect() })
    }

    /// Whether the store listed it then.
    pub(super) fn lists(&self, id: &Digest) -> bool {
        self.known.contains(id)
    }

    /// These were removed: if one of them is listed again, it was put again.
    pub(super) fn forget(&mut self, removed: &[Digest]) {
        for digest in removed {
            self.known.remove(digest);
        }
    }

    /// Whether a manifest that was put since reaches something that is to go, or something that is
    /// to go is about it.
    ///
    /// One step is enough: what is kept reaches nothing that is to go, and what else is new is
    /// looked at too.
    pub(super) async fn reach(
        &mut self,
        store: &dyn ArtifactStore,
        found: &Collected,
    ) -> Result<bool> {
        let is_doomed = |digest: &Digest| found.size_of(digest).is_some();
        for id in store.manifests().await? {
            if !self.known.insert(id) {
                continue;
            }
            // Another kind of manifest, or one that went again, is none that was put whole.
            let Found::Manifest(manifest, _) = find_manifest(store, &id).await? else { continue };
            let named = manifest.blobs().chain(&manifest.subject).map(|blob| blob.digest);
            let mut reached: Vec<_> = named.collect();
            reached.extend(store.referrers(&id).await?);
            if let Body::Names(named) = read_body(store, &manifest, false).await? {
                reached.extend(named);
            }
            if is_doomed(&id) || reached.iter().any(is_doomed) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
