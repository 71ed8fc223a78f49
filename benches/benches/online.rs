//! Features online: 1 million entities with 10 features, asked for 1 and for 100 of them; and how
//! long it takes to materialise 100,000 entities.
//!
//! `KAIZEN_REDIS_URL` names a server to measure as well.
#![allow(missing_docs, reason = "criterion's macros write functions")]
#![expect(clippy::unwrap_used, reason = "a benchmark may fail")]

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use kaizen::arrow::array::{
    ArrayRef, Float64Array, Int64Array, RecordBatch, TimestampMicrosecondArray,
};
use kaizen::core::{DataType, Silent, Timestamp};
use kaizen::data::{MemorySource, Online, open_online};
use kaizen::table::{FeatureService, FeatureView, OnlineEntry, OnlineStore};
use tokio::runtime::Runtime;

const ENTITIES: i64 = 1_000_000;
const FEATURES: usize = 10;

fn view() -> FeatureView {
    let mut view = FeatureView::builder("v").source("s").key("entity").ttl_seconds(86_400);
    for feature in 0..FEATURES {
        view = view.column(&format!("f{feature}"), DataType::Float64);
    }
    view.build().unwrap()
}

/// One row of each entity, in no order.
fn source(entities: i64) -> MemorySource {
    let rows = || 0..entities;
    let entity = rows().map(|row| row * 7_919 % entities);
    let at = rows().map(|row| row * 37 % 3_600_000_000);
    let mut columns: Vec<(String, ArrayRef)> = vec![
        ("entity".into(), Arc::new(entity.collect::<Int64Array>())),
        (
            "event_time".into(),
            Arc::new(TimestampMicrosecondArray::from_iter_values(at).with_timezone("UTC")),
        ),
    ];
    for feature in 0..FEATURES {
        let values: Float64Array = rows().map(|row| (row * 31 + feature as i64) as f64).collect();
        columns.push((format!("f{feature}"), Arc::new(values)));
    }
    MemorySource::new("s", RecordBatch::try_from_iter(columns).unwrap())
}

fn request(first: i64, count: i64) -> RecordBatch {
    let entity: Int64Array = (0..count).map(|row| (first + row * 104_729) % ENTITIES).collect();
    let at = vec![3_600_000_000; count as usize];
    let at = TimestampMicrosecondArray::from(at).with_timezone("UTC");
    let columns: [(&str, ArrayRef); 2] = [("entity", Arc::new(entity)), ("at", Arc::new(at))];
    RecordBatch::try_from_iter(columns).unwrap()
}

fn bench(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let redb = format!("redb:{}", folder.path().join("online.redb").display());
    let snapshot = folder.path().join("online.kz");
    let mut urls = vec![
        ("memory", "memory:".to_owned()),
        ("redb", redb),
        ("snapshot", format!("snapshot:{}", snapshot.display())),
    ];
    if let Ok(url) = std::env::var("KAIZEN_REDIS_URL") {
        urls.push(("redis", format!("{url}?prefix=kaizen-bench")));
    }
    let until = Timestamp::from_micros(3_600_000_000);
    let source = source(ENTITIES);
    let service = FeatureService::new("service", 1, vec![], vec![view()]).unwrap();
    for (name, url) in urls {
        let store = runtime.block_on(open_online(&url)).unwrap();
        let online = Online::new(Arc::clone(&store));
        if name != "snapshot" {
            runtime.block_on(online.materialize(&view(), &source, until, &Silent)).unwrap();
        }
        if name == "memory" {
            runtime.block_on(online.export(&[view()], &snapshot)).unwrap();
        }
        let mut group = criterion.benchmark_group("online");
        for count in [1, 100] {
            let mut first = 0;
            group.bench_function(format!("{name}_{count}"), |bencher| {
                let next = || {
                    first = (first + 7_907) % ENTITIES;
                    request(first, count)
                };
                let ask = |asked| runtime.block_on(online.features(&service, &asked, "at"));
                bencher.iter_batched(
                    next,
                    |asked| black_box(ask(asked).unwrap()),
                    BatchSize::SmallInput,
                );
            });
        }
        group.finish();
        if name == "redis" {
            runtime.block_on(clear(store.as_ref()));
        }
    }
}

async fn clear(store: &dyn OnlineStore) {
    for space in store.spaces().await.unwrap() {
        let mut after = None;
        loop {
            let page = store.page(&space, after.as_ref(), 10_000).await.unwrap();
            let remove = |(key, _)| OnlineEntry { space: space.clone(), key, value: None };
            store.put(page.entries.into_iter().map(remove).collect()).await.unwrap();
            after = page.next;
            if after.is_none() {
                break;
            }
        }
    }
}

fn materialize(criterion: &mut Criterion) {
    const SOME: i64 = 100_000;
    let runtime = Runtime::new().unwrap();
    let (source, until) = (source(SOME), Timestamp::from_micros(3_600_000_000));
    let mut group = criterion.benchmark_group("materialize");
    group.sample_size(10).throughput(Throughput::Elements(SOME as u64));
    for name in ["memory", "redb"] {
        group.bench_function(name, |bencher| {
            let open = || {
                let folder = tempfile::tempdir().unwrap();
                let url = match name {
                    "redb" => format!("redb:{}", folder.path().join("online").display()),
                    _ => "memory:".to_owned(),
                };
                (folder, Online::new(runtime.block_on(open_online(&url)).unwrap()))
            };
            let fill = |(folder, online): (tempfile::TempDir, Online)| {
                runtime.block_on(online.materialize(&view(), &source, until, &Silent)).unwrap();
                (folder, online)
            };
            bencher.iter_batched(open, fill, BatchSize::PerIteration);
        });
    }
    group.finish();
}

criterion_group!(benches, bench, materialize);
criterion_main!(benches);
