//! Serves releases over HTTP: the Open Inference Protocol V2 and a weighted router.
//!
//! *You are here:* data → train → eval → store → package → deploy → **serve** → drift.\
//! *Takes:* a [`Release`](kaizen_core::record::Release) from any
//! [`ArtifactStore`](kaizen_core::ArtifactStore), loaded into a [`Servable`].\
//! *Gives:* scores to whoever asks, and each prediction to the log that drift is found in.\
//! *Touches the world through:* `ArtifactStore`, [`Clock`](kaizen_core::Clock),
//! [`PredictionSink`](kaizen_table::PredictionSink), and the socket of a [`Server`].
//!
//! # The protocol
//!
//! | route | answer |
//! |---|---|
//! | `GET /v2` | the server's name and version |
//! | `GET /v2/health/live` | 200 |
//! | `GET /v2/health/ready` | 200 if a release has traffic, 503 otherwise |
//! | `GET /v2/models/{name}[/versions/{v}]` | inputs and output of the model |
//! | `GET /v2/models/{name}[/versions/{v}]/ready` | 200, 404 if it is not loaded, 503 without traffic |
//! | `POST /v2/models/{name}[/versions/{v}]/infer` | the scores |
//!
//! Inputs are one tensor per column of the signature, in any order, of shape `[rows]` or
//! `[rows, 1]`; the output is `score`, FP64, of shape `[rows]`. Tensors are JSON; the binary
//! extension is refused with a message that says so. Integers are taken where the signature says
//! FP64. Beyond the protocol:
//!
//! * a `null` in `data` is a missing value;
//! * an optional tensor `prediction_id` (BYTES, one distinct id per row) names the predictions;
//!   without it a row is named `{id of the request}/{row}`, and a request without an id gets one;
//! * rows of one request may be answered by several versions, if the router divides the traffic. The
//!   response's parameters `versions` and `releases` list them, and `model_version` is there if it
//!   was one. A path with a version asks that version, whether it has traffic or not.
//!
//! An error is a status and `{"error": "…"}` that names the tensor at fault: 400 for what is wrong,
//! 404 for what is not there, 413 for what is too much, 503 for what may work later. **A prediction
//! that could not be logged is not given**: that is a 503 too.
//!
//! # Example
//!
//! ```
//! use std::collections::BTreeMap;
//! use std::sync::Arc;
//!
//! use kaizen_core::record::{Algorithm, Release};
//! use kaizen_core::{Bytes, DataType, Digest, Field, Records, Signature, SystemClock};
//! use kaizen_package::{ModelParts, save_model};
//! use kaizen_serve::{JsonLines, Router, Servable, Server, app};
//! use kaizen_testkit::MemoryStore;
//! # use kaizen_core::Result;
//! # use kaizen_table::ndarray::{Array1, ArrayView2};
//! # use kaizen_table::{Formats, Loader, Predictor};
//! # /// Answers the same for every row.
//! # #[derive(Debug)]
//! # struct Constant(f64);
//! # impl Predictor for Constant {
//! #     fn format(&self) -> &str {
//! #         "constant"
//! #     }
//! #     fn predict(&self, x: ArrayView2<f64>) -> Result<Array1<f64>> {
//! #         Ok(Array1::from_elem(x.nrows(), self.0))
//! #     }
//! #     fn to_bytes(&self) -> Result<Vec<u8>> {
//! #         Ok(self.0.to_le_bytes().to_vec())
//! #     }
//! # }
//! # #[derive(Debug)]
//! # struct LoadConstant;
//! # impl Loader for LoadConstant {
//! #     fn format(&self) -> &str {
//! #         "constant"
//! #     }
//! #     fn load(&self, bytes: &[u8]) -> Result<Arc<dyn Predictor>> {
//! #         let mut value = [0; 8];
//! #         value.copy_from_slice(bytes);
//! #         Ok(Arc::new(Constant(f64::from_le_bytes(value))))
//! #     }
//! # }
//! # let formats = Formats::default().with(LoadConstant);
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
//! // A model that always answers 0.25, and a release of it.
//! let store = MemoryStore::default();
//! let service = Digest::of("the feature service");
//! let parts = ModelParts {
//!     name: "late".into(),
//!     training_set: Digest::of("the training set"),
//!     algorithm: Algorithm { name: "constant".into(), settings: BTreeMap::new() },
//!     seed: 0,
//!     signature: Signature::new(vec![Field::new("wind", DataType::Float64)], vec![])?,
//!     service,
//!     format: "constant".into(),
//!     encoder: Bytes::from_static(br#"{"columns":[{"name":"wind","data_type":"float64"}]}"#),
//!     weights: Bytes::copy_from_slice(&0.25_f64.to_le_bytes()),
//! };
//! let model = save_model(&store, parts).await?;
//! let release = Release { name: "late".into(), version: 1, model, service, functions: vec![] };
//! let release = store.put(&release, &[]).await?;
//!
//! // Load it, give it all traffic, serve it.
//! let router = Arc::new(Router::new("late"));
//! router.set("blue", Arc::new(Servable::load(&store, &release, &formats).await?))?;
//! router.shift(&BTreeMap::from([("blue".to_owned(), 100)]))?;
//! let sink = Arc::new(JsonLines::new(std::io::stdout()));
//! let server = Server::bind("127.0.0.1:0", app(router, sink, Arc::new(SystemClock))).await?;
//!
//! let url = format!("http://{}/v2/models/late/infer", server.local_addr());
//! let body = r#"{"inputs": [
//!     {"name": "wind", "shape": [2], "datatype": "FP64", "data": [7.5, null]}
//! ]}"#;
//! let answer = reqwest::Client::new().post(url).body(body).send().await?;
//! let answer: serde_json::Value = answer.json().await?;
//! assert_eq!(answer["outputs"][0]["data"], serde_json::json!([0.25, 0.25]));
//! server.shutdown().await?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod app;
mod bundle;
mod infer;
mod json_lines;
mod router;
mod servable;
mod server;
mod tensor;

pub use app::{Limits, app, app_within};
pub use bundle::serve_bundle;
pub use json_lines::JsonLines;
pub use router::Router;
pub use servable::Servable;
pub use server::Server;

// The type that `app` gives.
pub use axum;
