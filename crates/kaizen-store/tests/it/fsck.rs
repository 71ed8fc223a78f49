//! Whatever is wrong with a layout is found and named.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kaizen_core::record::{self, Image};
use kaizen_core::{
    ArtifactStore, AuditLog, Descriptor, Digest, Entry, ErrorKind, Event, Manifest, Payload,
    Records, Result, async_trait, media_type,
};
use kaizen_store::{Fault, Layout as _, LocalStore, Need, ObjectArtifacts, fsck};
use kaizen_testkit::artifact_store::release;
use kaizen_testkit::audit_log::entry;
use kaizen_testkit::{Doubled, LogDouble, MemoryLog};
use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreExt as _, PutPayload};

fn said(event: Event, subject: Digest) -> Entry {
    Entry { event, subject, evidence: Vec::new(), ..entry(0) }
}

/// Two records, one about the other, with a payload; the log speaks of both.
async fn fill(store: &dyn ArtifactStore, log: &MemoryLog) -> (Digest, Digest, Digest) {
    let payload = Payload::new("rows", "text/plain", "rows of a person");
    let id = store.put(&release(1), std::slice::from_ref(&payload)).await.unwrap();
    let image = Image { release: id, platform: "linux/amd64".into(), manifest: id };
    let image = store.put(&image, &[]).await.unwrap();
    let entries = [said(Event::Released, id), said(Event::Packaged, image)];
    log.append(&entries, None).await.unwrap();
    (id, image, Digest::of(&payload.bytes))
}

fn files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files(&path, found) } else { found.push(path) }
    }
}

#[tokio::test]
async fn one_flipped_bit_anywhere_on_disk_is_found_and_named() {
    let dir = tempfile::tempdir().unwrap();
    let store = LocalStore::open(dir.path()).await.unwrap();
    let log = MemoryLog::default();
    fill(&store, &log).await;
    let store = LocalStore::to_check(dir.path());
    let checked = fsck(&store, Some(&log)).await.unwrap();
    assert!(checked.is_sound() && checked.problems.is_empty(), "{:?}", checked.problems);
    assert_eq!((checked.blobs, checked.manifests), (5, 2));
    let mut all = Vec::new();
    files(dir.path(), &mut all);
    let mut flips = 0;
    for path in all {
        let whole = fs::read(&path).unwrap();
        let name = path.strip_prefix(dir.path()).unwrap().to_str().unwrap().to_owned();
        for at in 0..whole.len() {
            // Every bit of the index, where what a bit means differs; one of each other byte.
            let bits = if name == "index.json" { 0..8 } else { at as u32 % 8..at as u32 % 8 + 1 };
            for bit in bits {
                let mut flipped = whole.clone();
                flipped[at] ^= 1 << bit;
                fs::write(&path, &flipped).unwrap();
                let checked = fsck(&store, Some(&log)).await.unwrap();
                let what = format!("{name}, byte {at}, bit {bit}: {:?}", checked.problems);
                assert!(!checked.is_sound(), "{what}");
                assert!(checked.problems.iter().any(|p| p.file == name), "{what}");
                flips += 1;
            }
        }
        fs::write(&path, &whole).unwrap();
    }
    assert!(flips > 2000, "{flips} bits were flipped");
    assert!(fsck(&store, Some(&log)).await.unwrap().problems.is_empty());
}

#[tokio::test]
async fn one_flipped_bit_anywhere_in_a_bucket_is_found_and_named() {
    let bucket: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let store = ObjectArtifacts::open(Arc::clone(&bucket), "a").await.unwrap();
    let log = MemoryLog::default();
    fill(&store, &log).await;
    let store = ObjectArtifacts::to_check(Arc::clone(&bucket), "a").unwrap();
    assert!(fsck(&store, Some(&log)).await.unwrap().problems.is_empty());
    for (name, _) in store.files().await.unwrap() {
        let path = object_store::path::Path::from(format!("a/{name}"));
        let whole = bucket.get(&path).await.unwrap().bytes().await.unwrap();
        for at in 0..whole.len() {
            let mut flipped = whole.to_vec();
            flipped[at] ^= 1 << (at % 8);
            bucket.put(&path, PutPayload::from(flipped)).await.unwrap();
            let checked = fsck(&store, Some(&log)).await.unwrap();
            let what = format!("{name}, byte {at}: {:?}", checked.problems);
            assert!(!checked.is_sound(), "{what}");
            assert!(checked.problems.iter().any(|p| p.file == name), "{what}");
        }
        bucket.put(&path, whole.into()).await.unwrap();
    }
    assert!(fsck(&store, Some(&log)).await.unwrap().problems.is_empty());
}

