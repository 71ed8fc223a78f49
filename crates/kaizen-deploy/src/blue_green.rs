//! Blue-green: the new release beside the old one, then all traffic at once.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use kaizen_core::record::{Deployment, Occurrence};
use kaizen_core::{
    ArtifactStore, AuditLog, Digest, Error, ErrorKind, Records, Result, SlotStatus, Stored, Target,
    async_trait,
};
use tokio::sync::Mutex;

use crate::journal::{Journal, Step};

/// Tries a release that was started, before it gets traffic.
#[async_trait]
pub trait SmokeCheck: fmt::Debug + Send + Sync {
    /// Looks at the release in this slot; an error keeps traffic away from it.
    async fn check(&self, slot: &str, release: &Digest) -> Result<()>;
}

/// Rolls releases out on one target, with two slots of which one has all traffic.
///
/// Each change is a [`Deployment`] record and an entry in the log; the entry is the commit. On any
/// failure the traffic is where it was before, and the error says why. Calls on one `BlueGreen` wait
/// for each other; a change that somebody else has logged meanwhile is [`ErrorKind::Conflict`].
#[derive(Debug)]
pub struct BlueGreen {
    target: Arc<dyn Target>,
    store: Arc<dyn ArtifactStore>,
    journal: Journal,
    check: Option<Arc<dyn SmokeCheck>>,
    turn: Mutex<()>,
}

type Slots = BTreeMap<String, SlotStatus>;

/// Who changes something, and on what evidence.
struct Cause<'a> {
    occurrence: &'a Occurrence,
    evidence: &'a [Digest],
}

/// All of the traffic.
const ALL: u32 = 100;

impl BlueGreen {
    /// The names of the slots.
    pub const SLOTS: [&str; 2] = ["blue", "green"];

    /// Rolls out on `target`, with records in `store` and entries in `log`.
    pub fn new(
        target: Arc<dyn Target>,
        store: Arc<dyn ArtifactStore>,
        log: Arc<dyn AuditLog>,
    ) -> Self {
        let journal = Journal::new(target.name(), log);
        Self { target, store, journal, check: None, turn: Mutex::new(()) }
    }

    /// Tries each release with this before it gets traffic.
    #[must_use]
    pub fn with_check(mut self, check: Arc<dyn SmokeCheck>) -> Self {
        self.check = Some(check);
        self
    }

    /// The last deployment in the log.
    pub async fn current(&self) -> Result<Option<Stored<Deployment>>> {
        Ok(self.read().await?.0)
    }

    /// Gives all traffic to a release, and gives the digest of the deployment that says so.
    ///
    /// The release starts in the slot without traffic, in place of what ran there. When it is ready
    /// and the smoke check has passed, it gets all traffic at once; the old release stays warm. A
    /// release that has all traffic already is left alone, so a call that was cut off can be
    /// repeated.
    pub async fn release(
        &self,
        release: &Digest,
        occurrence: Occurrence,
        evidence: &[Digest],
    ) -> Result<Digest> {
        let _turn = self.turn.lock().await;
        let cause = Cause { occurrence: &occurrence, evidence };
        let (current, mut seen) = self.read().await?;
        let before = self.target.status().await?;
        let live = self.live(&before)?;
        let mut previous = current.as_ref().map(|deployment| deployment.id);

        if let Some((slot, status)) = live
            && status.release == *release
            && status.ready
        {
            match current {
                Some(logged) if live_in(&logged.record) == Some((slot, release)) => {
                    return Ok(logged.id);
                }
                // Cut off between the shift and its entry: the entry is still owed.
                _ => {
                    let state = self.state(&before, slot, previous, &cause);
                    return self.commit(Step::Shifted, state, &cause, &mut seen).await;
                }
            }
        }

        let slot = idle_slot(live.map(|(slot, _)| slot));
        let running = self.start(slot, release, &before).await?;
        let started = self.unshifted(&running, previous, &cause);
        let logged = current.is_some_and(|c| {
            c.record.slots == started.slots && c.record.weights == started.weights
        });
        if !logged {
            previous = Some(self.commit(Step::Started, started, &cause, &mut seen).await?);
        }
        if let Some(check) = &self.check
            && let Err(error) = check.check(slot, release).await
        {
            return Err(self.retire(slot, &running, previous, &cause, &mut seen, error).await);
        }
        let state = self.state(&running, slot, previous, &cause);
        self.shift(Step::Shifted, state, &before, &cause, &mut seen).await
    }

