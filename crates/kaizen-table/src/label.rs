//! Label views: what became of it, and since when that is known.

use serde::{Deserialize, Serialize};

use kaizen_core::{Digest, Error, Result};

/// The label of an entity, and when it became known.
///
/// Training never sees a label that was not known at its cut-off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Unchecked")]
pub struct LabelView {
    name: String,
    source: String,
    keys: Vec<String>,
    label: String,
    known_at: String,
    outcomes: Vec<String>,
    #[serde(skip_serializing_if = "is_zero")]
    maturity_seconds: u32,
}

fn is_zero(seconds: &u32) -> bool {
    *seconds == 0
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Unchecked {
    name: String,
    source: String,
    keys: Vec<String>,
    label: String,
    known_at: String,
    outcomes: Vec<String>,
    #[serde(default)]
    maturity_seconds: u32,
}

impl TryFrom<Unchecked> for LabelView {
    type Error = Error;

    fn try_from(raw: Unchecked) -> Result<Self> {
        let view = Self::new(raw.name, raw.source, raw.keys, raw.label, raw.known_at)?;
        Ok(view.with_outcomes(raw.outcomes).with_maturity_seconds(raw.maturity_seconds))
    }
}

impl LabelView {
    /// The label in column `label` of `source`, for the entity that `keys` name, known from the
    /// instant in column `known_at`.
    pub fn new(
        name: impl Into<String>,
        source: impl Into<String>,
        keys: Vec<String>,
        label: impl Into<String>,
        known_at: impl Into<String>,
    ) -> Result<Self> {
        let view = Self {
            name: name.into(),
            source: source.into(),
            keys,
            label: label.into(),
            known_at: known_at.into(),
            outcomes: Vec::new(),
            maturity_seconds: 0,
        };
        crate::view::distinct(&view.name, "key", view.keys.iter().map(String::as_str))?;
        let named = [&view.name, &view.source, &view.label, &view.known_at];
        if named.iter().any(|name| name.is_empty()) {
            return Err(Error::invalid(format!("label view `{}`: an empty name", view.name)));
        }
        Ok(view)
    }

    /// Declares other columns of the source that tell the label, such as the delay from which
    /// "late" was made.
    #[must_use]
    pub fn with_outcomes(mut self, columns: Vec<String>) -> Self {
        self.outcomes = columns;
        self
    }

    /// Declares how long after it first became known a label may still be corrected, as a payment
    /// may be charged back. A training set leaves out entities whose label was younger than this at
    /// its cut-off, and takes of the others the last that was known by then.
    #[must_use]
    pub fn with_maturity_seconds(mut self, seconds: u32) -> Self {
        self.maturity_seconds = seconds;
        self
    }

    /// How long after it first became known a label may still be corrected, in seconds.
    pub fn maturity_seconds(&self) -> u32 {
        self.maturity_seconds
    }

    /// The view's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The name of the source that it reads.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The columns that name the entity.
    pub fn keys(&self) -> &[String] {
        &self.keys
    }

    /// The column of the label: booleans, or numbers that are 0 or 1.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// The column of the instant from which the label is known.
    pub fn known_at(&self) -> &str {
        &self.known_at
    }

    /// Whether a column of the source tells the label.
    pub fn tells(&self, column: &str) -> bool {
        column == self.label || self.outcomes.iter().any(|outcome| outcome == column)
    }

    /// The digest of the definition.
    pub fn digest(&self) -> Result<Digest> {
        Digest::of_json(self)
    }
}

#[cfg(test)]
mod tests {
    use kaizen_core::{DataType, ErrorKind, Field};

    use super::*;
    use crate::{FeatureService, FeatureView, Known};

    #[test]
    fn a_flights_own_delay_as_a_feature_is_refused() {
        let late = LabelView::new("late", "flights", vec!["id".into()], "late", "known_at")
            .unwrap()
            .with_outcomes(vec!["arr_delay".into()]);
        let view = || {
            FeatureView::builder("own")
                .source("flights")
                .key("id")
                .event_time("scheduled")
                .column("arr_delay", DataType::Float64)
        };
        let service = |view: FeatureView, request: Vec<Field>| {
            FeatureService::new("s", 1, request, vec![view]).unwrap()
        };
        let error = service(view().build().unwrap(), vec![]).guard_against(&late).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused);
        assert!(error.to_string().contains("`arr_delay` of view `own`"), "{error}");

        let declared = view().known(Known::Column("known_at".into())).build().unwrap();
        service(declared.clone(), vec![]).guard_against(&late).unwrap();

        let request = vec![Field::new("late", DataType::Bool)];
        let error = service(declared, request).guard_against(&late).unwrap_err();
        assert!(error.to_string().contains("request column `late`"), "{error}");
    }
}
