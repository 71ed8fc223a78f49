use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use kaizen_core::record::{Image, Release};
use kaizen_core::{
    ArtifactStore, AuditLog, Bytes, Digest, ErrorKind, Payload, Records, Silent, stream,
};
use kaizen_store::{CopyOptions, Ed25519Signer, LocalLog, LocalStore, copy, read_file};
use kaizen_testkit::artifact_store::release;
use kaizen_testkit::audit_log::entry;
use proptest::prelude::*;

#[tokio::test]
async fn a_truncated_or_altered_blob_is_corrupt_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let store = LocalStore::open(dir.path()).await.unwrap();
    let digest = store.put_blob("forty-two bytes of weights, or thereabouts".into()).await.unwrap();
    let path = store.blob_path(&digest);
    let whole = fs::read(&path).unwrap();
    let mut altered = whole.clone();
    altered[7] ^= 1;
    for bad in [&whole[..whole.len() - 1], &[], &altered] {
        fs::write(&path, bad).unwrap();
        let error = store.get_blob(&digest).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        let text = error.to_string();
        assert!(text.contains(&digest.to_string()) && text.contains(path.to_str().unwrap()));
    }
    // Putting the right bytes over a blob of the wrong length heals it.
    fs::write(&path, &whole[..5]).unwrap();
    store.put_blob(whole.clone().into()).await.unwrap();
    assert_eq!(store.get_blob(&digest).await.unwrap(), whole);
}

#[tokio::test]
async fn a_blob_that_is_there_is_not_written_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = LocalStore::open(dir.path()).await.unwrap();
    let digest = store.put_blob("once".into()).await.unwrap();
    let file = || fs::metadata(store.blob_path(&digest)).unwrap().ino();
    let before = file();
    store.put_blob("once".into()).await.unwrap();
    store.put_stream(stream::once("once".into()), None).await.unwrap();
    store.put_stream(stream::once("once".into()), Some(&digest)).await.unwrap();
    assert_eq!(file(), before);
    assert_eq!(fs::read_dir(dir.path().join("blobs/sha256")).unwrap().count(), 1);
}

#[tokio::test]
async fn a_lost_or_damaged_index_is_rebuilt_from_the_blobs() {
    let dir = tempfile::tempdir().unwrap();
    let store = LocalStore::open(dir.path()).await.unwrap();
    for version in 0..5 {
        store.put(&release(version), &[]).await.unwrap();
    }
    store.put_blob("{\"a\": \"JSON, but no manifest\"}".into()).await.unwrap();
    let manifests = store.manifests().await.unwrap();
    let path = dir.path().join("index.json");
    let index = fs::read(&path).unwrap();
    for damage in [None, Some(&index[..index.len() / 2]), Some(b"{}".as_slice())] {
        match damage {
            None => fs::remove_file(&path).unwrap(),
            Some(bytes) => fs::write(&path, bytes).unwrap(),
        }
        let reopened = LocalStore::open(dir.path()).await.unwrap();
        assert_eq!(reopened.manifests().await.unwrap(), manifests);
        assert_eq!(fs::read(&path).unwrap(), index, "the view follows from the blobs");
        // The store that was open all along sees it too.
        assert_eq!(store.manifests().await.unwrap(), manifests);
    }
}

#[tokio::test]
async fn the_index_keeps_what_other_tools_wrote_and_names_the_artifact_type() {
    let dir = tempfile::tempdir().unwrap();
    let store = LocalStore::open(dir.path()).await.unwrap();
    let path = dir.path().join("index.json");
    let foreign = r#"{"schemaVersion":2,"annotations":{"by":"another"},"manifests":[{"mediaType":
        "application/vnd.oci.image.index.v1+json","digest":"sha512:00","size":7,"platform":{}}]}"#;
    fs::write(&path, foreign).unwrap();
    let id = store.put(&release(1), &[]).await.unwrap();
    let index: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    assert_eq!(index["annotations"]["by"], "another");
    let entries = index["manifests"].as_array().unwrap();
    assert!(entries.iter().any(|entry| entry["digest"] == "sha512:00"));
    let ours = entries.iter().find(|entry| entry["digest"] == id.to_string()).unwrap();
    assert_eq!(ours["artifactType"], "application/vnd.kaizen.release.v1+json");
    assert_eq!(store.manifests().await.unwrap(), [id]);
}

