//! The examples of Kaizen.
