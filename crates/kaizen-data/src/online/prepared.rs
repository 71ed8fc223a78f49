//! What is worked out of a view's definition once, and kept.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use kaizen_core::Result;
use kaizen_table::FeatureView;

use super::space::{Progress, Space};
use crate::keys::KeyTypes;
use crate::point_in_time::Layout;

/// At most this many definitions are kept.
const MOST: usize = 1_024;

/// A view with what follows from its definition. Its digest is that of its JSON, which takes longer
/// than a look-up.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) view: FeatureView,
    pub(crate) space: Space,
    pub(crate) layout: Layout,
    /// The types of the keys, which are known once the space has been read.
    key_types: RwLock<Option<Arc<KeyTypes>>>,
}

impl Prepared {
    fn new(view: &FeatureView) -> Result<Self> {
        let (space, layout) = (Space::of(view)?, Layout::of(view));
        Ok(Self { view: view.clone(), space, layout, key_types: RwLock::default() })
    }

    /// The types of the keys, if they are known.
    pub(crate) fn key_types(&self) -> Option<Arc<KeyTypes>> {
        self.key_types.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Keeps the types of the keys that this progress tells.
    pub(crate) fn learn(&self, progress: &Progress) -> Result<Arc<KeyTypes>> {
        let types = Arc::new(progress.key_types()?);
        let mut kept = self.key_types.write().unwrap_or_else(PoisonError::into_inner);
        *kept = Some(Arc::clone(&types));
        Ok(types)
    }
}

/// Views by name; of each name the definitions that were asked for.
#[derive(Debug, Default)]
pub(crate) struct PreparedViews(RwLock<BTreeMap<String, Vec<Arc<Prepared>>>>);

impl PreparedViews {
    /// What follows from this definition.
    pub(crate) fn of(&self, view: &FeatureView) -> Result<Arc<Prepared>> {
        let find = |kept: &BTreeMap<String, Vec<Arc<Prepared>>>| {
            kept.get(view.name())?.iter().find(|one| one.view == *view).cloned()
        };
        if let Some(found) = find(&self.0.read().unwrap_or_else(PoisonError::into_inner)) {
            return Ok(found);
        }
        let prepared = Arc::new(Prepared::new(view)?);
        let mut kept = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if kept.values().map(Vec::len).sum::<usize>() >= MOST {
            kept.clear();
        }
        kept.entry(view.name().to_owned()).or_default().push(Arc::clone(&prepared));
        Ok(prepared)
    }
}
