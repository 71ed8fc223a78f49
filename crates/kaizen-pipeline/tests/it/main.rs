//! Steps are done once, found again, and done again when what they made is gone.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kaizen_core::record::{Occurrence, Run};
use kaizen_core::{
    Actor, ArtifactStore, AuditLog, ByteStream, Bytes, Digest, Error, ErrorKind, Event,
    OperationId, Payload, Record, Records, Result, Timestamp, async_trait,
};
use kaizen_pipeline::{Outcome, Pipeline, Step};
use kaizen_testkit::{Doubled, FaultyLog, MemoryLog, MemoryStore, StoreDouble};
use serde::{Deserialize, Serialize};
use serde_json::json;

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Sum {
    total: i32,
}

impl Record for Sum {
    const KIND: &'static str = "sum";
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Other {}

impl Record for Other {
    const KIND: &'static str = "other";
}

/// A store that can lose and damage blobs, and be away.
#[derive(Debug, Default)]
struct Faulty {
    inner: MemoryStore,
    lost: Mutex<BTreeSet<Digest>>,
    damaged: Mutex<BTreeSet<Digest>>,
    away: AtomicBool,
}

#[async_trait]
impl StoreDouble for Faulty {
    fn inner(&self) -> &dyn ArtifactStore {
        &self.inner
    }

    async fn put_stream(&self, bytes: ByteStream, expected: Option<&Digest>) -> Result<Digest> {
        let digest = self.inner.put_stream(bytes, expected).await?;
        self.lost.lock().unwrap().remove(&digest);
        self.damaged.lock().unwrap().remove(&digest);
        Ok(digest)
    }

    async fn get_stream(&self, digest: &Digest) -> Result<ByteStream> {
        if self.lost.lock().unwrap().contains(digest) {
            return Err(Error::not_found(format!("blob {digest}")));
        }
        if self.damaged.lock().unwrap().contains(digest) {
            return Err(Error::corrupt(format!("blob {digest}")));
        }
        self.inner.get_stream(digest).await
    }

    async fn put_manifest(&self, manifest: Bytes) -> Result<Digest> {
        let digest = self.inner.put_manifest(manifest).await?;
        self.lost.lock().unwrap().remove(&digest);
        self.damaged.lock().unwrap().remove(&digest);
        Ok(digest)
    }

    async fn referrers(&self, subject: &Digest) -> Result<Vec<Digest>> {
        if self.away.load(Ordering::SeqCst) {
            return Err(Error::new(ErrorKind::Unavailable, "store: away"));
        }
        self.inner.referrers(subject).await
    }
}

struct World {
    store: Arc<Doubled<Faulty>>,
    log: Arc<FaultyLog>,
    done: Arc<AtomicUsize>,
}

impl World {
    fn new() -> Self {
        Self {
            store: Arc::default(),
            log: Arc::new(FaultyLog::new(Arc::new(MemoryLog::default()))),
            done: Arc::default(),
        }
    }

    fn pipeline_at(&self, text: &str) -> Pipeline {
        let at: Timestamp = text.parse().unwrap();
        let operation = OperationId::new("test", at);
        let occurrence = Occurrence::new(at, Actor::system("test"), operation);
        Pipeline::new(
            Arc::<Doubled<Faulty>>::clone(&self.store),
            Arc::<FaultyLog>::clone(&self.log),
            occurrence,
        )
    }

    fn pipeline(&self) -> Pipeline {
        self.pipeline_at("2013-03-01T00:00:00Z")
    }

    async fn work(&self, total: i32) -> Result<Digest> {
        self.done.fetch_add(1, Ordering::SeqCst);
        let payload = Payload::new("note", "text/plain", "a note");
        self.store.put(&Sum { total }, &[payload]).await
    }

    async fn run(&self, step: &Step, inputs: &[Digest]) -> Result<Outcome> {
        self.pipeline().run::<Sum>(step, inputs, || self.work(3)).await
    }

