use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use kaizen_core::record::{Image, Model, Release};
use kaizen_core::{ArtifactStore, Bytes, Digest, ErrorKind, Records};
use kaizen_package::{Bundle, ImageBuilder, load_model, media_type, unpack};
use kaizen_testkit::{MemoryStore, judge};
use serde_json::Value;

use crate::fixture::{self, may_chroot, own_executable, run};

/// The command to run the image's program in an unpacked folder, as a container runtime would.
async fn in_chroot(store: &MemoryStore, image: &Image, folder: &Path) -> Command {
    let manifest = store.manifest(&image.manifest).await.unwrap();
    let config = store.get_blob(&manifest.config.digest).await.unwrap();
    let config: Value = serde_json::from_slice(&config).unwrap();
    let mut command = Command::new("chroot");
    command.arg(folder).arg(config["config"]["Entrypoint"][0].as_str().unwrap());
    command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    for variable in config["config"]["Env"].as_array().unwrap() {
        let (name, value) = variable.as_str().unwrap().split_once('=').unwrap();
        command.env(name, value);
    }
    command
}

#[tokio::test]
async fn the_unpacked_image_runs_in_a_chroot() {
    let (store, _, image) = fixture::image(&own_executable()).await;
    let folder = tempfile::tempdir().unwrap();
    unpack(&store, &image.manifest, folder.path()).await.unwrap();
    let mode =
        |path: &str| fs::metadata(folder.path().join(path)).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode("tmp"), mode("app/late"), mode("model/index.json")), (0o1777, 0o755, 0o644));
    if !may_chroot() {
        return;
    }
    let mut command = in_chroot(&store, &image, folder.path()).await;
    let output = run(command.args(["--ignored", "--exact", "inside", "--nocapture"]));
    let output = String::from_utf8(output).unwrap();
    assert!(output.contains("serving late 3 with weights [0.25]"), "{output}");
}

#[tokio::test]
async fn an_image_is_the_same_wherever_and_whenever_it_is_made() {
    let mut made = Vec::new();
    for age in [1_000_000, 1_500_000_000] {
        let folder = tempfile::tempdir().unwrap();
        let executable = folder.path().join("late");
        fs::copy(own_executable(), &executable).unwrap();
        let touched = SystemTime::UNIX_EPOCH + Duration::from_secs(age);
        File::options().append(true).open(&executable).unwrap().set_modified(touched).unwrap();
        let (store, id, image) = fixture::image(&executable).await;
        made.push((id, image.clone(), store.get_blob(&image.manifest).await.unwrap()));
    }
    assert_eq!(made[0], made[1]);
}

#[tokio::test]
async fn the_image_says_what_it_is() {
    let (store, _, image) = fixture::image(&own_executable()).await;
    let manifest = store.manifest(&image.manifest).await.unwrap();
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    assert_eq!(image.platform, format!("linux/{architecture}"));
    let annotation =
        |name: &str| manifest.annotations[&format!("org.opencontainers.image.{name}")].clone();
    assert_eq!(annotation("title"), "late");
    assert_eq!(annotation("version"), "3");
    assert_eq!(annotation("revision"), "4f2c7d1");

    let config = store.get_blob(&manifest.config.digest).await.unwrap();
    let config: Value = serde_json::from_slice(&config).unwrap();
    assert_eq!(config["created"], "1970-01-01T00:00:00.000000Z");
    assert_eq!(config["architecture"], architecture);
    assert_eq!(config["config"]["Entrypoint"], serde_json::json!(["/app/late"]));
    assert_eq!(config["config"]["Cmd"], serde_json::json!(["serve"]));
    assert_eq!(config["config"]["ExposedPorts"], serde_json::json!({"8080/tcp": {}}));
    assert_eq!(config["rootfs"]["diff_ids"].as_array().unwrap().len(), manifest.layers.len());

    // The weights are the very blob of the model's artefact.
    let release = store.get::<Release>(&image.release).await.unwrap().record;
    let model = store.get::<Model>(&release.model).await.unwrap().record;
    let weights = store.manifest(&model.weights).await.unwrap();
    let last = manifest.layers.last().unwrap();
    assert_eq!(last.digest, weights.layers[0].digest);
    assert_eq!(last.media_type, media_type::LAYER);
}

