//! What a model and a feature view say of their columns.

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// The type of a column, named as the Open Inference Protocol names what it shares with it.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DataType {
    /// True or false.
    Bool,
    /// A 64-bit signed integer.
    Int64,
    /// A 64-bit float.
    Float64,
    /// Text in UTF-8.
    Utf8,
}

/// A named column with its type. Values may always be missing.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Field {
    /// The column's name.
    pub name: String,
    /// The type of its values.
    pub data_type: DataType,
}

impl Field {
    /// A field of this name and type.
    pub fn new(name: impl Into<String>, data_type: DataType) -> Self {
        Self { name: name.into(), data_type }
    }
}

/// What a model takes and gives: its input columns in order, and its outputs.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Signature {
    inputs: Vec<Field>,
    outputs: Vec<Field>,
}

impl Signature {
    /// At most this many inputs.
    pub const MAX_INPUTS: usize = 10_000;

    /// A signature; names of inputs are distinct.
    pub fn new(inputs: Vec<Field>, outputs: Vec<Field>) -> Result<Self> {
        if inputs.is_empty() || inputs.len() > Self::MAX_INPUTS {
            let found = inputs.len();
            let most = Self::MAX_INPUTS;
            return Err(Error::invalid(format!("signature: {found} inputs, not 1 to {most}")));
        }
        let mut names: Vec<_> = inputs.iter().map(|field| &field.name).collect();
        names.sort_unstable();
        if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(Error::invalid(format!("signature: input `{}` stands twice", pair[0])));
        }
        Ok(Self { inputs, outputs })
    }

    /// The input columns, in the order in which the model takes them.
    pub fn inputs(&self) -> &[Field] {
        &self.inputs
    }

    /// The output columns.
    pub fn outputs(&self) -> &[Field] {
        &self.outputs
    }
}
