//! The point-in-time join: 1 million events of 10,000 entities, 100,000 questions, 10 features; and
//! ten times as many of all but the features.
//!
//! `cold` orders the events and answers; `indexed` answers from an index that was kept, `packed` from
//! one that was kept with its values packed. `known` does so where events become known up to a day
//! late, which the others do not look at.
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
use kaizen::table::{FeatureView, Known};

const EVENTS: u64 = 1_000_000;
const FEATURES: usize = 10;
const DAY_US: u64 = 86_400 * 1_000_000;

/// The seed of a stream of numbers.
fn seed(stream: &str) -> u64 {
    u64::from_le_bytes(Digest::of(stream).as_bytes()[..8].try_into().unwrap())
}

/// A number drawn from its place: splitmix64.
fn drawn(seed: u64, place: u64) -> u64 {
    let mut z = seed.wrapping_add(place.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn table(stream: &str, rows: u64, entities: u64, features: usize) -> RecordBatch {
    let column = |name: &str, most: u64| -> Vec<i64> {
        let seed = seed(&format!("{stream} {name}"));
        (0..rows).map(|row| (drawn(seed, row) % most) as i64).collect()
    };
    let instants = |values: Vec<i64>| -> ArrayRef {
        Arc::new(TimestampMicrosecondArray::from(values).with_timezone("UTC"))
    };
    let at = column("at", 30 * DAY_US);
    let mut columns: Vec<(String, ArrayRef)> =
        vec![("entity".into(), Arc::new(Int64Array::from(column("entity", entities))))];
    if features > 0 {
        let known = at.iter().zip(column("late", DAY_US)).map(|(at, late)| at + late).collect();
        columns.push(("known".into(), instants(known)));
    }
    columns.push(("at".into(), instants(at)));
    for feature in 0..features {
        let name = format!("f{feature}");
        let values: Float64Array = column(&name, 1 << 40).into_iter().map(|x| x as f64).collect();
        columns.push((name, Arc::new(values)));
    }
    RecordBatch::try_from_iter(columns).unwrap()
}

fn view(known: Known) -> FeatureView {
    let mut view = FeatureView::builder("v")
        .source("events")
        .key("entity")
        .event_time("at")
        .known(known)
        .ttl_seconds(86_400);
    for feature in 0..FEATURES {
        view = view.column(&format!("f{feature}"), DataType::Float64);
    }
    view.build().unwrap()
}

/// One size: `cold` and `indexed`, at the event time and with known-at times.
fn size(criterion: &mut Criterion, name: &str, events: u64) {
    let source = table("events", events, events / 100, FEATURES);
    let questions = table("questions", events / 10, events / 100, 0);
    let mut group = criterion.benchmark_group("point_in_time");
    group.sample_size(10);
    let known = Known::Column("known".to_owned());
    for (rule, known) in [("", Known::AtEvent), ("known_", known)] {
        let view = view(known);
        group.bench_function(format!("{name}_{rule}cold"), |bencher| {
            bencher.iter(|| {
                let index = Index::new(&view, &source).unwrap();
                black_box(index.features(&questions, "at").unwrap())
            });
        });
        let index = Index::new(&view, &source).unwrap();
        group.bench_function(format!("{name}_{rule}indexed"), |bencher| {
            bencher.iter(|| black_box(index.features(&questions, "at").unwrap()));
        });
        let packed = index.packed();
        group.bench_function(format!("{name}_{rule}packed"), |bencher| {
            bencher.iter(|| black_box(packed.features(&questions, "at").unwrap()));
        });
    }
    group.finish();
}

fn bench(criterion: &mut Criterion) {
    size(criterion, "1m", EVENTS);
    size(criterion, "10m", 10 * EVENTS);
}

criterion_group!(benches, bench);
criterion_main!(benches);
