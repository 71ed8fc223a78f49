//! Names, versions, aliases and tags of models: a fold over the audit log.

mod evaluated;
mod fold;
mod search;
mod snapshot;
mod tags;
mod version;

use std::collections::BTreeMap;
use std::sync::Arc;

use kaizen_core::record::{Decision, Model, Occurrence};
use kaizen_core::{
    Actor, AliasChange, ArtifactStore, AuditLog, Context, Digest, Entry, Error, ErrorKind, Event,
    Manifest, Records, Result,
};
use tokio::sync::Mutex;

use evaluated::Evaluated;
pub(crate) use fold::Fold;
pub use search::Search;
pub(crate) use snapshot::latest as latest_snapshot;
pub use version::{AliasMove, OverrideMark, TagChange, Version, VersionState};

/// How often an append is tried again after somebody else appended in between.
const ATTEMPTS: u32 = 64;
/// At most this many bytes in a name, an alias or the key of a tag.
const MAX_NAME: usize = 255;
/// So many entries are read at once.
const PAGE: u64 = 4_096;

/// The registry of models.
///
/// It has no state of its own: models are in the store, and what was registered, promoted,
/// overridden and rolled back is in the log. Every change is a compare-and-set on the log, so two
/// processes cannot both win. Doing the same thing again (the same model, the same decision, a
/// rollback in the same operation) changes nothing, so work that was cut off may be done again. A
/// decision moves an alias once: after a rollback, or any other move, it is spent.
///
/// ```
/// # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
/// # runtime.block_on(async {
/// use std::sync::Arc;
/// use kaizen_store::Registry;
/// use kaizen_testkit::{MemoryLog, MemoryStore};
///
/// let registry = Registry::new(Arc::new(MemoryStore::default()), Arc::new(MemoryLog::default()));
/// assert!(registry.alias("late", "champion").await?.is_none());
/// # Ok::<(), kaizen_core::Error>(())
/// # }).unwrap();
/// ```
#[derive(Debug)]
pub struct Registry {
    store: Arc<dyn ArtifactStore>,
    log: Arc<dyn AuditLog>,
    /// `None` before the log was first read.
    fold: Mutex<Option<Fold>>,
    /// As far as the log was read for it, which a search by a metric does.
    evaluated: Mutex<Arc<Evaluated>>,
}

/// What a change comes to, given the state that it meets.
enum Step<T> {
    /// It is so already.
    Done(T),
    /// This entry makes it so.
    Append(Event, Digest, Vec<Digest>, T),
}

impl Registry {
    /// The registry that this log tells of, with its models in this store.
    pub fn new(store: Arc<dyn ArtifactStore>, log: Arc<dyn AuditLog>) -> Self {
        Self { store, log, fold: Mutex::default(), evaluated: Mutex::default() }
    }

    /// Makes a model the next version of `name`, and gives its number. A model that is a version
    /// already keeps it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`] or [`ErrorKind::Invalid`] if the store has no such model record; as
    /// putting a manifest into it.
    pub async fn register(
        &self,
        name: &str,
        model: &Digest,
        occurrence: Occurrence,
    ) -> Result<u32> {
        check_name("name", name)?;
        self.store.get::<Model>(model).await?;
        if let Some(known) = self.current().await?.version_of(name, model) {
            return Ok(known);
        }
        // Put again, an old model is young: a collection that was about to take it does not.
        let manifest = self.store.get_bounded(model, Manifest::MAX_BYTES as u64).await?;
        self.store.put_manifest(manifest).await?;
        self.change(occurrence, |fold| {
            if let Some(known) = fold.version_of(name, model) {
                return Ok(Step::Done(known));
            }
            let version = fold.next_version(name)?;
            let event = Event::Registered { name: name.to_owned(), version };
            Ok(Step::Append(event, *model, Vec::new(), version))
        })
        .await
    }

    /// Every registered name, ascending.
    pub async fn names(&self) -> Result<Vec<String>> {
        Ok(self.current().await?.names())
    }

    /// The versions of a name, ascending; none if the name is not known.
    pub async fn versions(&self, name: &str) -> Result<Vec<Version>> {
        Ok(self.current().await?.versions(name))
    }

    /// A version with everything that the log says of it: its aliases, its tags, and every override
    /// that it owes an alias to.
    pub async fn version(&self, name: &str, version: u32) -> Result<Option<VersionState>> {
        Ok(self.current().await?.state(name, version))
    }

    /// The aliases of a name, with the versions that hold them.
    pub async fn aliases(&self, name: &str) -> Result<BTreeMap<String, Version>> {
        Ok(self.current().await?.aliases(name))
    }

    /// The version that an alias names, if it names one.
    pub async fn alias(&self, name: &str, alias: &str) -> Result<Option<Version>> {
        Ok(self.current().await?.holder(name, alias))
    }

    /// Every move of an alias, oldest first.
    pub async fn history(&self, name: &str, alias: &str) -> Result<Vec<AliasMove>> {
        Ok(self.current().await?.history(name, alias))
    }

