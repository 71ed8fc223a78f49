//! What the entries of the log come to.

use std::collections::BTreeMap;

use kaizen_core::{AliasChange, Context, Digest, Entry, Error, ErrorKind, Event, Result};

use super::{AliasMove, Version};

/// The registry after the first `size` entries of the log.
#[derive(Debug, Default)]
pub(super) struct Fold {
    size: u64,
    models: BTreeMap<String, Vec<Digest>>,
    aliases: BTreeMap<String, BTreeMap<String, Alias>>,
}

#[derive(Debug, Default)]
struct Alias {
    history: Vec<AliasMove>,
    /// The versions to which rollbacks lead; the last holds the alias.
    holders: Vec<Version>,
}

impl Fold {
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.models.keys().cloned().collect()
    }

    pub(super) fn versions(&self, name: &str) -> Vec<Version> {
        let models = self.models.get(name).map_or(&[][..], Vec::as_slice);
        (1..).zip(models).map(|(version, model)| Version { version, model: *model }).collect()
    }

    pub(super) fn version(&self, name: &str, version: u32) -> Option<Version> {
        let model = *self.models.get(name)?.get((version as usize).checked_sub(1)?)?;
        Some(Version { version, model })
    }

    pub(super) fn version_of(&self, name: &str, model: &Digest) -> Option<u32> {
        self.versions(name).iter().find(|v| v.model == *model).map(|v| v.version)
    }

    pub(super) fn next_version(&self, name: &str) -> Result<u32> {
        u32::try_from(self.models.get(name).map_or(0, Vec::len) + 1)
            .context(ErrorKind::Limit, format!("versions of `{name}`"))
    }

    pub(super) fn holder(&self, name: &str, alias: &str) -> Option<Version> {
        self.alias(name, alias)?.holders.last().copied()
    }

    /// Who held the alias before its present holder.
    pub(super) fn before(&self, name: &str, alias: &str) -> Option<Version> {
        self.alias(name, alias)?.holders.iter().rev().nth(1).copied()
    }

    pub(super) fn history(&self, name: &str, alias: &str) -> &[AliasMove] {
        self.alias(name, alias).map_or(&[], |alias| &alias.history)
    }

    fn alias(&self, name: &str, alias: &str) -> Option<&Alias> {
        self.aliases.get(name)?.get(alias)
    }

    /// Takes the next entry of the log. One that contradicts those before it is
    /// [`ErrorKind::Corrupt`]: no registry writes it.
    pub(super) fn apply(&mut self, entry: &Entry) -> Result<()> {
        let index = self.size;
        match &entry.event {
            Event::Registered { name, version } => {
                if *version != self.next_version(name)? {
                    let message = format!("log entry {index}: version {version} of `{name}`");
                    return Err(Error::corrupt(format!("{message} is out of turn")));
                }
                self.models.entry(name.clone()).or_default().push(entry.subject);
            }
            Event::AliasMoved { name, alias, from, to, change } => {
                let what = || format!("log entry {index}: alias `{alias}` of `{name}`");
                let held = self.holder(name, alias).map(|holder| holder.version);
                let version = self.version(name, *to).filter(|v| v.model == entry.subject);
                let version = version.context(
                    ErrorKind::Corrupt,
                    format!("{} moves to version {to}, which is another model", what()),
                )?;
                if *from != held {
                    let message = format!("{} moves from {from:?}, not {held:?}", what());
                    return Err(Error::corrupt(message));
                }
                if *change == AliasChange::Rollback && self.before(name, alias) != Some(version) {
                    let message = format!("{} rolls back to {to}, not its last holder", what());
                    return Err(Error::corrupt(message));
                }
                let aliases = self.aliases.entry(name.clone()).or_default();
                let alias = aliases.entry(alias.clone()).or_default();
                match change {
                    AliasChange::Rollback => drop(alias.holders.pop()),
                    _ => alias.holders.push(version),
                }
                alias.history.push(AliasMove {
                    index,
                    at: entry.at,
                    actor: entry.actor.clone(),
                    operation: entry.operation.clone(),
                    from: *from,
                    to: version,
                    change: change.clone(),
                    evidence: entry.evidence.clone(),
                });
            }
            _ => {}
        }
        self.size += 1;
        Ok(())
    }
}
