//! Copying records between stores.

use std::collections::BTreeSet;
use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use kaizen_core::record::{Image, Release};
use kaizen_core::{
    ArtifactStore, ByteStream, Bytes, Descriptor, Digest, ErrorKind, Manifest, Payload, Progress,
    Records, Result, Silent, async_trait, media_type, stream,
};
use kaizen_store::{
    CopyOptions, Link, LocalStore, ObjectArtifacts, SkipReason, copy, fsck, lineage,
};
use kaizen_testkit::{Doubled, MemoryStore, StoreDouble};

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

/// A manifest with one layer, changed by this; its bytes are in the store.
async fn with_layer(
    store: &dyn ArtifactStore,
    change: impl FnOnce(&mut Manifest),
) -> (Digest, Manifest) {
    let blob = store.put_blob("{}".into()).await.unwrap();
    let blob = Descriptor::new(media_type::JSON, blob, 2);
    let mut manifest = Manifest::new(blob.clone(), vec![blob]);
    change(&mut manifest);
    let id = store.put_manifest(manifest.to_bytes().unwrap().into()).await.unwrap();
    (id, manifest)
}

#[tokio::test]
async fn sizes_that_add_up_to_more_than_there_are_numbers_are_counted_as_far_as_numbers_go() {
    let (from, to) = (MemoryStore::default(), MemoryStore::default());
    let other = from.put_blob("other".into()).await.unwrap();
    let (id, _) = with_layer(&from, |manifest| {
        manifest.layers[0] = Descriptor::new(media_type::JSON, other, 1 << 63);
        manifest.config.size = 1 << 63;
    })
    .await;
    let seen = Seen::default();
    let copied = copy(&from, &to, &id, &CopyOptions::new(), &seen).await.unwrap();
    assert_eq!((copied.blobs, copied.bytes), (2, 7));
    let reports = seen.0.into_inner().unwrap();
    assert!(reports.is_sorted() && reports.iter().all(|(_, total)| *total == Some(u64::MAX)));
}

