//! Unpacking an image into a folder.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use kaizen_core::{ArtifactStore, Bytes, Context, Digest, Digester, Error, ErrorKind, Result};
use tar::{Archive, Entry, EntryType};

use crate::files::{self, MAX_FILE_BYTES, at, blocking};
use crate::image_config::ImageConfig;
use crate::{fetch, media_type};

/// The most bytes that the layers of an image may unpack to: 16 GiB.
pub const MAX_UNPACKED_BYTES: u64 = 16 << 30;
/// The most entries in all layers of an image.
const MAX_ENTRIES: usize = 1_000_000;
/// The most bytes of the configuration of an image.
const MAX_CONFIG_BYTES: u64 = 4 << 20;

/// Unpacks a container image into an empty folder. `manifest` is the digest of the image's
/// manifest, as an [`Image`](kaizen_core::record::Image) record names it.
///
/// Each layer is checked against its digest before it is unpacked, and against its digest without
/// compression after. Files keep their permissions but neither their owner nor their times.
/// [`ErrorKind::Refused`]: an entry that leads out of the folder or through a link, an absolute
/// link, a device. [`ErrorKind::Unsupported`]: hard links, and marks that delete a file of a lower
/// layer. After an error the folder holds what came before it.
pub async fn unpack(
    store: &dyn ArtifactStore,
    manifest: &Digest,
    folder: impl AsRef<Path>,
) -> Result<()> {
    let image = format!("image {manifest}");
    let manifest = fetch::manifest(store, manifest, &image).await?;
    if manifest.config.media_type != media_type::IMAGE_CONFIG {
        let found = &manifest.config.media_type;
        return Err(Error::invalid(format!("{image}: its body is {found}, not that of an image")));
    }
    let what = format!("{image}, configuration");
    let config = fetch::described(store, &manifest.config, MAX_CONFIG_BYTES, &what).await?;
    let config: ImageConfig = serde_json::from_slice(&config).context(ErrorKind::Corrupt, &what)?;
    let diff_ids = config.rootfs.diff_ids;
    if diff_ids.len() != manifest.layers.len() {
        let (layers, stated) = (manifest.layers.len(), diff_ids.len());
        return Err(Error::corrupt(format!("{what}: {stated} layers, the manifest has {layers}")));
    }
    let root = folder.as_ref().to_owned();
    let mut unpacking = blocking(move || {
        files::fresh_folder(&root)?;
        Ok(Unpacking::new(root))
    })
    .await?;
    for (layer, diff_id) in manifest.layers.iter().zip(diff_ids) {
        let what = format!("{image}, layer {}", layer.digest);
        let is_gzip = match layer.media_type.as_str() {
            media_type::LAYER => false,
            media_type::LAYER_GZIP => true,
            other => {
                let message = format!("{what}: of type {other}");
                return Err(Error::new(ErrorKind::Unsupported, message));
            }
        };
        let bytes = fetch::described(store, layer, MAX_FILE_BYTES, &what).await?;
        unpacking = blocking(move || {
            unpacking.layer(&bytes, is_gzip, &diff_id, &what)?;
            Ok(unpacking)
        })
        .await?;
    }
    blocking(move || unpacking.finish()).await
}

struct Unpacking {
    root: PathBuf,
    bytes_left: u64,
    entries_left: usize,
    /// Set at the end: a folder that forbids writing must be filled first.
    folder_modes: BTreeMap<PathBuf, u32>,
}

impl Unpacking {
    fn new(root: PathBuf) -> Self {
        let folder_modes = BTreeMap::new();
        Self { root, bytes_left: MAX_UNPACKED_BYTES, entries_left: MAX_ENTRIES, folder_modes }
    }

    fn layer(&mut self, bytes: &Bytes, is_gzip: bool, diff_id: &Digest, what: &str) -> Result<()> {
        let plain: &[u8] = bytes;
        let reader: Box<dyn Read + '_> =
            if is_gzip { Box::new(MultiGzDecoder::new(plain)) } else { Box::new(plain) };
        let mut reader =
            Metered { reader, digester: Digester::default(), left: self.bytes_left, spent: false };
        let done = self.entries(&mut reader, what);
        if reader.spent {
            let message =
                format!("{what}: the image unpacks to more than {MAX_UNPACKED_BYTES} bytes");
            return Err(Error::new(ErrorKind::Limit, message));
        }
        done?;
        self.bytes_left = reader.left;
        let found = reader.digester.finish();
        if found == *diff_id {
            return Ok(());
        }
        Err(Error::corrupt(format!("{what}: unpacked, it has digest {found}, not {diff_id}")))
    }

    fn entries(&mut self, reader: &mut Metered<'_>, what: &str) -> Result<()> {
        let broken = || format!("{what}: not a layer");
        let mut archive = Archive::new(&mut *reader);
        for entry in archive.entries().context(ErrorKind::Corrupt, broken())? {
            let mut entry = entry.context(ErrorKind::Corrupt, broken())?;
            self.entries_left = self.entries_left.checked_sub(1).context(
                ErrorKind::Limit,
                format!("{what}: the image has more than {MAX_ENTRIES} entries"),
            )?;
            let name = String::from_utf8(entry.path_bytes().into_owned())
                .context(ErrorKind::Unsupported, format!("{what}: a path that is not UTF-8"))?;
            self.entry(&mut entry, &name, &format!("{what}, entry `{name}`"))?;
        }
        // What follows the end mark belongs to the digest too.
        io::copy(reader, &mut io::sink()).context(ErrorKind::Corrupt, broken())?;
        Ok(())
    }

