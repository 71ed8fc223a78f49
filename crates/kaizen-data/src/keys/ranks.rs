//! Keys ranked to integers: by subtraction, by a hash of a word, or by a hash of bytes.

use std::hash::BuildHasher;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::DataType as ArrowType;
use hashbrown::{DefaultHashBuilder, HashTable};
use rayon::prelude::*;

use super::{Entities, Keys};

/// The number that no entity has.
pub(crate) const NOBODY: u32 = u32::MAX;

/// So many rows at once are worth a thread.
const ROWS_PER_TASK: usize = 8_192;

/// The keys of the rows of one table, in the form that is cheapest to number.
#[derive(Debug)]
pub(crate) enum Cells {
    /// One column of at most 64 bits: equal where the keys are.
    Words { words: ScalarBuffer<i64>, valid: Option<NullBuffer> },
    /// One column of text or bytes.
    Bytes { ends: OffsetBuffer<i32>, bytes: Buffer, valid: Option<NullBuffer> },
    /// Anything else.
    Rows(Keys),
}

impl Cells {
    /// The cells of a single column, if it has a form that is cheaper than encoded rows.
    pub(super) fn of(values: &ArrayRef) -> Option<Self> {
        let valid = values.logical_nulls().filter(|valid| valid.null_count() > 0);
        if let Some(text) = values.as_string_opt::<i32>() {
            let (ends, bytes) = (text.offsets().clone(), text.values().clone());
            return Some(Self::Bytes { ends, bytes, valid });
        }
        if let Some(binary) = values.as_binary_opt::<i32>() {
            let (ends, bytes) = (binary.offsets().clone(), binary.values().clone());
            return Some(Self::Bytes { ends, bytes, valid });
        }
        let words = match (values.data_type(), values.data_type().primitive_width()) {
            (ArrowType::Boolean, _) => {
                values.as_boolean().values().iter().map(i64::from).collect::<Vec<_>>().into()
            }
            (_, Some(8)) => {
                let data = values.to_data();
                ScalarBuffer::new(data.buffers().first()?.clone(), data.offset(), data.len())
            }
            (_, Some(4)) => {
                let data = values.to_data();
                let narrow: ScalarBuffer<i32> =
                    ScalarBuffer::new(data.buffers().first()?.clone(), data.offset(), data.len());
                narrow.iter().map(|word| i64::from(*word)).collect::<Vec<_>>().into()
            }
            _ => return None,
        };
        Some(Self::Words { words, valid })
    }

    fn len(&self) -> usize {
        match self {
            Self::Words { words, .. } => words.len(),
            Self::Bytes { ends, .. } => ends.len() - 1,
            Self::Rows(keys) => keys.rows.num_rows(),
        }
    }

    fn bytes(&self, row: usize) -> Option<&[u8]> {
        match self {
            Self::Words { .. } => None,
            Self::Bytes { ends, bytes, valid } => {
                let range = ends[row] as usize..ends[row + 1] as usize;
                is_valid(valid.as_ref(), row).then(|| &bytes[range])
            }
            Self::Rows(keys) => keys.get(row),
        }
    }
}

fn is_valid(valid: Option<&NullBuffer>, row: usize) -> bool {
    valid.is_none_or(|valid| valid.is_valid(row))
}

/// The entities of one table by number.
#[derive(Debug)]
pub(crate) enum Ranks {
    /// Whole numbers that lie close together: entity `e` has the key `low + e`. Some may have no
    /// rows.
    Dense { low: i64, count: u32 },
    /// Words, numbered in the order in which they first appear.
    Words(Words),
    /// Bytes, numbered in the order in which they first appear.
    Bytes(Entities),
}

