//! `kaizen proof`.

use kaizen_core::{AuditLog as _, Context, Entry, Error, ErrorKind, Result};
use kaizen_store::TlogProof;
use serde::Deserialize as _;
use serde_json::{Value, json};

use crate::arguments::{Place, Proof, digits};
use crate::failed::{Blame as _, Failed, asked};
use crate::log::witness_row;
use crate::open;
use crate::print::{Printer, Style, cell, instant};

/// At most this many bytes in a file of a proof.
const MAX_PROOF: u64 = 2 << 20;
/// So many entries are read at once.
const PAGE: u64 = 4_096;

/// Writes the proof that an entry is in the log, or checks one.
pub(crate) async fn run(place: &Place, proof: &Proof, out: &mut Printer<'_>) -> Result<(), Failed> {
    if proof.entry.is_some() && proof.check.is_none() {
        return Err(asked("proof: --entry is for --check"));
    }
    match &proof.check {
        Some(file) => check(place, proof, file, out),
        None => make(place, proof, out).await,
    }
}

async fn make(place: &Place, wanted: &Proof, out: &mut Printer<'_>) -> Result<(), Failed> {
    if (&wanted.index, &wanted.about) == (&None, &None) {
        return Err(asked("proof: give an index, or --about a digest"));
    }
    let log = place.local_log().await?;
    let index = match (&wanted.index, &wanted.about) {
        (Some(index), _) => *index,
        (None, about) => last_about(&log, about.as_deref().unwrap_or_default()).await?,
    };
    let size = log.size().await?;
    if index >= size {
        let message = format!("log entry {index}: the log has {size} entries, counted from 0");
        return Err(Error::not_found(message).into());
    }
    let proof = log.proof(index).await?;
    let entry = log.read(index..index + 1).await?;
    if out.is_json() {
        return Ok(out.json(&json!({
            "index": index.to_string(),
            "entry": entry.first(),
            "hashes": proof.hashes,
            "checkpoint": proof.checkpoint,
            "proof": proof.to_string(),
        }))?);
    }
    Ok(out.document(&proof.to_string())?)
}

/// The last entry about a digest, or its first digits.
async fn last_about(log: &kaizen_store::LocalLog, about: &str) -> Result<u64, Failed> {
    let message = format!("`{about}`: not a digest, nor six or more of its first digits");
    let digits = digits(about).context(ErrorKind::Invalid, message).asked()?;
    let (mut end, first) = (log.size().await?, log.first().await?);
    while end > first {
        let start = end.saturating_sub(PAGE).max(first);
        let page = log.read(start..end).await?;
        let found = page.iter().rposition(|entry| entry.subject.hex().starts_with(&digits));
        if let Some(nth) = found {
            return Ok(start + nth as u64);
        }
        end = start;
    }
    Err(Error::not_found(format!("`{about}`: the log has no entry about it")).into())
}

/// The entry that a file holds: by itself, as `proof --json` gives it, or as `log show --json` does
/// that shows no other.
fn entry_in(text: &str) -> serde_json::Result<Entry> {
    let whole: Value = serde_json::from_str(text)?;
    let shown = match &whole {
        Value::Array(all) if all.len() == 1 => &all[0],
        _ => &whole,
    };
    Entry::deserialize(shown.get("entry").unwrap_or(shown))
}

/// Checks a proof with the entry and the public key alone: no log is needed.
fn check(
    place: &Place,
    wanted: &Proof,
    file: &std::path::Path,
    out: &mut Printer<'_>,
) -> Result<(), Failed> {
    let Some(entry_file) = &wanted.entry else {
        return Err(asked("proof: --check needs the entry: --entry FILE"));
    };
    let (keys, witnesses) = (place.keys()?, place.witnesses()?);
    let proof: Result<TlogProof> = open::read_text(file, MAX_PROOF)?.parse();
    let proof = proof.map_err(|error| {
        let message = format!("{}: {error}", file.display());
        Error::new(error.kind(), message).with_source(error)
    })?;
    // As people may have laid it out; what the log hashes is its own form.
    let text = open::read_text(entry_file, 4 * Entry::MAX_BYTES as u64)?;
    let entry = entry_in(&text)
        .context(ErrorKind::Corrupt, format!("{}: not a log entry", entry_file.display()))?;
    let proven = proof.verify(&entry.to_bytes()?, &keys, &witnesses)?;
    let cosigned = &proven.cosignatures;
    let checkpoint = &proven.checkpoint;
    if out.is_json() {
        return Ok(out.json(&json!({
            "origin": checkpoint.origin,
            "size": checkpoint.size.to_string(),
            "index": proof.index.to_string(),
            "entry": entry,
            "witnesses": cosigned.iter().map(|c| &c.witness).collect::<Vec<_>>(),
        }))?);
    }
    let mut rows = vec![
        vec![cell("log", Style::Quiet), cell(&checkpoint.origin, Style::Strong)],
        vec![
            cell("entry", Style::Quiet),
            cell(format!("{} of {}", proof.index, checkpoint.size), Style::Plain),
        ],
        vec![cell("said", Style::Quiet), cell(instant(entry.at), Style::Plain)],
        vec![cell("by", Style::Quiet), cell(&entry.actor, Style::Plain)],
    ];
    rows.extend(cosigned.iter().map(witness_row));
    rows.push(vec![cell("state", Style::Quiet), cell("proven", Style::Good)]);
    Ok(out.table(&rows)?)
}
