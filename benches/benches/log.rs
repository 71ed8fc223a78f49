//! The audit log: one durable append against a bare flush, many appends against flushes of the
//! same bytes in the same groups, proofs from cached tiles, reading a whole log again, and opening
//! a registry over it, without a snapshot and with one.
//!
//! `KAIZEN_BENCH_ENTRIES` says how many entries the log to be verified has: 1,000,000 if it is not
//! set. `TMPDIR` says which disk is measured.
#![expect(clippy::unwrap_used, reason = "a benchmark may fail")]
#![expect(clippy::print_stdout, reason = "it prints what it measured")]
#![expect(clippy::disallowed_methods, reason = "it measures time")]

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kaizen::core::record::Occurrence;
use kaizen::core::{Actor, AuditLog, Digest, Entry, Event, OperationId, Timestamp};
use kaizen::store::{Ed25519Signer, LocalLog, LocalStore, Registry};
use tokio::runtime::Runtime;

const SINGLE: u64 = 500;
const BATCH: u64 = 1_000;
const BATCHES: u64 = 300;
/// Appends that are under way at the same time.
const AT_ONCE: u64 = 4;
const PROOFS: u64 = 20_000;
const JOURNAL: u64 = 8 << 20;

/// An entry of about 300 bytes.
fn entry(number: u64) -> Entry {
    let at = Timestamp::from_micros(1_700_000_000_000_000 + number as i64);
    Entry {
        at,
        actor: Actor::system("bench"),
        operation: OperationId::new("bench", at),
        event: Event::Ran { step: format!("step {number}") },
        subject: Digest::of(number.to_be_bytes()),
        evidence: vec![],
    }
}

