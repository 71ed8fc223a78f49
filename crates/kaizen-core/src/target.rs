//! The port of machines: where deployments run.

use std::collections::BTreeMap;
use std::fmt;

use async_trait::async_trait;

use crate::{Digest, Result};

/// What a target says of one of its slots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotStatus {
    /// The release that the slot runs.
    pub release: Digest,
    /// Whether it answers requests.
    pub ready: bool,
    /// Its share of the traffic: its weight over the sum of all weights.
    pub weight: u32,
}

/// A place that runs releases side by side, in named slots, and divides traffic among them.
///
/// `kaizen_testkit::target` is the conformance suite.
#[async_trait]
pub trait Target: fmt::Debug + Send + Sync {
    /// The target's name, as the log records it.
    fn name(&self) -> &str;

    /// Starts a release in a slot, without traffic, and returns when it is ready. A slot that has
    /// traffic is [`ErrorKind::Refused`](crate::ErrorKind::Refused).
    async fn start(&self, slot: &str, release: &Digest) -> Result<()>;

    /// Divides the traffic anew, at once: a slot that is not named gets none. Naming a slot that
    /// is not ready, or only zero weights, is refused and changes nothing.
    async fn shift(&self, weights: &BTreeMap<String, u32>) -> Result<()>;

    /// Every slot that runs something.
    async fn status(&self) -> Result<BTreeMap<String, SlotStatus>>;

    /// Stops a slot. One that has traffic is refused.
    async fn stop(&self, slot: &str) -> Result<()>;
}
