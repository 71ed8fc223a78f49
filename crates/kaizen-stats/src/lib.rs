//! Pure statistics: profiles, distances, metrics with intervals, e-processes.
