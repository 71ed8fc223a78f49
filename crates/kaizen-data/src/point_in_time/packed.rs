//! Values side by side, in the order of the timelines.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, PrimitiveArray,
};
use arrow::buffer::{BooleanBuffer, Buffer, NullBuffer, ScalarBuffer};
use arrow::datatypes::{ArrowPrimitiveType, DataType as ArrowType, Float64Type, Int64Type};
use rayon::prelude::*;

use super::timeline::{Sight, Timelines};

/// So many questions are answered at once, a column after the other: a multiple of 64, so that no
/// two tasks share a word of bits.
const QUESTIONS_PER_TASK: usize = 4_096;

/// At least so many rows are worth a thread.
const ROWS_PER_TASK: usize = 8_192;

/// Where a slot lies in a row of [`Packed`].
#[derive(Clone, Copy, Debug)]
enum Place {
    /// In this word.
    Number { word: usize, valid: Option<usize>, float: bool },
    /// In this bit.
    Flag { bit: usize, valid: Option<usize> },
    /// Text is not packed.
    Elsewhere,
}

/// The values of numbers and flags, row by row: those of one row are neighbours, and rows lie in the
/// order of the timelines. An answer of many features then comes from one place in memory.
#[derive(Clone, Debug)]
pub(crate) struct Packed {
    places: Vec<Place>,
    /// How many words of a row are numbers. Bits follow: which values are there, and flags.
    numbers: usize,
    /// How many words a row has.
    width: usize,
    /// The rows by position; after them one for questions that have no answer.
    words: Vec<u64>,
}

impl Packed {
    /// How many bytes the values of so many rows take.
    pub(super) fn bytes(values: &[ArrayRef], rows: usize) -> u64 {
        (rows as u64 + 1) * 8 * places(values).2 as u64
    }

    /// Packs these slots, which have an element per row of the source.
    pub(super) fn new(values: &[ArrayRef], timelines: &Timelines) -> Self {
        let (places, numbers, width) = places(values);
        let rows = timelines.rows.len();
        let mut words = vec![0; (rows + 1) * width];
        if width > 0 {
            let fill = |row: &mut [u64], source: usize| {
                for (place, values) in places.iter().zip(values) {
                    put(row, numbers, *place, values, source);
                }
            };
            let (all, unanswered) = words.split_at_mut(rows * width);
            let tasks = all.par_chunks_mut(width * ROWS_PER_TASK);
            tasks.zip(timelines.rows.par_chunks(ROWS_PER_TASK)).for_each(|(words, sources)| {
                for (row, source) in words.chunks_exact_mut(width).zip(sources) {
                    fill(row, *source as usize);
                }
            });
            // What lies beneath a missing value is that of row 0, as where values are not packed;
            // flags have nothing there.
            if values.first().is_some_and(|values| !values.is_empty()) {
                fill(unanswered, 0);
                unanswered[numbers..].fill(0);
            }
        }
        Self { places, numbers, width, words }
    }

    /// The values of the rows that answer, by slot; `None` for slots that are not packed.
    pub(super) fn gather(&self, sights: &[Sight]) -> Vec<Option<ArrayRef>> {
        if self.width == 0 {
            return vec![None; self.places.len()];
        }
        let questions = sights.len();
        let mut columns: Vec<Vec<u64>> = (0..self.numbers).map(|_| vec![0; questions]).collect();
        // Bits by the place of the bit; the last column says which questions have an answer.
        let bits = self.bits();
        let word_count = questions.div_ceil(64);
        let mut masks: Vec<Vec<u64>> = (0..=bits).map(|_| vec![0; word_count]).collect();
        let mut tasks: Vec<Task<'_>> = sights
            .chunks(QUESTIONS_PER_TASK)
            .map(|sights| Task { sights, columns: Vec::new(), masks: Vec::new() })
            .collect();
        for column in &mut columns {
            let chunks = column.chunks_mut(QUESTIONS_PER_TASK);
            tasks.iter_mut().zip(chunks).for_each(|(task, chunk)| task.columns.push(chunk));
        }
        for mask in &mut masks {
            let chunks = mask.chunks_mut(QUESTIONS_PER_TASK / 64);
            tasks.iter_mut().zip(chunks).for_each(|(task, chunk)| task.masks.push(chunk));
        }
        match tasks.len() {
            0 | 1 => tasks.into_iter().for_each(|task| self.answer(task)),
            _ => tasks.into_par_iter().for_each(|task| self.answer(task)),
        }
        let mask = |words: Vec<u64>| BooleanBuffer::new(Buffer::from_vec(words), 0, questions);
        let masks: Vec<BooleanBuffer> = masks.into_iter().map(mask).collect();
        let found = masks.last().map(|found| NullBuffer::new(found.clone()));
        let found = found.filter(|found| found.null_count() > 0);
        let nulls = |valid: Option<usize>| match valid {
            Some(bit) => Some(NullBuffer::new(masks[bit].clone())),
            None => found.clone(),
        };
        let mut columns = columns.into_iter();
        let array = |place: &Place| match *place {
            Place::Elsewhere => None,
            Place::Flag { bit, valid } => {
                let flags = BooleanArray::new(masks[bit].clone(), nulls(valid));
                Some(Arc::new(flags) as ArrayRef)
            }
            Place::Number { valid, float, .. } => {
                // Numbers have their words in the order of their slots.
                let words = Buffer::from_vec(columns.next()?);
                Some(match float {
                    true => number::<Float64Type>(words, questions, nulls(valid)),
                    false => number::<Int64Type>(words, questions, nulls(valid)),
                })
            }
        };
        self.places.iter().map(array).collect()
    }

