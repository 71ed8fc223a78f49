//! OCI image layouts: the mini layout inside an image, and an image as a folder for other tools.

use std::fs;
use std::path::{Path, PathBuf};

use kaizen_core::record::Image;
use kaizen_core::{
    ArtifactStore, Bytes, Context, Descriptor, Digest, Error, ErrorKind, Manifest, Result,
    media_type,
};
use serde::{Deserialize, Serialize};

use crate::fetch;
use crate::files::{self, MAX_FILE_BYTES, at, blocking};
use crate::image::VERSION;

/// The name and content of the file that marks a layout.
pub(crate) const MARK: (&str, &[u8]) = ("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#);
/// The name of the file that lists the manifests.
pub(crate) const INDEX: &str = "index.json";
/// The annotation by which a tool finds an image in a layout.
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// The list of manifests of a layout.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Index {
    schema_version: u32,
    media_type: String,
    pub(crate) manifests: Vec<Descriptor>,
}

impl Index {
    pub(crate) fn new(manifests: Vec<Descriptor>) -> Self {
        Self { schema_version: 2, media_type: media_type::INDEX.to_owned(), manifests }
    }

    pub(crate) fn to_bytes(&self) -> Result<Bytes> {
        let bytes = serde_json::to_vec(self).context(ErrorKind::Internal, "index as JSON")?;
        Ok(bytes.into())
    }
}

/// The folder in which a layout keeps its blobs.
pub(crate) const BLOBS: &str = "blobs/sha256";

/// Where a layout keeps a blob.
pub(crate) fn blob_path(digest: &Digest) -> String {
    format!("{BLOBS}/{}", digest.hex())
}

/// Copies a container image into an empty folder as an OCI image layout, which `skopeo`, `umoci`
/// and their like read. `image` is the digest of an [`Image`] record; the tag is the release's
/// version.
///
/// A folder that is not empty is [`ErrorKind::AlreadyExists`]. The index is written last: a folder
/// without it was not finished.
pub async fn export_layout(
    store: &dyn ArtifactStore,
    image: &Digest,
    folder: impl AsRef<Path>,
) -> Result<()> {
    let record = fetch::record::<Image>(store, image).await?.record;
    let what = format!("image {image}, manifest");
    let bytes = fetch::blob(store, &record.manifest, &what).await?;
    let manifest = Manifest::parse(&bytes)?;
    let folder = folder.as_ref().to_owned();
    let made = folder.clone();
    blocking(move || {
        files::fresh_folder(&made)?;
        let blobs = made.join(BLOBS);
        at(fs::create_dir_all(&blobs), &blobs)
    })
    .await?;
    for blob in manifest.blobs() {
        let what = format!("image {image}, blob {}", blob.digest);
        let bytes = fetch::described(store, blob, MAX_FILE_BYTES, &what).await?;
        write(folder.join(blob_path(&blob.digest)), bytes).await?;
    }
    let mut listed = Descriptor::of(media_type::MANIFEST, &bytes);
    if let Some(version) = manifest.annotations.get(VERSION) {
        listed = listed.annotate(REF_NAME, version);
    }
    write(folder.join(blob_path(&record.manifest)), bytes).await?;
    write(folder.join(MARK.0), Bytes::from_static(MARK.1)).await?;
    write(folder.join(INDEX), Index::new(vec![listed]).to_bytes()?).await
}

async fn write(path: PathBuf, bytes: Bytes) -> Result<()> {
    blocking(move || at(fs::write(&path, &bytes), &path)).await
}

/// Reads the index of a layout.
pub(crate) fn read_index(folder: &Path) -> Result<Index> {
    let path = folder.join(INDEX);
    let bytes = files::read(&path, Manifest::MAX_BYTES as u64)?;
    let index: Index = serde_json::from_slice(&bytes)
        .context(ErrorKind::Corrupt, format!("{}: not an OCI index", path.display()))?;
    if index.schema_version != 2 {
        return Err(Error::corrupt(format!("{}: not an OCI index", path.display())));
    }
    Ok(index)
}
