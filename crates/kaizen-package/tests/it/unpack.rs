//! Layers that somebody else made, with ill intent or by another tool.

use std::fs;
use std::io::Write;

use kaizen_core::{ArtifactStore, Bytes, Descriptor, Digest, ErrorKind, Manifest};
use kaizen_package::{media_type, unpack};
use kaizen_testkit::MemoryStore;
use tar::{Builder, EntryType, Header};

/// One entry: its type, its path, and its content or the target of a link.
type Entry<'a> = (EntryType, &'a str, &'a str);

fn layer(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut archive = Builder::new(Vec::new());
    for (kind, path, content) in entries {
        let mut header = Header::new_gnu();
        header.set_entry_type(*kind);
        header.set_mode(0o644);
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        let is_link = matches!(kind, EntryType::Symlink | EntryType::Link);
        if is_link {
            header.set_link_name_literal(content).unwrap();
        }
        let data = if is_link { "" } else { content };
        header.set_size(data.len() as u64);
        header.set_cksum();
        archive.append(&header, data.as_bytes()).unwrap();
    }
    archive.into_inner().unwrap()
}

async fn image(store: &MemoryStore, layers: &[Vec<u8>], diff_ids: &[Digest]) -> Digest {
    let config = serde_json::json!({
        "architecture": "amd64",
        "os": "linux",
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
    });
    let config = serde_json::to_vec(&config).unwrap();
    let mut described = Vec::new();
    for layer in layers {
        let is_gzip = layer.starts_with(&[0x1f, 0x8b]);
        let kind = if is_gzip { media_type::LAYER_GZIP } else { media_type::LAYER };
        described.push(Descriptor::of(kind, layer));
        store.put_blob(layer.clone().into()).await.unwrap();
    }
    let manifest = Manifest::new(Descriptor::of(media_type::IMAGE_CONFIG, &config), described);
    store.put_blob(config.into()).await.unwrap();
    store.put_manifest(Bytes::from(manifest.to_bytes().unwrap())).await.unwrap()
}

async fn plain_image(store: &MemoryStore, layers: &[Vec<u8>]) -> Digest {
    let diff_ids: Vec<_> = layers.iter().map(Digest::of).collect();
    image(store, layers, &diff_ids).await
}

#[tokio::test]
async fn an_entry_that_could_do_harm_is_refused_and_named() {
    use EntryType::{Char, Directory, Link, Regular, Symlink};
    let cases: [(&[Entry<'_>], ErrorKind, &str); 10] = [
        (&[(Regular, "../out", "x")], ErrorKind::Refused, "../out"),
        (&[(Regular, "/etc/out", "x")], ErrorKind::Refused, "/etc/out"),
        (&[(Regular, "a/../../out", "x")], ErrorKind::Refused, "a/../../out"),
        (&[(Symlink, "a", "/etc")], ErrorKind::Refused, "`/etc`"),
        (&[(Symlink, "a/b", "../../c")], ErrorKind::Refused, "`../../c`"),
        (
            &[(Directory, "d", ""), (Symlink, "a", "d"), (Regular, "a/x", "x")],
            ErrorKind::Refused,
            "a/x",
        ),
        (&[(Directory, "d", ""), (Regular, "d", "x")], ErrorKind::Refused, "`d`"),
        (&[(Char, "null", "")], ErrorKind::Refused, "null"),
        (&[(Link, "a", "b")], ErrorKind::Unsupported, "hard link"),
        (&[(Regular, "etc/.wh.passwd", "")], ErrorKind::Unsupported, ".wh.passwd"),
    ];
    for (entries, kind, name) in cases {
        let store = MemoryStore::default();
        let image = plain_image(&store, &[layer(entries)]).await;
        let outer = tempfile::tempdir().unwrap();
        let error = unpack(&store, &image, outer.path().join("root")).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(name), "{error}");
        assert!(!outer.path().join("out").exists());
    }
}

#[tokio::test]
async fn later_layers_cover_earlier_ones() {
    let store = MemoryStore::default();
    let below = layer(&[
        (EntryType::Directory, "./", ""),
        (EntryType::Directory, "usr/lib/", ""),
        (EntryType::Symlink, "lib", "usr/lib"),
        (EntryType::Regular, "usr/lib/a", "old"),
    ]);
    let above = layer(&[(EntryType::Regular, "usr/lib/a", "new")]);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&above).unwrap();
    let diff_ids = [Digest::of(&below), Digest::of(&above)];
    let image = image(&store, &[below, gzip.finish().unwrap()], &diff_ids).await;
    let folder = tempfile::tempdir().unwrap();
    unpack(&store, &image, folder.path()).await.unwrap();
    assert_eq!(fs::read_to_string(folder.path().join("lib/a")).unwrap(), "new");

    let error = unpack(&store, &image, folder.path()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    let path = folder.path().display().to_string();
    assert!(error.to_string().contains(&path), "{error}");
}

#[tokio::test]
async fn a_layer_that_is_not_what_the_image_says_is_corrupt() {
    let archive = layer(&[(EntryType::Regular, "a", "content of a file")]);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&archive).unwrap();
    let mut cut = gzip.finish().unwrap();
    cut.truncate(cut.len() / 2);
    let other = Digest::of("other");
    let cases: [(Vec<u8>, &[Digest], &str); 4] = [
        (archive.clone(), &[other], "unpacked, it has digest"),
        (cut, &[Digest::of(&archive)], "layer"),
        (b"not an archive at all".to_vec(), &[other], "not a layer"),
        (archive, &[], "0 layers, the manifest has 1"),
    ];
    for (bytes, diff_ids, message) in cases {
        let store = MemoryStore::default();
        let image = image(&store, &[bytes], diff_ids).await;
        let folder = tempfile::tempdir().unwrap();
        let error = unpack(&store, &image, folder.path()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error:?}");
        assert!(error.to_string().contains(message), "{error}");
    }
}
