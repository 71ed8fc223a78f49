//! Changes to the journal of a log: of one on disk, and of one in an object store.
#![no_main]

use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

use kaizen_core::{Actor, AuditLog, Checkpoint, Digest, Entry, Event, OperationId, Result};
use kaizen_store::{Ed25519Signer, LocalLog, ObjectLog};
use libfuzzer_sys::fuzz_target;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _};
use tokio::runtime::{Builder, Runtime};

/// Two logs of four commits each, of which none but the first is published.
struct Logs {
    _folder: tempfile::TempDir,
    dir: PathBuf,
    store: Arc<dyn ObjectStore>,
    signer: Arc<Ed25519Signer>,
    /// The heads after each commit.
    heads: Vec<Checkpoint>,
    local: Vec<u8>,
    object: Vec<u8>,
    runtime: Runtime,
}

static LOGS: LazyLock<Logs> = LazyLock::new(|| write().expect("two logs"));

fn entry(number: u32) -> Entry {
    let at = "2013-03-01T00:00:00Z".parse().expect("an instant");
    Entry {
        at,
        actor: Actor::system("fuzz"),
        operation: OperationId::new("fuzz", at),
        event: Event::Released,
        subject: Digest::of(number.to_le_bytes()),
        evidence: vec![],
    }
}

fn write() -> Result<Logs> {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().join("log");
    let runtime = Builder::new_current_thread().build().expect("a runtime");
    let signer = Arc::new(Ed25519Signer::from_seed("example.com/fuzz", [7; 32])?);
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let mut heads = Vec::new();
    let object = runtime.block_on(async {
        let local = LocalLog::builder(&dir, signer.clone()).journal_bytes(64 << 10).open().await?;
        let object = ObjectLog::open(store.clone(), "log", signer.clone()).await?;
        heads.push(local.checkpoint().await?);
        for commit in 0..4 {
            let entries: Vec<_> = (0..3).map(|number| entry(10 * commit + number)).collect();
            local.append(&entries, None).await?;
            object.append(&entries, None).await?;
            if commit == 0 {
                local.publish().await?;
                object.publish().await?;
            }
            heads.push(local.checkpoint().await?);
        }
        let journal = store.get(&Path::from("log/journal")).await.expect("a journal");
        Ok::<_, kaizen_core::Error>(journal.bytes().await.expect("its bytes").to_vec())
    })?;
    let local = fs::read(dir.join("journal")).expect("a journal");
    Ok(Logs { _folder: folder, dir, store, signer, heads, local, object, runtime })
}

fn changed(bytes: &[u8], at: u16, removed: u16, added: &[u8]) -> Vec<u8> {
    let start = usize::from(at).min(bytes.len());
    let end = bytes.len().min(start + usize::from(removed));
    [&bytes[..start], added, &bytes[end..]].concat()
}

fuzz_target!(|change: (bool, u16, u16, Vec<u8>)| {
    let (on_disk, at, removed, added) = change;
    let logs = &*LOGS;
    let known = |size: u64, root: Digest| {
        // A head that was signed, or none.
        assert!(logs.heads.iter().any(|head| (head.size, head.root) == (size, root)));
    };
    logs.runtime.block_on(async {
        if on_disk {
            let journal = logs.dir.join("journal");
            fs::write(&journal, changed(&logs.local, at, removed, &added)).expect("a file");
            if let Ok(found) = LocalLog::verify(&logs.dir, logs.signer.verifier()).await {
                known(found.size, found.root);
            }
            if let Ok(log) = LocalLog::reader(&logs.dir, logs.signer.verifier()).await {
                if let Ok(head) = log.checkpoint().await {
                    known(head.size, head.root);
                }
            }
            return;
        }
        let bytes = changed(&logs.object, at, removed, &added);
        let put = logs.store.put(&Path::from("log/journal"), bytes.into()).await;
        put.expect("an object in memory");
        let (store, signer) = (logs.store.clone(), logs.signer.clone());
        if let Ok(found) = ObjectLog::verify(store.clone(), "log", signer.verifier()).await {
            known(found.size, found.root);
        }
        if let Ok(log) = ObjectLog::open(store, "log", signer).await {
            let head = log.checkpoint().await.expect("what was read already");
            known(head.size, head.root);
        }
    });
});
