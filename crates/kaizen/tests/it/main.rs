//! The facade's own parts.
#![allow(clippy::unwrap_used, reason = "tests")]

mod embedded;
