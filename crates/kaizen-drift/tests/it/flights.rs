//! Judged on the flights of 2013: do splits of undrifted days alarm, is real drift found?

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use kaizen_core::record::{FeatureProfile, Profile};
use kaizen_core::{DataType, Digest, Field, TimeBlocks};
use kaizen_drift::{Monitor, Settings, profile};
use kaizen_stats::conformal::uniform;
use kaizen_stats::histogram::psi;
use kaizen_table::arrow::array::{Array, ArrayRef, BooleanArray, Float64Array, RecordBatch};
use kaizen_table::arrow::compute::{concat_batches, filter_record_batch};
use kaizen_table::{blocks, instants, numbers, texts, with_column};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use statrs::distribution::{ChiSquared, ContinuousCDF};

const WEATHER: [&str; 4] = ["temp", "visib", "wind_speed", "pressure"];

/// Days of New York's standard time.
fn unit() -> TimeBlocks {
    TimeBlocks::days().starting_at(5 * 3600)
}

fn read(name: &str) -> RecordBatch {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/data").join(name);
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap();
    let schema = Arc::clone(reader.schema());
    let batches: Vec<_> = reader.build().unwrap().map(Result::unwrap).collect();
    concat_batches(&schema, &batches).unwrap()
}

/// The flights of the year, each with the weather at its airport in the hour of its departure.
static YEAR: LazyLock<RecordBatch> = LazyLock::new(|| {
    let (flights, weather) = (read("flights.parquet"), read("weather.parquet"));
    let hours = |table: &RecordBatch, time: &str| -> Vec<i64> {
        instants(table, time).unwrap().values().iter().map(|at| at / 3_600_000_000_000).collect()
    };
    let airports = texts(&weather, "origin").unwrap();
    let at: BTreeMap<(&str, i64), usize> = hours(&weather, "time")
        .into_iter()
        .enumerate()
        .map(|(row, hour)| ((airports.value(row), hour), row))
        .collect();
    let origins = texts(&flights, "origin").unwrap();
    let rows: Vec<Option<usize>> = hours(&flights, "sched_dep")
        .into_iter()
        .enumerate()
        .map(|(row, hour)| at.get(&(origins.value(row), hour)).copied())
        .collect();
    WEATHER.iter().fold(flights, |table, name| {
        let readings = numbers(&weather, name).unwrap();
        let reading =
            |row: &Option<usize>| row.filter(|r| readings.is_valid(*r)).map(|r| readings.value(r));
        let joined: ArrayRef = Arc::new(rows.iter().map(reading).collect::<Float64Array>());
        with_column(&table, name, joined).unwrap()
    })
});

fn features() -> Vec<Field> {
    let texts = ["carrier", "origin", "dest"].map(|name| Field::new(name, DataType::Utf8));
    let own = ["distance", "sched_dep_minute", "dep_delay"];
    let numbers = own.iter().chain(&WEATHER).map(|name| Field::new(*name, DataType::Float64));
    texts.into_iter().chain(numbers).collect()
}

/// The rows of the days that `keep` accepts; day 0 is 1 January.
fn days_of(table: &RecordBatch, keep: impl Fn(i64) -> bool) -> RecordBatch {
    let block = blocks(table, "sched_dep", unit()).unwrap();
    let first = unit().block("2013-01-01T05:00:00Z".parse().unwrap());
    let mask: BooleanArray = block.values().iter().map(|b| Some(keep(b - first))).collect();
    filter_record_batch(table, &mask).unwrap()
}

fn describe(rows: &RecordBatch, features: &[Field]) -> Profile {
    profile(Digest::of("flights"), rows, features, "sched_dep", unit()).unwrap()
}

/// The numbers from 0 to `count` in an order drawn at random.
fn shuffled(count: usize, seed: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    order.sort_by(|a, b| {
        let draw = |item: &usize| uniform(seed, 5, *item as u64);
        draw(a).total_cmp(&draw(b))
    });
    order
}

/// These days of a profile, as if they had come in this order.
fn pick(all: &Profile, days: &[usize]) -> Profile {
    let counts = |f: &FeatureProfile| days.iter().map(|d| f.counts[*d].clone()).collect();
    let feature = |f: &FeatureProfile| FeatureProfile {
        name: f.name.clone(),
        bins: f.bins.clone(),
        counts: counts(f),
    };
    Profile {
        blocks: (0..days.len() as i64).collect(),
        features: all.features.iter().map(feature).collect(),
        ..all.clone()
    }
}

/// Whether the daily looks at `observed` give any alarm, against the days `reference`.
fn alarms(all: &Profile, reference: &[usize], observed: &[usize], seed: u64) -> bool {
    let settings = Settings { alpha: 0.05, seed };
    let mut monitor = Monitor::new(&pick(all, reference), settings).unwrap();
    observed.iter().enumerate().any(|(look, day)| {
        let counts = all.features.iter().map(|f| f.counts[*day].clone()).collect();
        monitor.observe_counts((reference.len() + look) as i64, counts).unwrap().alarm
    })
}

