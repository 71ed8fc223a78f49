//! Floats of similar size as integers of one unit, where sums are cheap.

use crate::fixed_point::parts;

/// Up to this many bits, a sum fits an `i128` with its sign.
const MOST_BITS: usize = 126;

/// Floats as integers of one unit, which their sums and those of their squares cannot overflow.
///
/// Sums of such integers are exact. [`sum`](Self::sum) and
/// [`standard_deviation`](Self::standard_deviation) round them once, to the same bits as
/// [`ExactSum`](crate::ExactSum) and [`ExactMoments`](crate::ExactMoments) do, in a fraction of the
/// time. Data of similar size, such as prices, counts and durations, can be scaled; numbers from
/// 1e-20 to 1e20 together, infinities and NaN cannot.
///
/// ```
/// use kaizen_stats::Scaled;
///
/// let mut integers = Vec::new();
/// let scaled = Scaled::of(&[0.1, 0.2, 0.3], &mut integers).unwrap();
/// assert_eq!(scaled.sum(integers.iter().sum()), 0.6);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scaled {
    /// The unit is 2 to this.
    exponent: i32,
    squares: bool,
}

impl Scaled {
    /// Scales these numbers, if they can be, and puts the integers into `integers`, one for each.
    /// NaN stands for a missing number and becomes 0.
    pub fn of(values: &[f64], integers: &mut Vec<i128>) -> Option<Self> {
        integers.clear();
        let (mut low, mut high) = (usize::MAX, 0);
        for value in values {
            if value.is_infinite() {
                return None;
            }
            let (mantissa, position) = if value.is_nan() { (0, 0) } else { parts(*value) };
            if mantissa != 0 {
                low = low.min(position + mantissa.trailing_zeros() as usize);
                high = high.max(position + (u64::BITS - mantissa.leading_zeros()) as usize);
            }
        }
        // How many doublings the sum of so many numbers takes at most.
        let doublings = (usize::BITS - values.len().leading_zeros()) as usize;
        let low = low.min(high);
        let bits = high - low + doublings;
        // Far from both ends of the range, so that nothing but the sum itself is ever rounded.
        let inside = high == 0 || (low > 400 && high + doublings < 1_900);
        if bits > MOST_BITS || !inside {
            return None;
        }
        let integer = |value: &f64| {
            let (mantissa, position) = if value.is_nan() { (0, 0) } else { parts(*value) };
            let magnitude = match position.checked_sub(low) {
                Some(up) => i128::from(mantissa) << up,
                None => i128::from(mantissa >> (low - position).min(63)),
            };
            if value.is_sign_negative() { -magnitude } else { magnitude }
        };
        integers.extend(values.iter().map(integer));
        let exponent = if high == 0 { 0 } else { low as i32 - 1_074 };
        Some(Self { exponent, squares: 2 * bits <= MOST_BITS })
    }

    /// The float of a sum of the integers.
    pub fn sum(&self, total: i128) -> f64 {
        // An integer becomes the nearest float, a tie the even one; the unit only moves it.
        // Most sums fit 64 bits, where that is cheaper.
        let total = i64::try_from(total).map_or_else(|_| total as f64, |total| total as f64);
        total * power_of_two(self.exponent)
    }

    /// Whether sums of squares of the integers cannot overflow.
    pub fn has_squares(&self) -> bool {
        self.squares
    }

    /// The standard deviation of the sample, of `count` of the integers with this sum and this sum
    /// of squares; `None` if there are fewer than two. Of numbers whose
    /// [squares](Self::has_squares) fit.
    pub fn standard_deviation(&self, count: i64, total: i128, squares: i128) -> Option<f64> {
        if count < 2 {
            return None;
        }
        let numerator = i128::from(count) * squares - total * total;
        let pairs = count as f64 * (count - 1) as f64;
        Some((numerator as f64 / pairs).sqrt() * power_of_two(self.exponent))
    }
}

fn power_of_two(exponent: i32) -> f64 {
    f64::from_bits(((exponent + 1_023) as u64) << 52)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{ExactMoments, ExactSum};

    fn number() -> impl Strategy<Value = f64> {
        prop_oneof![
            4 => (-100_000_i32..100_000).prop_map(|cents| f64::from(cents) / 100.0),
            2 => (-100_i32..100).prop_map(f64::from),
            1 => Just(f64::NAN),
            1 => Just(-0.0),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn it_has_the_bits_of_the_exact_sums(
            values in prop_oneof![
                4 => prop::collection::vec(number(), 0..60),
                1 => prop::collection::vec(any::<u64>().prop_map(f64::from_bits), 0..3),
            ],
        ) {
            let mut integers = vec![7];
            if let Some(scaled) = Scaled::of(&values, &mut integers) {
                prop_assert_eq!(integers.len(), values.len());
                let present = || values.iter().copied().filter(|value| !value.is_nan());
                let exact: ExactSum = present().collect();
                let total: i128 = integers.iter().sum();
                prop_assert_eq!(scaled.sum(total).to_bits(), exact.value().to_bits());
                if scaled.has_squares() {
                    let squares = integers.iter().map(|integer| integer * integer).sum();
                    let count = present().count() as i64;
                    let found = scaled.standard_deviation(count, total, squares);
                    let exact = present().collect::<ExactMoments>().standard_deviation();
                    prop_assert_eq!(found.map(f64::to_bits), exact.map(f64::to_bits));
                }
            }
        }
    }

    #[test]
    fn what_cannot_be_scaled_is_told() {
        let mut integers = Vec::new();
        assert!(Scaled::of(&[1.5, -0.25, 19.99], &mut integers).is_some());
        assert!(Scaled::of(&[3.0; 1_000], &mut integers).unwrap().has_squares());
        assert!(!Scaled::of(&[0.1, 0.7, 1999.9], &mut integers).unwrap().has_squares());
        assert!(Scaled::of(&[0.0, f64::NAN], &mut integers).is_some());
        for values in [[1.0, f64::INFINITY], [1e-20, 1e20], [1e300, 1e300], [1e-300, 0.0]] {
            assert_eq!(Scaled::of(&values, &mut integers), None, "{values:?}");
        }
    }
}
