//! Estimators against their suite, against other software's formulas, and on real flights.
#![allow(clippy::unwrap_used, reason = "tests")]

mod conformance;
mod fixtures;
mod flights;
mod irls;
mod table;
mod threads;