    /// Gives an alias to a version, by a decision whose gates passed.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Refused`] if the decision does not approve, judges another model, or was
    /// overridden (then call [`Registry::override_alias`]); [`ErrorKind::Conflict`] if the alias
    /// is no longer held by the champion that the decision compared with, or has moved since the
    /// decision was used; [`ErrorKind::NotFound`] if there is no such version or decision.
    /// [`ErrorKind::Refused`] too if the log says that the model was removed.
    pub async fn promote(
        &self,
        name: &str,
        alias: &str,
        version: u32,
        decision: &Digest,
        occurrence: Occurrence,
    ) -> Result<Version> {
        let judged = self.store.get::<Decision>(decision).await?.record;
        if let Some(by) = &judged.overridden {
            let person = &by.person;
            let message =
                format!("decision {decision}: `{person}` overrode it; say so by override");
            return Err(Error::refused(message));
        }
        if !judged.approved() {
            let failed = judged.gates.iter().filter(|gate| !gate.passed);
            let failed: Vec<_> = failed.map(|gate| gate.gate.as_str()).collect();
            let why = if failed.is_empty() { "no gate".to_owned() } else { failed.join("; ") };
            return Err(Error::refused(format!("decision {decision}: not approved: {why}")));
        }
        let change = AliasChange::Promotion;
        self.assign(name, alias, version, (decision, &judged), change, occurrence).await
    }

    /// Gives an alias to a version against the gates, by a decision in which a person overrode
    /// them. The log names the person as the actor, and the reason.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Refused`] if the decision was not overridden by a named person with a reason,
    /// or the occurrence names another actor; otherwise as [`Registry::promote`].
    pub async fn override_alias(
        &self,
        name: &str,
        alias: &str,
        version: u32,
        decision: &Digest,
        occurrence: Occurrence,
    ) -> Result<Version> {
        let judged = self.store.get::<Decision>(decision).await?.record;
        let Some(by) = &judged.overridden else {
            return Err(Error::refused(format!("decision {decision}: nobody overrode it")));
        };
        if by.person.trim().is_empty() || by.reason.trim().is_empty() {
            let message = format!("decision {decision}: an override needs a person and a reason");
            return Err(Error::refused(message));
        }
        if occurrence.actor != Actor::Person(by.person.clone()) {
            let (actor, person) = (&occurrence.actor, &by.person);
            return Err(Error::refused(format!(
                "decision {decision}: the person `{person}` overrode it, not `{actor}`"
            )));
        }
        let change = AliasChange::Override { reason: by.reason.clone() };
        self.assign(name, alias, version, (decision, &judged), change, occurrence).await
    }

    /// Takes an alias from version `from`, and gives it back to the one that held it before. Done
    /// again in the same operation it changes nothing.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Conflict`] if another version holds the alias, or has held it since this
    /// operation rolled back; [`ErrorKind::NotFound`] if nobody holds it, or held it before;
    /// [`ErrorKind::Refused`] if the log says that the model before was removed.
    pub async fn rollback(
        &self,
        name: &str,
        alias: &str,
        from: u32,
        evidence: &[Digest],
        occurrence: Occurrence,
    ) -> Result<Version> {
        let operation = occurrence.operation.clone();
        let what = || format!("alias `{alias}` of `{name}`");
        self.change(occurrence, |fold| {
            if let Some((done, is_last)) = fold.rollback_of(name, alias, from, &operation) {
                let index = done.index;
                return match is_last {
                    true => Ok(Step::Done(done.to)),
                    false => Err(Error::conflict(format!(
                        "{}: {operation} rolled it back by log entry {index}, and it has moved since",
                        what()
                    ))),
                };
            }
            let holder = fold.holder(name, alias);
            let holder = holder.context(ErrorKind::NotFound, format!("{}: nobody holds it", what()))?;
            if holder.version != from {
                let holder = holder.version;
                let message = format!("{}: version {holder} holds it, and not {from}", what());
                return Err(Error::conflict(message));
            }
            let to = fold.before(name, alias).context(
                ErrorKind::NotFound,
                format!("{}: no version held it before {from}", what()),
            )?;
            not_removed(name, to, fold)?;
            let event = moved(name, alias, fold, to, AliasChange::Rollback);
            Ok(Step::Append(event, to.model, evidence.to_vec(), to))
        })
        .await
    }

