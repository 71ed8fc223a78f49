//! Making a container image out of an executable and a release.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use kaizen_core::record::Image;
use kaizen_core::{
    ArtifactStore, Bytes, Context, Descriptor, Digest, Error, ErrorKind, Manifest, Records, Result,
    Timestamp,
};

use crate::closure::Closure;
use crate::elf::{Elf, Machine};
use crate::files::{self, MAX_FILE_BYTES, blocking};
use crate::image_config::{Empty, Execution, History, ImageConfig, RootFs};
use crate::layer::{Layer, Packed};
use crate::{libraries, media_type};

const TITLE: &str = kaizen_core::media_type::TITLE;
/// The annotation that holds the release's version.
pub(crate) const VERSION: &str = "org.opencontainers.image.version";
const REVISION: &str = "org.opencontainers.image.revision";

/// The variable that tells the program in the image where its model is.
const MODEL_DIR: &str = "KAIZEN_MODEL_DIR";
/// The variable that tells the loader of further folders of libraries.
const LIBRARY_PATH: &str = "LD_LIBRARY_PATH";

/// Makes a container image from an executable and a release, without Docker and without a base
/// image. Equal inputs give an equal image, byte for byte: times, users and folders of the machine
/// that makes it do not enter.
///
/// The image has four layers:
///
/// 1. the base: `/tmp`, `/etc/passwd`, `/etc/group`, and for a dynamic executable its loader and
///    the libraries that it and they need, where the loader looks for them;
/// 2. the executable, `/app/<name>`;
/// 3. the release, its model and their manifests under `/model`, which [`Bundle`](crate::Bundle)
///    reads;
/// 4. the weights, the same blob as the layer of the model's `ModelPack` artefact.
///
/// Libraries that a program opens by name while it runs (`dlopen`) are not found. The container
/// runs as root unless the host says otherwise; nothing in it needs that.
///
/// ```no_run
/// # async fn f(store: &dyn kaizen_core::ArtifactStore, release: kaizen_core::Digest)
/// # -> kaizen_core::Result<()> {
/// use kaizen_package::ImageBuilder;
///
/// let image = ImageBuilder::new("target/release/late")
///     .release(release)
///     .revision("4f2c7d1")
///     .env("RUST_LOG", "info")
///     .build(store)
///     .await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct ImageBuilder {
    executable: PathBuf,
    release: Option<Digest>,
    name: Option<String>,
    command: Vec<String>,
    env: BTreeMap<String, String>,
    port: u16,
    annotations: BTreeMap<String, String>,
    created: Timestamp,
}

/// The layers that come from local files.
struct Program {
    machine: Machine,
    path: String,
    library_path: Vec<String>,
    base: Packed,
    app: Packed,
}

impl ImageBuilder {
    /// An image of this executable (ELF, 64 bit, for Linux on x86-64 or ARM). It listens on port
    /// 8080, and its command is `serve`.
    pub fn new(executable: impl Into<PathBuf>) -> Self {
        Self {
            executable: executable.into(),
            release: None,
            name: None,
            command: vec!["serve".to_owned()],
            env: BTreeMap::new(),
            port: 8080,
            annotations: BTreeMap::new(),
            created: Timestamp::from_micros(0),
        }
    }

    /// The [`Release`](kaizen_core::record::Release) that the image serves. There must be one.
    #[must_use]
    pub fn release(self, release: Digest) -> Self {
        Self { release: Some(release), ..self }
    }

    /// Names the executable in the image: 1 to 100 of `A-Z a-z 0-9 . _ -`, a letter or digit
    /// first. Without it, the executable keeps its file name.
    #[must_use]
    pub fn name(self, name: impl Into<String>) -> Self {
        Self { name: Some(name.into()), ..self }
    }

    /// The arguments that the executable gets unless the host gives others.
    #[must_use]
    pub fn command<T: Into<String>>(self, arguments: impl IntoIterator<Item = T>) -> Self {
        Self { command: arguments.into_iter().map(Into::into).collect(), ..self }
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.insert(name.into(), value.into());
        self
    }

    /// The TCP port that the image declares; a hint for hosts.
    #[must_use]
    pub fn port(self, port: u16) -> Self {
        Self { port, ..self }
    }

    /// Adds an annotation, such as `org.opencontainers.image.source`; it is set as a label too.
    /// Title and version come from the release.
    #[must_use]
    pub fn annotation(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.annotations.insert(key.into(), value.into());
        self
    }

    /// The commit that the executable was built from.
    #[must_use]
    pub fn revision(self, commit: impl Into<String>) -> Self {
        self.annotation(REVISION, commit)
    }

    /// When the image says that it was made; the epoch by default, since the clock would make each
    /// image another. Hosts that follow `SOURCE_DATE_EPOCH` pass it here.
    #[must_use]
    pub fn created(self, created: Timestamp) -> Self {
        Self { created, ..self }
    }

