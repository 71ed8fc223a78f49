//! What the tests of this crate share.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use kaizen_core::{
    ArtifactStore, Bytes, Clock, Descriptor, Digest, Manifest, Payload, Records, Timestamp,
    async_trait, media_type,
};
use kaizen_oci::{Options, Pace, Retry};
use kaizen_testkit::MemoryStore;
use kaizen_testkit::artifact_store::release;

/// Waits not at all, notes how long it would have, and draws one half.
#[derive(Debug, Default)]
pub(crate) struct NoWait(Mutex<Vec<Duration>>);

impl NoWait {
    pub(crate) fn waited(&self) -> Vec<Duration> {
        self.0.lock().unwrap().clone()
    }
}

#[async_trait]
impl Pace for NoWait {
    async fn pause(&self, duration: Duration) {
        self.0.lock().unwrap().push(duration);
    }

    fn draw(&self) -> f64 {
        0.5
    }
}

/// Noon of a day, from where tests move the clock.
pub(crate) fn noon() -> Timestamp {
    "2026-11-23T12:00:00Z".parse().unwrap()
}

/// A clock that is moved by hand.
#[derive(Debug)]
pub(crate) struct Hands(Mutex<Timestamp>);

impl Hands {
    pub(crate) fn at_noon() -> Arc<Self> {
        Arc::new(Self(Mutex::new(noon())))
    }

    pub(crate) fn forward(&self, seconds: i64) {
        let mut now = self.0.lock().unwrap();
        *now = now.plus_seconds(seconds);
    }
}

impl Clock for Hands {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap()
    }
}

/// Options with which no test waits.
pub(crate) fn options() -> (Options, Arc<NoWait>) {
    let pace = Arc::new(NoWait::default());
    let mut options = Options::default();
    options.pace = pace.clone();
    options.stall = Duration::from_secs(20);
    options.retry = Retry { attempts: 4, ..Retry::default() };
    options.chunk_bytes = 64 << 10;
    (options, pace)
}

/// Bytes that no two seeds share.
pub(crate) fn bytes(seed: u64, size: usize) -> Bytes {
    use rand::{RngCore, SeedableRng};
    let mut bytes = vec![0; size];
    rand_chacha::ChaCha8Rng::seed_from_u64(seed).fill_bytes(&mut bytes);
    bytes.into()
}

/// A store with one record, which has a large and a small payload.
pub(crate) async fn store_with_record(seed: u64, large: usize) -> (MemoryStore, Digest) {
    let store = MemoryStore::default();
    let payloads = [
        Payload::new("large.bin", "application/octet-stream", bytes(seed, large)),
        Payload::new("small.json", media_type::JSON, bytes(seed + 1, 100)),
    ];
    let id = store.put(&release(11), &payloads).await.unwrap();
    (store, id)
}

/// Puts a statement about a stored manifest.
pub(crate) async fn put_statement(
    store: &dyn ArtifactStore,
    subject: &Digest,
    text: &str,
) -> Digest {
    let body = store.put_blob(Bytes::copy_from_slice(text.as_bytes())).await.unwrap();
    let config = Descriptor::new("text/plain", body, text.len() as u64);
    let mut manifest = Manifest::new(config, Vec::new());
    manifest.artifact_type = Some("application/vnd.example.statement".into());
    manifest.subject = Some(store.describe(subject).await.unwrap());
    store.put_manifest(manifest.to_bytes().unwrap().into()).await.unwrap()
}
