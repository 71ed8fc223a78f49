//! Image layers as the same bytes wherever they are made: entries sorted, owned by root, without
//! times.

use std::collections::BTreeMap;
use std::io::{self, Write};

use flate2::write::GzEncoder;
use flate2::{Compression, GzBuilder};
use kaizen_core::{Bytes, Context, Descriptor, Digest, Digester, ErrorKind, Result};
use tar::{Builder, EntryType, Header};

use crate::media_type;

/// The operating system byte of a gzip header that says "unknown" (RFC 1952, section 2.3.1).
const NO_SYSTEM: u8 = 255;

/// The content of a layer: what is at each path, without the leading `/`.
#[derive(Debug, Default)]
pub(crate) struct Layer(BTreeMap<String, Node>);

#[derive(Debug)]
enum Node {
    Folder { mode: u32 },
    File { mode: u32, bytes: Bytes },
}

/// A layer as it is stored.
pub(crate) struct Packed {
    pub(crate) descriptor: Descriptor,
    /// The digest of the archive before compression.
    pub(crate) diff_id: Digest,
    pub(crate) bytes: Bytes,
}

impl Layer {
    /// Adds a folder and those above it.
    pub(crate) fn folder(&mut self, path: &str, mode: u32) {
        self.folders_above(path);
        self.0.insert(path.to_owned(), Node::Folder { mode });
    }

    /// Adds a file and the folders above it.
    pub(crate) fn file(&mut self, path: &str, mode: u32, bytes: Bytes) {
        self.folders_above(path);
        self.0.insert(path.to_owned(), Node::File { mode, bytes });
    }

    fn folders_above(&mut self, path: &str) {
        for (end, _) in path.match_indices('/') {
            self.0.entry(path[..end].to_owned()).or_insert(Node::Folder { mode: 0o755 });
        }
    }

    /// Writes the layer. `what` names it in errors.
    pub(crate) fn pack(&self, what: &str) -> Result<Packed> {
        let (bytes, diff_id) =
            self.write().context(ErrorKind::Internal, format!("layer {what}"))?;
        let descriptor = Descriptor::of(media_type::LAYER_GZIP, &bytes);
        Ok(Packed { descriptor, diff_id, bytes: bytes.into() })
    }

    fn write(&self) -> io::Result<(Vec<u8>, Digest)> {
        let gzip = GzBuilder::new()
            .mtime(0)
            .operating_system(NO_SYSTEM)
            .write(Vec::new(), Compression::new(6));
        let mut archive = Builder::new(Tee { gzip, digester: Digester::default() });
        for (path, node) in &self.0 {
            let mut header = Header::new_gnu();
            header.set_uid(0);
            header.set_gid(0);
            header.set_mtime(0);
            match node {
                Node::Folder { mode } => {
                    header.set_entry_type(EntryType::Directory);
                    header.set_mode(*mode);
                    header.set_size(0);
                    archive.append_data(&mut header, format!("{path}/"), io::empty())?;
                }
                Node::File { mode, bytes } => {
                    header.set_entry_type(EntryType::Regular);
                    header.set_mode(*mode);
                    header.set_size(bytes.len() as u64);
                    archive.append_data(&mut header, path, bytes.as_ref())?;
                }
            }
        }
        let Tee { gzip, digester } = archive.into_inner()?;
        Ok((gzip.finish()?, digester.finish()))
    }
}

/// Compresses what it is given, and digests it.
struct Tee {
    gzip: GzEncoder<Vec<u8>>,
    digester: Digester,
}

impl Write for Tee {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.gzip.write(bytes)?;
        self.digester.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.gzip.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn order_of_adding_does_not_show_and_nothing_of_the_maker_does() {
        let mut one = Layer::default();
        one.file("model/b", 0o644, Bytes::from_static(b"b"));
        one.file("model/a", 0o644, Bytes::from_static(b"a"));
        let mut two = Layer::default();
        two.file("model/a", 0o644, Bytes::from_static(b"a"));
        two.file("model/b", 0o644, Bytes::from_static(b"b"));
        let (one, two) = (one.pack("one").unwrap(), two.pack("two").unwrap());
        assert_eq!(one.bytes, two.bytes);
        // No flags (so no name), no time, unknown system.
        assert_eq!(one.bytes[3..8], [0; 5]);
        assert_eq!(one.bytes[9], NO_SYSTEM);

        let mut plain = Vec::new();
        flate2::read::GzDecoder::new(&one.bytes[..]).read_to_end(&mut plain).unwrap();
        assert_eq!(Digest::of(plain), one.diff_id);
    }
}
