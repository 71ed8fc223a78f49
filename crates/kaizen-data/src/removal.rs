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
    names: Vec<String>,
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
        let fields = entities.schema();
        let names: Vec<String> = fields.fields().iter().map(|f| f.name().clone()).collect();
        let mut known = Entities::default();
        if !names.is_empty() {
            known.number(&types.encode(entities)?);
        }
        Ok(Self { types, entities: known, names })
    }

    /// Whether nothing is to be removed.
    pub(crate) fn is_empty(&self) -> bool {
        self.entities.len() == 0
    }

    /// The columns of the entities.
    pub(crate) fn names(&self) -> &[String] {
        &self.names
    }

    /// Which of these rows remain. Length: the batch's rows.
    pub(crate) fn kept(&self, batch: &RecordBatch) -> Result<BooleanArray> {
        let found = self.entities.find(&self.types.encode(batch)?);
        Ok(found.iter().map(|entity| Some(entity.is_none())).collect())
    }
}
