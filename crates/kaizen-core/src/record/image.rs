use serde::{Deserialize, Serialize};

use super::Record;
use crate::Digest;

/// A container image that serves a release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// The release.
    pub release: Digest,
    /// The image's manifest.
    pub manifest: Digest,
    /// The platform, such as `linux/amd64`.
    pub platform: String,
}

impl Record for Image {
    const KIND: &'static str = "image";

    fn subject(&self) -> Option<Digest> {
        Some(self.release)
    }
}
