//! What the registry shows of a version: where it came from, what it holds, and whether a person
//! put it there against the gates.

use std::collections::BTreeMap;
use std::fmt;

use kaizen_core::{Actor, AliasChange, Digest, OperationId, Timestamp};
use serde::{Deserialize, Serialize};

/// A version of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Version {
    /// Its number, from 1.
    pub version: u32,
    /// The model's record.
    pub model: Digest,
    /// Whether a person ever gave it an alias against the gates. It stays so: whoever shows the
    /// version shows that.
    pub overridden: bool,
}

/// Number, first digits of the model's digest, and `OVERRIDDEN` if a person put it above the gates.
impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.version, self.model.short())?;
        if self.overridden { f.write_str(" OVERRIDDEN") } else { Ok(()) }
    }
}

/// One move of an alias.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct AliasMove {
    /// The index of the log entry that says so.
    pub index: u64,
    /// When.
    pub at: Timestamp,
    /// Who.
    pub actor: Actor,
    /// The turn of work that it belongs to.
    pub operation: OperationId,
    /// The version that it named before.
    pub from: Option<u32>,
    /// The version that it names since.
    pub to: Version,
    /// Why.
    pub change: AliasChange,
    /// What it was based on: the decision and its evaluation.
    pub evidence: Vec<Digest>,
}

/// When, who, from which version to which, and why.
impl fmt::Display for AliasMove {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at, actor, to, .. } = self;
        match self.from {
            Some(from) => write!(f, "{at} {actor}: {from} to {to}, ")?,
            None => write!(f, "{at} {actor}: to {to}, ")?,
        }
        match &self.change {
            AliasChange::Promotion => f.write_str("promotion"),
            AliasChange::Rollback => f.write_str("rollback"),
            AliasChange::Override { reason } => write!(f, "override: {reason}"),
        }
    }
}

/// A tag that was set or taken away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TagChange {
    /// The index of the log entry that says so.
    pub index: u64,
    /// When.
    pub at: Timestamp,
    /// Who.
    pub actor: Actor,
    /// The turn of work that it belongs to.
    pub operation: OperationId,
    /// The tag.
    pub key: String,
    /// What it says since; `None` if it was taken away.
    pub value: Option<String>,
}

/// A person's decision against the gates, by which a version got an alias.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct OverrideMark {
    /// The index of the log entry that says so.
    pub index: u64,
    /// The alias.
    pub alias: String,
    /// When.
    pub at: Timestamp,
    /// The person.
    pub person: Actor,
    /// The person's reason.
    pub reason: String,
}

/// Who, which alias, when and why.
impl fmt::Display for OverrideMark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { alias, at, person, reason, .. } = self;
        write!(f, "OVERRIDDEN by {person} for `{alias}` on {}: {reason}", at.date())
    }
}

/// A version with everything that the log says of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct VersionState {
    /// The name.
    pub name: String,
    /// The number, the model, and whether it was overridden.
    #[serde(flatten)]
    pub version: Version,
    /// When it was registered.
    pub at: Timestamp,
    /// Who registered it.
    pub actor: Actor,
    /// The turn of work in which it was registered.
    pub operation: OperationId,
    /// The aliases that it holds now, ascending.
    pub aliases: Vec<String>,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
    /// Every time that a person gave it an alias against the gates, oldest first.
    pub overrides: Vec<OverrideMark>,
}

/// Name, number, digest, aliases and tags in one line; a line more for each override.
impl fmt::Display for VersionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.version)?;
        if !self.aliases.is_empty() {
            write!(f, " [{}]", self.aliases.join(", "))?;
        }
        for (key, value) in &self.tags {
            write!(f, " {key}={value}")?;
        }
        for mark in &self.overrides {
            write!(f, "\n  {mark}")?;
        }
        Ok(())
    }
}