    fn entry(&mut self, entry: &mut Entry<'_, impl Read>, name: &str, what: &str) -> Result<()> {
        // Notes for all that follows, of which none is used here.
        if entry.header().entry_type() == EntryType::XGlobalHeader {
            return Ok(());
        }
        let Some(parts) = plain_parts(name) else {
            return Err(Error::refused(format!("{what}: it leads out of the folder")));
        };
        let Some((last, above)) = parts.split_last() else { return Ok(()) };
        if last.starts_with(".wh.") {
            let message = format!("{what}: a mark that deletes is not supported");
            return Err(Error::new(ErrorKind::Unsupported, message));
        }
        let mode = entry.header().mode().context(ErrorKind::Corrupt, what)? & 0o1777;
        let parent = self.enter(above, what)?;
        let path = parent.join(last);
        match entry.header().entry_type() {
            EntryType::Directory => {
                folder_at(&path, what)?;
                self.folder_modes.insert(path, mode);
                Ok(())
            }
            EntryType::Regular | EntryType::Continuous => {
                clear(&path, what)?;
                let mut file = at(File::create_new(&path), &path)?;
                at(io::copy(entry, &mut file), &path)?;
                set_mode(&path, mode)
            }
            EntryType::Symlink => {
                let target = entry.link_name_bytes().unwrap_or_default().into_owned();
                let target = String::from_utf8(target).context(ErrorKind::Unsupported, what)?;
                if !stays_inside(above.len(), &target) {
                    let message = format!("{what}: a link to `{target}`, out of the folder");
                    return Err(Error::refused(message));
                }
                clear(&path, what)?;
                link(&target, &path)
            }
            EntryType::Link => {
                let message = format!("{what}: a hard link is not supported");
                Err(Error::new(ErrorKind::Unsupported, message))
            }
            other => Err(Error::refused(format!("{what}: of type {other:?}"))),
        }
    }

    /// The folder of an entry, made where it is missing. No part of it may be a link.
    fn enter(&mut self, parts: &[&str], what: &str) -> Result<PathBuf> {
        let mut path = self.root.clone();
        for part in parts {
            path.push(part);
            if folder_at(&path, what)? {
                self.folder_modes.insert(path.clone(), 0o755);
            }
        }
        Ok(path)
    }

    fn finish(self) -> Result<()> {
        // The deepest first: those above may forbid to enter.
        for (path, mode) in self.folder_modes.iter().rev() {
            set_mode(path, *mode)?;
        }
        Ok(())
    }
}

/// The parts of a relative path; none if it is absolute or climbs.
fn plain_parts(path: &str) -> Option<Vec<&str>> {
    let splits_elsewhere = cfg!(windows) && path.contains(['\\', ':']);
    if path.starts_with('/') || path.contains('\0') || splits_elsewhere {
        return None;
    }
    let parts: Vec<_> = path.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    (!parts.contains(&"..")).then_some(parts)
}

/// Whether a link in a folder this deep leads to a place below the root.
fn stays_inside(mut depth: usize, target: &str) -> bool {
    if target.is_empty() || target.starts_with('/') || target.contains('\0') {
        return false;
    }
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." if depth == 0 => return false,
            ".." => depth -= 1,
            _ => depth += 1,
        }
    }
    true
}

/// Makes sure that a folder is there, and says whether it had to be made.
fn folder_at(path: &Path, what: &str) -> Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => Ok(false),
        Ok(_) => Err(Error::refused(format!("{what}: {} is no folder", path.display()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            at(fs::create_dir(path), path).map(|()| true)
        }
        Err(error) => at(Err(error), path),
    }
}

/// Makes place for a file: what a lower layer left there goes, unless it is a folder.
fn clear(path: &Path, what: &str) -> Result<()> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => {
            Err(Error::refused(format!("{what}: {} is a folder", path.display())))
        }
        Ok(_) => at(fs::remove_file(path), path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => at(Err(error), path),
    }
}

#[cfg(unix)]
fn set_mode(path: &Path, mode: u32) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    at(fs::set_permissions(path, fs::Permissions::from_mode(mode)), path)
}

#[cfg(not(unix))]
fn set_mode(_path: &Path, _mode: u32) -> Result<()> {
    Ok(())
}

#[cfg(unix)]
fn link(target: &str, path: &Path) -> Result<()> {
    at(std::os::unix::fs::symlink(target, path), path)
}

#[cfg(not(unix))]
fn link(_target: &str, path: &Path) -> Result<()> {
    Err(Error::new(ErrorKind::Unsupported, format!("{}: links on this system", path.display())))
}

/// Digests what is read, and stops at a limit.
struct Metered<'a> {
    reader: Box<dyn Read + 'a>,
    digester: Digester,
    left: u64,
    /// Whether the limit was reached.
    spent: bool,
}

impl Read for Metered<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(into)?;
        self.left = self.left.checked_sub(count as u64).ok_or_else(|| {
            self.spent = true;
            io::Error::from(io::ErrorKind::FileTooLarge)
        })?;
        self.digester.update(&into[..count]);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_links_stay_inside() {
        assert_eq!(plain_parts("./usr//lib/").unwrap(), ["usr", "lib"]);
        for bad in ["/etc", "a/../../b", "..", "a\0"] {
            assert!(plain_parts(bad).is_none(), "{bad:?}");
        }
        assert!(stays_inside(1, "../usr/lib"));
        assert!(stays_inside(0, "usr/lib"));
        for bad in ["", "/usr", "../..", "x/../../../y"] {
            assert!(!stays_inside(1, bad), "{bad:?}");
        }
    }
}
