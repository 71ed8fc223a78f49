//! Entities: what features are about.

use kaizen_core::Result;
use serde::{Deserialize, Serialize};

use crate::view::distinct;

/// What features are about, such as an aircraft, and the columns that name one: of any integer,
/// float (of 32 bits or 64), decimal, boolean, date, time, text or binary type, the same in kind wherever they stand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entity {
    name: String,
    keys: Vec<String>,
}

impl Entity {
    /// An entity of this name, named by these columns.
    pub fn new<K: Into<String>>(
        name: impl Into<String>,
        keys: impl IntoIterator<Item = K>,
    ) -> Result<Self> {
        let entity = Self { name: name.into(), keys: keys.into_iter().map(Into::into).collect() };
        distinct(&entity.name, "key", entity.keys.iter().map(String::as_str))?;
        Ok(entity)
    }

    /// The entity's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The columns that name one.
    pub fn keys(&self) -> &[String] {
        &self.keys
    }
}
