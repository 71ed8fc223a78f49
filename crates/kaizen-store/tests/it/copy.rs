//! Copying records between stores.

use std::sync::Mutex;

use kaizen_core::record::{Image, Release};
use kaizen_core::{
    ArtifactStore, ByteStream, Bytes, Descriptor, Digest, ErrorKind, Manifest, Payload, Progress,
    Records, Result, Silent, async_trait, media_type, stream,
};
use kaizen_store::{CopyOptions, LocalStore, ObjectArtifacts, copy, fsck};
use kaizen_testkit::MemoryStore;

fn release(model: Digest) -> Release {
    let service = Digest::of("service");
    Release { name: "late".into(), version: 1, model, service, functions: Vec::new() }
}

/// A release with a payload, made from another record, with an image as a statement about it.
async fn records(store: &dyn ArtifactStore) -> (Digest, Digest, Digest) {
    let parent = store.put(&release(Digest::of("none")), &[]).await.unwrap();
    let payload = Payload::new("weights", "application/octet-stream", vec![7; 3 << 20]);
    let id = store.put(&release(parent), &[payload]).await.unwrap();
    let image = Image { release: id, platform: String::new(), manifest: id };
    let about = store.put(&image, &[]).await.unwrap();
    (parent, id, about)
}

#[derive(Debug, Default)]
struct Seen(Mutex<Vec<(u64, Option<u64>)>>);

impl Progress for Seen {
    fn report(&self, task: &str, done: u64, total: Option<u64>) {
        assert_eq!(task, "copy");
        self.0.lock().unwrap().push((done, total));
    }
}

#[tokio::test]
async fn only_what_is_missing_travels_and_progress_counts_its_bytes() {
    let from = MemoryStore::default();
    let (_, id, _) = records(&from).await;
    let dir = tempfile::tempdir().unwrap();
    let local = LocalStore::open(dir.path()).await.unwrap();
    let objects = ObjectArtifacts::in_memory().await.unwrap();
    let targets: [&dyn ArtifactStore; 2] = [&local, &objects];
    for to in targets {
        let seen = Seen::default();
        let copied = copy(&from, to, &id, &CopyOptions::new(), &seen).await.unwrap();
        assert_eq!((copied.blobs, copied.present), (2, 0));
        assert_eq!(copied.manifests, [id]);
        let reports = seen.0.into_inner().unwrap();
        assert!(reports.is_sorted() && reports.len() > 2, "{reports:?}");
        assert_eq!(*reports.last().unwrap(), (copied.bytes, Some(copied.bytes)));
        let stored = to.get::<Release>(&id).await.unwrap();
        assert_eq!(stored.payload(to, "weights").await.unwrap().len(), 3 << 20);
        let again = copy(&from, to, &id, &CopyOptions::new(), &Silent).await.unwrap();
        assert_eq!((again.blobs, again.bytes, again.present), (0, 0, 2));
    }
    // And from one of ours to the other.
    let other = ObjectArtifacts::in_memory().await.unwrap();
    copy(&local, &other, &id, &CopyOptions::new(), &Silent).await.unwrap();
    assert!(fsck(&other, None).await.unwrap().problems.is_empty());
}

#[tokio::test]
async fn referrers_and_parents_come_along_if_they_are_asked_for() {
    let from = MemoryStore::default();
    let (parent, id, about) = records(&from).await;
    for (options, expected) in [
        (CopyOptions::new(), vec![id]),
        (CopyOptions::new().referrers(true), vec![id, about]),
        (CopyOptions::new().parents(true), vec![id, parent]),
        (CopyOptions::new().referrers(true).parents(true), vec![id, parent, about]),
    ] {
        let to = MemoryStore::default();
        let copied = copy(&from, &to, &id, &options, &Silent).await.unwrap();
        assert_eq!(*copied.manifests.last().unwrap(), id, "the record itself comes last");
        let mut expected = expected;
        expected.sort_unstable();
        assert_eq!(to.manifests().await.unwrap(), expected);
    }
    // A statement brings what it is about.
    let to = MemoryStore::default();
    copy(&from, &to, &about, &CopyOptions::new(), &Silent).await.unwrap();
    assert!(to.contains(&id).await.unwrap());
}

