//! The port of fast look-ups by key.

use std::fmt;

use kaizen_core::{Bytes, Result, async_trait};

/// A value to write under a key, within a space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnlineEntry {
    /// The space: one per feature view and version of its definition.
    pub space: String,
    /// The key.
    pub key: Bytes,
    /// The value; it replaces the one before.
    pub value: Bytes,
}

/// Bytes by key, for serving. What the bytes mean, and what of them may be seen when, is decided in
/// one place for all stores, `kaizen_data::Online`.
///
/// `kaizen_testkit::online_store` is the conformance suite.
#[async_trait]
pub trait OnlineStore: fmt::Debug + Send + Sync {
    /// The value under each key, in the order of the keys.
    async fn get(&self, space: &str, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>>;

    /// Writes all entries or none; a reader sees all of them or none.
    async fn put(&self, entries: Vec<OnlineEntry>) -> Result<()>;
}
