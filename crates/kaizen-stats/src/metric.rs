//! Metrics of a binary classifier: AUC, log loss, Brier score, plain and with a weight per row.
//!
//! The plain forms check their input and return an error that names the row at fault. The weighted
//! forms are what a [bootstrap](crate::Bootstrap) calls thousands of times: they return NaN where
//! the metric is not defined, such as an AUC of one class only, and check nothing else. To be fast
//! they come with a part that is computed once: [`AucOrder`] for AUC, a loss per row
//! ([`log_losses`], [`squared_errors`]) and [`weighted_mean`] for the others.

use kaizen_core::{Error, ErrorKind, Result};

/// The least probability that [`log_loss`] grants to what happened; the most is one less this.
const CLIP: f64 = 1e-15;

/// The area under the receiver operating characteristic: the probability that a random positive
/// row scores above a random negative one, ties counting half (Mann-Whitney U by midranks).
///
/// # Errors
///
/// Lengths that differ, a score that is not finite, or rows of one class only.
pub fn auc(scores: &[f64], labels: &[bool]) -> Result<f64> {
    let order = AucOrder::new(scores, labels)?;
    let positives = labels.iter().filter(|label| **label).count();
    if positives == 0 || positives == labels.len() {
        let class = if positives == 0 { "negative" } else { "positive" };
        return Err(Error::invalid(format!(
            "auc: all {} labels are {class}, it needs both classes",
            labels.len()
        )));
    }
    Ok(order.weighted(&vec![1.0; labels.len()]))
}

/// The mean negative logarithm (base e) of the probability that each score gave to what happened,
/// that probability clipped to [10⁻¹⁵, 1 - 10⁻¹⁵].
///
/// # Errors
///
/// No rows, lengths that differ, or a score outside [0, 1].
pub fn log_loss(scores: &[f64], labels: &[bool]) -> Result<f64> {
    mean("log_loss", &log_losses(scores, labels)?)
}

/// The mean squared difference between score and label (Brier, 1950, in the form for two classes).
///
/// # Errors
///
/// No rows, lengths that differ, or a score outside [0, 1].
pub fn brier(scores: &[f64], labels: &[bool]) -> Result<f64> {
    mean("brier", &squared_errors(scores, labels)?)
}

/// [`auc`] where row i counts `weights[i]` times. Sorts on every call: see [`AucOrder`].
///
/// NaN if a class weighs nothing, if a score is not finite or if lengths differ.
pub fn weighted_auc(scores: &[f64], labels: &[bool], weights: &[f64]) -> f64 {
    AucOrder::new(scores, labels).map_or(f64::NAN, |order| order.weighted(weights))
}

/// [`log_loss`] where row i counts `weights[i]` times.
///
/// NaN if the rows weigh nothing in all or if lengths differ.
pub fn weighted_log_loss(scores: &[f64], labels: &[bool], weights: &[f64]) -> f64 {
    weighted_loss(scores, labels, weights, log_loss_of)
}

/// [`brier`] where row i counts `weights[i]` times.
///
/// NaN if the rows weigh nothing in all or if lengths differ.
pub fn weighted_brier(scores: &[f64], labels: &[bool], weights: &[f64]) -> f64 {
    weighted_loss(scores, labels, weights, squared_error_of)
}

/// The loss of each row, whose mean is [`log_loss`].
///
/// # Errors
///
/// Lengths that differ, or a score outside [0, 1].
pub fn log_losses(scores: &[f64], labels: &[bool]) -> Result<Vec<f64>> {
    check_probabilities("log_loss", scores, labels)?;
    Ok(scores.iter().zip(labels).map(|(score, label)| log_loss_of(*score, *label)).collect())
}

/// The squared difference between score and label of each row, whose mean is [`brier`].
///
/// # Errors
///
/// Lengths that differ, or a score outside [0, 1].
pub fn squared_errors(scores: &[f64], labels: &[bool]) -> Result<Vec<f64>> {
    check_probabilities("brier", scores, labels)?;
    Ok(scores.iter().zip(labels).map(|(score, label)| squared_error_of(*score, *label)).collect())
}

/// The mean of `values` where row i counts `weights[i]` times; NaN if the rows weigh nothing in
/// all or if lengths differ.
pub fn weighted_mean(values: &[f64], weights: &[f64]) -> f64 {
    if values.len() != weights.len() {
        return f64::NAN;
    }
    let (mut sum, mut total) = (0.0, 0.0);
    for (value, weight) in values.iter().zip(weights) {
        sum += weight * value;
        total += weight;
    }
    // Without weight this is 0 / 0, which is NaN.
    sum / total
}

