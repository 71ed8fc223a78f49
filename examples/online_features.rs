//! Features online: fed as events arrive, answered as they are trained on.
//!
//! *Learn:* how one definition serves a model in production, and how to see that it serves what it
//! would train on.\
//! *Run:* `cargo run --example online_features`\
//! *Prints:* what is known of three cards, one of which never pays, as payments arrive, a late one
//! included; and the skew check of all that was served.
#![allow(clippy::print_stdout, reason = "an example prints")]

use std::sync::Arc;

use kaizen::arrow::array::{
    Array, ArrayRef, Float64Array, RecordBatch, StringArray, TimestampNanosecondArray,
};
use kaizen::arrow::compute::concat_batches;
use kaizen::arrow::util::display::array_value_to_string;
use kaizen::core::{Context, ErrorKind};
use kaizen::data::{PushSource, ServedLog, open_online, skew};
use kaizen::prelude::*;
use kaizen::table::Window;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    // One definition, for training and for serving.
    let view = FeatureView::builder("spending")
        .source("payments")
        .key("card")
        .event_time("at")
        .known(Known::Column("received".into()))
        .column("amount", DataType::Float64)
        .window("payments_1h", Aggregate::Count, "amount", 3600)
        // A long window keeps a tile for each hour and not every payment.
        .window_as("spent_24h", Window::new(Aggregate::Sum, "amount", 86_400).hop_seconds(3600))
        .build()?;
    let service = FeatureService::new("fraud", 1, vec![], vec![view.clone()])?;

    // Payments come in; `received` says when each was known. The last one is an hour late: what was
    // served before it came was right without it, and the skew check knows that too.
    let arrivals = [
        [("c1", 60, 60, 20.0), ("c2", 61, 61, 5.0)],
        [("c1", 110, 110, 30.0), ("c1", 72, 130, 500.0)],
    ];
    let columns = payments(&arrivals[0])?.schema();
    let source = Arc::new(PushSource::in_memory("payments", columns)?);
    let asked_with = questions(100)?.schema();
    let served = PushSource::in_memory("served", ServedLog::schema(&service, &asked_with)?)?;
    let served = Arc::new(served);
    let log = Arc::new(ServedLog::start(Arc::clone(&served) as _)?);
    let online =
        Online::new(open_online("memory:").await?).log_served_to(&service, Arc::clone(&log));

    for (arrived, minute) in arrivals.iter().zip([100, 131]) {
        source.push(&payments(arrived)?).await?;
        online.follow(&view, source.as_ref(), minute_of_day(minute)?).await?;
        let answer = online.features(&service, &questions(minute)?, "asked").await?;
        println!("{:02}:{:02}\n{}", minute / 60, minute % 60, shown(&answer)?);
    }

    // The same questions, recomputed offline from all payments.
    log.flush().await?;
    let store = FeatureStore::new(vec![source]);
    let columns = served.schema().await?;
    let names: Vec<&str> = columns.fields().iter().map(|field| field.name().as_str()).collect();
    let batches = served.read(&names).await?.batches;
    let rows = concat_batches(&columns, &batches);
    let rows = rows.context(ErrorKind::Internal, "what was served")?;
    print!("{}", skew::check(&store, &service, &rows, "asked").await?);
    Ok(())
}

/// Payments as (card, minute of the day, minute at which it was received, amount).
fn payments(rows: &[(&str, i64, i64, f64)]) -> Result<RecordBatch> {
    let cards: Vec<&str> = rows.iter().map(|row| row.0).collect();
    let minutes = |of: fn(&(&str, i64, i64, f64)) -> i64| rows.iter().map(of).collect::<Vec<_>>();
    table([
        ("card", texts(&cards)),
        ("at", instants(&minutes(|row| row.1))?),
        ("received", instants(&minutes(|row| row.2))?),
        ("amount", Arc::new(rows.iter().map(|row| row.3).collect::<Float64Array>())),
    ])
}

/// Three cards, asked about at one minute of the day.
fn questions(minute: i64) -> Result<RecordBatch> {
    table([("card", texts(&["c1", "c2", "c3"])), ("asked", instants(&[minute; 3])?)])
}

/// The answers as text, a line for each card: each feature with its name.
fn shown(answers: &RecordBatch) -> Result<String> {
    let mut lines = String::new();
    for row in 0..answers.num_rows() {
        let mut line = " ".to_owned();
        for (field, values) in answers.schema().fields().iter().zip(answers.columns()) {
            let text = |values| {
                array_value_to_string(values, row).context(ErrorKind::Internal, field.name())
            };
            match field.name().as_str() {
                "card" => line += &format!(" {}", text(values)?),
                "asked" => {}
                name if values.is_null(row) => line += &format!("  {name} {:<5}", "—"),
                name => line += &format!("  {name} {:<5}", text(values)?),
            }
        }
        lines += line.trim_end();
        lines += "\n";
    }
    Ok(lines)
}

fn table<const N: usize>(columns: [(&str, ArrayRef); N]) -> Result<RecordBatch> {
    RecordBatch::try_from_iter_with_nullable(columns.map(|(name, values)| (name, values, true)))
        .context(ErrorKind::Internal, "table")
}

fn texts(values: &[&str]) -> ArrayRef {
    Arc::new(StringArray::from(values.to_vec()))
}

fn minute_of_day(minute: i64) -> Result<Timestamp> {
    Ok("2026-01-01T00:00:00Z".parse::<Timestamp>()?.plus_seconds(minute * 60))
}

fn instants(minutes: &[i64]) -> Result<ArrayRef> {
    let nanos = minutes.iter().map(|minute| minute_of_day(*minute)?.nanos());
    let nanos = nanos.collect::<Result<Vec<_>>>()?;
    Ok(Arc::new(TimestampNanosecondArray::from(nanos).with_timezone("UTC")))
}