    fn bits(&self) -> usize {
        let bits = |place: &Place| match place {
            Place::Number { valid, .. } => usize::from(valid.is_some()),
            Place::Flag { valid, .. } => 1 + usize::from(valid.is_some()),
            Place::Elsewhere => 0,
        };
        self.places.iter().map(bits).sum()
    }

    fn answer(&self, mut task: Task<'_>) {
        let unanswered = self.words.len() / self.width - 1;
        let bits = self.bits();
        let mut near = vec![0; 64 * self.width];
        for (block, sights) in task.sights.chunks(64).enumerate() {
            // All rows are brought near first, so that one need not wait for the memory of another.
            let mut answered = 0;
            for (index, (near, sight)) in near.chunks_exact_mut(self.width).zip(sights).enumerate()
            {
                let position = sight.answer();
                answered |= u64::from(position.is_some()) << index;
                let row = position.unwrap_or(unanswered);
                near.copy_from_slice(&self.words[row * self.width..][..self.width]);
            }
            let near = || near.chunks_exact(self.width);
            for (number, column) in task.columns.iter_mut().enumerate() {
                let column = column[block * 64..].iter_mut().take(sights.len());
                for (value, row) in column.zip(near()) {
                    *value = row[number];
                }
            }
            for (bit, mask) in task.masks[..bits].iter_mut().enumerate() {
                let (word, shift) = (self.numbers + bit / 64, bit % 64);
                let rows = near().take(sights.len()).enumerate();
                mask[block] =
                    rows.fold(0, |mask, (index, row)| mask | (row[word] >> shift & 1) << index);
            }
            task.masks[bits][block] = answered;
        }
    }
}

/// Neighbouring questions, and where their answers go.
struct Task<'a> {
    sights: &'a [Sight],
    /// By number, an element per question.
    columns: Vec<&'a mut [u64]>,
    /// By bit, 64 questions a word.
    masks: Vec<&'a mut [u64]>,
}

fn number<T: ArrowPrimitiveType>(
    words: Buffer,
    length: usize,
    nulls: Option<NullBuffer>,
) -> ArrayRef {
    Arc::new(PrimitiveArray::<T>::new(ScalarBuffer::new(words, 0, length), nulls))
}

/// Where each slot lies; how many words are numbers, and how many there are in all.
fn places(values: &[ArrayRef]) -> (Vec<Place>, usize, usize) {
    let (mut numbers, mut bits) = (0, 0);
    let next = |count: &mut usize| {
        *count += 1;
        *count - 1
    };
    let place = |values: &ArrayRef| match values.data_type() {
        ArrowType::Float64 | ArrowType::Int64 => {
            let valid = (values.null_count() > 0).then(|| next(&mut bits));
            let float = *values.data_type() == ArrowType::Float64;
            Place::Number { word: next(&mut numbers), valid, float }
        }
        ArrowType::Boolean => {
            let valid = (values.null_count() > 0).then(|| next(&mut bits));
            Place::Flag { bit: next(&mut bits), valid }
        }
        _ => Place::Elsewhere,
    };
    let places = values.iter().map(place).collect();
    (places, numbers, numbers + bits.div_ceil(64))
}

/// Puts one value of a row of the source where it lies when packed.
fn put(row: &mut [u64], numbers: usize, place: Place, values: &ArrayRef, source: usize) {
    let mut set = |bit: usize, on: bool| {
        row[numbers + bit / 64] |= u64::from(on) << (bit % 64);
    };
    if let Place::Number { valid: Some(bit), .. } | Place::Flag { valid: Some(bit), .. } = place {
        set(bit, values.is_valid(source));
    }
    match place {
        Place::Flag { bit, .. } => set(bit, values.as_boolean().value(source)),
        Place::Number { word, float: true, .. } => {
            let values: &Float64Array = values.as_primitive();
            row[word] = values.value(source).to_bits();
        }
        Place::Number { word, float: false, .. } => {
            let values: &Int64Array = values.as_primitive();
            row[word] = values.value(source).cast_unsigned();
        }
        Place::Elsewhere => {}
    }
}