/// A source that is not honest about one blob.
#[derive(Debug)]
struct Hostile {
    inner: MemoryStore,
    victim: Digest,
    bytes: Bytes,
}

#[async_trait]
impl ArtifactStore for Hostile {
    async fn put_stream(&self, _: ByteStream, _: Option<&Digest>) -> Result<Digest> {
        panic!("nothing is put into a source")
    }

    async fn get_stream(&self, digest: &Digest) -> Result<ByteStream> {
        if *digest == self.victim {
            return Ok(stream::chunked(self.bytes.clone(), 1000));
        }
        self.inner.get_stream(digest).await
    }

    async fn size_of(&self, digest: &Digest) -> Result<Option<u64>> {
        self.inner.size_of(digest).await
    }

    async fn put_manifest(&self, _: Bytes) -> Result<Digest> {
        panic!("nothing is put into a source")
    }

    async fn referrers(&self, subject: &Digest) -> Result<Vec<Digest>> {
        self.inner.referrers(subject).await
    }

    async fn manifests(&self) -> Result<Vec<Digest>> {
        self.inner.manifests().await
    }

    async fn blobs(&self) -> Result<Vec<(Digest, u64)>> {
        self.inner.blobs().await
    }
}

#[tokio::test]
async fn a_hostile_source_leaves_no_record_without_its_blobs() {
    let inner = MemoryStore::default();
    let (_, id, _) = records(&inner).await;
    let weights = inner.manifest(&id).await.unwrap().layers[0].clone();
    let mut other = vec![7; 3 << 20];
    other[1 << 20] = 8;
    let endless = vec![7; (3 << 20) + 1];
    let mut from = Hostile { inner, victim: weights.digest, bytes: Bytes::new() };
    let dir = tempfile::tempdir().unwrap();
    let local = LocalStore::open(dir.path()).await.unwrap();
    let objects = ObjectArtifacts::in_memory().await.unwrap();
    let memory = MemoryStore::default();
    let targets: [&dyn ArtifactStore; 3] = [&local, &objects, &memory];
    for to in targets {
        for bytes in [other.clone(), endless.clone(), Vec::new()] {
            from.bytes = bytes.into();
            let error = copy(&from, to, &id, &CopyOptions::new(), &Silent).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
            assert!(error.to_string().contains(&weights.digest.hex()), "{error}");
            assert_eq!(to.size_of(&weights.digest).await.unwrap(), None);
            assert!(to.manifests().await.unwrap().is_empty());
        }
        // It goes on where it was cut off.
        from.bytes = vec![7; 3 << 20].into();
        let copied = copy(&from, to, &id, &CopyOptions::new(), &Silent).await.unwrap();
        assert_eq!((copied.blobs, copied.present), (1, 1));
    }
}

#[tokio::test]
async fn oversized_manifests_are_refused_before_they_are_read() {
    let from = MemoryStore::default();
    let large = from.put_blob(vec![b' '; Manifest::MAX_BYTES + 1].into()).await.unwrap();
    let body = from.put_blob("{}".into()).await.unwrap();
    let body = Descriptor::new(media_type::JSON, body, 2);
    let many = Manifest::new(body.clone(), vec![body; Manifest::MAX_LAYERS + 1]);
    let many = from.put_blob(many.to_bytes().unwrap().into()).await.unwrap();
    let deep = [vec![b'['; 100_000], vec![b']'; 100_000]].concat();
    let deep =
        from.put_blob([b"{\"schemaVersion\":".to_vec(), deep].concat().into()).await.unwrap();
    let to = MemoryStore::default();
    for id in [large, many, deep] {
        let error = copy(&from, &to, &id, &CopyOptions::new(), &Silent).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        assert!(error.to_string().contains(&id.hex()), "{error}");
    }
    let missing = Digest::of("never put");
    let error = copy(&from, &to, &missing, &CopyOptions::new(), &Silent).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(to.blobs().await.unwrap().is_empty());
}
