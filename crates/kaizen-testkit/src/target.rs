//! The conformance suite of [`Target`], a target in memory, and one that fails on demand.
//!
//! ```
//! use kaizen_core::Digest;
//! use kaizen_testkit::target::{self, MemoryTarget};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let releases = [Digest::of("a"), Digest::of("b")];
//! target::suite(async || MemoryTarget::new("memory", releases), &releases).await;
//! # }
//! ```
#![allow(clippy::unwrap_used, clippy::panic, reason = "a suite fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kaizen_core::{Digest, Error, ErrorKind, Result, SlotStatus, Target, async_trait};

/// Runs every rule, each on a new and empty target that `make` gives. The target must be able to run
/// both releases.
pub async fn suite<T: Target>(make: impl AsyncFn() -> T, releases: &[Digest; 2]) {
    has_a_name(&make().await).await;
    starts_without_traffic(&make().await, releases).await;
    moves_all_traffic_at_once(&make().await, releases).await;
    divides_traffic_by_weight(&make().await, releases).await;
    refuses_traffic_for_an_empty_slot(&make().await, releases).await;
    refuses_zero_weights(&make().await, releases).await;
    refuses_to_start_over_traffic(&make().await, releases).await;
    refuses_to_stop_traffic(&make().await, releases).await;
    replaces_an_idle_release(&make().await, releases).await;
    stops_an_idle_slot(&make().await, releases).await;
    refuses_an_unknown_release(&make().await, releases).await;
}

/// The log records a target's name, so it has one, and always the same.
pub async fn has_a_name(target: &dyn Target) {
    assert!(!target.name().is_empty(), "a target has a name");
    let name = target.name().to_owned();
    let status = target.status().await.unwrap();
    assert!(status.is_empty(), "a new target runs nothing, but this one runs {status:?}");
    assert_eq!(target.name(), name, "a target keeps its name");
}

/// A release that was started is ready and has no traffic.
pub async fn starts_without_traffic(target: &dyn Target, releases: &[Digest; 2]) {
    target.start("blue", &releases[0]).await.unwrap();
    let status = target.status().await.unwrap();
    assert_eq!(status.keys().collect::<Vec<_>>(), ["blue"]);
    assert_eq!(status["blue"], SlotStatus { release: releases[0], ready: true, weight: 0 });
}

/// A slot that a shift does not name loses its traffic and goes on running.
pub async fn moves_all_traffic_at_once(target: &dyn Target, releases: &[Digest; 2]) {
    start_both(target, releases).await;
    target.shift(&weights(&[("blue", 100)])).await.unwrap();
    assert_eq!(traffic(target).await, ["blue"]);
    target.shift(&weights(&[("green", 100)])).await.unwrap();
    assert_eq!(traffic(target).await, ["green"]);
    let blue = &target.status().await.unwrap()["blue"];
    assert!(blue.ready && blue.release == releases[0], "the old slot stays warm: {blue:?}");
}

/// Shares are weights over their sum, whatever the sum is.
pub async fn divides_traffic_by_weight(target: &dyn Target, releases: &[Digest; 2]) {
    start_both(target, releases).await;
    target.shift(&weights(&[("blue", 30), ("green", 10)])).await.unwrap();
    let status = target.status().await.unwrap();
    let (blue, green) = (status["blue"].weight, status["green"].weight);
    assert!(green > 0 && blue == 3 * green, "weights 30 to 10 became {blue} to {green}");
}

/// Naming a slot that runs nothing is refused, and the traffic stays where it was.
pub async fn refuses_traffic_for_an_empty_slot(target: &dyn Target, releases: &[Digest; 2]) {
    target.start("blue", &releases[0]).await.unwrap();
    target.shift(&weights(&[("blue", 100)])).await.unwrap();
    let before = target.status().await.unwrap();
    for wanted in [weights(&[("green", 100)]), weights(&[("blue", 50), ("green", 50)])] {
        refused(target.shift(&wanted).await, "traffic for an empty slot");
        assert_eq!(target.status().await.unwrap(), before, "a refused shift changes nothing");
    }
}

