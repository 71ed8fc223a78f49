//! Where files are: a local folder, or a bucket of an object store.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use futures_util::TryStreamExt as _;
use kaizen_core::{Context, Error, ErrorKind, Result};
use object_store::path::Path as ObjectPath;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt as _};
use url::Url;

use crate::blocking::blocking;
use crate::source::glob::Glob;
use crate::source::input::{Input, Remote};
use crate::source::remote::shown;

/// At most this many files in a source.
const MAX_FILES: usize = 100_000;

/// At most this many files and folders are looked at to find them.
const MAX_SEEN: usize = 1_000_000;

/// At most this many folders lie in each other.
const MAX_DEPTH: usize = 64;

/// Some files below a root.
#[derive(Clone)]
pub(crate) struct Place {
    root: Root,
    which: Which,
}

impl fmt::Debug for Place {
    /// What the store itself would show may have its credentials in it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Place").field(&self.describe()).finish()
    }
}

#[derive(Clone)]
enum Root {
    Local(PathBuf),
    Remote { store: Arc<dyn ObjectStore>, prefix: ObjectPath, url: String },
}

#[derive(Clone)]
enum Which {
    One(String),
    All,
    Matching(Glob),
}

/// A file as it was listed.
#[derive(Clone, Debug)]
pub(crate) struct Listed {
    /// From the root, with `/`.
    pub(crate) path: String,
    pub(crate) size: u64,
    pub(crate) version: String,
    remote: Option<ObjectMeta>,
}

impl Place {
    /// What a path, a pattern or a URL stands for.
    pub(crate) async fn find(location: &Path, options: &BTreeMap<String, String>) -> Result<Self> {
        match location.to_str().filter(|text| text.contains("://")) {
            Some(text) if text.starts_with("file://") => {
                let place = shown(text);
                let url = Url::parse(text).context(ErrorKind::Invalid, format!("`{place}`"))?;
                let path = url.to_file_path().ok();
                let path = path.context(ErrorKind::Invalid, format!("`{place}`: not a path"))?;
                Self::local(&path)
            }
            Some(text) => Self::remote(text, options).await,
            None => Self::local(location),
        }
    }

