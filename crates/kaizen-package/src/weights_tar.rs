//! The weights as a tar archive of one file, the same bytes wherever they are made.
//!
//! One archive serves twice: as the layer of the `ModelPack` artefact, and as a layer of every
//! image that serves the model. It is not compressed, so that it can also be rebuilt from the
//! unpacked file and checked against its digest.

use std::ops::Range;

use kaizen_core::{Bytes, Context, Error, ErrorKind, Result};
use tar::{Builder, EntryType, Header};

/// The most bytes that the weights of a model may have: 2 GiB. They are held in memory.
pub const MAX_WEIGHTS_BYTES: u64 = 2 << 30;

/// The most bytes of the archive: the weights, a header, padding and the end mark.
pub(crate) const MAX_TAR_BYTES: u64 = MAX_WEIGHTS_BYTES + (64 << 10);

/// The folder of the weights, in the archive and so in an image.
pub(crate) const FOLDER: &str = "model/weights/";

/// The path of the weights of this format. A format is 1 to 64 of `a-z 0-9 . _ -` and starts with
/// a letter or a digit.
pub(crate) fn path(format: &str) -> Result<String> {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let fits = format.len() <= 64
        && format.bytes().next().is_some_and(plain)
        && format.bytes().all(|b| plain(b) || b"._-".contains(&b));
    if !fits {
        return Err(Error::invalid(format!(
            "model format `{format}`: not 1 to 64 of a-z 0-9 . _ - with a letter or digit first"
        )));
    }
    Ok(format!("{FOLDER}model.{format}"))
}

/// The same path, if it is one that [`path`] gives.
pub(crate) fn checked_path(found: &str, what: &str) -> Result<String> {
    let format = found.strip_prefix(FOLDER).and_then(|name| name.strip_prefix("model."));
    let fits = format.is_some_and(|format| path(format).is_ok());
    if fits { Ok(found.to_owned()) } else { Err(Error::corrupt(format!("{what}: at `{found}`"))) }
}

/// The archive that holds `weights` at `path` and nothing else.
pub(crate) fn write(path: &str, weights: &[u8]) -> Result<Vec<u8>> {
    if weights.len() as u64 > MAX_WEIGHTS_BYTES {
        let found = weights.len();
        return Err(Error::new(
            ErrorKind::Limit,
            format!("{path}: {found} bytes, more than {MAX_WEIGHTS_BYTES}"),
        ));
    }
    let mut header = Header::new_ustar();
    header.set_entry_type(EntryType::Regular);
    header.set_size(weights.len() as u64);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    let wrong = || format!("{path}: as a tar archive");
    header.set_path(path).context(ErrorKind::Invalid, wrong())?;
    header.set_cksum();
    let mut archive = Builder::new(Vec::with_capacity(weights.len() + 2048));
    archive.append(&header, weights).context(ErrorKind::Internal, wrong())?;
    archive.into_inner().context(ErrorKind::Internal, wrong())
}

/// The one file in an archive, which must be at `path`. Nothing is copied.
pub(crate) fn read(archive: &Bytes, path: &str, what: &str) -> Result<Bytes> {
    Ok(archive.slice(file_range(archive, path, what)?))
}

fn file_range(archive: &[u8], path: &str, what: &str) -> Result<Range<usize>> {
    let not_tar = || format!("{what}: not a tar archive");
    let mut found = None;
    let mut reader = tar::Archive::new(archive);
    for entry in reader.entries().context(ErrorKind::Corrupt, not_tar())? {
        let entry = entry.context(ErrorKind::Corrupt, not_tar())?;
        let name = entry.path_bytes();
        let name = String::from_utf8_lossy(&name);
        if !entry.header().entry_type().is_file() {
            return Err(Error::corrupt(format!("{what}: `{name}` is not a regular file")));
        }
        if name != path {
            return Err(Error::corrupt(format!("{what}: it holds `{name}`, not `{path}`")));
        }
        if found.is_some() {
            return Err(Error::corrupt(format!("{what}: it holds `{path}` twice")));
        }
        let size = entry.size();
        if size > MAX_WEIGHTS_BYTES {
            return Err(Error::corrupt(format!("{what}: `{path}` has {size} bytes")));
        }
        let start = entry.raw_file_position();
        found = Some(start as usize..(start + size) as usize);
    }
    let range = found.context(ErrorKind::Corrupt, format!("{what}: it holds no file"))?;
    if range.end > archive.len() {
        return Err(Error::corrupt(format!("{what}: `{path}` is cut short")));
    }
    Ok(range)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_weights_come_back_and_damage_does_no_harm(
            weights in prop::collection::vec(any::<u8>(), 0..3000),
            at: prop::sample::Index,
            byte: u8,
            length: prop::sample::Index,
        ) {
            let path = path("x").unwrap();
            let mut archive = write(&path, &weights).unwrap();
            let whole = Bytes::from(archive.clone());
            prop_assert_eq!(&read(&whole, &path, "weights").unwrap()[..], &weights[..]);
            let at = at.index(archive.len());
            archive[at] = byte;
            archive.truncate(length.index(archive.len()));
            let _ = read(&archive.into(), &path, "weights");
        }
    }

    #[test]
    fn one_file_comes_back_and_anything_else_is_refused() {
        let path = path("forust-json").unwrap();
        assert_eq!(path, "model/weights/model.forust-json");
        let archive = Bytes::from(write(&path, b"trees").unwrap());
        assert_eq!(archive.len() % 512, 0);
        assert_eq!(read(&archive, &path, "weights").unwrap(), "trees");

        let elsewhere = read(&archive, "model/weights/model.x", "weights").unwrap_err();
        assert!(elsewhere.to_string().contains("model.forust-json"), "{elsewhere}");
        let cut = read(&archive.slice(..514), &path, "weights").unwrap_err();
        assert_eq!(cut.kind(), ErrorKind::Corrupt);

        let twice = [&archive[..1024], &archive[..]].concat();
        assert!(read(&twice.into(), &path, "weights").unwrap_err().to_string().contains("twice"));
        let empty = read(&Bytes::from(vec![0; 1024]), &path, "weights").unwrap_err();
        assert!(empty.to_string().contains("no file"), "{empty}");
    }

    #[test]
    fn a_link_in_place_of_the_file_is_refused() {
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::Symlink);
        header.set_size(0);
        header.set_path("model/weights/model.x").unwrap();
        header.set_link_name("/etc/passwd").unwrap();
        header.set_cksum();
        let mut archive = Builder::new(Vec::new());
        archive.append(&header, &[][..]).unwrap();
        let archive = Bytes::from(archive.into_inner().unwrap());
        let error = read(&archive, "model/weights/model.x", "weights").unwrap_err();
        assert!(error.to_string().contains("not a regular file"), "{error}");
    }

    #[test]
    fn a_format_cannot_lead_out_of_its_folder() {
        for bad in ["", "../x", "a/b", ".x", "A", "ü", &"x".repeat(65)] {
            let error = path(bad).unwrap_err();
            assert!(error.to_string().contains(&format!("`{bad}`")), "{error}");
        }
    }
}
