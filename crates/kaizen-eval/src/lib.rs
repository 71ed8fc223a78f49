//! Evaluation: metrics with intervals, champion against challenger, gates, value in money.
