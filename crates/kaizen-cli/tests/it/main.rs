//! The program as its users run it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod program;
