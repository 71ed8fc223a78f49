//! Where a view's rows are online, and how far they go.

use kaizen_core::{Bytes, Context, Digest, ErrorKind, Result, Timestamp, serde_int};
use kaizen_table::{FeatureView, OnlineEntry};
use serde::{Deserialize, Serialize};

use crate::keys::KeyTypes;

/// Changes when the bytes of keys or rows are laid out anew, so that old ones are not misread.
const VERSION: u32 = 1;

/// The key of [`Progress`]; the keys of entities begin with [`ENTITY`].
const PROGRESS: &[u8] = &[0];

/// The first byte of an entity's key.
const ENTITY: u8 = 1;

/// The space of one definition of a view: a changed definition has another.
#[derive(Clone, Debug)]
pub(crate) struct Space(String);

impl Space {
    /// The space of this definition.
    pub(crate) fn of(view: &FeatureView) -> Result<Self> {
        let digest: Digest = view.digest()?;
        Ok(Self(format!("{}@{}/v{VERSION}", view.name(), digest.hex())))
    }

    /// The space's name.
    pub(crate) fn name(&self) -> &str {
        &self.0
    }

    /// The key under which it is kept how far the view goes.
    pub(crate) fn progress_key() -> Bytes {
        Bytes::from_static(PROGRESS)
    }

    /// The key under which an entity's rows are kept.
    pub(crate) fn entity_key(key: &[u8]) -> Bytes {
        [&[ENTITY], key].concat().into()
    }

    /// An entry of this space.
    pub(crate) fn entry(&self, key: Bytes, value: Bytes) -> OnlineEntry {
        OnlineEntry { space: self.0.clone(), key, value: Some(value) }
    }
}

/// How far a view is materialised.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Progress {
    /// Every row that was known at this instant, in nanoseconds UTC, is in.
    #[serde(with = "serde_int")]
    pub(crate) until: i64,
    /// No row that a question at this instant or later needs has been dropped.
    #[serde(with = "serde_int")]
    pub(crate) from: i64,
    /// How many rows of the source those were.
    #[serde(with = "serde_int")]
    pub(crate) rows: u64,
    /// The types in which keys are compared.
    pub(crate) key_types: Vec<String>,
}

impl Progress {
    /// Reads what [`to_bytes`](Self::to_bytes) wrote.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self> {
        serde_json::from_slice(bytes).context(ErrorKind::Corrupt, "how far the view goes online")
    }

    /// The form in which it is kept.
    pub(crate) fn to_bytes(&self) -> Result<Bytes> {
        let json = serde_json::to_vec(self);
        Ok(json.context(ErrorKind::Internal, "how far the view goes online")?.into())
    }

    /// The types in which the keys of this view are compared.
    pub(crate) fn key_types(&self, view: &FeatureView) -> Result<KeyTypes> {
        KeyTypes::parse(view.keys(), &self.key_types)
    }

    /// The instant, for messages.
    pub(crate) fn instant(&self) -> Timestamp {
        Timestamp::from_nanos(self.until)
    }
}
