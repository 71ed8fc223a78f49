//! The monitor of features.

use arrow::array::RecordBatch;
use kaizen_core::record::{Bins, FeatureDrift, FeatureProfile, Profile};
use kaizen_core::{Error, ErrorKind, Result, TimeBlocks};
use kaizen_stats::conformal::{EProcess, Side, Start, p_value, uniform};
use kaizen_stats::histogram::psi;
use serde::{Deserialize, Serialize};

use crate::contrast::Contrasts;
use crate::profiling::counts;
use crate::reading::Reading;
use crate::score::{Scores, pool};

/// The shifts that are bet on, in standard deviations of blocks: small, middling and large.
pub(crate) const SHIFTS: [f64; 3] = [0.5, 1.0, 2.0];

/// How a monitor decides.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// The probability of any alarm, ever, if nothing drifts; between 0 and 1.
    pub alpha: f64,
    /// Fixes the random numbers that break ties.
    #[serde(with = "kaizen_core::serde_int")]
    pub seed: u64,
}

impl Default for Settings {
    /// `alpha` 0.05, `seed` 0.
    fn default() -> Self {
        Self { alpha: 0.05, seed: 0 }
    }
}

impl Settings {
    pub(crate) fn check(&self) -> Result<()> {
        let alpha = self.alpha;
        if alpha > 0.0 && alpha < 1.0 {
            return Ok(());
        }
        Err(Error::invalid(format!("drift monitor: alpha {alpha}, not between 0 and 1")))
    }
}

/// Watches the features of a model for drift, one look per block of time.
///
/// Its state is a value: store it as JSON, and the monitor goes on where it stood, with the same
/// bits. The crate's front page says how it decides and what its alarm means.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Monitor {
    settings: Settings,
    unit: TimeBlocks,
    /// How many of the blocks are the reference; they come first.
    reference: usize,
    /// The block looked at last, or the last of the reference.
    #[serde(with = "kaizen_core::serde_int")]
    last: i64,
    features: Vec<Feature>,
    contrasts: Contrasts,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Feature {
    name: String,
    bins: Bins,
    /// Blocks × bins: the reference, then what was observed.
    counts: Vec<Vec<u32>>,
    distance: EProcess,
    /// Only for numbers.
    level: Option<EProcess>,
}

impl Monitor {
    /// At most this many blocks, the reference included: a look takes time in proportion to them.
    pub const MAX_BLOCKS: usize = 10_000;

    /// A monitor that has the blocks of `profile` as its reference.
    ///
    /// Forty blocks or more make a good one; with few, evidence grows slowly.
    ///
    /// # Errors
    ///
    /// `alpha` out of range; a profile with fewer than two blocks, without features, or one whose
    /// counts do not fit its blocks and bins.
    pub fn new(profile: &Profile, settings: Settings) -> Result<Self> {
        settings.check()?;
        check_shape(profile)?;
        let last = *profile.blocks.last().unwrap_or(&i64::MIN);
        let features = profile.features.iter().map(Feature::new).collect::<Result<_>>()?;
        Ok(Self {
            settings,
            unit: profile.unit,
            reference: profile.blocks.len(),
            last,
            features,
            contrasts: Contrasts::new(),
        })
    }

    /// Looks at the rows of one block.
    ///
    /// # Errors
    ///
    /// A block that is not later than the one before or than the reference; no rows; a missing
    /// column (named) or one of another type. The monitor is then as it was.
    pub fn observe(&mut self, block: i64, rows: &RecordBatch) -> Result<Reading> {
        let of = |feature: &Feature| counts(rows, &feature.name, &feature.bins);
        let counts = self.features.iter().map(of).collect::<Result<Vec<_>>>()?;
        self.observe_counts(block, counts)
    }

    /// Looks at one block whose values were counted elsewhere: for each feature, in the order of
    /// the profile, the counts of its bins (see [`counts`](crate::counts)).
    ///
    /// # Errors
    ///
    /// As [`observe`](Self::observe); counts that do not fit the bins.
    pub fn observe_counts(&mut self, block: i64, counts: Vec<Vec<u32>>) -> Result<Reading> {
        self.check_block(block, &counts)?;
        for (feature, counts) in self.features.iter_mut().zip(counts) {
            feature.counts.push(counts);
        }
        self.last = block;
        let reading = self.look();
        tracing::debug!(block, evidence = reading.evidence, alarm = reading.alarm, "drift");
        Ok(reading)
    }

    /// How many blocks were looked at.
    pub fn looks(&self) -> u32 {
        let blocks = self.features.first().map_or(0, |feature| feature.counts.len());
        u32::try_from(blocks - self.reference).unwrap_or(u32::MAX)
    }

    /// The unit of independence.
    pub fn unit(&self) -> TimeBlocks {
        self.unit
    }

    /// The block looked at last; the last of the reference before the first look.
    pub fn last_block(&self) -> i64 {
        self.last
    }

