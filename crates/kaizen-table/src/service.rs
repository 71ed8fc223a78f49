//! Feature services: the columns that a model takes, as one versioned bundle.

use serde::{Deserialize, Serialize};

use kaizen_core::{Digest, Error, Field, Result};

use crate::view::distinct;
use crate::{FeatureView, Known, LabelView};

/// The columns that a model takes: those that the caller brings with its request, and those that
/// are looked up in feature views.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Unchecked")]
pub struct FeatureService {
    name: String,
    version: u32,
    request: Vec<Field>,
    views: Vec<FeatureView>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Unchecked {
    name: String,
    version: u32,
    request: Vec<Field>,
    views: Vec<FeatureView>,
}

impl TryFrom<Unchecked> for FeatureService {
    type Error = Error;

    fn try_from(raw: Unchecked) -> Result<Self> {
        Self::new(raw.name, raw.version, raw.request, raw.views)
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
        let service = Self { name: name.into(), version, request, views };
        let columns = service.columns();
        distinct(&service.name, "column", columns.iter().map(|field| field.name.as_str()))?;
        Ok(service)
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

    /// Every column that the model takes, in order: the request's, then each view's.
    pub fn columns(&self) -> Vec<Field> {
        let looked_up = self.views.iter().flat_map(|view| view.features());
        self.request.iter().chain(looked_up.map(|feature| &feature.field)).cloned().collect()
    }

    /// The digest of the definition, views included.
    pub fn digest(&self) -> Result<Digest> {
        Digest::of_json(self)
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
