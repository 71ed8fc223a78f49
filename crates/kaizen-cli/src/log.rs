//! `kaizen log`.

use kaizen_core::{Actor, AliasChange, AuditLog, Entry, Event, Result};
use kaizen_store::{Cosignature, LocalLog};
use serde_json::{Value, json};

use crate::arguments::{Place, Show, digits};
use crate::failed::{Failed, asked};
use crate::open::version_of;
use crate::print::{Cell, Printer, Style, cell, instant};

/// So many entries are read at once.
const PAGE: u64 = 4_096;

/// Reads the whole log and checks every byte of it.
pub(crate) async fn verify(place: &Place, out: &mut Printer<'_>) -> Result<(), Failed> {
    let (keys, witnesses) = (place.keys()?, place.witnesses()?);
    let verified = LocalLog::verify(&place.log, &keys).await?;
    let cosigned = witnesses.check(&verified.checkpoint.note)?;
    if out.is_json() {
        return Ok(out.json(&json!({
            "origin": verified.origin,
            "size": verified.size.to_string(),
            "pruned": verified.pruned.to_string(),
            "cut_off": verified.cut_off,
            "root": verified.root,
            "checkpoint": verified.checkpoint.note,
            "witnesses": cosigned.iter().map(|c| &c.witness).collect::<Vec<_>>(),
        }))?);
    }
    let mut rows = vec![
        vec![cell("log", Style::Quiet), cell(&verified.origin, Style::Strong)],
        vec![cell("entries", Style::Quiet), cell(verified.size, Style::Plain)],
        pruned_row(verified.pruned),
        vec![cell("root", Style::Quiet), cell(verified.root, Style::Plain)],
    ];
    rows.extend(cosigned.iter().map(witness_row));
    if verified.cut_off {
        let text = "a commit that was begun after them and never finished";
        rows.push(vec![cell("passed over", Style::Quiet), cell(text, Style::Warn)]);
    }
    rows.push(vec![cell("state", Style::Quiet), cell("verified, to the last byte", Style::Good)]);
    Ok(out.table(&rows)?)
}

/// How many entries are known by their hashes alone.
fn pruned_row(pruned: u64) -> Vec<Cell> {
    let text = match pruned {
        0 => cell("none", Style::Plain),
        _ => cell(format!("the first {pruned}; their hashes are there"), Style::Warn),
    };
    vec![cell("pruned", Style::Quiet), text]
}

/// A witness that cosigned, and when.
pub(crate) fn witness_row(cosigned: &Cosignature) -> Vec<Cell> {
    let text = format!("{} on {}", cosigned.witness, instant(cosigned.at));
    vec![cell("witness", Style::Quiet), cell(text, Style::Plain)]
}

/// Shows entries: the last ones, or those from an index on.
pub(crate) async fn show(place: &Place, show: &Show, out: &mut Printer<'_>) -> Result<(), Failed> {
    let log = place.log().await?;
    let about = match &show.about {
        Some(about) => Some(digits_of(place, about).await?),
        None => None,
    };
    let wanted = Wanted { show, about };
    let found = match show.from {
        Some(from) => wanted.forwards(log.as_ref(), from).await?,
        None => wanted.backwards(log.as_ref()).await?,
    };
    if out.is_json() {
        let entries: Vec<_> = found
            .iter()
            .map(|(index, entry)| json!({ "index": index.to_string(), "entry": entry }))
            .collect();
        return Ok(out.json(&entries)?);
    }
    let rows = found.iter().map(|(index, entry)| row(*index, entry)).collect();
    let names = ["entry", "when (UTC)", "who", "about", "what"];
    Ok(out.list(&names, rows, "no such entries")?)
}

/// The digest, or its first digits, of what entries are to be about.
async fn digits_of(place: &Place, about: &str) -> Result<String, Failed> {
    if let Some(digits) = digits(about) {
        return Ok(digits);
    }
    match version_of(&place.registry().await?, about).await? {
        Some((_, version)) => Ok(version.model.hex()),
        None => Err(asked(format!("`{about}`: neither a digest nor a name that is registered"))),
    }
}

/// Which entries to show.
struct Wanted<'a> {
    show: &'a Show,
    about: Option<String>,
}

