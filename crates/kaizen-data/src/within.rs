//! Says where an error arose.

use std::fmt;

use kaizen_core::{Error, Result};

/// Puts a place before an error's message, and keeps its kind.
pub(crate) trait Within<T> {
    /// The error becomes `place: message`.
    fn within(self, place: impl fmt::Display) -> Result<T>;
}

impl<T> Within<T> for Result<T> {
    fn within(self, place: impl fmt::Display) -> Result<T> {
        self.map_err(|error| Error::new(error.kind(), format!("{place}: {error:#}")))
    }
}
