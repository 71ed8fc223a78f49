//! Pure statistics: exact sums, sketches, metrics with intervals, distances and e-processes.
//!
//! *You are here:* below the loop; data, eval and drift compute with it.\
//! *Takes:* slices of numbers, and the unit of independence of each.\
//! *Gives:* numbers, each with the error that it holds.\
//! *Touches the world through:* nothing.
//!
//! A metric comes with an interval that resamples the unit of independence, here the day:
//!
//! ```
//! use kaizen_stats::{Bootstrap, metric};
//!
//! let scores = [0.1, 0.4, 0.35, 0.8, 0.2, 0.9];
//! let labels = [false, false, true, true, false, true];
//! let days = [1, 1, 2, 2, 3, 3];
//! let bootstrap = Bootstrap { draws: 200, confidence: 0.9, seed: 1 };
//! let brier = bootstrap
//!     .interval(&days, |weights| metric::weighted_brier(&scores, &labels, weights))?;
//! assert!(brier.low <= brier.value && brier.value <= brier.high);
//! # Ok::<(), kaizen_core::Error>(())
//! ```

pub mod bootstrap;
pub mod conformal;
mod exact_sum;
mod fixed_point;
pub mod histogram;
mod hyper_log_log;
mod log_buckets;
pub mod metric;
mod moments;
mod scaled;

pub use bootstrap::Bootstrap;
pub use exact_sum::ExactSum;
pub use hyper_log_log::{HyperLogLog, RegisterCounts};
pub use log_buckets::{LogBuckets, rank_of};
pub use moments::ExactMoments;
pub use scaled::Scaled;
