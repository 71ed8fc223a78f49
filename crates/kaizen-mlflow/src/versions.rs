//! Versions of a registered model, and their aliases.

use std::collections::{BTreeMap, BTreeSet};

use kaizen_core::{Digest, Error, ErrorKind, Result};
use kaizen_store::{Registry, VersionState};
use serde_json::json;

use crate::content::{MODEL, Pair, pair};
use crate::export::{Exported, MlflowExporter, tags_of, text};

/// At most this many pages of versions are read.
const MAX_PAGES: usize = 1_000;
/// A version's tags stand there with this at their front. One that is not wanted any more goes.
const TAG: &str = "kaizen.tag.";
/// The tag that a version was set above its gates.
const OVERRIDDEN: &str = "kaizen.overridden";
/// At most this many characters in an alias.
const MAX_ALIAS: usize = 255;

/// At most this many characters in a description.
const MAX_DESCRIPTION: usize = 5_000;

/// The versions that bear our tag.
#[derive(Default)]
struct Ours {
    by_model: BTreeMap<String, Known>,
    numbers: BTreeSet<String>,
}

/// A version that bears our tag, as it is in MLflow.
struct Known {
    number: String,
    description: String,
    tags: BTreeMap<String, String>,
}

impl MlflowExporter {
    /// Gives the numbers in MLflow of all versions that are ours, also of those that are known here
    /// no more.
    pub(crate) async fn export_versions(
        &self,
        name: &str,
        states: &[VersionState],
        runs: &BTreeMap<Digest, String>,
        exported: &mut Exported,
    ) -> Result<BTreeSet<String>> {
        match self.server.post("registered-models/create", &json!({ "name": name })).await {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let Ours { mut by_model, mut numbers } = self.known_versions(name).await?;
        for state in states {
            let model = state.version.model;
            let number = match by_model.remove(&model.to_string()) {
                Some(known) => {
                    self.bring_up_to_date(name, state, &known, exported).await?;
                    known.number
                }
                None => {
                    let body = json!({
                        "name": name,
                        "source": format!("kaizen:/{}", model.hex()),
                        "run_id": runs.get(&model),
                        "description": description(state, ""),
                        "tags": tags_for(state),
                    });
                    let made = self.server.post("model-versions/create", &body).await?;
                    exported.versions += 1;
                    text(&made, &["model_version", "version"])?
                }
            };
            numbers.insert(number.clone());
            exported.numbers.insert(state.version.version, number);
        }
        Ok(numbers)
    }

    /// Sets the tags that are not as they are here, takes those away that are here no more, and adds
    /// to the description what it does not say yet.
    async fn bring_up_to_date(
        &self,
        name: &str,
        state: &VersionState,
        known: &Known,
        exported: &mut Exported,
    ) -> Result<()> {
        let wanted = tags_for(state);
        let number = &known.number;
        for Pair { key, value } in &wanted {
            if known.tags.get(key) != Some(value) {
                let body = json!({ "name": name, "version": number, "key": key, "value": value });
                self.server.post("model-versions/set-tag", &body).await?;
                exported.tags += 1;
            }
        }
        let ours = known.tags.keys().filter(|key| key.starts_with(TAG) || *key == OVERRIDDEN);
        for key in ours.filter(|key| !wanted.iter().any(|pair| pair.key == **key)) {
            let body = json!({ "name": name, "version": number, "key": key });
            match self.server.delete("model-versions/delete-tag", &body).await {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => exported.tags += 1,
            }
        }
        let description = description(state, &known.description);
        if description != known.description {
            let body = json!({ "name": name, "version": number, "description": description });
            self.server.patch("model-versions/update", &body).await?;
            exported.descriptions += 1;
        }
        Ok(())
    }

    async fn known_versions(&self, name: &str) -> Result<Ours> {
        let filter = format!("name = '{name}'");
        let (mut ours, mut token) = (Ours::default(), String::new());
        for _ in 0..MAX_PAGES {
            let mut query = vec![("filter", filter.as_str()), ("max_results", "1000")];
            if !token.is_empty() {
                query.push(("page_token", &token));
            }
            let page = self.server.get("model-versions/search", &query).await?;
            for version in page["model_versions"].as_array().into_iter().flatten() {
                let tags = tags_of(&version["tags"]);
                if let Some(model) = tags.get(MODEL) {
                    let description = version["description"].as_str().unwrap_or_default();
                    let (number, description) = (text(version, &["version"])?, description.into());
                    ours.numbers.insert(number.clone());
                    ours.by_model.insert(model.clone(), Known { number, description, tags });
                }
            }
            token = page["next_page_token"].as_str().unwrap_or_default().to_owned();
            if token.is_empty() {
                return Ok(ours);
            }
        }
        let message = format!("versions of `{name}` in MLflow: over {MAX_PAGES} pages");
        Err(Error::new(ErrorKind::Limit, message))
    }

    /// Moves the aliases. One that points to a version that is not among `ours` was given by people,
    /// who may be serving what it points to: it stays.
    pub(crate) async fn export_aliases(
        &self,
        name: &str,
        registry: &Registry,
        ours: &BTreeSet<String>,
        exported: &mut Exported,
    ) -> Result<()> {
        let found = self.server.get("registered-models/get", &[("name", name)]).await?;
        let there: BTreeMap<&str, String> = found["registered_model"]["aliases"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|a| Some((a["alias"].as_str()?, text(a, &["version"]).ok()?)))
            .collect();
        for (alias, version) in registry.aliases(name).await? {
            if !is_alias(&alias) {
                tracing::warn!(name, alias, "MLflow takes no such alias");
                exported.refused_aliases.push(alias);
                continue;
            }
            let Some(number) = exported.numbers.get(&version.version) else { continue };
            let holder = there.get(alias.as_str());
            if let Some(holder) = holder.filter(|holder| !ours.contains(*holder)) {
                tracing::warn!(name, alias, holder, "the alias in MLflow is somebody else's");
                exported.foreign_aliases.push(alias);
            } else if holder != Some(number) {
                let body = json!({ "name": name, "alias": alias, "version": number });
                self.server.post("registered-models/alias", &body).await?;
                exported.aliases += 1;
            }
        }
        Ok(())
    }
}

/// Whether MLflow takes an alias: letters, digits, `_` and `-`; not `latest`, nor a version as
/// `v2`.
fn is_alias(alias: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let digits = alias.strip_prefix(['v', 'V']);
    let is_version = digits.is_some_and(|digits| {
        !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit())
    });
    (1..=MAX_ALIAS).contains(&alias.len())
        && alias.chars().all(word)
        && !alias.eq_ignore_ascii_case("latest")
        && !is_version
}

