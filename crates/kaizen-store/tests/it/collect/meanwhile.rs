//! What others do while garbage is collected.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use futures_util::future::BoxFuture;
use kaizen_core::record::Release;
use kaizen_core::{
    ArtifactStore, AuditLog, Digest, Entry, Event, Records, Result, Timestamp, async_trait,
};
use kaizen_store::{LocalStore, collect};
use kaizen_testkit::{Doubled, LogDouble, MemoryLog, MemoryStore, StoreDouble};

use super::{
    age, decide, last_word, later, memory, occurrence, promote, say, strict, there, three,
    tombstones,
};

/// What somebody does while a collection runs.
type Meanwhile = Box<dyn Fn(Arc<MemoryStore>) -> BoxFuture<'static, Digest> + Send + Sync>;

/// A log to which a tombstone is about to be appended as somebody does something, once.
struct Interrupted {
    inner: MemoryLog,
    store: Arc<MemoryStore>,
    meanwhile: Mutex<Option<Meanwhile>>,
}

impl std::fmt::Debug for Interrupted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Interrupted")
    }
}

#[async_trait]
impl LogDouble for Interrupted {
    fn inner(&self) -> &dyn AuditLog {
        &self.inner
    }

    async fn append(&self, entries: &[Entry], expected: Option<u64>) -> Result<Range<u64>> {
        let buries = entries.iter().any(|entry| matches!(entry.event, Event::Removed { .. }));
        let meanwhile = if buries { self.meanwhile.lock().unwrap().take() } else { None };
        if let Some(meanwhile) = meanwhile {
            meanwhile(Arc::clone(&self.store)).await;
        }
        self.inner.append(entries, expected).await
    }
}

/// A release of this version, made from a model.
fn release(version: u32, model: Digest) -> Release {
    let service = Digest::of("service");
    Release { name: "made".into(), version, model, service, functions: Vec::new() }
}

#[tokio::test]
async fn what_a_manifest_reaches_that_is_put_after_all_was_looked_at_stays() {
    // A new record that names an old one, a new statement about it, and an old record that is put
    // again. The clock stands, so nothing but the manifest is young.
    let changes: [fn(Digest) -> Meanwhile; 3] = [
        |old| {
            Box::new(move |store| {
                Box::pin(async move { store.put(&release(2, old), &[]).await.unwrap() })
            })
        },
        |old| Box::new(move |store| Box::pin(async move { decide(&*store, old, None).await })),
        |old| {
            Box::new(move |store| {
                Box::pin(async move { store.put(&release(3, old), &[]).await.unwrap() })
            })
        },
    ];
    for (case, change) in changes.into_iter().enumerate() {
        let (clock, store) = memory();
        let store = Arc::new(store);
        let old = store.put(&release(1, Digest::of("none")), &[]).await.unwrap();
        store.put(&release(3, old), &[]).await.unwrap();
        store.put_blob("a blob that goes".into()).await.unwrap();
        let (inner, meanwhile) = (MemoryLog::default(), Mutex::new(Some(change(old))));
        let log = Doubled(Interrupted { inner, store: Arc::clone(&store), meanwhile });
        clock.set(later());
        let done = collect(&*store, &log, &strict(), &occurrence(later()), false).await.unwrap();
        assert!(log.meanwhile.lock().unwrap().is_none());
        assert_eq!(there(&*store, &[old]).await, [true], "case {case}");
        assert_eq!(last_word(&log, old).await, Some(Event::Restored), "case {case}");
        let blob = Digest::of("a blob that goes");
        assert!(done.removed.iter().any(|(gone, _)| *gone == blob), "the rest goes");
    }
}

/// A store of which another collection, which keeps what this one takes, says so just before it
/// goes, or just after.
#[tokio::test]
async fn what_another_collection_calls_restored_and_is_gone_has_its_tombstone() {
    let (clock, inner) = memory();
    let log = Arc::new(MemoryLog::default());
    let blob = inner.put_blob("kept by one, taken by the other".into()).await.unwrap();
    let other = inner.put_blob("kept by it too".into()).await.unwrap();
    clock.set(later());
    let done = AtomicBool::new(false);
    let store = Doubled(Contended { inner, log: Arc::clone(&log), blob, done });
    let done = collect(&store, &*log, &strict(), &occurrence(later()), false).await.unwrap();
    assert!(done.removed.iter().any(|(gone, _)| *gone == blob));
    assert!(done.removed.iter().any(|(gone, _)| *gone == other));
    for gone in [blob, other] {
        assert!(!store.contains(&gone).await.unwrap());
        assert!(matches!(last_word(&*log, gone).await, Some(Event::Removed { .. })));
    }
}

/// A store in which another collection keeps a blob, at the instant in which it is removed.
#[derive(Debug)]
struct Contended {
    inner: MemoryStore,
    log: Arc<MemoryLog>,
    blob: Digest,
    done: AtomicBool,
}

