//! Bad input gets an error that names the thing at fault, and changes nothing.

use std::sync::Arc;

use kaizen_core::record::Bins;
use kaizen_core::{DataType, Digest, Field, TimeBlocks};
use kaizen_drift::{Monitor, Settings, ValueMonitor, counts, profile};
use kaizen_table::arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray};
use kaizen_testkit::drifting::Drifting;

fn fields() -> [Field; 2] {
    [Field::new("x0", DataType::Float64), Field::new("c0", DataType::Utf8)]
}

fn reference(data: &Drifting) -> kaizen_drift::Profile {
    let rows = data.rows(0..4).unwrap();
    profile(Digest::of("input"), &rows, &fields(), "time", TimeBlocks::days()).unwrap()
}

fn message<T: std::fmt::Debug>(result: kaizen_core::Result<T>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn a_missing_column_is_named() {
    let data = Drifting::default();
    let mut monitor = Monitor::new(&reference(&data), Settings::default()).unwrap();
    let before = monitor.clone();
    let rows = data.rows(4..5).unwrap();
    let kept: Vec<_> =
        (0..rows.num_columns()).filter(|i| rows.schema().field(*i).name() != "c0").collect();
    let error = message(monitor.observe(data.block(4), &rows.project(&kept).unwrap()));
    assert!(error.contains("`c0` is missing"), "{error}");
    assert_eq!(monitor, before);

    let wanted = [Field::new("gone", DataType::Float64)];
    let error = message(profile(Digest::of(""), &rows, &wanted, "time", TimeBlocks::days()));
    assert!(error.contains("`gone` is missing"), "{error}");
    let error = message(profile(Digest::of(""), &rows, &fields(), "when", TimeBlocks::days()));
    assert!(error.contains("`when` is missing"), "{error}");
}

#[test]
fn time_goes_forward_and_blocks_have_rows() {
    let data = Drifting::default();
    let mut monitor = Monitor::new(&reference(&data), Settings::default()).unwrap();
    let rows = data.rows(4..5).unwrap();
    let in_reference = message(monitor.observe(data.block(3), &rows));
    assert!(in_reference.contains("block 18265: not later than block 18265"), "{in_reference}");
    monitor.observe(data.block(6), &rows).unwrap();
    let before = monitor.clone();
    assert!(monitor.observe(data.block(6), &rows).is_err());
    assert!(monitor.observe(data.block(5), &rows).is_err());
    let empty = message(monitor.observe(data.block(7), &rows.slice(0, 0)));
    assert!(empty.contains("block 18269: feature `x0`: 0 rows"), "{empty}");
    let short = message(monitor.observe_counts(data.block(7), vec![vec![1, 2]]));
    assert!(short.contains("1 features, not 2"), "{short}");
    let narrow = message(monitor.observe_counts(data.block(7), vec![vec![1, 2], vec![3]]));
    assert!(narrow.contains("`x0`: 2 counts for 12 bins"), "{narrow}");
    assert_eq!(monitor, before);
    assert_eq!((monitor.looks(), monitor.last_block()), (1, data.block(6)));

    let mut value = ValueMonitor::new(&[1.0, 2.0], 0.05, 1).unwrap();
    value.observe(4, 1.0).unwrap();
    assert!(message(value.observe(4, 1.0)).contains("block 4"));
    assert!(message(value.observe(5, f64::NAN)).contains("NaN"));
    assert_eq!(value.observe(5, 1.0).unwrap().looks, 2);
}

#[test]
fn a_profile_that_cannot_be_monitored_by_is_refused() {
    let data = Drifting::default();
    let good = reference(&data);
    let new = |profile| Monitor::new(profile, Settings::default());
    let mut short = good.clone();
    short.features[1].counts.pop();
    assert!(message(new(&short)).contains("`c0`: 3 blocks, not 4"));
    let mut turned = good.clone();
    turned.blocks.reverse();
    assert!(message(new(&turned)).contains("stands before block"));
    let mut single = good.clone();
    single.blocks.truncate(1);
    assert!(message(new(&single)).contains("1 blocks"));
    for alpha in [0.0, 1.0, -0.1, f64::NAN] {
        assert!(message(Monitor::new(&good, Settings { alpha, seed: 1 })).contains("alpha"));
        assert!(ValueMonitor::new(&[1.0, 2.0], alpha, 1).is_err());
    }
    let twice = [fields()[0].clone(), fields()[0].clone()];
    let rows = data.rows(0..4).unwrap();
    let error = message(profile(Digest::of(""), &rows, &twice, "time", TimeBlocks::days()));
    assert!(error.contains("`x0` stands twice"), "{error}");
    let none = profile(Digest::of(""), &rows.slice(0, 0), &fields(), "time", TimeBlocks::days());
    assert!(message(none).contains("0 rows"));
    assert!(ValueMonitor::new(&[1.0], 0.05, 1).is_err());
    assert!(ValueMonitor::new(&[1.0, f64::INFINITY], 0.05, 1).is_err());
}

#[test]
fn missing_and_new_values_have_bins_of_their_own() {
    let data = Drifting::default();
    let profile = reference(&data);
    let texts: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), Some("new"), None, None]));
    let numbers = vec![Some(0.0), None, Some(f64::INFINITY), Some(f64::NAN)];
    let numbers: ArrayRef = Arc::new(Float64Array::from(numbers));
    let rows = RecordBatch::try_from_iter([("x0", numbers), ("c0", texts)]).unwrap();
    let of = |index: usize| {
        let feature = &profile.features[index];
        let counts = counts(&rows, &feature.name, &feature.bins).unwrap();
        (counts[feature.bins.missing()], counts[feature.bins.unseen()], counts.iter().sum::<u32>())
    };
    assert_eq!(of(0), (1, 2, 4));
    assert_eq!(of(1), (2, 1, 4));
    assert!(matches!(&profile.features[1].bins, Bins::Categories { values } if values.len() == 5));
    assert!(matches!(&profile.features[0].bins, Bins::Numbers { edges } if edges.len() == 9));
    assert!(profile.features[0].counts.iter().all(|day| day.iter().sum::<u32>() == 200));
}
