//! Registries that follow the protocol, registries that do not, and Debian's.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "tests"
)]

mod auth;
mod debian;
mod docker_config;
mod fake;
mod hostile;
mod judge;
mod names;
mod protocol;
mod proxy;
mod server;
mod support;
