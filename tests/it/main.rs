//! The tests that belong to no single crate: one binary, a module for each subject.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

// Of the whole loop, on real flights.
mod bad_input;
mod crash;
mod flights;
mod leak;
mod policy;
mod whole_loop;

// Of the repository itself.
mod layers;
mod repository;
mod tidy;
