//! Takes the values of the rows that answer.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, PrimitiveArray, UInt32Array};
use arrow::buffer::{BooleanBuffer, NullBuffer};
use arrow::compute::take;
use arrow::datatypes::{Float64Type, Int64Type};
use kaizen_core::{Context, ErrorKind, Result};
use rayon::prelude::*;

use super::timeline::{Sight, Status, Timelines};

/// So many values at once are worth a thread.
const VALUES_PER_TASK: usize = 16_384;

/// The rows that answer, by question.
#[derive(Debug)]
pub(super) struct Answers {
    rows: Vec<u32>,
    /// Which questions have an answer; `None` if all have.
    found: Option<NullBuffer>,
}

impl Answers {
    /// The rows of the source at the positions that these sights name.
    pub(super) fn of(sights: &[Sight], timelines: &Timelines) -> Self {
        let found = |index: usize| sights[index].status == Status::Found;
        let found = NullBuffer::new(BooleanBuffer::collect_bool(sights.len(), found));
        let row = |sight: &Sight| sight.answer().map_or(0, |position| timelines.rows[position]);
        let rows = sights.par_iter().with_min_len(VALUES_PER_TASK).map(row).collect();
        Self { rows, found: Some(found).filter(|found| found.null_count() > 0) }
    }

    /// The values of these rows, missing where a question has no answer. `values` has an element
    /// per row of the source.
    pub(super) fn gather(&self, values: &ArrayRef) -> Result<ArrayRef> {
        if values.is_empty() || self.rows.len() < VALUES_PER_TASK {
            return self.take(values);
        }
        if let Some(values) = values.as_primitive_opt::<Float64Type>() {
            return Ok(self.primitive(values));
        }
        if let Some(values) = values.as_primitive_opt::<Int64Type>() {
            return Ok(self.primitive(values));
        }
        self.take(values)
    }

    fn take(&self, values: &ArrayRef) -> Result<ArrayRef> {
        let rows = UInt32Array::new(self.rows.clone().into(), self.found.clone());
        take(values, &rows, None).context(ErrorKind::Internal, "values of rows")
    }

    fn primitive<T>(&self, values: &PrimitiveArray<T>) -> ArrayRef
    where
        T: ArrowPrimitiveType,
    {
        let plain = values.values();
        // A question without an answer reads row 0.
        let rows = self.rows.par_iter().with_min_len(VALUES_PER_TASK);
        let gathered: Vec<T::Native> = rows.map(|row| plain[*row as usize]).collect();
        let nulls = match values.nulls().filter(|valid| valid.null_count() > 0) {
            None => self.found.clone(),
            Some(valid) => {
                let valid = |index: usize| {
                    self.found.as_ref().is_none_or(|found| found.is_valid(index))
                        && valid.is_valid(self.rows[index] as usize)
                };
                Some(NullBuffer::new(BooleanBuffer::collect_bool(self.rows.len(), valid)))
            }
        };
        Arc::new(PrimitiveArray::<T>::new(gathered.into(), nulls))
    }
}
