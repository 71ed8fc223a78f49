//! The weighted router: which release answers which prediction.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock};

use kaizen_core::{Context, Digest, Digester, Error, ErrorKind, Result, SlotStatus};

use crate::Servable;

/// Divides the predictions of one name among named slots, each of which holds a loaded release.
///
/// The division is sticky. The first eight bytes, as a big-endian number, of the SHA-256 of the
/// salt's length (eight bytes, big-endian), the salt and the id, modulo [`BUCKETS`](Self::BUCKETS),
/// are the id's bucket; and the slots, in the order of their names, share the buckets in proportion
/// to their weights. So the same id meets the same release for as long as the weights stand, on every
/// replica. It is monotone too: of two slots, and for the first and the last of more, whoever met a
/// slot still meets it when its share has grown.
///
/// Reading takes a snapshot: a request that has begun is answered by the releases that it began
/// with, whatever changes meanwhile. A refused change leaves everything as it was.
#[derive(Debug)]
pub struct Router {
    name: String,
    salt: String,
    state: RwLock<Arc<Slots>>,
}

/// The slots at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Slots(BTreeMap<String, Slot>);

#[derive(Clone, Debug)]
struct Slot {
    servable: Arc<Servable>,
    weight: u32,
}

impl Router {
    /// The finest share of the traffic is one in this many.
    pub const BUCKETS: u64 = 10_000;

    /// A router without slots for releases of this name. The name is also the salt of the hash.
    pub fn new(name: impl Into<String>) -> Self {
        let name = name.into();
        Self { salt: name.clone(), name, state: RwLock::default() }
    }

    /// Draws the cohorts anew: another salt, another division of the same ids.
    #[must_use]
    pub fn with_salt(mut self, salt: impl Into<String>) -> Self {
        self.salt = salt.into();
        self
    }

    /// The name of the releases that it serves.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Puts a release into a slot, without traffic, in place of what was there. A slot that has
    /// traffic is [`ErrorKind::Refused`], a release of another name [`ErrorKind::Invalid`].
    pub fn set(&self, slot: &str, servable: Arc<Servable>) -> Result<()> {
        let found = &servable.release().name;
        if *found != self.name {
            let (id, name) = (servable.id(), &self.name);
            return Err(Error::invalid(format!(
                "release {id}: its name is `{found}`, not `{name}`"
            )));
        }
        self.change(|slots| {
            slots.refuse_traffic(slot, "replaced")?;
            slots.0.insert(slot.to_owned(), Slot { servable, weight: 0 });
            Ok(())
        })
    }

    /// Divides the traffic anew, at once: a slot that is not named gets none. Naming an empty slot,
    /// or only zero weights, is [`ErrorKind::Refused`].
    pub fn shift(&self, weights: &BTreeMap<String, u32>) -> Result<()> {
        if weights.values().all(|weight| *weight == 0) {
            return Err(Error::refused(format!("router `{}`: all weights are zero", self.name)));
        }
        self.change(|slots| {
            if let Some(empty) = weights.keys().find(|slot| !slots.0.contains_key(*slot)) {
                return Err(Error::refused(format!("slot `{empty}`: it holds no release")));
            }
            for (name, slot) in &mut slots.0 {
                slot.weight = weights.get(name).copied().unwrap_or(0);
            }
            Ok(())
        })
    }

    /// Empties a slot; an empty one stays so. One that has traffic is [`ErrorKind::Refused`].
    pub fn remove(&self, slot: &str) -> Result<()> {
        self.change(|slots| {
            slots.refuse_traffic(slot, "removed")?;
            slots.0.remove(slot);
            Ok(())
        })
    }

    /// The release that answers the prediction of this id; [`ErrorKind::Unavailable`] if no slot has
    /// traffic.
    pub fn pick(&self, id: &str) -> Result<Arc<Servable>> {
        let slots = self.slots();
        slots.at(self.bucket(id)).map(Arc::clone).context(ErrorKind::Unavailable, self.idle())
    }

    /// Every slot that holds a release.
    pub fn status(&self) -> BTreeMap<String, SlotStatus> {
        let status = |slot: &Slot| SlotStatus {
            release: *slot.servable.id(),
            ready: true,
            weight: slot.weight,
        };
        self.slots().0.iter().map(|(name, slot)| (name.clone(), status(slot))).collect()
    }

    /// The slots as they are now.
    pub(crate) fn slots(&self) -> Arc<Slots> {
        Arc::clone(&self.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The bucket of an id, below [`BUCKETS`](Self::BUCKETS).
    pub(crate) fn bucket(&self, id: &str) -> u64 {
        let mut digester = Digester::default();
        // The length keeps salt and id apart.
        digester.update((self.salt.len() as u64).to_be_bytes());
        digester.update(&self.salt);
        digester.update(id);
        leading(&digester.finish()) % Self::BUCKETS
    }

    /// What to say when no slot has traffic.
    pub(crate) fn idle(&self) -> String {
        format!("model `{}`: no release has traffic", self.name)
    }

    fn change(&self, change: impl FnOnce(&mut Slots) -> Result<()>) -> Result<()> {
        let mut current = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let mut next = Slots::clone(&current);
        change(&mut next)?;
        *current = Arc::new(next);
        Ok(())
    }
}

/// The first eight bytes of a digest as a number.
fn leading(digest: &Digest) -> u64 {
    digest.as_bytes()[..8].iter().fold(0, |number, byte| (number << 8) | u64::from(*byte))
}

impl Slots {
    /// The release whose share of the buckets holds this one.
    pub(crate) fn at(&self, bucket: u64) -> Option<&Arc<Servable>> {
        let total: u64 = self.0.values().map(|slot| u64::from(slot.weight)).sum();
        let mut reached = 0;
        let mut slots = self.0.values().filter(|slot| slot.weight > 0);
        slots
            .find(|slot| {
                reached += u64::from(slot.weight);
                u128::from(bucket) * u128::from(total)
                    < u128::from(reached) * u128::from(Router::BUCKETS)
            })
            .map(|slot| &slot.servable)
    }

    /// The release of this version, with traffic or without; the one with the most if there are
    /// several.
    pub(crate) fn version(&self, version: u32) -> Option<&Arc<Servable>> {
        self.most(|slot| slot.servable.release().version == version)
    }

    /// The release that has the most traffic.
    pub(crate) fn leading(&self) -> Option<&Arc<Servable>> {
        self.most(|slot| slot.weight > 0)
    }

    /// The versions that are loaded, ascending.
    pub(crate) fn versions(&self) -> BTreeSet<u32> {
        self.0.values().map(|slot| slot.servable.release().version).collect()
    }

    fn most(&self, wanted: impl Fn(&Slot) -> bool) -> Option<&Arc<Servable>> {
        let found = self.0.values().filter(|slot| wanted(slot));
        // `rev`, because of equals the last is taken and we want the first.
        found.rev().max_by_key(|slot| slot.weight).map(|slot| &slot.servable)
    }

    fn refuse_traffic(&self, slot: &str, done: &str) -> Result<()> {
        match self.0.get(slot) {
            Some(busy) if busy.weight > 0 => {
                let release = busy.servable.id();
                Err(Error::refused(format!(
                    "slot `{slot}`: it has traffic (release {release}) and cannot be {done}"
                )))
            }
            _ => Ok(()),
        }
    }
}
