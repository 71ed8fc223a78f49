//! What is worked out of a view's definition once, and kept.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use kaizen_core::{Bytes, Result};
use kaizen_table::FeatureView;

use super::latest;
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
    /// Whether [`latest`](super::latest) answers it.
    pub(crate) latest: bool,
    /// How far the view goes, as it was when it was last read.
    reach: RwLock<Option<Arc<Reach>>>,
}

/// How far a view goes, with what is parsed of it.
#[derive(Debug)]
pub(crate) struct Reach {
    bytes: Bytes,
    pub(crate) progress: Progress,
    pub(crate) key_types: Arc<KeyTypes>,
}

impl Prepared {
    fn new(view: &FeatureView) -> Result<Self> {
        let (space, layout, latest) = (Space::of(view)?, Layout::of(view), latest::answers(view));
        Ok(Self { view: view.clone(), space, layout, latest, reach: RwLock::default() })
    }

    /// How far the view went when it was last read.
    pub(crate) fn reach(&self) -> Option<Arc<Reach>> {
        self.reach.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads how far the view goes, and keeps it: it changes with writes, not with reads.
    pub(crate) fn read(&self, bytes: Bytes) -> Result<Arc<Reach>> {
        if let Some(kept) = self.reach().filter(|kept| kept.bytes == bytes) {
            return Ok(kept);
        }
        let progress = Progress::parse(&bytes)?;
        let key_types = Arc::new(progress.key_types()?);
        let reach = Arc::new(Reach { bytes, progress, key_types });
        let mut kept = self.reach.write().unwrap_or_else(PoisonError::into_inner);
        *kept = Some(Arc::clone(&reach));
        Ok(reach)
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
