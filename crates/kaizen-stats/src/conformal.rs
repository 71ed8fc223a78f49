//! Tests that may look every day, for ever: conformal p-values and the bets against them.
//!
//! *Unit of independence:* whatever is one observation here, for drift the day. *Null hypothesis:*
//! the observations are exchangeable: any order of them was as likely as the one that came.
//!
//! 1. Each new observation gets a score of strangeness within the bag of all so far, itself
//!    included, by a rule that does not know the order. Its rank, ties broken at random, is a
//!    [p-value](p_value); under the null the p-values are independent and uniform (Vovk, Gammerman
//!    and Shafer, *Algorithmic Learning in a Random World*, 2nd ed. 2022, ch. 8).
//! 2. An [`EProcess`] bets on each p-value before it is seen. A bet has mean 1 under the null, so
//!    the capital is a martingale and by Ville's inequality reaches `1/α` at any time, ever, with
//!    probability at most `α`.
//! 3. Change may come late: the capital is divided over all start days with weights that sum to 1
//!    (Shin, Ramdas and Rinaldo 2023, *E-detectors*, with weights in place of restarts).
//!
//! Processes of different scores live in different filtrations: their average need not keep the
//! guarantee at random times (Choe and Ramdas 2024, *Combining evidence across filtrations*). The
//! largest of them, each times its weight, does: that is the union bound.

use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, Normal};

/// The p-value of the last score among all: how many are larger, plus a random part of those that
/// are equal (itself included), over their number. `uniform` lies between 0 and 1. Small when the
/// last score is large.
pub fn p_value(scores: &[f64], uniform: f64) -> f64 {
    let Some(last) = scores.last() else { return uniform };
    let larger = scores.iter().filter(|score| *score > last).count();
    let equal = scores.iter().filter(|score| *score == last).count();
    (larger as f64 + uniform * equal as f64) / scores.len() as f64
}

/// A number strictly between 0 and 1, fixed by its arguments and independent of all others.
pub fn uniform(seed: u64, stream: u64, step: u64) -> f64 {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(stream);
    rng.set_word_pos(2 * u128::from(step));
    ((rng.next_u64() >> 12) as f64 + 0.5) / (1u64 << 52) as f64
}

/// Which change of the scores an [`EProcess`] bets on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// They grow.
    High,
    /// They fall.
    Low,
    /// They grow, or they fall: half the capital on each.
    Both,
}

/// When an [`EProcess`] begins to bet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// At once, with all.
    Now,
    /// On day `t` with a share `7 / ((t + 6)(t + 7))` of the capital. The shares sum to 1.
    Spread,
}

/// The capital won by betting against "the p-values are independent and uniform".
///
/// The bets are the likelihood ratios of a shift of the normal score `z` of the p-value by `δ`
/// standard deviations, `exp(δ z - δ²/2)`, in equal parts for each `δ` given.
///
/// ```
/// use kaizen_stats::conformal::{EProcess, Side, Start};
///
/// let mut process = EProcess::new(Side::High, Start::Now, &[1.0, 2.0]);
/// let evidence = [0.03, 0.01, 0.05, 0.02].map(|p| process.observe(p));
/// assert!(evidence[0] > 1.0 && evidence[3] > 20.0);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EProcess {
    start: Start,
    looks: u64,
    bets: Vec<Bet>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Bet {
    /// Above zero for scores that grow.
    shift: f64,
    /// The sum over the starts so far.
    capital: f64,
}

impl EProcess {
    const SPREAD: f64 = 7.0;
    /// Where capital stops to grow, far beyond any alarm, so that it stays a number.
    const MOST: f64 = 1e100;

    /// A process that has seen nothing; its evidence is 1.
    ///
    /// It bets on shifts by each of `shifts`, in standard deviations of normal scores. Without any
    /// it bets on nothing.
    pub fn new(side: Side, start: Start, shifts: &[f64]) -> Self {
        let signs: &[f64] = match side {
            Side::High => &[1.0],
            Side::Low => &[-1.0],
            Side::Both => &[1.0, -1.0],
        };
        let capital = if start == Start::Now { 1.0 } else { 0.0 };
        let shifts = if shifts.is_empty() { &[0.0] } else { shifts };
        let signed = signs.iter().flat_map(|sign| shifts.iter().map(move |shift| sign * shift));
        let bets = signed.map(|shift| Bet { shift, capital }).collect();
        Self { start, looks: 0, bets }
    }

