//! `kaizen lineage`.

use std::sync::Arc;

use kaizen_core::{ArtifactStore, AuditLog, Context as _, Digest, Error, ErrorKind, Result};
use kaizen_store::{Lineage, LineageIndex, LineageStep, Registry};

use crate::arguments::{Lineage as Asked, Place, digits};
use crate::failed::{Failed, asked};
use crate::open::version_of;
use crate::print::{Printer, Style, cell, instant};

/// Prints what something was made from, and what was made of it, with what the log says.
pub(crate) async fn lineage(
    place: &Place,
    wanted: &Asked,
    out: &mut Printer<'_>,
) -> Result<(), Failed> {
    let store = place.store().await?;
    let log = if wanted.without_log { None } else { place.log_if_any().await? };
    let index = LineageIndex::read(store.as_ref()).await?;
    let id = match found(&index, &wanted.what)? {
        Some(id) => id,
        None => named(store, log.clone(), &wanted.what).await?,
    };
    let mut lineage = index.lineage(&id)?;
    if let Some(log) = &log {
        lineage = lineage.with_log(log.as_ref()).await?;
    }
    if out.is_json() {
        let mut shown = serde_json::to_value(&lineage).context(ErrorKind::Internal, "as JSON")?;
        // What was not asked for is left out, as in text.
        for (asked, other) in [(wanted.up, "descendants"), (wanted.down, "ancestors")] {
            if let (true, Some(fields)) = (asked, shown.as_object_mut()) {
                fields.remove(other);
            }
        }
        return Ok(out.json(&shown)?);
    }
    Ok(print(&lineage, wanted, out)?)
}

/// The model that a name says. Only the log knows names.
async fn named(
    store: Arc<dyn ArtifactStore>,
    log: Option<Arc<dyn AuditLog>>,
    what: &str,
) -> Result<Digest, Failed> {
    let without = if log.is_none() { " (there is no log, which knows names)" } else { "" };
    if let Some(log) = log
        && let Some((_, version)) = version_of(&Registry::new(store, log), what).await?
    {
        return Ok(version.model);
    }
    Err(Error::not_found(format!("`{what}`: nothing has this name{without}")).into())
}

/// What a digest, its first digits or the path of a file names.
fn found(index: &LineageIndex, what: &str) -> Result<Option<Digest>, Failed> {
    let mut ids = digits(what).map_or_else(Vec::new, |digits| index.beginning_with(&digits));
    if ids.is_empty() {
        let files = index.files().into_iter().filter(|(_, path)| *path == what);
        ids = files.map(|(id, _)| id).collect();
    }
    match ids[..] {
        [] => Ok(None),
        [id] => Ok(Some(id)),
        _ => {
            let shown: Vec<_> = ids.iter().take(10).map(ToString::to_string).collect();
            Err(asked(format!("`{what}` is one of several: {}", shown.join(", "))))
        }
    }
}

fn print(lineage: &Lineage, asked: &Asked, out: &mut Printer<'_>) -> Result<()> {
    if !asked.down {
        tree(lineage.steps(), out)?;
    }
    let made = lineage.descendants();
    if !asked.up && (made.len() > 1 || asked.down) {
        if !asked.down {
            out.line(&[cell("made of it", Style::Quiet)])?;
        }
        tree(made, out)?;
    }
    for why in lineage.unreadable().values() {
        out.line(&[cell(format!("not read: {why}"), Style::Bad)])?;
    }
    Ok(())
}

/// A line for each step, with the branches of the tree before it.
fn tree(steps: &[LineageStep], out: &mut Printer<'_>) -> Result<()> {
    let mut rows = Vec::new();
    // Whether a step of each depth follows under the same parent, from the end backwards.
    let mut open: Vec<bool> = Vec::new();
    for step in steps.iter().rev() {
        let depth = step.depth as usize;
        open.resize(depth + 1, false);
        let mut branch = String::new();
        for follows in open.iter().take(depth).skip(1) {
            branch.push_str(if *follows { "│  " } else { "   " });
        }
        if depth > 0 {
            branch.push_str(if open[depth] { "├─ " } else { "└─ " });
        }
        open[depth] = true;
        rows.push(row(step, &branch));
    }
    rows.reverse();
    out.table(&rows)
}

fn row(step: &LineageStep, branch: &str) -> Vec<crate::print::Cell> {
    let again = if step.repeated { " (see above)" } else { "" };
    let what = match &step.name {
        Some(name) => format!("{branch}{} {name}{again}", step.kind),
        None => format!("{branch}{}{again}", step.kind),
    };
    let said = step.said.as_ref();
    vec![
        cell(what, Style::Plain),
        cell(step.id.short(), Style::Quiet),
        cell(said.map_or_else(String::new, |said| instant(said.at)), Style::Plain),
        cell(said.map_or_else(String::new, |said| said.actor.to_string()), Style::Plain),
    ]
}
