//! The audit log on disk: an append of one entry and of a thousand, a proof from cached tiles,
//! reading a log again, and a registry that is opened over it, without a snapshot and with one.
//!
//! `TMPDIR` says which disk is measured; `compare store` measures the disk beside it.
#![allow(missing_docs, reason = "criterion's macros write functions")]
#![expect(clippy::unwrap_used, reason = "a benchmark may fail")]

use std::path::Path;
use std::sync::Arc;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use kaizen::core::record::Occurrence;
use kaizen::core::{Actor, AuditLog, Digest, Entry, Event, OperationId, Timestamp};
use kaizen::store::{Ed25519Signer, LocalLog, LocalStore, Registry};
use tokio::runtime::Runtime;

/// Entries of the log that is read.
const ENTRIES: u64 = 200_000;
/// Every so many of them registers a version.
const VERSION: u64 = 1_000;
const NAME: &str = "late";

fn by(number: u64) -> Occurrence {
    let at = Timestamp::from_micros(1_700_000_000_000_000 + number as i64);
    Occurrence::new(at, Actor::system("bench"), OperationId::new("bench", at))
}

/// An entry of about 300 bytes.
fn entry(number: u64) -> Entry {
    let Occurrence { at, actor, operation } = by(number);
    let event = match (number + 1) % VERSION {
        0 => {
            let version = ((number + 1) / VERSION) as u32;
            Event::Registered { name: NAME.to_owned(), version }
        }
        _ => Event::Ran { step: format!("step {number}") },
    };
    let subject = Digest::of(number.to_be_bytes());
    Entry { at, actor, operation, event, subject, evidence: vec![] }
}

async fn open(dir: &Path) -> LocalLog {
    let signer = Ed25519Signer::from_seed("kaizen.bench/log", [1; 32]).unwrap();
    LocalLog::open(dir, Arc::new(signer)).await.unwrap()
}

fn appends(criterion: &mut Criterion) {
    let (runtime, folder) = (Runtime::new().unwrap(), tempfile::tempdir().unwrap());
    let log = runtime.block_on(open(folder.path()));
    let mut group = criterion.benchmark_group("log/append");
    for count in [1, 1_000] {
        let entries: Vec<_> = (0..count).map(entry).collect();
        group.throughput(Throughput::Elements(count));
        group.bench_function(format!("entries={count}"), |bencher| {
            bencher.iter(|| runtime.block_on(log.append(&entries, None)).unwrap());
        });
    }
    group.finish();
}

fn reads(criterion: &mut Criterion) {
    let (runtime, folder) = (Runtime::new().unwrap(), tempfile::tempdir().unwrap());
    let dir = folder.path().join("log");
    let log = runtime.block_on(open(&dir));
    let all: Vec<_> = (0..ENTRIES).map(entry).collect();
    runtime.block_on(log.append(&all, None)).unwrap();
    runtime.block_on(log.publish()).unwrap();
    let mut group = criterion.benchmark_group("log");
    group.sample_size(10);
    let mut index = 0;
    group.bench_function("proof", |bencher| {
        let next = || {
            index = (index + 7_919) % ENTRIES;
            index
        };
        let prove = |index| runtime.block_on(log.inclusion_proof(index, ENTRIES)).unwrap();
        bencher.iter_batched(next, prove, BatchSize::SmallInput);
    });
    group.throughput(Throughput::Elements(ENTRIES));
    group.bench_function("verify", |bencher| {
        bencher.iter(|| runtime.block_on(LocalLog::verify(&dir, log.key())).unwrap());
    });
    let store = runtime.block_on(LocalStore::open(folder.path().join("store"))).unwrap();
    let store = Arc::new(store);
    let cold = async || {
        let reader = LocalLog::reader(&dir, log.key()).await.unwrap();
        let registry = Registry::new(store.clone(), Arc::new(reader));
        assert_eq!(registry.versions(NAME).await.unwrap().len() as u64, ENTRIES / VERSION);
    };
    group.bench_function("registry", |bencher| bencher.iter(|| runtime.block_on(cold())));
    let registry = Registry::new(store.clone(), Arc::new(log.clone()));
    runtime.block_on(registry.snapshot(by(ENTRIES))).unwrap();
    group.bench_function("registry_snapshot", |bencher| bencher.iter(|| runtime.block_on(cold())));
    group.finish();
}

criterion_group!(benches, appends, reads);
criterion_main!(benches);
