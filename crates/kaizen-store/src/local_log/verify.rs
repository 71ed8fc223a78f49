//! Reading a whole log again, to believe nothing.

use std::path::{Path, PathBuf};

use kaizen_core::{Checkpoint, Context, Digest, Error, ErrorKind, Result};

use crate::files::{self, blocking};
use crate::merkle::leaf_hash;
use crate::note::{self, VerifierKey};
use crate::tiles::{self, Kind, Tree, WIDTH};

/// A log that was read and checked from its first byte to its last.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Verified {
    /// The name of the log.
    pub origin: String,
    /// How many entries it has.
    pub size: u64,
    /// The root over them.
    pub root: Digest,
    /// The checkpoint that says so.
    pub checkpoint: Checkpoint,
}

/// Checks any log in the tlog-tiles layout, whatever its entries are: the checkpoint's signature
/// by `key`, the root over all entries, every tile and every partial tile. `entry` is given each
/// entry with its index, and may refuse it.
///
/// Files beyond the checkpoint belong to an append that never happened, and are passed over.
///
/// # Errors
///
/// [`ErrorKind::Corrupt`] naming the file at fault; [`ErrorKind::NotFound`] if there is no
/// checkpoint.
pub async fn verify_tiles<F>(dir: impl AsRef<Path>, key: &VerifierKey, entry: F) -> Result<Verified>
where
    F: FnMut(u64, &[u8]) -> Result<()> + Send + 'static,
{
    let (dir, key) = (dir.as_ref().to_owned(), key.clone());
    blocking(move || Reader::new(dir).verify(&key, entry)).await
}

struct Reader {
    dir: PathBuf,
    /// The first hash that a tile gives otherwise than the entries do: the tile, and the bundle
    /// that the entries are in where the tile is right above them.
    disagreement: Option<(PathBuf, Option<PathBuf>)>,
}

impl Reader {
    fn new(dir: PathBuf) -> Self {
        Self { dir, disagreement: None }
    }

    fn verify<F>(mut self, key: &VerifierKey, mut entry: F) -> Result<Verified>
    where
        F: FnMut(u64, &[u8]) -> Result<()>,
    {
        let path = self.dir.join("checkpoint");
        let shown = path.display();
        let bytes = files::read(&path)?
            .context(ErrorKind::NotFound, format!("{shown}: there is no checkpoint"))?;
        let note = String::from_utf8(bytes).context(ErrorKind::Corrupt, &shown)?;
        let checkpoint = note::open_checkpoint(&note, key)
            .map_err(|error| Error::corrupt(format!("{shown}: {error}")).with_source(error))?;
        let size = checkpoint.size;
        let mut tree = Tree::default();
        while tree.size < size {
            self.read_bundle(&mut tree, size, &mut entry)?;
        }
        let partials: Vec<_> = tree.partials().map(|(k, i, row)| (k, i, row.to_vec())).collect();
        for (kind, index, row) in partials {
            self.compare(kind, index, &row, size)?;
        }
        self.judge(&path, tree.root(), checkpoint.root)?;
        self.check_older_forms(size)?;
        let (origin, root) = (checkpoint.origin.clone(), checkpoint.root);
        Ok(Verified { origin, size, root, checkpoint })
    }

    fn read_bundle<F>(&mut self, tree: &mut Tree, size: u64, entry: &mut F) -> Result<()>
    where
        F: FnMut(u64, &[u8]) -> Result<()>,
    {
        let index = tree.size / WIDTH;
        let width = Kind::Entries.width(index, size);
        let (path, bytes) = Kind::Entries.read(&self.dir, index, width)?;
        for bytes in tiles::exact_entries(&path, &bytes, width)? {
            entry(tree.size, bytes).map_err(|error| {
                let message = format!("{}: {error}", path.display());
                Error::corrupt(message).with_source(error)
            })?;
            tree.push(leaf_hash(bytes), |kind, index, row| self.compare(kind, index, row, size))?;
        }
        Ok(())
    }

    /// Compares a tile with what the entries make of it. Who is wrong shows at the end.
    fn compare(&mut self, kind: Kind, index: u64, row: &[Digest], size: u64) -> Result<()> {
        let width = row.len() as u64;
        let (path, bytes) = kind.read(&self.dir, index, width)?;
        let same = tiles::hashes_of(&path, &bytes, width)? == row;
        if !same && self.disagreement.is_none() {
            let below = (kind == Kind::Hashes(0))
                .then(|| Kind::Entries.path(&self.dir, index, Kind::Entries.width(index, size)));
            self.disagreement = Some((path, below));
        }
        Ok(())
    }

    /// If the entries have the root that was signed, they are right and a tile that disagrees is
    /// wrong. Otherwise the entries are.
    fn judge(&self, checkpoint: &Path, found: Digest, signed: Digest) -> Result<()> {
        let file = match &self.disagreement {
            None if found == signed => return Ok(()),
            None => checkpoint,
            Some((tile, _)) if found == signed => tile,
            Some((_, Some(bundle))) => bundle,
            Some((tile, None)) => tile,
        };
        let what = if found == signed {
            "its hashes are not those of the entries".to_owned()
        } else {
            format!("the entries have root {found}, and {signed} was signed")
        };
        Err(Error::corrupt(format!("{}: {what}", file.display())))
    }

    /// Partial forms of tiles that have grown since must be beginnings of what they grew into.
    fn check_older_forms(&self, size: u64) -> Result<()> {
        for folder in files::list(&self.dir.join("tile"))? {
            let name = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let kind = match name {
                "entries" => Kind::Entries,
                level => match level.parse() {
                    Ok(level) => Kind::Hashes(level),
                    Err(_) => continue,
                },
            };
            self.check_folder(kind, &folder, &folder, size)?;
        }
        Ok(())
    }

    fn check_folder(&self, kind: Kind, top: &Path, dir: &Path, size: u64) -> Result<()> {
        for path in files::list(dir)? {
            if path.is_dir() {
                self.check_folder(kind, top, &path, size)?;
                continue;
            }
            let below = path.strip_prefix(top).unwrap_or(&path);
            let Some((index, width)) = tiles::parse_path(below) else { continue };
            let now = kind.width(index, size);
            if width >= now {
                // The present form was compared already; a longer one is beyond the checkpoint.
                continue;
            }
            let (_, whole) = kind.read(&self.dir, index, now)?;
            let older = files::read(&path)?.unwrap_or_default();
            let complete = match kind {
                Kind::Entries => tiles::exact_entries(&path, &older, width).map(|_| ()),
                Kind::Hashes(_) => tiles::hashes_of(&path, &older, width).map(|_| ()),
            };
            complete?;
            if !whole.starts_with(&older) {
                let path = path.display();
                return Err(Error::corrupt(format!("{path}: not the beginning of its tile")));
            }
        }
        Ok(())
    }
}
