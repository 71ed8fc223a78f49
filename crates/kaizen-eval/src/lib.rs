//! Evaluation: metrics with intervals, champion against challenger, gates, value in money.
//!
//! *You are here:* data → train → **eval** → store → package → deploy → serve → drift.\
//! *Takes:* the scores of one or two models on the same rows, their labels and the unit of
//! independence of each row; the [`Gate`]s.\
//! *Gives:* an [`Evaluation`](kaizen_core::record::Evaluation), and from it a
//! [`Decision`](kaizen_core::record::Decision).\
//! *Touches the world through:* nothing.
//!
//! A model is evaluated in money beside the usual metrics, and a gate decides on what the interval
//! still allows, not on the best guess:
//!
//! ```
//! use kaizen_core::record::Occurrence;
//! use kaizen_core::{Actor, Digest, OperationId, TimeBlocks, Timestamp};
//! use kaizen_eval::{CostMatrix, Gate, Rows, Scores, Settings, decide, evaluate};
//! use kaizen_stats::Bootstrap;
//!
//! // Ten days of eight flights; the model warns of two, and is wrong about one on every fifth day.
//! let blocks: Vec<i64> = (0..80).map(|row| row / 8).collect();
//! let labels: Vec<bool> = (0..80).map(|row| row % 8 == 0 || row % 8 == 5 && row % 5 > 0).collect();
//! let scores: Vec<f64> = (0..80).map(|row| if row % 8 % 5 == 0 { 0.7 } else { 0.1 }).collect();
//!
//! let settings = Settings {
//!     unit: TimeBlocks::days(),
//!     bootstrap: Bootstrap { draws: 1000, confidence: 0.95, seed: 1 },
//!     // A warning costs 35; a late flight that was warned of saves 100.
//!     costs: CostMatrix {
//!         true_negative: 0.0,
//!         false_positive: -35.0,
//!         false_negative: 0.0,
//!         true_positive: 65.0,
//!     },
//! };
//! let (model, flights) = (Digest::of("model"), Digest::of("flights"));
//! let rows = Rows { labels: &labels, blocks: &blocks };
//! let evaluation = evaluate(&settings, flights, &rows, &Scores { model, scores: &scores })?;
//! assert_eq!(evaluation.metrics["value"].value, (18.0 * 65.0 - 2.0 * 35.0) / 80.0);
//!
//! let gates = [Gate::Floor { metric: "value".to_owned(), at_least: 0.0 }];
//! let at: Timestamp = "2013-03-01T00:00:00Z".parse()?;
//! let occurrence = Occurrence::new(at, Actor::system("docs"), OperationId::new("decide", at));
//! let id = Digest::of_json(&evaluation)?; // The store gives the true one.
//! let decision = decide(&gates, &evaluation, occurrence, model, None, id)?;
//! assert!(decision.approved());
//! assert_eq!(
//!     decision.gates[0].evidence,
//!     "value per row 13.8 [10.0, 16.2] (95 %, 10 days) is at least 0"
//! );
//! # Ok::<(), kaizen_core::Error>(())
//! ```

mod costs;
mod evaluate;
mod gate;

pub use costs::CostMatrix;
pub use evaluate::{Rows, Scores, Settings, compare, evaluate};
pub use gate::{Gate, apply, decide};
