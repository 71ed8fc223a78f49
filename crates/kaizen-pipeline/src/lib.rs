//! Reusable pipelines: typed steps, cached by content, resumable.