    fn check_block(&self, block: i64, counts: &[Vec<u32>]) -> Result<()> {
        if block <= self.last {
            let last = self.last;
            return Err(Error::invalid(format!("block {block}: not later than block {last}")));
        }
        if self.reference + self.looks() as usize >= Self::MAX_BLOCKS {
            let most = Self::MAX_BLOCKS;
            let message = format!("drift monitor: {most} blocks; begin anew from a later profile");
            return Err(Error::new(ErrorKind::Limit, message));
        }
        if counts.len() != self.features.len() {
            let (found, wanted) = (counts.len(), self.features.len());
            let message = format!("block {block}: counts of {found} features, not {wanted}");
            return Err(Error::invalid(message));
        }
        for (feature, counts) in self.features.iter().zip(counts) {
            check_counts(&feature.name, &feature.bins, block, counts)?;
        }
        Ok(())
    }

    /// Scores all blocks anew with the newest among them, and steps every process.
    fn look(&mut self) -> Reading {
        let (looks, seed) = (self.looks(), self.settings.seed);
        let parts = 2.0 * self.features.len() as f64;
        let mut coordinates = Vec::new();
        let mut features = Vec::new();
        let mut evidence: f64 = 0.0;
        for (index, feature) in self.features.iter_mut().enumerate() {
            let scores = Scores::of(&feature.bins, &feature.counts);
            let random = |k: u64| uniform(seed, 2 * index as u64 + k, u64::from(looks));
            let own = feature.step(&scores, random);
            evidence = evidence.max(own / parts);
            features.push(feature.drift(own, self.reference));
            coordinates.extend(scores.coordinates);
        }
        let contrast = self.contrasts.observe(&coordinates, self.reference, seed);
        evidence = evidence.max(contrast / 2.0);
        features.sort_by(|a, b| b.evidence.total_cmp(&a.evidence));
        let alpha = self.settings.alpha;
        let alarm = evidence >= 1.0 / alpha;
        Reading { block: self.last, evidence, alarm, looks, alpha, features }
    }
}

impl Feature {
    fn new(profile: &FeatureProfile) -> Result<Self> {
        let level = match profile.bins {
            Bins::Numbers { .. } => Some(EProcess::new(Side::Both, Start::Spread, &SHIFTS)),
            Bins::Categories { .. } => None,
        };
        Ok(Self {
            name: profile.name.clone(),
            bins: profile.bins.clone(),
            counts: profile.counts.clone(),
            distance: EProcess::new(Side::High, Start::Spread, &SHIFTS),
            level,
        })
    }

    /// Steps the processes; gives the evidence of the feature alone.
    fn step(&mut self, scores: &Scores, random: impl Fn(u64) -> f64) -> f64 {
        let distance = self.distance.observe(p_value(&scores.distance, random(0)));
        match (&mut self.level, &scores.level) {
            (Some(process), Some(level)) => {
                process.observe(p_value(level, random(1))).max(distance) / 2.0
            }
            _ => distance,
        }
    }

    fn drift(&self, evidence: f64, reference: usize) -> FeatureDrift {
        let (before, after) = self.counts.split_at(reference);
        let newest = &after[after.len().saturating_sub(1)..];
        let bins = self.bins.len();
        let psi = psi(&pool(before, bins), &pool(newest, bins));
        FeatureDrift { name: self.name.clone(), evidence, psi }
    }
}

fn check_shape(profile: &Profile) -> Result<()> {
    let (blocks, features) = (&profile.blocks, &profile.features);
    if blocks.len() < 2 || blocks.len() >= Monitor::MAX_BLOCKS || features.is_empty() {
        let (blocks, features) = (blocks.len(), features.len());
        let message = format!("profile: {blocks} blocks of {features} features to monitor by");
        return Err(Error::invalid(message));
    }
    if let Some(pair) = blocks.windows(2).find(|pair| pair[0] >= pair[1]) {
        let message = format!("profile: block {} stands before block {}", pair[0], pair[1]);
        return Err(Error::invalid(message));
    }
    for FeatureProfile { name, bins, counts } in features {
        if counts.len() != blocks.len() {
            let (found, wanted) = (counts.len(), blocks.len());
            let message = format!("profile: feature `{name}`: {found} blocks, not {wanted}");
            return Err(Error::invalid(message));
        }
        for (block, counts) in blocks.iter().zip(counts) {
            check_counts(name, bins, *block, counts)?;
        }
    }
    Ok(())
}

fn check_counts(feature: &str, bins: &Bins, block: i64, counts: &[u32]) -> Result<()> {
    let at = || format!("block {block}: feature `{feature}`");
    if counts.len() != bins.len() {
        let (found, wanted) = (counts.len(), bins.len());
        return Err(Error::invalid(format!("{}: {found} counts for {wanted} bins", at())));
    }
    let rows: u64 = counts.iter().map(|count| u64::from(*count)).sum();
    if rows == 0 || rows > u64::from(u32::MAX) {
        return Err(Error::invalid(format!("{}: {rows} rows", at())));
    }
    Ok(())
}
