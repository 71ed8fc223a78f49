//! Feature services: the columns that a model takes, as one versioned bundle.

use serde::{Deserialize, Serialize};

use kaizen_core::{Digest, Error, Field, Result};

use crate::view::distinct;
use crate::{FeatureView, Known, LabelView, OnDemand};

/// The columns that a model takes: those that the caller brings with its request, those that are
/// looked up in feature views, and those that functions compute of both when they are asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Unchecked")]
pub struct FeatureService {
    name: String,
    version: u32,
    request: Vec<Field>,
    views: Vec<FeatureView>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    on_demand: Vec<OnDemand>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Unchecked {
    name: String,
    version: u32,
    request: Vec<Field>,
    views: Vec<FeatureView>,
    #[serde(default)]
    on_demand: Vec<OnDemand>,
}

impl TryFrom<Unchecked> for FeatureService {
    type Error = Error;

    fn try_from(raw: Unchecked) -> Result<Self> {
        Self::new(raw.name, raw.version, raw.request, raw.views)?.with_on_demand(raw.on_demand)
    }
}

impl FeatureService {
    /// A service of this name and version; all its columns have distinct names.
    pub fn new(
        name: impl Into<String>,
        version: u32,
        request: Vec<Field>,
        views: Vec<FeatureView>,
    ) -> Result<Self> {
        let service = Self { name: name.into(), version, request, views, on_demand: Vec::new() };
        service.check_columns()?;
        Ok(service)
    }

    /// Adds features that functions compute, in this order. Each input is a column of the service
    /// before it, with the same type.
    pub fn with_on_demand(mut self, functions: Vec<OnDemand>) -> Result<Self> {
        for function in functions {
            let columns = self.columns();
            if let Some(input) = function.inputs.iter().find(|input| !columns.contains(input)) {
                return Err(Error::invalid(format!(
                    "feature service `{}`: function `{}` takes `{}` ({:?}), which is no column \
                     before it",
                    self.name, function.name, input.name, input.data_type
                )));
            }
            if function.outputs.is_empty() {
                let (service, function) = (&self.name, &function.name);
                return Err(Error::invalid(format!(
                    "feature service `{service}`: function `{function}` gives nothing"
                )));
            }
            self.on_demand.push(function);
        }
        self.check_columns()?;
        Ok(self)
    }

    fn check_columns(&self) -> Result<()> {
        let columns = self.columns();
        distinct(&self.name, "column", columns.iter().map(|field| field.name.as_str()))
    }

    /// The service's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The service's version.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// The columns that the caller brings.
    pub fn request(&self) -> &[Field] {
        &self.request
    }

    /// The views that are looked up.
    pub fn views(&self) -> &[FeatureView] {
        &self.views
    }

    /// The functions that compute features, in order.
    pub fn on_demand(&self) -> &[OnDemand] {
        &self.on_demand
    }

    /// Every column that the model takes, in order: the request's, then each view's, then those of
    /// each function.
    pub fn columns(&self) -> Vec<Field> {
        let looked_up = self.views.iter().flat_map(|view| view.features());
        let computed = self.on_demand.iter().flat_map(|function| &function.outputs);
        let found = looked_up.map(|feature| &feature.field).chain(computed);
        self.request.iter().chain(found).cloned().collect()
    }

    /// The digest of the definition: of all that decides what the columns hold, views included,
    /// and so not of what is only said about them.
    pub fn digest(&self) -> Result<Digest> {
        let views = self.views.iter().map(FeatureView::without_remarks).collect();
        Digest::of_json(&Self { views, ..self.clone() })
    }

    /// Refuses a service that could see a label before it was known.
    ///
    /// A view that reads an outcome column of the label's own source must be known no earlier than
    /// the label: its `known` column, or its event time, is the label's known-at column. An outcome
    /// column among the request's is refused as well.
    pub fn guard_against(&self, label: &LabelView) -> Result<()> {
        if let Some(field) = self.request.iter().find(|field| label.tells(&field.name)) {
            return Err(Error::refused(format!(
                "request column `{}` tells the label `{}`: it is not known when the model is asked",
                field.name,
                label.name()
            )));
        }
        for view in self.views.iter().filter(|view| view.source() == label.source()) {
            let late_enough = *view.known() == Known::Column(label.known_at().to_owned())
                || view.event_time() == label.known_at();
            let telling = view.features().iter().find(|f| label.tells(f.value.column()));
            if let (false, Some(feature)) = (late_enough, telling) {
                return Err(Error::refused(format!(
                    "feature `{}` of view `{}` tells the label `{}` before it is known: \
                     declare that its rows are known at `{}`",
                    feature.field.name,
                    view.name(),
                    label.name(),
                    label.known_at()
                )));
            }
        }
        Ok(())
    }
}