    fn local(location: &Path) -> Result<Self> {
        let place = || format!("`{}`", location.display());
        let found = match fs::metadata(location) {
            Ok(metadata) => Some(metadata.is_dir()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(error).context(ErrorKind::Unavailable, place()),
        };
        let pattern = location.to_str().filter(|text| found.is_none() && Glob::is_glob(text));
        if let Some((base, glob)) = pattern.and_then(Glob::split) {
            let base = if base.is_empty() { "." } else { base };
            return Ok(Self { root: Root::Local(base.into()), which: Which::Matching(glob) });
        }
        if found == Some(true) {
            return Ok(Self { root: Root::Local(location.to_owned()), which: Which::All });
        }
        if found.is_none() {
            return Err(Error::not_found(format!("{}: nothing is there", place())));
        }
        let name = location.file_name().and_then(|name| name.to_str());
        let name = name.context(ErrorKind::Invalid, format!("{}: its name is no text", place()))?;
        let root = location.parent().filter(|path| !path.as_os_str().is_empty());
        let root = root.unwrap_or(Path::new(".")).to_owned();
        Ok(Self { root: Root::Local(root), which: Which::One(name.to_owned()) })
    }

    async fn remote(text: &str, options: &BTreeMap<String, String>) -> Result<Self> {
        let (base, glob) = match Glob::split(text) {
            Some((base, glob)) => (base, Some(glob)),
            None => (text, None),
        };
        let url = Url::parse(base).context(ErrorKind::Invalid, format!("`{}`", shown(text)))?;
        let (store, prefix) = crate::source::remote::open(&url, options)?;
        let found = Root::Remote { store: Arc::clone(&store), prefix, url: shown(base) };
        let Root::Remote { prefix, .. } = &found else { return Err(Error::internal("a root")) };
        if let Some(glob) = glob {
            return Ok(Self { root: found, which: Which::Matching(glob) });
        }
        if !prefix.is_root() && !base.ends_with('/') {
            match store.head(prefix).await {
                Ok(_) => {
                    let names: Vec<_> = prefix.parts().collect();
                    let (folders, name) = names.split_at(names.len() - 1);
                    let name = name.first().map(|part| part.as_ref().to_owned());
                    let root = Root::Remote {
                        store: Arc::clone(&store),
                        prefix: folders.iter().cloned().collect(),
                        url: shown(base.rsplit_once('/').map_or(base, |(folder, _)| folder)),
                    };
                    return Ok(Self { root, which: Which::One(name.unwrap_or_default()) });
                }
                Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => return Err(object_error(&shown(base), error)),
            }
        }
        Ok(Self { root: found, which: Which::All })
    }

    /// Whether it is one file, by its own name.
    pub(crate) fn is_one(&self) -> bool {
        matches!(self.which, Which::One(_))
    }

    /// Whether it is all that lies in a folder.
    pub(crate) fn is_folder(&self) -> bool {
        matches!(self.which, Which::All)
    }

    /// The files there are, ordered by path. Blocks, if they are local.
    pub(crate) async fn list(&self) -> Result<Vec<Listed>> {
        if let Which::One(name) = &self.which {
            return Ok(vec![self.stat(name).await?]);
        }
        let mut listed = match &self.root {
            Root::Local(root) => {
                let (root, which) = (root.clone(), self.which.clone());
                blocking(move || walk(&root, &which)).await?
            }
            Root::Remote { store, prefix, url } => {
                let mut listed = Vec::new();
                let folders = self.which.folders();
                let folders = ObjectPath::parse(&folders)
                    .context(ErrorKind::Invalid, format!("`{url}/{folders}`"))?;
                let below_all: ObjectPath = prefix.parts().chain(folders.parts()).collect();
                let mut objects = store.list(Some(&below_all));
                let mut seen = 0;
                while let Some(meta) =
                    objects.try_next().await.map_err(|error| object_error(url, error))?
                {
                    seen += 1;
                    let path = below(prefix, &meta.location);
                    if self.which.takes(&path) {
                        listed.push(Listed::remote(path, meta));
                    }
                    bounded(seen, listed.len(), url)?;
                }
                listed
            }
        };
        listed.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        Ok(listed)
    }

    /// One file, by its path from the root.
    pub(crate) async fn stat(&self, path: &str) -> Result<Listed> {
        let relative = Path::new(path);
        if path.is_empty() || !relative.components().all(|c| matches!(c, Component::Normal(_))) {
            return Err(Error::invalid(format!(
                "file `{path}`: not a path below the source's root"
            )));
        }
        match &self.root {
            Root::Local(root) => {
                let path = path.to_owned();
                let root = root.clone();
                let stat = move || {
                    let metadata = fs::metadata(root.join(&path));
                    let metadata = metadata.map_err(|error| gone(&root, &path, error))?;
                    Ok(Listed::local(path, &metadata))
                };
                blocking(stat).await
            }
            Root::Remote { store, prefix, .. } => {
                let object = ObjectPath::parse(path)
                    .context(ErrorKind::Invalid, format!("file `{path}`"))?;
                let location: ObjectPath = prefix.parts().chain(object.parts()).collect();
                let meta = store.head(&location).await;
                let meta = meta.map_err(|error| object_error(&self.name(path), error))?;
                Ok(Listed::remote(path.to_owned(), meta))
            }
        }
    }

    /// Opens a file. Blocks.
    pub(crate) fn open(&self, listed: &Listed, runtime: &tokio::runtime::Handle) -> Result<Input> {
        match (&self.root, &listed.remote) {
            (Root::Remote { store, .. }, Some(meta)) => {
                let (store, meta) = (Arc::clone(store), meta.clone());
                let remote = Remote { store, meta, runtime: runtime.clone() };
                Ok(Input::remote(self.name(&listed.path), listed.version.clone(), remote))
            }
            (Root::Local(root), _) => {
                let file = File::open(root.join(&listed.path));
                let file = file.map_err(|error| gone(root, &listed.path, error))?;
                Input::local(self.name(&listed.path), file)
            }
            _ => Err(Error::internal("a remote file that was not listed")),
        }
    }

    /// The local path of a file, if it is local.
    pub(crate) fn local_path(&self, path: &str) -> Option<PathBuf> {
        match &self.root {
            Root::Local(root) => Some(root.join(path)),
            Root::Remote { .. } => None,
        }
    }

    /// The store and the object, if it is in one.
    pub(crate) fn object(&self, listed: &Listed) -> Option<(Arc<dyn ObjectStore>, ObjectMeta)> {
        match &self.root {
            Root::Local(_) => None,
            Root::Remote { store, .. } => Some((Arc::clone(store), listed.remote.clone()?)),
        }
    }

    /// A file's whole path, for messages.
    pub(crate) fn name(&self, path: &str) -> String {
        match &self.root {
            Root::Local(root) => root.join(path).display().to_string(),
            Root::Remote { url, .. } => format!("{}/{path}", url.trim_end_matches('/')),
        }
    }

    /// The place as a whole, for messages.
    pub(crate) fn describe(&self) -> String {
        match &self.which {
            Which::One(name) => self.name(name),
            Which::All => self.name("").trim_end_matches('/').to_owned(),
            Which::Matching(_) => self.name("…"),
        }
    }
}

impl Which {
    fn takes(&self, path: &str) -> bool {
        match self {
            Self::One(name) => name == path,
            Self::Matching(glob) => glob.matches(path),
            Self::All => path.split('/').all(|name| !is_hidden(name)),
        }
    }

