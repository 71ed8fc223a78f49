//! One wide integer in fixed point, to which terms are added without rounding.

use kaizen_core::{Context, Error, ErrorKind, Result};

/// Bits in one digit.
const DIGIT_BITS: usize = 32;

/// The lowest bit of a digit.
const DIGIT_MASK: i64 = (1 << DIGIT_BITS) - 1;

/// A digit takes this many terms below 2^32 before its carry must move on, or 63 bits overflow.
const MAX_PENDING: u32 = 1 << 30;

/// A long accumulator (Kulisch) of `N` digits. What its unit is, is up to its user.
#[derive(Clone)]
pub(crate) struct FixedPoint<const N: usize> {
    /// Signed digits, base 2^32, the lowest first. Carries are kept where they arise until
    /// `pending` forces them on.
    digits: [i64; N],
    /// Digits outside `low..=high` are zero.
    low: usize,
    high: usize,
    /// At most how many terms a digit has taken since the carries moved on.
    pub(crate) pending: u32,
}

/// An integer without carries: `±digits × 2^(32 × low)`, the lowest digit first and the highest
/// not zero. Zero has no digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Magnitude {
    pub(crate) negative: bool,
    pub(crate) low: usize,
    pub(crate) digits: Vec<u32>,
}

/// The mantissa of a float and the exponent of its lowest bit, counted from 2^-1074; the mantissa
/// is 0 for a zero.
pub(crate) fn parts(term: f64) -> (u64, usize) {
    let bits = term.to_bits();
    let exponent = (bits >> 52) as usize & 0x7ff;
    let fraction = bits & ((1 << 52) - 1);
    // A subnormal has the unit of the smallest normal, without the hidden bit.
    match exponent {
        0 => (fraction, 0),
        _ => (fraction | 1 << 52, exponent - 1),
    }
}

impl<const N: usize> FixedPoint<N> {
    /// Zero.
    pub(crate) const ZERO: Self = Self { digits: [0; N], low: N, high: 0, pending: 0 };

    /// Adds `±mantissa × 2^position`, the mantissa below 2^106.
    pub(crate) fn add(&mut self, mantissa: u128, position: usize, sign: i64) {
        if mantissa == 0 {
            return;
        }
        // Without its trailing zeros, a round number touches fewer digits.
        let zeros = mantissa.trailing_zeros() as usize;
        let (mantissa, position) = (mantissa >> zeros, position + zeros);
        let index = position / DIGIT_BITS;
        let shift = position % DIGIT_BITS;
        // The lowest digit takes what its shift leaves room for, so that the rest cannot overflow.
        let room = DIGIT_BITS - shift;
        self.digits[index] += sign * (((mantissa as i64) << shift) & DIGIT_MASK);
        let mut rest = mantissa >> room;
        let mut last = index;
        while rest != 0 {
            last += 1;
            self.digits[last] += sign * (rest as i64 & DIGIT_MASK);
            rest >>= DIGIT_BITS;
        }
        self.low = self.low.min(index);
        self.high = self.high.max(last);
        self.pending += 1;
        if self.pending == MAX_PENDING {
            self.carry();
        }
    }

    /// Adds another integer of the same unit.
    pub(crate) fn merge(&mut self, other: &Self) {
        if other.low > other.high {
            return;
        }
        // A digit after `carry` counts as one term, and so does one of the other's.
        self.carry();
        let mut other = other.clone();
        other.carry();
        for index in other.low..=other.high {
            self.digits[index] += other.digits[index];
        }
        self.low = self.low.min(other.low);
        self.high = self.high.max(other.high);
        self.pending += other.pending;
    }

    /// Moves the carries on: every digit but the highest lies in `[0, 2^32)` afterwards, and the
    /// highest, which has the sign, within `±2^31`.
    fn carry(&mut self) {
        if self.low > self.high {
            return;
        }
        let mut index = self.low;
        while index < N - 1 {
            let digit = self.digits[index];
            let settled = index >= self.high && digit.unsigned_abs() < 1 << (DIGIT_BITS - 1);
            if settled {
                break;
            }
            self.digits[index] = digit & DIGIT_MASK;
            self.digits[index + 1] += digit >> DIGIT_BITS;
            index += 1;
        }
        self.high = self.high.max(index);
        self.pending = 1;
    }

