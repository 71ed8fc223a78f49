//! What a drift alarm promises, judged on simulations and on the flights of 2013.
#![allow(clippy::unwrap_used, reason = "tests")]

mod flights;
mod input;
mod simulation;
mod state;
