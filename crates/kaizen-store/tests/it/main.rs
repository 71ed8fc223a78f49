//! The crate as its users see it.

#![allow(clippy::clone_on_ref_ptr, reason = "it lets an `Arc<T>` become an `Arc<dyn Port>`")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "tests")]

mod collect;
mod conformance;
mod copy;
mod fsck;
mod keys;
mod lineage;
mod log;
mod log_killed;
mod merkle;
mod object_log;
mod objects;
mod proofs;
mod pruning;
mod registry;
mod store;
mod store_processes;
