//! Histograms: quantile edges, and distances between counts over the same bins.

/// The inner edges of `bins` bins of equal mass: the quantiles `1/bins, 2/bins, …` of the finite
/// values, by linear interpolation (numpy's default, type 7 of Hyndman and Fan 1996), equal ones
/// merged.
///
/// Ascending, at most `bins - 1`; empty if no value is finite. Bin `i` is `(edges[i-1], edges[i]]`.
pub fn quantile_edges(values: &[f64], bins: usize) -> Vec<f64> {
    let mut sorted: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
    sorted.sort_unstable_by(f64::total_cmp);
    let Some(last) = sorted.len().checked_sub(1) else { return Vec::new() };
    let quantile = |share: f64| {
        let position = share * last as f64;
        let below = (position.floor() as usize).min(last);
        let above = (below + 1).min(last);
        let part = position - below as f64;
        if part == 0.0 { sorted[below] } else { between(sorted[below], sorted[above], part) }
    };
    let mut edges: Vec<f64> = (1..bins).map(|i| quantile(i as f64 / bins as f64)).collect();
    edges.dedup();
    edges
}

/// `low + part × (high - low)`, without overflow and never outside the two.
fn between(low: f64, high: f64, part: f64) -> f64 {
    let step = high - low;
    let value = if step.is_finite() { low + part * step } else { low * (1.0 - part) + high * part };
    value.clamp(low, high)
}

/// How many values fall into each bin of `edges`: `edges.len() + 1` counts. NaN falls into none.
pub fn counts(values: &[f64], edges: &[f64]) -> Vec<u64> {
    let mut counts = vec![0; edges.len() + 1];
    for value in values.iter().filter(|value| !value.is_nan()) {
        counts[edges.partition_point(|edge| edge < value)] += 1;
    }
    counts
}

/// The share of each bin; all zero if nothing was counted.
pub fn shares(counts: &[u64]) -> Vec<f64> {
    let total: u64 = counts.iter().sum();
    counts.iter().map(|count| *count as f64 / total.max(1) as f64).collect()
}

/// The population stability index `Σ (q - p) ln(q / p)` of a window against a reference, with half
/// a count added to each bin (Jeffreys): finite, and symmetric.
///
/// Both are counts over the same bins; bins that only one of the two has are left out.
pub fn psi(reference: &[u64], window: &[u64]) -> f64 {
    let smooth = |counts: &[u64]| {
        let total = counts.iter().sum::<u64>() as f64 + counts.len() as f64 / 2.0;
        counts.iter().map(|count| (*count as f64 + 0.5) / total).collect()
    };
    index(smooth(reference), smooth(window))
}

/// The population stability index of the bare shares: infinite if a bin is empty in one of the two
/// only. For comparison with other tools; see [`psi`].
pub fn psi_unsmoothed(reference: &[u64], window: &[u64]) -> f64 {
    index(shares(reference), shares(window))
}

fn index(p: Vec<f64>, q: Vec<f64>) -> f64 {
    let term = |(p, q): (f64, f64)| if p == q { 0.0 } else { (q - p) * (q / p).ln() };
    p.into_iter().zip(q).map(term).sum()
}

/// The squared Hellinger distance `1 - Σ √(p q)` of two sets of shares: 0 when they agree, 1 when
/// they have no bin in common. Bounded, and defined for empty bins.
pub fn hellinger_squared(p: &[f64], q: &[f64]) -> f64 {
    let overlap: f64 = p.iter().zip(q).map(|(p, q)| (p * q).sqrt()).sum();
    (1.0 - overlap).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn golden() -> (Vec<f64>, Vec<f64>) {
        let a = (0..200).map(|i| f64::from((7919 * i) % 1009) / 1009.0).collect();
        let b = (0..150).map(|j| 1.1 * f64::from((6151 * j) % 997) / 997.0 + 0.02).collect();
        (a, b)
    }

    /// Numbers of numpy and scipy 1.17.1.
    #[test]
    fn agrees_with_numpy_and_scipy() {
        let (a, b) = golden();
        let edges = quantile_edges(&a, 10);
        let (p, q) = (counts(&a, &edges), counts(&b, &edges));
        assert_eq!(p, [20; 10]);
        assert_eq!(q, [15, 11, 15, 14, 14, 13, 14, 14, 13, 27]);
        assert!((psi_unsmoothed(&p, &q) - 0.060_949_563_683_675_226).abs() < 1e-15);
        let hellinger = hellinger_squared(&shares(&p), &shares(&q)).sqrt();
        assert!((hellinger - 0.087_031_356_477_272_25).abs() < 1e-14);
        assert_eq!(quantile_edges(&[3.0, 1.0, 2.0, 4.0], 4), [1.75, 2.5, 3.25]);
    }

    #[test]
    fn edges_ascend_whatever_comes() {
        assert!(quantile_edges(&[], 10).is_empty());
        assert!(quantile_edges(&[f64::NAN, f64::INFINITY], 10).is_empty());
        assert_eq!(quantile_edges(&[7.0; 30], 10), [7.0]);
        let ties = [0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 2.0, 3.0];
        let edges = quantile_edges(&ties, 10);
        assert!(edges.is_sorted_by(|a, b| a < b), "{edges:?}");
        let wide = quantile_edges(&[-f64::MAX, f64::MAX, 0.0], 7);
        assert!(wide.iter().all(|edge| edge.is_finite()) && wide.is_sorted());
    }

    #[test]
    fn psi_is_finite_symmetric_and_zero_only_for_equal_shares() {
        let (a, b) = ([90, 10, 0], [0, 10, 90]);
        assert!(psi(&a, &b).is_finite() && psi(&a, &b) > 3.0);
        assert_eq!(psi(&a, &b), psi(&b, &a));
        assert_eq!(psi(&a, &a), 0.0);
        assert_eq!(psi(&[0, 0], &[0, 0]), 0.0);
        assert_eq!(psi_unsmoothed(&[5, 5, 0], &[50, 50, 0]), 0.0);
        assert_eq!(psi_unsmoothed(&[5, 0], &[5, 5]), f64::INFINITY);
    }
}
