//! The benches of Kaizen.