    /// Gives all traffic back to the release that had it before, and gives the digest of the
    /// deployment that says so.
    ///
    /// That release must still be warm: otherwise, and if there was none, this is
    /// [`ErrorKind::Refused`]. A release that was rolled back from is not returned to; to try it
    /// again, [`release`](Self::release) it.
    pub async fn rollback(&self, occurrence: Occurrence, evidence: &[Digest]) -> Result<Digest> {
        let _turn = self.turn.lock().await;
        let cause = Cause { occurrence: &occurrence, evidence };
        let name = self.target.name();
        let (current, mut seen) = self.read().await?;
        let before = self.target.status().await?;
        let live = self.live(&before)?.map(|(slot, status)| (slot, &status.release));
        let logged = current.as_ref().and_then(|current| live_in(&current.record));
        if live != logged {
            let (runs, says) = (show(live), show(logged));
            return Err(Error::conflict(format!(
                "target `{name}`: {runs} has the traffic, but the log says {says}; recover first"
            )));
        }
        let Some((_, release)) = self.before_last().await? else {
            return Err(Error::refused(format!("target `{name}`: no release to roll back to")));
        };
        let warm = before.iter().find(|(slot, status)| {
            status.release == release && status.ready && Some(slot.as_str()) != live.map(|l| l.0)
        });
        let Some((slot, _)) = warm else {
            return Err(Error::refused(format!(
                "target `{name}`: release {release}, which was live before, is not warm any more"
            )));
        };
        let state = self.state(&before, slot, current.map(|current| current.id), &cause);
        self.shift(Step::RolledBack, state, &before, &cause, &mut seen).await
    }

    /// Makes the target run what the log says, as after a crash that emptied it, and gives the
    /// deployment that is live; `None` if the log knows of none.
    ///
    /// The release before is warmed up too, so that a rollback stays possible; if that fails, the
    /// rollback will say so. Nothing is logged: what is live does not change by this.
    pub async fn recover(&self) -> Result<Option<Digest>> {
        let _turn = self.turn.lock().await;
        let Some(current) = self.read().await?.0 else { return Ok(None) };
        let Some((slot, release)) = live_in(&current.record) else { return Ok(None) };
        let before = self.target.status().await?;
        let has_all = weights_of(&before) == current.record.weights;
        if before.get(slot).is_none_or(|status| status.release != *release || !status.ready) {
            self.start(slot, release, &before).await?;
        }
        if !has_all {
            self.target.shift(&current.record.weights).await?;
        }
        if let Some((warm, release)) = self.before_last().await?
            && warm != slot
            && !before.contains_key(&warm)
            && let Err(error) = self.target.start(&warm, &release).await
        {
            tracing::warn!(%release, slot = warm, error = format!("{error:#}"), "not warm again");
        }
        tracing::info!(target_name = self.target.name(), %release, slot, "recovered");
        Ok(Some(current.id))
    }

    /// The last deployment, and the size of the log when it was read.
    async fn read(&self) -> Result<(Option<Stored<Deployment>>, u64)> {
        let (last, seen) = self.journal.last().await?;
        match last {
            Some(id) => Ok((Some(self.store.get(&id).await?), seen)),
            None => Ok((None, seen)),
        }
    }

    /// The slot and the release that were live before the ones that are.
    async fn before_last(&self) -> Result<Option<(String, Digest)>> {
        let Some(id) = self.journal.before_last().await? else { return Ok(None) };
        let deployment = self.store.get::<Deployment>(&id).await?.record;
        Ok(live_in(&deployment).map(|(slot, release)| (slot.to_owned(), *release)))
    }

