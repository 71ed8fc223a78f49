//! Looking for versions.

use std::collections::BTreeMap;
use std::sync::Arc;

use kaizen_core::record::Model;
use kaizen_core::{ArtifactStore, Digest, Records as _, Result};

use super::evaluated::Evaluated;
use super::fold::Fold;
use super::{Registry, VersionState};

/// What to look for; every condition that is set must hold.
///
/// ```
/// use kaizen_store::Search;
///
/// let search = Search::new().name_part("late").alias("champion").metric_at_least("auc", 0.7);
/// assert_eq!(search.name_part.as_deref(), Some("late"));
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Search {
    /// The name has this in it, whatever the case of its letters.
    pub name_part: Option<String>,
    /// The version holds this alias now.
    pub alias: Option<String>,
    /// The version has these tags; with this value, if one is given. A tag of the name counts
    /// where the version has none of that key.
    pub tags: BTreeMap<String, Option<String>>,
    /// The model was trained by the algorithm of this name.
    pub algorithm: Option<String>,
    /// An evaluation of the model that the log knows has these metrics, each within its bounds
    /// (both inclusive).
    pub metrics: BTreeMap<String, (f64, f64)>,
    /// Whether a person ever gave it an alias against the gates.
    pub overridden: Option<bool>,
    /// At most this many versions.
    pub limit: usize,
}

impl Default for Search {
    fn default() -> Self {
        Self {
            name_part: None,
            alias: None,
            tags: BTreeMap::new(),
            algorithm: None,
            metrics: BTreeMap::new(),
            overridden: None,
            limit: 1_000,
        }
    }
}

impl Search {
    /// Everything, up to 1,000 versions.
    pub fn new() -> Self {
        Self::default()
    }

    /// Only names with this in them, whatever the case of its letters.
    #[must_use]
    pub fn name_part(self, part: impl Into<String>) -> Self {
        Self { name_part: Some(part.into()), ..self }
    }

    /// Only holders of this alias.
    #[must_use]
    pub fn alias(self, alias: impl Into<String>) -> Self {
        Self { alias: Some(alias.into()), ..self }
    }

    /// Only with this tag, whatever it says.
    #[must_use]
    pub fn tagged(mut self, key: impl Into<String>) -> Self {
        self.tags.insert(key.into(), None);
        self
    }

    /// Only with this tag, and that it says this.
    #[must_use]
    pub fn tag(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.tags.insert(key.into(), Some(value.into()));
        self
    }

    /// Only models of this algorithm.
    #[must_use]
    pub fn algorithm(self, name: impl Into<String>) -> Self {
        Self { algorithm: Some(name.into()), ..self }
    }

    /// Only models of which an evaluation found at least this.
    #[must_use]
    pub fn metric_at_least(mut self, metric: impl Into<String>, bound: f64) -> Self {
        self.metrics.entry(metric.into()).or_insert(NO_BOUNDS).0 = bound;
        self
    }

    /// Only models of which an evaluation found at most this.
    #[must_use]
    pub fn metric_at_most(mut self, metric: impl Into<String>, bound: f64) -> Self {
        self.metrics.entry(metric.into()).or_insert(NO_BOUNDS).1 = bound;
        self
    }

    /// Only versions that a person gave an alias against the gates, or only others.
    #[must_use]
    pub fn overridden(self, overridden: bool) -> Self {
        Self { overridden: Some(overridden), ..self }
    }

    /// At most this many.
    #[must_use]
    pub fn limit(self, limit: usize) -> Self {
        Self { limit, ..self }
    }

    /// The conditions that the log alone decides.
    fn fits(&self, state: &VersionState, of_name: &BTreeMap<String, String>) -> bool {
        let tagged = |(key, wanted): (&String, &Option<String>)| {
            let said = state.tags.get(key).or_else(|| of_name.get(key));
            said.is_some_and(|said| wanted.as_ref().is_none_or(|wanted| wanted == said))
        };
        self.alias.as_ref().is_none_or(|alias| state.aliases.contains(alias))
            && self.overridden.is_none_or(|wanted| wanted == state.version.overridden)
            && self.tags.iter().all(tagged)
    }

    fn candidates(&self, fold: &Fold) -> Vec<VersionState> {
        let part = self.name_part.as_ref().map(|part| part.to_lowercase());
        let mut found = Vec::new();
        for name in fold.names() {
            if part.as_ref().is_some_and(|part| !name.to_lowercase().contains(part)) {
                continue;
            }
            let of_name = fold.tags(&name, None).map(|tags| tags.now.clone()).unwrap_or_default();
            let states = fold.versions(&name).into_iter();
            let states = states.filter_map(|version| fold.state(&name, version.version));
            found.extend(states.filter(|state| self.fits(state, &of_name)));
        }
        found
    }

    /// The conditions that the records decide; of evaluations only those that the log knows.
    async fn proven(
        &self,
        store: &dyn ArtifactStore,
        model: &Digest,
        evaluated: &Evaluated,
    ) -> Result<bool> {
        if let Some(algorithm) = &self.algorithm {
            let found = store.find::<Model>(model).await?;
            if found.is_none_or(|found| found.record.algorithm.name != *algorithm) {
                return Ok(false);
            }
        }
        if self.metrics.is_empty() {
            return Ok(true);
        }
        let evaluations = evaluated.of(store, model).await?;
        Ok(evaluations.iter().any(|found| {
            self.metrics.iter().all(|(metric, (low, high))| {
                let metric = found.record.metrics.get(metric);
                metric.is_some_and(|m| *low <= m.value && m.value <= *high)
            })
        }))
    }
}

const NO_BOUNDS: (f64, f64) = (f64::NEG_INFINITY, f64::INFINITY);

impl Registry {
    /// The versions that fit, by name and number. Records are read only if an algorithm or a metric
    /// is asked for, and only of the versions that fit all else. A version whose records were
    /// collected is known by what the log says of it: it fits neither. For a metric only
    /// evaluations that the log knows count: of a log that was pruned, those whose entries are
    /// left. The first such search reads the log, and each later one what is new in it.
    ///
    /// # Errors
    ///
    /// As reading the records, if it comes to that.
    pub async fn search(&self, search: &Search) -> Result<Vec<VersionState>> {
        let candidates = search.candidates(&*self.current().await?);
        let evaluated = match candidates.is_empty() || search.metrics.is_empty() {
            true => Arc::default(),
            false => self.evaluated().await?,
        };
        let mut found = Vec::new();
        for state in candidates {
            if found.len() >= search.limit {
                break;
            }
            if search.proven(self.store.as_ref(), &state.version.model, &evaluated).await? {
                found.push(state);
            }
        }
        Ok(found)
    }

    /// The evaluations that the log knows now.
    async fn evaluated(&self) -> Result<Arc<Evaluated>> {
        let mut evaluated = self.evaluated.lock().await;
        Arc::make_mut(&mut evaluated).read_on(self.log.as_ref()).await?;
        Ok(Arc::clone(&evaluated))
    }
}