#[tokio::test]
async fn a_bundle_is_a_store_that_only_reads() {
    let (store, _, image) = fixture::image(&own_executable()).await;
    let folder = tempfile::tempdir().unwrap();
    unpack(&store, &image.manifest, folder.path()).await.unwrap();
    let bundle = Bundle::open(folder.path().join("model")).await.unwrap();
    assert_eq!(bundle.release(), image.release);

    let release = bundle.get::<Release>(&image.release).await.unwrap().record;
    let model = load_model(&bundle, &release.model).await.unwrap();
    let original = load_model(&store, &release.model).await.unwrap();
    assert_eq!((&model.weights, &model.encoder), (&original.weights, &original.encoder));
    assert_eq!(bundle.referrers(&model.record.weights).await.unwrap(), [release.model]);
    let manifests = bundle.manifests().await.unwrap();
    assert_eq!(manifests.len(), 3);
    assert!(manifests.is_sorted());

    let weights = bundle.manifest(&model.record.weights).await.unwrap().layers[0].digest;
    assert!(bundle.contains(&weights).await.unwrap());
    assert!(bundle.contains(&release.model).await.unwrap());
    let nothing = Digest::of("nothing");
    assert!(!bundle.contains(&nothing).await.unwrap());
    assert_eq!(bundle.get_blob(&nothing).await.unwrap_err().kind(), ErrorKind::NotFound);
    let refused = bundle.put_blob(Bytes::from_static(b"x")).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unsupported);
    let refused = bundle.put_manifest(Bytes::from_static(b"x")).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unsupported);
}

#[tokio::test]
async fn a_file_of_the_bundle_that_was_changed_is_named() {
    let (store, _, image) = fixture::image(&own_executable()).await;
    let release = store.get::<Release>(&image.release).await.unwrap().record;
    let encoder = store.get::<Model>(&release.model).await.unwrap().manifest.layers[0].digest;
    let files = [
        "weights/model.constant-json".to_owned(),
        format!("blobs/sha256/{}", encoder.hex()),
        format!("blobs/sha256/{}", image.release.hex()),
        "index.json".to_owned(),
    ];
    for file in files {
        let folder = tempfile::tempdir().unwrap();
        unpack(&store, &image.manifest, folder.path()).await.unwrap();
        let path = folder.path().join("model").join(&file);
        let mut bytes = fs::read(&path).unwrap();
        bytes[1] ^= 1;
        fs::write(&path, bytes).unwrap();
        let read = async {
            let bundle = Bundle::open(folder.path().join("model")).await?;
            load_model(&bundle, &release.model).await
        };
        let error = read.await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{file}: {error}");
        assert!(error.to_string().contains(&file), "{error}");
    }
}

/// Compiles a program with a library of its own that it finds through `$ORIGIN`.
fn compile(folder: &Path) -> bool {
    if !judge::program("cc") {
        return false;
    }
    fs::create_dir_all(folder.join("bin")).unwrap();
    fs::create_dir_all(folder.join("lib")).unwrap();
    fs::write(folder.join("dep.c"), "int answer(void) { return 42; }\n").unwrap();
    let main = "#include <stdio.h>\nint answer(void);\n\
                int main(void) { printf(\"answer %d\\n\", answer()); return 0; }\n";
    fs::write(folder.join("main.c"), main).unwrap();
    let library = ["-shared", "-fPIC", "-o", "lib/libanswer.so", "dep.c"];
    run(Command::new("cc").current_dir(folder).args(library));
    let program = ["-o", "bin/ask", "main.c", "-Llib", "-lanswer", "-Wl,-rpath,$ORIGIN/../lib"];
    run(Command::new("cc").current_dir(folder).args(program));
    true
}

