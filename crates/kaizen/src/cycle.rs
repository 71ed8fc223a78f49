//! The cycle: trigger → retrain → gate → rollout, and every step in the log.

mod policy;
mod retrain;
mod watch;

use std::sync::Arc;

use kaizen_core::record::{Occurrence, RetrainRequest, Trigger};
use kaizen_core::{
    Actor, ArtifactStore, AuditLog, Digest, Entry, Event, OperationId, Records as _, Result,
    Target, Timestamp,
};
use kaizen_data::FeatureStore;
use kaizen_deploy::BlueGreen;
use kaizen_store::Registry;
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
    /// Every entry of the log.
    pub(crate) async fn entries(&self) -> Result<Vec<Entry>> {
        self.log.read(0..self.log.size().await?).await
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
/// All state is in the store and the log. A cycle that was killed at any point and is opened again
/// goes on where it stopped, and until then the champion serves.
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
    /// log says is live, and picks up a retraining that was cut off.
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
        cycle.resume().await?;
        Ok(cycle)
    }

    /// The registry of the cycle's models.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The rollout of the cycle's releases, for a rollback by hand.
    pub fn rollout(&self) -> &BlueGreen {
        &self.rollout
    }

    /// Does what is due at `now`: the first training, a retraining that was cut off, a look at
    /// every unit that has ended, and the retraining that an alarm asks for.
    pub async fn tick(&mut self, now: Timestamp) -> Result<Tick> {
        if let Some((id, request)) = self.pending.take() {
            return self.finish(id, request).await;
        }
        let Some(champion) = self.champion().await? else {
            return self.retrain(now, Trigger::NoChampion).await;
        };
        if self.policy.triggers == Triggers::default() {
            return Ok(Tick::default());
        }
        let mut watch = match self.watch.take() {
            Some(watch) => watch,
            None => {
                let since = self.last_decision.unwrap_or(now);
                Watch::start(&self.parts, &self.policy, champion, since).await?
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

    /// Retrains now, whatever the monitors say.
    pub async fn retrain(&mut self, now: Timestamp, trigger: Trigger) -> Result<Tick> {
        let operation = OperationId::new(&format!("{}-retrain", self.policy.model), now);
        let occurrence = Occurrence::new(now, Actor::system("cycle"), operation);
        let champion = self.champion().await?;
        let request = RetrainRequest { occurrence, champion, trigger };
        let id = self.parts.store.put(&request, &[]).await?;
        let evidence = match &request.trigger {
            Trigger::Drift { report } | Trigger::ValueFell { report } => vec![*report],
            _ => Vec::new(),
        };
        self.log(&request.occurrence, Event::RetrainRequested, id, evidence).await?;
        self.finish(id, request).await
    }

    async fn finish(&mut self, id: Digest, request: RetrainRequest) -> Result<Tick> {
        let alarm = match &request.trigger {
            trigger @ (Trigger::Drift { .. } | Trigger::ValueFell { .. }) => Some(trigger.clone()),
            _ => None,
        };
        let at = request.occurrence.at;
        let retraining = match self.fulfil(id, request.clone()).await {
            Ok(retraining) => retraining,
            Err(error) => {
                self.pending = Some((id, request));
                return Err(error);
            }
        };
        self.last_decision = Some(at);
        self.watch = None;
        Ok(Tick { alarm, retraining: Some(retraining), ..Tick::default() })
    }

    async fn champion(&self) -> Result<Option<Digest>> {
        let holder = self.registry.alias(&self.policy.model, CHAMPION).await?;
        Ok(holder.map(|version| version.model))
    }

    fn resting(&self, now: Timestamp) -> bool {
        let unit = self.policy.unit;
        self.last_decision.is_some_and(|decided| {
            unit.block(now) - unit.block(decided) < i64::from(self.policy.rest_units)
        })
    }

    async fn configure(&self, now: Timestamp) -> Result<()> {
        let policy = self.policy.digest()?;
        let entries = self.parts.entries().await?;
        let last = entries.iter().rev().find(|entry| entry.event == Event::Configured);
        if last.is_some_and(|entry| entry.subject == policy) {
            return Ok(());
        }
        let body = serde_json::to_vec(&self.policy)
            .map_err(|source| kaizen_core::Error::internal("policy").with_source(source))?;
        self.parts.store.put_blob(body.into()).await?;
        let operation = OperationId::new(&format!("{}-configure", self.policy.model), now);
        let occurrence = Occurrence::new(now, Actor::system("cycle"), operation);
        self.log(&occurrence, Event::Configured, policy, vec![]).await
    }

    /// Reads from the log when the last decision fell, and which request is still open.
    async fn resume(&mut self) -> Result<()> {
        let entries = self.parts.entries().await?;
        let decided = entries.iter().rev().find(|e| matches!(e.event, Event::Decided { .. }));
        self.last_decision = decided.map(|entry| entry.at);
        let requested = entries.iter().rev().find(|e| e.event == Event::RetrainRequested);
        if let Some(entry) = requested {
            let stored = self.parts.store.get::<RetrainRequest>(&entry.subject).await?;
            if !self.fulfilled(&stored.record).await? {
                self.pending = Some((stored.id, stored.record));
            }
        }
        Ok(())
    }
}
