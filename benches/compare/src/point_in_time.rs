//! `point_in_time`: ten features as of each question's own instant.

use kaizen_core::{Context, DataType, Error, ErrorKind, Result};
use kaizen_data::point_in_time::Index;
use kaizen_table::arrow::array::{Array, AsArray};
use kaizen_table::arrow::datatypes::Float64Type;
use kaizen_table::{FeatureView, Known, RecordBatch};

use crate::contender::{Contender, Found, Stopwatch};
use crate::contest::{Contestant, Turn, contest};
use crate::data::{self, features};
use crate::figure::{print_peaks, print_times};
use crate::ground::Ground;

const DAY: u32 = 86_400;

/// How often each is asked what takes about a second or less.
const TIMES: usize = 7;
/// And what takes several.
const FEW_TIMES: usize = 3;

/// Asks everybody and prints the lines.
pub(crate) fn run(ground: &Ground) -> Result<()> {
    println!(
        "note: 10 float features, 30 days, 100 events per entity on average, keys of 64 bits, all \
         in no order; answers are checked against each other"
    );
    println!(
        "note: tables are in memory before the clock starts, but Feast reads its Parquet file at \
         each call, by nature"
    );
    ground.attempt(one_million(ground));
    ground.attempt(ten_million(ground));
    Ok(())
}

fn one_million(ground: &Ground) -> Result<()> {
    let (rows, questions) = (ground.scaled(1_000_000), ground.scaled(100_000));
    let entities = rows / 100;
    let events = data::events(ground, rows, entities, true)?;
    let questions = data::questions(ground, questions, entities)?;
    let load = format!("load {} {}", events.display(), questions.display());
    let mut contestants = [
        Contestant::ours(ground, "ours", &[])?,
        Contestant::rival(ground, "polars", "point_in_time_polars.py", &[])?,
        Contestant::rival(ground, "duckdb", "point_in_time_duckdb.py", &[])?,
        Contestant::rival(ground, "feast_duckdb", "point_in_time_feast.py", &[])?,
    ];
    for contestant in &mut contestants {
        contestant.ask(&load)?;
    }
    for (line, ttl) in [("1m_cold", "none"), ("1m_cold_ttl", "day")] {
        let cold = |name, times| Turn::new(name, format!("cold {ttl}"), times);
        let turns = [
            cold("ours", TIMES),
            cold("polars", TIMES),
            cold("duckdb", TIMES),
            cold("feast_duckdb", FEW_TIMES),
        ];
        ground.attempt(times(&format!("point_in_time/{line}"), &mut contestants, &turns));
    }
    for (line, ttl) in [("1m_indexed", "none"), ("1m_indexed_ttl", "day")] {
        // Ours keeps its index, packed, Polars tables that are sorted by time: the rows of both are
        // moved before. Making them is not timed.
        for contestant in &mut contestants[..2] {
            contestant.ask(&format!("prepare {ttl}"))?;
        }
        let turns = ["ours", "polars"].map(|name| Turn::new(name, format!("indexed {ttl}"), TIMES));
        ground.attempt(times(&format!("point_in_time/{line}"), &mut contestants, &turns));
    }
    let turns = ["ours", "polars", "duckdb"].map(|name| Turn::new(name, "created", TIMES));
    ground.attempt(times("point_in_time/1m_created", &mut contestants, &turns));
    Ok(())
}

fn times(line: &str, contestants: &mut [Contestant], turns: &[Turn]) -> Result<()> {
    print_times(line, &contest(line, contestants, turns, true)?);
    Ok(())
}

