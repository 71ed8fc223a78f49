//! The skew check: features as they were served, against the same features recomputed offline.
//!
//! What differs was served otherwise than it is trained on: a view that was not brought forward in
//! time, a function of another version, a source that says something else now.

use std::fmt;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::Float64Type;
use arrow::util::display::array_value_to_string;
use kaizen_core::{Context, DataType, Digest, Error, ErrorKind, Field, Result, compute, serde_int};
use kaizen_stats::ExactSum;
use kaizen_table::{FeatureService, numbers};
use serde::{Deserialize, Serialize};

use crate::FeatureStore;
use crate::look_up::added;
use crate::typed::typed;
use crate::within::Within;

/// So many differences of a feature are shown.
const EXAMPLES: usize = 5;

/// What was served, compared with what the feature store says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SkewReport {
    /// The name of the feature service.
    pub service: String,
    /// The digest of its definition.
    pub definition: Digest,
    /// How many rows were compared.
    #[serde(with = "serde_int")]
    pub rows: u64,
    /// Each feature that is looked up or computed, in the order of the service.
    pub features: Vec<FeatureSkew>,
}

/// One feature, as it was served and as it is offline.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct FeatureSkew {
    /// The feature's name.
    pub name: String,
    /// In how many rows both are the same; missing in both, and NaN in both, is the same.
    #[serde(with = "serde_int")]
    pub equal: u64,
    /// In how many rows both are there and differ.
    #[serde(with = "serde_int")]
    pub differing: u64,
    /// In how many rows only what was served is missing.
    #[serde(with = "serde_int")]
    pub missing_served: u64,
    /// In how many rows only what is offline is missing.
    #[serde(with = "serde_int")]
    pub missing_offline: u64,
    /// The greatest absolute difference of numbers, where it is finite.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub greatest_difference: Option<f64>,
    /// The mean of served less offline over the rows where both are there and the difference is
    /// finite: near 0 if they differ to either side, else a bias.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mean_difference: Option<f64>,
    /// The first rows that are not the same, at most five.
    pub examples: Vec<SkewExample>,
}

/// A row of which a feature was served otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SkewExample {
    /// The row's number, from 0.
    #[serde(with = "serde_int")]
    pub row: u64,
    /// What was served, as text; `None` if it was missing.
    pub served: Option<String>,
    /// What is offline, as text; `None` if it is missing.
    pub offline: Option<String>,
}

impl FeatureSkew {
    /// How many rows are not the same.
    pub fn skewed(&self) -> u64 {
        self.differing + self.missing_served + self.missing_offline
    }
}

impl SkewReport {
    /// Whether every feature of every row was served as it is offline.
    pub fn is_clean(&self) -> bool {
        self.features.iter().all(|feature| feature.skewed() == 0)
    }
}

impl fmt::Display for SkewReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {} rows served", self.service, self.rows)?;
        let width = self.features.iter().map(|skew| skew.name.chars().count()).max().unwrap_or(0);
        let width = width.max("feature".len());
        writeln!(
            f,
            "{:width$}  {:>10}  {:>10}  {:>12}  {:>12}  {:>12}  {:>12}",
            "feature", "equal", "differing", "not served", "not offline", "greatest", "mean"
        )?;
        let number = |x: Option<f64>| x.map_or_else(|| "-".to_owned(), |x| format!("{x:.6}"));
        for skew in &self.features {
            writeln!(
                f,
                "{:width$}  {:>10}  {:>10}  {:>12}  {:>12}  {:>12}  {:>12}",
                skew.name,
                skew.equal,
                skew.differing,
                skew.missing_served,
                skew.missing_offline,
                number(skew.greatest_difference),
                number(skew.mean_difference),
            )?;
            let text =
                |value: &Option<String>| value.clone().unwrap_or_else(|| "missing".to_owned());
            for SkewExample { row, served, offline } in &skew.examples {
                writeln!(f, "  row {row}: served {}, offline {}", text(served), text(offline))?;
            }
        }
        Ok(())
    }
}