/// The tags of a version: ours, those that it has here, and the mark of an override. Those that it
/// has here stand under a name of their own, so that none can be taken for one of ours.
fn tags_for(state: &VersionState) -> Vec<Pair> {
    let version = state.version.version;
    let mut tags = vec![pair(MODEL, state.version.model), pair("kaizen.version", version)];
    tags.extend(state.tags.iter().map(|(key, value)| pair(&format!("{TAG}{key}"), value)));
    if let Some(mark) = state.overrides.last() {
        tags.push(pair(OVERRIDDEN, mark));
    }
    tags
}

/// What people wrote, and after it each override that it does not tell of yet, as far as there is
/// room.
fn description(state: &VersionState, there: &str) -> String {
    let mut description = there.to_owned();
    for mark in state.overrides.iter().map(ToString::to_string) {
        let length = description.chars().count() + 1 + mark.chars().count();
        if !description.contains(&mark) && length <= MAX_DESCRIPTION {
            if !description.is_empty() {
                description.push('\n');
            }
            description.push_str(&mark);
        }
    }
    description
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aliases_that_mlflow_keeps_for_itself_are_known() {
        for good in ["champion", "v", "v1a", "version", "a-b_c", "x1"] {
            assert!(is_alias(good), "{good}");
        }
        for bad in ["", "latest", "Latest", "v1", "V20", "a b", "a.b", "é"] {
            assert!(!is_alias(bad), "{bad}");
        }
    }
}
