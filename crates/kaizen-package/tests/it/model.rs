use kaizen_core::record::Model;
use kaizen_core::{ArtifactStore, Bytes, ErrorKind, Records};
use kaizen_package::{load_model, media_type, save_model};
use kaizen_testkit::{Doubled, MemoryStore};

use crate::fixture::{Tampered, parts};

#[tokio::test]
async fn a_model_comes_back_and_equal_parts_have_an_equal_digest() {
    let store = MemoryStore::default();
    let id = save_model(&store, parts()).await.unwrap();
    let before = store.manifests().await.unwrap();
    assert_eq!(save_model(&store, parts()).await.unwrap(), id);
    assert_eq!(store.manifests().await.unwrap(), before);

    let model = load_model(&store, &id).await.unwrap();
    assert_eq!(model.id, id);
    assert_eq!(model.record.seed, u64::MAX);
    assert_eq!(model.encoder, parts().encoder);
    assert_eq!(model.weights, parts().weights);
    assert_eq!(store.referrers(&model.record.weights).await.unwrap(), [id]);
}

/// What was written stays readable, and what is written stays the same: a change here breaks the
/// digest of every model that anybody has stored.
#[tokio::test]
async fn the_bytes_of_the_model_pack_artefact_are_fixed() {
    let store = MemoryStore::default();
    let id = save_model(&store, parts()).await.unwrap();
    let weights = load_model(&store, &id).await.unwrap().record.weights;
    let manifest = store.manifest(&weights).await.unwrap();
    assert_eq!(manifest.artifact_type.as_deref(), Some(media_type::MODEL));
    assert_eq!(manifest.layers[0].media_type, media_type::MODEL_WEIGHTS);
    let path = &manifest.layers[0].annotations[media_type::MODEL_FILE_PATH];
    assert_eq!(path, "model/weights/model.constant-json");
    let config = store.get_blob(&manifest.config.digest).await.unwrap();
    assert_eq!(
        String::from_utf8(config.to_vec()).unwrap(),
        format!(
            "{{\"descriptor\":{{\"name\":\"late\"}},\"config\":{{\"format\":\"constant-json\"}},\
             \"modelfs\":{{\"type\":\"layers\",\"diffIds\":[\"{}\"]}}}}",
            manifest.layers[0].digest
        )
    );
    // Rebuilt once by hand with Python's tarfile, hashlib and json.
    assert_eq!(weights.hex(), "2f4916f99584a160c4a475e26b6f1173af33e6b9355b2242a9c645909b5a1083");
}

#[tokio::test]
async fn any_part_that_was_changed_is_named() {
    let store = MemoryStore::default();
    let id = save_model(&store, parts()).await.unwrap();
    let model = store.get::<Model>(&id).await.unwrap();
    let weights = store.manifest(&model.record.weights).await.unwrap();
    let blobs = [
        (id, "manifest"),
        (model.manifest.config.digest, "body"),
        (model.manifest.layers[0].digest, "payload `encoder.json`"),
        (model.record.weights, "weights of"),
        (weights.config.digest, "config"),
        (weights.layers[0].digest, "weights of"),
    ];
    for (victim, name) in blobs {
        let mut bytes = store.get_blob(&victim).await.unwrap().to_vec();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        let inner = MemoryStore::default();
        save_model(&inner, parts()).await.unwrap();
        let store = Doubled(Tampered { inner, victim, bytes: bytes.into() });
        let error = load_model(&store, &id).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        let message = error.to_string();
        assert!(message.contains(name) && message.contains(&id.to_string()), "{message}");
    }
}

#[tokio::test]
async fn what_cannot_be_a_model_is_refused() {
    let store = MemoryStore::default();
    let mut nameless = parts();
    nameless.name = String::new();
    let mut climbing = parts();
    climbing.format = "../x".to_owned();
    for (parts, name) in [(nameless, "model name"), (climbing, "`../x`")] {
        let error = save_model(&store, parts).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains(name), "{error}");
    }
    assert!(store.manifests().await.unwrap().is_empty());

    let id = save_model(&store, parts()).await.unwrap();
    let weights = load_model(&store, &id).await.unwrap().record.weights;
    assert_eq!(load_model(&store, &weights).await.unwrap_err().kind(), ErrorKind::Invalid);
    let missing = kaizen_core::Digest::of("nothing");
    let error = load_model(&store, &missing).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains(&missing.to_string()), "{error}");
    let loose = store.put_blob(Bytes::from_static(b"loose")).await.unwrap();
    assert_eq!(load_model(&store, &loose).await.unwrap_err().kind(), ErrorKind::Corrupt);
}