#[tokio::test]
async fn what_is_missing_is_named_with_what_needs_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = LocalStore::open(dir.path()).await.unwrap();
    let log = MemoryLog::default();
    let (id, image, rows) = fill(&store, &log).await;
    let gone = |digest: &Digest| fs::remove_file(store.blob_path(digest)).unwrap();
    gone(&rows);
    let checked = fsck(&store, Some(&log)).await.unwrap();
    let [problem] = &checked.problems[..] else { panic!("{:?}", checked.problems) };
    assert_eq!((problem.fault, problem.digest), (Fault::Missing, Some(rows)));
    assert_eq!(problem.file, format!("blobs/sha256/{}", rows.hex()));
    assert_eq!(problem.needed_by, [Need::Manifest(id)]);
    let text = problem.to_string();
    assert!(text.ends_with(&format!("missing; needed by manifest {id}")), "{text}");
    // A manifest is needed by the log, too.
    gone(&image);
    let checked = fsck(&store, Some(&log)).await.unwrap();
    let needs: Vec<_> = checked.problems.iter().filter(|p| p.digest == Some(image)).collect();
    assert!(needs.iter().any(|p| p.needed_by == [Need::Entry(1)]), "{needs:?}");
    assert!(needs.iter().any(|p| p.needed_by == [Need::Index]), "{needs:?}");
}

#[tokio::test]
async fn what_a_tombstone_says_was_removed_is_not_missed_until_it_is_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = LocalStore::open(dir.path()).await.unwrap();
    let log = MemoryLog::default();
    let (id, _, rows) = fill(&store, &log).await;
    let removed = Event::Removed { reason: "asked for".into() };
    log.append(&[said(removed, rows)], None).await.unwrap();
    assert!(fsck(&store, Some(&log)).await.unwrap().problems.is_empty(), "not removed yet");
    store.remove_blob(&rows).await.unwrap();
    let checked = fsck(&store, Some(&log)).await.unwrap();
    assert!(checked.problems.is_empty(), "{:?}", checked.problems);
    assert_eq!(checked.removed, 1);
    // Without the log nobody knows.
    assert!(!fsck(&store, None).await.unwrap().is_sound());
    log.append(&[said(Event::Released, id)], None).await.unwrap();
    let checked = fsck(&store, Some(&log)).await.unwrap();
    assert_eq!(checked.problems[0].fault, Fault::Missing, "it was made again since");
}

#[tokio::test]
async fn what_does_not_belong_is_named_and_does_no_harm() {
    let dir = tempfile::tempdir().unwrap();
    let store = LocalStore::open(dir.path()).await.unwrap();
    fill(&store, &MemoryLog::default()).await;
    fs::write(dir.path().join("notes.txt"), "mine").unwrap();
    fs::write(dir.path().join("blobs/sha256/.17-3.tmp"), "half").unwrap();
    fs::create_dir(dir.path().join("blobs/sha512")).unwrap();
    fs::write(dir.path().join("blobs/sha512/00"), "other").unwrap();
    std::os::unix::fs::symlink("/etc/hostname", dir.path().join("blobs/link")).unwrap();
    // A manifest whose put was cut off before it was listed.
    let manifest = store.manifest(&store.manifests().await.unwrap()[0]).await.unwrap();
    let mut other = manifest.clone();
    other.annotations.insert("a".into(), "b".into());
    let other = store.put_blob(other.to_bytes().unwrap().into()).await.unwrap();
    let checked = fsck(&store, None).await.unwrap();
    assert!(checked.is_sound(), "{:?}", checked.problems);
    let found: Vec<_> = checked.problems.iter().map(|p| (&*p.file, p.fault)).collect();
    let unlisted = format!("blobs/sha256/{}", other.hex());
    let mut expected = vec![
        ("blobs/link", Fault::Stranger),
        ("blobs/sha256/.17-3.tmp", Fault::Unfinished),
        (&*unlisted, Fault::Unlisted),
        ("blobs/sha512/00", Fault::Stranger),
        ("notes.txt", Fault::Stranger),
    ];
    expected.sort_unstable();
    assert_eq!(found, expected);
}

