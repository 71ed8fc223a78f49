use std::sync::Arc;

use kaizen_core::{Bytes, Digest};
use kaizen_store::{Ed25519Signer, LocalLog, LocalStore};
use kaizen_testkit::{MemoryLog, MemoryStore, artifact_store, audit_log};

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
