//! The cycle: trigger → retrain → gate → rollout, and every step in the log.
//!
//! [`Cycle::open`] recovers from the log. [`Cycle::tick`] makes the target serve what the champion's
//! alias names; then it finishes a retraining that was cut off, or trains if there is no champion, or
//! looks at every unit that has ended and, on an alarm and not sooner than the policy's rest, retrains:
//! snapshot → train → evaluate → register → decide → promote → release → roll out.

mod policy;
mod retrain;
mod watch;

use std::sync::Arc;

use kaizen_core::record::{Occurrence, Release, RetrainRequest, Trigger};
use kaizen_core::{
    Actor, ArtifactStore, AuditLog, Context, Digest, Entry, Error, ErrorKind, Event, OperationId,
    Records as _, Result, Stored, Target, Timestamp,
};
use kaizen_data::FeatureStore;
use kaizen_deploy::BlueGreen;
use kaizen_store::{Registry, Version};
use kaizen_table::{Estimator, FeatureService, Formats, LabelView, PredictionSource, Source};

pub use policy::{Policy, Triggers};
pub use retrain::Retraining;
use watch::Watch;

/// The alias that the serving model holds.
pub const CHAMPION: &str = "champion";

/// What a cycle works with: the host's own implementations of the ports.
#[derive(Clone, Debug)]
pub struct Parts {
    /// Where the records live.
    pub store: Arc<dyn ArtifactStore>,
    /// Where every step is entered.
    pub log: Arc<dyn AuditLog>,
    /// The feature store that training sets are made from.
    pub features: Arc<FeatureStore>,
    /// The columns that the model takes.
    pub service: FeatureService,
    /// The labels; their one key is the prediction's id.
    pub labels: LabelView,
    /// The examples to train on: a row for each, with its keys, instant and request columns.
    pub examples: Arc<dyn Source>,
    /// The column of the examples' instants.
    pub time: String,
    /// What learns.
    pub estimator: Arc<dyn Estimator>,
    /// The formats of weights that can be loaded.
    pub formats: Formats,
    /// What was answered to whom, with the features seen.
    pub predictions: Arc<dyn PredictionSource>,
    /// Where the champion is deployed.
    pub target: Arc<dyn Target>,
}

impl Parts {
    /// Every entry of the log that was not pruned.
    pub(crate) async fn entries(&self) -> Result<Vec<Entry>> {
        self.log.read(self.log.first().await?..self.log.size().await?).await
    }

    /// Appends an entry, unless a run that was cut off has appended it already.
    pub(crate) async fn enter(
        &self,
        occurrence: &Occurrence,
        event: Event,
        subject: Digest,
        evidence: Vec<Digest>,
    ) -> Result<()> {
        let Occurrence { at, actor, operation } = occurrence.clone();
        let entry = Entry { at, actor, operation, event, subject, evidence };
        if !self.entries().await?.contains(&entry) {
            self.log.append(&[entry], None).await?;
        }
        Ok(())
    }
}

/// What a tick did.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Tick {
    /// The evidence that the inputs have drifted, as an e-value, after the last look.
    pub drift_evidence: Option<f64>,
    /// The evidence that the value has fallen, as an e-value, after the last look.
    pub value_evidence: Option<f64>,
    /// The alarm that stands, if one does.
    pub alarm: Option<Trigger>,
    /// The retraining that was carried out.
    pub retraining: Option<Retraining>,
}

/// Keeps one model fit for its task: watches it, and replaces it when there is evidence for it.
///
/// Its state is in the store and the log. A cycle that was killed at any point and is opened again
/// goes on where it stopped, and until then the champion serves. The predictions are the host's: the
/// monitors are rebuilt from those that it has kept (see
/// [`PredictionLog::flush`](kaizen_data::PredictionLog::flush)).
#[derive(Debug)]
pub struct Cycle {
    parts: Parts,
    policy: Policy,
    registry: Registry,
    rollout: BlueGreen,
    watch: Option<Watch>,
    last_decision: Option<Timestamp>,
    pending: Option<(Digest, RetrainRequest)>,
}

impl Cycle {
    /// Opens the cycle: enters the policy in the log if it is new, starts on the target what the
    /// champion's alias names, and picks up a retraining that was cut off.
    pub async fn open(parts: Parts, policy: Policy, now: Timestamp) -> Result<Self> {
        policy.check()?;
        parts.service.guard_against(&parts.labels)?;
        let registry = Registry::new(parts.store.clone(), parts.log.clone());
        let rollout = BlueGreen::new(parts.target.clone(), parts.store.clone(), parts.log.clone());
        rollout.recover().await?;
        let mut cycle = Self {
            parts,
            policy,
            registry,
            rollout,
            watch: None,
            last_decision: None,
            pending: None,
        };
        cycle.configure(now).await?;
        cycle.reconcile(now).await?;
        cycle.resume().await?;
        Ok(cycle)
    }

