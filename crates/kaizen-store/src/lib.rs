//! Artefacts, the registry of models and the audit log, on local disk.
