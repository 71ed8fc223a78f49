use std::sync::Arc;

use kaizen_core::{ArtifactStore as _, Bytes, Digest};
use kaizen_store::{Ed25519Signer, LocalLog, LocalStore, ObjectArtifacts, fsck};
use kaizen_testkit::{MemoryLog, MemoryStore, artifact_store, audit_log};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _};

use crate::objects::Judge;

#[tokio::test]
async fn local_store() {
    let dir = tempfile::tempdir().unwrap();
    let store = LocalStore::open(dir.path()).await.unwrap();
    artifact_store::suite(&store).await;
    let damage = |digest: &Digest, bytes: Bytes| {
        std::fs::write(store.blob_path(digest), bytes).unwrap();
    };
    artifact_store::damage_shows_at_the_end_of_a_stream(&store, damage).await;
    // A store that is full already, and was opened anew, is held to the same rules.
    let before = kaizen_core::ArtifactStore::manifests(&store).await.unwrap();
    let again = LocalStore::open(dir.path()).await.unwrap();
    assert_eq!(kaizen_core::ArtifactStore::manifests(&again).await.unwrap(), before);
}

#[tokio::test]
async fn object_store_in_memory() {
    let bucket: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    of_objects(bucket, "models/first").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn object_store_on_s3() {
    if let Some(judge) = Judge::s3("conformance") {
        of_objects(judge.bucket, &judge.folder).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn object_store_on_azure() {
    if let Some(judge) = Judge::azure("conformance") {
        of_objects(judge.bucket, &judge.folder).await;
    }
}

async fn of_objects(bucket: Arc<dyn ObjectStore>, folder: &str) {
    let store = ObjectArtifacts::open(Arc::clone(&bucket), folder).await.unwrap();
    artifact_store::suite(&store).await;
    let blob = |digest: &Digest| Path::from(format!("{folder}/blobs/sha256/{}", digest.hex()));
    let damage = |digest: &Digest, bytes: Bytes| {
        let (bucket, path) = (Arc::clone(&bucket), blob(digest));
        let put = async move { bucket.put(&path, bytes.into()).await.unwrap() };
        // The suite is not async here; the damage is done beside it.
        let handle = tokio::runtime::Handle::current();
        std::thread::scope(|scope| {
            scope.spawn(|| handle.block_on(put)).join().unwrap();
        });
    };
    artifact_store::damage_shows_at_the_end_of_a_stream(&store, damage).await;
    let before = store.manifests().await.unwrap();
    let again = ObjectArtifacts::open(Arc::clone(&bucket), folder).await.unwrap();
    assert_eq!(again.manifests().await.unwrap(), before);
    assert!(fsck(&again, None).await.unwrap().is_sound());
}

#[tokio::test]
async fn memory_store() {
    artifact_store::suite(&MemoryStore::default()).await;
}

#[tokio::test]
async fn local_log() {
    let dir = tempfile::tempdir().unwrap();
    let signer = Arc::new(Ed25519Signer::from_seed("kaizen.test/log", [1; 32]).unwrap());
    let log = LocalLog::open(dir.path(), signer.clone()).await.unwrap();
    audit_log::suite(&log).await;
    audit_log::suite(&LocalLog::open(dir.path(), signer.clone()).await.unwrap()).await;
    let verified = LocalLog::verify(dir.path(), &signer.verifier()).await.unwrap();
    assert!(verified.size > 1400);
}

#[tokio::test]
async fn memory_log() {
    audit_log::suite(&MemoryLog::default()).await;
}
