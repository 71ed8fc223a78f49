//! Which statements a search believes.

use std::collections::BTreeMap;

use kaizen_core::record::{Estimate, Evaluation, artifact_type};
use kaizen_core::{
    ArtifactStore as _, AuditLog as _, Descriptor, Digest, Entry, ErrorKind, Event, Manifest,
    Record as _, Records as _, TimeBlocks, media_type,
};
use kaizen_store::{Evaluated, Search};

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
    let known = world.evaluate(model, 0.6).await;
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
    let evaluations = Evaluated::read(&*world.log).await.unwrap();
    let evaluations = evaluations.of(&*world.store, &model).await.unwrap();
    assert_eq!(evaluations.iter().map(|found| found.id).collect::<Vec<_>>(), [known]);
    // What the log says there is must be what it says.
    world.say(Event::Evaluated, bad).await;
    assert_eq!(found(0.5).await.unwrap_err().kind(), ErrorKind::Corrupt);
}
