//! The feature store: sources, the point-in-time join, windows, the online store.
//!
//! *You are here:* **data** → train → eval → store → package → deploy → serve → drift, and back.\
//! *Takes:* sources of rows, definitions of features and labels, and the rows that ask.\
//! *Gives:* [`TrainingData`] to train on; the same features online, with the same bits.\
//! *Touches the world through:* the ports [`Source`](kaizen_table::Source),
//! [`OnlineStore`](kaizen_table::OnlineStore), [`PredictionSink`](kaizen_table::PredictionSink) and
//! [`PredictionSource`](kaizen_table::PredictionSource), which it implements for memory, for local
//! files and object stores, and for online stores in a file and in Redis.
//!
//! A training set has the features as they were known at each row's own instant, and the labels as
//! they were known at the cut-off:
//!
//! ```
//! use std::sync::Arc;
//!
//! use kaizen_core::{DataType, Result};
//! use kaizen_data::{FeatureStore, MemorySource};
//! use kaizen_table::arrow::array::{BooleanArray, Float64Array, Int64Array, StringArray};
//! use kaizen_table::arrow::array::{ArrayRef, TimestampSecondArray};
//! use kaizen_table::{FeatureService, FeatureView, LabelView, RecordBatch};
//!
//! fn seconds(values: Vec<i64>) -> ArrayRef {
//!     Arc::new(TimestampSecondArray::from(values).with_timezone("UTC"))
//! }
//!
//! fn airports(names: Vec<&str>) -> ArrayRef {
//!     Arc::new(StringArray::from(names))
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<()> {
//! let weather = MemorySource::new("weather", RecordBatch::try_from_iter([
//!     ("origin", airports(vec!["JFK", "JFK", "EWR"])),
//!     ("time", seconds(vec![0, 3_600, 3_600])),
//!     ("wind", Arc::new(Float64Array::from(vec![10.0, 30.0, 5.0]))),
//! ]).unwrap());
//! let outcomes = MemorySource::new("outcomes", RecordBatch::try_from_iter([
//!     ("flight", Arc::new(Int64Array::from(vec![1, 2, 3])) as ArrayRef),
//!     ("late", Arc::new(BooleanArray::from(vec![false, true, true]))),
//!     ("known_at", seconds(vec![9_000, 9_000, 99_000])),
//! ]).unwrap());
//! let store = FeatureStore::new(vec![Arc::new(weather), Arc::new(outcomes)]);
//!
//! let weather = FeatureView::builder("weather")
//!     .source("weather")
//!     .key("origin")
//!     .event_time("time")
//!     .ttl_seconds(6 * 3600)
//!     .column("wind", DataType::Float64)
//!     .build()?;
//! let service = FeatureService::new("flights", 1, vec![], vec![weather])?;
//! let late = LabelView::new("late", "outcomes", vec!["flight".into()], "late", "known_at")?;
//! let flights = RecordBatch::try_from_iter([
//!     ("flight", Arc::new(Int64Array::from(vec![1, 2, 3])) as ArrayRef),
//!     ("origin", airports(vec!["JFK", "JFK", "EWR"])),
//!     ("asked_at", seconds(vec![1_800, 3_600, 3_600])),
//! ]).unwrap();
//!
//! let cutoff = "1970-01-01T12:00:00Z".parse()?;
//! let data = store.training_set(&service, &late, &flights, "asked_at", cutoff).await?;
//!
//! // Flight 1 asked before the wind of 30 was measured. Flight 3's outcome was not known yet.
//! let winds = kaizen_table::numbers(&data.rows, "wind")?;
//! assert_eq!(winds.values(), &[10.0, 30.0]);
//! assert_eq!(data.labels(), [false, true]);
//! assert_eq!(data.record.unlabelled, 1);
//! # Ok(())
//! # }
//! ```

mod blocking;
mod erase;
mod feature_store;
mod indices;
mod kept;
mod keys;
mod labels;
mod leak;
mod look_up;
mod on_demand;
mod online;
mod parquet_file;
pub mod point_in_time;
mod prediction_log;
mod predictions;
mod reading;
mod removal;
mod reproduce;
mod served;
#[cfg(feature = "server")]
mod server;
pub mod skew;
mod source;
mod summary;
mod training_data;
mod typed;
mod walk;
mod whole_file;
mod within;

pub use erase::Erase;
pub use feature_store::FeatureStore;
#[cfg(feature = "redis")]
pub use online::RedisOnlineStore;
pub use online::{
    Answer, MemoryOnlineStore, Online, RedbOnlineStore, RowLog, SnapshotOnlineStore, Status,
    ViewAnswer, open_online,
};
pub use prediction_log::PredictionLog;
pub use predictions::save_predictions;
pub use served::{ServedLog, ServedSink};
#[cfg(feature = "server")]
pub use server::feature_server;
pub use source::file::{FileSource, FileSourceBuilder};
pub use source::format::Format;
pub use source::memory::MemorySource;
pub use source::parts::Pushed;
pub use source::push::PushSource;
pub use source::reading::Reads;
pub use summary::ColumnSummary;
pub use training_data::{Definitions, TrainingData};
