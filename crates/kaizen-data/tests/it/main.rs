//! Tests of the feature store against its rule, its oracle and its ports' suites.
#![allow(clippy::unwrap_used, reason = "tests")]

mod bounds;
mod cases;
mod cut_source;
mod flights;
mod leakage;
mod on_demand;
mod online;
mod online_answers;
mod orders;
mod point_in_time;
mod prediction_log;
mod reproduce;
mod skew;
mod sources;
mod training;
mod walk;
