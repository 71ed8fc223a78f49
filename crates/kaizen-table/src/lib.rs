//! Arrow tables, feature definitions as data, and the traits of models.
//!
//! *You are here:* below the loop, one step above `kaizen-core`: data, train, eval, serve and
//! drift speak of tables in these words.\
//! *Takes:* Arrow [`RecordBatch`]es.\
//! *Gives:* [`FeatureView`], [`FeatureService`], [`LabelView`]; [`Encoder`]; [`Scorer`].\
//! *Touches the world through:* the ports that it defines: [`Source`], [`OnlineStore`],
//! [`PredictionSink`], [`PredictionSource`]; and the traits [`Estimator`], [`Predictor`],
//! [`Loader`].
//!
//! A definition is data, checked once when it is made:
//!
//! ```
//! use kaizen_core::DataType;
//! use kaizen_table::{FeatureView, Known};
//!
//! let weather = FeatureView::builder("weather")
//!     .source("weather")
//!     .key("origin")
//!     .event_time("time")
//!     .known(Known::After { seconds: 3600 })
//!     .ttl_seconds(6 * 3600)
//!     .column("visib", DataType::Float64)
//!     .build()?;
//! assert_eq!(weather.features().len(), 1);
//!
//! let nameless = FeatureView::builder("").source("weather").key("origin").build();
//! assert!(nameless.unwrap_err().to_string().contains("name"));
//! # Ok::<(), kaizen_core::Error>(())
//! ```

mod column;
mod encoder;
mod entity;
mod label;
mod model;
mod on_demand;
mod online;
mod predictions;
mod service;
mod source;
mod view;
mod window;

pub use column::{arrow_type, blocks, column, instants, numbers, texts, with_column};
pub use encoder::Encoder;
pub use entity::Entity;
pub use label::LabelView;
pub use model::{Estimator, Formats, Loader, Predictor, Scorer};
pub use on_demand::{Functions, OnDemand};
pub use online::{OnlineEntry, OnlinePage, OnlineStore};
pub use predictions::{PredictionSink, PredictionSource, prediction};
pub use service::FeatureService;
pub use source::{During, Query, Scan, Source, SourceFile};
pub use view::{Feature, FeatureView, FeatureViewBuilder, Known, Remarks, Value};
pub use window::{Aggregate, Window};

// The types that appear in this crate's own signatures; one Arrow, one ndarray for all.
pub use arrow;
pub use arrow::array::RecordBatch;
pub use ndarray;