fn ten_million(ground: &Ground) -> Result<()> {
    let (rows, questions) = (ground.scaled(10_000_000), ground.scaled(1_000_000));
    let entities = rows / 100;
    let events = data::events(ground, rows, entities, false)?;
    let questions = data::questions(ground, questions, entities)?;
    let load = format!("load {} {}", events.display(), questions.display());
    let mut contestants = [
        Contestant::ours(ground, "ours", &[])?,
        Contestant::rival(ground, "polars", "point_in_time_polars.py", &[])?,
        Contestant::rival(ground, "duckdb", "point_in_time_duckdb.py", &[])?,
    ];
    println!("note: Feast is left out of 10 million events: a call would take about a minute");
    for contestant in &mut contestants {
        contestant.ask(&load)?;
        contestant.forget_peak();
    }
    let names = ["ours", "polars", "duckdb"];
    let turns = names.map(|name| Turn::new(name, "cold none", FEW_TIMES));
    times("point_in_time/10m_cold", &mut contestants, &turns)?;
    print_peaks("point_in_time/10m_peak", &contestants);
    Ok(())
}

/// Our own side.
pub(crate) fn ours(_settings: &[String]) -> Result<Box<dyn Contender>> {
    Ok(Box::new(Ours::default()))
}

#[derive(Default)]
struct Ours {
    tables: Option<(RecordBatch, RecordBatch)>,
    index: Option<Index>,
}

impl Contender for Ours {
    fn answer(&mut self, question: &[&str], stopwatch: &mut Stopwatch) -> Result<Found> {
        if let ["load", events, questions] = question {
            let names: Vec<String> = features().collect();
            let mut columns = vec!["entity", "at", "created"];
            columns.extend(names.iter().map(String::as_str));
            let events = data::load(events, &columns)?;
            self.tables = Some((events, data::load(questions, &["id", "entity", "at"])?));
            return Ok(Found::new());
        }
        let (events, questions) =
            self.tables.as_ref().context(ErrorKind::Invalid, "nothing is loaded")?;
        match question {
            ["cold", ttl] => cold(&view(ttl)?, events, questions, stopwatch),
            ["created"] => {
                let known = Known::Column("created".to_owned());
                cold(&columns_of(builder().known(known))?, events, questions, stopwatch)
            }
            ["prepare", ttl] => {
                self.index = Some(Index::new(&view(ttl)?, events)?.packed());
                Ok(Found::new())
            }
            ["indexed", _ttl] => {
                let index = self.index.as_ref().context(ErrorKind::Invalid, "no index is kept")?;
                summary(&stopwatch.time(|| index.features(questions, "at"))?)
            }
            _ => Err(Error::invalid(format!("question {question:?}"))),
        }
    }
}

fn cold(
    view: &FeatureView,
    events: &RecordBatch,
    questions: &RecordBatch,
    stopwatch: &mut Stopwatch,
) -> Result<Found> {
    summary(&stopwatch.time(|| Index::new(view, events)?.features(questions, "at"))?)
}

fn view(ttl: &str) -> Result<FeatureView> {
    columns_of(if ttl == "day" { builder().ttl_seconds(DAY) } else { builder() })
}

fn builder() -> kaizen_table::FeatureViewBuilder {
    FeatureView::builder("compare").source("events").key("entity").event_time("at")
}

fn columns_of(builder: kaizen_table::FeatureViewBuilder) -> Result<FeatureView> {
    features().fold(builder, |builder, name| builder.column(&name, DataType::Float64)).build()
}

/// What was found, as in `rivals/joined.py`. The rows are in the order of the questions' ids.
fn summary(rows: &RecordBatch) -> Result<Found> {
    let columns: Vec<_> =
        rows.columns().iter().map(|column| column.as_primitive::<Float64Type>()).collect();
    let first = columns.first().context(ErrorKind::Internal, "no feature")?;
    let weighted: f64 = (0_u32..)
        .zip(first.iter())
        .map(|(id, value)| value.unwrap_or(0.0) * f64::from(1 + id % 1009))
        .sum();
    let sum: f64 = columns.iter().flat_map(|column| column.iter().flatten()).sum();
    let unmatched = first.null_count() as f64;
    let rows = rows.num_rows() as f64;
    let found = [("rows", rows), ("unmatched", unmatched), ("sum", sum), ("weighted", weighted)];
    Ok(found.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}
