//! `windows`: twenty aggregates over each event's own past.

use kaizen_core::{Context, Error, ErrorKind, Result};
use kaizen_data::point_in_time::Index;
use kaizen_table::arrow::array::AsArray;
use kaizen_table::arrow::compute::{cast, sum};
use kaizen_table::arrow::datatypes::{DataType, Float64Type};
use kaizen_table::{Aggregate, FeatureView, RecordBatch};

use crate::contender::{Contender, Found, Stopwatch};
use crate::contest::{Contestant, Turn, contest};
use crate::data;
use crate::figure::{print_peaks, print_times};
use crate::ground::Ground;

const LENGTHS: [(&str, u32); 4] =
    [("hour", 3_600), ("day", 86_400), ("week", 604_800), ("month", 2_592_000)];

const AGGREGATES: [(&str, Aggregate); 5] = [
    ("count", Aggregate::Count),
    ("sum", Aggregate::Sum),
    ("mean", Aggregate::Mean),
    ("min", Aggregate::Min),
    ("max", Aggregate::Max),
];

const TIMES: usize = 3;

/// Asks everybody and prints the lines.
pub(crate) fn run(ground: &Ground) -> Result<()> {
    println!(
        "note: for each of 10 million events of 100,000 entities in no order: count, sum, mean, min \
         and max of one column over the entity's events of the last hour, day, 7 and 30 days, that \
         event included; all 20 at once, as one table in memory. Sums of ours are exact before they \
         are rounded once; those of the others are plain sums of floats"
    );
    let rows = ground.scaled(10_000_000);
    let events = data::events(ground, rows, rows / 100, false)?;
    let mut contestants = [
        Contestant::ours(ground, "ours", &[])?,
        Contestant::rival(ground, "duckdb", "windows_duckdb.py", &[])?,
        Contestant::rival(ground, "polars", "windows_polars.py", &[])?,
    ];
    for contestant in &mut contestants {
        contestant.ask(&format!("load {}", events.display()))?;
        contestant.forget_peak();
    }
    let line = "windows/20x10m";
    let turns = ["ours", "duckdb", "polars"].map(|name| Turn::new(name, "all", TIMES));
    print_times(line, &contest(line, &mut contestants, &turns, false)?);
    print_peaks("windows/20x10m_peak", &contestants);
    Ok(())
}

/// Our own side.
pub(crate) fn ours(_settings: &[String]) -> Result<Box<dyn Contender>> {
    Ok(Box::new(Ours::default()))
}

#[derive(Default)]
struct Ours {
    events: Option<RecordBatch>,
}

impl Contender for Ours {
    fn answer(&mut self, question: &[&str], stopwatch: &mut Stopwatch) -> Result<Found> {
        match question {
            ["load", events] => {
                self.events = Some(data::load(events, &["entity", "at", "f0"])?);
                Ok(Found::new())
            }
            ["all"] => {
                let events = self.events.as_ref().context(ErrorKind::Invalid, "not loaded")?;
                let view = view()?;
                // The events themselves ask, each at its own instant.
                let ask = || Index::new(&view, events)?.features(events, "at");
                summary(&stopwatch.time(ask)?)
            }
            _ => Err(Error::invalid(format!("question {question:?}"))),
        }
    }
}

fn view() -> Result<FeatureView> {
    let mut view = FeatureView::builder("compare").source("events").key("entity").event_time("at");
    for (length, seconds) in LENGTHS {
        for (name, aggregate) in AGGREGATES {
            view = view.window(&format!("{name}_{length}"), aggregate, "f0", seconds);
        }
    }
    view.build()
}

/// What was found, as in `rivals/windowed.py`: the sum of every column, and of a product.
fn summary(rows: &RecordBatch) -> Result<Found> {
    let mut found = Found::from([("rows".to_owned(), rows.num_rows() as f64)]);
    let (mut max_day, mut count_week) = (None, None);
    for (field, values) in rows.schema().fields().iter().zip(rows.columns()) {
        let values = cast(values, &DataType::Float64).context(ErrorKind::Internal, field.name())?;
        let values = values.as_primitive::<Float64Type>();
        found.insert(field.name().clone(), sum(values).unwrap_or(f64::NAN));
        match field.name().as_str() {
            "max_day" => max_day = Some(values.clone()),
            "count_week" => count_week = Some(values.clone()),
            _ => {}
        }
    }
    if let (Some(one), Some(other)) = (max_day, count_week) {
        let products = one.values().iter().zip(other.values()).map(|(one, other)| one * other);
        found.insert("cross".to_owned(), products.sum());
    }
    Ok(found)
}
