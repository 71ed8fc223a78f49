//! What is strange about a block within a bag of blocks.
//!
//! Every score here is a function of the bag without its order, as conformal p-values demand.

use kaizen_core::record::Bins;
use kaizen_stats::histogram::hellinger_squared;

/// Categories with less than this share of the bag's rows are put together with the unseen ones.
///
/// A text that the reference lacks is unseen in new blocks, but never in those of the reference.
/// Put together with the other rare texts, the two sorts of block are alike again.
const RARE: f64 = 0.01;

/// One number per block of the bag, for contrasts.
#[derive(Debug)]
pub(crate) struct Coordinate {
    /// What it weighs beside others: the coordinates of one feature share a weight of about 1.
    pub(crate) weight: f64,
    /// The number of each block.
    pub(crate) values: Vec<f64>,
}

/// The scores of one feature for each block of a bag.
#[derive(Debug)]
pub(crate) struct Scores {
    /// How far the block's histogram lies from the pooled one.
    pub(crate) distance: Vec<f64>,
    /// The mean rank of the block's numbers among all, 0 to 1; only for numbers.
    pub(crate) level: Option<Vec<f64>>,
    /// The same facts as coordinates, signed.
    pub(crate) coordinates: Vec<Coordinate>,
}

impl Scores {
    /// Of the counts of each block (blocks × bins).
    pub(crate) fn of(bins: &Bins, counts: &[Vec<u32>]) -> Self {
        match bins {
            Bins::Numbers { .. } => Self::of_numbers(bins, counts),
            Bins::Categories { .. } => Self::of_categories(bins, counts),
        }
    }

    fn of_numbers(bins: &Bins, counts: &[Vec<u32>]) -> Self {
        let (pooled, shares) = (pool(counts, bins.len()), shares(counts));
        let level = levels(&pooled[..bins.missing()], counts);
        let share = |bin: usize| Coordinate {
            weight: 1.0,
            values: shares.iter().map(|block| block[bin]).collect(),
        };
        let coordinates = vec![
            Coordinate { weight: 1.0, values: level.clone() },
            share(bins.missing()),
            share(bins.unseen()),
        ];
        let distance = distances(&pooled, counts, &shares);
        Self { distance, level: Some(level), coordinates }
    }

    fn of_categories(bins: &Bins, counts: &[Vec<u32>]) -> Self {
        let pooled = pool(counts, bins.len());
        let total = pooled.iter().sum::<u64>() as f64;
        let missing = bins.missing();
        let rare = |bin: usize| bin != missing && (pooled[bin] as f64) < RARE * total;
        let kept: Vec<usize> =
            (0..bins.unseen()).filter(|bin| *bin == missing || !rare(*bin)).collect();
        let merge = |block: &Vec<u32>| -> Vec<u32> {
            let mut merged: Vec<u32> = kept.iter().map(|bin| block[*bin]).collect();
            let all: u32 = block.iter().sum();
            merged.push(all - merged.iter().sum::<u32>());
            merged
        };
        let merged: Vec<Vec<u32>> = counts.iter().map(merge).collect();
        let (pooled, shares) = (pool(&merged, kept.len() + 1), shares(&merged));
        let weight = 1.0 / (pooled.len() as f64).sqrt();
        let coordinate = |bin: usize| Coordinate {
            weight,
            values: shares.iter().map(|block| block[bin]).collect(),
        };
        Self {
            distance: distances(&pooled, &merged, &shares),
            level: None,
            coordinates: (0..pooled.len()).map(coordinate).collect(),
        }
    }
}

/// The sum of the blocks' counts, bin by bin.
pub(crate) fn pool(counts: &[Vec<u32>], bins: usize) -> Vec<u64> {
    let mut pooled = vec![0; bins];
    for block in counts {
        for (sum, count) in pooled.iter_mut().zip(block) {
            *sum += u64::from(*count);
        }
    }
    pooled
}