/// The usual test: PSI with its chi-square law for independent rows, at 5 % over all features
/// (Bonferroni), looking once at the end.
fn row_wise_alarm(all: &Profile, reference: &[usize], observed: &[usize]) -> bool {
    all.features.iter().any(|feature| {
        let pool = |days: &[usize]| {
            let mut sums = vec![0; feature.bins.len()];
            for day in days {
                sums.iter_mut().zip(&feature.counts[*day]).for_each(|(s, c)| *s += u64::from(*c));
            }
            sums
        };
        let used = |(p, q): &(u64, u64)| p + q > 0;
        let (p, q): (Vec<u64>, Vec<u64>) =
            pool(reference).into_iter().zip(pool(observed)).filter(used).unzip();
        let (n, m) = (p.iter().sum::<u64>() as f64, q.iter().sum::<u64>() as f64);
        let law = ChiSquared::new((p.len() as f64 - 1.0).max(1.0)).unwrap();
        let critical = law.inverse_cdf(1.0 - 0.05 / all.features.len() as f64);
        psi(&p, &q) * n * m / (n + m) > critical
    })
}

#[test]
fn splits_of_undrifted_days_alarm_as_rarely_as_stated_where_a_row_wise_test_cries_wolf() {
    let all = describe(&days_of(&YEAR, |day| day < 59), &features());
    assert_eq!(all.blocks.len(), 59);
    let splits = 400;
    let (mut ours, mut row_wise) = (0, 0);
    for seed in 0..splits {
        let order = shuffled(59, seed);
        let (reference, observed) = order.split_at(40);
        ours += usize::from(alarms(&all, reference, observed, seed));
        row_wise += usize::from(row_wise_alarm(&all, reference, observed));
    }
    let share = |count: usize| count as f64 / splits as f64;
    println!(
        "January and February, {splits} splits: alarms in {:.1} %, row-wise in {:.1} %",
        100.0 * share(ours),
        100.0 * share(row_wise),
    );
    // Two standard errors of 400 splits at the stated 5 %.
    assert!(share(ours) <= 0.05 + 0.022, "{ours} of {splits}");
    assert!(share(row_wise) > 0.8, "{row_wise} of {splits}");
}

/// The bins come from the reference alone here, as they do in life.
#[test]
fn bins_made_from_the_reference_alone_do_not_raise_the_rate() {
    let rows = days_of(&YEAR, |day| day < 59);
    let splits = 60;
    let mut alarmed = 0;
    for seed in 1_000..1_000 + splits {
        let order = shuffled(59, seed);
        let (reference, observed) = order.split_at(30);
        let mut sorted = reference.to_vec();
        sorted.sort_unstable();
        let profile = describe(
            &days_of(&rows, |day| sorted.binary_search(&(day as usize)).is_ok()),
            &features(),
        );
        let counts: Vec<Vec<Vec<u32>>> = observed
            .iter()
            .map(|day| {
                let rows = days_of(&rows, |d| d == *day as i64);
                let of =
                    |f: &FeatureProfile| kaizen_drift::counts(&rows, &f.name, &f.bins).unwrap();
                profile.features.iter().map(of).collect()
            })
            .collect();
        let mut monitor = Monitor::new(&profile, Settings { alpha: 0.05, seed }).unwrap();
        let first = profile.blocks.last().unwrap() + 1;
        let any = (first..).zip(counts).any(|(b, c)| monitor.observe_counts(b, c).unwrap().alarm);
        alarmed += usize::from(any);
    }
    println!("bins from the reference alone, {splits} splits: {alarmed} alarmed");
    // P(8 or more of 60) is below 2 % at the stated 5 %.
    assert!(alarmed <= 7, "{alarmed} of {splits}");
}

#[test]
fn spring_is_found_in_the_temperature() {
    let all: Vec<_> = features().into_iter().collect();
    let temp = [Field::new("temp", DataType::Float64)];
    for (name, features) in [("temp", &temp[..]), ("all features", &all[..])] {
        let mut monitor = Monitor::new(
            &describe(&days_of(&YEAR, |day| day < 59), features),
            Settings { alpha: 0.05, seed: 1 },
        )
        .unwrap();
        let first = monitor.last_block() + 1;
        let alarm = (0..120).find_map(|day| {
            let rows = days_of(&YEAR, |d| d == 59 + day);
            let reading = monitor.observe(first + day, &rows).unwrap();
            reading.alarm.then_some((day, reading))
        });
        let (day, reading) = alarm.unwrap();
        let date = unit().start(reading.block).date();
        let strongest = &reading.features[0];
        println!("{name}: alarm on {date}, look {}, strongest {strongest:?}", day + 1);
        assert!(reading.features.iter().any(|f| f.name == "temp"), "{name}");
        assert!(day < 61, "{name}: {date} is later than April");
    }
}
