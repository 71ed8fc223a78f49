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
use std::sync::Arc;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
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
    let world = Arc::new(World::load(None).await?);
    println!(
        "{} flights, {} features each, joined as of one hour before departure\n",
        world.rows.num_rows(),
        question::service()?.columns().len()
    );
    let [bar_never, bar_monthly, bar_drift] = bars(&world)?;
    let quiet = Triggers::default();
    let never = open(&dir.join("never"), quiet, &world).await?;
    let never = replay(never, Caller::InProcess, world.clone(), When::Never, bar_never);
    let monthly = open(&dir.join("monthly"), quiet, &world).await?;
    let monthly = replay(monthly, Caller::InProcess, world.clone(), When::Monthly, bar_monthly);
    let served = dir.join("on_drift");
    let host = open(&served, Triggers { drift: true, value: true }, &world).await?;
    let http = Caller::Http(Box::new(HttpCaller::start(&host, &served).await?));
    let on_drift = replay(host, http, world.clone(), When::OnDrift, bar_drift);

    // Side by side, on as many cores as there are.
    let (never, monthly, on_drift) =
        tokio::try_join!(tokio::spawn(never), tokio::spawn(monthly), tokio::spawn(on_drift))?;
    let (host, http, on_drift) = on_drift?;
    let outcomes = vec![never?.2, monthly?.2, on_drift];
    tell(&dir, &served, &world, &host, http, outcomes).await
}

async fn open(dir: &Path, triggers: Triggers, world: &World) -> Result<Host> {
    let start = question::days().start(world.span().0);
    Host::open(dir, question::policy(triggers), world, start).await
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
        println!("online features equal the offline join: {agreed} of {asked} flights");
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

/// A bar for each policy; they are replayed side by side.
fn bars(world: &World) -> std::result::Result<[ProgressBar; 3], Failure> {
    let (first, last) = world.span();
    let days = (last - first - TRAINING_DAYS + 1) as u64;
    let style = ProgressStyle::with_template("{bar:40} {pos:>3}/{len} days  {msg}")?;
    let all = MultiProgress::new();
    let bar = || all.add(ProgressBar::new(days).with_style(style.clone()));
    Ok([bar(), bar(), bar()])
}
