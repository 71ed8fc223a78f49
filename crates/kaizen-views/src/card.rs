//! The model card: what a model is for, what it was made from, how well it does, who let it in.

mod html;
mod markdown;

use std::collections::{BTreeMap, BTreeSet};

use kaizen_core::record::{
    Decision, Deployment, DriftReport, Estimate, Evaluation, GateResult, Model, Override, Release,
    TrainingSet,
};
use kaizen_core::{
    Actor, AliasChange, ArtifactStore, AuditLog, Context, Digest, Entry, ErrorKind, Event, Records,
    Result, Timestamp,
};
use kaizen_store::{AliasMove, Lineage, Registry, VersionState, ancestors};

use crate::gather::{self, remembered};

/// The tag of a version, or of its name, that says what the model is for.
const PURPOSE: &str = "purpose";

/// What the records do not say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CardOptions {
    /// What the model is for, and what not. Without it, the tag `purpose` of the version says so,
    /// or that of the name.
    pub purpose: Option<String>,
    /// The currency of the metric `value`, such as `EUR`.
    pub currency: Option<String>,
    /// What a row is, in the plural, such as `flights`; `rows` otherwise.
    pub rows: Option<String>,
}

impl CardOptions {
    /// Says what the model is for.
    #[must_use]
    pub fn purpose(self, purpose: impl Into<String>) -> Self {
        Self { purpose: Some(purpose.into()), ..self }
    }

    /// States the value in this currency.
    #[must_use]
    pub fn currency(self, currency: impl Into<String>) -> Self {
        Self { currency: Some(currency.into()), ..self }
    }

    /// Calls the rows so.
    #[must_use]
    pub fn rows(self, rows: impl Into<String>) -> Self {
        Self { rows: Some(rows.into()), ..self }
    }
}

/// All that a card shows of one version of a model. [`ModelCard::to_markdown`] and
/// [`ModelCard::to_html`] print it; equal logs and stores give equal bytes.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ModelCard {
    /// The version, with its aliases, tags and overrides.
    pub version: VersionState,
    /// What it is for.
    pub purpose: Option<String>,
    /// The model's record.
    pub model: Model,
    /// What it was trained on, if that is in the store.
    pub data: Option<TrainingSet>,
    /// How many files each source of the data had.
    pub files: BTreeMap<String, usize>,
    /// The evaluations of it that the log knows, oldest first.
    pub evaluations: Vec<Evaluation>,
    /// How many more the log knows that are not in the store.
    pub lost_evaluations: usize,
    /// The decisions about it, oldest first.
    pub decisions: Vec<Gated>,
    /// The moves of aliases to it and from it, oldest first.
    pub moves: Vec<(String, AliasMove)>,
    /// Where it was deployed, oldest first.
    pub deployments: Vec<Deployed>,
    /// The drift alarms while it answered, oldest first.
    pub alarms: Vec<Drifted>,
    /// What it was made from.
    pub lineage: Lineage,
    options: CardOptions,
}

/// A decision about a model.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Gated {
    /// Its record.
    pub id: Digest,
    /// When.
    pub at: Timestamp,
    /// Who, or what.
    pub actor: Actor,
    /// Whether the model may be promoted.
    pub approved: bool,
    /// The champion that it was judged against.
    pub champion: Option<Digest>,
    /// What each gate found.
    pub gates: Vec<GateResult>,
    /// The person that decided against the gates.
    pub overridden: Option<Override>,
}

/// A step of a rollout of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Deployed {
    /// When.
    pub at: Timestamp,
    /// The target.
    pub target: String,
    /// What was done.
    pub step: String,
    /// The weight of the model's slots after it.
    pub weight: u32,
}

/// A drift alarm while a model answered.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Drifted {
    /// When.
    pub at: Timestamp,
    /// The probability of any false alarm, ever.
    pub alpha: f64,
    /// The evidence against "nothing has drifted".
    pub evidence: f64,
    /// The features with the most evidence, and how much, strongest first.
    pub features: Vec<(String, f64)>,
}

