//! The feature store: sources, the point-in-time join, windows, the online store.
