//! From a record back to everything that it was made from, and on to all that was made of it.

mod index;
mod listings;
mod reading;

use std::collections::BTreeMap;
use std::fmt;

use kaizen_core::{Actor, ArtifactStore, AuditLog, Digest, Event, Result, Timestamp, one_line};
use serde::Serialize;

pub use index::LineageIndex;

/// At most this many steps up, and as many down.
const MAX_STEPS: usize = 100_000;
/// So many entries of the log are read at once.
const PAGE: u64 = 4_096;

/// A record, all that it was made from, and all that was made of it: two trees in reading order, in
/// each of which a step is followed by those that it leads to, one deeper.
///
/// The leaves upwards are the sources of training sets and their files. Which files were read of a
/// source is what a training set says, whoever made it: it counts for that set and for what was
/// made of it, and for no other set of the same source. A record never leads to itself: it would
/// have to hold its own digest.
///
/// One damaged record does not take the answer away: it is a step that leads nowhere, and
/// [`unreadable`](Self::unreadable) says so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Lineage {
    ancestors: Vec<LineageStep>,
    descendants: Vec<LineageStep>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    unreadable: BTreeMap<Digest, String>,
}

/// One line of a [`Lineage`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct LineageStep {
    /// How far it is from what was asked about, which has 0.
    pub depth: u32,
    /// The record, or the digest of a source or of a file.
    pub id: Digest,
    /// Its kind, such as `model`; `container image` for a manifest without an artefact type and for
    /// one that is not ours to read, such as one with digests of SHA-512; the whole artefact type
    /// for artefacts of others; `source` for what a source gave to a training set, and `file` for
    /// one of its files.
    pub kind: String,
    /// The name of a source, the path of a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Whether it stood further up already; what it leads to is not listed again.
    pub repeated: bool,
    /// What the log first says of it, if the log was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub said: Option<Said>,
}

/// Who entered something into the log, when, and as what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Said {
    /// The index of the entry.
    pub index: u64,
    /// When.
    pub at: Timestamp,
    /// Who.
    pub actor: Actor,
    /// What happened.
    pub event: Event,
}

impl Lineage {
    /// What it was made from, in reading order. The first step is what was asked about.
    pub fn steps(&self) -> &[LineageStep] {
        &self.ancestors
    }

    /// What was made of it, in reading order. The first step is what was asked about; there is no
    /// other if nothing was made of it.
    pub fn descendants(&self) -> &[LineageStep] {
        &self.descendants
    }

    /// The records that were looked at and cannot be read, and why: what they name, and so what
    /// they would have led to, is missing here. `fsck` says more.
    pub fn unreadable(&self) -> &BTreeMap<Digest, String> {
        &self.unreadable
    }

    /// Adds to every step what the log first says of it: who made it, and when. Of a log that was
    /// pruned, what it says first of what is left.
    ///
    /// # Errors
    ///
    /// As reading the log.
    pub async fn with_log(mut self, log: &dyn AuditLog) -> Result<Self> {
        let steps = self.ancestors.iter().chain(&self.descendants);
        let mut said: BTreeMap<Digest, Option<Said>> = steps.map(|step| (step.id, None)).collect();
        let (mut start, size) = (log.first().await?, log.size().await?);
        while start < size {
            let end = size.min(start + PAGE);
            for (index, entry) in (start..).zip(log.read(start..end).await?) {
                if let Some(first @ None) = said.get_mut(&entry.subject) {
                    let (at, actor, event) = (entry.at, entry.actor, entry.event);
                    *first = Some(Said { index, at, actor, event });
                }
            }
            start = end;
        }
        for step in self.ancestors.iter_mut().chain(&mut self.descendants) {
            step.said = said.get(&step.id).cloned().flatten();
        }
        Ok(self)
    }
}

/// Kind, the first digits of the digest, the name of a source or file, and what the log says.
impl fmt::Display for LineageStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", one_line(&self.kind), self.id.short())?;
        if let Some(name) = &self.name {
            // A path or a name from a payload: anybody's.
            write!(f, " {}", one_line(name))?;
        }
        if let Some(Said { at, actor, .. }) = &self.said {
            write!(f, ", {at} by {}", one_line(&actor.to_string()))?;
        }
        if self.repeated { f.write_str(" (see above)") } else { Ok(()) }
    }
}

/// Prints one line per step, indented by its depth. What was made of it, if anything, follows under
/// a line of its own, and so do records that cannot be read.
impl fmt::Display for Lineage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = |f: &mut fmt::Formatter<'_>, step: &LineageStep| {
            let indent = 2 * step.depth as usize;
            writeln!(f, "{:indent$}{step}", "")
        };
        self.ancestors.iter().try_for_each(|step| line(f, step))?;
        if let [_, made @ ..] = &self.descendants[..]
            && !made.is_empty()
        {
            writeln!(f, "made of it:")?;
            made.iter().try_for_each(|step| line(f, step))?;
        }
        for why in self.unreadable.values() {
            writeln!(f, "not read: {why}")?;
        }
        Ok(())
    }
}

/// The lineage of a record both ways: every record that its body names and so on, to the files of
/// the sources; and every record that names it, and so on. It reads every record of the store once;
/// for more than one question keep a [`LineageIndex`].
///
/// Digests that name something else (a feature service, the key of a run) are not followed.
///
/// # Errors
///
/// [`ErrorKind::NotFound`](kaizen_core::ErrorKind::NotFound) if the store has no such record and no
/// training set names such a source or file;
/// [`ErrorKind::Corrupt`](kaizen_core::ErrorKind::Corrupt) if this record cannot be read;
/// [`ErrorKind::Limit`](kaizen_core::ErrorKind::Limit) beyond a million records in the store, four
/// million files in the lists of its training sets, or 100,000 steps.
pub async fn lineage(store: &dyn ArtifactStore, id: &Digest) -> Result<Lineage> {
    LineageIndex::read(store).await?.lineage(id)
}

/// What a record was made from, without what was made of it: only those records are read.
///
/// # Errors
///
/// As [`lineage`], but [`ErrorKind::NotFound`](kaizen_core::ErrorKind::NotFound) if the store has
/// no such record, even if it is a source or file.
pub async fn ancestors(store: &dyn ArtifactStore, id: &Digest) -> Result<Lineage> {
    LineageIndex::above(store, id).await?.ancestors(id)
}

/// What was made of a record, a source or a file, transitively.
///
/// # Errors
///
/// As [`lineage`].
pub async fn descendants(store: &dyn ArtifactStore, id: &Digest) -> Result<Lineage> {
    LineageIndex::read(store).await?.descendants(id)
}

/// The records whose bodies name this one, with their kinds, ordered by digest. It reads every
/// record of the store; one that cannot be read names nothing.
///
/// # Errors
///
/// As reading the store.
pub async fn children(store: &dyn ArtifactStore, id: &Digest) -> Result<Vec<(Digest, String)>> {
    Ok(LineageIndex::read(store).await?.children(id))
}
