//! Tests of the feature store against its rule, its oracle and its ports' suites.
#![allow(clippy::unwrap_used, reason = "tests")]

mod against_oracle;
mod bad_input;
mod bounds;
mod cases;
mod chronon;
mod cut_source;
mod document;
mod erase;
mod feast;
mod files;
mod flights;
mod key_columns;
mod leakage;
mod on_demand;
mod online;
mod online_answers;
mod orders;
mod point_in_time;
mod prediction_log;
mod push;
mod remote;
mod reproduce;
mod rule;
mod rule_coverage;
mod rule_keys;
mod rule_labels;
mod rule_windows;
mod server;
mod skew;
mod sources;
mod training;
mod walk;
mod windows;
