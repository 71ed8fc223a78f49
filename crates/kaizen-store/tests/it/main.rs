//! The crate as its users see it.

#![allow(clippy::clone_on_ref_ptr, reason = "it lets an `Arc<T>` become an `Arc<dyn Port>`")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "tests")]

mod conformance;
mod keys;
mod lineage;
mod log;
mod merkle;
mod registry;
mod store;
