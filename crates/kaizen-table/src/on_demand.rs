//! On-demand features: computed when they are asked for, by the same code in training and serving.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::Schema;
use kaizen_core::{Context, Error, ErrorKind, Field, Result};
use serde::{Deserialize, Serialize};

use crate::{FeatureService, arrow_type, column};

/// What a function takes and gives. The function itself is code: the program registers it in
/// [`Functions`] under this name and version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OnDemand {
    /// The function's name.
    pub name: String,
    /// The function's version: another code has another version.
    pub version: u32,
    /// The columns that it takes: the request's, looked-up ones, or those of a function before it.
    pub inputs: Vec<Field>,
    /// The columns that it gives.
    pub outputs: Vec<Field>,
}

/// A function from the input columns, in the order of the definition, to the output columns.
///
/// It looks at each row alone: the same row gives the same values, whatever rows stand beside it.
type Function = dyn Fn(&RecordBatch) -> Result<Vec<ArrayRef>> + Send + Sync;

/// The functions that a program has, by name and version.
#[derive(Clone, Default)]
pub struct Functions(BTreeMap<(String, u32), Arc<Function>>);

impl fmt::Debug for Functions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Functions {
    /// Adds a function. It takes a table of the definition's input columns, and gives the output
    /// columns in order, of the same length.
    #[must_use]
    pub fn with(
        mut self,
        name: impl Into<String>,
        version: u32,
        function: impl Fn(&RecordBatch) -> Result<Vec<ArrayRef>> + Send + Sync + 'static,
    ) -> Self {
        self.0.insert((name.into(), version), Arc::new(function));
        self
    }

    /// Checks that every function of a service is there; [`ErrorKind::NotFound`] names one that is
    /// not.
    pub fn check(&self, service: &FeatureService) -> Result<()> {
        service.on_demand().iter().try_for_each(|definition| self.find(definition).map(drop))
    }

    /// Computes the outputs of a definition for each row. Length of each: the rows.
    ///
    /// [`ErrorKind::Invalid`] if the function gives another number of columns, another length or
    /// another type than its definition says.
    pub fn compute(&self, definition: &OnDemand, rows: &RecordBatch) -> Result<Vec<ArrayRef>> {
        let function = self.find(definition)?;
        let place = || format!("function `{}` {}", definition.name, definition.version);
        let outputs = function(&inputs(definition, rows)?)?;
        if outputs.len() != definition.outputs.len() {
            let (found, wanted) = (outputs.len(), definition.outputs.len());
            return Err(Error::invalid(format!("{}: {found} columns, not {wanted}", place())));
        }
        for (values, field) in outputs.iter().zip(&definition.outputs) {
            let wanted = arrow_type(field.data_type)?;
            if *values.data_type() != wanted || values.len() != rows.num_rows() {
                return Err(Error::invalid(format!(
                    "{}: output `{}` is {} values of {}, not {} of {wanted}",
                    place(),
                    field.name,
                    values.len(),
                    values.data_type(),
                    rows.num_rows(),
                )));
            }
        }
        Ok(outputs)
    }

    fn find(&self, definition: &OnDemand) -> Result<&Function> {
        let key = (definition.name.clone(), definition.version);
        self.0.get(&key).map(AsRef::as_ref).ok_or_else(|| {
            let name = |(name, version): &(String, u32)| format!("`{name}` {version}");
            let there: Vec<String> = self.0.keys().map(name).collect();
            Error::not_found(format!("function {}; there are: {}", name(&key), there.join(", ")))
        })
    }
}

fn inputs(definition: &OnDemand, rows: &RecordBatch) -> Result<RecordBatch> {
    let mut fields = Vec::with_capacity(definition.inputs.len());
    let mut columns = Vec::with_capacity(definition.inputs.len());
    for input in &definition.inputs {
        let values = column(rows, &input.name)?;
        let (found, wanted) = (values.data_type(), arrow_type(input.data_type)?);
        if *found != wanted {
            let (function, input) = (&definition.name, &input.name);
            return Err(Error::invalid(format!(
                "function `{function}`: input `{input}` holds {found}, not {wanted}"
            )));
        }
        fields.push(arrow::datatypes::Field::new(&input.name, values.data_type().clone(), true));
        columns.push(Arc::clone(values));
    }
    let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
    RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)
        .context(ErrorKind::Internal, format!("inputs of function `{}`", definition.name))
}