#[tokio::test]
async fn a_log_in_the_same_directory_leaves_what_a_put_has_begun() {
    let dir = tempfile::tempdir().unwrap();
    let store = LocalStore::open(dir.path()).await.unwrap();
    let signer = Arc::new(Ed25519Signer::from_seed("kaizen.test/log", [1; 32]).unwrap());
    let begun = dir.path().join(".1-0.tmp");
    fs::write(&begun, "half of an index").unwrap();
    let log = LocalLog::open(dir.path(), signer.clone()).await.unwrap();
    log.append(&[entry(0)], None).await.unwrap();
    store.put(&release(1), &[]).await.unwrap();
    LocalLog::open(dir.path(), signer).await.unwrap();
    assert!(begun.exists());
}

#[tokio::test]
async fn two_stores_on_one_directory_see_each_others_manifests() {
    let dir = tempfile::tempdir().unwrap();
    let first = LocalStore::open(dir.path()).await.unwrap();
    let second = LocalStore::open(dir.path()).await.unwrap();
    let a = first.put(&release(1), &[]).await.unwrap();
    let b = second.put(&release(2), &[]).await.unwrap();
    let mut both = vec![a, b];
    both.sort_unstable();
    assert_eq!(first.manifests().await.unwrap(), both);
    assert_eq!(second.manifests().await.unwrap(), both);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_tasks_at_once_lose_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut tasks = Vec::new();
    for task in 0..4_u32 {
        let store = Arc::new(LocalStore::open(dir.path()).await.unwrap());
        tasks.push(tokio::spawn(async move {
            let mut ids = Vec::new();
            for number in 0..10 {
                // Half of them are the same for every task.
                let version = if number % 2 == 0 { number } else { 100 * task + number };
                ids.push(store.put(&release(version), &[]).await.unwrap());
            }
            ids
        }));
    }
    let mut expected = Vec::new();
    for task in tasks {
        expected.extend(task.await.unwrap());
    }
    expected.sort_unstable();
    expected.dedup();
    let store = LocalStore::open(dir.path()).await.unwrap();
    assert_eq!(store.manifests().await.unwrap(), expected);
    for id in expected {
        store.get::<Release>(&id).await.unwrap();
    }
}

#[tokio::test]
async fn a_put_that_nobody_waits_for_still_happens() {
    let dir = tempfile::tempdir().unwrap();
    let store = LocalStore::open(dir.path()).await.unwrap();
    let bytes = Bytes::from(vec![7; 1 << 20]);
    let digest = Digest::of(&bytes);
    let mut put = Box::pin(store.put_blob(bytes));
    // One poll starts the work; then the caller goes away.
    std::future::poll_fn(|context| {
        let _ = put.as_mut().poll(context);
        std::task::Poll::Ready(())
    })
    .await;
    drop(put);
    for _ in 0..500 {
        if store.contains(&digest).await.unwrap() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    assert_eq!(store.get_blob(&digest).await.unwrap().len(), 1 << 20);
}

#[tokio::test]
async fn a_directory_that_is_another_layout_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let layout = dir.path().join("oci-layout");
    let cases = [
        ("a,b\n", ErrorKind::Corrupt),
        ("{}", ErrorKind::Corrupt),
        ("{\"imageLayoutVersion\":\"2.0.0\"}", ErrorKind::Unsupported),
    ];
    for (text, kind) in cases {
        fs::write(&layout, text).unwrap();
        let error = LocalStore::open(dir.path()).await.unwrap_err();
        assert_eq!(error.kind(), kind);
        assert!(error.to_string().contains("oci-layout"), "{error}");
    }
}