#[tokio::test]
async fn a_library_beside_the_program_comes_along_and_a_missing_one_is_named() {
    let source = tempfile::tempdir().unwrap();
    if !compile(source.path()) {
        return;
    }
    let executable = source.path().join("bin/ask");
    let (store, _, image) = fixture::image(&executable).await;
    let folder = tempfile::tempdir().unwrap();
    unpack(&store, &image.manifest, folder.path()).await.unwrap();
    assert!(folder.path().join("lib/libanswer.so").is_file());
    if may_chroot() {
        let output = run(&mut in_chroot(&store, &image, folder.path()).await);
        assert_eq!(String::from_utf8(output).unwrap(), "answer 42\n");
    }

    let library = source.path().join("lib/libanswer.so");
    fs::remove_file(&library).unwrap();
    let build = async || ImageBuilder::new(&executable).release(image.release).build(&store).await;
    let error = build().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("libanswer.so, needed by"), "{error}");
    fs::write(&library, "no library").unwrap();
    let error = build().await.unwrap_err();
    assert!(
        error.to_string().contains(library.to_str().unwrap()) || {
            error.to_string().contains("lib/libanswer.so is")
        },
        "{error}"
    );
}

#[tokio::test]
async fn a_static_program_needs_no_libraries() {
    let source = tempfile::tempdir().unwrap();
    if !judge::program("cc") {
        return;
    }
    let main = "#include <stdio.h>\nint main(void) { puts(\"alone\"); return 0; }\n";
    fs::write(source.path().join("main.c"), main).unwrap();
    for kind in ["-static", "-static-pie"] {
        let mut compiler = Command::new("cc");
        compiler.current_dir(source.path()).args([kind, "-o", "alone", "main.c"]);
        if !compiler.output().unwrap().status.success() {
            judge::absent(&format!("this C compiler has no {kind}"));
            continue;
        }
        let (store, _, image) = fixture::image(&source.path().join("alone")).await;
        let folder = tempfile::tempdir().unwrap();
        unpack(&store, &image.manifest, folder.path()).await.unwrap();
        let top: Vec<_> = fs::read_dir(folder.path()).unwrap().collect();
        assert_eq!(top.len(), 4, "app, etc, model, tmp");
        if may_chroot() {
            let output = run(&mut in_chroot(&store, &image, folder.path()).await);
            assert_eq!(String::from_utf8(output).unwrap(), "alone\n");
        }
    }
}

#[tokio::test]
async fn what_cannot_be_an_image_is_refused() {
    let store = MemoryStore::default();
    let release = fixture::release(&store).await;
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("run.sh");
    fs::write(&script, "#!/bin/sh\n").unwrap();
    let missing = folder.path().join("missing");
    let own = own_executable();
    let cases = [
        (ImageBuilder::new(&script).release(release), ErrorKind::Unsupported, "run.sh"),
        (ImageBuilder::new(&missing).release(release), ErrorKind::NotFound, "missing"),
        (ImageBuilder::new(folder.path()).release(release).name("x"), ErrorKind::Invalid, "file"),
        (ImageBuilder::new(&own), ErrorKind::Invalid, "no release"),
        (ImageBuilder::new(&own).release(release).name("a/b"), ErrorKind::Invalid, "a/b"),
        (ImageBuilder::new(&own).release(release).env("A=B", ""), ErrorKind::Invalid, "A=B"),
        (ImageBuilder::new(&own).release(Digest::of("x")), ErrorKind::NotFound, "release"),
    ];
    let before = store.manifests().await.unwrap();
    for (builder, kind, name) in cases {
        let error = builder.build(&store).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(name), "{error}");
    }
    assert_eq!(store.manifests().await.unwrap(), before);
}
