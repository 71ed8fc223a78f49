//! The host: what a loop runs on, chosen in code.

use std::path::Path;
use std::sync::Arc;

use kaizen::EmbeddedTarget;
use kaizen::data::PredictionLog;
use kaizen::prelude::*;
use kaizen::serve::Router;
use kaizen::store::{Ed25519Signer, LocalLog, LocalStore};

use super::question::{self, MODEL, TIME, labels, service};
use super::world::World;

/// The host: everything that a policy's loop runs on.
pub struct Host {
    pub store: Arc<LocalStore>,
    pub log: Arc<LocalLog>,
    pub cycle: Cycle,
    pub router: Arc<Router>,
    pub predictions: Arc<PredictionLog>,
}

impl Host {
    /// Opens the loop in a folder; one that was there before goes on.
    pub async fn open(dir: &Path, policy: Policy, world: &World, now: Timestamp) -> Result<Self> {
        let key = dir.join("key");
        let signer = match key.exists() {
            true => Ed25519Signer::open(key).await?,
            false => Ed25519Signer::generate("kaizen.example/flights", key).await?,
        };
        let signer = Arc::new(signer);
        let store = Arc::new(LocalStore::open(dir.join("store")).await?);
        let log = Arc::new(LocalLog::open(dir.join("log"), signer).await?);
        let router = Arc::new(Router::new(MODEL));
        let predictions = Arc::new(PredictionLog::open(dir.join("predictions")).await?);
        let formats = kaizen::train::formats();
        let target =
            EmbeddedTarget::new("embedded", router.clone(), store.clone(), formats.clone());
        let parts = Parts {
            store: store.clone(),
            log: log.clone(),
            features: world.features.clone(),
            service: service()?,
            labels: labels()?,
            examples: world.requests.clone(),
            time: TIME.to_owned(),
            estimator: Arc::new(question::estimator()),
            formats,
            predictions: predictions.clone(),
            target: Arc::new(target),
        };
        let cycle = Cycle::open(parts, policy, now).await?;
        Ok(Self { store, log, cycle, router, predictions })
    }
}