    /// The slot that has all traffic, if any has.
    fn live<'a>(&self, slots: &'a Slots) -> Result<Option<(&'a str, &'a SlotStatus)>> {
        let mut busy = slots.iter().filter(|(_, status)| status.weight > 0);
        match (busy.next(), busy.next()) {
            (Some((one, _)), Some((other, _))) => Err(Error::conflict(format!(
                "target `{}`: its traffic is divided between `{one}` and `{other}`",
                self.target.name()
            ))),
            (first, _) => Ok(first.map(|(slot, status)| (slot.as_str(), status))),
        }
    }

    /// Starts the release in the slot, unless it runs there already, and looks whether it is ready.
    async fn start(&self, slot: &str, release: &Digest, before: &Slots) -> Result<Slots> {
        let is_ready = |slots: &Slots| {
            slots.get(slot).is_some_and(|status| status.release == *release && status.ready)
        };
        if is_ready(before) {
            return Ok(before.clone());
        }
        // A target replaces what an idle slot runs, and keeps it if the new release does not start:
        // the one to roll back to is not lost to one that is broken.
        self.target.start(slot, release).await?;
        let running = self.target.status().await?;
        if is_ready(&running) {
            return Ok(running);
        }
        let message = format!("slot `{slot}`: release {release} was started but is not ready");
        Err(Error::new(ErrorKind::Unavailable, message))
    }

    /// Moves the traffic as `state` says and commits it; otherwise moves it back.
    async fn shift(
        &self,
        step: Step,
        state: Deployment,
        before: &Slots,
        cause: &Cause<'_>,
        seen: &mut u64,
    ) -> Result<Digest> {
        if let Err(error) = self.target.shift(&state.weights).await {
            return Err(self.restore(before, error).await);
        }
        match self.commit(step, state, cause, seen).await {
            Ok(id) => Ok(id),
            Err(error) => Err(self.restore(before, error).await),
        }
    }

    /// Moves the traffic back to where it was, if it is not there, and gives the error that made
    /// it necessary.
    async fn restore(&self, before: &Slots, error: Error) -> Error {
        let weights = weights_of(before);
        let unmoved = matches!(&self.target.status().await, Ok(now) if weights_of(now) == weights);
        // Before the first release there is nowhere to go back to: the release keeps the traffic,
        // and to release it again writes the entry that is owed.
        if unmoved || weights.is_empty() {
            return error;
        }
        match self.target.shift(&weights).await {
            Ok(()) => error,
            Err(second) => {
                let message = format!("{error:#}; and the traffic did not go back: {second:#}");
                Error::new(error.kind(), message).with_source(error)
            }
        }
    }

    /// Stops a release that failed its check, and gives the error of the check.
    async fn retire(
        &self,
        slot: &str,
        running: &Slots,
        previous: Option<Digest>,
        cause: &Cause<'_>,
        seen: &mut u64,
        error: Error,
    ) -> Error {
        let mut left = running.clone();
        left.remove(slot);
        let state = self.unshifted(&left, previous, cause);
        let stopped = match self.target.stop(slot).await {
            Ok(()) => self.commit(Step::Retired, state, cause, seen).await.map(drop),
            Err(error) => Err(error),
        };
        if let Err(error) = stopped {
            tracing::warn!(slot, error = format!("{error:#}"), "a failed release was not retired");
        }
        error
    }

    /// The deployment in which `slot` has all traffic.
    fn state(
        &self,
        slots: &Slots,
        slot: &str,
        previous: Option<Digest>,
        cause: &Cause<'_>,
    ) -> Deployment {
        let weights = BTreeMap::from([(slot.to_owned(), ALL)]);
        Deployment { weights, ..self.unshifted(slots, previous, cause) }
    }

    /// The deployment in which the traffic is where it is.
    fn unshifted(&self, slots: &Slots, previous: Option<Digest>, cause: &Cause<'_>) -> Deployment {
        Deployment {
            occurrence: cause.occurrence.clone(),
            target: self.target.name().to_owned(),
            slots: slots.iter().map(|(name, status)| (name.clone(), status.release)).collect(),
            weights: weights_of(slots),
            previous,
        }
    }

    async fn commit(
        &self,
        step: Step,
        state: Deployment,
        cause: &Cause<'_>,
        seen: &mut u64,
    ) -> Result<Digest> {
        let id = self.store.put(&state, &[]).await?;
        *seen = self.journal.append(step, id, cause.occurrence, cause.evidence, *seen).await?;
        tracing::info!(target_name = self.target.name(), step = step.name(), deployment = %id);
        Ok(id)
    }
}

/// The weights of the slots that have traffic.
fn weights_of(slots: &Slots) -> BTreeMap<String, u32> {
    let busy = slots.iter().filter(|(_, status)| status.weight > 0);
    busy.map(|(name, status)| (name.clone(), status.weight)).collect()
}

/// The slot and the release that have all traffic.
fn live_in(deployment: &Deployment) -> Option<(&str, &Digest)> {
    let (slot, _) = deployment.weights.iter().find(|(_, weight)| **weight > 0)?;
    Some((slot, deployment.slots.get(slot)?))
}

/// The slot that does not have the traffic.
fn idle_slot(live: Option<&str>) -> &'static str {
    let [blue, green] = BlueGreen::SLOTS;
    if live == Some(blue) { green } else { blue }
}

fn show(live: Option<(&str, &Digest)>) -> String {
    live.map_or("nothing".to_owned(), |(slot, release)| format!("{release} in `{slot}`"))
}
