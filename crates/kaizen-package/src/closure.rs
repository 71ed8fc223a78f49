//! All that a prediction needs, read from a store and verified: what an image carries.

use std::collections::BTreeMap;

use kaizen_core::record::Release;
use kaizen_core::{
    ArtifactStore, Bytes, Descriptor, Digest, Error, ErrorKind, Manifest, Record, Result, compute,
    media_type,
};

use crate::fetch;
use crate::layer::Layer;
use crate::layout::{self, Index};
use crate::model::load_parts;
use crate::model_pack::ModelPack;
use crate::weights_tar;

/// The most bytes of a payload of a release or a model in an image: 64 MiB. Larger things belong
/// into the weights.
const MAX_PAYLOAD_BYTES: u64 = 64 << 20;

/// The folder of the model in an image, without the leading `/`.
pub(crate) const FOLDER: &str = "model";

/// A release with its model, but for the weights as small blobs.
pub(crate) struct Closure {
    pub(crate) release: Release,
    pub(crate) pack: ModelPack,
    blobs: BTreeMap<Digest, Bytes>,
    manifests: Vec<Descriptor>,
}

impl Closure {
    /// Reads a release and its model.
    pub(crate) async fn collect(store: &dyn ArtifactStore, id: &Digest) -> Result<Self> {
        let release = fetch::record::<Release>(store, id).await?;
        let model = release.record.model;
        let (stored, _, pack) = load_parts(store, &model).await?;
        if release.record.service != stored.record.service {
            return Err(Error::invalid(format!(
                "release {id}: its feature service is not that of its model {model}"
            )));
        }
        let pack = rebuildable(pack, format!("weights of model {model}")).await?;
        let weights = stored.record.weights;
        let mut closure =
            Self { release: release.record, pack, blobs: BTreeMap::new(), manifests: Vec::new() };
        closure.add(store, id, Release::KIND).await?;
        closure.add(store, &model, kaizen_core::record::Model::KIND).await?;
        let manifest = closure.pack.manifest.clone();
        let (config, bytes) = closure.pack.config.clone();
        closure.blobs.insert(config, bytes);
        closure.list(weights, manifest)?;
        Ok(closure)
    }

    /// Adds a record: manifest, body and payloads.
    async fn add(&mut self, store: &dyn ArtifactStore, id: &Digest, kind: &str) -> Result<()> {
        let what = format!("{kind} {id}");
        let bytes = fetch::blob(store, id, &what).await?;
        let manifest = Manifest::parse(&bytes)?;
        for blob in manifest.blobs() {
            let what = format!("{what}, blob {}", blob.digest);
            let bytes = fetch::described(store, blob, MAX_PAYLOAD_BYTES, &what).await?;
            self.blobs.insert(blob.digest, bytes);
        }
        self.list(*id, bytes)
    }

    fn list(&mut self, id: Digest, manifest: Bytes) -> Result<()> {
        let mut listed = Descriptor::of(media_type::MANIFEST, &manifest);
        listed.artifact_type = Manifest::parse(&manifest)?.artifact_type;
        self.manifests.push(listed);
        self.blobs.insert(id, manifest);
        Ok(())
    }

    /// The layer that holds the small blobs as an OCI layout. The weights are not in it: they are
    /// a layer of their own, unpacked beside it.
    pub(crate) fn layer(&self) -> Result<Layer> {
        let mut layer = Layer::default();
        layer.folder(weights_tar::FOLDER.trim_end_matches('/'), 0o755);
        let mut add = |path: &str, bytes: Bytes| {
            layer.file(&format!("{FOLDER}/{path}"), 0o644, bytes);
        };
        add(layout::MARK.0, Bytes::from_static(layout::MARK.1));
        add(layout::INDEX, Index::new(self.manifests.clone()).to_bytes()?);
        for (digest, bytes) in &self.blobs {
            add(&layout::blob_path(digest), bytes.clone());
        }
        Ok(layer)
    }
}

/// Refuses weights whose archive is not the one that a bundle would rebuild from the file.
async fn rebuildable(pack: ModelPack, what: String) -> Result<ModelPack> {
    compute(move || {
        if weights_tar::write(&pack.path, &pack.weights)? == pack.archive {
            return Ok(pack);
        }
        let message = format!("{what}: their archive has other metadata than Kaizen writes");
        Err(Error::new(ErrorKind::Unsupported, message))
    })
    .await
}
