//! Feature views: what is known of an entity, as of any instant.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use kaizen_core::{DataType, Digest, Error, Field, Result, Timestamp};

use crate::{Aggregate, Entity, Window};

/// Features of one entity, read from one source, as of any instant.
///
/// Of the source's rows with an entity's keys, a row of the view at instant `t` sees those that had
/// happened and were known: `event_time <= t` and `known_at <= t`. Of these a column feature takes
/// the latest by event time, then by the time it became known, then by the source's order, if it is
/// no older than the TTL; a window feature aggregates those of the last so many seconds. The whole
/// rule is in `docs/point-in-time.md`.
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
    #[serde(skip_serializing_if = "Remarks::is_empty")]
    remarks: Remarks,
}

/// What is said about a view and changes nothing of what it holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Remarks {
    /// The name of the entity.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub entity: String,
    /// What the features mean.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Who answers for them.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub owner: String,
    /// Anything else, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
}

impl Remarks {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
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
    /// When this column says, but a bulk load is not what it says: the rows that it brought count as
    /// known when they happened. In them the column only breaks ties.
    Backfilled {
        /// The column.
        column: String,
        /// A row was loaded in bulk if the column says this instant or an earlier one. `None`:
        /// every row was. Then a late correction is seen before it was made.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until: Option<Timestamp>,
    },
}

impl Known {
    /// The column that it reads, if it reads one.
    pub fn column(&self) -> Option<&str> {
        match self {
            Self::Column(column) | Self::Backfilled { column, .. } => Some(column),
            Self::AtEvent | Self::After { .. } => None,
        }
    }
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
    /// An aggregate over the rows of the last so many seconds.
    Window(Window),
}

impl Value {
    /// The column of the source that the feature reads.
    pub fn column(&self) -> &str {
        match self {
            Self::Column(column) | Self::Window(Window { column, .. }) => column,
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
            remarks: Remarks::default(),
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
        let known = self.known.column();
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
                Value::Window(window) => window.reach_seconds(),
            });
        }
        Some(horizon)
    }

    /// What is said about the view.
    pub fn remarks(&self) -> &Remarks {
        &self.remarks
    }

    /// The digest of the definition: of all that decides what the features hold, and so not of the
    /// [remarks](Self::remarks).
    pub fn digest(&self) -> Result<Digest> {
        Digest::of_json(&self.without_remarks())
    }

    pub(crate) fn without_remarks(&self) -> Self {
        Self { remarks: Remarks::default(), ..self.clone() }
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
    #[serde(default)]
    remarks: Remarks,
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

    /// Adds the columns that name this entity.
    #[must_use]
    pub fn entity(mut self, entity: &Entity) -> Self {
        self.keys.extend_from_slice(entity.keys());
        entity.name().clone_into(&mut self.remarks.entity);
        self
    }

    /// Says what the features mean.
    #[must_use]
    pub fn description(mut self, text: impl Into<String>) -> Self {
        self.remarks.description = text.into();
        self
    }

    /// Says who answers for the features.
    #[must_use]
    pub fn owner(mut self, name: impl Into<String>) -> Self {
        self.remarks.owner = name.into();
        self
    }

    /// Says anything else about them.
    #[must_use]
    pub fn tag(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.remarks.tags.insert(name.into(), value.into());
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

    /// Adds an aggregate of numbers over the last `seconds`.
    #[must_use]
    pub fn window(self, name: &str, aggregate: Aggregate, column: &str, seconds: u32) -> Self {
        self.window_as(name, Window::new(aggregate, column, seconds))
    }

    /// Adds a window that says more: what it holds, or its hops.
    #[must_use]
    pub fn window_as(mut self, name: &str, window: Window) -> Self {
        let field = Field::new(name, window.output());
        self.features.push(Feature { field, value: Value::Window(window) });
        self
    }

    /// Checks the definition.
    pub fn build(self) -> Result<FeatureView> {
        let Self { name, source, keys, event_time, known, ttl_seconds, features, remarks } = self;
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
            if let Value::Window(window) = &feature.value {
                window.check(feature.field.data_type).map_err(|error| {
                    Error::invalid(format!("feature view `{view}`: window `{name}`: {error}"))
                })?;
            }
        }
        Ok(FeatureView { name, source, keys, event_time, known, ttl_seconds, features, remarks })
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
