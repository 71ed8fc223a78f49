//! Which rows are removed when entities are forgotten.

use arrow::array::{BooleanArray, RecordBatch};
use arrow::datatypes::SchemaRef;
use kaizen_core::Result;

use crate::keys::{Entities, KeyTypes};

/// Entities to forget, by the keys of a table: compared as the point-in-time join compares them.
#[derive(Debug)]
pub(crate) struct Removal {
    types: KeyTypes,
    entities: Entities,
}

impl Removal {
    /// The entities of these rows, whose columns are keys among the table's columns.
    pub(crate) fn new(schema: &SchemaRef, entities: &RecordBatch) -> Result<Self> {
        let fields = entities.schema();
        let names: Vec<String> = fields.fields().iter().map(|f| f.name().clone()).collect();
        Self::of(KeyTypes::of(&RecordBatch::new_empty(schema.clone()), &names)?, entities)
    }

    /// The entities of these rows, compared in these types.
    pub(crate) fn of(types: KeyTypes, entities: &RecordBatch) -> Result<Self> {
        let mut known = Entities::default();
        known.number(&types.encode(entities)?);
        Ok(Self { types, entities: known })
    }

    /// Which of these rows remain. Length: the batch's rows.
    pub(crate) fn kept(&self, batch: &RecordBatch) -> Result<BooleanArray> {
        let found = self.entities.find(&self.types.encode(batch)?);
        Ok(found.iter().map(|entity| Some(entity.is_none())).collect())
    }
}
