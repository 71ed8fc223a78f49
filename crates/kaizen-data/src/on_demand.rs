//! On-demand features: the functions of a service, computed after the look-ups.
//!
//! Training and serving both come through here.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Field, Float64Type, Schema};
use arrow::util::display::array_value_to_string;
use kaizen_core::{Context, Error, ErrorKind, Result};
use kaizen_table::{FeatureService, Functions, OnDemand, arrow_type, column};

use crate::parquet_file::plain;
use crate::typed::typed;
use crate::within::Within;

/// So many rows of a training set are computed alone as well.
const ROWS_ALONE: usize = 16;

/// The outputs of a service's functions for each row, in the order of the definitions. `rows` has
/// the request's columns and those that were looked up; inputs are converted to the types that the
/// functions declare. Length of each: the rows.
pub(crate) fn computed(
    functions: &Functions,
    service: &FeatureService,
    rows: &RecordBatch,
) -> Result<Vec<ArrayRef>> {
    let mut earlier: BTreeMap<&str, ArrayRef> = BTreeMap::new();
    let mut outputs = Vec::new();
    for definition in service.on_demand() {
        let inputs = inputs(definition, rows, &earlier).within(place(service))?;
        let values = functions.compute(definition, &inputs).within(place(service))?;
        for (field, values) in definition.outputs.iter().zip(&values) {
            earlier.insert(&field.name, Arc::clone(values));
        }
        outputs.extend(values);
    }
    Ok(outputs)
}

/// The rows with the outputs of the service's functions after their own columns.
pub(crate) fn with_computed(
    functions: &Functions,
    service: &FeatureService,
    rows: &RecordBatch,
) -> Result<RecordBatch> {
    if service.on_demand().is_empty() {
        return Ok(rows.clone());
    }
    let outputs = computed(functions, service, rows)?;
    let mut fields: Vec<_> = plain(rows.schema_ref()).fields().iter().map(Arc::clone).collect();
    for field in service.on_demand().iter().flat_map(|definition| &definition.outputs) {
        fields.push(Arc::new(Field::new(&field.name, arrow_type(field.data_type)?, true)));
    }
    let columns = rows.columns().iter().cloned().chain(outputs).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
    RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)
        .context(ErrorKind::Internal, "rows with what was computed of them")
}

/// Checks that each function looks at each row alone: of up to 16 rows, evenly spaced, it gives the
/// same bits alone as it gave beside the others. `rows` comes from [`with_computed`].
///
/// A function that does not would give other features in serving, where few rows come at once:
/// [`ErrorKind::Refused`], with the function and the row.
pub(crate) fn check_rows_alone(
    functions: &Functions,
    service: &FeatureService,
    rows: &RecordBatch,
) -> Result<()> {
    let step = rows.num_rows().div_ceil(ROWS_ALONE).max(1);
    for definition in service.on_demand() {
        let all = inputs(definition, rows, &BTreeMap::new()).within(place(service))?;
        for row in (0..rows.num_rows()).step_by(step) {
            let alone = functions.compute(definition, &all.slice(row, 1)).within(place(service))?;
            for (field, alone) in definition.outputs.iter().zip(&alone) {
                let beside = column(rows, &field.name)?.slice(row, 1);
                if !same_bits(&beside, alone) {
                    let text = |values| {
                        array_value_to_string(values, 0).context(ErrorKind::Internal, "a value")
                    };
                    return Err(Error::refused(format!(
                        "{}: function `{}` {}: row {row}: output `{}` is {} beside other rows and \
                         {} alone; a function looks at each row alone",
                        place(service),
                        definition.name,
                        definition.version,
                        field.name,
                        text(&beside)?,
                        text(alone)?,
                    )));
                }
            }
        }
    }
    Ok(())
}

fn place(service: &FeatureService) -> String {
    format!("feature service `{}`", service.name())
}

fn inputs(
    definition: &OnDemand,
    rows: &RecordBatch,
    earlier: &BTreeMap<&str, ArrayRef>,
) -> Result<RecordBatch> {
    let mut fields = Vec::with_capacity(definition.inputs.len());
    let mut columns = Vec::with_capacity(definition.inputs.len());
    for input in &definition.inputs {
        let values = match earlier.get(input.name.as_str()) {
            Some(values) => Arc::clone(values),
            None => typed(rows, &input.name, input.data_type)
                .within(format!("function `{}` {}", definition.name, definition.version))?,
        };
        fields.push(Field::new(&input.name, values.data_type().clone(), true));
        columns.push(values);
    }
    let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
    RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)
        .context(ErrorKind::Internal, "inputs of a function")
}

/// Equal to the last bit, with one NaN equal to any other.
pub(crate) fn same_bits(left: &ArrayRef, right: &ArrayRef) -> bool {
    let bits = |x: f64| if x.is_nan() { f64::NAN.to_bits() } else { x.to_bits() };
    let of = |values: &Float64Array| values.iter().map(|x| x.map(bits)).collect::<Vec<_>>();
    match (left.as_primitive_opt::<Float64Type>(), right.as_primitive_opt::<Float64Type>()) {
        (Some(left), Some(right)) => of(left) == of(right),
        _ => left == right,
    }
}