/// Compares rows as they were served with what the store says of them.
///
/// `served` has the columns that were asked with (those of the request, the keys, the instant in
/// the column `time`) and the service's features as they were given. Extra columns do no harm. A
/// feature that it lacks is [`ErrorKind::Invalid`], by name.
pub async fn check(
    store: &FeatureStore,
    service: &FeatureService,
    served: &RecordBatch,
    time: &str,
) -> Result<SkewReport> {
    let place = || format!("skew of feature service `{}`", service.name());
    let features: Vec<Field> =
        service.columns().into_iter().skip(service.request().len()).collect();
    let added = added(service);
    let schema = served.schema_ref();
    let asked = schema.fields().iter().enumerate().filter(|(_, f)| !added.contains(f.name()));
    let asked: Vec<usize> = asked.map(|(place, _)| place).collect();
    let spine = served.project(&asked).context(ErrorKind::Internal, place())?;
    // What is wrong with the served rows is said before anything is read.
    let missing = features.iter().find(|field| served.column_by_name(&field.name).is_none());
    if let Some(field) = missing {
        let name = &field.name;
        return Err(Error::invalid(format!("{}: the rows have no column `{name}`", place())));
    }
    let offline = store.features(service, &spine, time).await.within(place())?;
    let (name, definition) = (service.name().to_owned(), service.digest()?);
    let (served, place) = (served.clone(), place());
    compute(move || {
        let compared = features.iter().map(|field| compare(field, &served, &offline));
        let features = compared.collect::<Result<_>>().within(place)?;
        Ok(SkewReport { service: name, definition, rows: served.num_rows() as u64, features })
    })
    .await
}

fn compare(field: &Field, served: &RecordBatch, offline: &RecordBatch) -> Result<FeatureSkew> {
    let name = &field.name;
    let (left, right) =
        (typed(served, name, field.data_type)?, typed(offline, name, field.data_type)?);
    let same = sameness(field, &left, &right)?;
    let mut skew = FeatureSkew {
        name: name.clone(),
        equal: 0,
        differing: 0,
        missing_served: 0,
        missing_offline: 0,
        greatest_difference: None,
        mean_difference: None,
        examples: Vec::new(),
    };
    for (row, same) in same.into_iter().enumerate() {
        match (left.is_valid(row), right.is_valid(row)) {
            (false, false) => skew.equal += 1,
            (true, true) if same => skew.equal += 1,
            (true, true) => skew.differing += 1,
            (false, true) => skew.missing_served += 1,
            (true, false) => skew.missing_offline += 1,
        }
        let alike = same || (left.is_null(row) && right.is_null(row));
        if !alike && skew.examples.len() < EXAMPLES {
            let (served, offline) = (text(&left, row)?, text(&right, row)?);
            skew.examples.push(SkewExample { row: row as u64, served, offline });
        }
    }
    if matches!(field.data_type, DataType::Float64 | DataType::Int64) {
        let (left, right) = (numbers(served, name)?, numbers(offline, name)?);
        let (mut sum, mut count) = (ExactSum::default(), 0.0);
        for difference in left.iter().zip(&right).filter_map(|(a, b)| Some(a? - b?)) {
            if difference.is_finite() {
                sum.add(difference);
                count += 1.0;
                let greatest = skew.greatest_difference.unwrap_or(0.0);
                skew.greatest_difference = Some(greatest.max(difference.abs()));
            }
        }
        skew.mean_difference = Some(sum.value() / count).filter(|mean| mean.is_finite());
    }
    Ok(skew)
}

/// Whether the values of each row are the same, where both are there.
fn sameness(field: &Field, left: &ArrayRef, right: &ArrayRef) -> Result<Vec<bool>> {
    let rows = 0..left.len();
    Ok(match field.data_type {
        DataType::Bool => {
            let (left, right) = (left.as_boolean(), right.as_boolean());
            rows.map(|row| both(left, right, row) && left.value(row) == right.value(row)).collect()
        }
        DataType::Float64 => {
            let (left, right) =
                (left.as_primitive::<Float64Type>(), right.as_primitive::<Float64Type>());
            let same = |a: f64, b: f64| a == b || (a.is_nan() && b.is_nan());
            rows.map(|row| both(left, right, row) && same(left.value(row), right.value(row)))
                .collect()
        }
        DataType::Int64 => {
            let (left, right) = (
                left.as_primitive::<arrow::datatypes::Int64Type>(),
                right.as_primitive::<arrow::datatypes::Int64Type>(),
            );
            rows.map(|row| both(left, right, row) && left.value(row) == right.value(row)).collect()
        }
        DataType::Utf8 => {
            let (left, right) = (left.as_string::<i32>(), right.as_string::<i32>());
            rows.map(|row| both(left, right, row) && left.value(row) == right.value(row)).collect()
        }
        other => return Err(Error::new(ErrorKind::Unsupported, format!("data type {other:?}"))),
    })
}

fn both(left: &dyn Array, right: &dyn Array, row: usize) -> bool {
    left.is_valid(row) && right.is_valid(row)
}

fn text(values: &ArrayRef, row: usize) -> Result<Option<String>> {
    let text = values.is_valid(row).then(|| array_value_to_string(values, row)).transpose();
    text.context(ErrorKind::Internal, "a value as text")
}