#[tokio::test]
async fn a_title_that_climbs_is_refused_where_it_was_asked_for_and_else_left_out() {
    for title in ["../../etc/cron.d/x", "/etc/passwd", "a\\..\\b", ""] {
        let from = MemoryStore::default();
        let (id, _) = with_layer(&from, |_| ()).await;
        let subject = from.describe(&id).await.unwrap();
        let climbing = |manifest: &mut Manifest| {
            manifest.layers[0].annotations.insert(media_type::TITLE.into(), title.into());
            manifest.subject = Some(subject);
        };
        let (bad, _) = with_layer(&from, climbing).await;
        let to = MemoryStore::default();
        let error = copy(&from, &to, &bad, &CopyOptions::new(), &Silent).await.unwrap_err();
        assert!(error.kind() == ErrorKind::Refused && error.to_string().contains(&bad.hex()));
        assert!(to.blobs().await.unwrap().is_empty(), "nothing has travelled");
        // What others say, or name, ends no copy of what was asked for.
        let subject = from.describe(&bad).await.unwrap();
        let (about, _) = with_layer(&from, |manifest| manifest.subject = Some(subject)).await;
        let made = from.put(&release(bad), &[]).await.unwrap();
        for (id, options, link) in [
            (id, CopyOptions::new().referrers(true), Link::Referrer),
            (about, CopyOptions::new(), Link::Subject),
            (made, CopyOptions::new().parents(true), Link::Parent),
        ] {
            let to = MemoryStore::default();
            let copied = copy(&from, &to, &id, &options, &Silent).await.unwrap();
            assert_eq!(copied.manifests, [id]);
            let [skipped] = &copied.skipped[..] else { panic!("{:?}", copied.skipped) };
            let reason = SkipReason::Title;
            assert_eq!((skipped.digest, skipped.link, skipped.reason), (bad, link, reason));
            assert!(!to.contains(&bad).await.unwrap());
        }
        // What nobody would copy is not put in the first place.
        let payload = Payload::new(title, media_type::JSON, "{}");
        let error = from.put(&release(bad), &[payload]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    }
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
    /// What it gives in its place; bytes without end if there are none.
    bytes: Bytes,
    asked: AtomicU64,
    given: Arc<AtomicU64>,
    /// How many bytes it says those without end are, every other time.
    large: u64,
    /// What it says is about everything.
    about: Vec<Digest>,
}

impl Hostile {
    fn new(inner: MemoryStore, victim: Digest) -> Doubled<Self> {
        let (asked, given) = (AtomicU64::new(0), Arc::default());
        let (large, about) = (1 << 40, Vec::new());
        Doubled(Self { inner, victim, bytes: Bytes::new(), asked, given, large, about })
    }
}

#[async_trait]
impl StoreDouble for Hostile {
    fn inner(&self) -> &dyn ArtifactStore {
        &self.inner
    }

    async fn put_stream(&self, _: ByteStream, _: Option<&Digest>) -> Result<Digest> {
        panic!("nothing is put into a source")
    }

    async fn get_stream(&self, digest: &Digest) -> Result<ByteStream> {
        if *digest == self.victim && self.bytes.is_empty() {
            // Far more than anybody can hold.
            let piece = Bytes::from(vec![b' '; 1 << 20]);
            let given = Arc::clone(&self.given);
            return Ok(Box::pin(futures_util::stream::repeat_with(move || {
                given.fetch_add(piece.len() as u64, Ordering::SeqCst);
                assert!(given.load(Ordering::SeqCst) < 1 << 30, "a reader without bounds");
                Ok(piece.clone())
            })));
        }
        if *digest == self.victim {
            return Ok(stream::chunked(self.bytes.clone(), 1000));
        }
        self.inner.get_stream(digest).await
    }

    async fn size_of(&self, digest: &Digest) -> Result<Option<u64>> {
        if *digest == self.victim && self.bytes.is_empty() {
            // Another answer each time.
            let small = self.asked.fetch_add(1, Ordering::SeqCst).is_multiple_of(2);
            return Ok(Some(if small { 10 } else { self.large }));
        }
        self.inner.size_of(digest).await
    }

    async fn put_manifest(&self, _: Bytes) -> Result<Digest> {
        panic!("nothing is put into a source")
    }

    async fn referrers(&self, subject: &Digest) -> Result<Vec<Digest>> {
        if !self.about.is_empty() {
            return Ok(self.about.clone());
        }
        self.inner.referrers(subject).await
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
    let mut from = Hostile::new(inner, weights.digest);
    let dir = tempfile::tempdir().unwrap();
    let local = LocalStore::open(dir.path()).await.unwrap();
    let objects = ObjectArtifacts::in_memory().await.unwrap();
    let memory = MemoryStore::default();
    let targets: [&dyn ArtifactStore; 3] = [&local, &objects, &memory];
    for to in targets {
        for bytes in [other.clone(), endless.clone(), vec![7; 5]] {
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
        // The body was on its way beside the weights: it has arrived, or was given up with them.
        assert!(copied.blobs >= 1 && copied.blobs + copied.present == 2, "{copied:?}");
        assert_eq!(to.manifests().await.unwrap(), [id]);
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

#[tokio::test]
async fn a_source_that_says_another_size_each_time_makes_nobody_hold_more_than_there_may_be() {
    let inner = MemoryStore::default();
    let (_, id, about) = records(&inner).await;
    let body = inner.manifest(&id).await.unwrap().config.digest;
    let layer = inner.manifest(&id).await.unwrap().layers[0].digest;
    let mut from = Hostile::new(inner, id);
    let to = MemoryStore::default();
    let all = CopyOptions::new().referrers(true).parents(true);
    for victim in [id, body, layer] {
        from.victim = victim;
        from.given.store(0, Ordering::SeqCst);
        copy(&from, &to, &id, &all, &Silent).await.unwrap_err();
        let small = from.given.load(Ordering::SeqCst) <= 6 << 20;
        assert!(small, "{} bytes were taken", from.given.load(Ordering::SeqCst));
    }
    // Nor do records and plain blobs.
    for victim in [id, body] {
        from.victim = victim;
        from.given.store(0, Ordering::SeqCst);
        from.get::<Release>(&id).await.unwrap_err();
        assert!(from.given.load(Ordering::SeqCst) <= 6 << 20);
    }
    from.victim = about;
    from.given.store(0, Ordering::SeqCst);
    from.asked.store(0, Ordering::SeqCst);
    let error = from.describe(&about).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Limit);
    for _ in 0..2 {
        let error = from.get_blob(&about).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Limit);
    }
    assert!(from.given.load(Ordering::SeqCst) <= 8 << 20);
}

#[tokio::test]
async fn manifests_without_number_are_left() {
    let inner = MemoryStore::default();
    let (_, id, _) = records(&inner).await;
    let mut from = Hostile::new(inner, Digest::of("nobody"));
    from.bytes = "none".into();
    let body = Descriptor::of(media_type::JSON, b"{}");
    from.inner.put_blob("{}".into()).await.unwrap();
    for number in 0..70 {
        let mut manifest = Manifest::new(body.clone(), Vec::new());
        manifest.subject = Some(from.inner.describe(&id).await.unwrap());
        let padding = format!("{number} {}", "x".repeat(4_000_000));
        manifest.annotations.insert("padding".into(), padding);
        let bytes = manifest.to_bytes().unwrap().into();
        from.inner.put_manifest(bytes).await.unwrap();
    }
    let to = MemoryStore::default();
    let all = CopyOptions::new().referrers(true);
    let error = copy(&from, &to, &id, &all, &Silent).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Limit, "{error}");
    assert!(to.blobs().await.unwrap().is_empty());
}

#[tokio::test]
async fn stale_and_foreign_referrers_are_left_out_and_counted() {
    let inner = MemoryStore::default();
    let (parent, id, about) = records(&inner).await;
    let stale = Digest::of("a statement that the registry has collected");
    let (media, bytes) = (media_type::INDEX, about.to_string());
    let index = format!(
        r#"{{"schemaVersion":2,"mediaType":"{media}","manifests":[{{"digest":"{bytes}"}}]}}"#
    );
    let index = inner.put_blob(index.into()).await.unwrap();
    let text = inner.put_blob("no JSON".into()).await.unwrap();
    let mut from = Hostile::new(inner, Digest::of("nobody"));
    from.bytes = "none".into();
    // The record itself is about nothing, and another statement is about another record.
    let image = Image { release: parent, platform: String::new(), manifest: id };
    let foreign = from.inner.put(&image, &[]).await.unwrap();
    from.about = vec![stale, index, text, foreign, about];
    let to = MemoryStore::default();
    let options = CopyOptions::new().referrers(true);
    let copied = copy(&from, &to, &id, &options, &Silent).await.unwrap();
    assert_eq!(copied.manifests, [about, id]);
    let skipped = |digest: Digest| {
        let one = copied.skipped.iter().find(|skipped| skipped.digest == digest);
        one.map(|one| (one.link, one.reason))
    };
    assert_eq!(skipped(stale), Some((Link::Referrer, SkipReason::Missing)));
    assert_eq!(skipped(index), Some((Link::Referrer, SkipReason::NoRecord)));
    assert_eq!(skipped(text), Some((Link::Referrer, SkipReason::NoRecord)));
    assert_eq!(skipped(foreign), Some((Link::Referrer, SkipReason::AboutAnother)));
    // A plain pull of an index is told that it is none of ours.
    let error = copy(&from, &to, &index, &CopyOptions::new(), &Silent).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
}

#[tokio::test]
async fn what_is_damaged_is_not_left_out_and_what_is_gone_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let from = LocalStore::open(dir.path()).await.unwrap();
    let (parent, id, about) = records(&from).await;
    let to = MemoryStore::default();
    let with = CopyOptions::new().parents(true);
    for (copied, damaged, options) in [(about, id, CopyOptions::new()), (id, parent, with)] {
        let path = from.blob_path(&damaged);
        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[1..]).unwrap();
        let error = copy(&from, &to, &copied, &options, &Silent).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        assert!(error.to_string().contains(&damaged.hex()), "{error}");
        fs::write(&path, whole).unwrap();
    }
    // A statement outlives what it is about; that it came alone is said.
    fs::remove_file(from.blob_path(&id)).unwrap();
    let copied = copy(&from, &to, &about, &CopyOptions::new(), &Silent).await.unwrap();
    assert_eq!(copied.manifests, [about]);
    let [skipped] = &copied.skipped[..] else { panic!("{:?}", copied.skipped) };
    assert_eq!(
        (skipped.digest, skipped.link, skipped.reason),
        (id, Link::Subject, SkipReason::Missing)
    );
}

