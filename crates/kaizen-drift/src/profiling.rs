//! Histograms of a table, block of time by block of time.

use std::collections::BTreeMap;

use arrow::array::RecordBatch;
use kaizen_core::record::{Bins, FeatureProfile, Profile};
use kaizen_core::{DataType, Digest, Error, Field, Result, TimeBlocks};
use kaizen_stats::histogram::quantile_edges;
use kaizen_table::{blocks, numbers, texts};

/// Bins of equal mass that a number is cut into.
const NUMBER_BINS: usize = 10;

/// At most this many texts get a bin of their own, the most frequent; the rest count as unseen.
const MAX_CATEGORIES: usize = 1_000;

/// Describes the features of a training set, block by block: the reference of a
/// [`Monitor`](crate::Monitor).
///
/// `time` names the column of instants that puts a row into its block of `unit`. Numbers (and
/// booleans, as 0 and 1) are cut at their deciles; a number with at most ten distinct values gets
/// one bin for each, and one for what is beneath the smallest. Texts get one bin each.
///
/// # Errors
///
/// No rows or no features, a feature named twice, a missing column (named), a column of another
/// type.
pub fn profile(
    training_set: Digest,
    rows: &RecordBatch,
    features: &[Field],
    time: &str,
    unit: TimeBlocks,
) -> Result<Profile> {
    let block_of = blocks(rows, time, unit)?;
    if block_of.is_empty() || features.is_empty() {
        let (rows, features) = (rows.num_rows(), features.len());
        return Err(Error::invalid(format!("profile: {rows} rows with {features} features")));
    }
    let mut positions: BTreeMap<i64, usize> = BTreeMap::new();
    for block in block_of.values() {
        positions.insert(*block, 0);
    }
    positions.values_mut().enumerate().for_each(|(index, position)| *position = index);
    let rows_at: Vec<usize> = block_of.values().iter().map(|block| positions[block]).collect();

    let describe = |field: &Field| {
        let bins = bins_of(rows, field)?;
        let mut counts = vec![vec![0; bins.len()]; positions.len()];
        for (bin, block) in bin_of_rows(rows, &field.name, &bins)?.into_iter().zip(&rows_at) {
            counts[*block][bin] += 1;
        }
        Ok(FeatureProfile { name: field.name.clone(), bins, counts })
    };
    let mut names: Vec<_> = features.iter().map(|field| &field.name).collect();
    names.sort_unstable();
    if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(Error::invalid(format!("profile: feature `{}` stands twice", pair[0])));
    }
    let features = features.iter().map(describe).collect::<Result<_>>()?;
    Ok(Profile { training_set, unit, blocks: positions.into_keys().collect(), features })
}

/// How many rows fall into each bin of a feature: [`Bins::len`] counts.
pub fn counts(rows: &RecordBatch, feature: &str, bins: &Bins) -> Result<Vec<u32>> {
    let mut counts = vec![0; bins.len()];
    for bin in bin_of_rows(rows, feature, bins)? {
        counts[bin] += 1;
    }
    Ok(counts)
}

fn bins_of(rows: &RecordBatch, field: &Field) -> Result<Bins> {
    if field.data_type == DataType::Utf8 {
        let mut frequency: BTreeMap<&str, u64> = BTreeMap::new();
        let column = texts(rows, &field.name)?;
        for text in column.iter().flatten() {
            *frequency.entry(text).or_default() += 1;
        }
        let mut ranked: Vec<_> = frequency.into_iter().collect();
        ranked.sort_by(|(_, a), (_, b)| b.cmp(a));
        ranked.truncate(MAX_CATEGORIES);
        let mut values: Vec<_> = ranked.into_iter().map(|(text, _)| text.to_owned()).collect();
        values.sort_unstable();
        return Ok(Bins::Categories { values });
    }
    let column = numbers(rows, &field.name)?;
    let mut values: Vec<f64> = column.iter().flatten().filter(|v| v.is_finite()).collect();
    let mut edges = quantile_edges(&values, NUMBER_BINS);
    values.sort_unstable_by(f64::total_cmp);
    values.dedup();
    if values.len() <= NUMBER_BINS {
        edges = values.first().map(|least| least.next_down()).into_iter().chain(values).collect();
    }
    Ok(Bins::Numbers { edges })
}

fn bin_of_rows(rows: &RecordBatch, feature: &str, bins: &Bins) -> Result<Vec<usize>> {
    Ok(match bins {
        Bins::Numbers { .. } => {
            numbers(rows, feature)?.iter().map(|number| bins.of_number(number)).collect()
        }
        Bins::Categories { .. } => {
            texts(rows, feature)?.iter().map(|text| bins.of_text(text)).collect()
        }
    })
}
