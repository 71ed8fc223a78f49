//! A small model, its release, and stores that lie.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use kaizen_core::record::{Algorithm, Image, Release};
use kaizen_core::{
    ArtifactStore, ByteStream, Bytes, DataType, Digest, Field, Records, Result, Signature,
    async_trait, stream,
};
use kaizen_package::{ImageBuilder, ModelParts, save_model};
use kaizen_testkit::{MemoryStore, StoreDouble, judge};

pub(crate) fn parts() -> ModelParts {
    let inputs = vec![Field::new("distance", DataType::Float64)];
    ModelParts {
        name: "late".to_owned(),
        training_set: Digest::of("training set"),
        algorithm: Algorithm { name: "constant".to_owned(), settings: BTreeMap::new() },
        seed: u64::MAX,
        signature: Signature::new(inputs, vec![Field::new("p", DataType::Float64)]).unwrap(),
        service: Digest::of("service"),
        format: "constant-json".to_owned(),
        encoder: Bytes::from_static(br#"{"columns":[]}"#),
        weights: Bytes::from_static(b"[0.25]"),
    }
}

/// Stores the model and a release of it.
pub(crate) async fn release(store: &dyn ArtifactStore) -> Digest {
    let model = save_model(store, parts()).await.unwrap();
    let release = Release {
        name: "late".to_owned(),
        version: 3,
        model,
        service: parts().service,
        functions: Vec::new(),
    };
    store.put(&release, &[]).await.unwrap()
}

/// Builds an image of this executable and gives the store, the record's digest and the record.
pub(crate) async fn image(executable: &Path) -> (MemoryStore, Digest, Image) {
    let store = MemoryStore::default();
    let release = release(&store).await;
    let id = ImageBuilder::new(executable)
        .release(release)
        .name("late")
        .revision("4f2c7d1")
        .build(&store)
        .await
        .unwrap();
    let record = store.get::<Image>(&id).await.unwrap().record;
    (store, id, record)
}

/// This test's own executable.
pub(crate) fn own_executable() -> PathBuf {
    std::env::current_exe().unwrap()
}

/// Runs a program and gives what it printed. It must succeed.
pub(crate) fn run(command: &mut Command) -> Vec<u8> {
    let output = command.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {errors}");
    output.stdout
}

/// Whether this test may change its root folder. Without it nothing that was built is run, so that
/// counts as a judge that is missing.
pub(crate) fn may_chroot() -> bool {
    let done = Command::new("chroot").args(["/", "true"]).output();
    let may = done.is_ok_and(|output| output.status.success());
    if !may {
        judge::absent("chroot is not allowed");
    }
    may
}

/// A store in which one blob has other bytes than it should, and which does not look.
#[derive(Debug)]
pub(crate) struct Tampered {
    pub(crate) inner: MemoryStore,
    pub(crate) victim: Digest,
    pub(crate) bytes: Bytes,
}

#[async_trait]
impl StoreDouble for Tampered {
    fn inner(&self) -> &dyn ArtifactStore {
        &self.inner
    }

    async fn get_stream(&self, digest: &Digest) -> Result<ByteStream> {
        if *digest == self.victim {
            return Ok(stream::once(self.bytes.clone()));
        }
        self.inner.get_stream(digest).await
    }
}
