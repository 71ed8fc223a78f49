use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use kaizen_core::record::Release;
use kaizen_core::{ArtifactStore, Bytes, Digest, ErrorKind, Records, stream};
use kaizen_store::LocalStore;
use proptest::prelude::*;

fn release(version: u32) -> Release {
    Release {
        name: "late".into(),
        version,
        model: Digest::of("model"),
        service: Digest::of("service"),
        functions: Vec::new(),
    }
}

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
