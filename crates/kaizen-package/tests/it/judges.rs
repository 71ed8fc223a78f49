//! Images as tools see them that we did not write.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use kaizen_core::{ArtifactStore, Digest, ErrorKind, Records};
use kaizen_package::{export_layout, unpack};
use kaizen_testkit::judge;
use serde_json::Value;

use crate::fixture::{self, own_executable, run};

#[tokio::test]
async fn skopeo_reads_and_copies_the_exported_image() {
    let (store, id, image) = fixture::image(&own_executable()).await;
    let folder = tempfile::tempdir().unwrap();
    let layout = folder.path().join("layout");
    export_layout(&store, &id, &layout).await.unwrap();
    let error = export_layout(&store, &id, &layout).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    if !judge::program("skopeo") {
        return;
    }
    let tagged = format!("oci:{}:3", layout.display());
    let raw = run(Command::new("skopeo").args(["inspect", "--raw", &tagged]));
    assert_eq!(Digest::of(raw), image.manifest);
    let config = run(Command::new("skopeo").args(["inspect", "--config", &tagged]));
    let config: Value = serde_json::from_slice(&config).unwrap();
    assert_eq!(config["config"]["Cmd"][0], "serve");

    let copy = folder.path().join("copy");
    let target = format!("dir:{}", copy.display());
    let arguments = ["--insecure-policy", "copy", "--preserve-digests", &tagged, &target];
    run(Command::new("skopeo").args(arguments));
    let manifest = store.manifest(&image.manifest).await.unwrap();
    for blob in manifest.blobs() {
        let copied = fs::read(copy.join(blob.digest.hex())).unwrap();
        assert_eq!(copied, store.get_blob(&blob.digest).await.unwrap());
    }
}

/// Every file and folder below `root`: its mode, and the digest of its content.
fn tree(root: &Path) -> BTreeMap<String, (u32, Option<Digest>)> {
    let (mut found, mut open) = (BTreeMap::new(), vec![root.to_owned()]);
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let metadata = fs::symlink_metadata(&path).unwrap();
            let content = metadata.is_file().then(|| Digest::of(fs::read(&path).unwrap()));
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            found.insert(name, (metadata.permissions().mode() & 0o7777, content));
            if metadata.is_dir() {
                open.push(path);
            }
        }
    }
    found
}

#[tokio::test]
async fn umoci_unpacks_the_exported_image_to_the_same_files() {
    if !judge::program("umoci") {
        return;
    }
    let (store, id, image) = fixture::image(&own_executable()).await;
    let folder = tempfile::tempdir().unwrap();
    let (layout, ours) = (folder.path().join("layout"), folder.path().join("ours"));
    export_layout(&store, &id, &layout).await.unwrap();
    unpack(&store, &image.manifest, &ours).await.unwrap();
    let bundle = folder.path().join("bundle");
    let source = format!("{}:3", layout.display());
    let done =
        Command::new("umoci").args(["unpack", "--image", &source]).arg(&bundle).output().unwrap();
    let errors = String::from_utf8_lossy(&done.stderr);
    if !done.status.success() && errors.contains("operation not permitted") {
        judge::absent(&format!("umoci needs more rights: {errors}"));
        return;
    }
    assert!(done.status.success(), "{errors}");
    assert_eq!(tree(&bundle.join("rootfs")), tree(&ours));
}
