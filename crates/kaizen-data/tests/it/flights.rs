//! The year of flights: real keys, real gaps, real lateness, and the size it has.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use kaizen_core::{DataType, Silent, Timestamp};
use kaizen_data::point_in_time::Index;
use kaizen_data::{FeatureStore, FileSource, MemoryOnlineStore, Online};
use kaizen_table::{Aggregate, FeatureService, FeatureView, Known, LabelView, Source, instants};
use kaizen_testkit::point_in_time::oracle;

use crate::cases::assert_same_bits;

async fn source(name: &str) -> FileSource {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/data");
    FileSource::open(name, folder.join(format!("{name}.parquet"))).await.unwrap()
}

fn weather() -> FeatureView {
    FeatureView::builder("weather")
        .source("weather")
        .key("origin")
        .event_time("time")
        .known(Known::After { seconds: 3_600 })
        .ttl_seconds(6 * 3_600)
        .column("wind_speed", DataType::Float64)
        .column("visib", DataType::Float64)
        .build()
        .unwrap()
}

fn past(name: &str, key: &str) -> FeatureView {
    FeatureView::builder(name)
        .source("flights")
        .key(key)
        .event_time("sched_dep")
        .known(Known::Column("known_at".to_owned()))
        .column_as(&format!("{name}_delay"), "arr_delay", DataType::Float64)
        .window(&format!("{name}_late"), Aggregate::Mean, "late", 6 * 3_600)
        .window(&format!("{name}_count"), Aggregate::Count, "late", 6 * 3_600)
        .build()
        .unwrap()
}

fn service() -> FeatureService {
    let views = vec![weather(), past("aircraft", "tailnum"), past("airport", "origin")];
    FeatureService::new("flights", 1, vec![], views).unwrap()
}

async fn spine(flights: &FileSource) -> RecordBatch {
    let columns = ["flight_id", "carrier", "origin", "tailnum", "sched_dep"];
    flights.read(&columns).await.unwrap().batches.remove(0)
}

#[tokio::test]
async fn a_year_of_flights_is_joined_and_equals_the_oracle() {
    let (flights, weather_source) = (source("flights").await, source("weather").await);
    let spine = spine(&flights).await;
    let everything = ["origin", "tailnum", "sched_dep", "known_at", "arr_delay", "late"];
    let whole = flights.read(&everything).await.unwrap().batches.remove(0);
    let hours = ["origin", "time", "wind_speed", "visib"];
    let hours = weather_source.read(&hours).await.unwrap().batches.remove(0);
    let store = FeatureStore::new(vec![Arc::new(flights), Arc::new(weather_source)]);
    let late =
        LabelView::new("late", "flights", vec!["flight_id".into()], "late", "known_at").unwrap();
    let cutoff: Timestamp = "2013-07-01T00:00:00Z".parse().unwrap();
    let data = store.training_set(&service(), &late, &spine, "sched_dep", cutoff).await.unwrap();
    assert_eq!(data.record.rows + data.record.unlabelled, 336_776);
    assert!((160_000..170_000).contains(&data.record.rows), "{}", data.record.rows);
    let rate = data.labels().iter().filter(|late| **late).count() as f64;
    assert!((0.25..0.32).contains(&(rate / data.record.rows as f64)));

    // A sample of rows against the oracle, which asks every row of every other.
    let sample: BooleanArray = (0..spine.num_rows()).map(|row| Some(row % 33_001 == 17)).collect();
    let asked = filter_record_batch(&spine, &sample).unwrap();
    for view in service().views() {
        let rows = if view.source() == "weather" { &hours } else { &whole };
        let expected = oracle(view, rows, &asked, "sched_dep").unwrap();
        let found = Index::new(view, rows).unwrap().features(&asked, "sched_dep").unwrap();
        assert_same_bits(&found, &expected);
    }
}

#[tokio::test]
async fn a_day_online_equals_the_day_offline() {
    let (flights, weather_source) = (source("flights").await, source("weather").await);
    let spine = spine(&flights).await;
    let online = Online::new(Arc::new(MemoryOnlineStore::default()));
    let mut found = Vec::new();
    let mut expected = Vec::new();
    let store = FeatureStore::new(vec![
        Arc::new(source("flights").await),
        Arc::new(source("weather").await),
    ]);
    let at = instants(&spine, "sched_dep").unwrap();
    for hour in 0..3 {
        let until: Timestamp = "2013-02-08T12:00:00Z".parse().unwrap();
        let until = until.plus_seconds(hour * 3_600);
        for view in service().views() {
            let source: &dyn Source =
                if view.source() == "weather" { &weather_source } else { &flights };
            online.materialize(view, source, until, &Silent).await.unwrap();
        }
        // Asked as of the very instant until which all is in, nothing can be missing.
        let now = until.nanos().unwrap();
        let mask: BooleanArray = at
            .iter()
            .map(|at| Some(at.is_some_and(|at| (now..now + 3_600_000_000_000).contains(&at))))
            .collect();
        let asked = filter_record_batch(&spine, &mask).unwrap();
        let instant = crate::cases::instants(vec![Some(now); asked.num_rows()]);
        let asked = kaizen_table::with_column(&asked, "asked_at", instant).unwrap();
        assert!(asked.num_rows() > 20);
        found.push(online.features(&service(), &asked, "asked_at").await.unwrap());
        expected.push(store.features(&service(), &asked, "asked_at").await.unwrap());
    }
    for (found, expected) in found.iter().zip(&expected) {
        assert_same_bits(found, expected);
        let delays = kaizen_table::numbers(found, "aircraft_delay").unwrap();
        assert!(delays.null_count() < delays.len() / 2);
    }
}
