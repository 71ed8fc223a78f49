//! What may become a servable, and what must not.

use std::sync::Arc;

use kaizen_core::record::{FunctionRef, Image, Model, Release};
use kaizen_core::{
    ArtifactStore, ByteStream, DataType, Digest, ErrorKind, Field, Records, Result, Signature,
    async_trait, stream,
};
use kaizen_package::{ImageBuilder, save_model, unpack};
use kaizen_serve::{Servable, serve_bundle};
use kaizen_table::{Encoder, Formats, texts};
use kaizen_testkit::{Doubled, ManualClock, MemoryStore, StoreDouble};
use ndarray::array;

use crate::linear::{NAME, formats, parts, save, service, table};
use crate::running::{Sink, now, request, score};

#[tokio::test]
async fn a_stored_release_scores_like_its_model() {
    let store = MemoryStore::default();
    let release = save(&store, 7, 0.5).await;
    let servable = Servable::load(&store, &release, &formats()).await.unwrap();
    assert_eq!((servable.id(), servable.release().version), (&release, 7));
    let rows = table(vec![Some(1.5)], vec![None], vec![Some(true)], vec![None]);
    assert!(texts(&rows, "carrier").is_ok());
    let scores = servable.scorer().score(&rows).unwrap();
    assert_eq!(scores.to_vec(), [score(0.5, 2.5)]);
}

/// A store that gives one blob back with a byte more, and says so of its size.
#[derive(Debug)]
struct Tampering<'a> {
    inner: &'a MemoryStore,
    victim: Digest,
}

#[async_trait]
impl StoreDouble for Tampering<'_> {
    fn inner(&self) -> &dyn ArtifactStore {
        self.inner
    }

    async fn get_stream(&self, digest: &Digest) -> Result<ByteStream> {
        let mut bytes = self.inner.get_blob(digest).await?.to_vec();
        if *digest == self.victim {
            // White space at the end: the JSON still reads, only the digest tells.
            bytes.push(b' ');
        }
        Ok(stream::once(bytes.into()))
    }

    async fn size_of(&self, digest: &Digest) -> Result<Option<u64>> {
        let size = self.inner.size_of(digest).await?;
        Ok(size.map(|size| size + u64::from(*digest == self.victim)))
    }
}

#[tokio::test]
async fn a_blob_that_was_changed_is_named_whichever_it_is() {
    let inner = MemoryStore::default();
    let id = save(&inner, 1, 0.5).await;
    // Every blob that the release needs: records, bodies, encoder, weights and their manifest.
    let release = inner.get::<Release>(&id).await.unwrap();
    let model = inner.get::<Model>(&release.record.model).await.unwrap();
    let weights = inner.manifest(&model.record.weights).await.unwrap();
    let mut victims = vec![id, model.id, model.record.weights];
    for manifest in [&release.manifest, &model.manifest, &weights] {
        victims.extend(manifest.blobs().map(|blob| blob.digest));
    }
    assert!(victims.len() >= 7);
    for victim in victims {
        let store = Doubled(Tampering { inner: &inner, victim });
        let error = Servable::load(&store, &id, &formats()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error:#}");
        assert!(format!("{error:#}").contains(&victim.to_string()), "{error:#} names {victim}");
    }
}

async fn refusal(change: impl Fn(&mut Release)) -> (ErrorKind, String) {
    let store = MemoryStore::default();
    let good = save(&store, 1, 0.0).await;
    let mut release = store.get::<Release>(&good).await.unwrap().record;
    change(&mut release);
    let id = store.put(&release, &[]).await.unwrap();
    let error = Servable::load(&store, &id, &formats()).await.unwrap_err();
    assert!(error.kind() == ErrorKind::NotFound || error.to_string().contains(&id.to_string()));
    (error.kind(), error.to_string())
}

#[tokio::test]
async fn a_release_that_this_host_cannot_serve_is_refused() {
    let function = FunctionRef { name: "minutes_to_sunset".into(), version: 2 };
    let (kind, message) = refusal(|release| release.functions = vec![function.clone()]).await;
    assert_eq!(kind, ErrorKind::Unsupported);
    assert!(message.contains("no function `minutes_to_sunset` version 2"), "{message}");

    let other = Digest::of("another feature service");
    let (kind, message) = refusal(|release| release.service = other).await;
    assert_eq!(kind, ErrorKind::Corrupt);
    assert!(message.contains(&other.to_string()), "{message}");

    let missing = Digest::of("no such model");
    let (kind, message) = refusal(|release| release.model = missing).await;
    assert_eq!(kind, ErrorKind::NotFound);
    assert!(message.contains(&missing.to_string()), "{message}");

    let store = MemoryStore::default();
    let id = save(&store, 1, 0.0).await;
    let error = Servable::load(&store, &id, &Formats::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("`linear`"), "{error}");
    let model = store.get::<Release>(&id).await.unwrap().record.model;
    let error = Servable::load(&store, &model, &formats()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "a model is no release: {error:#}");
}

#[tokio::test]
async fn an_input_must_not_shadow_a_column_of_the_log() {
    let store = MemoryStore::default();
    let mut parts = parts(0.0);
    parts.signature = Signature::new(vec![Field::new("model", DataType::Float64)], vec![]).unwrap();
    let rows = arrow_rows();
    let encoder = Encoder::fit(&parts.signature, &rows, array![1.0].view()).unwrap();
    parts.encoder = serde_json::to_vec(&encoder).unwrap().into();
    let model = save_model(&store, parts).await.unwrap();
    let functions = Vec::new();
    let release = Release { name: NAME.into(), version: 1, model, service: service(), functions };
    let id = store.put(&release, &[]).await.unwrap();
    let error = Servable::load(&store, &id, &formats()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("input `model`"), "{error}");
}

fn arrow_rows() -> kaizen_table::RecordBatch {
    table(vec![Some(1.0)], vec![None], vec![None], vec![None])
}

#[tokio::test]
async fn the_model_of_an_unpacked_image_is_served() {
    let store = MemoryStore::default();
    let release = save(&store, 7, 0.5).await;
    let program = std::env::current_exe().unwrap();
    let image = ImageBuilder::new(program).release(release).build(&store).await.unwrap();
    let image = store.get::<Image>(&image).await.unwrap().record;
    let root = tempfile::tempdir().unwrap();
    unpack(&store, &image.manifest, root.path().join("image")).await.unwrap();

    let folder = root.path().join("image/model");
    let serve = async || {
        let clock = Arc::new(ManualClock::at(now()));
        serve_bundle(&folder, "127.0.0.1:0", &formats(), Sink::open(), clock).await
    };
    let server = serve().await.unwrap();
    let url = format!("http://{}/v2/models/late/versions/7/infer", server.local_addr());
    let body = request(&[2.0]).to_string();
    let response = reqwest::Client::new().post(url).body(body).send().await.unwrap();
    let answer: serde_json::Value = response.json().await.unwrap();
    assert_eq!(answer["outputs"][0]["data"][0], score(0.5, 2.0), "{answer}");
    server.shutdown().await.unwrap();

    let weights = folder.join("weights/model.linear");
    std::fs::write(&weights, "9.5").unwrap();
    let error = serve().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error:#}");
    assert!(format!("{error:#}").contains("model.linear"), "{error:#}");
}
