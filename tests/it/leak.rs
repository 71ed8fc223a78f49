//! Nothing that was not yet known reaches a training row.

use std::sync::Arc;

use kaizen::arrow::array::{Array, ArrayRef, BooleanArray, Int64Array, TimestampNanosecondArray};
use kaizen::arrow::compute::filter_record_batch;
use kaizen::data::MemorySource;
use kaizen::prelude::*;
use kaizen::table::{RecordBatch, column, instants, with_column};

use crate::flights::question::{TIME, labels, service};
use crate::flights::world::World;

const HOUR_NS: i64 = 3_600_000_000_000;

async fn whole(source: &Arc<dyn Source>) -> RecordBatch {
    let schema = source.schema().await.unwrap();
    let columns: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    let scan = source.read(&columns).await.unwrap();
    kaizen::arrow::compute::concat_batches(&schema, &scan.batches).unwrap()
}

/// The requests as a caller makes them, without what came of them.
async fn asked_for(world: &World) -> RecordBatch {
    let columns = ["flight_id", "tailnum", TIME];
    let service = service().unwrap();
    let own = service.request().iter().map(|field| field.name.as_str());
    let columns: Vec<&str> = columns.into_iter().chain(own).collect();
    world.requests.read(&columns).await.unwrap().batches.remove(0)
}

fn keep(rows: &RecordBatch, known: &TimestampNanosecondArray, at: i64, delay: i64) -> RecordBatch {
    let mask: BooleanArray = known.values().iter().map(|known| Some(known + delay <= at)).collect();
    filter_record_batch(rows, &mask).unwrap()
}

#[tokio::test]
async fn deleting_what_was_not_yet_known_changes_no_row() {
    let world = World::load(Some(20)).await.unwrap();
    let service = service().unwrap();
    let (flights, weather) = (whole(&world.sources[0]).await, whole(&world.sources[1]).await);
    let landed = instants(&flights, "known_at").unwrap();
    let measured = instants(&weather, "time").unwrap();
    let asked = instants(&world.rows, TIME).unwrap();
    for row in (500..world.rows.num_rows()).step_by(499) {
        let at = asked.value(row);
        let then: Vec<Arc<dyn Source>> = vec![
            Arc::new(MemorySource::new("flights", keep(&flights, &landed, at, 0))),
            Arc::new(MemorySource::new("weather", keep(&weather, &measured, at, HOUR_NS))),
        ];
        let request = whole(&world.requests).await.slice(row, 1);
        let seen = FeatureStore::new(then).features(&service, &request, TIME).await.unwrap();
        for field in service.columns() {
            let full = column(&world.rows, &field.name).unwrap().slice(row, 1);
            assert_eq!(column(&seen, &field.name).unwrap(), &full, "row {row}, {}", field.name);
        }
    }
}

#[tokio::test]
async fn a_label_that_is_not_known_at_the_cut_off_is_not_trained_on() {
    let world = World::load(Some(10)).await.unwrap();
    let cutoff: Timestamp = "2013-01-08T18:00:00Z".parse().unwrap();
    let requests = whole(&world.requests).await;
    let set = world
        .features
        .training_set(
            &service().unwrap(),
            &labels().unwrap(),
            &asked_for(&world).await,
            TIME,
            cutoff,
        )
        .await
        .unwrap();
    let known = instants(&requests, "known_at").unwrap();
    let asked = instants(&requests, TIME).unwrap();
    let limit = cutoff.nanos().unwrap();
    let expected: Vec<i64> = (0..requests.num_rows())
        .filter(|row| known.value(*row) <= limit && asked.value(*row) <= limit)
        .map(|row| row as i64)
        .collect();
    let ids = kaizen::arrow::compute::cast(
        column(&set.rows, "flight_id").unwrap(),
        &kaizen::arrow::datatypes::DataType::Int64,
    )
    .unwrap();
    assert_eq!(ids.as_any().downcast_ref::<Int64Array>().unwrap().values(), expected.as_slice());
    assert_eq!(set.record.rows, expected.len() as u64);
    let pending = asked.values().iter().filter(|at| **at <= limit).count() - expected.len();
    assert!(pending > 20, "some flights were in the air: {pending}");
    assert!(set.record.unlabelled >= pending as u64);
}

#[tokio::test]
async fn a_flights_own_delay_as_a_feature_is_caught() {
    let world = World::load(Some(10)).await.unwrap();
    let requests = asked_for(&world).await;
    let cutoff: Timestamp = "2013-01-09T00:00:00Z".parse().unwrap();
    let own = |source: &str, time: &str| {
        FeatureView::builder("own")
            .source(source)
            .key("flight_id")
            .event_time(time)
            .column("arr_delay", DataType::Float64)
            .build()
            .unwrap()
    };
    let refusal = async |store: &FeatureStore, view: FeatureView| {
        let service = FeatureService::new("leaky", 1, vec![], vec![view]).unwrap();
        let labels = labels().unwrap();
        let made = store.training_set(&service, &labels, &requests, TIME, cutoff).await;
        made.map(|set| set.record).unwrap_err()
    };
    // By its definition: the view reads an outcome of the label's source, and does not say that it
    // is known only when the label is.
    let error = refusal(&world.features, own("flights", "sched_dep")).await;
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(error.to_string().contains("`arr_delay` of view `own`"), "{error}");

    // By what it does: a copy under another name, stamped a day early, passes the definition's
    // check, but separates the label as no honest feature can.
    let flights = whole(&world.sources[0]).await;
    let early: TimestampNanosecondArray =
        instants(&flights, "sched_dep").unwrap().unary(|at| at - 24 * HOUR_NS);
    let early: ArrayRef = Arc::new(early.with_timezone("UTC"));
    let copy = with_column(&flights, "stamped", early).unwrap();
    let mut sources = world.sources.clone();
    sources.push(Arc::new(MemorySource::new("copy", copy)));
    let error = refusal(&FeatureStore::new(sources), own("copy", "stamped")).await;
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(error.to_string().contains("arr_delay"), "{error}");
}
