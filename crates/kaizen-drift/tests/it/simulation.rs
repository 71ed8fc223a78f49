//! False alarms and delays on synthetic days.

use kaizen_core::{DataType, Digest, Field, TimeBlocks};
use kaizen_drift::{Monitor, Settings, ValueMonitor, profile};
use kaizen_testkit::drifting::Drifting;

fn features(data: &Drifting) -> Vec<Field> {
    let numbers = (0..data.numbers).map(|i| Field::new(format!("x{i}"), DataType::Float64));
    let texts = (0..data.texts).map(|i| Field::new(format!("c{i}"), DataType::Utf8));
    numbers.chain(texts).collect()
}

/// The look of the first alarm, from 1, with a profile of the first `reference` days.
fn first_alarm(data: &Drifting, reference: u32, looks: u32, alpha: f64) -> Option<u32> {
    let rows = data.rows(0..reference).unwrap();
    let set = Digest::of("simulation");
    let profile = profile(set, &rows, &features(data), "time", TimeBlocks::days()).unwrap();
    let settings = Settings { alpha, seed: data.seed };
    let mut monitor = Monitor::new(&profile, settings).unwrap();
    (reference..reference + looks)
        .find(|day| {
            let rows = data.rows(*day..day + 1).unwrap();
            monitor.observe(data.block(*day), &rows).unwrap().alarm
        })
        .map(|day| day + 1 - reference)
}

/// The delays of `runs` seeds, in looks after the drift began; none for a false or no alarm.
fn delays(data: &Drifting, reference: u32, looks: u32, runs: u64) -> Vec<Option<u32>> {
    let before = data.from_day - reference;
    let of = |seed| {
        let data = Drifting { seed, ..data.clone() };
        first_alarm(&data, reference, looks, 0.05)?.checked_sub(before).filter(|delay| *delay > 0)
    };
    (0..runs).map(of).collect()
}

fn found_within(delays: &[Option<u32>], days: u32) -> f64 {
    let found = delays.iter().flatten().filter(|delay| **delay <= days).count();
    found as f64 / delays.len() as f64
}

fn median(delays: &[Option<u32>]) -> u32 {
    let mut sorted: Vec<u32> = delays.iter().map(|delay| delay.unwrap_or(u32::MAX)).collect();
    sorted.sort_unstable();
    sorted[sorted.len() / 2]
}

#[test]
fn strong_day_effects_alone_hardly_ever_alarm() {
    let data = Drifting { rows_per_day: 40, day_effect: 3.0, ..Drifting::default() };
    let (runs, alpha) = (1_000, 0.1);
    let alarms = (0..runs)
        .filter(|seed| {
            let data = Drifting { seed: *seed, ..data.clone() };
            first_alarm(&data, 25, 30, alpha).is_some()
        })
        .count();
    let share = alarms as f64 / runs as f64;
    println!("simulation: {runs} runs without drift, any alarm in {:.1} %", 100.0 * share);
    // Two standard errors of 1,000 runs at the stated rate.
    assert!(share <= alpha + 0.019, "{share}");
}

#[test]
fn a_shift_of_one_deviation_in_half_the_features_is_found_in_about_a_week() {
    let data = Drifting {
        numbers: 8,
        texts: 2,
        shifted: 5,
        rows_per_day: 100,
        mean_shift: 1.0,
        from_day: 50,
        ..Drifting::default()
    };
    let early = delays(&data, 50, 21, 100);
    let late = delays(&Drifting { from_day: 71, ..data }, 50, 21 + 28, 60);
    println!("one deviation in 5 of 10 features: median delay {} days", median(&early));
    println!("the same after three quiet weeks: median delay {} days", median(&late));
    assert!(median(&early) <= 11, "{early:?}");
    assert!(found_within(&early, 16) >= 0.8, "{early:?}");
    assert!(found_within(&late, 21) >= 0.8, "{late:?}");
}

#[test]
fn a_new_category_and_missing_values_are_found_in_a_week() {
    let quiet = Drifting { rows_per_day: 100, shifted: 1, from_day: 50, ..Drifting::default() };
    let cases = [
        ("a new category in 10 % of rows", Drifting { new_category: 0.1, ..quiet.clone() }),
        ("5 % of values missing", Drifting { missing: 0.05, ..quiet.clone() }),
        ("three deviations in one feature", Drifting { mean_shift: 3.0, ..quiet.clone() }),
    ];
    for (name, data) in cases {
        let delays = delays(&data, 50, 14, 40);
        println!("{name}: median delay {} days", median(&delays));
        assert!(found_within(&delays, 10) >= 0.8, "{name}: {delays:?}");
    }
}

#[test]
fn a_falling_value_is_found_and_a_rising_one_is_not() {
    // Sums of twelve uniform numbers are nearly normal.
    let uniform = kaizen_stats::conformal::uniform;
    let value =
        |run: u64, day: u64| (0..12).map(|i| uniform(run, 1_000 + day, i)).sum::<f64>() - 6.0;
    let first_alarm = |run: u64, shift: f64, looks: u64| {
        let reference: Vec<f64> = (0..50).map(|day| value(run, day)).collect();
        let mut monitor = ValueMonitor::new(&reference, 0.05, run).unwrap();
        (50..50 + looks)
            .find(|day| monitor.observe(*day as i64, value(run, *day) + shift).unwrap().alarm)
            .map(|day| (day - 49) as u32)
    };
    let quiet = (0..1_000).filter(|run| first_alarm(*run, 0.0, 60).is_some()).count();
    println!("value monitor: {quiet} of 1000 quiet runs alarmed");
    assert!(quiet <= 64, "{quiet} of 1,000 at alpha 0.05");
    let rising = (0..100).filter(|run| first_alarm(*run, 2.0, 30).is_some()).count();
    assert!(rising <= 3, "{rising}");
    for (shift, within) in [(-1.0, 30), (-2.0, 7)] {
        let delays: Vec<_> = (0..200).map(|run| first_alarm(run, shift, 40)).collect();
        println!("value monitor: shift {shift}: median delay {} days", median(&delays));
        assert!(found_within(&delays, within) >= 0.8, "{shift}: {delays:?}");
    }
}
