//! Feature views: what is known of an entity, as of any instant.

use serde::{Deserialize, Serialize};

use kaizen_core::{DataType, Digest, Error, Field, Result};

/// Features of one entity, read from one source, as of any instant.
///
/// Of the source's rows with an entity's keys, a row of the view at instant `t` sees those that had
/// happened and were known: `event_time <= t` and `known_at <= t`. Of these a column feature takes
/// the latest by event time, then by the time it became known, then by the source's order, if it is
/// no older than the TTL; a window feature aggregates those of the last so many seconds.
///
/// Made by [`FeatureView::builder`], and from JSON by the same checks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "FeatureViewBuilder")]
pub struct FeatureView {
    name: String,
    source: String,
    keys: Vec<String>,
    event_time: String,
    known: Known,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl_seconds: Option<u32>,
    features: Vec<Feature>,
}

/// When a source's row became known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Known {
    /// As it happened.
    AtEvent,
    /// A fixed time after it happened.
    After {
        /// How long after, in seconds.
        seconds: u32,
    },
    /// When this column says; a row happens before it is known, so the later of the two counts.
    Column(String),
}

/// A column of a feature view.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Feature {
    /// The feature's name and type.
    #[serde(flatten)]
    pub field: Field,
    /// What it takes from the source.
    pub value: Value,
}

/// What a feature takes from its source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Value {
    /// A column of the latest row. A missing value in it stays missing.
    Column(String),
    /// An aggregate over the rows whose event time lies in `(t - seconds, t]`.
    Window {
        /// The aggregate.
        aggregate: Aggregate,
        /// The column that is aggregated: numbers or booleans. Missing values do not count.
        column: String,
        /// The length of the window in seconds.
        seconds: u32,
    },
}

/// How a window's values become one.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Aggregate {
    /// How many values there are; 0 if none.
    Count,
    /// Their sum, exact before it is rounded once; missing if there are none.
    Sum,
    /// Their sum over their count; missing if there are none.
    Mean,
}

impl Value {
    /// The column of the source that the feature reads.
    pub fn column(&self) -> &str {
        match self {
            Self::Column(column) | Self::Window { column, .. } => column,
        }
    }
}

impl FeatureView {
    /// Starts a view of this name.
    pub fn builder(name: impl Into<String>) -> FeatureViewBuilder {
        FeatureViewBuilder {
            name: name.into(),
            source: String::new(),
            keys: Vec::new(),
            event_time: "event_time".to_owned(),
            known: Known::AtEvent,
            ttl_seconds: None,
            features: Vec::new(),
        }
    }

    /// The view's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The name of the source that it reads.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The columns that name the entity, the same in the source and in what is asked.
    pub fn keys(&self) -> &[String] {
        &self.keys
    }

    /// The source's column of when a row happened.
    pub fn event_time(&self) -> &str {
        &self.event_time
    }

    /// When a row became known.
    pub fn known(&self) -> &Known {
        &self.known
    }

    /// How old, in seconds, the latest row may be and still count; without end if `None`.
    pub fn ttl_seconds(&self) -> Option<u32> {
        self.ttl_seconds
    }

    /// The features, in order.
    pub fn features(&self) -> &[Feature] {
        &self.features
    }

    /// The columns of the source that the view reads, each once, in a fixed order.
    pub fn source_columns(&self) -> Vec<&str> {
        let mut columns: Vec<&str> = self.keys.iter().map(String::as_str).collect();
        let known = match &self.known {
            Known::Column(column) => Some(column.as_str()),
            _ => None,
        };
        let values = self.features.iter().map(|feature| feature.value.column());
        for name in std::iter::once(self.event_time.as_str()).chain(known).chain(values) {
            if !columns.contains(&name) {
                columns.push(name);
            }
        }
        columns
    }

    /// How far back, in seconds, the view ever looks; without end if `None`.
    pub fn horizon_seconds(&self) -> Option<u32> {
        let mut horizon = 0;
        for feature in &self.features {
            horizon = horizon.max(match &feature.value {
                Value::Column(_) => self.ttl_seconds?,
                Value::Window { seconds, .. } => *seconds,
            });
        }
        Some(horizon)
    }

    /// The digest of the definition.
    pub fn digest(&self) -> Result<Digest> {
        Digest::of_json(self)
    }
}

/// Makes a [`FeatureView`]; [`build`](Self::build) checks it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeatureViewBuilder {
    name: String,
    source: String,
    keys: Vec<String>,
    event_time: String,
    known: Known,
    #[serde(default)]
    ttl_seconds: Option<u32>,
    features: Vec<Feature>,
}

impl FeatureViewBuilder {
    /// Reads from the source of this name.
    #[must_use]
    pub fn source(mut self, name: impl Into<String>) -> Self {
        self.source = name.into();
        self
    }

    /// Adds a column that names the entity.
    #[must_use]
    pub fn key(mut self, column: impl Into<String>) -> Self {
        self.keys.push(column.into());
        self
    }