    /// The registry of the cycle's models. An alias that is moved there by hand is followed at the
    /// next tick.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Does what is due at `now`: the first training, a retraining that was cut off, a look at
    /// every unit that has ended, and the retraining that an alarm asks for.
    ///
    /// A retraining that cannot be carried through is given up, with an entry in the log, and its
    /// error is returned; one that the world prevents for now is taken up again by the next tick.
    pub async fn tick(&mut self, now: Timestamp) -> Result<Tick> {
        self.reconcile(now).await?;
        if let Some((id, request)) = self.pending.clone() {
            if !self.fulfilled(&request).await? {
                return self.finish(id, request).await;
            }
            // Its alias has moved, and the traffic follows the alias.
            self.close(&request);
        }
        let Some(champion) = self.champion().await? else {
            return self.retrain(now, Trigger::NoChampion).await;
        };
        if self.policy.triggers == Triggers::default() {
            return Ok(Tick::default());
        }
        let mut watch = match self.watch.take().filter(|watch| watch.champion == champion) {
            Some(watch) => watch,
            None => {
                let since = self.last_decision.unwrap_or(now);
                Watch::start(&self.parts, &self.registry, &self.policy, champion, since).await?
            }
        };
        watch.look(&self.parts, &self.policy, now).await?;
        let looked = Tick {
            drift_evidence: watch.drift_evidence,
            value_evidence: watch.value_evidence,
            alarm: watch.alarm.clone(),
            retraining: None,
        };
        self.watch = Some(watch);
        match &looked.alarm {
            Some(trigger) if !self.resting(now) => {
                let retraining = self.retrain(now, trigger.clone()).await?.retraining;
                Ok(Tick { retraining, ..looked })
            }
            _ => Ok(looked),
        }
    }

    /// Retrains now, whatever the monitors say. A request that was still open is given up for it.
    pub async fn retrain(&mut self, now: Timestamp, trigger: Trigger) -> Result<Tick> {
        let champion = self.champion().await?;
        let occurrence = self.occurrence("retrain", now, Actor::system("cycle"));
        let (model, policy) = (self.policy.model.clone(), self.policy.digest()?);
        let request = RetrainRequest { occurrence, model, policy, champion, trigger };
        let id = self.parts.store.put(&request, &[]).await?;
        let operation = &request.occurrence.operation;
        let closed = |entry: &Entry| match entry.event {
            Event::RetrainAbandoned { .. } => true,
            Event::RetrainRequested => entry.subject != id,
            _ => false,
        };
        let entries = self.parts.entries().await?;
        if entries.iter().any(|entry| entry.operation == *operation && closed(entry)) {
            let message = format!("{operation}: asked for already; ask at a later instant");
            return Err(Error::conflict(message));
        }
        self.supersede(Some(id), "a later request took its place").await?;
        self.finish(id, request).await
    }

    /// Takes the alias from champion `from`, and returns to the one before: the traffic goes with
    /// it. [`ErrorKind::Conflict`] if another version is champion.
    pub async fn rollback(&mut self, from: u32, now: Timestamp, actor: Actor) -> Result<Version> {
        let name = &self.policy.model;
        let holder = self.registry.alias(name, CHAMPION).await?;
        if holder.is_some_and(|holder| holder.version == from) {
            self.supersede(None, "a person rolled back").await?;
        }
        let occurrence = self.occurrence("rollback", now, actor);
        let name = &self.policy.model;
        let version = self.registry.rollback(name, CHAMPION, from, &[], occurrence.clone()).await?;
        self.watch = None;
        self.last_decision = Some(now);
        self.roll_out(&occurrence, &version, &[]).await?;
        Ok(version)
    }

    async fn finish(&mut self, id: Digest, request: RetrainRequest) -> Result<Tick> {
        // Open until it is done, also if the caller drops this future.
        self.pending = Some((id, request.clone()));
        let report = request.trigger.report();
        let evidence = report.into_iter().collect();
        self.parts.enter(&request.occurrence, Event::RetrainRequested, id, evidence).await?;
        let alarm = report.is_some().then(|| request.trigger.clone());
        match self.fulfil(id, &request).await {
            Ok(retraining) => {
                self.close(&request);
                Ok(Tick { alarm, retraining: Some(retraining), ..Tick::default() })
            }
            Err(error) if error.is_retryable() => Err(error),
            Err(error) => {
                match self.fulfilled(&request).await? {
                    true => self.close(&request),
                    false => self.abandon(id, &request, &format!("{error:#}")).await?,
                }
                Err(error)
            }
        }
    }

