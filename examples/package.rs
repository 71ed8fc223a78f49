//! A container image without Docker.
//!
//! *Learn:* how a release becomes an image, why the image is the same whenever it is made, and how
//! the program in it finds its model.\
//! *Run:* `cargo run --example package`\
//! *Prints:* the digest of the image, made twice; its layers; what the program says from inside.
#![allow(clippy::print_stdout, reason = "an example prints")]

use std::path::{Path, PathBuf};
use std::process::Command;

use kaizen::core::record::{Image, Release};
use kaizen::core::{Bytes, Context, Manifest, Signature};
use kaizen::ndarray::array;
use kaizen::package::{Bundle, ImageBuilder, ModelParts};
use kaizen::package::{export_layout, load_model, save_model, unpack};
use kaizen::prelude::*;
use kaizen::store::LocalStore;
use kaizen::table::Estimator;
use kaizen::train::LogisticRegression;

#[tokio::main]
async fn main() -> Result<()> {
    // In an image, this variable says where the model is.
    if let Ok(folder) = std::env::var("KAIZEN_MODEL_DIR") {
        return serve(&folder).await;
    }
    let executable = std::env::current_exe().context(ErrorKind::Internal, "own path")?;
    // target/debug/examples/package
    let target = executable.ancestors().nth(3).unwrap_or(Path::new("target")).join("package");
    let (first, image) = make(&executable, &target.join("first")).await?;
    let (_, again) = make(&executable, &target.join("second")).await?;
    let record = first.get::<Image>(&image).await?.record;
    println!("first image   {image}");
    println!("second image  {again}");
    println!("for {}, in {}\n", record.platform, target.join("first/layout").display());
    print_layers(&first.manifest(&record.manifest).await?);

    // A container runtime unpacks the image and starts the program. So do we, without the isolation.
    let root = empty(target.join("unpacked"))?;
    unpack(&first, &record.manifest, &root).await?;
    let status = Command::new(root.join("app/late"))
        .env("KAIZEN_MODEL_DIR", root.join("model"))
        .status()
        .context(ErrorKind::Unavailable, "the unpacked program")?;
    if status.success() { Ok(()) } else { Err(Error::internal("the unpacked program failed")) }
}

/// What the program does inside the image.
async fn serve(folder: &str) -> Result<()> {
    let bundle = Bundle::open(folder).await?;
    let release = bundle.get::<Release>(&bundle.release()).await?.record;
    let model = load_model(&bundle, &release.model).await?;
    let (name, version, format) = (release.name, release.version, model.record.format);
    println!("\ninside: `{name}` {version}, {} bytes of {format}, verified", model.weights.len());
    Ok(())
}

/// Makes the image in a store of its own, and exports it for `skopeo`, `umoci` and their like.
async fn make(executable: &Path, folder: &Path) -> Result<(LocalStore, Digest)> {
    let folder = empty(folder.to_owned())?;
    let store = LocalStore::open(folder.join("store")).await?;
    let parts = parts()?;
    let service = parts.service;
    let model = save_model(&store, parts).await?;
    let release =
        Release { name: "late".to_owned(), version: 1, model, service, functions: Vec::new() };
    let release = store.put(&release, &[]).await?;
    let image = ImageBuilder::new(executable).name("late").release(release).build(&store).await?;
    export_layout(&store, &image, folder.join("layout")).await?;
    Ok((store, image))
}

/// A model that learned from four flights that the late ones leave in the evening.
fn parts() -> Result<ModelParts> {
    let estimator = LogisticRegression::default();
    let (hours, late) = (array![[6.0], [9.0], [18.0], [21.0]], array![0.0, 0.0, 1.0, 1.0]);
    let predictor = estimator.fit(hours.view(), late.view(), 1)?;
    let hour = Field::new("hour", DataType::Float64);
    let probability = Field::new("probability", DataType::Float64);
    Ok(ModelParts {
        name: "late".to_owned(),
        training_set: Digest::of("four flights"),
        algorithm: estimator.algorithm(),
        seed: 1,
        signature: Signature::new(vec![hour], vec![probability])?,
        service: Digest::of("a service of one column"),
        format: predictor.format().to_owned(),
        encoder: Bytes::from_static(b"{}"),
        weights: predictor.to_bytes()?.into(),
    })
}

fn print_layers(manifest: &Manifest) {
    println!("{:<9} {:>12}  digest", "layer", "bytes");
    let names = ["base", "program", "release", "weights"];
    for (name, layer) in names.iter().zip(&manifest.layers) {
        println!("{name:<9} {:>12}  {}", layer.size, layer.digest.short());
    }
}

fn empty(folder: PathBuf) -> Result<PathBuf> {
    if folder.exists() {
        std::fs::remove_dir_all(&folder)
            .context(ErrorKind::Unavailable, format!("folder {}", folder.display()))?;
    }
    Ok(folder)
}
