use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use kaizen_core::record::{Evaluation, Model, TrainingSet, artifact_type};
use kaizen_core::{
    ArtifactStore as _, AuditLog, Descriptor, Entry, ErrorKind, Event, Manifest, Record as _,
    Records as _, Result, async_trait, media_type,
};
use kaizen_store::Ed25519Signer;
use kaizen_testkit::{Doubled, LogDouble, MemoryLog, Story};
use kaizen_views::{Builder, Envelope, OpenLineage, Provenance, Statement, provenance};

use crate::World;
use crate::judges::judge;

fn signer() -> Ed25519Signer {
    Ed25519Signer::from_seed("example.com/models", [7; 32]).unwrap()
}

async fn statement(world: &World) -> Statement<Provenance> {
    let builder = Builder::new("https://example.com/trainer");
    provenance(&*world.store, &*world.log, &world.story.models[0], builder).await.unwrap()
}

#[tokio::test]
async fn provenance_names_the_model_and_everything_that_it_was_made_from() {
    let world = World::new().await;
    let said = statement(&world).await;
    assert_eq!(said.subject[0].digest["sha256"], world.story.models[0].hex());
    let definition = &said.predicate.build_definition;
    assert_eq!(definition.external_parameters.seed, (u64::MAX - 1).to_string());
    let names: Vec<_> = definition.resolved_dependencies.iter().map(|d| d.name.as_str()).collect();
    let expected = [
        "training-set",
        "flights",
        "flights/2012.parquet",
        "flights/2013/day=1.parquet",
        "weather",
        "feature-service",
        "label-view",
    ];
    assert_eq!(names, expected);
    let file = &definition.resolved_dependencies[3];
    assert_eq!(file.digest["sha256"], world.story.file.hex());
    // A verifier that knows resources by their URI takes no two of them for one.
    assert_eq!(file.uri, format!("kaizen:file/sha256/{}", world.story.file.hex()));
    assert_eq!(file.annotations["kind"], "file");
    let uris: BTreeSet<_> = definition.resolved_dependencies.iter().map(|d| &d.uri).collect();
    assert_eq!(uris.len(), expected.len());
    let metadata = &said.predicate.run_details.metadata;
    assert_eq!(metadata.invocation_id.name(), "late-retrain");
    assert_eq!(said.predicate.run_details.byproducts.len(), 1);
    assert_eq!(statement(&World::new().await).await, said);
}

#[tokio::test]
async fn what_the_log_does_not_know_was_not_trained() {
    let world = World::new().await;
    let empty = MemoryLog::default();
    let builder = Builder::new("https://example.com/trainer");
    let made = provenance(&*world.store, &empty, &world.story.models[0], builder.clone()).await;
    let error = made.unwrap_err();
    assert!(
        error.kind() == ErrorKind::NotFound && error.to_string().contains("no entry"),
        "{error}"
    );
    let other = provenance(&*world.store, &*world.log, &world.story.release, builder).await;
    assert_eq!(other.unwrap_err().kind(), ErrorKind::Invalid);
}

#[tokio::test]
async fn a_statement_that_the_log_does_not_know_is_not_signed_and_stops_nothing() {
    let world = World::new().await;
    let (store, model) = (&world.store, &world.story.models[0]);
    let before = statement(&world).await;
    let known = store.get::<Evaluation>(&world.story.evaluations[0]).await.unwrap().record;
    store.put(&Evaluation { rows: 1, ..known }, &[]).await.unwrap();
    let body = store.put_blob("x".into()).await.unwrap();
    let mut bad = Manifest::new(Descriptor::new(media_type::JSON, body, 1), Vec::new());
    bad.artifact_type = Some(artifact_type(Evaluation::KIND));
    bad.subject = Some(store.describe(model).await.unwrap());
    store.put_manifest(bad.to_bytes().unwrap().into()).await.unwrap();
    assert_eq!(store.referrers(model).await.unwrap().len(), 4, "with the decision");
    assert_eq!(statement(&world).await, before);
}

/// A log that counts the entries that are read of it.
#[derive(Debug)]
struct Counting(Arc<MemoryLog>, AtomicU64);

#[async_trait]
impl LogDouble for Counting {
    fn inner(&self) -> &dyn AuditLog {
        &*self.0
    }

    async fn read(&self, indices: Range<u64>) -> Result<Vec<Entry>> {
        self.1.fetch_add(indices.end - indices.start, Ordering::SeqCst);
        self.0.read(indices).await
    }
}

#[tokio::test]
async fn provenance_reads_the_log_once() {
    let world = World::new().await;
    let log = Doubled(Counting(world.log.clone(), AtomicU64::new(0)));
    let builder = Builder::new("https://example.com/trainer");
    let said = provenance(&*world.store, &log, &world.story.models[0], builder).await.unwrap();
    assert_eq!(said.predicate.run_details.byproducts.len(), 1);
    assert_eq!(log.1.load(Ordering::SeqCst), world.log.size().await.unwrap());
}

