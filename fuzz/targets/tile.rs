//! Changes to the files of a log: tiles, bundles of entries, the checkpoint.
#![no_main]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use kaizen_core::{Actor, AuditLog, Digest, Entry, Event, OperationId, Result};
use kaizen_store::{Ed25519Signer, LocalLog, Verified, VerifierKey};
use libfuzzer_sys::fuzz_target;
use tokio::runtime::{Builder, Runtime};

/// A log on disk, with what its files hold.
struct Log {
    _folder: tempfile::TempDir,
    dir: PathBuf,
    key: VerifierKey,
    root: Digest,
    files: Vec<(PathBuf, Vec<u8>)>,
    runtime: Runtime,
}

static LOG: LazyLock<Log> = LazyLock::new(|| write().expect("a log of 300 entries"));

fn write() -> Result<Log> {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().join("log");
    let runtime = Builder::new_current_thread().build().expect("a runtime");
    let signer = Arc::new(Ed25519Signer::from_seed("example.com/fuzz", [7; 32])?);
    let key = signer.verifier();
    let at = "2013-03-01T00:00:00Z".parse()?;
    let entries: Vec<Entry> = (0..300_u32)
        .map(|number| Entry {
            at,
            actor: Actor::system("fuzz"),
            operation: OperationId::new("fuzz", at),
            event: Event::Released,
            subject: Digest::of(number.to_le_bytes()),
            evidence: vec![],
        })
        .collect();
    runtime.block_on(async {
        let log = LocalLog::open(&dir, signer.clone()).await?;
        log.append(&entries, None).await?;
        drop(log);
        // What was not published yet is published when it is opened.
        LocalLog::open(&dir, signer).await.map(|_| ())
    })?;
    let root = runtime.block_on(LocalLog::verify(&dir, &key))?.root;
    let mut files = Vec::new();
    collect(&dir, &mut files);
    files.sort();
    Ok(Log { _folder: folder, dir, key, root, files, runtime })
}

fn collect(dir: &Path, files: &mut Vec<(PathBuf, Vec<u8>)>) {
    for entry in fs::read_dir(dir).expect("a folder").flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, files);
        } else if entry.file_name() != "journal" {
            let bytes = fs::read(&path).expect("a file");
            files.push((path, bytes));
        }
    }
}

fuzz_target!(|change: (u8, u16, u16, Vec<u8>)| {
    let (which, at, removed, added) = change;
    let log = &*LOG;
    let (path, bytes) = &log.files[usize::from(which) % log.files.len()];
    let start = usize::from(at).min(bytes.len());
    let end = bytes.len().min(start + usize::from(removed));
    let changed = [&bytes[..start], &added, &bytes[end..]].concat();
    fs::write(path, changed).expect("a file that can be written");
    let found: Result<Verified> = log.runtime.block_on(LocalLog::verify(&log.dir, &log.key));
    fs::write(path, bytes).expect("a file that can be written");
    if let Ok(verified) = found {
        assert_eq!(verified.root, log.root);
    }
});
