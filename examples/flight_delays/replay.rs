//! The replay: one policy, day by day, through the whole loop.

use std::collections::BTreeMap;
use std::sync::Arc;

use indicatif::ProgressBar;
use kaizen::core::Stored;
use kaizen::core::record::{DriftReport, Trigger};
use kaizen::cycle::{CHAMPION, Retraining, Tick};
use kaizen::prelude::*;

use super::account::money;
use super::caller::Caller;
use super::host::Host;
use super::question::{MODEL, costs, days};
use super::world::World;

/// The first eight weeks are trained on, the rest of the year is replayed.
pub const TRAINING_DAYS: i64 = 56;

/// When a policy retrains.
#[derive(Clone, Copy, PartialEq)]
pub enum When {
    Never,
    Monthly,
    OnDrift,
}

impl When {
    /// Does what is due on the morning of a day.
    async fn tick(self, host: &mut Host, day: i64) -> Result<Tick> {
        let now = days().start(day);
        let first_of_month = now.date().ends_with("-01");
        let champion = host.cycle.registry().alias(MODEL, CHAMPION).await?;
        match champion {
            Some(_) if self == Self::Monthly && first_of_month => {
                host.cycle.retrain(now, Trigger::Schedule).await
            }
            _ => host.cycle.tick(now).await,
        }
    }
}

/// What a policy did and earned.
pub struct Outcome {
    pub name: &'static str,
    /// The score of each request, from the first replayed one on.
    pub scores: Vec<f64>,
    pub first: usize,
    /// What each day earned.
    pub earned: BTreeMap<i64, f64>,
    warned: BTreeMap<i64, f64>,
    pub trainings: u32,
    pub promotions: u32,
    pub retrained: Vec<i64>,
    pub events: Vec<Happening>,
    pub drift_evidence: Vec<(i64, f64)>,
    pub value_evidence: Vec<(i64, f64)>,
}

/// A line of the table at the end.
pub struct Happening {
    pub day: i64,
    pub what: String,
    pub evidence: String,
    pub model: String,
    pub value_to_date: f64,
}

/// Replays the days after the training days under one policy, answering through `caller`.
pub async fn replay(
    mut host: Host,
    mut caller: Caller,
    world: Arc<World>,
    when: When,
    bar: ProgressBar,
) -> Result<(Host, Caller, Outcome)> {
    let (start, end) = world.span();
    let first_day = start + TRAINING_DAYS;
    let mut outcome = Outcome::new(when, world.on(first_day).start);
    for day in first_day..=end {
        // What was answered is kept before it is judged.
        host.predictions.flush().await?;
        let tick = when.tick(&mut host, day).await?;
        outcome.note(&host, day, &tick).await?;
        let rows = world.on(day);
        let scores = caller.answer(&host, &world, day, rows.clone()).await?;
        outcome.count(&world, day, rows.start, &scores);
        bar.inc(1);
        bar.set_message(format!("{:<15} {:>9}", outcome.name, money(outcome.total())));
    }
    bar.finish();
    Ok((host, caller, outcome))
}

impl Outcome {
    fn new(when: When, first: usize) -> Self {
        let name = match when {
            When::Never => "never retrained",
            When::Monthly => "every month",
            When::OnDrift => "on drift",
        };
        Self {
            name,
            scores: Vec::new(),
            first,
            earned: BTreeMap::new(),
            warned: BTreeMap::new(),
            trainings: 0,
            promotions: 0,
            retrained: Vec::new(),
            events: Vec::new(),
            drift_evidence: Vec::new(),
            value_evidence: Vec::new(),
        }
    }

    /// What was earned in all.
    pub fn total(&self) -> f64 {
        self.earned.values().sum()
    }

    /// The running total, by day.
    pub fn value_to_date(&self) -> Vec<(f64, f64)> {
        let mut total = 0.0;
        let sum = |(day, earned): (&i64, &f64)| {
            total += earned;
            (*day as f64, total)
        };
        self.earned.iter().map(sum).collect()
    }

    /// The share of flights that were warned of, by day.
    pub fn warned_rate(&self) -> Vec<(f64, f64)> {
        self.warned.iter().map(|(day, share)| (*day as f64, *share)).collect()
    }

    fn count(&mut self, world: &World, day: i64, first: usize, scores: &[f64]) {
        let (costs, mut earned, mut warned) = (costs(), 0.0, 0.0);
        for (row, score) in (first..).zip(scores) {
            let acted = costs.acts(*score);
            earned += costs.value(acted, world.late[row]);
            warned += f64::from(u8::from(acted));
        }
        self.scores.extend_from_slice(scores);
        self.earned.insert(day, earned);
        self.warned.insert(day, warned / scores.len().max(1) as f64);
    }

    /// Notes what the tick did, for the table and the charts.
    async fn note(&mut self, host: &Host, day: i64, tick: &Tick) -> Result<()> {
        self.drift_evidence.extend(tick.drift_evidence.map(|evidence| (day, evidence)));
        self.value_evidence.extend(tick.value_evidence.map(|evidence| (day, evidence)));
        let Some(retraining) = &tick.retraining else { return Ok(()) };
        self.trainings += 1;
        let champion = retraining.release.is_some();
        self.promotions += u32::from(champion);
        if !self.events.is_empty() {
            self.retrained.push(day);
        }
        let cause = match &tick.alarm {
            Some(Trigger::Drift { report }) => {
                let report: Stored<DriftReport> = host.store.get(report).await?;
                let names: Vec<_> =
                    report.record.features.iter().take(3).map(|f| f.name.as_str()).collect();
                format!("inputs drifted: {}", names.join(", "))
            }
            Some(Trigger::ValueFell { .. }) => "value fell".to_owned(),
            _ if self.events.is_empty() => "first training".to_owned(),
            _ => "first of the month".to_owned(),
        };
        let verdict = if champion { "promoted" } else { "kept the champion" };
        self.events.push(Happening {
            day,
            what: format!("{cause}; {verdict}"),
            evidence: figures(retraining),
            model: format!("v{}", retraining.version),
            value_to_date: self.total(),
        });
        Ok(())
    }
}

/// The figures that the gates went by.
fn figures(retraining: &Retraining) -> String {
    let metric = |name: &str| retraining.evaluation.metrics.get(name);
    let auc = metric("auc").map_or(String::new(), |e| format!("AUC {:.3}", e.value));
    match &retraining.evaluation.comparison {
        None => {
            let value = metric("value").map_or(0.0, |e| e.value);
            format!("{auc}, {value:.2} a flight")
        }
        Some(comparison) => match comparison.differences.get("value") {
            Some(e) => format!("{auc}, {:+.2} [{:+.2}, {:+.2}] a flight", e.value, e.low, e.high),
            None => auc,
        },
    }
}