impl ModelCard {
    /// Reads what is known of a version.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`] if there is no such version, or the store lacks its model.
    pub async fn read(
        store: &dyn ArtifactStore,
        log: &dyn AuditLog,
        registry: &Registry,
        name: &str,
        version: u32,
        options: CardOptions,
    ) -> Result<Self> {
        let state = registry.version(name, version).await?;
        let state = state.context(
            ErrorKind::NotFound,
            format!("version {version} of `{name}`: it is not registered"),
        )?;
        let id = state.version.model;
        let model = store.get::<Model>(&id).await?.record;
        let (data, files) = match store.get::<TrainingSet>(&model.training_set).await {
            Ok(set) => {
                let files = TrainingSet::files(store, &set.manifest).await?;
                (Some(set.record), files.into_iter().map(|(name, of)| (name, of.len())).collect())
            }
            Err(error) if error.kind() == ErrorKind::NotFound => (None, BTreeMap::new()),
            Err(error) => return Err(error),
        };
        let purpose = match &options.purpose {
            Some(purpose) => Some(purpose.clone()),
            None => match state.tags.get(PURPOSE) {
                Some(purpose) => Some(purpose.clone()),
                None => registry.tags(name, None).await?.remove(PURPOSE),
            },
        };
        let mut moves = Vec::new();
        for alias in registry.aliases(name).await?.into_keys() {
            let history = registry.history(name, &alias).await?.into_iter();
            let of_it = history
                .filter(|moved| [Some(moved.to.version), moved.from].contains(&Some(version)));
            moves.extend(of_it.map(|moved| (alias.clone(), moved)));
        }
        moves.sort_by_key(|(_, moved)| moved.index);
        let told = Told::of(store, log, &id).await?;
        Ok(Self {
            purpose,
            data,
            files,
            evaluations: told.evaluations,
            lost_evaluations: told.lost_evaluations,
            decisions: told.decisions,
            moves,
            deployments: told.deployments,
            alarms: told.alarms,
            lineage: ancestors(store, &id).await?.with_log(log).await?,
            version: state,
            model,
            options,
        })
    }

    /// The latest evaluation.
    pub fn evaluation(&self) -> Option<&Evaluation> {
        self.evaluations.last()
    }

    /// The value in money per row by the latest evaluation, if it was stated in money.
    pub fn value(&self) -> Option<&Estimate> {
        self.evaluation()?.metrics.get("value")
    }

    /// Whether a person ever set this version above its gates, and every time that it was so, in a
    /// sentence each.
    pub fn overrides(&self) -> Vec<String> {
        let mut marks: Vec<_> = self.version.overrides.iter().map(ToString::to_string).collect();
        for decision in &self.decisions {
            if let Some(Override { person, reason }) = &decision.overridden
                && !self.is_marked(&decision.id)
            {
                let on = decision.at.date();
                marks.push(format!("Gates OVERRIDDEN by {person} on {on}: {reason}"));
            }
        }
        marks
    }

    /// Whether the version has a mark of the override that this decision holds: the move of an
    /// alias that it made.
    fn is_marked(&self, decision: &Digest) -> bool {
        let made = self.moves.iter().filter(|(_, moved)| moved.evidence.contains(decision));
        let mut made = made.map(|(_, moved)| moved.index);
        made.any(|index| self.version.overrides.iter().any(|mark| mark.index == index))
    }

    fn rows(&self) -> &str {
        self.options.rows.as_deref().unwrap_or("rows")
    }

    /// The name of a metric for people.
    fn metric(&self, name: &str) -> String {
        match (name, &self.options.currency) {
            ("value", Some(currency)) => format!("value ({currency} per row)"),
            ("value", None) => "value (per row)".to_owned(),
            _ => name.replace('_', " "),
        }
    }
}

/// What the log tells of a model.
#[derive(Default)]
struct Told {
    evaluations: Vec<Evaluation>,
    lost_evaluations: usize,
    decisions: Vec<Gated>,
    deployments: Vec<Deployed>,
    alarms: Vec<Drifted>,
}

impl Told {
    /// What has no entry has not happened: statements that the log does not know are left out.
    async fn of(store: &dyn ArtifactStore, log: &dyn AuditLog, model: &Digest) -> Result<Self> {
        let about: BTreeSet<Digest> = store.referrers(model).await?.into_iter().collect();
        let (mut entries, size) = (Vec::<Entry>::new(), log.size().await?);
        gather::entries(log, 0..size, |_, entry| {
            let deployed = matches!(entry.event, Event::Deployed { .. });
            // One that is lost refers to nothing any more.
            let evaluated =
                entry.event == Event::Evaluated && entry.evidence.first() == Some(model);
            if deployed || evaluated || about.contains(&entry.subject) {
                entries.push(entry);
            }
        })
        .await?;
        // An evaluation that was found again, as by work that was cut off, is entered again.
        let mut evaluated = BTreeSet::new();
        entries.retain(|entry| entry.event != Event::Evaluated || evaluated.insert(entry.subject));
        let (mut told, mut releases) = (Self::default(), BTreeMap::new());
        for entry in entries {
            told.take(store, model, entry, &mut releases).await?;
        }
        Ok(told)
    }

