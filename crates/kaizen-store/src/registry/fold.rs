//! What the entries of the log come to.

use std::collections::{BTreeMap, BTreeSet};

use kaizen_core::{
    Actor, AliasChange, Context, Digest, Entry, Error, ErrorKind, Event, OperationId, Result,
    Timestamp, one_line,
};
use serde::{Deserialize, Serialize};

use super::version::{AliasMove, OverrideMark, TagChange, Version, VersionState};

/// The registry after the first `size` entries of the log. Its JSON is what a snapshot holds: with
/// every change of a field here, the snapshots' `FORMAT` goes up.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Fold {
    size: u64,
    names: BTreeMap<String, Name>,
    /// The models of versions of which the log says last that they were removed. Left out where
    /// there are none, so that snapshots from before stay what they are.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    removed: BTreeSet<Digest>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Name {
    versions: Vec<Registered>,
    aliases: BTreeMap<String, Alias>,
    tags: Tags,
    /// The version that each model is.
    by_model: BTreeMap<Digest, u32>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Registered {
    model: Digest,
    at: Timestamp,
    actor: Actor,
    operation: OperationId,
    tags: Tags,
    overrides: Vec<OverrideMark>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Alias {
    history: Vec<Move>,
    /// The versions to which rollbacks lead; the last holds the alias.
    holders: Vec<u32>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Move {
    index: u64,
    at: Timestamp,
    actor: Actor,
    operation: OperationId,
    from: Option<u32>,
    to: u32,
    change: AliasChange,
    evidence: Vec<Digest>,
}

/// The tags of a name or of a version, as they are and as they came to be.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Tags {
    pub(super) now: BTreeMap<String, String>,
    pub(super) history: Vec<TagChange>,
}

impl Fold {
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// The models of every name, version by version.
    pub(crate) fn models(&self) -> impl Iterator<Item = (&String, Vec<Digest>)> {
        let models = |name: &Name| name.versions.iter().map(|version| version.model).collect();
        self.names.iter().map(move |(name, known)| (name, models(known)))
    }

    /// The models to which rollbacks of every alias lead, with its name; the last holds it.
    pub(crate) fn holders(&self) -> impl Iterator<Item = ((&String, &String), Vec<Digest>)> {
        self.names.iter().flat_map(|(name, known)| {
            let model = |version: &u32| {
                Some(known.versions.get((*version as usize).checked_sub(1)?)?.model)
            };
            known.aliases.iter().map(move |(alias, held)| {
                ((name, alias), held.holders.iter().filter_map(model).collect())
            })
        })
    }

    /// Whether the log says last of this model that it was removed.
    pub(super) fn is_removed(&self, model: &Digest) -> bool {
        self.removed.contains(model)
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.names.keys().cloned().collect()
    }

    pub(super) fn versions(&self, name: &str) -> Vec<Version> {
        let versions = self.names.get(name).map_or(&[][..], |name| &name.versions);
        (1..).zip(versions).map(|(version, registered)| registered.shown(version)).collect()
    }

    pub(super) fn version(&self, name: &str, version: u32) -> Option<Version> {
        Some(self.registered(name, version)?.shown(version))
    }

    pub(super) fn version_of(&self, name: &str, model: &Digest) -> Option<u32> {
        self.names.get(name)?.by_model.get(model).copied()
    }

    pub(super) fn next_version(&self, name: &str) -> Result<u32> {
        let versions = self.names.get(name).map_or(0, |name| name.versions.len());
        u32::try_from(versions + 1).context(ErrorKind::Limit, format!("versions of `{name}`"))
    }

    /// Everything that the log says of a version.
    pub(super) fn state(&self, name: &str, version: u32) -> Option<VersionState> {
        let registered = self.registered(name, version)?;
        let aliases = self.names.get(name)?.aliases.iter();
        let held = aliases.filter(|(_, alias)| alias.holders.last() == Some(&version));
        Some(VersionState {
            name: name.to_owned(),
            version: registered.shown(version),
            at: registered.at,
            actor: registered.actor.clone(),
            operation: registered.operation.clone(),
            aliases: held.map(|(alias, _)| alias.clone()).collect(),
            tags: registered.tags.now.clone(),
            overrides: registered.overrides.clone(),
        })
    }

    /// The aliases of a name with their holders.
    pub(super) fn aliases(&self, name: &str) -> BTreeMap<String, Version> {
        let aliases = self.names.get(name).into_iter().flat_map(|name| name.aliases.keys());
        aliases.filter_map(|alias| Some((alias.clone(), self.holder(name, alias)?))).collect()
    }

    pub(super) fn holder(&self, name: &str, alias: &str) -> Option<Version> {
        self.version(name, *self.alias(name, alias)?.holders.last()?)
    }

    /// Who held the alias before its present holder.
    pub(super) fn before(&self, name: &str, alias: &str) -> Option<Version> {
        self.version(name, *self.alias(name, alias)?.holders.iter().rev().nth(1)?)
    }

    pub(super) fn history(&self, name: &str, alias: &str) -> Vec<AliasMove> {
        let moves = self.alias(name, alias).map_or(&[][..], |alias| &alias.history);
        moves.iter().filter_map(|moved| self.shown(name, moved)).collect()
    }

    /// The rollback of the alias from this version that an operation did, and whether it is the
    /// last move.
    pub(super) fn rollback_of(
        &self,
        name: &str,
        alias: &str,
        from: u32,
        operation: &OperationId,
    ) -> Option<(AliasMove, bool)> {
        self.last_that(name, alias, |moved| {
            moved.change == AliasChange::Rollback
                && moved.from == Some(from)
                && moved.operation == *operation
        })
    }

    /// The move of the alias that this decision made, and whether it is the last move. A rollback
    /// may name any evidence, and uses none of it up.
    pub(super) fn use_of(
        &self,
        name: &str,
        alias: &str,
        decision: &Digest,
    ) -> Option<(AliasMove, bool)> {
        self.last_that(name, alias, |moved| {
            moved.change != AliasChange::Rollback && moved.evidence.contains(decision)
        })
    }

    /// The last such move of the alias, and whether it is the last of all.
    fn last_that(
        &self,
        name: &str,
        alias: &str,
        is_such: impl Fn(&Move) -> bool,
    ) -> Option<(AliasMove, bool)> {
        let history = &self.alias(name, alias)?.history;
        let (at, moved) = history.iter().enumerate().rev().find(|(_, moved)| is_such(moved))?;
        Some((self.shown(name, moved)?, at + 1 == history.len()))
    }

    /// The tags of a version, or of the name itself.
    pub(super) fn tags(&self, name: &str, version: Option<u32>) -> Option<&Tags> {
        match version {
            Some(version) => Some(&self.registered(name, version)?.tags),
            None => Some(&self.names.get(name)?.tags),
        }
    }

    fn shown(&self, name: &str, moved: &Move) -> Option<AliasMove> {
        Some(AliasMove {
            index: moved.index,
            at: moved.at,
            actor: moved.actor.clone(),
            operation: moved.operation.clone(),
            from: moved.from,
            to: self.version(name, moved.to)?,
            change: moved.change.clone(),
            evidence: moved.evidence.clone(),
        })
    }

    fn alias(&self, name: &str, alias: &str) -> Option<&Alias> {
        self.names.get(name)?.aliases.get(alias)
    }

    fn registered(&self, name: &str, version: u32) -> Option<&Registered> {
        self.names.get(name)?.versions.get((version as usize).checked_sub(1)?)
    }

    /// Takes the next entry of the log. One that contradicts those before it is
    /// [`ErrorKind::Corrupt`]: no registry writes it.
    pub(super) fn apply(&mut self, entry: &Entry) -> Result<()> {
        match &entry.event {
            Event::Registered { name, version } => self.register(name, *version, entry)?,
            Event::AliasMoved { name, alias, from, to, change } => {
                self.move_alias((name, alias), *from, *to, change, entry)?;
            }
            Event::Tagged { name, version, key, value } => {
                self.tag((name, *version), key, value.as_ref(), entry)?;
            }
            Event::Removed { .. } if self.is_model(&entry.subject) => {
                self.removed.insert(entry.subject);
            }
            // It was made or put again.
            Event::Restored | Event::Trained => drop(self.removed.remove(&entry.subject)),
            _ => {}
        }
        self.size += 1;
        Ok(())
    }

    fn is_model(&self, digest: &Digest) -> bool {
        self.names.values().any(|name| name.by_model.contains_key(digest))
    }

    fn register(&mut self, name: &str, version: u32, entry: &Entry) -> Result<()> {
        if version != self.next_version(name)? {
            let index = self.size;
            let name = one_line(name);
            let message = format!("log entry {index}: version {version} of `{name}`");
            return Err(Error::corrupt(format!("{message} is out of turn")));
        }
        let known = self.names.entry(name.to_owned()).or_default();
        // The first of equal models keeps its number, as `version_of` always gave it.
        known.by_model.entry(entry.subject).or_insert(version);
        known.versions.push(Registered {
            model: entry.subject,
            at: entry.at,
            actor: entry.actor.clone(),
            operation: entry.operation.clone(),
            tags: Tags::default(),
            overrides: Vec::new(),
        });
        Ok(())
    }

    fn move_alias(
        &mut self,
        (name, alias): (&str, &str),
        from: Option<u32>,
        to: u32,
        change: &AliasChange,
        entry: &Entry,
    ) -> Result<()> {
        let index = self.size;
        let what = || {
            let (name, alias) = (one_line(name), one_line(alias));
            format!("log entry {index}: alias `{alias}` of `{name}`")
        };
        let held = self.holder(name, alias).map(|holder| holder.version);
        let before = self.before(name, alias).map(|before| before.version);
        let known = self.names.get_mut(name);
        let registered = known.and_then(|name| {
            Some((name.versions.get_mut((to as usize).checked_sub(1)?)?, &mut name.aliases))
        });
        let right = registered.filter(|(registered, _)| registered.model == entry.subject);
        let (registered, aliases) = right.context(
            ErrorKind::Corrupt,
            format!("{} moves to version {to}, which is another model", what()),
        )?;
        if from != held {
            let message = format!("{} moves from {from:?}, not {held:?}", what());
            return Err(Error::corrupt(message));
        }
        if *change == AliasChange::Rollback && before != Some(to) {
            let message = format!("{} rolls back to {to}, not its last holder", what());
            return Err(Error::corrupt(message));
        }
        if let AliasChange::Override { reason } = change {
            registered.overrides.push(OverrideMark {
                index,
                alias: alias.to_owned(),
                at: entry.at,
                person: entry.actor.clone(),
                reason: reason.clone(),
            });
        }
        let alias = aliases.entry(alias.to_owned()).or_default();
        match change {
            AliasChange::Rollback => drop(alias.holders.pop()),
            _ => alias.holders.push(to),
        }
        alias.history.push(Move {
            index,
            at: entry.at,
            actor: entry.actor.clone(),
            operation: entry.operation.clone(),
            from,
            to,
            change: change.clone(),
            evidence: entry.evidence.clone(),
        });
        Ok(())
    }

    fn tag(
        &mut self,
        (name, version): (&str, Option<u32>),
        key: &str,
        value: Option<&String>,
        entry: &Entry,
    ) -> Result<()> {
        let index = self.size;
        let known = self.names.get_mut(name);
        let tags = match version {
            None => known.filter(|_| entry.subject == Digest::of(name)).map(|name| &mut name.tags),
            Some(version) => known
                .and_then(|name| name.versions.get_mut((version as usize).checked_sub(1)?))
                .filter(|registered| registered.model == entry.subject)
                .map(|registered| &mut registered.tags),
        };
        let tags = tags.context(
            ErrorKind::Corrupt,
            format!(
                "log entry {index}: tag `{}` of `{}` is on what is not registered",
                one_line(key),
                one_line(name)
            ),
        )?;
        match value {
            Some(value) => drop(tags.now.insert(key.to_owned(), value.clone())),
            None => drop(tags.now.remove(key)),
        }
        tags.history.push(TagChange {
            index,
            at: entry.at,
            actor: entry.actor.clone(),
            operation: entry.operation.clone(),
            key: key.to_owned(),
            value: value.cloned(),
        });
        Ok(())
    }
}

impl Registered {
    fn shown(&self, version: u32) -> Version {
        Version { version, model: self.model, overridden: !self.overrides.is_empty() }
    }
}
