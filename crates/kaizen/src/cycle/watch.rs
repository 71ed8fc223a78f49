//! The monitors of one champion's term: have its inputs moved, has its value fallen?

use std::sync::Arc;

use kaizen_core::record::{Decision, Evaluation, Model, Occurrence, Profile, Trigger};
use kaizen_core::{
    Actor, AliasChange, ArtifactStore, Context, Digest, Error, ErrorKind, Event, OperationId,
    Record, Records as _, Result, Stored, Timestamp,
};
use kaizen_drift::{Monitor, Reading, ValueMonitor};
use kaizen_store::Registry;
use kaizen_table::arrow::array::{Array, BooleanArray, RecordBatch};
use kaizen_table::arrow::compute::{cast, concat_batches, filter_record_batch};
use kaizen_table::{numbers, prediction, with_column};

use super::{CHAMPION, Parts, Policy};

/// The name of the payload of an evaluation that holds the value per row of each unit.
pub(super) const UNIT_VALUES: &str = "unit_values.json";

/// Watches one champion from its promotion, or from the last decision to keep it.
#[derive(Debug)]
pub(super) struct Watch {
    pub(super) champion: Digest,
    profile: Digest,
    drift: Monitor,
    value: ValueMonitor,
    next_drift: i64,
    next_value: i64,
    /// What the monitor of drift held after its last look.
    pub(super) drift_evidence: Option<f64>,
    /// What the monitor of value held after its last look.
    pub(super) value_evidence: Option<f64>,
    /// The first alarm since the watch began.
    pub(super) alarm: Option<Trigger>,
}

impl Watch {
    /// Starts to watch `champion` with the first whole unit after `since`.
    pub(super) async fn start(
        parts: &Parts,
        registry: &Registry,
        policy: &Policy,
        champion: Digest,
        since: Timestamp,
    ) -> Result<Self> {
        let store = parts.store.as_ref();
        let model = store.get::<Model>(&champion).await?.record;
        let profiles = statements::<Profile>(store, &model.training_set).await?;
        let message = format!("profile of training set {}", model.training_set);
        let profile = profiles.into_iter().next().context(ErrorKind::NotFound, message)?;
        let evaluation = promoted_on(store, registry, &policy.model, &champion).await?;
        let values = evaluation.payload(store, UNIT_VALUES).await?;
        let values: Vec<f64> = serde_json::from_slice(&values)
            .context(ErrorKind::Corrupt, format!("unit values of evaluation {}", evaluation.id))?;
        if profile.record.unit != policy.unit || evaluation.record.unit != policy.unit {
            return Err(Error::conflict(format!(
                "model {champion}: it was trained under another unit than the policy's; retrain it"
            )));
        }
        let alpha = policy.alpha / 2.0;
        let settings = kaizen_drift::Settings { alpha, seed: policy.seed };
        // The first whole unit; of one that was cut in two only the champion's rows are looked at.
        let first = policy.unit.block(since);
        Ok(Self {
            champion,
            profile: profile.id,
            drift: Monitor::new(&profile.record, settings)?,
            value: ValueMonitor::new(&values, alpha, policy.seed)?,
            next_drift: first,
            next_value: first,
            drift_evidence: None,
            value_evidence: None,
            alarm: None,
        })
    }

    /// Looks at every unit that has ended since the last look. An alarm is recorded once.
    pub(super) async fn look(
        &mut self,
        parts: &Parts,
        policy: &Policy,
        now: Timestamp,
    ) -> Result<()> {
        if policy.triggers.drift {
            while self.next_drift < policy.unit.block(now) {
                self.look_at_inputs(parts, policy, self.next_drift).await?;
                self.next_drift += 1;
            }
        }
        if policy.triggers.value {
            let matured = now.plus_seconds(-i64::from(policy.maturity_seconds));
            while self.next_value < policy.unit.block(matured) {
                self.look_at_value(parts, policy, self.next_value).await?;
                self.next_value += 1;
            }
        }
        Ok(())
    }

    async fn look_at_inputs(&mut self, parts: &Parts, policy: &Policy, unit: i64) -> Result<()> {
        let Some(rows) = self.predictions(parts, policy, unit).await? else { return Ok(()) };
        let reading = self.drift.observe(unit, &rows)?;
        self.drift_evidence = Some(reading.evidence);
        if reading.alarm && self.alarm.is_none() {
            let report = self.report(parts, policy, unit, &rows, &reading).await?;
            self.alarm = Some(Trigger::Drift { report });
        }
        Ok(())
    }

    async fn look_at_value(&mut self, parts: &Parts, policy: &Policy, unit: i64) -> Result<()> {
        // Labels as they were known when the unit was mature, whenever this is computed.
        let mature = policy.unit.start(unit + 1).plus_seconds(policy.maturity_seconds.into());
        let Some(rows) = self.predictions(parts, policy, unit).await? else { return Ok(()) };
        let Some(value) = value_per_row(parts, policy, &rows, mature).await? else { return Ok(()) };
        let reading = self.value.observe(unit, value)?;
        self.value_evidence = Some(reading.evidence);
        if reading.alarm && self.alarm.is_none() {
            let report = self.report(parts, policy, unit, &rows, &reading).await?;
            self.alarm = Some(Trigger::ValueFell { report });
        }
        Ok(())
    }