/// The rows in the order of their scores: sorted once, then each weighted AUC is one linear pass.
#[derive(Clone, Debug)]
pub struct AucOrder {
    /// Row and label, by ascending score.
    rows: Vec<(u32, bool)>,
    /// Where each run of equal scores ends in `rows`.
    ends: Vec<u32>,
}

impl AucOrder {
    /// Sorts the rows.
    ///
    /// # Errors
    ///
    /// Lengths that differ, a score that is not finite, or 2³² rows and more.
    pub fn new(scores: &[f64], labels: &[bool]) -> Result<Self> {
        check_lengths("auc", scores, labels)?;
        if let Some(row) = scores.iter().position(|score| !score.is_finite()) {
            let score = scores[row];
            return Err(Error::invalid(format!("auc: score {score} in row {row} is not finite")));
        }
        let count = u32::try_from(scores.len()).map_err(|_| {
            Error::new(ErrorKind::Limit, format!("auc: {} rows, at most 2^32 - 1", scores.len()))
        })?;
        let mut order: Vec<u32> = (0..count).collect();
        let score = |row: &u32| scores[*row as usize];
        order.sort_unstable_by(|a, b| score(a).total_cmp(&score(b)).then(a.cmp(b)));
        let mut ends = Vec::new();
        let mut seen = 0;
        for run in order.chunk_by(|a, b| score(a) == score(b)) {
            // A run is no longer than `count`, which fits.
            seen += run.len() as u32;
            ends.push(seen);
        }
        let rows = order.into_iter().map(|row| (row, labels[row as usize])).collect();
        Ok(Self { rows, ends })
    }

    /// The AUC where row i counts `weights[i]` times; NaN if a class weighs nothing or if the
    /// number of weights is not the number of rows.
    pub fn weighted(&self, weights: &[f64]) -> f64 {
        if weights.len() != self.rows.len() {
            return f64::NAN;
        }
        // Twice the weight of the pairs in the right order, so that halves stay whole numbers.
        let (mut pairs, mut positives, mut negatives) = (0.0, 0.0, 0.0);
        let mut start = 0;
        for end in &self.ends {
            // Positive and negative weight of this run of equal scores, chosen without a branch.
            let mut run = [0.0; 2];
            for (row, label) in &self.rows[start..*end as usize] {
                run[usize::from(*label)] += weights[*row as usize];
            }
            pairs += run[1] * (2.0 * negatives + run[0]);
            negatives += run[0];
            positives += run[1];
            start = *end as usize;
        }
        pairs / (2.0 * positives * negatives)
    }
}

fn log_loss_of(score: f64, label: bool) -> f64 {
    let of_what_happened = if label { score } else { 1.0 - score };
    -of_what_happened.clamp(CLIP, 1.0 - CLIP).ln()
}

fn squared_error_of(score: f64, label: bool) -> f64 {
    let difference = score - f64::from(u8::from(label));
    difference * difference
}

fn weighted_loss(
    scores: &[f64],
    labels: &[bool],
    weights: &[f64],
    loss: impl Fn(f64, bool) -> f64,
) -> f64 {
    if scores.len() != labels.len() || scores.len() != weights.len() {
        return f64::NAN;
    }
    let (mut sum, mut total) = (0.0, 0.0);
    for ((score, label), weight) in scores.iter().zip(labels).zip(weights) {
        sum += weight * loss(*score, *label);
        total += weight;
    }
    sum / total
}

fn mean(metric: &str, values: &[f64]) -> Result<f64> {
    if values.is_empty() {
        return Err(Error::invalid(format!("{metric}: no rows")));
    }
    Ok(values.iter().sum::<f64>() / values.len() as f64)
}

fn check_lengths(metric: &str, scores: &[f64], labels: &[bool]) -> Result<()> {
    if scores.len() == labels.len() {
        return Ok(());
    }
    let (scores, labels) = (scores.len(), labels.len());
    Err(Error::invalid(format!("{metric}: {scores} scores for {labels} labels")))
}

