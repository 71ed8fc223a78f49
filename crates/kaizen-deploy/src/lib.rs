//! Targets and progressive rollouts.
