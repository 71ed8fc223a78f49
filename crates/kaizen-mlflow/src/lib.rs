//! An exporter to MLflow: trainings as runs, versions of models, aliases.
//!
//! *You are here:* data → train → eval → **store** → package → deploy → serve → drift.\
//! *Takes:* a store, a log and a registry.\
//! *Gives:* the same in an MLflow server, for those who look there.\
//! *Touches the world through:* the server's REST API, over HTTP.
//!
//! Exporting again changes nothing: what was exported bears a tag with our digest, and is found by
//! it. An export that was cut off is finished by the next. What is in MLflow is a view: nothing
//! that is decided here ever depends on it. A tag `team` of a version is `kaizen.tag.team` there, and
//! goes when it goes here. What people write there beside it stays, and so does an alias that they gave
//! to a version of their own.
//!
//! ```no_run
//! # async fn example(
//! #     store: &dyn kaizen_core::ArtifactStore,
//! #     log: &dyn kaizen_core::AuditLog,
//! #     registry: &kaizen_store::Registry,
//! # ) -> kaizen_core::Result<()> {
//! use kaizen_mlflow::MlflowExporter;
//!
//! let exporter = MlflowExporter::new("http://127.0.0.1:5000")?.experiment("delays");
//! let exported = exporter.export(store, log, registry, "late").await?;
//! println!("{} new runs, {} new versions", exported.runs, exported.versions);
//! # Ok(())
//! # }
//! ```
//!
//! The server's address is checked when it is given:
//!
//! ```
//! assert!(kaizen_mlflow::MlflowExporter::new("not an address").is_err());
//! ```

mod batch;
mod client;
mod content;
mod export;
mod versions;

pub use export::{Exported, MlflowExporter};
pub use reqwest;
