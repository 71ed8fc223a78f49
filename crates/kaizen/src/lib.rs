//! Close the loop of machine learning inside the program that links it.
//!
//! *You are here:* the whole loop, and the one place that knows its order: data → train → eval →
//! store → package → deploy → serve → drift → data.\
//! *Takes:* the host's sources, estimator, store, log and target.\
//! *Gives:* a champion that is watched, retrained on evidence, and rolled out.\
//! *Touches the world through:* the ports of [`core`] and [`table`], which the host chooses.
//!
//! Each stage is a module, in loop order; [`cycle`] turns them. The host brings its ports and a
//! policy, and calls [`tick`](cycle::Cycle::tick):
//!
//! ```
//! # use std::sync::Arc;
//! # use kaizen::arrow::array::{ArrayRef, Int64Array};
//! # use kaizen::core::record::Trigger;
//! # use kaizen::data::{MemorySource, PredictionLog};
//! # use kaizen::eval::{CostMatrix, Gate};
//! # use kaizen::prelude::*;
//! # use kaizen::stats::Bootstrap;
//! # use kaizen_testkit::{MemoryLog, MemoryStore, drifting::Drifting};
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<()> {
//! # let rows = Drifting::default().rows(0..40)?;
//! # let ids: ArrayRef = Arc::new(Int64Array::from_iter(0..rows.num_rows() as i64));
//! # let rows = kaizen::table::with_column(&rows, "id", ids)?;
//! # let source: Arc<dyn Source> = Arc::new(MemorySource::new("orders", rows));
//! # let request = vec![Field::new("x0", DataType::Float64), Field::new("c0", DataType::Utf8)];
//! # let service = FeatureService::new("orders", 1, request, vec![])?;
//! # let labels = LabelView::new("returned", "orders", vec!["id".into()], "label", "time")?;
//! # let folder = tempfile::tempdir().unwrap();
//! let policy = Policy {
//!     model: "returns".into(),
//!     unit: TimeBlocks::days(),
//!     triggers: Triggers { drift: true, value: true },
//!     rest_units: 14,
//!     holdout_units: 10,
//!     maturity_seconds: 0,
//!     alpha: 0.05,
//!     costs: CostMatrix {
//!         true_negative: 0.0, false_positive: -1.0, false_negative: 0.0, true_positive: 2.0,
//!     },
//!     bootstrap: Bootstrap { draws: 200, confidence: 0.95, seed: 1 },
//!     first_gates: vec![Gate::Floor { metric: "auc".into(), at_least: 0.55 }],
//!     gates: vec![Gate::NonInferior { metric: "value".into(), margin: 0.1 }],
//!     seed: 1,
//! };
//! let store: Arc<dyn ArtifactStore> = Arc::new(MemoryStore::default());
//! let router = Arc::new(kaizen::serve::Router::new("returns"));
//! let formats = kaizen::train::formats();
//! let target =
//!     kaizen::EmbeddedTarget::new("here", router.clone(), store.clone(), formats.clone());
//! let parts = Parts {
//!     store,
//!     log: Arc::new(MemoryLog::default()),
//!     features: Arc::new(FeatureStore::new(vec![source.clone()])),
//!     service,
//!     labels,
//!     examples: source,
//!     time: "time".into(),
//!     estimator: Arc::new(kaizen::train::LogisticRegression::default()),
//!     formats,
//!     predictions: Arc::new(PredictionLog::open(folder.path()).await?),
//!     target: Arc::new(target),
//! };
//! let now = TimeBlocks::days().start(Drifting::default().block(40));
//! let mut cycle = Cycle::open(parts, policy, now).await?;
//!
//! // There is no champion yet: the first tick trains, evaluates, decides and rolls out.
//! let first = cycle.tick(now).await?.retraining.expect("a first training");
//! assert!(first.decision.approved());
//! assert_eq!(router.pick("anyone")?.release().version, 1);
//! # Ok(())
//! # }
//! ```

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

#[cfg(feature = "mlflow")]
pub use kaizen_mlflow as mlflow;
#[cfg(feature = "oci")]
pub use kaizen_oci as oci;
#[cfg(feature = "views")]
pub use kaizen_views as views;

pub use kaizen_table::{arrow, ndarray};

/// The front page's code, compiled.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;

/// The code of the page on the feature store, compiled.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/feature-store.md")]
struct FeatureStorePage;

/// The names that nearly every host writes.
pub mod prelude {
    pub use kaizen_core::{
        Actor, ArtifactStore, AuditLog, Clock, DataType, Digest, Error, ErrorKind, Field, Records,
        Result, SystemClock, TimeBlocks, Timestamp,
    };
    pub use kaizen_data::{FeatureStore, FileSource, Online};
    pub use kaizen_table::{Aggregate, FeatureService, FeatureView, Known, LabelView, Source};

    pub use crate::cycle::{Cycle, Parts, Policy, Triggers};
}