/// Traffic must go somewhere.
pub async fn refuses_zero_weights(target: &dyn Target, releases: &[Digest; 2]) {
    start_both(target, releases).await;
    target.shift(&weights(&[("blue", 100)])).await.unwrap();
    let before = target.status().await.unwrap();
    for wanted in [weights(&[]), weights(&[("blue", 0)]), weights(&[("blue", 0), ("green", 0)])] {
        refused(target.shift(&wanted).await, "only zero weights");
        assert_eq!(target.status().await.unwrap(), before, "a refused shift changes nothing");
    }
}

/// What answers requests is not replaced under them.
pub async fn refuses_to_start_over_traffic(target: &dyn Target, releases: &[Digest; 2]) {
    target.start("blue", &releases[0]).await.unwrap();
    target.shift(&weights(&[("blue", 100)])).await.unwrap();
    let before = target.status().await.unwrap();
    refused(target.start("blue", &releases[1]).await, "a start over traffic");
    assert_eq!(target.status().await.unwrap(), before, "a refused start changes nothing");
}

/// What answers requests is not stopped under them.
pub async fn refuses_to_stop_traffic(target: &dyn Target, releases: &[Digest; 2]) {
    target.start("blue", &releases[0]).await.unwrap();
    target.shift(&weights(&[("blue", 100)])).await.unwrap();
    let before = target.status().await.unwrap();
    refused(target.stop("blue").await, "a stop of traffic");
    assert_eq!(target.status().await.unwrap(), before, "a refused stop changes nothing");
}

/// A start in a slot without traffic replaces what ran there.
pub async fn replaces_an_idle_release(target: &dyn Target, releases: &[Digest; 2]) {
    target.start("blue", &releases[0]).await.unwrap();
    target.start("blue", &releases[1]).await.unwrap();
    let status = target.status().await.unwrap();
    assert_eq!(status["blue"], SlotStatus { release: releases[1], ready: true, weight: 0 });
}

/// A stopped slot is gone, and may be stopped again: whoever was cut off can repeat itself.
pub async fn stops_an_idle_slot(target: &dyn Target, releases: &[Digest; 2]) {
    start_both(target, releases).await;
    target.shift(&weights(&[("blue", 100)])).await.unwrap();
    for _ in 0..2 {
        target.stop("green").await.unwrap();
        let status = target.status().await.unwrap();
        assert_eq!(status.keys().collect::<Vec<_>>(), ["blue"], "green was stopped");
    }
    target.start("green", &releases[1]).await.unwrap();
}

/// A release that the target cannot find does not start.
pub async fn refuses_an_unknown_release(target: &dyn Target, releases: &[Digest; 2]) {
    target.start("blue", &releases[0]).await.unwrap();
    let before = target.status().await.unwrap();
    let error = target.start("green", &Digest::of("no such release")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "an unknown release: {error:#}");
    assert_eq!(target.status().await.unwrap(), before, "a failed start leaves its slot empty");
}

async fn start_both(target: &dyn Target, releases: &[Digest; 2]) {
    target.start("blue", &releases[0]).await.unwrap();
    target.start("green", &releases[1]).await.unwrap();
}

async fn traffic(target: &dyn Target) -> Vec<String> {
    let status = target.status().await.unwrap();
    status.into_iter().filter(|(_, slot)| slot.weight > 0).map(|(name, _)| name).collect()
}

fn weights(slots: &[(&str, u32)]) -> BTreeMap<String, u32> {
    slots.iter().map(|(slot, weight)| ((*slot).to_owned(), *weight)).collect()
}

fn refused(result: Result<()>, what: &str) {
    match result {
        Ok(()) => panic!("{what} was not refused"),
        Err(error) => assert_eq!(error.kind(), ErrorKind::Refused, "{what}: {error:#}"),
    }
}

/// A target that only keeps account of what it was asked to run.
#[derive(Debug)]
pub struct MemoryTarget {
    name: String,
    releases: BTreeSet<Digest>,
    slots: Mutex<BTreeMap<String, SlotStatus>>,
}

impl MemoryTarget {
    /// An empty target that can run these releases.
    pub fn new(name: impl Into<String>, releases: impl IntoIterator<Item = Digest>) -> Self {
        let releases = releases.into_iter().collect();
        Self { name: name.into(), releases, slots: Mutex::default() }
    }