impl Wanted<'_> {
    async fn forwards(&self, log: &dyn AuditLog, from: u64) -> Result<Vec<(u64, Entry)>> {
        let (mut found, size) = (Vec::new(), log.size().await?);
        let mut start = from.max(log.first().await?);
        while start < size && (found.len() as u64) < self.show.count {
            let end = size.min(start + PAGE);
            let page = (start..).zip(log.read(start..end).await?);
            let left = self.show.count as usize - found.len();
            found.extend(page.filter(|(_, entry)| self.fits(entry)).take(left));
            start = end;
        }
        Ok(found)
    }

    async fn backwards(&self, log: &dyn AuditLog) -> Result<Vec<(u64, Entry)>> {
        let (mut found, mut end) = (Vec::new(), log.size().await?);
        let first = log.first().await?;
        while end > first && (found.len() as u64) < self.show.count {
            let start = end.saturating_sub(PAGE).max(first);
            let page: Vec<_> = (start..).zip(log.read(start..end).await?).collect();
            let page = page.into_iter().rev().filter(|(_, entry)| self.fits(entry));
            let left = self.show.count as usize - found.len();
            found.extend(page.take(left));
            end = start;
        }
        found.reverse();
        Ok(found)
    }

    fn fits(&self, entry: &Entry) -> bool {
        let about = |wanted: &String| {
            let mut all = std::iter::once(&entry.subject).chain(&entry.evidence);
            all.any(|digest| digest.hex().starts_with(wanted))
        };
        let actor = |wanted: &String| {
            let (Actor::Person(name) | Actor::System(name)) = &entry.actor;
            name == wanted
        };
        self.about.as_ref().is_none_or(about)
            && self.show.kind.as_ref().is_none_or(|wanted| *wanted == kind(&entry.event))
            && self.show.actor.as_ref().is_none_or(actor)
    }
}

/// The type of an event, as it stands in its JSON.
pub(crate) fn kind(event: &Event) -> String {
    let value = serde_json::to_value(event).unwrap_or_default();
    value.get("type").and_then(Value::as_str).unwrap_or("unknown").to_owned()
}

fn row(index: u64, entry: &Entry) -> Vec<Cell> {
    let (what, style) = sentence(&entry.event);
    let person = matches!(entry.actor, Actor::Person(_));
    vec![
        cell(index, Style::Quiet),
        cell(instant(entry.at), Style::Plain),
        cell(&entry.actor, if person { Style::Strong } else { Style::Plain }),
        cell(entry.subject.short(), Style::Quiet),
        cell(what, style),
    ]
}

/// What happened, in words.
fn sentence(event: &Event) -> (String, Style) {
    let plain = |text: String| (text, Style::Plain);
    match event {
        Event::Ran { step } => plain(format!("ran step {step}")),
        Event::Decided { approved: true } => ("decided: approved".to_owned(), Style::Good),
        Event::Decided { approved: false } => ("decided: refused".to_owned(), Style::Warn),
        Event::Registered { name, version } => {
            plain(format!("registered {name} version {version}"))
        }
        Event::AliasMoved { name, alias, from, to, change } => {
            let from = from.map_or_else(String::new, |from| format!(" from {from}"));
            let moved = format!("{alias} of {name} moved{from} to {to}");
            match change {
                AliasChange::Promotion => (format!("{moved}, promotion"), Style::Good),
                AliasChange::Rollback => (format!("{moved}, rollback"), Style::Warn),
                AliasChange::Override { reason } => {
                    (format!("{moved}, OVERRIDE: {reason}"), Style::Bad)
                }
            }
        }
        Event::Tagged { name, version, key, value } => {
            let version = version.map_or_else(String::new, |v| format!(" version {v}"));
            plain(match value {
                Some(value) => format!("tagged {name}{version} {key}={value}"),
                None => format!("took tag {key} from {name}{version}"),
            })
        }
        Event::Deployed { target, step } => plain(format!("deployment on {target}: {step}")),
        Event::DriftAlarm => ("drift alarm".to_owned(), Style::Bad),
        Event::Pruned { first } => {
            (format!("pruned the log of the entries before {first}"), Style::Warn)
        }
        Event::Restored => ("is there after all".to_owned(), Style::Plain),
        Event::Removed { reason } => (format!("removed for good: {reason}"), Style::Warn),
        Event::RetrainAbandoned { reason } => {
            (format!("gave up retraining: {reason}"), Style::Warn)
        }
        other => plain(kind(other).replace('_', " ")),
    }
}
