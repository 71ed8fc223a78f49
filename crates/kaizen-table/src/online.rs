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
    /// The value, which replaces the one before; `None` removes the key.
    pub value: Option<Bytes>,
}

/// Some entries of a space, and where to go on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OnlinePage {
    /// Keys with their values.
    pub entries: Vec<(Bytes, Bytes)>,
    /// What to ask with for the next page; `None` after the last. It means something to the store
    /// alone.
    pub next: Option<Bytes>,
}

/// Bytes by key, for serving. What the bytes mean, and what of them may be seen when, is decided in
/// one place for all stores, `kaizen_data::Online`.
///
/// `kaizen_testkit::online_store` is the conformance suite.
#[async_trait]
pub trait OnlineStore: fmt::Debug + Send + Sync {
    /// The value under each key, in the order of the keys.
    async fn get(&self, space: &str, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>>;

    /// Writes all entries or none; a reader sees all of them or none. Of several entries of one key
    /// the last counts. A store that only reads gives
    /// [`ErrorKind::Refused`](kaizen_core::ErrorKind::Refused).
    async fn put(&self, entries: Vec<OnlineEntry>) -> Result<()>;

    /// The spaces that hold a key, in the order of their names.
    async fn spaces(&self) -> Result<Vec<String>>;

    /// A page of a space, from its beginning or after another page. Its size is about `most`
    /// entries. While nothing is written, following the pages gives every key once, in any order;
    /// a key that is written meanwhile may come twice, or not.
    async fn page(&self, space: &str, after: Option<&Bytes>, most: usize) -> Result<OnlinePage>;
}
