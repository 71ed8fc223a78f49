//! The last guard against leakage: a feature that knows the answer.

use std::collections::BTreeMap;

use arrow::array::{Float64Array, RecordBatch, StringArray, UInt32Array};
use arrow::compute::take_record_batch;
use kaizen_core::{Context, DataType, Error, ErrorKind, Field, Result};
use kaizen_stats::metric;
use kaizen_table::{numbers, texts};
use rayon::prelude::*;

/// A feature that alone ranks the label this well, or this badly, was made from it.
const SUSPICIOUS_AUC: f64 = 0.99;

/// With fewer rows of either class, chance alone can rank them.
const ROWS_OF_EACH_CLASS: usize = 100;

/// Of more rows than this, evenly spaced ones are looked at: what tells the label tells it there.
const MAX_ROWS: usize = 50_000;

/// Refuses rows of which one feature separates the label almost perfectly, alone or by being
/// missing. No honest feature does; one that does holds what was not yet known.
pub(crate) fn check(rows: &RecordBatch, features: &[Field], labels: &[bool]) -> Result<()> {
    let step = rows.num_rows().div_ceil(MAX_ROWS).max(1);
    let sample: UInt32Array = (0..rows.num_rows() as u32).step_by(step).collect();
    let rows = &take_record_batch(rows, &sample).context(ErrorKind::Internal, "a sample")?;
    let labels = &labels.iter().copied().step_by(step).collect::<Vec<_>>()[..];
    let checked: Vec<Result<()>> =
        features.par_iter().map(|feature| check_one(rows, feature, labels)).collect();
    checked.into_iter().collect()
}

fn check_one(rows: &RecordBatch, feature: &Field, labels: &[bool]) -> Result<()> {
    let name = &feature.name;
    let present: Vec<bool> = match feature.data_type {
        DataType::Utf8 => texts(rows, name)?.iter().map(|text| text.is_some()).collect(),
        _ => numbers(rows, name)?.iter().map(|x| x.is_some_and(|x| !x.is_nan())).collect(),
    };
    let missing: Vec<f64> = present.iter().map(|present| f64::from(u8::from(!present))).collect();
    if let Some(auc) = suspicious(&missing, labels)? {
        return Err(Error::refused(format!(
            "feature `{name}`: whether it is missing tells the label (AUC {auc:.4}); it holds \
             what was not yet known"
        )));
    }
    let (scores, labels) = match feature.data_type {
        DataType::Utf8 => text_scores(&texts(rows, name)?, labels),
        _ => number_scores(&numbers(rows, name)?, &present, labels),
    };
    if let Some(auc) = suspicious(&scores, &labels)? {
        return Err(Error::refused(format!(
            "feature `{name}`: it alone tells the label (AUC {auc:.4}); it holds what was not yet \
             known"
        )));
    }
    Ok(())
}

fn suspicious(scores: &[f64], labels: &[bool]) -> Result<Option<f64>> {
    let positives = labels.iter().filter(|label| **label).count();
    if positives < ROWS_OF_EACH_CLASS || labels.len() - positives < ROWS_OF_EACH_CLASS {
        return Ok(None);
    }
    let auc = metric::auc(scores, labels)?;
    Ok((auc.max(1.0 - auc) >= SUSPICIOUS_AUC).then_some(auc))
}

/// The numbers that are there; infinities rank as the outermost finite ones.
fn number_scores(
    values: &Float64Array,
    present: &[bool],
    labels: &[bool],
) -> (Vec<f64>, Vec<bool>) {
    let rows = values.values().iter().zip(labels).zip(present);
    rows.filter(|(_, present)| **present)
        .map(|((value, label), _)| (value.clamp(f64::MIN, f64::MAX), *label))
        .unzip()
}

/// Scores each text of an even row by the rate of the label among the odd rows with that text, and
/// the other way round, so that no row scores itself: an identifier that stands once would else
/// look like a perfect feature. Rows whose text is missing, or not in the other half, are left out.
fn text_scores(values: &StringArray, labels: &[bool]) -> (Vec<f64>, Vec<bool>) {
    let mut rates: [BTreeMap<&str, (f64, f64)>; 2] = Default::default();
    for (row, (text, label)) in values.iter().zip(labels).enumerate() {
        if let Some(text) = text {
            let (count, sum) = rates[row % 2].entry(text).or_default();
            *count += 1.0;
            *sum += f64::from(u8::from(*label));
        }
    }
    let score = |(row, (text, label)): (usize, (Option<&str>, &bool))| {
        let (count, sum) = rates[(row + 1) % 2].get(text?)?;
        Some((sum / count, *label))
    };
    values.iter().zip(labels).enumerate().filter_map(score).unzip()
}
