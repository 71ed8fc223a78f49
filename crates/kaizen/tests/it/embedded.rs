//! The embedded target: the suite of its port, and a rollout on it.

use std::collections::BTreeMap;
use std::sync::Arc;

use kaizen::EmbeddedTarget;
use kaizen::core::record::{Algorithm, Occurrence, Release};
use kaizen::core::{
    Actor, ArtifactStore, Bytes, Context, DataType, Digest, ErrorKind, Field, OperationId, Records,
    Result, Signature, Target, Timestamp,
};
use kaizen::deploy::BlueGreen;
use kaizen::ndarray::{Array1, ArrayView2};
use kaizen::package::{ModelParts, save_model};
use kaizen::serve::Router;
use kaizen::table::{Formats, Loader, Predictor};
use kaizen_testkit::{MemoryLog, MemoryStore, target};

/// Answers the same for every row; its weights are that number as text.
#[derive(Debug)]
struct Constant(f64);

#[derive(Debug)]
struct LoadConstant;

impl Predictor for Constant {
    fn format(&self) -> &str {
        "constant"
    }

    fn predict(&self, x: ArrayView2<f64>) -> Result<Array1<f64>> {
        Ok(Array1::from_elem(x.nrows(), self.0))
    }

    fn to_bytes(&self) -> Result<Vec<u8>> {
        Ok(self.0.to_string().into_bytes())
    }
}

impl Loader for LoadConstant {
    fn format(&self) -> &str {
        "constant"
    }

    fn load(&self, bytes: &[u8]) -> Result<Arc<dyn Predictor>> {
        let text = std::str::from_utf8(bytes).context(ErrorKind::Corrupt, "constant")?;
        Ok(Arc::new(Constant(text.parse().context(ErrorKind::Corrupt, "constant")?)))
    }
}

/// Stores a release of this version, whose weights are this text.
async fn save(store: &dyn ArtifactStore, version: u32, weights: &'static str) -> Digest {
    let service = Digest::of("service");
    let parts = ModelParts {
        name: "late".to_owned(),
        training_set: Digest::of("training set"),
        algorithm: Algorithm { name: "constant".to_owned(), settings: BTreeMap::new() },
        seed: 0,
        signature: Signature::new(vec![Field::new("wind", DataType::Float64)], vec![]).unwrap(),
        service,
        format: "constant".to_owned(),
        encoder: Bytes::from_static(br#"{"columns":[{"name":"wind","data_type":"float64"}]}"#),
        weights: Bytes::from_static(weights.as_bytes()),
    };
    let model = save_model(store, parts).await.unwrap();
    let functions = Vec::new();
    let release = Release { name: "late".to_owned(), version, model, service, functions };
    store.put(&release, &[]).await.unwrap()
}

fn embedded(store: &Arc<MemoryStore>) -> EmbeddedTarget {
    let router = Arc::new(Router::new("late"));
    let formats = Formats::default().with(LoadConstant);
    EmbeddedTarget::new("embedded", router, Arc::clone(store) as _, formats)
}

fn turn() -> Occurrence {
    let at: Timestamp = "2013-03-01T00:00:00Z".parse().unwrap();
    Occurrence::new(at, Actor::system("cycle"), OperationId::new("rollout", at))
}

#[tokio::test]
async fn it_keeps_the_rules_of_targets() {
    let store = Arc::new(MemoryStore::default());
    let releases = [save(&*store, 1, "0.25").await, save(&*store, 2, "0.75").await];
    target::suite(async || embedded(&store), &releases).await;
}

#[tokio::test]
async fn a_release_that_does_not_load_leaves_its_slot_as_it_was() {
    let store = Arc::new(MemoryStore::default());
    let good = save(&*store, 1, "0.25").await;
    let broken = save(&*store, 2, "a quarter").await;
    let target = embedded(&store);
    target.start("blue", &good).await.unwrap();
    let before = target.status().await.unwrap();
    let error = target.start("blue", &broken).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error:#}");
    assert_eq!(target.status().await.unwrap(), before);
}

#[tokio::test]
async fn a_rollout_changes_what_answers_and_survives_a_restart() {
    let store = Arc::new(MemoryStore::default());
    let log = Arc::new(MemoryLog::default());
    let releases = [save(&*store, 1, "0.25").await, save(&*store, 2, "0.75").await];
    let target = Arc::new(embedded(&store));
    let rollout = |target: &Arc<EmbeddedTarget>| {
        BlueGreen::new(Arc::clone(target) as _, Arc::clone(&store) as _, Arc::clone(&log) as _)
    };
    let version = |target: &EmbeddedTarget| target.router().pick("any").unwrap().release().version;
    for release in &releases {
        rollout(&target).release(release, turn(), &[]).await.unwrap();
    }
    assert_eq!(version(&target), 2);
    rollout(&target).rollback(turn(), &[]).await.unwrap();
    assert_eq!(version(&target), 1);
    rollout(&target).release(&releases[1], turn(), &[]).await.unwrap();

    // The host starts again: the slots are empty, the store and the log are not.
    let target = Arc::new(embedded(&store));
    assert!(target.router().pick("any").is_err());
    rollout(&target).recover().await.unwrap();
    assert_eq!(version(&target), 2);
    rollout(&target).rollback(turn(), &[]).await.unwrap();
    assert_eq!(version(&target), 1);
}
