//! What a feature server has to offer, by name.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kaizen_table::FeatureService;

use super::failure::Failure;
use super::request::Request;

/// Services by name, and by the names of the views and functions in them.
#[derive(Debug)]
pub(super) struct Catalogue {
    services: BTreeMap<String, Arc<FeatureService>>,
    /// A service of this view alone, by the view's name; or the service that has this function.
    views: BTreeMap<String, Arc<FeatureService>>,
}

/// What a request asks for.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    /// The services to ask.
    pub(super) services: Vec<Arc<FeatureService>>,
    /// The features, in the order in which they are shown.
    pub(super) features: Vec<WantedFeature>,
}

/// A feature that is asked for.
#[derive(Debug)]
pub(super) struct WantedFeature {
    /// The place of its service in [`Wanted::services`].
    pub(super) service: usize,
    /// The view that it is looked up in, or the function that computes it.
    pub(super) view: String,
    /// Its own name.
    pub(super) column: String,
    /// The name under which it is shown.
    pub(super) shown: String,
}

impl Catalogue {
    pub(super) fn new(services: Vec<FeatureService>) -> Self {
        let mut catalogue = Self { services: BTreeMap::new(), views: BTreeMap::new() };
        for service in services {
            let service = Arc::new(service);
            for view in service.views() {
                // Of one view alone, whatever its features are called in other views. What a
                // service was checked for when it was made holds for a part of it too.
                let (name, views) = (service.name(), vec![view.clone()]);
                let alone = FeatureService::new(name, service.version(), Vec::new(), views);
                if let Ok(alone) = alone {
                    catalogue.views.entry(view.name().to_owned()).or_insert(Arc::new(alone));
                }
            }
            let name = service.name().to_owned();
            match catalogue.services.get(&name) {
                Some(other) if other.version() >= service.version() => {}
                _ => drop(catalogue.services.insert(name, Arc::clone(&service))),
            }
            for function in service.on_demand() {
                let name = function.name.clone();
                catalogue.views.entry(name).or_insert_with(|| Arc::clone(&service));
            }
        }
        catalogue
    }

    /// Finds what is asked for.
    pub(super) fn resolve(&self, request: &Request) -> Result<Wanted, Failure> {
        let mut wanted = Wanted::default();
        match (&request.feature_service, request.features.0.as_slice()) {
            (Some(name), []) => {
                let service = self.services.get(name).ok_or_else(|| Failure::no_service(name))?;
                for (view, column) in features(service) {
                    wanted.add(service, view, column, request.full_feature_names);
                }
            }
            (None, [_, ..]) => {
                for reference in &request.features.0 {
                    let (view, column) = reference
                        .split_once(':')
                        .ok_or_else(|| Failure::bad_reference(reference))?;
                    let service = self.views.get(view).ok_or_else(|| Failure::no_view(view))?;
                    if !features(service).any(|found| found == (view, column)) {
                        return Err(Failure::no_feature(view, column));
                    }
                    wanted.add(service, view, column, request.full_feature_names);
                }
            }
            (Some(_), [_, ..]) => {
                return Err(Failure::invalid("`feature_service` and `features`: give one of them"));
            }
            (None, []) => {
                return Err(Failure::invalid("no features: give `feature_service` or `features`"));
            }
        }
        wanted.check(request)?;
        Ok(wanted)
    }
}

/// Every feature of a service, with the view or the function that it is of, in order.
fn features(service: &FeatureService) -> impl Iterator<Item = (&str, &str)> {
    let looked_up = service.views().iter().flat_map(|view| {
        view.features().iter().map(|feature| (view.name(), feature.field.name.as_str()))
    });
    let computed = service.on_demand().iter().flat_map(|function| {
        function.outputs.iter().map(|output| (function.name.as_str(), output.name.as_str()))
    });
    looked_up.chain(computed)
}

impl Wanted {
    fn add(&mut self, service: &Arc<FeatureService>, view: &str, column: &str, full: bool) {
        let known = self.services.iter().position(|other| Arc::ptr_eq(other, service));
        let place = known.unwrap_or_else(|| {
            self.services.push(Arc::clone(service));
            self.services.len() - 1
        });
        let shown = if full { format!("{view}__{column}") } else { column.to_owned() };
        let (view, column) = (view.to_owned(), column.to_owned());
        self.features.push(WantedFeature { service: place, view, column, shown });
    }

    /// Names that are shown must tell features apart.
    fn check(&self, request: &Request) -> Result<(), Failure> {
        let mut seen = BTreeSet::new();
        match self.features.iter().find(|feature| !seen.insert(&feature.shown)) {
            Some(twice) => Err(Failure::collision(&twice.shown, request.full_feature_names)),
            None => Ok(()),
        }
    }
}
