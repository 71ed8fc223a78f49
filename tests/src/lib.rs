//! The tests of Kaizen.
