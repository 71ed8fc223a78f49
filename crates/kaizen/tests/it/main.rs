//! The facade's own parts.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod cycle;
mod embedded;