#[tokio::test]
async fn no_name_leads_out_of_a_layout() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("secret"), "mine").unwrap();
    let store = LocalStore::open(dir.path().join("store")).await.unwrap();
    for name in ["../secret", "blobs/../../secret", "/etc/hostname", "", "./oci-layout"] {
        let error = store.read_file(name, 100).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{name}");
    }
    assert!(store.read_file("oci-layout", 100).await.unwrap().is_some());
    assert_eq!(store.read_file("oci-layout", 5).await.unwrap_err().kind(), ErrorKind::Limit);
}

#[tokio::test]
async fn a_store_that_is_gone_altogether_is_said_to_be() {
    let dir = tempfile::tempdir().unwrap();
    let checked = fsck(&LocalStore::to_check(dir.path().join("none")), None).await.unwrap();
    let found: Vec<_> = checked.problems.iter().map(|p| (&*p.file, p.fault)).collect();
    assert_eq!(found, [("index.json", Fault::Missing), ("oci-layout", Fault::Missing)]);
}

#[tokio::test]
async fn what_cannot_be_read_is_named_and_the_rest_is_checked() {
    let dir = tempfile::tempdir().unwrap();
    let store = LocalStore::open(dir.path()).await.unwrap();
    let log = MemoryLog::default();
    let (id, image, rows) = fill(&store, &log).await;
    // A link to itself cannot be opened, one into the void leads nowhere, and a third is damaged.
    let path = store.blob_path(&rows);
    fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink(&path, &path).unwrap();
    let body = store.manifest(&id).await.unwrap().config.digest;
    fs::remove_file(store.blob_path(&body)).unwrap();
    std::os::unix::fs::symlink(dir.path().join("nowhere"), store.blob_path(&body)).unwrap();
    fs::write(store.blob_path(&image), "no image").unwrap();
    let checked = fsck(&store, Some(&log)).await.unwrap();
    assert!(!checked.is_sound());
    let fault = |digest: Digest| {
        let found = checked.problems.iter().find(|problem| problem.digest == Some(digest));
        found.map(|problem| (problem.fault, problem.needed_by.clone())).unwrap()
    };
    assert_eq!(fault(rows), (Fault::Unreadable, vec![Need::Manifest(id)]));
    assert_eq!(fault(body), (Fault::Unreadable, vec![Need::Manifest(id)]));
    assert_eq!(fault(image), (Fault::Damaged, vec![Need::Entry(1)]));
}

#[tokio::test]
async fn what_the_log_says_came_back_is_missed_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = LocalStore::open(dir.path()).await.unwrap();
    let log = MemoryLog::default();
    let (_, _, rows) = fill(&store, &log).await;
    let removed = Event::Removed { reason: "garbage: nothing reaches it".into() };
    log.append(&[said(removed, rows), said(Event::Restored, rows)], None).await.unwrap();
    store.remove_blob(&rows).await.unwrap();
    let checked = fsck(&store, Some(&log)).await.unwrap();
    assert_eq!(checked.problems[0].fault, Fault::Missing);
}

/// A log that is read as somebody puts a record and says so.
#[derive(Debug)]
struct Busy {
    inner: MemoryLog,
    store: LocalStore,
    damages: bool,
}

#[async_trait]
impl LogDouble for Busy {
    fn inner(&self) -> &dyn AuditLog {
        &self.inner
    }

    async fn first(&self) -> Result<u64> {
        let (_, _, rows) = fill(&self.store, &self.inner).await;
        if self.damages {
            fs::write(self.store.blob_path(&rows), "other rows").unwrap();
        }
        Ok(0)
    }
}

