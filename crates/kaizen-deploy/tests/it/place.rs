//! A place to deploy to, with everything in memory.

use std::collections::BTreeMap;
use std::sync::Arc;

use kaizen_core::record::{Deployment, Occurrence};
use kaizen_core::{Actor, AuditLog, Digest, Entry, Event, OperationId, Records, Target, Timestamp};
use kaizen_deploy::BlueGreen;
use kaizen_testkit::target::{Fault, FaultyTarget, MemoryTarget};
use kaizen_testkit::{MemoryLog, MemoryStore};

pub(crate) struct Place {
    pub(crate) target: Arc<MemoryTarget>,
    pub(crate) store: Arc<MemoryStore>,
    pub(crate) log: Arc<MemoryLog>,
}

pub(crate) fn release(number: u8) -> Digest {
    Digest::of([number])
}

pub(crate) fn turn() -> Occurrence {
    let at: Timestamp = "2013-03-01T00:00:00Z".parse().unwrap();
    Occurrence::new(at, Actor::system("cycle"), OperationId::new("rollout", at))
}

impl Place {
    pub(crate) fn new() -> Self {
        let target = Arc::new(MemoryTarget::new("shop", (1..=9).map(release)));
        Self { target, store: Arc::default(), log: Arc::default() }
    }

    pub(crate) fn rollout(&self) -> BlueGreen {
        self.rollout_on(Arc::clone(&self.target) as Arc<dyn Target>)
    }

    pub(crate) fn rollout_on(&self, target: Arc<dyn Target>) -> BlueGreen {
        BlueGreen::new(target, Arc::clone(&self.store) as _, Arc::clone(&self.log) as _)
    }

    /// A rollout whose target fails at the nth call.
    pub(crate) fn faulty(
        &self,
        fault: Fault,
        call: u32,
    ) -> (Arc<FaultyTarget<MemoryTarget>>, BlueGreen) {
        let target = Arc::new(FaultyTarget::new(Arc::clone(&self.target), fault, call));
        let rollout = self.rollout_on(Arc::clone(&target) as Arc<dyn Target>);
        (target, rollout)
    }

    /// The slot and the release that have all traffic; panics if traffic is divided, or goes where
    /// nobody answers.
    pub(crate) async fn live(&self) -> Option<(String, Digest)> {
        let status = self.target.status().await.unwrap();
        let busy: Vec<_> = status.into_iter().filter(|(_, slot)| slot.weight > 0).collect();
        assert!(busy.len() <= 1, "traffic is divided: {busy:?}");
        let (slot, status) = busy.into_iter().next()?;
        assert!(status.ready, "traffic goes to a release that is not ready");
        Some((slot, status.release))
    }

    /// The slot and the release that have all traffic by the log.
    pub(crate) async fn logged(&self) -> Option<(String, Digest)> {
        let deployment = self.deployments().await.pop()?.1;
        let slot = deployment.weights.into_keys().next()?;
        let release = deployment.slots[&slot];
        Some((slot, release))
    }

    pub(crate) async fn deployments(&self) -> Vec<(String, Deployment)> {
        let mut found = Vec::new();
        for entry in self.entries().await {
            if let Event::Deployed { step, .. } = entry.event {
                found.push((step, self.store.get(&entry.subject).await.unwrap().record));
            }
        }
        found
    }

    pub(crate) async fn entries(&self) -> Vec<Entry> {
        self.log.read(0..self.log.size().await.unwrap()).await.unwrap()
    }

    pub(crate) async fn steps(&self) -> Vec<String> {
        self.deployments().await.into_iter().map(|(step, _)| step).collect()
    }
}

pub(crate) fn slots(pairs: &[(&str, u8)]) -> BTreeMap<String, Digest> {
    pairs.iter().map(|(slot, number)| ((*slot).to_owned(), release(*number))).collect()
}
