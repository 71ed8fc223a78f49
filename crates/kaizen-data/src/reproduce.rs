//! A stored training set, made once more.

use arrow::array::{Array, ArrayRef, RecordBatch};
use kaizen_core::record::TrainingSet;
use kaizen_core::{Context, Error, ErrorKind, Result, compute};

use crate::feature_store::{Call, FeatureStore};
use crate::look_up::added;
use crate::on_demand::same_bits;
use crate::reading::{Files, Reading};
use crate::training_data::TrainingData;
use crate::within::Within;

impl FeatureStore {
    /// Makes a stored training set once more, from its definitions and the columns that its rows
    /// were asked with. What it gives equals what was stored, and is stored under the same id.
    ///
    /// The sources must hold what they held: where they are in files, those files are read as they
    /// were, whatever else is there now. A source or a file that is gone is
    /// [`ErrorKind::NotFound`], one that has changed [`ErrorKind::Conflict`], by name. So is a
    /// column that comes out otherwise although its sources are the same: then a function has
    /// changed without another version.
    ///
    /// Rows that were left out then are not asked again: how many they were, and the coverage, are
    /// taken from the record.
    pub async fn reproduce(&self, stored: &TrainingData) -> Result<TrainingData> {
        let place =
            || format!("reproducing a training set of `{}`", stored.definitions.service.name());
        let spine = spine(stored).within(place())?;
        let none = Files::new();
        let files = stored.files.as_ref().unwrap_or(&none);
        let reading = Reading::pinned(&self.sources, &stored.record.sources, files);
        let call = Call {
            service: &stored.definitions.service,
            labels: &stored.definitions.labels,
            spine: &spine,
            time: &stored.record.time,
            cutoff: stored.record.cutoff,
        };
        let made = self.assemble(reading, call).await.within(place())?;
        let (stored, place) = (stored.clone(), place());
        compute(move || same(made, stored).within(place)).await
    }
}

/// The columns that the rows were asked with.
fn spine(stored: &TrainingData) -> Result<RecordBatch> {
    let service = &stored.definitions.service;
    let added = added(service);
    let asked = |name: &String| !added.contains(name) && *name != stored.record.label;
    let schema = stored.rows.schema_ref();
    let places = schema.fields().iter().enumerate().filter(|(_, field)| asked(field.name()));
    let places: Vec<usize> = places.map(|(place, _)| place).collect();
    stored.rows.project(&places).context(ErrorKind::Internal, "the rows that asked")
}

/// What was made, if it is what was stored.
fn same(made: TrainingData, stored: TrainingData) -> Result<TrainingData> {
    if made.rows.num_rows() != stored.rows.num_rows() {
        let (now, then) = (made.rows.num_rows(), stored.rows.num_rows());
        return Err(Error::conflict(format!("{now} rows have a label, where {then} had one")));
    }
    if made.rows.num_columns() != stored.rows.num_columns() {
        let (now, then) = (made.rows.num_columns(), stored.rows.num_columns());
        return Err(Error::conflict(format!("{now} columns, where there were {then}")));
    }
    for (place, field) in stored.rows.schema_ref().fields().iter().enumerate() {
        let name = field.name();
        let now = made.rows.column_by_name(name);
        let then = stored.rows.column(place);
        if let Some(row) = now.map_or(Some(0), |now| first_difference(now, then)) {
            return Err(Error::conflict(format!(
                "row {row}: column `{name}` comes out otherwise, from the same data"
            )));
        }
    }
    let record = TrainingSet {
        unlabelled: stored.record.unlabelled,
        coverage: stored.record.coverage.clone(),
        ..made.record.clone()
    };
    if record != stored.record {
        return Err(Error::conflict("its record comes out otherwise, from the same data"));
    }
    let mut made = made;
    (made.record, made.files) = (record, stored.files);
    Ok(made)
}

fn first_difference(now: &ArrayRef, then: &ArrayRef) -> Option<usize> {
    if now.data_type() != then.data_type() {
        return Some(0);
    }
    if same_bits(now, then) {
        return None;
    }
    (0..then.len()).find(|row| !same_bits(&now.slice(*row, 1), &then.slice(*row, 1)))
}
