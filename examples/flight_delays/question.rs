//! The question, as data: one hour before departure, will this flight arrive at least 15 minutes
//! late or be cancelled? What is known then, what the answer is worth, and when to retrain.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use kaizen::arrow::array::{ArrayRef, Int64Array, TimestampNanosecondArray};
use kaizen::arrow::compute::concat_batches;
use kaizen::core::Context;
use kaizen::data::MemorySource;
use kaizen::eval::{CostMatrix, Gate};
use kaizen::prelude::*;
use kaizen::stats::Bootstrap;
use kaizen::table::{RecordBatch, blocks, instants, with_column};
use kaizen::train::GradientBoosting;

/// The name under which the models are registered and served.
pub const MODEL: &str = "flight_delays";

/// The instant of a prediction: one hour before the scheduled departure.
pub const TIME: &str = "predict_at";
pub const MARGIN: f64 = 1.0;
const HOUR: u32 = 3600;
const DAY: u32 = 24 * HOUR;

/// Acting on a warning costs 35; a late flight that was warned of saves 100.
pub fn costs() -> CostMatrix {
    CostMatrix { true_negative: 0., false_positive: -35., false_negative: 0., true_positive: 65. }
}

/// Flights come and go by the local day; New York's standard time is five hours behind UTC.
pub fn days() -> TimeBlocks {
    TimeBlocks::days().starting_at(5 * 3600)
}

/// Where the two Parquet files lie.
pub fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/data")
}

/// What is known of a flight one hour before it leaves.
pub fn service() -> Result<FeatureService> {
    let weather = FeatureView::builder("weather")
        .source("weather")
        .key("origin")
        .event_time("time")
        // A row holds what was read within its hour, so it is known when the hour is over.
        .known(Known::After { seconds: HOUR })
        .ttl_seconds(6 * HOUR)
        .column("temp", DataType::Float64)
        .column("dewp", DataType::Float64)
        .column("humid", DataType::Float64)
        .column("wind_speed", DataType::Float64)
        .column("wind_gust", DataType::Float64)
        .column("precip", DataType::Float64)
        .column("pressure", DataType::Float64)
        .column("visib", DataType::Float64)
        .build()?;
    let aircraft = FeatureView::builder("aircraft")
        .source("flights")
        .key("tailnum")
        .event_time("dep")
        // It counts once it has landed.
        .known(Known::Column("known_at".into()))
        .ttl_seconds(DAY)
        .column_as("aircraft_delay", "arr_delay", DataType::Float64)
        .build()?;
    let rates = |name: &str, keys: &[&str]| {
        let mut view = FeatureView::builder(name).source("flights").event_time("known_at");
        for key in keys {
            view = view.key(*key);
        }
        let feature = |what: &str| format!("{name}_{what}");
        view.window(&feature("late_3h"), Aggregate::Mean, "late", 3 * HOUR)
            .window(&feature("late_1d"), Aggregate::Mean, "late", DAY)
            .window(&feature("late_7d"), Aggregate::Mean, "late", 7 * DAY)
            .window(&feature("delay_3h"), Aggregate::Mean, "arr_delay", 3 * HOUR)
            .window(&feature("flights_1d"), Aggregate::Count, "late", DAY)
            .build()
    };
    let request = vec![
        Field::new("carrier", DataType::Utf8),
        Field::new("origin", DataType::Utf8),
        Field::new("dest", DataType::Utf8),
        Field::new("distance", DataType::Int64),
        Field::new("sched_dep_minute", DataType::Int64),
        Field::new("sched_arr_minute", DataType::Int64),
        Field::new("weekday", DataType::Int64),
    ];
    let views = vec![
        weather,
        aircraft,
        rates("origin", &["origin"])?,
        rates("carrier", &["origin", "carrier"])?,
    ];
    FeatureService::new("flight_delays", 1, request, views)
}

/// What became of it: known when it lands, or when it should have.
pub fn labels() -> Result<LabelView> {
    let outcomes = ["dep", "arr", "dep_delay", "arr_delay"].map(String::from).to_vec();
    let keys = vec!["flight_id".to_owned()];
    Ok(LabelView::new("late", "flights", keys, "late", "known_at")?.with_outcomes(outcomes))
}

/// Small trees and coarse bins: on the first eight weeks they rank as well as larger ones.
pub fn estimator() -> GradientBoosting {
    let (trees, learning_rate) = (60, 0.15);
    GradientBoosting { trees, learning_rate, max_depth: 5, bins: 64, ..GradientBoosting::default() }
}

/// When to retrain and what a challenger must show. Every number was fixed before the first day of
/// the replay; `docs/tour.md` says how.
pub fn policy(triggers: Triggers) -> Policy {
    Policy {
        model: MODEL.into(),
        unit: days(),
        triggers,
        rest_units: 14,
        holdout_units: 14,
        maturity_seconds: DAY,
        alpha: 0.1,
        costs: costs(),
        bootstrap: Bootstrap { draws: 500, confidence: 0.95, seed: 2013 },
        // Worse than doing nothing, or than the champion, by no more than the margin.
        first_gates: vec![
            Gate::Floor { metric: "auc".into(), at_least: 0.6 },
            Gate::Floor { metric: "value".into(), at_least: -MARGIN },
        ],
        gates: vec![Gate::NonInferior { metric: "value".into(), margin: MARGIN }],
        seed: 2013,
    }
}

/// The sources, read once: the flights (of the first so many days, if so asked), the weather, and
/// the requests made of them.
pub async fn sources(days_max: Option<u32>) -> Result<(Vec<Arc<dyn Source>>, RecordBatch)> {
    let flights = read("flights").await?;
    let requests = requests(&flights)?;
    let day = blocks(&requests, TIME, days())?;
    let end = days_max.map_or(i64::MAX, |n| day.value(0) + i64::from(n));
    let rows = day.values().partition_point(|day| *day < end);
    let flights = MemorySource::new("flights", flights.slice(0, rows));
    let weather = MemorySource::new("weather", read("weather").await?);
    Ok((vec![Arc::new(flights), Arc::new(weather)], requests.slice(0, rows)))
}

/// A whole Parquet file as one table.
async fn read(name: &str) -> Result<RecordBatch> {
    let source = FileSource::open(name, data().join(format!("{name}.parquet"))).await?;
    let schema = source.schema().await?;
    let columns: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    let scan = source.read(&columns).await?;
    concat_batches(&schema, &scan.batches).context(ErrorKind::Invalid, name)
}

/// One request a flight: its schedule, the instant of the question, and the weekday.
fn requests(flights: &RecordBatch) -> Result<RecordBatch> {
    let departure = instants(flights, "sched_dep")?;
    let asked: TimestampNanosecondArray =
        departure.unary(|nanos| nanos - i64::from(HOUR) * 1_000_000_000);
    let asked: ArrayRef = Arc::new(asked.with_timezone("UTC"));
    let flights = with_column(flights, TIME, asked)?;
    // 1970-01-01 was a Thursday; weekday 0 is Monday.
    let day: Int64Array = blocks(&flights, "sched_dep", days())?;
    let weekday: Int64Array = day.unary(|day| (day + 3).rem_euclid(7));
    let weekday: ArrayRef = Arc::new(weekday);
    with_column(&flights, "weekday", weekday)
}