#[tokio::test]
async fn a_record_is_put_after_all_that_it_was_made_from() {
    let from = MemoryStore::default();
    // Each is made from one or two before it, in any order of digests.
    let mut made = vec![Digest::of("none"), Digest::of("nothing")];
    for number in 0..24_usize {
        let [model, service] = [made[number + 1], made[(number + 1) * 7 % (number + 2)]];
        let version = number as u32;
        let release =
            Release { name: "late".into(), version, model, service, functions: Vec::new() };
        made.push(from.put(&release, &[]).await.unwrap());
    }
    let to = MemoryStore::default();
    let last = made[made.len() - 1];
    let options = CopyOptions::new().parents(true);
    let copied = copy(&from, &to, &last, &options, &Silent).await.unwrap();
    assert_eq!(copied.manifests, made[2..], "each comes after those that it names");
}

/// A target that has some blobs from elsewhere and does not read them.
#[tokio::test]
async fn progress_ends_at_its_total_where_blobs_were_there_after_all() {
    let from = MemoryStore::default();
    let (_, id, _) = records(&from).await;
    let dir = tempfile::tempdir().unwrap();
    let to = LocalStore::open(dir.path()).await.unwrap();
    // It has all, but is said to have nothing.
    copy(&from, &to, &id, &CopyOptions::new(), &Silent).await.unwrap();
    let seen = Seen::default();
    let forgetful = Doubled(Forgetful(to.clone()));
    let copied = copy(&from, &forgetful, &id, &CopyOptions::new(), &seen).await.unwrap();
    assert_eq!((copied.blobs, copied.bytes, copied.present), (0, 0, 2));
    let (done, total) = *seen.0.lock().unwrap().last().unwrap();
    assert_eq!(Some(done), total);
    assert!(done > 3 << 20);
}

