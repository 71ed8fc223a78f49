//! Tests of the definitions of a feature store.
#![allow(clippy::unwrap_used, reason = "tests")]

mod definitions;
mod on_demand;