    /// Takes the next p-value and gives the [evidence](Self::evidence).
    pub fn observe(&mut self, p: f64) -> f64 {
        let joins = match self.start {
            Start::Now => 0.0,
            Start::Spread => self.waiting() / (self.looks as f64 + Self::SPREAD + 1.0),
        };
        self.looks += 1;
        let z = -Normal::standard().inverse_cdf(p.clamp(1e-12, 1.0 - 1e-12));
        for Bet { shift, capital } in &mut self.bets {
            let ratio = (*shift * z - *shift * *shift / 2.0).exp();
            *capital = ((*capital + joins) * ratio).min(Self::MOST);
        }
        self.evidence()
    }

    /// The capital, of 1 at the start: the evidence against the null hypothesis. The probability
    /// that it ever reaches `1/α` is at most `α` under the null.
    pub fn evidence(&self) -> f64 {
        let waiting = if self.start == Start::Now { 0.0 } else { self.waiting() };
        self.bets.iter().map(|bet| bet.capital).sum::<f64>() / self.bets.len() as f64 + waiting
    }

    /// The share of the capital that waits for later starts.
    fn waiting(&self) -> f64 {
        Self::SPREAD / (self.looks as f64 + Self::SPREAD)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHIFTS: [f64; 3] = [0.5, 1.0, 2.0];

    /// p-values of a stream of scores, each within the bag so far.
    fn p_values(scores: &[f64], reference: usize, seed: u64) -> Vec<f64> {
        let p = |n: usize| p_value(&scores[..n], uniform(seed, 0, n as u64));
        (reference + 1..=scores.len()).map(p).collect()
    }

    fn normal(seed: u64, count: u64) -> Vec<f64> {
        let standard = Normal::standard();
        (0..count).map(|i| standard.inverse_cdf(uniform(seed, 99, i))).collect()
    }

    #[test]
    fn p_values_are_uniform_even_when_all_scores_tie() {
        for tied in [false, true] {
            let mut tenths = [0u32; 10];
            for seed in 0..200 {
                let mut scores = normal(seed, 60);
                if tied {
                    scores.iter_mut().for_each(|score| *score = score.round().clamp(0.0, 1.0));
                }
                for p in p_values(&scores, 10, seed) {
                    tenths[(p * 10.0) as usize] += 1;
                }
            }
            // 10,000 in all: 1,000 ± 30 in each.
            assert!(tenths.iter().all(|n| (880..1120).contains(n)), "{tied} {tenths:?}");
        }
    }

    #[test]
    fn ever_reaching_one_over_alpha_is_as_rare_as_stated() {
        for (side, start) in
            [(Side::High, Start::Now), (Side::Low, Start::Spread), (Side::Both, Start::Spread)]
        {
            let (runs, alpha) = (4_000, 0.05);
            let alarms = (0..runs).filter(|run| {
                let mut process = EProcess::new(side, start, &SHIFTS);
                (0..150).any(|step| process.observe(uniform(*run, 7, step)) >= 1.0 / alpha)
            });
            let share = alarms.count() as f64 / runs as f64;
            // Three standard errors above alpha.
            assert!(share <= alpha + 0.0104, "{side:?} {start:?}: {share}");
            assert!(share > 0.01, "{side:?} {start:?}: {share}, so cautious that it is useless");
        }
    }

    #[test]
    fn a_shift_of_two_deviations_is_found_early_and_late() {
        for (from, within) in [(50, 8), (110, 12)] {
            let found = (0..200).filter(|seed| {
                let mut scores = normal(*seed, 50 + 100);
                scores[from..].iter_mut().for_each(|score| *score -= 2.0);
                let mut process = EProcess::new(Side::Low, Start::Spread, &SHIFTS);
                let evidence: Vec<_> =
                    p_values(&scores, 50, *seed).iter().map(|p| process.observe(*p)).collect();
                evidence[from - 50..from - 50 + within].iter().any(|e| *e >= 20.0)
            });
            let found = found.count();
            assert!(found >= 160, "from {from}: {found} of 200");
        }
    }

    #[test]
    fn evidence_stays_a_number() {
        for start in [Start::Now, Start::Spread] {
            let mut process = EProcess::new(Side::Both, start, &SHIFTS);
            for p in [0.0, 1.0, 0.0, 0.5, f64::MIN_POSITIVE].repeat(2_000) {
                let evidence = process.observe(p);
                assert!(evidence.is_finite() && evidence >= 0.0, "{evidence}");
            }
            assert_eq!(p_value(&[], 0.3), 0.3);
        }
    }

    #[test]
    fn the_random_part_depends_on_each_argument() {
        let of = uniform(1, 2, 3);
        assert_eq!(of, uniform(1, 2, 3));
        for other in [uniform(2, 2, 3), uniform(1, 3, 3), uniform(1, 2, 4)] {
            assert_ne!(of, other);
        }
    }
}