#[derive(Debug)]
struct Forgetful(LocalStore);

#[async_trait]
impl StoreDouble for Forgetful {
    fn inner(&self) -> &dyn ArtifactStore {
        &self.0
    }

    async fn size_of(&self, _: &Digest) -> Result<Option<u64>> {
        Ok(None)
    }
}

#[tokio::test]
async fn a_copy_that_is_to_verify_heals_what_is_damaged_in_the_target() {
    let from = MemoryStore::default();
    let (_, id, _) = records(&from).await;
    let dir = tempfile::tempdir().unwrap();
    let to = LocalStore::open(dir.path()).await.unwrap();
    copy(&from, &to, &id, &CopyOptions::new(), &Silent).await.unwrap();
    let weights = from.manifest(&id).await.unwrap().layers[0].digest;
    let mut damaged = vec![7; 3 << 20];
    damaged[17] = 8;
    fs::write(to.blob_path(&weights), damaged).unwrap();
    let copied = copy(&from, &to, &id, &CopyOptions::new(), &Silent).await.unwrap();
    assert_eq!(copied.blobs, 0, "it has the right size");
    let verify = CopyOptions::new().verify(true);
    let copied = copy(&from, &to, &id, &verify, &Silent).await.unwrap();
    assert_eq!((copied.blobs, copied.present), (1, 1));
    assert!(fsck(&to, None).await.unwrap().problems.is_empty());
}

#[tokio::test]
async fn what_is_missed_is_named_whichever_link_is_met_first() {
    let mut orders = BTreeSet::new();
    for version in 0..32 {
        let from = MemoryStore::default();
        let mut lost = release(Digest::of("none"));
        lost.version = 100 + version;
        let lost = from.put(&lost, &[]).await.unwrap();
        let image = Image { release: lost, platform: String::new(), manifest: lost };
        let image = from.put(&image, &[]).await.unwrap();
        // It names what the image is about, and the image.
        let mut made = release(lost);
        made.service = image;
        let id = from.put(&made, &[]).await.unwrap();
        orders.insert(lost < image);
        from.remove_manifest(&lost).await.unwrap();
        let to = MemoryStore::default();
        let parents = CopyOptions::new().parents(true);
        let copied = copy(&from, &to, &id, &parents, &Silent).await.unwrap();
        let [skipped] = &copied.skipped[..] else { panic!("{version}: {:?}", copied.skipped) };
        assert_eq!((skipped.digest, skipped.link), (lost, Link::Subject));
    }
    assert_eq!(orders.len(), 2, "digests come in either order");
}