fn shares(counts: &[Vec<u32>]) -> Vec<Vec<f64>> {
    let share = |block: &Vec<u32>| {
        let total = rows(block);
        block.iter().map(|count| f64::from(*count) / total).collect()
    };
    counts.iter().map(share).collect()
}

/// The rows of a block, as a divisor.
fn rows(block: &[u32]) -> f64 {
    block.iter().map(|count| u64::from(*count)).sum::<u64>().max(1) as f64
}

/// The squared Hellinger distance of each block from the pooled histogram, less what it would be
/// on average if the block's rows were drawn from that one by chance: so a block of few rows is
/// not strange for that alone.
fn distances(pooled: &[u64], counts: &[Vec<u32>], shares: &[Vec<f64>]) -> Vec<f64> {
    let pooled_shares = kaizen_stats::histogram::shares(pooled);
    let used = pooled.iter().filter(|count| **count > 0).count();
    let chance = used.saturating_sub(1) as f64 / 8.0;
    let distance = |(block, shares): (&Vec<u32>, &Vec<f64>)| {
        hellinger_squared(shares, &pooled_shares) - chance / rows(block)
    };
    counts.iter().zip(shares).map(distance).collect()
}

/// The mean over a block's numbers of the share of all numbers beneath (ridit, Bross 1958). A
/// block without numbers gets the middle.
fn levels(pooled: &[u64], counts: &[Vec<u32>]) -> Vec<f64> {
    let total = pooled.iter().sum::<u64>().max(1) as f64;
    let mut below = 0;
    let ridits: Vec<f64> = pooled
        .iter()
        .map(|count| {
            let ridit = (below as f64 + *count as f64 / 2.0) / total;
            below += count;
            ridit
        })
        .collect();
    let level = |block: &Vec<u32>| {
        let numbers = &block[..pooled.len()];
        if numbers.iter().all(|count| *count == 0) {
            return 0.5;
        }
        let sum: f64 = numbers.iter().zip(&ridits).map(|(n, ridit)| f64::from(*n) * ridit).sum();
        sum / rows(numbers)
    };
    counts.iter().map(level).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn categories(values: &[&str]) -> Bins {
        Bins::Categories { values: values.iter().map(|v| (*v).to_owned()).collect() }
    }

    #[test]
    fn scores_do_not_know_the_order_of_the_bag() {
        let bins = Bins::Numbers { edges: vec![1.0, 2.0] };
        let bag = vec![vec![5, 3, 2, 0, 1], vec![0, 9, 1, 1, 0], vec![2, 2, 2, 2, 2]];
        let turned: Vec<_> = bag.iter().rev().cloned().collect();
        let (one, other) = (Scores::of(&bins, &bag), Scores::of(&bins, &turned));
        let reversed: Vec<_> = other.distance.into_iter().rev().collect();
        assert_eq!(one.distance, reversed);
        let reversed: Vec<_> = other.level.unwrap().into_iter().rev().collect();
        assert_eq!(one.level.unwrap(), reversed);
    }

    #[test]
    fn an_unseen_text_among_rare_ones_is_nothing_new() {
        let bins = categories(&["a", "b", "rare"]);
        let bag = vec![vec![500, 496, 4, 0, 0], vec![500, 496, 0, 0, 4]];
        let distance = Scores::of(&bins, &bag).distance;
        assert_eq!(distance[0], distance[1]);
        let loud = vec![vec![500, 496, 4, 0, 0], vec![400, 400, 0, 0, 200]];
        let distance = Scores::of(&bins, &loud).distance;
        assert!(distance[0] > 0.01, "{distance:?}");
    }

    #[test]
    fn blocks_without_numbers_or_variance_have_finite_scores() {
        let numbers = Bins::Numbers { edges: vec![] };
        let bag = vec![vec![0, 7, 0], vec![0, 3, 0]];
        let scores = Scores::of(&numbers, &bag);
        assert_eq!(scores.level.unwrap(), [0.5, 0.5]);
        let all = scores.distance.into_iter();
        let all = all.chain(scores.coordinates.into_iter().flat_map(|c| c.values));
        assert!(all.into_iter().all(f64::is_finite));
    }
}
