//! Drift: reference profiles, monitors and alarms that hold their stated rate.
//!
//! *You are here:* data → train → eval → store → package → deploy → serve → **drift** → cycle.\
//! *Takes:* a [`Profile`] of the training set, then the rows of each new block of time.\
//! *Gives:* a [`Reading`] after each block, and from it a [`DriftReport`]; an alarm asks for
//! retraining.\
//! *Touches the world through:* nothing; the state of a monitor is a value that the host stores.
//!
//! # What an alarm means
//!
//! Rows of one day share their weather and their outages, so the unit of independence is the
//! block of time, not the row. *No drift* means that blocks are exchangeable: the reference and
//! the new ones are one bag, drawn in any order. If so, the probability of **any alarm, ever**,
//! over all features and all daily looks, is at most `alpha`.
//!
//! 1. A block is its histograms, over bins fixed by the reference. Its score for a feature is its
//!    [distance](kaizen_stats::histogram::hellinger_squared) from the pooled histogram of all
//!    blocks, and for numbers also its level (the mean rank of its values). The rank of the newest
//!    block's score gives a p-value, and an [e-process](kaizen_stats::conformal) bets on each.
//! 2. Many features that move together a little are found by *contrasts*: each three new blocks
//!    are set aside, their difference from the others gives a direction, and the later blocks are
//!    ranked along it among all those not set aside.
//! 3. Half of `alpha` is for the contrasts, half for the features in equal parts; the evidence is
//!    the largest e-process times its part, and the alarm sounds at `1/alpha` (union bound).
//!
//! References: Vovk, *Testing randomness online*, Statistical Science 2021; Shin, Ramdas and
//! Rinaldo, *E-detectors*, 2023; Choe and Ramdas, *Combining evidence across filtrations*, 2024.
//! Blocks that resemble their neighbours (spells of weather) are not exchangeable: where that
//! matters, choose longer blocks.
//!
//! ```
//! use kaizen_core::{DataType, Digest, Field, TimeBlocks};
//! use kaizen_drift::{Monitor, Settings, profile};
//! use kaizen_testkit::drifting::Drifting;
//!
//! // 70 days; from day 50 on the numbers are two standard deviations of days higher.
//! let data = Drifting { from_day: 50, mean_shift: 2.0, ..Drifting::default() };
//! let features = [Field::new("x0", DataType::Float64), Field::new("c0", DataType::Utf8)];
//! let reference = data.rows(0..40)?;
//! let set = Digest::of("the training set");
//! let profile = profile(set, &reference, &features, "time", TimeBlocks::days())?;
//!
//! let mut monitor = Monitor::new(&profile, Settings { alpha: 0.05, seed: 7 })?;
//! let mut alarm = None;
//! for day in 40..70 {
//!     let reading = monitor.observe(data.block(day), &data.rows(day..day + 1)?)?;
//!     if reading.alarm && alarm.is_none() {
//!         assert_eq!(reading.features[0].name, "x0");
//!         alarm = Some(day);
//!     }
//! }
//! assert!(alarm.is_some_and(|day| (50..62).contains(&day)), "{alarm:?}");
//! # Ok::<(), kaizen_core::Error>(())
//! ```

mod contrast;
mod monitor;
mod profiling;
mod reading;
mod score;
mod value;

pub use monitor::{Monitor, Settings};
pub use profiling::{counts, profile};
pub use reading::Reading;
pub use value::ValueMonitor;

// The types that appear in this crate's own signatures.
pub use kaizen_core::record::{DriftReport, FeatureDrift, Profile};
