//! The point-in-time join: 1 million events of 10,000 entities, 100,000 questions, 10 features.
//!
//! `cold` orders the events and answers; `indexed` answers from an index that was kept.
#![allow(missing_docs, reason = "criterion's macros write functions")]
#![expect(clippy::unwrap_used, reason = "a benchmark may fail")]

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use kaizen::arrow::array::{
    ArrayRef, Float64Array, Int64Array, RecordBatch, TimestampMicrosecondArray,
};
use kaizen::core::{DataType, Digest};
use kaizen::data::point_in_time::Index;
use kaizen::table::FeatureView;

const EVENTS: u64 = 1_000_000;
const QUESTIONS: u64 = 100_000;
const ENTITIES: u64 = 10_000;
const FEATURES: usize = 10;
const MONTH_US: u64 = 30 * 86_400 * 1_000_000;

/// A number drawn from its place: splitmix64, seeded by a digest.
fn drawn(stream: &str, place: u64) -> u64 {
    let seed = Digest::of(stream);
    let seed = u64::from_le_bytes(seed.as_bytes()[..8].try_into().unwrap());
    let mut z = seed.wrapping_add(place.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn table(stream: &str, rows: u64, features: usize) -> RecordBatch {
    let column = |name: &str, most: u64| -> Vec<i64> {
        let name = format!("{stream} {name}");
        let seed = drawn(&name, 0);
        (0..rows).map(|row| (drawn("row", seed.wrapping_add(row)) % most) as i64).collect()
    };
    let at = TimestampMicrosecondArray::from(column("at", MONTH_US)).with_timezone("UTC");
    let mut columns: Vec<(String, ArrayRef)> = vec![
        ("entity".into(), Arc::new(Int64Array::from(column("entity", ENTITIES)))),
        ("at".into(), Arc::new(at)),
    ];
    for feature in 0..features {
        let name = format!("f{feature}");
        let values: Float64Array = column(&name, 1 << 40).into_iter().map(|x| x as f64).collect();
        columns.push((name, Arc::new(values)));
    }
    RecordBatch::try_from_iter(columns).unwrap()
}

fn bench(criterion: &mut Criterion) {
    let mut view = FeatureView::builder("v")
        .source("events")
        .key("entity")
        .event_time("at")
        .ttl_seconds(86_400);
    for feature in 0..FEATURES {
        view = view.column(&format!("f{feature}"), DataType::Float64);
    }
    let view = view.build().unwrap();
    let events = table("events", EVENTS, FEATURES);
    let questions = table("questions", QUESTIONS, 0);
    let mut group = criterion.benchmark_group("point_in_time");
    group.sample_size(10);
    group.bench_function("1m_cold", |bencher| {
        bencher.iter(|| {
            let index = Index::new(&view, &events).unwrap();
            black_box(index.features(&questions, "at").unwrap())
        });
    });
    let index = Index::new(&view, &events).unwrap();
    group.bench_function("1m_indexed", |bencher| {
        bencher.iter(|| black_box(index.features(&questions, "at").unwrap()));
    });
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