#[async_trait]
impl StoreDouble for Contended {
    fn inner(&self) -> &dyn ArtifactStore {
        &self.inner
    }

    async fn remove_stale(&self, digests: &[Digest], before: Timestamp) -> Result<Vec<Digest>> {
        if digests.contains(&self.blob) && !self.done.swap(true, Ordering::SeqCst) {
            // It saw them, and their tombstones, before they went.
            for digest in digests {
                say(&*self.log, Event::Restored, *digest).await;
            }
        }
        self.inner.remove_stale(digests, before).await
    }
}

/// A store that is looked at for long: meanwhile somebody speaks of what is about to go, once it
/// has its tombstone.
#[derive(Debug)]
struct Slow {
    inner: MemoryStore,
    log: Arc<MemoryLog>,
    model: Digest,
    done: AtomicBool,
}

#[async_trait]
impl StoreDouble for Slow {
    fn inner(&self) -> &dyn ArtifactStore {
        &self.inner
    }

    async fn manifests(&self) -> Result<Vec<Digest>> {
        let listed = self.inner.manifests().await;
        let is_buried = tombstones(&*self.log).await.contains(&self.model);
        if is_buried && !self.done.swap(true, Ordering::SeqCst) {
            say(&*self.log, Event::Registered { name: "new".into(), version: 1 }, self.model).await;
        }
        listed
    }
}

#[tokio::test]
async fn what_the_log_speaks_of_while_the_store_is_looked_at_stays() {
    let (clock, inner) = memory();
    let model = inner.put(&release(1, Digest::of("none")), &[]).await.unwrap();
    clock.set(later());
    let (log, done) = (Arc::new(MemoryLog::default()), AtomicBool::new(false));
    let store = Doubled(Slow { inner, log: Arc::clone(&log), model, done });
    collect(&store, &*log, &strict(), &occurrence(later()), false).await.unwrap();
    assert!(store.done.load(Ordering::SeqCst) && tombstones(&*log).await.contains(&model));
    assert_eq!(there(&store, &[model]).await, [true]);
}

/// A log in which somebody else is faster, once.
#[derive(Debug)]
struct Meddled {
    inner: MemoryLog,
    model: Digest,
    done: AtomicBool,
}

#[async_trait]
impl LogDouble for Meddled {
    fn inner(&self) -> &dyn AuditLog {
        &self.inner
    }

    async fn append(&self, entries: &[Entry], expected: Option<u64>) -> Result<Range<u64>> {
        if expected.is_some() && !self.done.swap(true, Ordering::SeqCst) {
            promote(&self.inner, Some(2), 1, self.model).await;
        }
        self.inner.append(entries, expected).await
    }
}

#[tokio::test]
async fn an_alias_that_moves_meanwhile_keeps_its_model() {
    let (clock, store) = memory();
    let inner = MemoryLog::default();
    let (ids, _) = three(&store, &inner).await;
    clock.set(later());
    let log = Doubled(Meddled { inner, model: ids[0], done: AtomicBool::new(false) });
    collect(&store, &log, &strict(), &occurrence(later()), false).await.unwrap();
    assert_eq!(there(&store, &ids).await, [true, false, true]);
    assert!(!tombstones(&log).await.contains(&ids[0]));
}

/// Puts and removals of the same old blobs at the same time: what a put acknowledged is there.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_is_put_while_old_blobs_are_removed_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let store = LocalStore::open(dir.path()).await.unwrap();
    let texts: Vec<_> = (0..64).map(|number| format!("blob {number}")).collect();
    let digests: Vec<_> = texts.iter().map(Digest::of).collect();
    let (mut rounds, mut raced) = (0, 0);
    while rounds < 25 || (raced == 0 && rounds < 1_000) {
        rounds += 1;
        for text in &texts {
            store.put_blob(text.clone().into()).await.unwrap();
        }
        age(dir.path());
        let before = store.now().await.unwrap().plus_seconds(-3600);
        let (collector, doomed) = (store.clone(), digests.clone());
        let removing =
            tokio::spawn(async move { collector.remove_stale(&doomed, before).await.unwrap() });
        let putting = texts.iter().rev().cloned().map(|text| {
            let store = store.clone();
            tokio::spawn(async move { store.put_blob(text.into()).await.unwrap() })
        });
        for put in putting.collect::<Vec<_>>() {
            put.await.unwrap();
        }
        let removed = removing.await.unwrap();
        raced += usize::from(!removed.is_empty() && removed.len() < digests.len());
        for digest in &digests {
            assert!(store.contains(digest).await.unwrap(), "{digest} was put, and is gone");
        }
    }
    assert!(raced > 0, "in none of {rounds} rounds both went on at the same time");
}
