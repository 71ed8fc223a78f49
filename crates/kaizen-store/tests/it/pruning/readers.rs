//! What readers of a log find while another process prunes it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use kaizen_core::{AuditLog, ErrorKind};
use kaizen_store::LocalLog;
use kaizen_testkit::audit_log::entry;

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
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    done.store(true, Ordering::Relaxed);
    let (overtaken, copies) = (reading.await.unwrap(), copying.await.unwrap());
    println!("{overtaken} reads were overtaken; {copies} copies");
}