    async fn assign(
        &self,
        name: &str,
        alias: &str,
        version: u32,
        (id, judged): (&Digest, &Decision),
        change: AliasChange,
        occurrence: Occurrence,
    ) -> Result<Version> {
        check_name("alias", alias)?;
        self.change(occurrence, |fold| {
            let to = fold.version(name, version).context(
                ErrorKind::NotFound,
                format!("version {version} of `{name}`: it is not registered"),
            )?;
            if to.model != judged.model {
                let (model, other) = (judged.model, to.model);
                return Err(Error::refused(format!(
                    "decision {id}: it judges model {model}; version {version} of `{name}` is \
                     {other}"
                )));
            }
            if let Some((used, is_last)) = fold.use_of(name, alias, id) {
                return match is_last && used.to == to {
                    true => Ok(Step::Done(to)),
                    false => Err(spent(name, alias, id, &used)),
                };
            }
            let holder = fold.holder(name, alias);
            if holder.map(|holder| holder.model) != judged.champion {
                let shown = |model: Option<Digest>| {
                    model.map_or_else(|| "nobody".to_owned(), |model| model.to_string())
                };
                let (beaten, holder) = (shown(judged.champion), shown(holder.map(|h| h.model)));
                return Err(Error::conflict(format!(
                    "alias `{alias}` of `{name}`: decision {id} compared with {beaten}, and \
                     {holder} holds it now"
                )));
            }
            if holder == Some(to) {
                let message = format!("alias `{alias}` of `{name}`: version {version} holds it");
                return Err(Error::new(ErrorKind::AlreadyExists, message));
            }
            not_removed(name, to, fold)?;
            let event = moved(name, alias, fold, to, change.clone());
            Ok(Step::Append(event, to.model, vec![*id, judged.evaluation], to))
        })
        .await
    }

    /// Decides on the present state and appends on condition that it still is the present one;
    /// decides anew if it is not.
    async fn change<T>(
        &self,
        occurrence: Occurrence,
        decide: impl Fn(&Fold) -> Result<Step<T>>,
    ) -> Result<T> {
        let mut attempt = 1;
        loop {
            let mut fold = self.current().await?;
            let (event, subject, evidence, outcome) = match decide(&fold)? {
                Step::Done(outcome) => return Ok(outcome),
                Step::Append(event, subject, evidence, outcome) => {
                    (event, subject, evidence, outcome)
                }
            };
            let Occurrence { at, actor, operation } = occurrence.clone();
            let entry = Entry { at, actor, operation, event, subject, evidence };
            let expected = Some(fold.size());
            match self.log.append(std::slice::from_ref(&entry), expected).await {
                Ok(_) => {
                    fold.apply(&entry)?;
                    return Ok(outcome);
                }
                Err(error) if error.kind() == ErrorKind::Conflict && attempt < ATTEMPTS => {
                    tracing::debug!(attempt, "the log grew in between; deciding anew");
                    attempt += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// The fold over the whole log as it is now; only what is new is read.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Corrupt`] if the log was pruned, and no snapshot covers what went.
    async fn current(&self) -> Result<tokio::sync::MappedMutexGuard<'_, Fold>> {
        let mut known = self.fold.lock().await;
        let (first, size) = (self.log.first().await?, self.log.size().await?);
        if known.as_ref().is_none_or(|known| known.size() < first) && size > 0 {
            let (store, log) = (self.store.as_ref(), self.log.as_ref());
            let latest = snapshot::latest(store, log, first..size).await?;
            *known = latest.map(|(_, fold)| fold);
        }
        let mut fold = tokio::sync::MutexGuard::map(known, |known| known.get_or_insert_default());
        if size < fold.size() {
            let (known, size) = (fold.size(), size);
            return Err(Error::corrupt(format!("log: it had {known} entries and has {size} now")));
        }
        while fold.size() < size {
            let page = fold.size()..size.min(fold.size() + PAGE);
            for entry in self.log.read(page).await? {
                fold.apply(&entry)?;
            }
        }
        Ok(fold)
    }
}

/// A decision counts once. To follow it again would undo what was decided since, such as a
/// rollback.
fn spent(name: &str, alias: &str, decision: &Digest, used: &AliasMove) -> Error {
    let (index, version) = (used.index, used.to.version);
    Error::conflict(format!(
        "alias `{alias}` of `{name}`: decision {decision} gave it to version {version} by log entry \
         {index}, and it has moved since; decide anew"
    ))
}

fn moved(name: &str, alias: &str, fold: &Fold, to: Version, change: AliasChange) -> Event {
    let from = fold.holder(name, alias).map(|holder| holder.version);
    Event::AliasMoved {
        name: name.to_owned(),
        alias: alias.to_owned(),
        from,
        to: to.version,
        change,
    }
}

/// Refuses to give an alias to a model with a tombstone. A collection that wrote it may not have
/// removed the model yet, and would.
fn not_removed(name: &str, to: Version, fold: &Fold) -> Result<()> {
    if fold.is_removed(&to.model) {
        let (version, model) = (to.version, to.model);
        return Err(Error::refused(format!(
            "version {version} of `{name}`: the log says that model {model} was removed; put it \
             again and enter it as trained or restored"
        )));
    }
    Ok(())
}

fn check_name(what: &str, name: &str) -> Result<()> {
    if name.is_empty() || name.len() > MAX_NAME || name.chars().any(char::is_control) {
        let name = name.escape_debug();
        return Err(Error::invalid(format!("{what} `{name}`: empty, too long or unprintable")));
    }
    Ok(())
}
