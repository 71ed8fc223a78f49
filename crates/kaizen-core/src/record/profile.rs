use serde::{Deserialize, Serialize};

use super::Record;
use crate::{Digest, TimeBlocks};

/// What the features of a training set look like, block of time by block of time: the reference
/// that drift is measured against.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Profile {
    /// The training set that was profiled.
    pub training_set: Digest,
    /// The unit of independence.
    pub unit: TimeBlocks,
    /// The numbers of the blocks, ascending.
    pub blocks: Vec<i64>,
    /// One entry per feature.
    pub features: Vec<FeatureProfile>,
}

/// How one feature's values fall into bins, in each block.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FeatureProfile {
    /// The feature's name.
    pub name: String,
    /// The bins.
    pub bins: Bins,
    /// `counts[b][i]`: how many values of block `b` (by position in [`Profile::blocks`]) fall into
    /// bin `i`. Every row has [`Bins::len`] counts.
    pub counts: Vec<Vec<u32>>,
}

/// The bins of a feature. Two more follow those listed: missing, and (for numbers: not finite; for
/// text: not listed) unseen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bins {
    /// Numbers, between these ascending edges: bin `i` holds values in `(edges[i-1], edges[i]]`,
    /// the first reaches down and the last up without end.
    Numbers {
        /// The inner edges.
        edges: Vec<f64>,
    },
    /// Text, by value.
    Categories {
        /// The values, ascending.
        values: Vec<String>,
    },
}

impl Bins {
    /// How many bins there are, the two special ones included.
    pub fn len(&self) -> usize {
        match self {
            Self::Numbers { edges } => edges.len() + 3,
            Self::Categories { values } => values.len() + 2,
        }
    }

    /// Never: the two special bins are always there.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// The bin of missing values.
    pub fn missing(&self) -> usize {
        self.len() - 2
    }

    /// The bin of values that are not finite, or not among the categories.
    pub fn unseen(&self) -> usize {
        self.len() - 1
    }

    /// The bin of a number. Only for [`Bins::Numbers`]; among categories a number is unseen.
    pub fn of_number(&self, value: Option<f64>) -> usize {
        match (self, value) {
            (_, None) => self.missing(),
            (Self::Numbers { edges }, Some(number)) if number.is_finite() => {
                edges.partition_point(|edge| *edge < number)
            }
            _ => self.unseen(),
        }
    }

    /// The bin of a text. Only for [`Bins::Categories`]; among numbers a text is unseen.
    pub fn of_text(&self, value: Option<&str>) -> usize {
        match (self, value) {
            (_, None) => self.missing(),
            (Self::Categories { values }, Some(text)) => {
                values.binary_search_by(|v| v.as_str().cmp(text)).unwrap_or(self.unseen())
            }
            _ => self.unseen(),
        }
    }
}

impl Record for Profile {
    const KIND: &'static str = "profile";

    fn subject(&self) -> Option<Digest> {
        Some(self.training_set)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_has_a_bin() {
        let numbers = Bins::Numbers { edges: vec![0.0, 1.0] };
        let cases = [(-5.0, 0), (0.0, 0), (0.5, 1), (1.0, 1), (7.0, 2), (f64::INFINITY, 4)];
        for (value, bin) in cases {
            assert_eq!(numbers.of_number(Some(value)), bin, "{value}");
        }
        assert_eq!(numbers.of_number(None), 3);
        assert_eq!(numbers.of_number(Some(f64::NAN)), 4);
        assert_eq!(numbers.len(), 5);
        let texts = Bins::Categories { values: vec!["a".into(), "b".into()] };
        assert_eq!([Some("b"), None, Some("z")].map(|t| texts.of_text(t)), [1, 2, 3]);
    }
}
