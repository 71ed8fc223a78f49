//! Container images and model artefacts, reproducible, without Docker.
//!
//! *You are here:* data → train → eval → store → **package** → deploy → serve → drift.\
//! *Takes:* the parts of a trained [`Model`](kaizen_core::record::Model); a
//! [`Release`](kaizen_core::record::Release) and the executable that serves it.\
//! *Gives:* a `Model` record with its weights as a CNCF `ModelPack` artefact; an
//! [`Image`](kaizen_core::record::Image) record with a container image.\
//! *Touches the world through:* [`ArtifactStore`](kaizen_core::ArtifactStore), and the local files
//! that an image is made from or unpacked into.
//!
//! ```
//! use std::collections::BTreeMap;
//!
//! use kaizen_core::record::Algorithm;
//! use kaizen_core::{Bytes, DataType, Digest, Field, Signature};
//! use kaizen_package::{ModelParts, load_model, save_model};
//! use kaizen_testkit::MemoryStore;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> kaizen_core::Result<()> {
//! let store = MemoryStore::default();
//! let parts = ModelParts {
//!     name: "late".into(),
//!     training_set: Digest::of("the training set"),
//!     algorithm: Algorithm { name: "constant".into(), settings: BTreeMap::new() },
//!     seed: 7,
//!     signature: Signature::new(vec![Field::new("distance", DataType::Float64)], vec![])?,
//!     service: Digest::of("the feature service"),
//!     format: "constant-json".into(),
//!     encoder: Bytes::from_static(b"{}"),
//!     weights: Bytes::from_static(b"[0.25]"),
//! };
//! let id = save_model(&store, parts.clone()).await?;
//! assert_eq!(save_model(&store, parts).await?, id);
//!
//! let model = load_model(&store, &id).await?;
//! assert_eq!(model.record.name, "late");
//! assert_eq!(model.weights, "[0.25]");
//! # Ok(())
//! # }
//! ```

mod bundle;
mod closure;
mod elf;
mod fetch;
mod files;
mod image;
mod image_config;
mod layer;
mod layout;
mod ld_cache;
mod libraries;
mod model;
mod model_pack;
mod unpack;
mod weights_tar;

pub use bundle::Bundle;
pub use files::MAX_FILE_BYTES;
pub use image::ImageBuilder;
pub use layout::export_layout;
pub use model::{ModelParts, StoredModel, load_model, save_model};
pub use model_pack::media_type;
pub use unpack::{MAX_UNPACKED_BYTES, unpack};
pub use weights_tar::MAX_WEIGHTS_BYTES;
