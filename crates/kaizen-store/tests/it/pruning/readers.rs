//! What readers of a log find while another process prunes it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kaizen_core::{AuditLog, ErrorKind};
use kaizen_store::{LocalLog, ObjectLog};
use kaizen_testkit::audit_log::entry;
use object_store::ObjectStore;
use object_store::memory::InMemory;
use object_store::throttle::{ThrottleConfig, ThrottledStore};

use super::{by, signer};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whoever_reads_or_copies_a_log_while_it_is_pruned_takes_nothing_for_damage() {
    const BUNDLES: u64 = 60;
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path().join("log");
    let log = LocalLog::open(&dir, signer()).await.unwrap();
    log.append(&(0..256 * BUNDLES).map(entry).collect::<Vec<_>>(), None).await.unwrap();
    let done = Arc::new(AtomicBool::new(false));

    let reading = {
        let (done, log) =
            (done.clone(), LocalLog::reader(&dir, signer().verifier()).await.unwrap());
        tokio::spawn(async move {
            let mut overtaken = 0;
            while !done.load(Ordering::Relaxed) {
                let first = log.first().await.unwrap();
                match log.read(first..256 * BUNDLES).await {
                    Ok(read) => assert_eq!(read[0], entry(first)),
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
                        overtaken += 1;
                    }
                }
            }
            overtaken
        })
    };
    let copying = {
        let (done, scratch) = (done.clone(), scratch.path().to_owned());
        let log = LocalLog::open(&dir, signer()).await.unwrap();
        tokio::spawn(async move {
            let mut copies = 0;
            while !done.load(Ordering::Relaxed) {
                let to = scratch.join(format!("copy{copies}"));
                log.export(&to).await.unwrap();
                LocalLog::verify(&to, log.key()).await.unwrap();
                copies += 1;
            }
            copies
        })
    };
    for bundle in 1..BUNDLES {
        log.prune(256 * bundle, &by(bundle as i64)).await.unwrap();
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    done.store(true, Ordering::Relaxed);
    let (overtaken, copies) = (reading.await.unwrap(), copying.await.unwrap());
    assert!(overtaken > 0 && copies > 1, "{overtaken} reads were overtaken; {copies} copies");
}

/// The same in an object store, where every request gives way to the other side.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whoever_copies_or_verifies_a_log_in_an_object_store_while_it_is_pruned_finds_no_damage() {
    const BUNDLES: u64 = 24;
    let scratch = tempfile::tempdir().unwrap();
    let slow = ThrottleConfig {
        wait_get_per_call: Duration::from_micros(200),
        wait_delete_per_call: Duration::from_millis(1),
        ..ThrottleConfig::default()
    };
    let store: Arc<dyn ObjectStore> = Arc::new(ThrottledStore::new(InMemory::new(), slow));
    let log = ObjectLog::open(store.clone(), "log", signer()).await.unwrap();
    log.append(&(0..256 * BUNDLES).map(entry).collect::<Vec<_>>(), None).await.unwrap();
    let done = Arc::new(AtomicBool::new(false));
    let copying = {
        let (done, scratch, store) = (done.clone(), scratch.path().to_owned(), store.clone());
        let log = ObjectLog::open(store.clone(), "log", signer()).await.unwrap();
        tokio::spawn(async move {
            let mut sizes = std::collections::BTreeSet::new();
            for number in 0.. {
                let to = scratch.join(format!("copy{number}"));
                log.export(&to).await.unwrap();
                let copied = LocalLog::verify(&to, log.key()).await.unwrap();
                ObjectLog::verify(store.clone(), "log", log.key()).await.unwrap();
                sizes.insert(copied.pruned);
                if done.load(Ordering::Relaxed) {
                    return sizes;
                }
            }
            sizes
        })
    };
    for bundle in 1..BUNDLES {
        log.prune(256 * bundle, &by(bundle as i64)).await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    done.store(true, Ordering::Relaxed);
    let seen = copying.await.unwrap();
    assert!(seen.len() > 2, "no copy was made while it was pruned: {seen:?}");
}
