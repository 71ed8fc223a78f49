//! The server over real sockets, and what it refuses to load.
#![allow(clippy::unwrap_used, reason = "tests")]

mod infer;
mod linear;
mod load;
mod protocol;
mod routing;
mod running;
mod sinks;
mod triton;
