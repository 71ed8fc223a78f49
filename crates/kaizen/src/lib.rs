//! Close the loop of machine learning inside the program that links it.
//!
//! *You are here:* the whole loop, and the one place that knows its order: data → train → eval →
//! store → package → deploy → serve → drift → data.\
//! *Takes:* the host's sources, estimator, store, log and target.\
//! *Gives:* a champion that is watched, retrained on evidence, and rolled out.\
//! *Touches the world through:* the ports of [`core`] and [`table`], which the host chooses.
//!
//! Each stage is a module, in loop order; [`cycle`] turns them.

pub mod cycle;
mod embedded;

pub use embedded::EmbeddedTarget;

pub use kaizen_core as core;
pub use kaizen_pipeline as pipeline;
pub use kaizen_stats as stats;
pub use kaizen_table as table;

pub use kaizen_data as data;
pub use kaizen_deploy as deploy;
pub use kaizen_drift as drift;
pub use kaizen_eval as eval;
pub use kaizen_package as package;
pub use kaizen_serve as serve;
pub use kaizen_store as store;
pub use kaizen_train as train;

pub use kaizen_table::{arrow, ndarray};

/// The names that nearly every host writes.
pub mod prelude {
    pub use kaizen_core::{
        Actor, ArtifactStore, AuditLog, Clock, DataType, Digest, Error, ErrorKind, Field, Records,
        Result, SystemClock, TimeBlocks, Timestamp,
    };
    pub use kaizen_data::{FeatureStore, Online, ParquetSource};
    pub use kaizen_table::{Aggregate, FeatureService, FeatureView, Known, LabelView, Source};

    pub use crate::cycle::{Cycle, Parts, Policy, Triggers};
}
