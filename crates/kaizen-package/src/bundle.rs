//! Reading the model that is inside an image.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use kaizen_core::record::{self, Release};
use kaizen_core::{
    ArtifactStore, ByteStream, Bytes, Digest, Error, ErrorKind, Manifest, Record, Result,
    async_trait, stream,
};

use crate::closure::FOLDER;
use crate::files::{self, MAX_FILE_BYTES, blocking};
use crate::{layout, media_type, model_pack, weights_tar};

/// The folder `/model` of an image as a store that can only be read.
///
/// A served program opens it and loads its release from it, as it would from any other store.
/// Every blob is verified as it is read; the archive of the weights is made again from the file
/// that the host unpacked, and must have the digest that the model names. So a file that was
/// changed is [`ErrorKind::Corrupt`], and the message names the file. Which release it is, the
/// bundle says itself: a host that expects a certain one compares [`release`](Self::release).
#[derive(Clone, Debug)]
pub struct Bundle {
    folder: PathBuf,
    release: Digest,
    manifests: BTreeMap<Digest, Manifest>,
    /// The archives that are made again: digest, path in the archive.
    archives: BTreeMap<Digest, String>,
}

impl Bundle {
    /// The most manifests in a bundle.
    const MAX_MANIFESTS: usize = 1_000;

    /// Opens the folder and verifies its manifests. It holds exactly one release.
    pub async fn open(folder: impl Into<PathBuf>) -> Result<Self> {
        let folder = folder.into();
        blocking(move || Self::read(folder)).await
    }

    /// The release that the bundle holds.
    pub fn release(&self) -> Digest {
        self.release
    }

    fn read(folder: PathBuf) -> Result<Self> {
        let listed = layout::read_index(&folder)?.manifests;
        let what = format!("bundle {}", folder.display());
        if listed.len() > Self::MAX_MANIFESTS {
            return Err(Error::corrupt(format!("{what}: {} manifests", listed.len())));
        }
        let (mut manifests, mut archives) = (BTreeMap::new(), BTreeMap::new());
        let mut releases = Vec::new();
        for descriptor in listed {
            let bytes = blob(&folder, &descriptor.digest)?;
            let manifest = Manifest::parse(&bytes)?;
            let kind = manifest.artifact_type.as_deref().unwrap_or_default();
            if kind == media_type::MODEL {
                let what = format!("{what}, weights {}", descriptor.digest);
                let (_, layer, path) = model_pack::parse(&bytes, &what)?;
                archives.insert(layer.digest, weights_tar::checked_path(&path, &what)?);
            } else if kind == record::artifact_type(Release::KIND) {
                releases.push(descriptor.digest);
            }
            manifests.insert(descriptor.digest, manifest);
        }
        let [release] = releases[..] else {
            return Err(Error::corrupt(format!("{what}: {} releases, not one", releases.len())));
        };
        Ok(Self { folder, release, manifests, archives })
    }

    fn archive(folder: &Path, digest: &Digest, path: &str) -> Result<Bytes> {
        let file = folder.join(path.strip_prefix(FOLDER).unwrap_or(path).trim_start_matches('/'));
        let weights = files::read(&file, weights_tar::MAX_WEIGHTS_BYTES)?;
        let archive = weights_tar::write(path, &weights)?;
        digest.check(&archive, &format!("weights {}", file.display()))?;
        Ok(archive.into())
    }

    fn read_only<T>(&self) -> Result<T> {
        let message = format!("bundle {}: it can only be read", self.folder.display());
        Err(Error::new(ErrorKind::Unsupported, message))
    }
}

fn blob(folder: &Path, digest: &Digest) -> Result<Bytes> {
    let file = folder.join(layout::blob_path(digest));
    let bytes = files::read(&file, MAX_FILE_BYTES)?;
    digest.check(&bytes, &format!("{}", file.display()))?;
    Ok(bytes)
}

#[async_trait]
impl ArtifactStore for Bundle {
    async fn put_stream(&self, _: ByteStream, _expected: Option<&Digest>) -> Result<Digest> {
        self.read_only()
    }

    async fn get_stream(&self, digest: &Digest) -> Result<ByteStream> {
        Ok(stream::chunked(self.get_blob(digest).await?, 1 << 20))
    }

    async fn size_of(&self, digest: &Digest) -> Result<Option<u64>> {
        if self.archives.contains_key(digest) {
            let mut layers = self.manifests.values().flat_map(|manifest| &manifest.layers);
            return Ok(layers.find(|layer| layer.digest == *digest).map(|layer| layer.size));
        }
        let file = self.folder.join(layout::blob_path(digest));
        blocking(move || match fs::metadata(&file) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            read => Ok(Some(files::at(read, &file)?.len())),
        })
        .await
    }

    async fn get_blob(&self, digest: &Digest) -> Result<Bytes> {
        let (folder, digest) = (self.folder.clone(), *digest);
        let archive = self.archives.get(&digest).cloned();
        blocking(move || match archive {
            Some(path) => Self::archive(&folder, &digest, &path),
            None => blob(&folder, &digest),
        })
        .await
    }

    async fn put_manifest(&self, _manifest: Bytes) -> Result<Digest> {
        self.read_only()
    }

    async fn referrers(&self, subject: &Digest) -> Result<Vec<Digest>> {
        let about = self.manifests.iter().filter(|(_, manifest)| {
            manifest.subject.as_ref().is_some_and(|named| named.digest == *subject)
        });
        Ok(about.map(|(digest, _)| *digest).collect())
    }

    async fn manifests(&self) -> Result<Vec<Digest>> {
        Ok(self.manifests.keys().copied().collect())
    }

    async fn blobs(&self) -> Result<Vec<(Digest, u64)>> {
        let folder = self.folder.join(layout::BLOBS);
        let listed = blocking(move || {
            let names = files::at(fs::read_dir(&folder), &folder)?;
            let mut found = BTreeSet::new();
            for name in names {
                let name = files::at(name, &folder)?.file_name();
                found.extend(format!("sha256:{}", name.to_string_lossy()).parse::<Digest>());
            }
            Ok(found)
        })
        .await?;
        let all: BTreeSet<_> = listed.into_iter().chain(self.archives.keys().copied()).collect();
        let mut sized = Vec::with_capacity(all.len());
        for digest in all {
            sized.extend(self.size_of(&digest).await?.map(|size| (digest, size)));
        }
        Ok(sized)
    }
}
