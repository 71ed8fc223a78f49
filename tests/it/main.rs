//! The tests that belong to no single crate: one binary, a module for each subject.

// Of the repository itself.
mod layers;
mod repository;
mod tidy;
