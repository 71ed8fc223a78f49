//! `kaizen models` and `kaizen card`.

use std::collections::BTreeMap;

use kaizen_core::{AliasChange, Context, ErrorKind, Result};
use kaizen_store::{AliasMove, Registry, Search, TagChange, VersionState};
use kaizen_views::{CardOptions, ModelCard};
use serde::Serialize;
use serde_json::json;

use crate::arguments::{Card, Models, Place};
use crate::failed::Failed;
use crate::open::version_of;
use crate::print::{Cell, Printer, Style, cell, instant};

/// So many versions are in a table if nothing else is asked for. JSON is for programs, which would
/// not see that a list is cut: it has all.
const MAX_ROWS: usize = 1_000;

/// What happened to a name.
#[derive(Serialize)]
struct History {
    aliases: BTreeMap<String, Vec<AliasMove>>,
    tags: Vec<TagChange>,
}

/// Lists versions.
pub(crate) async fn list(
    place: &Place,
    models: &Models,
    out: &mut Printer<'_>,
) -> Result<(), Failed> {
    let registry = place.registry().await?;
    let limit = models.limit.unwrap_or(if out.is_json() { usize::MAX } else { MAX_ROWS });
    // One more, to know whether there are more.
    let mut found = registry.search(&search(models).limit(limit.saturating_add(1))).await?;
    let is_cut = found.len() > limit;
    found.truncate(limit);
    let mut history = BTreeMap::new();
    if models.history {
        for state in &found {
            if !history.contains_key(&state.name) {
                history.insert(state.name.clone(), history_of(&registry, &state.name).await?);
            }
        }
    }
    if out.is_json() {
        return Ok(match models.history {
            true => out.json(&json!({ "versions": found, "history": history })),
            false => out.json(&found),
        }?);
    }
    let names = ["name", "version", "model", "registered (UTC)", "aliases", "", "tags"];
    out.list(&names, found.iter().map(row).collect(), "no such versions")?;
    if is_cut {
        let text = format!("there are more: these are the first {limit}; see --limit");
        out.line(&[cell(text, Style::Warn)])?;
    }
    for mark in found.iter().flat_map(|state| state.overrides.iter().map(move |m| (state, m))) {
        let (state, mark) = mark;
        let name = format!("{} {}", state.name, state.version.version);
        out.line(&[cell(name, Style::Bad), cell(mark, Style::Bad)])?;
    }
    for (name, history) in &history {
        out.line(&[])?;
        for (alias, moves) in &history.aliases {
            out.line(&[cell(format!("{alias} of {name}"), Style::Strong)])?;
            out.table(&moves.iter().map(move_row).collect::<Vec<_>>())?;
        }
        if !history.tags.is_empty() {
            out.line(&[cell(format!("tags of {name}"), Style::Strong)])?;
            out.table(&history.tags.iter().map(tag_row).collect::<Vec<_>>())?;
        }
    }
    Ok(())
}

fn search(models: &Models) -> Search {
    let mut search = Search::new();
    if let Some(part) = &models.name {
        search = search.name_part(part);
    }
    if let Some(alias) = &models.alias {
        search = search.alias(alias);
    }
    if let Some(algorithm) = &models.algorithm {
        search = search.algorithm(algorithm);
    }
    if models.overridden {
        search = search.overridden(true);
    }
    for tag in &models.tag {
        search = match tag.split_once('=') {
            Some((key, value)) => search.tag(key, value),
            None => search.tagged(tag),
        };
    }
    search
}

async fn history_of(registry: &Registry, name: &str) -> Result<History> {
    let mut aliases = BTreeMap::new();
    for alias in registry.aliases(name).await?.into_keys() {
        let moves = registry.history(name, &alias).await?;
        aliases.insert(alias, moves);
    }
    Ok(History { aliases, tags: registry.tag_history(name, None).await? })
}

fn row(state: &VersionState) -> Vec<Cell> {
    let mark = if state.version.overridden { "OVERRIDDEN" } else { "" };
    let tags: Vec<_> = state.tags.iter().map(|(key, value)| format!("{key}={value}")).collect();
    vec![
        cell(&state.name, Style::Strong),
        cell(state.version.version, Style::Plain),
        cell(state.version.model.short(), Style::Quiet),
        cell(instant(state.at), Style::Plain),
        cell(state.aliases.join(", "), Style::Good),
        cell(mark, Style::Bad),
        cell(tags.join(" "), Style::Quiet),
    ]
}

fn move_row(moved: &AliasMove) -> Vec<Cell> {
    let (what, style) = match &moved.change {
        AliasChange::Promotion => ("promotion".to_owned(), Style::Good),
        AliasChange::Rollback => ("rollback".to_owned(), Style::Warn),
        AliasChange::Override { reason } => (format!("OVERRIDE: {reason}"), Style::Bad),
    };
    let from = moved.from.map_or_else(|| "–".to_owned(), |from| from.to_string());
    vec![
        cell("", Style::Plain),
        cell(instant(moved.at), Style::Plain),
        cell(&moved.actor, Style::Plain),
        cell(format!("{from} → {}", moved.to.version), Style::Plain),
        cell(what, style),
    ]
}

fn tag_row(change: &TagChange) -> Vec<Cell> {
    let value =
        change.value.as_deref().map_or_else(|| "taken away".to_owned(), |v| format!("= {v}"));
    vec![
        cell("", Style::Plain),
        cell(instant(change.at), Style::Plain),
        cell(&change.actor, Style::Plain),
        cell(&change.key, Style::Plain),
        cell(value, Style::Plain),
    ]
}

/// Prints the card of a version.
pub(crate) async fn card(place: &Place, card: &Card, out: &mut Printer<'_>) -> Result<(), Failed> {
    let (store, log) = (place.store().await?, place.log().await?);
    let registry = Registry::new(store.clone(), log.clone());
    let found = version_of(&registry, &card.model).await?;
    let message = format!("model `{}`: it is not registered", card.model);
    let (name, version) = found.context(ErrorKind::NotFound, message)?;
    let mut options = CardOptions::default();
    if let Some(currency) = &card.currency {
        options = options.currency(currency);
    }
    let number = version.version;
    let read =
        ModelCard::read(store.as_ref(), log.as_ref(), &registry, &name, number, options).await?;
    if out.is_json() {
        return Ok(out.json(&json!({
            "version": read.version,
            "purpose": read.purpose,
            "model": read.model,
            "evaluations": read.evaluations,
            "overrides": read.overrides(),
            "lineage": read.lineage,
        }))?);
    }
    Ok(out.document(&if card.html { read.to_html() } else { read.to_markdown() })?)
}
