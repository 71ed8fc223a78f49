//! Saving and loading models.

use kaizen_core::record::{Algorithm, Model};
use kaizen_core::{
    ArtifactStore, Bytes, Digest, Error, ErrorKind, Payload, Records, Result, Signature, Stored,
    media_type,
};

use crate::fetch;
use crate::model_pack::{self, ModelPack};

/// The most bytes of the encoder of a model: 64 MiB.
const MAX_ENCODER_BYTES: u64 = 64 << 20;

/// What a model is saved from.
#[derive(Clone, Debug)]
pub struct ModelParts {
    /// The model's name, the same for all its versions; 1 to 128 bytes without control characters.
    pub name: String,
    /// The training set.
    pub training_set: Digest,
    /// How it was trained.
    pub algorithm: Algorithm,
    /// The seed of everything that was drawn.
    pub seed: u64,
    /// What it takes and gives.
    pub signature: Signature,
    /// The digest of the feature service whose columns it takes.
    pub service: Digest,
    /// The format of the weights, such as `forust-json`: 1 to 64 of `a-z 0-9 . _ -`.
    pub format: String,
    /// The preprocessing as JSON.
    pub encoder: Bytes,
    /// The weights in that format, at most [`MAX_WEIGHTS_BYTES`](crate::MAX_WEIGHTS_BYTES).
    pub weights: Bytes,
}

/// A model as it was read; every part matched its digest.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StoredModel {
    /// The digest of the model's record.
    pub id: Digest,
    /// The record.
    pub record: Model,
    /// The preprocessing as JSON.
    pub encoder: Bytes,
    /// The weights in the record's format.
    pub weights: Bytes,
}

/// Stores a model and gives the digest of its record. Equal parts give an equal digest.
///
/// Two manifests come of it: the weights as a CNCF `ModelPack` artefact, which other tools can
/// read, and the [`Model`] record with the first as its subject. A name or a format that does not
/// fit is [`ErrorKind::Invalid`]; too many bytes are [`ErrorKind::Limit`].
pub async fn save_model(store: &dyn ArtifactStore, parts: ModelParts) -> Result<Digest> {
    let name = &parts.name;
    if name.is_empty() || name.len() > 128 || name.chars().any(char::is_control) {
        return Err(Error::invalid(format!(
            "model name {name:?}: not 1 to 128 bytes without control characters"
        )));
    }
    if parts.encoder.len() as u64 > MAX_ENCODER_BYTES {
        let found = parts.encoder.len();
        let message = format!("encoder of model `{name}`: {found} bytes");
        return Err(Error::new(ErrorKind::Limit, message));
    }
    let weights = model_pack::save(store, name, &parts.format, parts.weights).await?;
    let record = Model {
        name: parts.name,
        training_set: parts.training_set,
        algorithm: parts.algorithm,
        seed: parts.seed,
        signature: parts.signature,
        service: parts.service,
        format: parts.format,
        weights,
    };
    let encoder = Payload::new(Model::ENCODER, media_type::JSON, parts.encoder);
    let id = store.put(&record, &[encoder]).await?;
    tracing::debug!(model = %id, name = %record.name, "model saved");
    Ok(id)
}

/// Reads a model. Whatever the store promises, each part is checked against its digest: one that
/// was changed is [`ErrorKind::Corrupt`], and the message names it.
pub async fn load_model(store: &dyn ArtifactStore, id: &Digest) -> Result<StoredModel> {
    let (stored, encoder, pack) = load_parts(store, id).await?;
    let weights = pack.weights;
    Ok(StoredModel { id: *id, record: stored.record, encoder, weights })
}

/// Reads a model with the manifests that lead to its parts.
pub(crate) async fn load_parts(
    store: &dyn ArtifactStore,
    id: &Digest,
) -> Result<(Stored<Model>, Bytes, ModelPack)> {
    let what = format!("model {id}");
    let stored: Stored<Model> = fetch::record(store, id).await?;
    if stored.manifest.subject.as_ref().map(|subject| subject.digest) != Some(stored.record.weights)
    {
        return Err(Error::corrupt(format!("{what}: its subject is not its weights")));
    }
    let layer = stored.manifest.layers.iter().find(|layer| layer.title() == Some(Model::ENCODER));
    let Some(layer) = layer else {
        return Err(Error::corrupt(format!("{what}: it has no payload `{}`", Model::ENCODER)));
    };
    let payload = format!("{what}, payload `{}`", Model::ENCODER);
    let encoder = fetch::described(store, layer, MAX_ENCODER_BYTES, &payload).await?;
    let weights = &stored.record.weights;
    let pack = model_pack::load(store, weights, &stored.record.format, &what).await?;
    Ok((stored, encoder, pack))
}
