//! Figures: medians and quantiles, and the lines that show them.

use crate::contest::{Contestant, Outcome};

/// Prints one line: `compare point_in_time/1m_cold unit=s ours=0.11 polars=0.35`. Of a unit that
/// ends in `/s` larger is better, of any other smaller.
pub(crate) fn print<'a>(name: &str, unit: &str, values: impl IntoIterator<Item = (&'a str, f64)>) {
    let mut line = format!("compare {name} unit={unit}");
    for (contender, value) in values {
        line.push_str(&format!(" {contender}={}", shown(value)));
    }
    println!("{line}");
}

/// The medians of wall and CPU seconds, a line each.
pub(crate) fn print_times(name: &str, outcomes: &[Outcome]) {
    let wall = outcomes.iter().map(|outcome| (outcome.contender, median(outcome.seconds())));
    print(name, "s", wall);
    let cpu = outcomes.iter().map(|outcome| (outcome.contender, median(outcome.cpu_seconds())));
    print(name, "cpu_s", cpu);
}

/// The peaks of resident memory since they were last forgotten: the tables that were loaded, the
/// work and the answer. Nothing where the kernel does not say.
pub(crate) fn print_peaks(name: &str, contestants: &[Contestant]) {
    let peak = |contestant: &Contestant| Some((contestant.name(), contestant.peak()? / 1e9));
    let peaks: Vec<_> = contestants.iter().filter_map(peak).collect();
    if !peaks.is_empty() {
        print(name, "GB", peaks);
    }
}

/// The middle of these values; NaN of none.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        count if count % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}

/// The least value that `per_cent` of the values do not exceed; NaN of none.
pub(crate) fn percentile(mut values: Vec<f64>, per_cent: usize) -> f64 {
    values.sort_by(f64::total_cmp);
    let rank = (values.len() * per_cent).div_ceil(100).max(1);
    values.get(rank - 1).copied().unwrap_or(f64::NAN)
}

/// Three significant digits, and whole numbers from 100 on.
fn shown(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return value.to_string();
    }
    let digits = 2 - value.abs().log10().floor() as i32;
    format!("{value:.0$}", usize::try_from(digits).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_percentiles_of_few_values() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(vec![]).is_nan());
        let hundred: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!(percentile(hundred.clone(), 50), 50.0);
        assert_eq!(percentile(hundred, 99), 99.0);
        assert_eq!(percentile(vec![7.0], 99), 7.0);
    }

    #[test]
    fn three_digits_are_shown() {
        let cases = [(0.110_49, "0.110"), (8.214, "8.21"), (99.94, "99.9"), (151_234.6, "151235")];
        for (value, text) in cases {
            assert_eq!(shown(value), text);
        }
        assert_eq!(shown(0.000_123_4), "0.000123");
    }
}
