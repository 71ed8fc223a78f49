//! The target that runs releases inside the host's own process.

use std::collections::BTreeMap;
use std::sync::Arc;

use kaizen_core::{ArtifactStore, Digest, Error, Result, SlotStatus, Target, async_trait};
use kaizen_serve::{Router, Servable};
use kaizen_table::Formats;

/// Runs releases in the slots of a [`Router`], which the host serves with
/// [`kaizen_serve::app`] or asks directly.
///
/// A release is loaded, and verified, before its slot changes: one that does not load leaves the
/// slot as it was. The slots live in memory; after a restart, `BlueGreen::recover` fills them again
/// from the log.
#[derive(Clone, Debug)]
pub struct EmbeddedTarget {
    name: String,
    router: Arc<Router>,
    store: Arc<dyn ArtifactStore>,
    formats: Formats,
}

impl EmbeddedTarget {
    /// A target of this name, which loads releases from `store` into the slots of `router`.
    pub fn new(
        name: impl Into<String>,
        router: Arc<Router>,
        store: Arc<dyn ArtifactStore>,
        formats: Formats,
    ) -> Self {
        Self { name: name.into(), router, store, formats }
    }

    /// The router that the host serves.
    pub fn router(&self) -> &Arc<Router> {
        &self.router
    }
}

#[async_trait]
impl Target for EmbeddedTarget {
    fn name(&self) -> &str {
        &self.name
    }

    async fn start(&self, slot: &str, release: &Digest) -> Result<()> {
        // `set` refuses traffic too; this saves loading what could not be set anyway.
        if self.router.status().get(slot).is_some_and(|status| status.weight > 0) {
            return Err(Error::refused(format!("slot `{slot}`: it has traffic")));
        }
        let servable = Servable::load(&*self.store, release, &self.formats).await?;
        self.router.set(slot, Arc::new(servable))
    }

    async fn shift(&self, weights: &BTreeMap<String, u32>) -> Result<()> {
        self.router.shift(weights)
    }

    async fn status(&self) -> Result<BTreeMap<String, SlotStatus>> {
        Ok(self.router.status())
    }

    async fn stop(&self, slot: &str) -> Result<()> {
        self.router.remove(slot)
    }
}
