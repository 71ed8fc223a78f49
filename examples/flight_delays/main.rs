//! The loop on a year of real flights.
//!
//! *Learn:* how the stages compose: features, training, gates, registry, log, serving, rollout,
//! drift, retraining; and what retraining earns in money.\
//! *Run:* `cargo run --release --example flight_delays`\
//! *Prints:* the events of the year, the account of three policies, and the verified log; writes
//! `target/flight_delays/report.html`.
#![allow(clippy::print_stdout, unreachable_pub, reason = "a program of its own, which prints")]

mod account;
mod caller;
mod chart;
mod host;
mod question;
mod replay;
mod report;
mod world;

use std::path::{Path, PathBuf};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use kaizen::prelude::*;

use account::Story;
use caller::{Caller, HttpCaller};
use host::Host;
use replay::{Outcome, TRAINING_DAYS, When, replay};
use world::World;

type Failure = Box<dyn std::error::Error>;

#[tokio::main]
async fn main() -> std::result::Result<(), Failure> {
    let dir = folder()?;
    println!("one hour before departure: will it arrive 15 minutes late, or be cancelled?");
    let world = World::load(None).await?;
    println!(
        "{} flights, {} features each, joined as of one hour before departure\n",
        world.rows.num_rows(),
        question::service()?.columns().len()
    );
    let (first, last) = world.span();
    let bar = progress((last - first - TRAINING_DAYS + 1) as u64 * 3)?;
    let mut outcomes = Vec::new();
    for (when, name) in [(When::Never, "never"), (When::Monthly, "monthly")] {
        let (mut host, _) = open(&dir.join(name), Triggers::default(), &world).await?;
        outcomes.push(replay(&mut host, &mut Caller::InProcess, &world, when, &bar).await?);
    }
    let triggers = Triggers { drift: true, value: true };
    let served = dir.join("on_drift");
    let (mut host, http) = open(&served, triggers, &world).await?;
    let mut caller = Caller::Http(Box::new(http));
    outcomes.push(replay(&mut host, &mut caller, &world, When::OnDrift, &bar).await?);
    bar.finish_and_clear();
    tell(&dir, &served, &world, &host, caller, outcomes).await
}

async fn open(dir: &Path, triggers: Triggers, world: &World) -> Result<(Host, HttpCaller)> {
    let start = question::days().start(world.span().0);
    let host = Host::open(dir, question::policy(triggers), world, start).await?;
    let http = HttpCaller::start(&host, dir).await?;
    Ok((host, http))
}

async fn tell(
    dir: &Path,
    served: &Path,
    world: &World,
    host: &Host,
    caller: Caller,
    outcomes: Vec<Outcome>,
) -> std::result::Result<(), Failure> {
    let audit = account::audit(host, served).await?;
    let story = Story::new(world, outcomes, audit)?;
    println!("{}\n", story.table());
    if let Caller::Http(http) = caller {
        let (agreed, asked) = (http.agreed, http.asked);
        println!("features served over HTTP equal the offline join: {agreed} of {asked} requests");
        http.stop().await?;
    }
    println!("audit log: {} entries, verified", story.audit.entries);
    let page = dir.join("report.html");
    std::fs::write(&page, report::page(&story)?)?;
    println!("report: {}", page.display());
    Ok(())
}

/// An empty folder for this run, under the build folder.
fn folder() -> std::io::Result<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/flight_delays");
    if root.exists() {
        std::fs::remove_dir_all(&root)?;
    }
    for policy in ["never", "monthly", "on_drift"] {
        std::fs::create_dir_all(root.join(policy))?;
    }
    root.canonicalize()
}

fn progress(days: u64) -> std::result::Result<ProgressBar, Failure> {
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} days  {msg}")?;
    let bar = ProgressBar::new(days).with_style(style);
    bar.enable_steady_tick(Duration::from_millis(200));
    Ok(bar)
}