    /// Makes a slot ready or not, as if its process had died.
    pub fn set_ready(&self, slot: &str, ready: bool) {
        if let Some(status) = self.slots().get_mut(slot) {
            status.ready = ready;
        }
    }

    /// Forgets everything, as if the machine had been restarted.
    pub fn crash(&self) {
        self.slots().clear();
    }

    fn slots(&self) -> MutexGuard<'_, BTreeMap<String, SlotStatus>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn idle(slots: &BTreeMap<String, SlotStatus>, slot: &str) -> Result<()> {
        match slots.get(slot) {
            Some(busy) if busy.weight > 0 => {
                Err(Error::refused(format!("slot `{slot}`: it has traffic")))
            }
            _ => Ok(()),
        }
    }
}

#[async_trait]
impl Target for MemoryTarget {
    fn name(&self) -> &str {
        &self.name
    }

    async fn start(&self, slot: &str, release: &Digest) -> Result<()> {
        let mut slots = self.slots();
        Self::idle(&slots, slot)?;
        if !self.releases.contains(release) {
            return Err(Error::not_found(format!("release {release}")));
        }
        slots.insert(slot.to_owned(), SlotStatus { release: *release, ready: true, weight: 0 });
        Ok(())
    }

    async fn shift(&self, weights: &BTreeMap<String, u32>) -> Result<()> {
        let mut slots = self.slots();
        let ready = |slot: &String| slots.get(slot).is_some_and(|status| status.ready);
        if let Some(slot) = weights.keys().find(|slot| !ready(slot)) {
            return Err(Error::refused(format!("slot `{slot}`: it is not ready")));
        }
        if weights.values().all(|weight| *weight == 0) {
            return Err(Error::refused("all weights are zero"));
        }
        for (name, status) in slots.iter_mut() {
            status.weight = weights.get(name).copied().unwrap_or(0);
        }
        Ok(())
    }

    async fn status(&self) -> Result<BTreeMap<String, SlotStatus>> {
        Ok(self.slots().clone())
    }

    async fn stop(&self, slot: &str) -> Result<()> {
        let mut slots = self.slots();
        Self::idle(&slots, slot)?;
        slots.remove(slot);
        Ok(())
    }
}

/// When a call fails, whether it has had its effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The call never arrived.
    Before,
    /// The call was carried out, and its answer was lost.
    After,
}

/// A target of which one call, of any kind, fails with [`ErrorKind::Unavailable`].
#[derive(Debug)]
pub struct FaultyTarget<T> {
    inner: Arc<T>,
    fault: Fault,
    left: AtomicU32,
}

impl<T: Target> FaultyTarget<T> {
    /// The call of this number fails, counted from 1; with 0, none does.
    pub fn new(inner: Arc<T>, fault: Fault, call: u32) -> Self {
        Self { inner, fault, left: AtomicU32::new(call) }
    }

    /// Whether the call that was to fail has been made.
    pub fn has_failed(&self) -> bool {
        self.left.load(Ordering::Relaxed) == 0
    }

    async fn pass<R>(&self, call: impl Future<Output = Result<R>>) -> Result<R> {
        let count = |left: u32| left.checked_sub(1);
        let now = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, count) == Ok(1);
        if now && self.fault == Fault::Before {
            return Err(Error::new(ErrorKind::Unavailable, "target: injected fault"));
        }
        let result = call.await;
        if now {
            return Err(Error::new(ErrorKind::Unavailable, "target: injected fault"));
        }
        result
    }
}

#[async_trait]
impl<T: Target> Target for FaultyTarget<T> {
    fn name(&self) -> &str {
        self.inner.name()
    }

    async fn start(&self, slot: &str, release: &Digest) -> Result<()> {
        self.pass(self.inner.start(slot, release)).await
    }

    async fn shift(&self, weights: &BTreeMap<String, u32>) -> Result<()> {
        self.pass(self.inner.shift(weights)).await
    }

    async fn status(&self) -> Result<BTreeMap<String, SlotStatus>> {
        self.pass(self.inner.status()).await
    }

    async fn stop(&self, slot: &str) -> Result<()> {
        self.pass(self.inner.stop(slot)).await
    }
}