/// A runtime that has few threads for file work.
fn few_threads() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(2).max_blocking_threads(3).enable_all().build().unwrap()
}

/// A stream that gives one piece and then nothing, for ever.
fn stalled() -> kaizen_core::ByteStream {
    use futures_util::StreamExt as _;
    let piece = futures_util::stream::once(async { Ok(Bytes::from(vec![1; 1 << 20])) });
    Box::pin(piece.chain(futures_util::stream::pending()))
}

#[test]
fn slow_readers_and_writers_hold_up_nobody_else() {
    few_threads().block_on(async {
        let dir = tempfile::tempdir().unwrap();
        let store = LocalStore::open(dir.path().join("a")).await.unwrap();
        let bytes = Bytes::from(vec![3; 16 << 20]);
        let digest = store.put_blob(bytes.clone()).await.unwrap();
        let mut slow = Vec::new();
        for _ in 0..40 {
            slow.push(store.get_stream(&digest).await.unwrap());
            slow.push(read_file(store.blob_path(&digest)).await.unwrap());
            let store = store.clone();
            tokio::spawn(async move { store.put_stream(stalled(), None).await });
        }
        let limit = std::time::Duration::from_secs(60);
        let put = tokio::time::timeout(limit, store.put_blob("in between".into()));
        put.await.expect("a put waits for slow readers").unwrap();
        // Nor do copies wait for each other.
        let other = LocalStore::open(dir.path().join("b")).await.unwrap();
        let mut ids = Vec::new();
        for version in 0..20 {
            let rows = Payload::new("rows", "text/plain", vec![version as u8; 3 << 20]);
            ids.push(store.put(&release(version), &[rows]).await.unwrap());
        }
        let options = CopyOptions::new().concurrency(100_000);
        let copies = ids.iter().map(|id| copy(&store, &other, id, &options, &Silent));
        let copied = tokio::time::timeout(limit, futures_util::future::join_all(copies));
        let copied = copied.await.expect("copies wait for each other");
        assert!(copied.into_iter().all(|copied| copied.unwrap().blobs == 2));
        for stream in slow {
            assert!(stream::whole(stream, u64::MAX, "a blob").await.unwrap() == bytes);
        }
    });
}

#[test]
fn a_stream_that_is_cut_off_does_not_end_as_if_it_were_whole() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = few_threads();
    let (store, pieces) = runtime.block_on(async {
        let store = LocalStore::open(dir.path()).await.unwrap();
        let digest = store.put_blob(vec![3; 40 << 20].into()).await.unwrap();
        let pieces = store.get_stream(&digest).await.unwrap();
        let read = read_file(store.blob_path(&digest)).await.unwrap();
        (store, [pieces, read])
    });
    runtime.shutdown_background();
    few_threads().block_on(async {
        let before = store.blobs().await.unwrap();
        for pieces in pieces {
            let error = store.put_stream(pieces, None).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        }
        assert_eq!(store.blobs().await.unwrap(), before, "no part of it is taken for the whole");
    });
}

#[tokio::test]
async fn an_index_that_was_rewritten_at_the_same_instant_and_length_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let store = LocalStore::open(dir.path()).await.unwrap();
    let first = store.put(&release(1), &[]).await.unwrap();
    let manifest = store.manifest(&first).await.unwrap();
    let mut other = manifest.clone();
    other.annotations.insert("a".into(), "b".into());
    let second = store.put_blob(other.to_bytes().unwrap().into()).await.unwrap();
    let path = dir.path().join("index.json");
    let (index, at) =
        (fs::read_to_string(&path).unwrap(), fs::metadata(&path).unwrap().modified().unwrap());
    let rewritten = index.replace(&first.to_string(), &second.to_string());
    assert_eq!(rewritten.len(), index.len());
    let draft = dir.path().join("index.json.new");
    fs::write(&draft, rewritten).unwrap();
    fs::File::options().write(true).open(&draft).unwrap().set_modified(at).unwrap();
    fs::rename(&draft, &path).unwrap();
    assert_eq!(store.manifests().await.unwrap(), [second]);
}