    /// Gives up the open request, unless it is `kept`, or is done but for the traffic.
    async fn supersede(&mut self, kept: Option<Digest>, reason: &str) -> Result<()> {
        let open = self.pending.clone().filter(|(id, _)| Some(*id) != kept);
        let Some((id, request)) = open else { return Ok(()) };
        match self.fulfilled(&request).await? {
            true => self.close(&request),
            false => self.abandon(id, &request, reason).await?,
        }
        Ok(())
    }

    async fn abandon(&mut self, id: Digest, request: &RetrainRequest, reason: &str) -> Result<()> {
        const MAX_REASON: usize = 2_000;
        let reason = reason.chars().take(MAX_REASON).collect();
        let event = Event::RetrainAbandoned { reason };
        self.parts.enter(&request.occurrence, event, id, vec![]).await?;
        self.close(request);
        Ok(())
    }

    fn close(&mut self, request: &RetrainRequest) {
        self.pending = None;
        self.watch = None;
        self.last_decision = Some(request.occurrence.at);
    }

    async fn champion(&self) -> Result<Option<Digest>> {
        let holder = self.registry.alias(&self.policy.model, CHAMPION).await?;
        Ok(holder.map(|version| version.model))
    }

    fn occurrence(&self, what: &str, now: Timestamp, actor: Actor) -> Occurrence {
        let operation = OperationId::new(&self.operation(what), now);
        Occurrence::new(now, actor, operation)
    }

    fn operation(&self, what: &str) -> String {
        format!("{}-{what}", self.policy.model)
    }

    fn resting(&self, now: Timestamp) -> bool {
        let unit = self.policy.unit;
        self.last_decision.is_some_and(|decided| {
            unit.block(now) - unit.block(decided) < i64::from(self.policy.rest_units)
        })
    }

    async fn configure(&self, now: Timestamp) -> Result<()> {
        let policy = self.policy.digest()?;
        let occurrence = self.occurrence("configure", now, Actor::system("cycle"));
        let entries = self.parts.entries().await?;
        let own = |entry: &&Entry| {
            entry.event == Event::Configured
                && entry.operation.name() == occurrence.operation.name()
        };
        if entries.iter().rev().find(own).is_some_and(|entry| entry.subject == policy) {
            return Ok(());
        }
        let body = serde_json::to_vec(&self.policy).context(ErrorKind::Internal, "policy")?;
        self.parts.store.put_blob(body.into()).await?;
        self.parts.enter(&occurrence, Event::Configured, policy, vec![]).await
    }

    /// Serves what the champion's alias names: a person may have moved it, or a crash have come
    /// between the alias and the rollout.
    async fn reconcile(&self, now: Timestamp) -> Result<()> {
        let Some(version) = self.registry.alias(&self.policy.model, CHAMPION).await? else {
            return Ok(());
        };
        for status in self.parts.target.status().await?.values() {
            if status.weight > 0 && status.ready {
                let live = self.parts.store.get::<Release>(&status.release).await?.record;
                if live.model == version.model {
                    return Ok(());
                }
            }
        }
        let occurrence = self.occurrence("reconcile", now, Actor::system("cycle"));
        let history = self.registry.history(&self.policy.model, CHAMPION).await?;
        let evidence = history.last().map_or(&[][..], |moved| &moved.evidence);
        self.roll_out(&occurrence, &version, evidence).await?;
        Ok(())
    }

    /// Reads from the log when the last decision fell, and which request is still open.
    async fn resume(&mut self) -> Result<()> {
        let entries = self.parts.entries().await?;
        let retrain = self.operation("retrain");
        let decided = entries.iter().rev().find(|entry| match &entry.event {
            Event::Decided { .. } | Event::RetrainAbandoned { .. } => {
                entry.operation.name() == retrain
            }
            Event::AliasMoved { name, alias, .. } => {
                *name == self.policy.model && alias == CHAMPION
            }
            _ => false,
        });
        let last_decision = decided.map(|entry| entry.at);
        let requested = entries.iter().filter(|entry| {
            entry.event == Event::RetrainRequested && entry.operation.name() == retrain
        });
        for entry in requested {
            let stored = self.parts.store.get::<RetrainRequest>(&entry.subject).await?;
            let Stored { id, record, .. } = stored;
            if self.fulfilled(&record).await? {
                continue;
            }
            self.supersede(None, "a later request took its place").await?;
            self.pending = Some((id, record));
        }
        let policy = self.policy.digest()?;
        if self.pending.as_ref().is_some_and(|(_, request)| request.policy != policy) {
            self.supersede(None, "the policy has changed").await?;
        }
        self.last_decision = self.last_decision.max(last_decision);
        Ok(())
    }
}