    /// The folders from the root below which everything is that it takes.
    fn folders(&self) -> String {
        match self {
            Self::Matching(glob) => glob.folders(),
            _ => String::new(),
        }
    }

    /// Whether nothing with this name, or below it, is taken.
    fn leaves(&self, name: &str) -> bool {
        match self {
            Self::Matching(glob) => name.starts_with('.') && !glob.names_hidden(),
            _ => is_hidden(name),
        }
    }
}

/// What other tools leave in folders, such as `_SUCCESS`, is no data.
fn is_hidden(name: &str) -> bool {
    name.starts_with('.') || (name.starts_with('_') && !name.contains('='))
}

impl Listed {
    fn local(path: String, metadata: &fs::Metadata) -> Self {
        Self { path, size: metadata.len(), version: version_of(metadata), remote: None }
    }

    fn remote(path: String, meta: ObjectMeta) -> Self {
        let version = format!("{:?} {:?} {}", meta.e_tag, meta.version, meta.last_modified);
        Self { path, size: meta.size, version, remote: Some(meta) }
    }
}

/// What tells that a local file has changed, without reading it.
pub(crate) fn version_of(metadata: &fs::Metadata) -> String {
    let (seconds, nanos) = (metadata.mtime(), metadata.mtime_nsec());
    format!("{} {seconds} {nanos} {}", metadata.len(), metadata.ino())
}

fn below(prefix: &ObjectPath, location: &ObjectPath) -> String {
    let parts: Vec<_> = location.parts().skip(prefix.parts().count()).collect();
    parts.iter().map(|part| part.as_ref()).collect::<Vec<_>>().join("/")
}

fn gone(root: &Path, path: &str, error: std::io::Error) -> Error {
    let kind = match error.kind() {
        std::io::ErrorKind::NotFound => ErrorKind::NotFound,
        _ => ErrorKind::Unavailable,
    };
    let message = format!("`{}`: the file cannot be read", root.join(path).display());
    Error::new(kind, message).with_source(error)
}

/// An object store's error about a file.
pub(crate) fn object_error(name: &str, error: object_store::Error) -> Error {
    use object_store::Error as E;
    let (kind, what) = match &error {
        E::NotFound { .. } => (ErrorKind::NotFound, "the file is gone"),
        E::Precondition { .. } | E::NotModified { .. } => {
            (ErrorKind::Conflict, "the file has changed")
        }
        E::AlreadyExists { .. } => (ErrorKind::Conflict, "the file exists"),
        E::InvalidPath { .. } => (ErrorKind::Invalid, "not a path"),
        E::NotSupported { .. } | E::NotImplemented { .. } => {
            (ErrorKind::Unsupported, "the store cannot do this")
        }
        E::PermissionDenied { .. } | E::Unauthenticated { .. } => {
            (ErrorKind::Refused, "the store refuses it")
        }
        _ => (ErrorKind::Unavailable, "the store fails"),
    };
    Error::new(kind, format!("`{name}`: {what}")).with_source(error)
}

fn bounded(seen: usize, files: usize, place: &str) -> Result<()> {
    if files > MAX_FILES || seen > MAX_SEEN {
        let message = format!("`{place}`: more than {MAX_FILES} files, or {MAX_SEEN} entries");
        return Err(Error::new(ErrorKind::Limit, message));
    }
    Ok(())
}

fn walk(root: &Path, which: &Which) -> Result<Vec<Listed>> {
    let (mut listed, mut seen) = (Vec::new(), 0);
    let mut folders = vec![(which.folders(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        let path = root.join(&folder);
        let place = || format!("`{}`", path.display());
        let entries = match fs::read_dir(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(Error::not_found(format!("{}: nothing is there", place())));
            }
            other => other.context(ErrorKind::Unavailable, place())?,
        };
        for entry in entries {
            let entry = entry.context(ErrorKind::Unavailable, place())?;
            seen += 1;
            bounded(seen, listed.len(), &root.display().to_string())?;
            let name = entry.file_name().into_string().map_err(|name| {
                Error::invalid(format!("{}: the name {name:?} is no text", place()))
            })?;
            if which.leaves(&name) {
                continue;
            }
            let relative = if folder.is_empty() { name } else { format!("{folder}/{name}") };
            // What vanished since the folder was read was not there.
            let Ok(metadata) = fs::metadata(root.join(&relative)) else { continue };
            if metadata.is_dir() {
                if depth >= MAX_DEPTH {
                    let message = format!("{}: over {MAX_DEPTH} folders deep", place());
                    return Err(Error::new(ErrorKind::Limit, message));
                }
                folders.push((relative, depth + 1));
            } else if metadata.is_file() && which.takes(&relative) {
                listed.push(Listed::local(relative, &metadata));
            }
        }
    }
    Ok(listed)
}
