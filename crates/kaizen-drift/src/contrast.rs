//! Directions learned from some new blocks and tested on later ones.

use kaizen_stats::conformal::{EProcess, Side, Start, p_value, uniform};
use serde::{Deserialize, Serialize};

use crate::score::Coordinate;

/// The contrasts drawn so far: after each [`WINDOW`](Self::WINDOW) new blocks one more.
///
/// The blocks of a window leave the bag of their contrast, so that the others are exchangeable
/// given the window, and a direction learned from it is fair. Contrast `k` has the weight
/// `2 / ((k+1)(k+2))`; the weights sum to 1. It is tested for [`LIFE`](Self::LIFE) blocks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Contrasts {
    drawn: u64,
    live: Vec<Contrast>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Contrast {
    /// Its number, from 1.
    number: u64,
    /// The position in the bag of the first block of its window.
    from: usize,
    process: EProcess,
}

impl Contrasts {
    /// New blocks that a direction is learned from. Fewer make it noisier, more make it later.
    const WINDOW: usize = 3;
    /// New blocks that a direction is tested on.
    const LIFE: usize = 60;
    /// Streams of random numbers from here on belong to contrasts.
    const FIRST_STREAM: u64 = 1 << 32;

    pub(crate) fn new() -> Self {
        Self { drawn: 0, live: Vec::new() }
    }

    /// Takes the coordinates of all blocks, of which the first `reference` are the reference, and
    /// gives the largest evidence times its weight.
    pub(crate) fn observe(&mut self, bag: &[Coordinate], reference: usize, seed: u64) -> f64 {
        let blocks = bag.first().map_or(0, |coordinate| coordinate.values.len());
        let looks = blocks.saturating_sub(reference);
        self.live.retain(|contrast| blocks <= contrast.from + Self::WINDOW + Self::LIFE);
        let mut best: f64 = 0.0;
        for contrast in &mut self.live {
            let scores = contrast.scores(bag);
            let random = uniform(seed, Self::FIRST_STREAM + contrast.number, looks as u64);
            let evidence = contrast.process.observe(p_value(&scores, random));
            let k = contrast.number as f64;
            best = best.max(evidence * 2.0 / ((k + 1.0) * (k + 2.0)));
        }
        if looks > 0 && looks.is_multiple_of(Self::WINDOW) {
            self.drawn += 1;
            self.live.push(Contrast {
                number: self.drawn,
                from: blocks - Self::WINDOW,
                process: EProcess::new(Side::High, Start::Now, &Contrast::SHIFTS),
            });
        }
        best
    }
}

impl Contrast {
    /// Differences count up to this many standard deviations of blocks, so that no single
    /// coordinate rules.
    const MOST: f64 = 4.0;
    /// The shifts along the direction that are bet on.
    const SHIFTS: [f64; 2] = [1.0, 2.0];

    /// How far each block outside the window lies in the window's direction; the newest last.
    fn scores(&self, bag: &[Coordinate]) -> Vec<f64> {
        let window = self.from..self.from + Contrasts::WINDOW;
        let blocks = bag.first().map_or(0, |coordinate| coordinate.values.len());
        let mut scores = vec![0.0; blocks.saturating_sub(Contrasts::WINDOW)];
        for Coordinate { weight, values } in bag {
            let rest = || values[..window.start].iter().chain(&values[window.end..]);
            let count = scores.len() as f64;
            let mean = rest().sum::<f64>() / count;
            let variance = rest().map(|value| (value - mean).powi(2)).sum::<f64>() / count;
            let deviation = variance.sqrt();
            if deviation < 1e-9 {
                continue;
            }
            let standard = |value: f64| (value - mean) / deviation;
            let inside = &values[window.clone()];
            let difference = standard(inside.iter().sum::<f64>() / inside.len() as f64);
            let direction = weight * difference.clamp(-Self::MOST, Self::MOST);
            for (score, value) in scores.iter_mut().zip(rest()) {
                *score += direction * standard(*value).clamp(-Self::MOST, Self::MOST);
            }
        }
        scores
    }
}