impl Ranks {
    /// Numbers the entities of these rows, which are fewer than [`NOBODY`]; a row with a missing
    /// key has [`NOBODY`].
    pub(crate) fn of(cells: &Cells) -> (Self, Vec<u32>) {
        let Cells::Words { words, valid } = cells else {
            let mut entities = Entities::default();
            let number = |row| cells.bytes(row).map_or(NOBODY, |key| entities.number_of(key));
            let numbers = (0..cells.len()).map(number).collect();
            return (Self::Bytes(entities), numbers);
        };
        let valid = valid.as_ref();
        if let Some((low, count)) = dense(words, valid) {
            let number = |row: usize| match is_valid(valid, row) {
                true => words[row].wrapping_sub(low) as u32,
                false => NOBODY,
            };
            let rows = (0..words.len()).into_par_iter().with_min_len(ROWS_PER_TASK);
            return (Self::Dense { low, count }, rows.map(number).collect());
        }
        let mut ranks = Words::default();
        let number = |row: usize| match is_valid(valid, row) {
            true => ranks.number_of(words[row]),
            false => NOBODY,
        };
        let numbers = (0..words.len()).map(number).collect();
        (Self::Words(ranks), numbers)
    }

    /// The number of each row's entity, if it is known.
    pub(crate) fn find(&self, cells: &Cells) -> Vec<Option<u32>> {
        let find = |row: usize| match (self, cells) {
            (Self::Dense { low, count }, Cells::Words { words, valid }) => {
                let place = words[row].wrapping_sub(*low) as u64;
                let known = place < u64::from(*count);
                (known && is_valid(valid.as_ref(), row)).then_some(place as u32)
            }
            (Self::Words(ranks), Cells::Words { words, valid }) => {
                is_valid(valid.as_ref(), row).then(|| ranks.find_one(words[row])).flatten()
            }
            (Self::Bytes(entities), _) => entities.find_one(cells.bytes(row)?),
            _ => None,
        };
        let rows = (0..cells.len()).into_par_iter().with_min_len(ROWS_PER_TASK);
        rows.map(find).collect()
    }

    /// One more than the greatest number.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Dense { count, .. } => *count as usize,
            Self::Words(ranks) => ranks.words.len(),
            Self::Bytes(entities) => entities.len(),
        }
    }
}

/// Words by number.
#[derive(Debug, Default)]
pub(crate) struct Words {
    numbers: HashTable<(i64, u32)>,
    hasher: DefaultHashBuilder,
    words: Vec<i64>,
}

impl Words {
    /// These words, numbered as they stand; `None` if one stands twice.
    pub(crate) fn distinct(words: &[i64]) -> Option<Self> {
        let mut ranks = Self::default();
        let fresh = |(place, word): (usize, &i64)| ranks.number_of(*word) as usize == place;
        words.iter().enumerate().all(fresh).then_some(ranks)
    }

    /// The words, in the order of their numbers.
    pub(crate) fn words(&self) -> &[i64] {
        &self.words
    }

    fn number_of(&mut self, word: i64) -> u32 {
        let Self { numbers, hasher, words } = self;
        let hash = hasher.hash_one(word);
        if let Some((_, number)) = numbers.find(hash, |(known, _)| *known == word) {
            return *number;
        }
        let next = words.len() as u32;
        words.push(word);
        numbers.insert_unique(hash, (word, next), |(known, _)| hasher.hash_one(known));
        next
    }

    fn find_one(&self, word: i64) -> Option<u32> {
        let hash = self.hasher.hash_one(word);
        let found = self.numbers.find(hash, |(known, _)| *known == word);
        found.map(|(_, number)| *number)
    }
}

/// The least word and how many numbers there are from it to the greatest, if a table over these is
/// not much longer than the rows.
fn dense(words: &[i64], valid: Option<&NullBuffer>) -> Option<(i64, u32)> {
    let (low, high) = match valid {
        None => words
            .par_chunks(ROWS_PER_TASK)
            .map(|chunk| extent(chunk.iter().copied()))
            .reduce(|| (i64::MAX, i64::MIN), |a, b| (a.0.min(b.0), a.1.max(b.1))),
        Some(valid) => extent(valid.valid_indices().map(|row| words[row])),
    };
    if low > high {
        return Some((0, 0));
    }
    let most = (words.len() as u64 * 2 + 1_024).min(u64::from(NOBODY) - 1);
    let count = high.abs_diff(low).checked_add(1).filter(|count| *count <= most)?;
    Some((low, count as u32))
}

fn extent(words: impl Iterator<Item = i64>) -> (i64, i64) {
    words.fold((i64::MAX, i64::MIN), |(low, high), word| (low.min(word), high.max(word)))
}
