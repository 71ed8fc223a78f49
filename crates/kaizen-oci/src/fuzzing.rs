//! Parsers of what a registry says, for the fuzz targets. No part of what is promised.

use kaizen_core::Timestamp;

use crate::{header, referrers};

/// Reads a text as each of the headers that have a grammar of their own.
///
/// # Panics
///
/// If one of them believes what is not so.
pub fn headers(text: &str) {
    if let Ok(found) = header::challenges(text) {
        assert!(found.len() <= header::MAX_CHALLENGES, "{found:?}");
    }
    if let Ok(Some(target)) = header::next_link(text) {
        assert!(text.contains(target), "{target}");
    }
    let _ = header::retry_after(text, Timestamp::from_micros(0));
    if let Some((first, last)) = header::upload_range(text) {
        assert!(first <= last);
    }
    if let Some((first, last, size)) = header::content_range(text) {
        assert!(first <= last && size.is_none_or(|size| last < size));
    }
}

/// Reads bytes as the list of a subject's referrers, and writes what was read.
pub fn referrers(bytes: &[u8]) {
    referrers::read_and_write(bytes);
}
