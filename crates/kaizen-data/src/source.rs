//! Sources: tables in memory, in files, and pushed row by row.

use kaizen_core::{Digest, Result};
use kaizen_table::SourceFile;
use serde::Serialize;

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

/// The digest of the rows in these files, ordered by path: that of the bytes of one file that holds
/// all there is to know, else that of the list. `paths` says whether columns are in the files'
/// paths, `reading` what of the way in which they are read decides what their rows are.
pub(crate) fn scan_digest<R: Serialize>(
    files: &[SourceFile],
    paths: bool,
    reading: Option<R>,
) -> Result<Digest> {
    match (files, reading) {
        (files, Some(reading)) => Digest::of_json(&(reading, files)),
        ([only], None) if !paths => Ok(only.digest),
        (files, None) => Digest::of_json(files),
    }
}