    async fn take(
        &mut self,
        store: &dyn ArtifactStore,
        model: &Digest,
        entry: Entry,
        releases: &mut BTreeMap<Digest, Option<Digest>>,
    ) -> Result<()> {
        let id = entry.subject;
        match entry.event {
            Event::Evaluated => match remembered(store, &id).await? {
                None => self.lost_evaluations += 1,
                Some(evaluation) => {
                    let evaluation: Evaluation = evaluation;
                    self.evaluations.extend((evaluation.model == *model).then_some(evaluation));
                }
            },
            Event::Decided { .. } => {
                let Some(decision) = remembered::<Decision>(store, &id).await? else {
                    return Ok(());
                };
                self.decisions.push(Gated {
                    id,
                    at: entry.at,
                    actor: entry.actor,
                    approved: decision.approved(),
                    champion: decision.champion,
                    gates: decision.gates,
                    overridden: decision.overridden,
                });
            }
            Event::DriftAlarm => {
                let Some(report) = remembered::<DriftReport>(store, &id).await? else {
                    return Ok(());
                };
                let features = report.features.into_iter().map(|f| (f.name, f.evidence));
                let (alpha, evidence) = (report.alpha, report.evidence);
                let features = features.take(5).collect();
                self.alarms.push(Drifted { at: entry.at, alpha, evidence, features });
            }
            Event::Deployed { target, step } => {
                let Some(deployment) = remembered::<Deployment>(store, &id).await? else {
                    return Ok(());
                };
                if let Some(weight) = weight_of(store, model, &deployment, releases).await? {
                    self.deployments.push(Deployed { at: entry.at, target, step, weight });
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// The weight of a model's slots in a deployment; `None` if it is in none of them, as far as the
/// releases are still known.
async fn weight_of(
    store: &dyn ArtifactStore,
    model: &Digest,
    deployment: &Deployment,
    releases: &mut BTreeMap<Digest, Option<Digest>>,
) -> Result<Option<u32>> {
    let mut weight = None;
    for (slot, release) in &deployment.slots {
        if !releases.contains_key(release) {
            let of = remembered::<Release>(store, release).await?.map(|release| release.model);
            releases.insert(*release, of);
        }
        if releases.get(release) == Some(&Some(*model)) {
            let more = deployment.weights.get(slot).copied().unwrap_or(0);
            weight = Some(weight.unwrap_or(0) + more);
        }
    }
    Ok(weight)
}

/// What a card says where it has no evaluation.
fn no_evaluation(lost: usize) -> String {
    match lost {
        0 => "The log knows of no evaluation.".to_owned(),
        lost => format!("The log knows of {lost} evaluations, and the store has none of them."),
    }
}

/// What an alias's move was.
fn change(moved: &AliasMove) -> String {
    match &moved.change {
        AliasChange::Promotion => "promotion".to_owned(),
        AliasChange::Rollback => "rollback".to_owned(),
        AliasChange::Override { reason } => format!("OVERRIDE: {reason}"),
    }
}

/// A number to four significant digits, or to the whole where it has more.
fn number(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return value.to_string();
    }
    if (10_000.0..1e15).contains(&value.abs()) {
        let sign = if value < 0.0 { "-" } else { "" };
        return format!("{sign}{}", count(value.abs().round() as u64));
    }
    let digits = (3 - value.abs().log10().floor() as i32).clamp(0, 12) as usize;
    let text = format!("{value:.digits$}");
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

/// A count with its thousands set apart.
fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut shown = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            shown.push(',');
        }
        shown.push(digit);
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_shown_to_four_digits() {
        let cases = [
            (0.0, "0"),
            (0.712345, "0.7123"),
            (-13.25, "-13.25"),
            (123_456.7, "123,457"),
            (0.000_012_3, "0.0000123"),
            (1e-300, "0"),
        ];
        for (value, shown) in cases {
            assert_eq!(number(value), shown);
        }
        assert_eq!(number(f64::INFINITY), "inf");
        assert_eq!([count(7), count(1_234), count(1_234_567)], ["7", "1,234", "1,234,567"]);
    }
}
