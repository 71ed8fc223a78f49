//! Drift: reference profiles, monitors and alarms that hold their stated rate.