#[tokio::test]
async fn a_payload_without_measure_is_not_read_into_memory() {
    let world = World::new().await;
    let (store, log) = (&*world.store, &*world.log);
    let set = store.get::<TrainingSet>(&world.story.sets[0]).await.unwrap();
    let model = store.get::<Model>(&world.story.models[0]).await.unwrap();
    for (name, at) in [(TrainingSet::SOURCES, 0), (TrainingSet::COLUMNS, 1)] {
        let mut manifest = set.manifest.clone();
        assert_eq!(manifest.layers[at].title(), Some(name));
        // A manifest may say anything; a store that is not asked for a bound gives it all.
        manifest.layers[at].size = 30 << 30;
        let training_set = store.put_manifest(manifest.to_bytes().unwrap().into()).await.unwrap();
        let of_it = Model { training_set, ..model.record.clone() };
        let of_it = store.put(&of_it, &[]).await.unwrap();
        let size = log.size().await.unwrap();
        let mut entries = log.read(0..size).await.unwrap();
        let trained = entries.iter_mut().find(|entry| entry.event == Event::Trained).unwrap();
        trained.subject = of_it;
        log.append(std::slice::from_ref(trained), None).await.unwrap();

        let builder = Builder::new("https://example.com/trainer");
        let said = provenance(store, log, &of_it, builder).await.map(drop);
        let view = OpenLineage::new("example.com/models", "https://example.com/trainer");
        let events = view.events(store, log, size..size + 1).await.map(drop);
        // The one needs the files, the other the columns.
        let error = if at == 0 { said } else { events }.unwrap_err();
        assert!(
            error.kind() == ErrorKind::Limit && format!("{error:#}").contains(name),
            "{error:#}"
        );
    }
}

#[tokio::test]
async fn an_envelope_opens_only_with_its_key_and_only_unchanged() {
    let world = World::new().await;
    let (signer, other) = (signer(), Ed25519Signer::from_seed("other", [8; 32]).unwrap());
    let envelope = statement(&world).await.sign(&signer).await.unwrap();
    let bytes = envelope.to_bytes().unwrap();
    let read = Envelope::parse(&bytes).unwrap();
    let payload = read.open(&[other.verifier(), signer.verifier()]).unwrap();
    let said: Statement<Provenance> = serde_json::from_slice(&payload).unwrap();
    assert_eq!(said, statement(&world).await);

    let error = read.open(&[other.verifier()]).unwrap_err();
    assert!(error.kind() == ErrorKind::Corrupt && error.to_string().contains("`other`"), "{error}");
    assert_eq!(read.open(&[]).unwrap_err().kind(), ErrorKind::Corrupt);
    let both = read.clone().countersign(&other).await.unwrap();
    assert_eq!(both.open(&[other.verifier()]).unwrap(), payload);
    // No change to payload, type or signature goes unnoticed.
    for at in (0..bytes.len()).step_by(7) {
        let mut changed = bytes.clone();
        changed[at] ^= 0x01;
        let opened =
            Envelope::parse(&changed).and_then(|envelope| envelope.open(&[signer.verifier()]));
        assert!(opened.map_or(true, |found| found == payload), "byte {at}");
    }
    let text = String::from_utf8(bytes).unwrap().replace("in-toto+json", "in-toto+yaml");
    assert!(Envelope::parse(text.as_bytes()).unwrap().open(&[signer.verifier()]).is_err());
    for bad in ["", "[]", "{\"payload\":\"\"}", "\"x\""] {
        assert_eq!(
            Envelope::parse(bad.as_bytes()).unwrap_err().kind(),
            ErrorKind::Corrupt,
            "{bad}"
        );
    }
}

#[tokio::test]
async fn the_packages_of_in_toto_read_the_envelope_and_the_provenance_in_it() {
    let world = World::new().await;
    let signer = signer();
    let envelope = statement(&world).await.sign(&signer).await.unwrap();
    let key = signer.verifier();
    let public: String = key.public_key().iter().map(|byte| format!("{byte:02x}")).collect();
    let arguments = [key.to_string(), public];
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let Some(said) = judge("in_toto.py", &arguments, &envelope.to_bytes().unwrap()) else { return };
    let model = world.store.get::<Model>(&world.story.models[0]).await.unwrap();
    assert_eq!(
        said,
        format!(
            "https://slsa.dev/provenance/v1\n{} {}\n{}\ntraining-set flights flights/2012.parquet \
             flights/2013/day=1.parquet weather feature-service label-view\n\
             https://example.com/trainer late-retrain@2013-03-02T00:00:00.000000Z\n\
             2013-03-02T00:00:00Z\n",
            Story::NAME,
            model.id.hex(),
            model.record.algorithm.name,
        )
    );
}
