//! Values of one entity as small integers, and how many of each are in a window.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{Float64Type, Int64Type};
use kaizen_core::{Error, ErrorKind, Result};
use kaizen_stats::{HyperLogLog, LogBuckets, RegisterCounts, rank_of};

/// The code of a row without a value.
pub(super) const NONE: u32 = u32::MAX;

/// Rows as the ranks of their values among the different ones.
#[derive(Debug, Default)]
pub(super) struct Codes {
    /// The rank of each row's value, or [`NONE`].
    pub(super) of: Vec<u32>,
    /// The values, ascending.
    pub(super) values: Vec<u64>,
    sorted: Vec<(u64, u32)>,
}

impl Codes {
    /// Ranks these values, one per row.
    pub(super) fn rank(&mut self, words: impl Iterator<Item = Option<u64>>) {
        self.of.clear();
        self.values.clear();
        self.sorted.clear();
        for (row, word) in words.enumerate() {
            self.of.push(NONE);
            self.sorted.extend(word.map(|word| (word, row as u32)));
        }
        self.sorted.sort_unstable();
        for (word, row) in &self.sorted {
            if self.values.last() != Some(word) {
                self.values.push(*word);
            }
            self.of[*row as usize] = self.values.len() as u32 - 1;
        }
    }
}

/// A column as words that are equal where its values are. Numbers and flags are told by their
/// bits, where negative zero is zero; text by the order in which it first comes.
#[derive(Debug)]
pub(super) enum Words<'a> {
    Flags(&'a arrow::array::BooleanArray),
    Integers(&'a arrow::array::Int64Array),
    Floats(&'a arrow::array::Float64Array),
    Text(&'a arrow::array::StringArray, hashbrown::HashMap<&'a str, u64>),
}

impl<'a> Words<'a> {
    /// The words of a slot.
    pub(super) fn of(values: &'a ArrayRef) -> Result<Self> {
        let values = values.as_ref();
        if let Some(flags) = values.as_boolean_opt() {
            Ok(Self::Flags(flags))
        } else if let Some(integers) = values.as_primitive_opt::<Int64Type>() {
            Ok(Self::Integers(integers))
        } else if let Some(floats) = values.as_primitive_opt::<Float64Type>() {
            Ok(Self::Floats(floats))
        } else if let Some(text) = values.as_string_opt::<i32>() {
            Ok(Self::Text(text, hashbrown::HashMap::new()))
        } else {
            let found = values.data_type();
            Err(Error::new(ErrorKind::Unsupported, format!("a window of {found}")))
        }
    }

    /// The floats, if that is what they are.
    pub(super) fn floats(&self) -> Option<&'a arrow::array::Float64Array> {
        if let Self::Floats(floats) = self { Some(floats) } else { None }
    }

    /// Whether a row has a value that counts.
    pub(super) fn has(&self, row: usize) -> bool {
        match self {
            Self::Flags(flags) => flags.is_valid(row),
            Self::Integers(integers) => integers.is_valid(row),
            Self::Floats(floats) => floats.is_valid(row) && !floats.value(row).is_nan(),
            Self::Text(text, _) => text.is_valid(row),
        }
    }

    /// The word of a row that has a value.
    pub(super) fn word(&mut self, row: usize) -> u64 {
        match self {
            Self::Flags(flags) => u64::from(flags.value(row)),
            Self::Integers(integers) => integers.value(row).cast_unsigned(),
            Self::Floats(floats) => (floats.value(row) + 0.0).to_bits(),
            Self::Text(text, known) => {
                let next = known.len() as u64;
                *known.entry(text.value(row)).or_insert(next)
            }
        }
    }

    /// The cell of the sketch of different values to which a row's value belongs.
    pub(super) fn cell(&mut self, row: usize) -> u32 {
        match self {
            Self::Text(text, _) => HyperLogLog::cell_of_bytes(text.value(row).as_bytes()),
            _ => HyperLogLog::cell_of_word(self.word(row)),
        }
    }

    /// Forgets text that it has numbered.
    pub(super) fn clear(&mut self) {
        if let Self::Text(_, known) = self {
            known.clear();
        }
    }
}

/// A bucket of numbers as a word that ascends with it.
pub(super) fn bucket_word(number: f64) -> Option<u64> {
    LogBuckets::bucket(number).map(|bucket| (i64::from(bucket) + (1 << 32)).cast_unsigned())
}

fn bucket_of(word: u64) -> i32 {
    (word.cast_signed() - (1 << 32)) as i32
}

/// How many different values are in a window.
#[derive(Debug, Default)]
pub(super) struct Distinct {
    counts: Vec<u32>,
    pub(super) different: i64,
}

impl Distinct {
    /// An empty window over so many values.
    pub(super) fn reset(&mut self, values: usize) {
        self.counts.clear();
        self.counts.resize(values, 0);
        self.different = 0;
    }

    pub(super) fn enter(&mut self, code: u32) {
        let count = &mut self.counts[code as usize];
        *count += 1;
        self.different += i64::from(*count == 1);
    }

    pub(super) fn leave(&mut self, code: u32) {
        let count = &mut self.counts[code as usize];
        *count -= 1;
        self.different -= i64::from(*count == 0);
    }
}

/// The sketch of different values of a window: the registers that [`HyperLogLog`] would have.
///
/// The values are its cells, ascending, so that those of one register are neighbours.
#[derive(Debug, Default)]
pub(super) struct Registers {
    counts: Vec<u32>,
    registers: RegisterCounts,
}

impl Registers {
    /// An empty window over so many cells.
    pub(super) fn reset(&mut self, cells: usize) {
        self.counts.clear();
        self.counts.resize(cells, 0);
        self.registers = RegisterCounts::default();
    }

    pub(super) fn enter(&mut self, code: u32, cells: &[u64]) {
        self.counts[code as usize] += 1;
        if self.counts[code as usize] == 1 && !self.is_higher_there(code, cells) {
            let rank = (cells[code as usize] & 63) as u8;
            self.registers.replace(self.lower(code, cells), rank);
        }
    }

    pub(super) fn leave(&mut self, code: u32, cells: &[u64]) {
        self.counts[code as usize] -= 1;
        if self.counts[code as usize] == 0 && !self.is_higher_there(code, cells) {
            let rank = (cells[code as usize] & 63) as u8;
            self.registers.replace(rank, self.lower(code, cells));
        }
    }

    pub(super) fn estimate(&self) -> f64 {
        self.registers.estimate()
    }

    fn is_higher_there(&self, code: u32, cells: &[u64]) -> bool {
        let register = cells[code as usize] >> 6;
        let above = (code as usize + 1..cells.len()).take_while(|at| cells[*at] >> 6 == register);
        above.into_iter().any(|at| self.counts[at] > 0)
    }

    /// What the register holds without this cell and those above.
    fn lower(&self, code: u32, cells: &[u64]) -> u8 {
        let register = cells[code as usize] >> 6;
        let below = (0..code as usize).rev().take_while(|at| cells[*at] >> 6 == register);
        let found = below.into_iter().find(|at| self.counts[*at] > 0);
        found.map_or(0, |at| (cells[at] & 63) as u8)
    }
}

/// The buckets of a window's numbers as a Fenwick tree, for quantiles.
#[derive(Debug, Default)]
pub(super) struct Buckets {
    tree: Vec<u32>,
    total: u64,
}

impl Buckets {
    /// An empty window over so many buckets.
    pub(super) fn reset(&mut self, buckets: usize) {
        self.tree.clear();
        self.tree.resize(buckets + 1, 0);
        self.total = 0;
    }

    pub(super) fn enter(&mut self, code: u32) {
        self.total += 1;
        self.change(code, |count| count + 1);
    }

    pub(super) fn leave(&mut self, code: u32) {
        self.total -= 1;
        self.change(code, |count| count - 1);
    }

    fn change(&mut self, code: u32, to: impl Fn(u32) -> u32) {
        let mut at = code as usize + 1;
        while at < self.tree.len() {
            self.tree[at] = to(self.tree[at]);
            at += at & at.wrapping_neg();
        }
    }

    /// The quantile, as [`LogBuckets::quantile`] would tell it.
    pub(super) fn quantile(&self, per_mille: u16, buckets: &[u64]) -> Option<f64> {
        let mut rank = rank_of(self.total, per_mille)?;
        let mut at = 0;
        let mut step = (self.tree.len() - 1).checked_ilog2().map_or(0, |bits| 1 << bits);
        while step > 0 {
            if let Some(count) = self.tree.get(at + step).filter(|count| u64::from(**count) <= rank)
            {
                rank -= u64::from(*count);
                at += step;
            }
            step /= 2;
        }
        buckets.get(at).map(|bucket| LogBuckets::middle(bucket_of(*bucket)))
    }
}