#[tokio::test]
async fn what_a_statement_is_about_comes_along_if_it_is_a_blob() {
    let from = MemoryStore::default();
    let key = from.put_blob(r#"{"step":"train"}"#.into()).await.unwrap();
    let large = from.put_blob(vec![7; Manifest::MAX_BYTES + 1].into()).await.unwrap();
    for about in [key, large] {
        let image = Image { release: about, platform: String::new(), manifest: about };
        let id = from.put(&image, &[]).await.unwrap();
        let to = MemoryStore::default();
        let copied = copy(&from, &to, &id, &CopyOptions::new(), &Silent).await.unwrap();
        assert_eq!((copied.skipped.len(), copied.blobs), (0, 2));
        assert_eq!(to.get_blob(&about).await.unwrap(), from.get_blob(&about).await.unwrap());
        from.remove_blob(&about).await.unwrap();
        let copied = copy(&from, &to, &id, &CopyOptions::new(), &Silent).await.unwrap();
        assert_eq!(copied.skipped[0].reason, SkipReason::Missing);
    }
}

#[tokio::test]
async fn a_target_that_keeps_damaged_bytes_is_named() {
    let from = MemoryStore::default();
    let (_, id, _) = records(&from).await;
    let dir = tempfile::tempdir().unwrap();
    let inner = LocalStore::open(dir.path()).await.unwrap();
    copy(&from, &inner, &id, &CopyOptions::new(), &Silent).await.unwrap();
    let weights = from.manifest(&id).await.unwrap().layers[0].digest;
    let mut damaged = vec![7; 3 << 20];
    damaged[17] = 8;
    let to = Doubled(Content(inner));
    for (bytes, verify) in [(damaged, true), (vec![7; 5], false), (vec![7; 5], true)] {
        fs::write(to.0.0.blob_path(&weights), bytes).unwrap();
        let options = CopyOptions::new().verify(verify);
        let error = copy(&from, &to, &id, &options, &Silent).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        assert!(error.to_string().contains(&weights.hex()), "{error}");
    }
}

/// A target that takes nothing under a digest of which it has something, as registries do.
#[derive(Debug)]
struct Content(LocalStore);

#[async_trait]
impl StoreDouble for Content {
    fn inner(&self) -> &dyn ArtifactStore {
        &self.0
    }

    async fn put_stream(&self, bytes: ByteStream, expected: Option<&Digest>) -> Result<Digest> {
        if let Some(digest) = expected
            && self.0.contains(digest).await?
        {
            return Ok(*digest);
        }
        self.0.put_stream(bytes, expected).await
    }
}

#[tokio::test]
async fn statements_without_number_that_are_not_there_are_left() {
    let inner = MemoryStore::default();
    let (_, id, _) = records(&inner).await;
    let mut from = Hostile::new(inner, Digest::of("nobody"));
    from.bytes = "none".into();
    from.about = (0..100_000).map(|number| Digest::of(format!("missing {number}"))).collect();
    // A chain of statements, each with as many that are not there.
    let mut last = id;
    for _ in 0..12 {
        let image = Image { release: last, platform: String::new(), manifest: last };
        last = from.inner.put(&image, &[]).await.unwrap();
        // What is not there is looked at before the next of the chain.
        from.about.insert(0, last);
    }
    let to = MemoryStore::default();
    let all = CopyOptions::new().referrers(true);
    let error = copy(&from, &to, &id, &all, &Silent).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Limit, "{error}");
    assert!(to.blobs().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_lineage_reads_no_more_of_a_body_than_its_record_says() {
    let inner = MemoryStore::default();
    let (_, id, _) = records(&inner).await;
    let body = inner.manifest(&id).await.unwrap().config.digest;
    let mut from = Hostile::new(inner, body);
    // Few enough for a blob that is read whole, and far more than the record says.
    from.large = 1 << 29;
    for asked in [0, 1] {
        from.asked.store(asked, Ordering::SeqCst);
        from.given.store(0, Ordering::SeqCst);
        lineage(&from, &id).await.unwrap_err();
        assert!(from.given.load(Ordering::SeqCst) <= 6 << 20);
    }
}
