//! Container images and model artefacts, reproducible, without Docker.
