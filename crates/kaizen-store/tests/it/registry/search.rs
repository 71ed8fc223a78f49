//! Which statements a search believes.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use kaizen_core::record::{Estimate, Evaluation, artifact_type};
use kaizen_core::{
    ArtifactStore as _, AuditLog, Descriptor, Digest, Entry, ErrorKind, Event, Manifest,
    Record as _, Records as _, Result, TimeBlocks, async_trait, media_type,
};
use kaizen_store::{Registry, Search};
use kaizen_testkit::{Doubled, LogDouble, MemoryLog};

use super::{World, on};

fn evaluation(model: Digest, auc: f64) -> Evaluation {
    Evaluation {
        model,
        training_set: Digest::of("a holdout"),
        rows: 1,
        unit: TimeBlocks::days(),
        units: 1,
        confidence: 0.95,
        metrics: BTreeMap::from([("auc".into(), Estimate { value: auc, low: auc, high: auc })]),
        comparison: None,
    }
}

impl World {
    /// Evaluates a model, with the entry in the log.
    pub(super) async fn evaluate(&self, model: Digest, auc: f64) -> Digest {
        let id = self.store.put(&evaluation(model, auc), &[]).await.unwrap();
        self.say(Event::Evaluated, id).await;
        id
    }

    async fn say(&self, event: Event, subject: Digest) {
        let by = on(1);
        let (at, actor, operation) = (by.at, by.actor, by.operation);
        let entry = Entry { at, actor, operation, event, subject, evidence: Vec::new() };
        self.log.append(&[entry], None).await.unwrap();
    }
}

#[tokio::test]
async fn a_search_believes_only_evaluations_that_the_log_knows_and_reads_no_others() {
    let world = World::new();
    let (model, _) = world.register(1).await;
    world.evaluate(model, 0.6).await;
    // Such come along with a model that is pulled with all that is said about it.
    world.store.put(&evaluation(model, 0.99), &[]).await.unwrap();
    let body = world.store.put_blob("x".into()).await.unwrap();
    let mut bad = Manifest::new(Descriptor::new(media_type::JSON, body, 1), Vec::new());
    bad.artifact_type = Some(artifact_type(Evaluation::KIND));
    bad.subject = Some(world.store.describe(&model).await.unwrap());
    let bad = world.store.put_manifest(bad.to_bytes().unwrap().into()).await.unwrap();

    let found = async |at_least: f64| {
        let search = Search::new().metric_at_least("auc", at_least);
        world.registry.search(&search).await.map(|found| found.len())
    };
    assert_eq!(found(0.9).await.unwrap(), 0);
    assert_eq!(found(0.5).await.unwrap(), 1);
    // What the log says there is must be what it says.
    world.say(Event::Evaluated, bad).await;
    assert_eq!(found(0.5).await.unwrap_err().kind(), ErrorKind::Corrupt);
}

/// A log that counts the entries that are read of it.
#[derive(Debug)]
struct Counting {
    log: Arc<MemoryLog>,
    read: AtomicU64,
}

#[async_trait]
impl LogDouble for Counting {
    fn inner(&self) -> &dyn AuditLog {
        &*self.log
    }

    async fn read(&self, indices: Range<u64>) -> Result<Vec<Entry>> {
        self.read.fetch_add(indices.end - indices.start, Ordering::SeqCst);
        self.log.read(indices).await
    }
}

#[tokio::test]
async fn a_search_by_a_metric_reads_only_what_is_new_in_the_log() {
    let world = World::new();
    let (model, _) = world.register(1).await;
    let log = Arc::new(Doubled(Counting { log: world.log.clone(), read: AtomicU64::new(0) }));
    let registry = Registry::new(world.store.clone(), log.clone());
    let found = async |at_least: f64| {
        let before = log.read.load(Ordering::SeqCst);
        let search = Search::new().metric_at_least("auc", at_least);
        let found = registry.search(&search).await.unwrap().len();
        (found, log.read.load(Ordering::SeqCst) - before)
    };
    world.evaluate(model, 0.6).await;
    // For a snapshot of the registry, for the fold, and for the evaluations.
    assert_eq!(found(0.5).await, (1, 6));
    assert_eq!(found(0.5).await, (1, 0));
    world.evaluate(model, 0.7).await;
    assert_eq!(found(0.65).await, (1, 2));
    // What it has read is forgotten with its entries, so that all registries say the same.
    registry.snapshot(on(2)).await.unwrap();
    world.log.prune(2, &on(3)).await.unwrap();
    assert_eq!(found(0.65).await.0, 1);
    world.log.prune(3, &on(4)).await.unwrap();
    assert_eq!(found(0.5).await.0, 0);
}
