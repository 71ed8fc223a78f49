//! An alarm that keeps its promise.
//!
//! *Learn:* how a monitor watches the days after a training, and why the day is its unit.\
//! *Run:* `cargo run --example drift`\
//! *Prints:* the evidence, day by day: first undrifted days, then days that differ.
#![allow(clippy::print_stdout, reason = "an example prints")]

use std::sync::Arc;

use kaizen::arrow::array::{ArrayRef, Float64Array, StringArray, TimestampNanosecondArray};
use kaizen::drift::{Monitor, Settings, profile};
use kaizen::prelude::*;
use kaizen::table::RecordBatch;

const TRAINED: i64 = 40;
const QUIET: i64 = 20;

fn main() -> Result<()> {
    let unit = TimeBlocks::days();
    let features = [Field::new("amount", DataType::Float64), Field::new("country", DataType::Utf8)];
    let reference = days(0..TRAINED)?;
    let reference = profile(Digest::of("training set"), &reference, &features, "at", unit)?;
    let mut monitor = Monitor::new(&reference, Settings { alpha: 0.05, seed: 1 })?;

    println!("day   evidence   strongest feature   (the alarm sounds at 20)");
    for day in TRAINED.. {
        let reading = monitor.observe(day, &days(day..day + 1)?)?;
        let strongest = reading.features.first().map_or("", |feature| feature.name.as_str());
        let drifted = if day < TRAINED + QUIET { ' ' } else { '*' };
        println!("{day:>3} {drifted} {:>8.2}   {strongest}", reading.evidence);
        if reading.alarm {
            println!("\nalarm after {} drifted days", day - TRAINED - QUIET + 1);
            return Ok(());
        }
    }
    Ok(())
}

/// Days of 200 orders. Each day has a mood of its own, shared by its rows: that is why a test that
/// takes rows for independent cries wolf. From day 60 on, amounts are larger.
fn days(range: std::ops::Range<i64>) -> Result<RecordBatch> {
    const ROWS: i64 = 200;
    let (mut amounts, mut countries, mut at) = (Vec::new(), Vec::new(), Vec::new());
    for day in range {
        let mood = noise(day, 0);
        let drift = if day < TRAINED + QUIET { 0.0 } else { 2.5 };
        for row in 0..ROWS {
            amounts.push(20.0 + 2.0 * (mood + drift) + 6.0 * noise(day, row + 1));
            countries.push(["de", "fr", "it"][(day * 7 + row * 11).rem_euclid(3) as usize]);
            at.push(TimeBlocks::days().start(day).plus_seconds(row * 60).nanos()?);
        }
    }
    let columns: [(&str, ArrayRef); 3] = [
        ("amount", Arc::new(Float64Array::from(amounts))),
        ("country", Arc::new(StringArray::from(countries))),
        ("at", Arc::new(TimestampNanosecondArray::from(at).with_timezone("UTC"))),
    ];
    RecordBatch::try_from_iter(columns)
        .map_err(|source| Error::internal("table").with_source(source))
}

/// A number around 0, of variance about 1, fixed for each pair: the sum of four hashed uniforms.
fn noise(day: i64, row: i64) -> f64 {
    let bytes = *Digest::of(format!("{day}/{row}")).as_bytes();
    let uniform =
        |i: usize| f64::from(u16::from_le_bytes([bytes[2 * i], bytes[2 * i + 1]])) / 65536.0;
    ((0..4).map(uniform).sum::<f64>() - 2.0) * 1.732
}
