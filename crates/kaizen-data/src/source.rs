//! Sources: tables in memory, in files, and pushed row by row.

use kaizen_core::{Digest, Result};
use kaizen_table::SourceFile;

mod csv;
pub(crate) mod file;
mod folder;
pub(crate) mod format;
mod glob;
mod hive;
pub(crate) mod input;
mod ipc;
pub(crate) mod memory;
mod part;
pub(crate) mod parts;
mod place;
pub(crate) mod push;
pub(crate) mod reading;
mod remote;
mod rewriting;
mod selection;
pub(crate) mod spans;
pub(crate) mod zone;

/// The digest of what is in these files, ordered by path.
pub(crate) fn scan_digest(files: &[SourceFile]) -> Result<Digest> {
    match files {
        [only] => Ok(only.digest),
        several => Digest::of_json(several),
    }
}
