//! The examples; each is a program of its own, and `cargo test` runs them all.