    /// The source's column of when a row happened; `event_time` unless set.
    #[must_use]
    pub fn event_time(mut self, column: impl Into<String>) -> Self {
        self.event_time = column.into();
        self
    }

    /// When a row became known; as it happened unless set.
    #[must_use]
    pub fn known(mut self, known: Known) -> Self {
        self.known = known;
        self
    }

    /// How old the latest row may be, both ends included; without end unless set.
    #[must_use]
    pub fn ttl_seconds(mut self, seconds: u32) -> Self {
        self.ttl_seconds = Some(seconds);
        self
    }

    /// Adds the latest value of a column, under the column's own name.
    #[must_use]
    pub fn column(self, name: &str, data_type: DataType) -> Self {
        self.column_as(name, name, data_type)
    }

    /// Adds the latest value of a column, under another name.
    #[must_use]
    pub fn column_as(mut self, name: &str, column: &str, data_type: DataType) -> Self {
        let value = Value::Column(column.to_owned());
        self.features.push(Feature { field: Field::new(name, data_type), value });
        self
    }

    /// Adds an aggregate over the last `seconds`.
    #[must_use]
    pub fn window(mut self, name: &str, aggregate: Aggregate, column: &str, seconds: u32) -> Self {
        let data_type = match aggregate {
            Aggregate::Count => DataType::Int64,
            Aggregate::Sum | Aggregate::Mean => DataType::Float64,
        };
        let value = Value::Window { aggregate, column: column.to_owned(), seconds };
        self.features.push(Feature { field: Field::new(name, data_type), value });
        self
    }

    /// Checks the definition.
    pub fn build(self) -> Result<FeatureView> {
        let Self { name, source, keys, event_time, known, ttl_seconds, features } = self;
        let view = &name;
        if name.is_empty() {
            return Err(Error::invalid("feature view: its name is empty"));
        }
        for (what, value) in [("source", &source), ("event time", &event_time)] {
            if value.is_empty() {
                return Err(Error::invalid(format!("feature view `{view}`: its {what} is empty")));
            }
        }
        if ttl_seconds == Some(0) {
            return Err(Error::invalid(format!(
                "feature view `{view}`: a TTL of 0 keeps nothing; leave it out for no end"
            )));
        }
        distinct(view, "key", keys.iter().map(String::as_str))?;
        distinct(view, "feature", features.iter().map(|feature| feature.field.name.as_str()))?;
        for feature in &features {
            let name = &feature.field.name;
            if keys.contains(name) {
                return Err(Error::invalid(format!("view `{view}`: feature `{name}` is a key")));
            }
            if matches!(feature.value, Value::Window { seconds: 0, .. }) {
                return Err(Error::invalid(format!(
                    "feature view `{view}`: window `{name}` has a length of 0"
                )));
            }
        }
        Ok(FeatureView { name, source, keys, event_time, known, ttl_seconds, features })
    }
}

impl TryFrom<FeatureViewBuilder> for FeatureView {
    type Error = Error;

    fn try_from(builder: FeatureViewBuilder) -> Result<Self> {
        builder.build()
    }
}

/// Refuses an empty list, an empty name, and one that stands twice.
pub(crate) fn distinct<'a>(
    view: &str,
    what: &str,
    names: impl Iterator<Item = &'a str>,
) -> Result<()> {
    let mut seen = std::collections::BTreeSet::new();
    for name in names {
        if name.is_empty() {
            return Err(Error::invalid(format!("feature view `{view}`: a {what}'s name is empty")));
        }
        if !seen.insert(name) {
            return Err(Error::invalid(format!("`{view}`: {what} `{name}` stands twice")));
        }
    }
    if seen.is_empty() {
        return Err(Error::invalid(format!("feature view `{view}`: it has no {what}")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view() -> FeatureViewBuilder {
        FeatureView::builder("v").source("s").key("k").column("a", DataType::Float64)
    }

    #[test]
    fn json_passes_the_same_checks() {
        let built = view().window("n", Aggregate::Count, "a", 60).build().unwrap();
        let json = serde_json::to_string(&built).unwrap();
        assert_eq!(serde_json::from_str::<FeatureView>(&json).unwrap(), built);
        let error = serde_json::from_str::<FeatureView>(&json.replace("60", "0")).unwrap_err();
        assert!(error.to_string().contains("window `n`"), "{error}");
    }

    #[test]
    fn errors_name_the_field() {
        let cases = [
            (view().ttl_seconds(0), "TTL"),
            (view().column("a", DataType::Bool), "feature `a` stands twice"),
            (view().column("k", DataType::Utf8), "feature `k` is a key"),
            (view().key("k"), "key `k` stands twice"),
            (view().event_time(""), "event time"),
            (FeatureView::builder("v").source("s").key("k"), "no feature"),
        ];
        for (builder, part) in cases {
            let error = builder.build().unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn the_horizon_is_the_longest_look_back() {
        assert_eq!(view().build().unwrap().horizon_seconds(), None);
        let bounded = view().ttl_seconds(60).window("n", Aggregate::Count, "a", 90);
        assert_eq!(bounded.build().unwrap().horizon_seconds(), Some(90));
    }
}
