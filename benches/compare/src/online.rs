//! `online`: features by key, and how they get there.

mod ours;

use std::path::Path;

use kaizen_core::Result;

use crate::contest::{Contestant, Outcome, Turn, contest};
use crate::data::{self, END_US};
use crate::figure::{median, percentile, print};
use crate::ground::Ground;
use crate::redis_server::RedisServer;

pub(crate) use ours::ours;

/// How often a store is filled anew.
const FILLS: usize = 3;
/// In how many rounds features are asked for, and how many calls each makes in one. Feast's calls
/// take so much longer that it makes fewer.
const ROUNDS: usize = 10;
const CALLS: u32 = 500;
const FEAST_CALLS: u32 = 50;

/// The sizes and files of the comparison.
struct Setting {
    events: String,
    event_rows: u64,
    event_entities: u64,
    entities: u64,
    entities_file: String,
}

impl Setting {
    fn new(ground: &Ground) -> Result<Self> {
        let (event_rows, entities) = (ground.scaled(1_000_000), ground.scaled(1_000_000));
        let event_entities = event_rows / 100;
        let text = |path: &Path| path.display().to_string();
        let events = text(&data::events(ground, event_rows, event_entities, true)?);
        let entities_file = text(&data::entities(ground, entities)?);
        Ok(Self { events, event_rows, event_entities, entities, entities_file })
    }
}

/// Asks everybody and prints the lines.
pub(crate) fn run(ground: &Ground) -> Result<()> {
    let setting = Setting::new(ground)?;
    println!(
        "note: everything in one process, but Redis, which is on loopback; every call asks for 10 \
         float features of entities drawn at random, and times are of calls"
    );
    println!(
        "note: ours holds {} entities, Feast {}: its materialisation of as many takes too long",
        setting.entities, setting.event_entities
    );
    let redis = RedisServer::start()?;
    let address = redis.as_ref().map(RedisServer::address);
    if address.is_none() {
        println!("note: there is no `redis-server` on the path: no lines of Redis");
    }
    let mut contestants = contestants(ground, address.as_deref())?;
    let has_redis = address.is_some();
    materialize(ground, &setting, &mut contestants, has_redis);
    get(ground, &mut contestants, has_redis);
    Ok(())
}

fn contestants(ground: &Ground, redis: Option<&str>) -> Result<Vec<Contestant>> {
    let file = |name: &str| ground.data().join(name).display().to_string();
    let redb = format!("redb:{}", file("online.redb"));
    let snapshot = format!("snapshot:{}", file("online.snapshot"));
    let mut contestants = vec![
        Contestant::ours(ground, "ours_redb", &[&redb])?,
        Contestant::ours(ground, "ours_memory", &["memory:"])?,
        Contestant::ours(ground, "ours_snapshot", &[&snapshot])?,
        Contestant::rival(ground, "feast_sqlite", "online_feast.py", &["sqlite"])?,
    ];
    if let Some(address) = redis {
        let url = format!("redis://{address}");
        contestants.push(Contestant::ours(ground, "ours_redis", &[&url])?);
        let arguments = ["redis", address];
        contestants.push(Contestant::rival(ground, "feast_redis", "online_feast.py", &arguments)?);
    }
    Ok(contestants)
}

fn materialize(ground: &Ground, setting: &Setting, contestants: &mut [Contestant], redis: bool) {
    let Setting { events, event_rows, event_entities, entities, entities_file } = setting;
    println!(
        "note: materialize: {event_rows} rows of {event_entities} entities, from Parquet into a new \
         store, decoding included on both sides; materialize_entities: a row for each of {entities} \
         entities"
    );
    let question = format!("materialize {events} {event_entities} {END_US}");
    let mut lines = vec![("online/materialize", vec!["ours_redb", "feast_sqlite"])];
    if redis {
        lines.push(("online/materialize_redis", vec!["ours_redis", "feast_redis"]));
    }
    for (line, names) in lines {
        let turns: Vec<Turn> =
            names.into_iter().map(|name| Turn::new(name, &question, FILLS)).collect();
        ground.attempt(rates(line, "rows/s", *event_rows, contestants, &turns));
    }
    let question = format!("materialize {entities_file} {entities} {END_US}");
    let mut lines = vec![
        ("online/materialize_entities", "ours_redb", FILLS),
        ("online/materialize_entities_memory", "ours_memory", FILLS),
        ("online/materialize_entities_snapshot", "ours_snapshot", FILLS),
    ];
    if redis {
        lines.push(("online/materialize_entities_redis", "ours_redis", 1));
    }
    for (line, name, times) in lines {
        let turns = [Turn::new(name, &question, times)];
        ground.attempt(rates(line, "entities/s", *entities, contestants, &turns));
    }
}

/// How many of something each handles in a second, and in what CPU time it handles all.
fn rates(
    line: &str,
    unit: &str,
    count: u64,
    contestants: &mut [Contestant],
    turns: &[Turn],
) -> Result<()> {
    let outcomes = contest(line, contestants, turns, false)?;
    let rate = |outcome: &Outcome| count as f64 / median(outcome.seconds());
    print_by_side(line, unit, &outcomes, rate);
    print_by_side(line, "cpu_s", &outcomes, |outcome| median(outcome.cpu_seconds()));
    Ok(())
}

fn get(ground: &Ground, contestants: &mut [Contestant], redis: bool) {
    let mut lines = vec![
        ("online/embedded_1", 1, vec!["ours_redb", "feast_sqlite"]),
        ("online/embedded_100", 100, vec!["ours_redb", "feast_sqlite"]),
        ("online/memory_100", 100, vec!["ours_memory"]),
        ("online/snapshot_100", 100, vec!["ours_snapshot"]),
    ];
    if redis {
        lines.push(("online/redis_100", 100, vec!["ours_redis", "feast_redis"]));
    }
    for (line, entities, names) in lines {
        let turn = |name: &'static str| {
            let calls = if name.starts_with("feast") { FEAST_CALLS } else { CALLS };
            Turn::new(name, format!("get {entities} {calls}"), ROUNDS)
        };
        let turns: Vec<Turn> = names.into_iter().map(turn).collect();
        ground.attempt(latencies(line, contestants, &turns));
    }
}

/// How long calls take.
fn latencies(line: &str, contestants: &mut [Contestant], turns: &[Turn]) -> Result<()> {
    let outcomes = contest(line, contestants, turns, true)?;
    for per_cent in [50, 99] {
        let micros = |outcome: &Outcome| percentile(outcome.seconds(), per_cent) * 1e6;
        print_by_side(&format!("{line}_p{per_cent}"), "us", &outcomes, micros);
    }
    let micros = |outcome: &Outcome| median(outcome.cpu_seconds()) * 1e6;
    print_by_side(line, "cpu_us", &outcomes, micros);
    Ok(())
}

/// The store is in the line's name: our side is `ours` whichever it is.
fn print_by_side(line: &str, unit: &str, outcomes: &[Outcome], figure: impl Fn(&Outcome) -> f64) {
    let side = |name: &'static str| if name.starts_with("ours") { "ours" } else { name };
    print(line, unit, outcomes.iter().map(|outcome| (side(outcome.contender), figure(outcome))));
}
