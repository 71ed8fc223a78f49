//! What the columns of a table hold, in a few numbers.

use std::collections::BTreeSet;

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::datatypes::DataType as ArrowType;
use kaizen_core::{Context, ErrorKind, Result, Timestamp, serde_int};
use kaizen_stats::ExactSum;
use kaizen_table::{instants, numbers, texts};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// Of more different texts than this, only that they are more is said.
const MAX_DISTINCT: usize = 100_000;

/// What a column holds. Equal columns have equal summaries.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ColumnSummary {
    /// The column's name.
    pub name: String,
    /// Its Arrow type, as text.
    pub data_type: String,
    /// How many rows it has.
    #[serde(with = "serde_int")]
    pub rows: u64,
    /// In how many of them its value is missing; NaN is not.
    #[serde(with = "serde_int")]
    pub missing: u64,
    /// Of text: how many different ones there are; of more than 100,000 it is not told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distinct: Option<u32>,
    /// Of numbers: the least that is finite.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    /// Of numbers: the greatest that is finite.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
    /// Of numbers and booleans: the mean of those that are finite, their sum rounded once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mean: Option<f64>,
    /// Of instants: the earliest, in whole microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub earliest: Option<Timestamp>,
    /// Of instants: the latest, in whole microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latest: Option<Timestamp>,
}

/// A summary of each column, in their order.
pub(crate) fn summarise(rows: &RecordBatch) -> Result<Vec<ColumnSummary>> {
    let schema = rows.schema();
    let columns = schema.fields().par_iter().zip(rows.columns().par_iter());
    columns.map(|(field, values)| summary(field.name(), values)).collect()
}

fn summary(name: &str, values: &ArrayRef) -> Result<ColumnSummary> {
    let mut summary = ColumnSummary {
        name: name.to_owned(),
        data_type: values.data_type().to_string(),
        rows: values.len() as u64,
        missing: values.logical_null_count() as u64,
        distinct: None,
        min: None,
        max: None,
        mean: None,
        earliest: None,
        latest: None,
    };
    let only = RecordBatch::try_from_iter([(name, values.clone())])
        .context(ErrorKind::Internal, "a column alone")?;
    match values.data_type() {
        found if found.is_numeric() || *found == ArrowType::Boolean => {
            let numbers = numbers(&only, name)?;
            let (mut sum, mut count) = (ExactSum::default(), 0.0);
            for value in numbers.iter().flatten().filter(|value| value.is_finite()) {
                sum.add(value);
                count += 1.0;
                summary.min = Some(summary.min.map_or(value, |min| min.min(value)));
                summary.max = Some(summary.max.map_or(value, |max| max.max(value)));
            }
            summary.mean = Some(sum.value() / count).filter(|mean| mean.is_finite());
        }
        ArrowType::Utf8 | ArrowType::LargeUtf8 | ArrowType::Utf8View => {
            let texts = texts(&only, name)?;
            let mut distinct = BTreeSet::new();
            for text in texts.iter().flatten() {
                distinct.insert(text);
                if distinct.len() > MAX_DISTINCT {
                    break;
                }
            }
            summary.distinct =
                Some(distinct.len() as u32).filter(|_| distinct.len() <= MAX_DISTINCT);
        }
        ArrowType::Timestamp(_, Some(_)) => {
            let instants = instants(&only, name)?;
            summary.earliest = instants.iter().flatten().min().map(Timestamp::from_nanos);
            summary.latest = instants.iter().flatten().max().map(Timestamp::from_nanos);
        }
        _ => {}
    }
    Ok(summary)
}