fn entries(first: u64) -> Vec<Entry> {
    (first..first + BATCH).map(entry).collect()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn preallocated(path: &Path) -> File {
    let file =
        File::options().create(true).read(true).write(true).truncate(true).open(path).unwrap();
    file.write_all_at(&vec![0; JOURNAL as usize], 0).unwrap();
    file.sync_all().unwrap();
    file
}

/// One append at a time, each in turn with a bare flush of as many bytes.
async fn single(log: &LocalLog, bare: &File) {
    let (mut appends, mut flushes) = (Vec::new(), Vec::new());
    for number in 0..SINGLE {
        let one = [entry(number)];
        let start = Instant::now();
        log.append(&one, None).await.unwrap();
        appends.push(start.elapsed());
        let bytes = vec![number as u8; 4096];
        let start = Instant::now();
        bare.write_all_at(&bytes, number * 4096 % JOURNAL).unwrap();
        bare.sync_data().unwrap();
        flushes.push(start.elapsed());
    }
    let (append, flush) = (median(appends).as_secs_f64(), median(flushes).as_secs_f64());
    println!(
        "store/append_single {:.3} ms fdatasync={:.3} ratio={:.2}",
        append * 1e3,
        flush * 1e3,
        append / flush
    );
}

/// Batches of 1,000, several at once, with every publication that they bring about; against
/// writing and flushing as many bytes in groups of as many.
async fn batched(log: &LocalLog, bare: &File) {
    let batches: Vec<Vec<Entry>> = (0..BATCHES).map(|batch| entries(batch * BATCH)).collect();
    let bytes = batches[0].iter().map(|entry| entry.to_bytes().unwrap().len() + 2).sum::<usize>();
    let start = Instant::now();
    let mut tasks = Vec::new();
    for task in 0..AT_ONCE {
        let log = log.clone();
        let own: Vec<_> =
            batches.iter().skip(task as usize).step_by(AT_ONCE as usize).cloned().collect();
        tasks.push(tokio::spawn(async move {
            for batch in own {
                log.append(&batch, None).await.unwrap();
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    log.publish().await.unwrap();
    let took = start.elapsed().as_secs_f64();
    let group = vec![7; bytes];
    let start = Instant::now();
    for batch in 0..BATCHES {
        let places = JOURNAL / (bytes as u64).next_multiple_of(4096);
        bare.write_all_at(&group, batch % places * (bytes as u64).next_multiple_of(4096)).unwrap();
        bare.sync_data().unwrap();
    }
    let limit = start.elapsed().as_secs_f64();
    let count = (BATCH * BATCHES) as f64;
    println!(
        "store/append_batched {:.0} unit=entries/s group_fdatasync={:.0} published=yes",
        count / took,
        count / limit
    );
}

async fn proofs(log: &LocalLog) {
    let size = log.size().await.unwrap();
    let steps = |number: u64| number * 7_919 % size.min(200_000);
    for number in 0..PROOFS {
        log.inclusion_proof(steps(number), size).await.unwrap();
    }
    let start = Instant::now();
    for number in 0..PROOFS {
        log.inclusion_proof(steps(number), size).await.unwrap();
    }
    let each = start.elapsed().as_secs_f64() / PROOFS as f64;
    println!("store/proof_cached {:.2} us size={size}", each * 1e6);
}

async fn verify(dir: &Path, log: &LocalLog) {
    let wanted = std::env::var("KAIZEN_BENCH_ENTRIES").ok().and_then(|text| text.parse().ok());
    let wanted: u64 = wanted.unwrap_or(1_000_000);
    let mut size = log.size().await.unwrap();
    let start = Instant::now();
    let (first, mut version) = (size, 0);
    while size < wanted {
        let length = (wanted - size).min(100 * BATCH);
        let batch = (size..size + length).map(|number| {
            let mut entry = entry(number);
            if number % BATCH == 0 {
                version += 1;
                entry.event = Event::Registered { name: "late".to_owned(), version };
            }
            entry
        });
        let batch: Vec<_> = batch.collect();
        size = log.append(&batch, None).await.unwrap().end;
    }
    log.publish().await.unwrap();
    let rate = (size - first) as f64 / start.elapsed().as_secs_f64();
    println!("store/append_100k {rate:.0} unit=entries/s");
    let start = Instant::now();
    let verified = LocalLog::verify(dir, log.key()).await.unwrap();
    let took = start.elapsed().as_secs_f64();
    assert_eq!(verified.size, size);
    println!("store/verify {took:.2} s entries={size} rate={:.0}", size as f64 / took);
    proofs(log).await;
}

/// How long it takes until a registry answers that nobody has opened yet.
async fn cold(dir: &Path, log: &LocalLog) -> (f64, usize) {
    let store = Arc::new(LocalStore::open(dir.with_file_name("store")).await.unwrap());
    let start = Instant::now();
    let reader = LocalLog::reader(dir, log.key()).await.unwrap();
    let registry = Registry::new(store, Arc::new(reader));
    let versions = registry.versions("late").await.unwrap().len();
    (start.elapsed().as_secs_f64(), versions)
}

async fn registry(dir: &Path, log: &LocalLog) {
    let size = log.size().await.unwrap();
    let (whole, versions) = cold(dir, log).await;
    let store = Arc::new(LocalStore::open(dir.with_file_name("store")).await.unwrap());
    let at = entry(size).at;
    let by = Occurrence::new(at, Actor::system("bench"), OperationId::new("bench", at));
    Registry::new(store, Arc::new(log.clone())).snapshot(by).await.unwrap();
    let (snapshot, again) = cold(dir, log).await;
    assert_eq!(versions, again);
    println!(
        "store/registry_cold {whole:.2} s entries={size} versions={versions} \
         with_snapshot={snapshot:.3}"
    );
}

fn main() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("log");
    let bare = preallocated(&folder.path().join("bare"));
    Runtime::new().unwrap().block_on(async {
        let signer = Arc::new(Ed25519Signer::from_seed("kaizen.bench/log", [1; 32]).unwrap());
        let log = LocalLog::open(&dir, signer).await.unwrap();
        single(&log, &bare).await;
        batched(&log, &bare).await;
        proofs(&log).await;
        verify(&dir, &log).await;
        registry(&dir, &log).await;
    });
}
