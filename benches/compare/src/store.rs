//! `store`: durable appends, verification, proofs and large blobs, beside what the disk and the
//! hash alone would take.

mod blob;
mod log;

use kaizen_core::{Error, Result};

use crate::contender::Contender;
use crate::contest::{Contestant, Outcome, Turn, contest};
use crate::figure::{median, percentile, print};
use crate::ground::Ground;

/// How often each contender is asked.
const TIMES: usize = 5;

/// Asks everybody and prints the lines.
pub(crate) fn run(ground: &Ground) -> Result<()> {
    println!(
        "note: an entry is a line of JSON of about 350 bytes. What stands beside ours is no rival \
         but the limit: the same bytes written to the same disk and synchronised in the same \
         groups, without a hash, a signature or a proof; or the hash and the copy alone, by \
         openssl and cp"
    );
    ground.attempt(appends(ground));
    ground.attempt(blobs(ground));
    ground.attempt(verify(ground));
    Ok(())
}

fn appends(ground: &Ground) -> Result<()> {
    let mut contestants = [
        Contestant::ours(ground, "ours", &["log"])?,
        Contestant::ours(ground, "fdatasync", &["disk"])?,
    ];
    let folder = ground.data().join("log");
    for contestant in &mut contestants {
        contestant.ask(&format!("open {}", folder.display()))?;
    }
    let names = ["ours", "fdatasync"];
    let line = "store/append_single";
    let turns = names.map(|name| Turn::new(name, "single 400", TIMES));
    let singles = contest(line, &mut contestants, &turns, true)?;
    for (suffix, per_cent) in [("", 50), ("_p99", 99)] {
        let of = |outcome: &Outcome| percentile(outcome.seconds(), per_cent) * 1e6;
        let values = singles.iter().map(|outcome| (outcome.contender, of(outcome)));
        print(&format!("{line}{suffix}"), "us", values);
    }
    let batch = 1_000;
    let batches = ground.scaled(200_000) / batch;
    let line = "store/append_batched";
    let turns = names.map(|name| Turn::new(name, format!("batched {batches} {batch}"), TIMES));
    let outcomes = contest(line, &mut contestants, &turns, true)?;
    let rate = |outcome: &Outcome| (batches * batch) as f64 / median(outcome.seconds());
    let values = [("ours", rate(&outcomes[0])), ("group_fdatasync", rate(&outcomes[1]))];
    print(line, "entries/s", values);
    let line = "store/append_concurrent";
    let turns = [Turn::new("ours", "concurrent 256 100", TIMES)];
    let outcomes = contest(line, &mut contestants[..1], &turns, true)?;
    print(line, "entries/s", [("ours", 25_600.0 / median(outcomes[0].seconds()))]);
    Ok(())
}

fn blobs(ground: &Ground) -> Result<()> {
    let bytes = ground.scaled(1_000_000_000);
    let mut contestants = [
        Contestant::ours(ground, "ours", &["blob"])?,
        Contestant::ours(ground, "openssl_cp", &["openssl"])?,
    ];
    for contestant in &mut contestants {
        contestant.ask(&format!("load {} {bytes}", ground.data().join("blob").display()))?;
    }
    for (line, question) in [("store/blob_1gb", "put"), ("store/blob_1gb_get", "get")] {
        let turns = ["ours", "openssl_cp"].map(|name| Turn::new(name, question, TIMES));
        print_seconds(line, &contest(line, &mut contestants, &turns, true)?);
    }
    Ok(())
}

/// Wall time alone: CPU time of commands that a contender starts is not its own.
fn print_seconds(line: &str, outcomes: &[Outcome]) {
    print(line, "s", outcomes.iter().map(|one| (one.contender, median(one.seconds()))));
}

fn verify(ground: &Ground) -> Result<()> {
    let entries = ground.scaled(10_000_000);
    let mut contestants = [
        Contestant::ours(ground, "ours", &["log"])?,
        Contestant::ours(ground, "openssl", &["openssl"])?,
    ];
    let folder = ground.data().join(format!("log_{entries}"));
    contestants[0].ask(&format!("fill {} {entries}", folder.display()))?;
    let line = "store/verify_10m";
    let turns = [
        Turn::new("ours", format!("verify {}", folder.display()), 3),
        Turn::new("openssl", format!("hash_all {}", folder.display()), 3),
    ];
    print_seconds(line, &contest(line, &mut contestants, &turns, true)?);
    let line = "store/proof";
    let question = format!("prove {} 2000", folder.display());
    let turns = [Turn::new("ours", question, TIMES)];
    let outcomes = contest(line, &mut contestants[..1], &turns, true)?;
    for (suffix, per_cent) in [("_p50", 50), ("_p99", 99)] {
        let value = percentile(outcomes[0].seconds(), per_cent) * 1e6;
        print(&format!("{line}{suffix}"), "us", [("ours", value)]);
    }
    Ok(())
}

/// Our own side, and the limits of disk and hash.
pub(crate) fn ours(settings: &[String]) -> Result<Box<dyn Contender>> {
    match settings.first().map(String::as_str) {
        Some("log") => Ok(Box::new(log::Ours::new()?)),
        Some("disk") => Ok(Box::new(log::Disk::default())),
        Some("blob") => Ok(Box::new(blob::Ours::new()?)),
        Some("openssl") => Ok(Box::new(blob::OpenSsl::default())),
        other => Err(Error::invalid(format!("contender {other:?}"))),
    }
}