fn check_probabilities(metric: &str, scores: &[f64], labels: &[bool]) -> Result<()> {
    check_lengths(metric, scores, labels)?;
    match scores.iter().position(|score| !(0.0..=1.0).contains(score)) {
        None => Ok(()),
        Some(row) => Err(Error::invalid(format!(
            "{metric}: score {} in row {row} is not a probability",
            scores[row]
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(found: f64, wanted: f64) {
        assert!((found - wanted).abs() <= 1e-15 * wanted.abs().max(1.0), "{found} != {wanted}");
    }

    #[test]
    fn auc_counts_pairs_and_halves_of_ties() {
        // Three positives and four negatives make 12 pairs. 0.9 beats all 4; 0.5 beats 0.1 and 0.3
        // and ties with 0.5: 2.5; 0.3 beats 0.1 and ties with 0.3: 1.5. In all 8 of 12.
        let scores = [0.9, 0.5, 0.3, 0.1, 0.3, 0.5, 0.7];
        let labels = [true, true, true, false, false, false, false];
        close(auc(&scores, &labels).unwrap(), 8.0 / 12.0);
        // All tied: a coin. Signed zeros are one score.
        close(auc(&[0.0, -0.0, 0.0], &[true, false, true]).unwrap(), 0.5);
        // Perfect either way round, with scores that are no probabilities.
        close(auc(&[-7.0, 2.0, 9.5], &[false, true, true]).unwrap(), 1.0);
        close(auc(&[-7.0, 2.0, 9.5], &[true, false, false]).unwrap(), 0.0);
    }

    #[test]
    fn losses_have_their_hand_computed_values() {
        // -(ln 0.9 + ln 0.8 + ln 0.35 + ln 0.94) / 4; the example of scikit-learn's documentation
        // with its fourth score 0.65 read as a negative row.
        let wanted = -(0.9_f64.ln() + 0.9_f64.ln() + 0.8_f64.ln() + 0.35_f64.ln()) / 4.0;
        let loss = log_loss(&[0.1, 0.9, 0.8, 0.65], &[false, true, true, false]).unwrap();
        assert!((loss - wanted).abs() < 1e-15);
        // (0.01 + 0.01 + 0.04 + 0.4225) / 4.
        let loss = brier(&[0.1, 0.9, 0.8, 0.65], &[false, true, true, false]).unwrap();
        close(loss, 0.120_625);
        // A certainty that was wrong costs -ln 1e-15, not infinity.
        let wrong = log_loss(&[0.0], &[true]).unwrap();
        assert!((wrong - 34.538_776_394_910_684).abs() < 1e-12, "{wrong}");
        assert!(log_loss(&[1.0], &[true]).unwrap() < 2e-15);
    }

    #[test]
    fn a_whole_weight_is_a_repeated_row() {
        let scores = [0.2, 0.6, 0.6, 0.9, 0.4];
        let labels = [false, true, false, true, true];
        let weights = [2.0, 0.0, 3.0, 1.0, 2.0];
        let repeated: Vec<usize> = vec![0, 0, 2, 2, 2, 3, 4, 4];
        let repeated_scores: Vec<f64> = repeated.iter().map(|row| scores[*row]).collect();
        let repeated_labels: Vec<bool> = repeated.iter().map(|row| labels[*row]).collect();
        let plain = [
            auc(&repeated_scores, &repeated_labels).unwrap(),
            log_loss(&repeated_scores, &repeated_labels).unwrap(),
            brier(&repeated_scores, &repeated_labels).unwrap(),
        ];
        close(weighted_auc(&scores, &labels, &weights), plain[0]);
        close(weighted_log_loss(&scores, &labels, &weights), plain[1]);
        close(weighted_brier(&scores, &labels, &weights), plain[2]);
        let losses = squared_errors(&scores, &labels).unwrap();
        close(weighted_mean(&losses, &weights), plain[2]);
    }

    #[test]
    fn what_is_not_defined_is_nan_when_weighted_and_an_error_when_plain() {
        assert!(weighted_auc(&[0.1, 0.2], &[true, false], &[1.0, 0.0]).is_nan());
        assert!(weighted_auc(&[0.1], &[true, false], &[1.0, 1.0]).is_nan());
        assert!(weighted_brier(&[0.1], &[true], &[0.0]).is_nan());
        assert!(weighted_log_loss(&[0.1], &[true], &[]).is_nan());
        for (error, word) in [
            (auc(&[0.1, 0.2], &[true, true]).unwrap_err(), "positive"),
            (auc(&[], &[]).unwrap_err(), "negative"),
            (auc(&[0.1, f64::INFINITY], &[true, false]).unwrap_err(), "row 1"),
            (brier(&[0.1, 1.1], &[true, false]).unwrap_err(), "score 1.1 in row 1"),
            (brier(&[], &[]).unwrap_err(), "no rows"),
            (log_loss(&[f64::NAN], &[true]).unwrap_err(), "row 0"),
            (log_loss(&[0.5], &[]).unwrap_err(), "1 scores for 0 labels"),
        ] {
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert!(error.to_string().contains(word), "{error}");
        }
    }
}
