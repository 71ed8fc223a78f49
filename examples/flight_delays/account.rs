//! The account at the end: what was earned, compared in money, and the log verified.

use std::collections::BTreeMap;

use kaizen::core::record::Estimate;
use kaizen::cycle::CHAMPION;
use kaizen::prelude::*;
use kaizen::stats::{Bootstrap, metric};
use kaizen::store::{LocalLog, ancestors};

use super::host::Host;
use super::question::{MODEL, days, policy};
use super::replay::Outcome;
use super::world::World;

/// Everything that the table and the report tell.
pub struct Story {
    pub outcomes: Vec<Outcome>,
    pub comparisons: Vec<Comparison>,
    pub audit: Audit,
    late: Vec<bool>,
    day_of: Vec<i64>,
}

/// The difference in money between two policies.
pub struct Comparison {
    pub name: String,
    pub difference: Estimate,
}

/// What the verification of the log found.
pub struct Audit {
    pub entries: u64,
    pub key: String,
    pub checkpoint: String,
    pub lineage: String,
}

impl Story {
    /// Draws up the account. The last outcome is the one that was served.
    pub fn new(world: &World, outcomes: Vec<Outcome>, audit: Audit) -> Result<Self> {
        let mut comparisons = Vec::new();
        for (a, b) in [(2, 0), (2, 1), (1, 0)] {
            let name = format!("{} − {}", outcomes[a].name, outcomes[b].name);
            let difference = difference(&outcomes[a].earned, &outcomes[b].earned)?;
            comparisons.push(Comparison { name, difference });
        }
        let day_of = (0..world.late.len()).map(|row| world.day(row)).collect();
        Ok(Self { outcomes, comparisons, audit, late: world.late.clone(), day_of })
    }

    /// The outcome of the policy that was served.
    pub fn served(&self) -> &Outcome {
        &self.outcomes[self.outcomes.len() - 1]
    }

    /// The evidence at which an alarm sounds.
    pub fn threshold(&self) -> f64 {
        2.0 / policy(Triggers::default()).alpha
    }

    /// A day as a date.
    pub fn date(&self, day: i64) -> String {
        days().start(day).date()
    }

    /// The share of flights that were late or cancelled, by day.
    pub fn late_rate(&self) -> Vec<(f64, f64)> {
        let mut days: BTreeMap<i64, (f64, f64)> = BTreeMap::new();
        for row in self.served().first..self.late.len() {
            let (late, all) = days.entry(self.day_of[row]).or_default();
            *late += f64::from(u8::from(self.late[row]));
            *all += 1.0;
        }
        days.into_iter().map(|(day, (late, all))| (day as f64, late / all)).collect()
    }

    /// AUC by month of the year, January being 0.
    pub fn auc_by_month(&self, outcome: &Outcome) -> Vec<(f64, f64)> {
        let mut months: BTreeMap<u32, (Vec<f64>, Vec<bool>)> = BTreeMap::new();
        for (row, score) in (outcome.first..).zip(&outcome.scores) {
            let month = self.date(self.day_of[row])[5..7].parse().unwrap_or(1);
            let (scores, labels) = months.entry(month).or_default();
            scores.push(*score);
            labels.push(self.late[row]);
        }
        let full = months.into_iter().filter(|(_, (scores, _))| scores.len() > 5_000);
        let auc = |(month, (scores, labels)): (u32, (Vec<f64>, Vec<bool>))| {
            Some((f64::from(month - 1), metric::auc(&scores, &labels).ok()?))
        };
        full.filter_map(auc).collect()
    }

    /// Of each tenth of the predictions by score: the mean score, and the share that came true.
    pub fn calibration(&self, outcome: &Outcome) -> Vec<(f64, f64)> {
        let mut pairs: Vec<(f64, bool)> =
            outcome.scores.iter().zip(&self.late[outcome.first..]).map(|(s, l)| (*s, *l)).collect();
        pairs.sort_by(|a, b| a.0.total_cmp(&b.0));
        let tenth = pairs.len().div_ceil(10).max(1);
        let mean = |chunk: &[(f64, bool)]| {
            let n = chunk.len() as f64;
            let score: f64 = chunk.iter().map(|pair| pair.0).sum();
            let late = chunk.iter().filter(|pair| pair.1).count() as f64;
            (score / n, late / n)
        };
        pairs.chunks(tenth).map(mean).collect()
    }

    /// The table for the terminal.
    pub fn table(&self) -> String {
        let mut lines = vec![format!(
            "{:<11} {:<84} {:<42} {:<5} {:>12}",
            "day", "event", "evidence", "model", "value so far"
        )];
        for event in &self.served().events {
            lines.push(format!(
                "{:<11} {:<84} {:<42} {:<5} {:>12}",
                self.date(event.day),
                event.what,
                event.evidence,
                event.model,
                money(event.value_to_date)
            ));
        }
        lines.push(String::new());
        for outcome in &self.outcomes {
            lines.push(format!(
                "{:<16} {:>10}   {:>2} trainings, {:>2} promoted",
                outcome.name,
                money(outcome.total()),
                outcome.trainings,
                outcome.promotions
            ));
        }
        lines.push(String::new());
        for Comparison { name, difference } in &self.comparisons {
            lines.push(format!(
                "{name:<33} {:>10}   95 % interval by days: {} to {}",
                money(difference.value),
                money(difference.low),
                money(difference.high)
            ));
        }
        lines.join("\n")
    }
}

/// Verifies the log with nothing but its files and the public key.
pub async fn audit(host: &Host, dir: &std::path::Path) -> Result<Audit> {
    let key = host.log.key();
    let verified = LocalLog::verify(dir.join("log"), key).await?;
    let champion = host.cycle.registry().alias(MODEL, CHAMPION).await?;
    let lineage = match champion {
        Some(version) => ancestors(host.store.as_ref(), &version.model).await?.to_string(),
        None => String::new(),
    };
    Ok(Audit {
        entries: verified.size,
        key: key.to_string(),
        checkpoint: verified.checkpoint.note,
        lineage,
    })
}

/// The sum of daily differences, with an interval that resamples days.
fn difference(a: &BTreeMap<i64, f64>, b: &BTreeMap<i64, f64>) -> Result<Estimate> {
    let days: Vec<i64> = a.keys().copied().collect();
    let daily: Vec<f64> = a.iter().map(|(day, x)| x - b.get(day).copied().unwrap_or(0.0)).collect();
    let bootstrap = Bootstrap { draws: 2_000, confidence: 0.95, seed: 2013 };
    bootstrap.interval(&days, |weights| weights.iter().zip(&daily).map(|(w, d)| w * d).sum())
}

/// An amount, with thousands set apart.
pub fn money(amount: f64) -> String {
    let digits = format!("{:.0}", amount.abs());
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            text.push(' ');
        }
        text.push(digit);
    }
    if amount < 0.0 { format!("−{text}") } else { text }
}
