//! What was known, and when.
//!
//! *Learn:* why a late correction must not leak into the past, and how a feature view prevents it.\
//! *Run:* `cargo run --example point_in_time`\
//! *Prints:* four questions about one pump, and what could be known at each.
#![allow(clippy::print_stdout, reason = "an example prints")]

use std::sync::Arc;

use kaizen::arrow::array::{
    ArrayRef, Float64Array, RecordBatch, StringArray, TimestampNanosecondArray,
};
use kaizen::data::MemorySource;
use kaizen::prelude::*;
use kaizen::table::numbers;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    // A reading happens at one instant and is known at another: the one of 02:00 was sent twice,
    // first wrong, then corrected four hours later.
    let readings = table([
        ("pump", texts(["p1", "p1", "p1"])),
        ("at", instants([1, 2, 2])?),
        ("received", instants([1, 2, 6])?),
        ("bar", Arc::new(Float64Array::from(vec![4.0, 9.9, 4.2]))),
    ])?;
    let view = FeatureView::builder("pressure")
        .source("readings")
        .key("pump")
        .event_time("at")
        .known(Known::Column("received".into()))
        .ttl_seconds(12 * 3600)
        .column("bar", DataType::Float64)
        // A correction is a row of its own: in windows it counts beside the one that it corrects.
        .window("readings_6h", Aggregate::Count, "bar", 6 * 3600)
        .build()?;
    let service = FeatureService::new("pumps", 1, vec![], vec![view])?;
    let store = FeatureStore::new(vec![Arc::new(MemorySource::new("readings", readings))]);

    let hours = [1, 3, 7, 15];
    let questions = table([("pump", texts(["p1"; 4])), ("asked", instants(hours)?)])?;
    let answers = store.features(&service, &questions, "asked").await?;

    let (bar, count) = (numbers(&answers, "bar")?, numbers(&answers, "readings_6h")?);
    println!("asked   bar   readings within 6 h");
    for (row, hour) in hours.iter().enumerate() {
        let bar = bar.iter().nth(row).flatten();
        let bar = bar.map_or("—".to_owned(), |bar| format!("{bar:.1}"));
        println!("{hour:02}:00   {bar:<4}  {}", count.value(row));
    }
    println!(
        "\n03:00 sees the wrong reading, as the machine did then; 15:00 is past the 12 h TTL."
    );
    Ok(())
}

fn table<const N: usize>(columns: [(&str, ArrayRef); N]) -> Result<RecordBatch> {
    RecordBatch::try_from_iter(columns)
        .map_err(|source| Error::internal("table").with_source(source))
}

fn texts<const N: usize>(values: [&str; N]) -> ArrayRef {
    Arc::new(StringArray::from(values.to_vec()))
}

fn instants<const N: usize>(hours: [i64; N]) -> Result<ArrayRef> {
    let midnight: Timestamp = "2026-01-01T00:00:00Z".parse()?;
    let nanos = hours.map(|hour| midnight.plus_seconds(hour * 3600).nanos());
    let nanos = nanos.into_iter().collect::<Result<Vec<_>>>()?;
    Ok(Arc::new(TimestampNanosecondArray::from(nanos).with_timezone("UTC")))
}