    fn done(&self) -> usize {
        self.done.load(Ordering::SeqCst)
    }
}

fn step() -> Step {
    Step::new("sum", 1, &json!({"b": 1, "a": {"y": 2.5, "x": [1, 2]}})).unwrap()
}

fn inputs() -> Vec<Digest> {
    vec![Digest::of("one"), Digest::of("two")]
}

#[tokio::test]
async fn the_second_run_is_cached_and_the_first_is_in_the_log() {
    let world = World::new();
    let first = world.run(&step(), &inputs()).await.unwrap();
    let later = world.pipeline_at("2013-03-02T00:00:00Z");
    let second = later.run::<Sum>(&step(), &inputs(), async || unreachable!()).await.unwrap();
    assert!(!first.cached && second.cached);
    assert_eq!((first.output, first.run), (second.output, second.run));
    assert_eq!(world.done(), 1);

    let run = world.store.get::<Run>(&first.run).await.unwrap().record;
    assert_eq!((run.output, run.inputs, run.step.as_str()), (first.output, inputs(), "sum"));
    let key = world.store.get_blob(&run.key).await.unwrap();
    assert!(key.starts_with(br#"{"step":"sum","version":1,"settings":{"a":{"x":[1,2],"y":2.5}"#));
    let entries = world.log.read(0..world.log.size().await.unwrap()).await.unwrap();
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0].event, Event::Ran { step: "sum".into() });
    assert_eq!((entries[0].subject, &entries[0].evidence), (first.run, &vec![first.output]));
}

#[tokio::test]
async fn what_differs_in_anything_is_another_step() {
    let world = World::new();
    world.run(&step(), &inputs()).await.unwrap();
    let others = [
        (Step::new("summe", 1, &step().settings).unwrap(), inputs()),
        (Step::new("sum", 2, &step().settings).unwrap(), inputs()),
        (Step::new("sum", 1, &json!({"b": 2})).unwrap(), inputs()),
        (step(), vec![Digest::of("one"), Digest::of("three")]),
        (step(), vec![Digest::of("two"), Digest::of("one")]),
        (step(), vec![]),
    ];
    for (position, (step, inputs)) in others.iter().enumerate() {
        assert!(!world.run(step, inputs).await.unwrap().cached, "{step:?}");
        assert_eq!(world.done(), position + 2);
        assert!(world.run(step, inputs).await.unwrap().cached, "{step:?}");
    }
    let other = async || world.store.put(&Other {}, &[]).await;
    let outcome = world.pipeline().run::<Other>(&step(), &inputs(), other).await.unwrap();
    assert!(!outcome.cached, "an output of another kind is another step");
}

#[tokio::test]
async fn a_lost_or_damaged_output_is_made_again() {
    let world = World::new();
    let first = world.run(&step(), &inputs()).await.unwrap();
    let manifest = world.store.manifest(&first.output).await.unwrap();
    let blobs: Vec<_> = manifest.blobs().map(|blob| blob.digest).chain([first.output]).collect();
    for blob in blobs {
        for faults in [&world.store.lost, &world.store.damaged] {
            let before = world.done();
            faults.lock().unwrap().insert(blob);
            let again = world.run(&step(), &inputs()).await.unwrap();
            assert!(!again.cached);
            assert_eq!((again.output, world.done()), (first.output, before + 1));
            assert!(world.run(&step(), &inputs()).await.unwrap().cached);
        }
    }
    // Equal occurrences are one record; the loss of it is a miss too.
    world.store.damaged.lock().unwrap().insert(first.run);
    assert!(!world.run(&step(), &inputs()).await.unwrap().cached);
}

#[tokio::test]
async fn a_store_that_is_away_is_an_error_and_no_work_is_done() {
    let world = World::new();
    world.store.away.store(true, Ordering::SeqCst);
    let error = world.run(&step(), &inputs()).await.unwrap_err();
    assert!(error.is_retryable(), "{error}");
    assert_eq!(world.done(), 0);
}

#[tokio::test]
async fn work_that_fails_leaves_nothing() {
    let world = World::new();
    let fails = async || Err(Error::invalid("no rows"));
    let error = world.pipeline().run::<Sum>(&step(), &inputs(), fails).await.unwrap_err();
    assert_eq!(error.to_string(), "no rows");
    assert_eq!(world.log.size().await.unwrap(), 0);
    assert!(world.store.manifests().await.unwrap().is_empty());
    assert!(!world.run(&step(), &inputs()).await.unwrap().cached);
}

#[tokio::test]
async fn an_output_that_is_not_there_or_of_another_kind_is_refused() {
    let world = World::new();
    let nothing = async || Ok(Digest::of("nothing"));
    let error = world.pipeline().run::<Sum>(&step(), &inputs(), nothing).await.unwrap_err();
    assert!(error.to_string().contains("step `sum`"), "{error}");
    let other = async || world.store.put(&Other {}, &[]).await;
    let error = world.pipeline().run::<Sum>(&step(), &inputs(), other).await.unwrap_err();
    assert!(format!("{error:#}").contains("kaizen.other.v1"), "{error:#}");
    assert_eq!(world.log.size().await.unwrap(), 0);
}

#[tokio::test]
async fn a_crash_before_the_entry_is_made_good_when_the_operation_resumes() {
    let world = World::new();
    world.log.set_broken(true);
    world.run(&step(), &inputs()).await.unwrap_err();
    world.log.set_broken(false);
    for _ in 0..2 {
        assert!(world.run(&step(), &inputs()).await.unwrap().cached);
        assert_eq!(world.log.size().await.unwrap(), 1, "one entry, not none and not two");
    }
    assert_eq!(world.done(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn equal_steps_at_the_same_time_do_the_work_once() {
    let world = Arc::new(World::new());
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let world = Arc::clone(&world);
            tokio::spawn(async move {
                let work = async || {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    world.work(3).await
                };
                world.pipeline().run::<Sum>(&step(), &inputs(), work).await.unwrap()
            })
        })
        .collect();
    let mut fresh = 0;
    for task in tasks {
        fresh += usize::from(!task.await.unwrap().cached);
    }
    assert_eq!((fresh, world.done()), (1, 1));
}

#[tokio::test]
async fn a_run_that_is_dropped_lets_the_next_one_in() {
    let world = World::new();
    let pipeline = world.pipeline();
    let hangs = async || std::future::pending().await;
    let step = step();
    let hanging = pipeline.run::<Sum>(&step, &[], hangs);
    assert!(tokio::time::timeout(Duration::from_millis(5), hanging).await.is_err());
    assert!(!world.run(&step, &[]).await.unwrap().cached);
}

#[tokio::test]
async fn a_nameless_step_and_huge_settings_are_refused() {
    let world = World::new();
    let nameless = Step::new("", 1, &()).unwrap();
    let huge = Step::new("huge", 1, &"x".repeat(Step::MAX_KEY_BYTES)).unwrap();
    for (step, part) in [(nameless, "name"), (huge, "`huge`")] {
        let error = world.run(&step, &[]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains(part), "{error}");
    }
    assert_eq!(world.done(), 0);
}
