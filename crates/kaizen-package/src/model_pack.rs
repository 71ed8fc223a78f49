//! The CNCF `ModelPack` artefact that holds a model's weights.

use kaizen_core::{
    ArtifactStore, Bytes, Context, Descriptor, Digest, Error, ErrorKind, Manifest, Result, compute,
};
use serde::{Deserialize, Serialize};

use crate::{fetch, weights_tar};

/// Media types and annotation keys of model artefacts and container images.
pub mod media_type {
    /// The artefact type of a `ModelPack` manifest.
    pub const MODEL: &str = "application/vnd.cncf.model.manifest.v1+json";
    /// The body of a `ModelPack` manifest.
    pub const MODEL_CONFIG: &str = "application/vnd.cncf.model.config.v1+json";
    /// Weights in a tar archive that is not compressed.
    pub const MODEL_WEIGHTS: &str = "application/vnd.cncf.model.weight.v1.tar";
    /// The annotation that says at which path a `ModelPack` layer holds its file.
    pub const MODEL_FILE_PATH: &str = "org.cncf.model.filepath";
    /// The configuration of a container image.
    pub const IMAGE_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    /// An image layer that is not compressed.
    pub const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
    /// An image layer compressed by gzip.
    pub const LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
}

/// The most bytes of the body of a `ModelPack` manifest.
const MAX_CONFIG_BYTES: u64 = 1 << 20;

/// The body of the manifest. Nothing in it says when it was made.
#[derive(Serialize, Deserialize)]
struct Config {
    descriptor: About,
    config: Technical,
    modelfs: ModelFs,
}

#[derive(Serialize, Deserialize)]
struct About {
    name: String,
}

#[derive(Serialize, Deserialize)]
struct Technical {
    format: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ModelFs {
    #[serde(rename = "type")]
    kind: String,
    diff_ids: Vec<Digest>,
}

/// A model's weights as they were read, verified.
pub(crate) struct ModelPack {
    /// The bytes of the manifest.
    pub(crate) manifest: Bytes,
    /// The digest and the bytes of its body.
    pub(crate) config: (Digest, Bytes),
    /// The layer.
    pub(crate) layer: Descriptor,
    /// Where the file lies in the archive, and so in an image.
    pub(crate) path: String,
    /// The archive.
    pub(crate) archive: Bytes,
    /// The file in it.
    pub(crate) weights: Bytes,
}

/// Stores weights and gives the digest of their manifest.
pub(crate) async fn save(
    store: &dyn ArtifactStore,
    name: &str,
    format: &str,
    weights: Bytes,
) -> Result<Digest> {
    let path = weights_tar::path(format)?;
    let at = path.clone();
    let (archive, layer) = compute(move || {
        let archive = Bytes::from(weights_tar::write(&at, &weights)?);
        let layer = Descriptor::of(media_type::MODEL_WEIGHTS, &archive);
        Ok((archive, layer))
    })
    .await?;
    let config = Config {
        descriptor: About { name: name.to_owned() },
        config: Technical { format: format.to_owned() },
        modelfs: ModelFs { kind: "layers".to_owned(), diff_ids: vec![layer.digest] },
    };
    let config = serde_json::to_vec(&config)
        .context(ErrorKind::Internal, format!("model `{name}` as JSON"))?;
    let described = Descriptor::of(media_type::MODEL_CONFIG, &config);
    let layer = layer.annotate(media_type::MODEL_FILE_PATH, path);
    let mut manifest = Manifest::new(described, vec![layer]);
    manifest.artifact_type = Some(media_type::MODEL.to_owned());
    store.put_blob(archive).await?;
    store.put_blob(config.into()).await?;
    store.put_manifest(manifest.to_bytes()?.into()).await
}

/// Reads a manifest of weights, without the weights.
pub(crate) fn parse(bytes: &[u8], what: &str) -> Result<(Manifest, Descriptor, String)> {
    let manifest = Manifest::parse(bytes)?;
    if manifest.artifact_type.as_deref() != Some(media_type::MODEL) {
        return Err(Error::corrupt(format!("{what}: not a ModelPack manifest")));
    }
    let [layer] = manifest.layers.as_slice() else {
        let found = manifest.layers.len();
        return Err(Error::corrupt(format!("{what}: {found} layers, not one")));
    };
    if layer.media_type != media_type::MODEL_WEIGHTS {
        return Err(Error::corrupt(format!("{what}: its layer is {}", layer.media_type)));
    }
    let path = layer.annotations.get(media_type::MODEL_FILE_PATH);
    let path = path.context(ErrorKind::Corrupt, format!("{what}: its layer names no file"))?;
    let (layer, path) = (layer.clone(), path.clone());
    Ok((manifest, layer, path))
}

/// Reads and verifies weights of this format. `model` names the model in errors.
pub(crate) async fn load(
    store: &dyn ArtifactStore,
    id: &Digest,
    format: &str,
    model: &str,
) -> Result<ModelPack> {
    let what = format!("weights of {model}, manifest");
    let bytes = fetch::blob(store, id, &what).await?;
    let (manifest, layer, path) = parse(&bytes, &what)?;
    if path != weights_tar::path(format)? {
        return Err(Error::corrupt(format!("{what}: `{path}` is not of format {format}")));
    }
    let what = format!("weights of {model}, config");
    let config = fetch::described(store, &manifest.config, MAX_CONFIG_BYTES, &what).await?;
    let body: Config = serde_json::from_slice(&config).context(ErrorKind::Corrupt, &what)?;
    if body.config.format != format || body.modelfs.diff_ids != [layer.digest] {
        return Err(Error::corrupt(format!("{what}: it describes other weights")));
    }
    let what = format!("weights of {model}");
    let archive = fetch::described(store, &layer, weights_tar::MAX_TAR_BYTES, &what).await?;
    let weights = weights_tar::read(&archive, &path, &what)?;
    let config = (manifest.config.digest, config);
    Ok(ModelPack { manifest: bytes, config, layer, path, archive, weights })
}
