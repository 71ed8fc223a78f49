//! Models and images, from the store and back. Judges that we did not write (`chroot`, `skopeo`,
//! `umoci`, the C compiler) take part where they are installed.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

mod fixture;
mod image;
mod judges;
mod model;
mod unpack;

use kaizen_core::Records;
use kaizen_core::record::Release;
use kaizen_package::{Bundle, load_model};

/// What the program in the image does: the test [`image::the_unpacked_image_runs_in_a_chroot`]
/// starts this very executable there and asks for this test by name.
#[tokio::test]
#[ignore = "runs inside the image"]
async fn inside() {
    let folder = std::env::var("KAIZEN_MODEL_DIR").unwrap();
    let bundle = Bundle::open(&folder).await.unwrap();
    let release = bundle.get::<Release>(&bundle.release()).await.unwrap().record;
    let model = load_model(&bundle, &release.model).await.unwrap();
    let weights = String::from_utf8(model.weights.to_vec()).unwrap();
    let host = std::fs::metadata(env!("CARGO_MANIFEST_DIR"));
    assert!(host.is_err(), "the host's files are not in the image");
    println!("serving {} {} with weights {weights}", release.name, release.version);
}