    /// What the champion predicted in one unit; nothing if it did not.
    async fn predictions(
        &self,
        parts: &Parts,
        policy: &Policy,
        unit: i64,
    ) -> Result<Option<RecordBatch>> {
        let (from, to) = (policy.unit.start(unit), policy.unit.start(unit + 1));
        let batches = parts.predictions.read(from, to).await?;
        let Some(first) = batches.first() else { return Ok(None) };
        let rows = concat_batches(&first.schema(), &batches)
            .context(ErrorKind::Invalid, format!("predictions from {from} on: schemas differ"))?;
        let champion = self.champion.to_string();
        let models = kaizen_table::texts(&rows, prediction::MODEL)?;
        let own: BooleanArray =
            models.iter().map(|model| Some(model == Some(champion.as_str()))).collect();
        let rows = filter_record_batch(&rows, &own).context(ErrorKind::Internal, "own rows")?;
        Ok((rows.num_rows() > 0).then_some(rows))
    }

    /// Records an alarm with the predictions that raised it.
    async fn report(
        &self,
        parts: &Parts,
        policy: &Policy,
        unit: i64,
        rows: &RecordBatch,
        reading: &Reading,
    ) -> Result<Digest> {
        let (start, end) = (policy.unit.start(unit), policy.unit.start(unit + 1));
        let served = kaizen_data::save_predictions(parts.store.as_ref(), rows, start, end).await?;
        let occurrence = Occurrence::new(
            end,
            Actor::system("cycle"),
            OperationId::new(&format!("{}-watch", policy.model), end),
        );
        let mut report =
            reading.report(occurrence.clone(), self.profile, self.champion, policy.unit);
        report.features.truncate(REPORTED_FEATURES);
        let id = parts.store.put(&report, &[]).await?;
        // The watch may be rebuilt after a crash and see the same alarm again.
        let evidence = vec![self.profile, served];
        parts.enter(&occurrence, Event::DriftAlarm, id, evidence).await?;
        Ok(id)
    }
}

const REPORTED_FEATURES: usize = 10;

/// The evaluation on which a model was promoted, by the decision that the log names. What else says
/// something of it may be of anybody.
async fn promoted_on(
    store: &dyn ArtifactStore,
    registry: &Registry,
    name: &str,
    model: &Digest,
) -> Result<Stored<Evaluation>> {
    let history = registry.history(name, CHAMPION).await?;
    let promoted = history
        .into_iter()
        .rfind(|moved| moved.to.model == *model && moved.change != AliasChange::Rollback);
    let decision = promoted.and_then(|moved| moved.evidence.first().copied());
    let message = || format!("a decision that made model {model} champion");
    let decision = decision.context(ErrorKind::NotFound, message())?;
    store.get(&store.get::<Decision>(&decision).await?.record.evaluation).await
}

/// The statements of this kind about `subject`, ordered by id.
async fn statements<R: Record>(
    store: &dyn ArtifactStore,
    subject: &Digest,
) -> Result<Vec<Stored<R>>> {
    let wanted = kaizen_core::record::artifact_type(R::KIND);
    let mut found = Vec::new();
    for id in store.referrers(subject).await? {
        if store.manifest(&id).await?.artifact_type.as_deref() == Some(&wanted) {
            found.push(store.get(&id).await?);
        }
    }
    Ok(found)
}

/// The mean value in money of those predictions whose labels are known by then.
async fn value_per_row(
    parts: &Parts,
    policy: &Policy,
    rows: &RecordBatch,
    known_by: Timestamp,
) -> Result<Option<f64>> {
    let rows = with_entity(parts, rows).await?;
    let labels = parts.features.labels(&parts.labels, &rows, known_by).await?;
    let scores = numbers(&rows, prediction::SCORE)?;
    let known = (0..rows.num_rows()).filter(|row| labels.is_valid(*row));
    let worth: Vec<f64> = known
        .map(|row| policy.costs.value(policy.costs.acts(scores.value(row)), labels.value(row)))
        .collect();
    Ok((!worth.is_empty()).then(|| worth.iter().sum::<f64>() / worth.len() as f64))
}

/// Adds the label's key to predictions: their id, in the key's own type.
async fn with_entity(parts: &Parts, rows: &RecordBatch) -> Result<RecordBatch> {
    let [key] = parts.labels.keys() else {
        let name = parts.labels.name();
        return Err(Error::new(
            ErrorKind::Unsupported,
            format!("label view `{name}`: a cycle joins labels by one key, the prediction's id"),
        ));
    };
    if rows.column_by_name(key).is_some() {
        return Ok(rows.clone());
    }
    let schema = parts.examples.schema().await?;
    let field = schema
        .field_with_name(key)
        .context(ErrorKind::Invalid, format!("source `{}`: key `{key}`", parts.examples.name()))?;
    let ids = kaizen_table::column(rows, prediction::ID)?;
    let ids = cast(ids, field.data_type())
        .context(ErrorKind::Invalid, format!("prediction ids as `{key}`"))?;
    with_column(rows, key, ids)
}

/// The rows of `source` with these columns, as one table.
pub(super) async fn read_all(
    source: &Arc<dyn kaizen_table::Source>,
    columns: &[&str],
) -> Result<RecordBatch> {
    let scan = source.read(columns).await?;
    let first = scan
        .batches
        .first()
        .context(ErrorKind::Invalid, format!("source `{}`: no rows", source.name()))?;
    concat_batches(&first.schema(), &scan.batches)
        .context(ErrorKind::Invalid, format!("source `{}`", source.name()))
}
