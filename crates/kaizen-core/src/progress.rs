//! The port through which long work says how far it is.

use std::fmt;

/// Receives how far a long piece of work has come. The library itself never prints.
pub trait Progress: fmt::Debug + Send + Sync {
    /// `done` of `total` units of `task` are finished; `total` is `None` while it is unknown.
    fn report(&self, task: &str, done: u64, total: Option<u64>);
}

/// Reports to nobody.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn report(&self, _task: &str, _done: u64, _total: Option<u64>) {}
}