    /// Makes the image, stores it and gives the digest of its [`Image`] record.
    ///
    /// The release and its model are verified first. A missing library is
    /// [`ErrorKind::NotFound`], and the message names it and what needs it; an executable of
    /// another kind is [`ErrorKind::Unsupported`]; a file above
    /// [`MAX_FILE_BYTES`] is [`ErrorKind::Limit`]. On
    /// an error no image is stored, though blobs of it may be.
    pub async fn build(&self, store: &dyn ArtifactStore) -> Result<Digest> {
        let release_id = self.check()?;
        let closure = Closure::collect(store, &release_id).await?;
        let executable = self.executable.clone();
        let path = format!("app/{}", self.program_name()?);
        let layer = closure.layer()?;
        let (program, release) = blocking(move || {
            let program = Program::read(&executable, path)?;
            Ok((program, layer.pack("release")?))
        })
        .await?;

        let mut annotations = self.annotations.clone();
        annotations.insert(TITLE.to_owned(), closure.release.name.clone());
        annotations.insert(VERSION.to_owned(), closure.release.version.to_string());
        let mut weights = closure.pack.layer.clone();
        weights.media_type = media_type::LAYER.to_owned();
        weights.annotations.clear();
        let layers = [
            ("base", program.base.diff_id, program.base.descriptor.clone()),
            ("program", program.app.diff_id, program.app.descriptor.clone()),
            ("release", release.diff_id, release.descriptor.clone()),
            ("weights", weights.digest, weights),
        ];
        let config = self.config(&program, &annotations, &layers);
        let platform = format!("{}/{}", config.os, config.architecture);
        let config: Bytes = serde_json::to_vec(&config)
            .context(ErrorKind::Internal, "image configuration as JSON")?
            .into();
        let described = Descriptor::of(media_type::IMAGE_CONFIG, &config);
        let mut manifest = Manifest::new(described, layers.map(|(_, _, layer)| layer).into());
        manifest.annotations = annotations;

        let weights = closure.pack.archive.clone();
        for blob in [program.base.bytes, program.app.bytes, release.bytes, weights, config] {
            store.put_blob(blob).await?;
        }
        let manifest = store.put_manifest(manifest.to_bytes()?.into()).await?;
        tracing::debug!(%manifest, release = %release_id, platform, "image made");
        store.put(&Image { release: release_id, manifest, platform }, &[]).await
    }

    fn check(&self) -> Result<Digest> {
        for name in self.env.keys() {
            if name.is_empty() || name.contains(['=', '\0']) {
                return Err(Error::invalid(format!("environment variable {name:?}: not a name")));
            }
        }
        let missing = || format!("image of {}: no release", self.executable.display());
        self.release.context(ErrorKind::Invalid, missing())
    }

    fn program_name(&self) -> Result<String> {
        let own = || self.executable.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let name = self.name.as_deref().unwrap_or_else(own);
        let fits = name.len() <= 100
            && name.starts_with(|c: char| c.is_ascii_alphanumeric())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        if fits {
            return Ok(name.to_owned());
        }
        Err(Error::invalid(format!(
            "name of the executable {name:?}: not 1 to 100 of A-Z a-z 0-9 . _ -"
        )))
    }

    fn config(
        &self,
        program: &Program,
        labels: &BTreeMap<String, String>,
        layers: &[(&str, Digest, Descriptor)],
    ) -> ImageConfig {
        let mut env = BTreeMap::from([(MODEL_DIR.to_owned(), "/model".to_owned())]);
        if !program.library_path.is_empty() {
            env.insert(LIBRARY_PATH.to_owned(), program.library_path.join(":"));
        }
        env.extend(self.env.clone());
        let created = Some(self.created.to_string());
        let history = layers.iter().map(|(name, _, _)| History {
            created: created.clone(),
            created_by: Some(format!("kaizen: {name}")),
        });
        ImageConfig {
            created: created.clone(),
            architecture: program.machine.architecture().to_owned(),
            os: "linux".to_owned(),
            config: Execution {
                exposed_ports: BTreeMap::from([(format!("{}/tcp", self.port), Empty {})]),
                env: env.into_iter().map(|(name, value)| format!("{name}={value}")).collect(),
                entrypoint: vec![format!("/{}", program.path)],
                cmd: self.command.clone(),
                working_dir: "/".to_owned(),
                labels: labels.clone(),
            },
            rootfs: RootFs {
                kind: "layers".to_owned(),
                diff_ids: layers.iter().map(|(_, diff_id, _)| *diff_id).collect(),
            },
            history: history.collect(),
        }
    }
}

impl Program {
    /// Reads the executable, which will be at `path` in the image, and what it needs.
    fn read(executable: &Path, path: String) -> Result<Self> {
        let what = format!("executable {}", executable.display());
        let executable = files::at(executable.canonicalize(), executable)?;
        let bytes = files::read(&executable, MAX_FILE_BYTES)?;
        let elf = Elf::parse(&bytes, &what)?;
        if !elf.executable {
            let message = format!("{what}: a library or object file, not an executable");
            return Err(Error::new(ErrorKind::Unsupported, message));
        }
        let machine = elf.machine;
        let found = libraries::resolve(elf, &executable, &format!("/{path}"))?;
        let mut base = Layer::default();
        base.folder("tmp", 0o1777);
        base.file("etc/passwd", 0o644, Bytes::from_static(PASSWD.as_bytes()));
        base.file("etc/group", 0o644, Bytes::from_static(GROUP.as_bytes()));
        for (library, bytes) in found.files {
            base.file(library.trim_start_matches('/'), 0o755, bytes);
        }
        let mut app = Layer::default();
        app.file(&path, 0o755, bytes);
        let (base, app) = (base.pack("base")?, app.pack("program")?);
        Ok(Self { machine, path, library_path: found.extra_folders, base, app })
    }
}

const PASSWD: &str =
    "root:x:0:0:root:/:/sbin/nologin\nnobody:x:65534:65534:nobody:/:/sbin/nologin\n";
const GROUP: &str = "root:x:0:\nnogroup:x:65534:\n";