    /// The integer in units of 2^-1074, rounded to the nearest float, a tie to the even one.
    pub(crate) fn value(&self) -> f64 {
        let mut sum = self.clone();
        sum.carry();
        let Some(top) = sum.highest() else { return 0.0 };
        let negative = sum.digits[top] < 0;
        if negative {
            sum.negate();
        }
        let Some(top) = sum.highest() else { return 0.0 };
        let magnitude = sum.round(top);
        if negative { -magnitude } else { magnitude }
    }

    /// The integer without carries, in its one form.
    pub(crate) fn magnitude(&self) -> Magnitude {
        let mut sum = self.clone();
        sum.carry();
        let negative = sum.highest().is_some_and(|top| sum.digits[top] < 0);
        if negative {
            sum.negate();
        }
        let Some(top) = sum.highest() else {
            return Magnitude { negative: false, low: 0, digits: Vec::new() };
        };
        let mut low = sum.low;
        while low < top && sum.digits[low] == 0 {
            low += 1;
        }
        let digits = sum.digits[low..=top].iter().map(|digit| *digit as u32).collect();
        Magnitude { negative, low, digits }
    }

    fn negate(&mut self) {
        for digit in &mut self.digits[self.low..=self.high] {
            *digit = -*digit;
        }
        self.carry();
    }

    /// The index of the highest digit that is not zero.
    fn highest(&self) -> Option<usize> {
        (self.low..=self.high).rev().find(|index| self.digits[*index] != 0)
    }

    /// Rounds a positive sum without carries whose highest digit is at `top`.
    fn round(&self, top: usize) -> f64 {
        let digit = |back: usize| match top.checked_sub(back) {
            Some(index) => self.digits[index].cast_unsigned(),
            None => 0,
        };
        let width = (u64::BITS - digit(0).leading_zeros()) as usize;
        let bits = DIGIT_BITS * top + width;
        if bits <= 53 {
            // An integer below 2^53 times the smallest subnormal: its bit pattern is that integer.
            let pattern = if top == 0 { digit(0) } else { digit(0) << DIGIT_BITS | digit(1) };
            return f64::from_bits(pattern);
        }
        let head = u128::from(digit(0)) << (2 * DIGIT_BITS)
            | u128::from(digit(1)) << DIGIT_BITS
            | u128::from(digit(2));
        let dropped = 2 * DIGIT_BITS + width - 53;
        let kept = (head >> dropped) as u64;
        let rest = head & ((1 << dropped) - 1);
        let half = 1 << (dropped - 1);
        let below = top.saturating_sub(2);
        let sticky = self.low < below && self.digits[self.low..below].iter().any(|d| *d != 0);
        let up = rest > half || (rest == half && (sticky || kept & 1 == 1));
        // The hidden bit of `kept` adds one to the exponent field, a carry out of it another one.
        let pattern = ((bits as u64 - 53) << 52) + kept + u64::from(up);
        f64::from_bits(pattern.min(f64::INFINITY.to_bits()))
    }

    /// Appends the integer as bytes: its sign, the place of its lowest digit, the number of its
    /// digits, a byte each, then the digits, little-endian. Equal integers have equal bytes.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        let Magnitude { negative, low, digits } = self.magnitude();
        out.extend([u8::from(negative), low as u8, digits.len() as u8]);
        digits.iter().for_each(|digit| out.extend(digit.to_le_bytes()));
    }

    /// Takes what [`write`](Self::write) appended from the front.
    pub(crate) fn read(bytes: &mut &[u8]) -> Result<Self> {
        let cut = "a sum that is cut off";
        let ([negative, low, count], rest) =
            bytes.split_first_chunk::<3>().context(ErrorKind::Corrupt, cut)?;
        let (low, count) = (usize::from(*low), usize::from(*count));
        let (digits, rest) = rest.split_at_checked(4 * count).context(ErrorKind::Corrupt, cut)?;
        // Four digits stay free for the carries of what is added later.
        if *negative > 1 || low + count > N - 4 {
            return Err(Error::corrupt(format!("a sum of {count} digits from {low} on")));
        }
        *bytes = rest;
        let mut sum = Self::ZERO;
        if count == 0 {
            return Ok(sum);
        }
        let sign = if *negative == 1 { -1 } else { 1 };
        for (place, digit) in digits.as_chunks::<4>().0.iter().enumerate() {
            sum.digits[low + place] = sign * i64::from(u32::from_le_bytes(*digit));
        }
        (sum.low, sum.high, sum.pending) = (low, low + count - 1, 1);
        Ok(sum)
    }
}