#[tokio::test]
async fn an_index_is_not_rebuilt_without_what_cannot_be_read_for_now() {
    let dir = tempfile::tempdir().unwrap();
    let store = LocalStore::open(dir.path()).await.unwrap();
    let id = store.put(&release(1), &[]).await.unwrap();
    let index = dir.path().join("index.json");
    fs::remove_file(&index).unwrap();
    // A disk that gives an error: reading a directory as a file does.
    let (path, away) = (store.blob_path(&id), dir.path().join("away"));
    fs::rename(&path, &away).unwrap();
    fs::create_dir(&path).unwrap();
    let error = LocalStore::open(dir.path()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains(&id.hex()), "{error}");
    assert!(!index.exists(), "no index is written that lacks it");
    fs::remove_dir(&path).unwrap();
    fs::rename(&away, &path).unwrap();
    let store = LocalStore::open(dir.path()).await.unwrap();
    assert_eq!(store.manifests().await.unwrap(), [id]);
}

#[tokio::test]
async fn a_statement_that_cannot_be_read_for_now_is_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = LocalStore::open(dir.path()).await.unwrap();
    let id = store.put(&release(1), &[]).await.unwrap();
    let image = Image { release: id, platform: String::new(), manifest: id };
    let about = store.put(&image, &[]).await.unwrap();
    let (path, away) = (store.blob_path(&about), dir.path().join("away"));
    fs::rename(&path, &away).unwrap();
    fs::create_dir(&path).unwrap();
    // Opened while it cannot be read: the store works, but does not say that nothing is said.
    let other = LocalStore::open(dir.path()).await.unwrap();
    assert_eq!(other.manifests().await.unwrap().len(), 2);
    let error = other.referrers(&id).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    fs::remove_dir(&path).unwrap();
    fs::rename(&away, &path).unwrap();
    assert_eq!(other.referrers(&id).await.unwrap(), [about]);
    assert_eq!(store.referrers(&id).await.unwrap(), [about]);
}

#[tokio::test]
async fn files_that_are_far_too_large_are_not_read_whole() {
    let dir = tempfile::tempdir().unwrap();
    let store = LocalStore::open(dir.path()).await.unwrap();
    let id = store.put(&release(1), &[]).await.unwrap();
    // Holes take no room: a terabyte under the name of a manifest, and as the index.
    let huge = |path: &std::path::Path| {
        fs::File::options().write(true).open(path).unwrap().set_len(1 << 40).unwrap();
    };
    huge(&store.blob_path(&id));
    let other = LocalStore::open(dir.path()).await.unwrap();
    assert_eq!(other.referrers(&Digest::of("any")).await.unwrap(), []);
    assert_eq!(other.get::<Release>(&id).await.unwrap_err().kind(), ErrorKind::Limit);
    huge(&dir.path().join("oci-layout"));
    assert_eq!(LocalStore::open(dir.path()).await.unwrap_err().kind(), ErrorKind::Limit);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever is put comes back; whatever byte is changed on disk is noticed.
    #[test]
    fn any_blob_survives_and_any_change_is_noticed(
        bytes in proptest::collection::vec(any::<u8>(), 1..2000),
        at in any::<proptest::sample::Index>(),
        flip in 1_u8..,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let dir = tempfile::tempdir().unwrap();
            let store = LocalStore::open(dir.path()).await.unwrap();
            let digest = store.put_blob(bytes.clone().into()).await.unwrap();
            assert_eq!(store.get_blob(&digest).await.unwrap(), bytes);
            let mut altered = bytes.clone();
            altered[at.index(bytes.len())] ^= flip;
            fs::write(store.blob_path(&digest), altered).unwrap();
            assert_eq!(store.get_blob(&digest).await.unwrap_err().kind(), ErrorKind::Corrupt);
        });
    }
}
