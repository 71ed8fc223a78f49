//! Rollouts on a target in memory: what they log, and what failures leave behind.
#![allow(clippy::unwrap_used, reason = "tests")]

mod blue_green;
mod faults;
mod place;
