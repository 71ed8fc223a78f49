//! Estimators and training: gradient-boosted trees and logistic regression.
//!
//! *You are here:* data → **train** → eval → store → package → deploy → serve → drift.\
//! *Takes:* a [`TrainingSet`](kaizen_core::record::TrainingSet) with its rows, and a [`Training`]:
//! an estimator with its settings, and a seed.\
//! *Gives:* a [`Trained`] model, ready to score and to be packaged; [`formats`], to load it again.\
//! *Touches the world through:* nothing.
//!
//! ```
//! use std::collections::BTreeMap;
//! use std::sync::Arc;
//!
//! use kaizen_core::record::TrainingSet;
//! use kaizen_core::{DataType, Digest, Field, Timestamp};
//! use kaizen_table::RecordBatch;
//! use kaizen_table::arrow::array::{ArrayRef, BooleanArray, Float64Array, StringArray};
//! use kaizen_train::{GradientBoosting, Training, train};
//!
//! // Flights from EWR that leave late in the day arrive late.
//! let hour: Float64Array = (0..200).map(|row| Some(f64::from(row % 24))).collect();
//! let origin: StringArray = (0..200).map(|row| Some(["EWR", "JFK"][row % 3 % 2])).collect();
//! let late: BooleanArray = (0..200).map(|row| Some(row % 24 > 12 && row % 3 != 1)).collect();
//! let rows = RecordBatch::try_from_iter([
//!     ("hour", Arc::new(hour) as ArrayRef),
//!     ("origin", Arc::new(origin)),
//!     ("late", Arc::new(late)),
//! ])?;
//! let set = TrainingSet {
//!     service: Digest::of("service"),
//!     label_view: Digest::of("label view"),
//!     sources: BTreeMap::new(),
//!     cutoff: "2013-03-01T00:00:00Z".parse::<Timestamp>()?,
//!     rows: 200,
//!     unlabelled: 0,
//!     coverage: BTreeMap::new(),
//!     features: vec![Field::new("hour", DataType::Float64), Field::new("origin", DataType::Utf8)],
//!     label: "late".to_owned(),
//!     time: "time".to_owned(),
//! };
//!
//! let estimator = GradientBoosting { trees: 20, min_leaf_weight: 1.0, ..Default::default() };
//! let training = Training::new("delays", Arc::new(estimator), 7);
//! let trained = train(&training, Digest::of("the set"), &set, &rows)?;
//!
//! let scores = trained.score(&rows)?;
//! assert!(scores[23] > 0.7 && scores[1] < 0.3, "23 h from EWR, 1 h from JFK");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod checks;
mod forest;
mod gradient_boosting;
mod linear;
mod logistic;
mod newton;
mod training;

pub use forest::ForustJson;
pub use gradient_boosting::GradientBoosting;
pub use linear::LogisticSafetensors;
pub use logistic::{Device, LogisticRegression};
pub use training::{Trained, Training, formats, out_of_fold, train};