#[tokio::test]
async fn what_is_put_after_the_files_were_listed_is_checked_and_not_missed() {
    for damages in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let store = LocalStore::open(dir.path()).await.unwrap();
        let busy = Busy { inner: MemoryLog::default(), store: store.clone(), damages };
        let log = Doubled(busy);
        let checked = fsck(&store, Some(&log)).await.unwrap();
        assert_eq!((checked.blobs, checked.manifests), (5, 2));
        assert_eq!(checked.is_sound(), !damages, "{:?}", checked.problems);
        assert_eq!(checked.problems.len(), usize::from(damages), "{:?}", checked.problems);
    }
}

/// A log after which somebody removes a record, once it was read: from the index, then altogether.
#[derive(Debug)]
struct Emptied {
    inner: MemoryLog,
    store: LocalStore,
    id: Digest,
    /// Whether the collection was stopped between the two.
    is_stopped: bool,
}

#[async_trait]
impl LogDouble for Emptied {
    fn inner(&self) -> &dyn AuditLog {
        &self.inner
    }

    async fn read(&self, indices: Range<u64>) -> Result<Vec<Entry>> {
        let entries = self.inner.read(indices).await;
        if self.store.manifests().await?.contains(&self.id) {
            let removed = said(Event::Removed { reason: "garbage".into() }, self.id);
            self.inner.append(&[removed], None).await?;
            let path = self.store.blob_path(&self.id);
            let bytes = fs::read(&path).unwrap();
            self.store.remove_manifest(&self.id).await?;
            if self.is_stopped {
                fs::write(&path, bytes).unwrap();
            }
        }
        entries
    }
}

#[tokio::test]
async fn what_a_collection_removes_after_it_was_read_is_no_fault() {
    for is_stopped in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let store = LocalStore::open(dir.path()).await.unwrap();
        let inner = MemoryLog::default();
        let (_, id, _) = fill(&store, &inner).await;
        let log = Doubled(Emptied { inner, store: store.clone(), id, is_stopped });
        let checked = fsck(&store, Some(&log)).await.unwrap();
        assert!(!store.manifests().await.unwrap().contains(&id));
        assert!(checked.is_sound(), "{:?}", checked.problems);
        assert_eq!(checked.manifests, 1 + u64::from(is_stopped));
    }
}

#[tokio::test]
async fn a_manifest_of_another_tool_with_other_digests_is_no_fault() {
    let dir = tempfile::tempdir().unwrap();
    let store = LocalStore::open(dir.path()).await.unwrap();
    let (config, layer) = (Digest::of("{}"), "0".repeat(128));
    store.put_blob("{}".into()).await.unwrap();
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": media_type::MANIFEST,
        "config": {"mediaType": media_type::JSON, "digest": config, "size": 2},
        "layers": [{"mediaType": "text/plain", "digest": format!("sha512:{layer}"), "size": 7}],
    });
    let bytes = manifest.to_string();
    let id = store.put_blob(bytes.clone().into()).await.unwrap();
    let listed = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": media_type::INDEX,
        "manifests": [{"mediaType": media_type::MANIFEST, "digest": id, "size": bytes.len()}],
    });
    fs::write(dir.path().join("index.json"), listed.to_string()).unwrap();
    let checked = fsck(&store, None).await.unwrap();
    assert!(checked.problems.is_empty(), "{:?}", checked.problems);
}

#[tokio::test]
async fn a_body_that_is_no_json_is_named_and_does_no_harm() {
    let dir = tempfile::tempdir().unwrap();
    let store = LocalStore::open(dir.path()).await.unwrap();
    let body = store.put_blob("x".into()).await.unwrap();
    let mut manifest = Manifest::new(Descriptor::new(media_type::JSON, body, 1), Vec::new());
    // What others put there may be anything.
    manifest.artifact_type = Some("application/vnd.other".into());
    store.put_manifest(manifest.to_bytes().unwrap().into()).await.unwrap();
    assert!(fsck(&store, None).await.unwrap().problems.is_empty());
    manifest.artifact_type = Some(record::artifact_type("note"));
    let id = store.put_manifest(manifest.to_bytes().unwrap().into()).await.unwrap();
    let checked = fsck(&store, None).await.unwrap();
    let [problem] = &checked.problems[..] else { panic!("{:?}", checked.problems) };
    assert_eq!((problem.digest, problem.fault), (Some(body), Fault::Stranger));
    assert!(problem.detail.contains(&id.hex()) && checked.is_sound(), "{problem}");
}
