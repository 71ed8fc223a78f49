//! The monitor's state and its numbers.

use std::sync::Arc;

use kaizen_core::record::Occurrence;
use kaizen_core::{Actor, DataType, Digest, Field, OperationId, TimeBlocks, Timestamp};
use kaizen_drift::{Monitor, Reading, Settings, ValueMonitor, profile};
use kaizen_table::arrow::array::{ArrayRef, Float64Array, RecordBatch};
use kaizen_table::with_column;
use kaizen_testkit::drifting::Drifting;

fn monitor(data: &Drifting, days: u32) -> Monitor {
    let features = [
        Field::new("x0", DataType::Float64),
        Field::new("c0", DataType::Utf8),
        Field::new("label", DataType::Bool),
    ];
    let rows = data.rows(0..days).unwrap();
    let profile =
        profile(Digest::of("state"), &rows, &features, "time", TimeBlocks::days()).unwrap();
    Monitor::new(&profile, Settings { alpha: 0.05, seed: 3 }).unwrap()
}

fn look(monitor: &mut Monitor, data: &Drifting, day: u32) -> Reading {
    monitor.observe(data.block(day), &data.rows(day..day + 1).unwrap()).unwrap()
}

#[test]
fn a_restart_in_mid_stream_changes_no_bit() {
    let data = Drifting { from_day: 26, mean_shift: 2.0, ..Drifting::default() };
    let mut steady = monitor(&data, 20);
    let mut restarted = steady.clone();
    for day in 20..40 {
        let json = serde_json::to_string(&restarted).unwrap();
        restarted = serde_json::from_str(&json).unwrap();
        let (one, other) = (look(&mut steady, &data, day), look(&mut restarted, &data, day));
        assert_eq!(one.evidence.to_bits(), other.evidence.to_bits(), "day {day}");
        assert_eq!(one, other);
    }
    assert_eq!(serde_json::to_vec(&steady).unwrap(), serde_json::to_vec(&restarted).unwrap());

    let mut value = ValueMonitor::new(&[1.0, 2.0, 3.0, 2.5], 0.1, 9).unwrap();
    value.observe(-4, 2.0).unwrap();
    let json = serde_json::to_string(&value).unwrap();
    let mut restarted: ValueMonitor = serde_json::from_str(&json).unwrap();
    assert_eq!(restarted.observe(7, 1.5).unwrap(), value.observe(7, 1.5).unwrap());
}

#[test]
fn a_year_of_drift_leaves_every_number_finite_and_the_state_readable() {
    let data = Drifting {
        from_day: 20,
        mean_shift: 9.0,
        missing: 1.0,
        rows_per_day: 10,
        ..Drifting::default()
    };
    let mut monitor = monitor(&data, 20);
    for day in 20..385 {
        let reading = look(&mut monitor, &data, day);
        let numbers = reading.features.iter().flat_map(|f| [f.evidence, f.psi]);
        assert!(numbers.chain([reading.evidence]).all(f64::is_finite), "{reading:?}");
    }
    let json = serde_json::to_string(&monitor).unwrap();
    assert_eq!(serde_json::from_str::<Monitor>(&json).unwrap(), monitor);
}

#[test]
fn features_that_never_vary_give_no_evidence_and_no_nan() {
    let constant = |batch: RecordBatch, value: f64| {
        let values: ArrayRef = Arc::new(Float64Array::from(vec![value; batch.num_rows()]));
        let empty: ArrayRef = Arc::new(Float64Array::from(vec![None; batch.num_rows()]));
        with_column(&with_column(&batch, "same", values).unwrap(), "void", empty).unwrap()
    };
    let data = Drifting { rows_per_day: 30, ..Drifting::default() };
    let fields = [Field::new("same", DataType::Float64), Field::new("void", DataType::Float64)];
    let reference = constant(data.rows(0..30).unwrap(), 4.0);
    let profile =
        profile(Digest::of("same"), &reference, &fields, "time", TimeBlocks::days()).unwrap();
    for (value, drifts) in [(4.0, false), (3.9, true), (4.1, true)] {
        let mut monitor = Monitor::new(&profile, Settings::default()).unwrap();
        let mut alarm = false;
        for day in 30..50 {
            let rows = constant(data.rows(day..day + 1).unwrap(), value);
            let reading = monitor.observe(data.block(day), &rows).unwrap();
            let numbers = reading.features.iter().flat_map(|f| [f.evidence, f.psi]);
            assert!(numbers.chain([reading.evidence]).all(f64::is_finite), "{reading:?}");
            alarm |= reading.alarm;
        }
        assert_eq!(alarm, drifts, "from 4 to {value}");
    }
}

#[test]
fn a_reading_becomes_a_record() {
    let data = Drifting::default();
    let mut monitor = monitor(&data, 5);
    let reading = look(&mut monitor, &data, 5);
    let at: Timestamp = "2020-01-07T00:00:00Z".parse().unwrap();
    let by = Occurrence::new(at, Actor::system("test"), OperationId::new("test", at));
    let (profile, model) = (Digest::of("profile"), Digest::of("model"));
    let report = reading.report(by, profile, model, monitor.unit());
    assert_eq!(report.block_start, "2020-01-06T00:00:00Z".parse().unwrap());
    assert_eq!((report.looks, report.alarm), (1, false));
    assert_eq!(report.features, reading.features);
}
