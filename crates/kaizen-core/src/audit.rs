//! What happened, and the port of the log that keeps it.

use std::fmt;
use std::ops::Range;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::record::Occurrence;
use crate::{Digest, Error, ErrorKind, Result, Timestamp, serde_int};

/// Who did it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Actor {
    /// A program, such as the cycle.
    System(String),
    /// A person.
    Person(String),
}

impl Actor {
    /// A program of this name.
    pub fn system(name: impl Into<String>) -> Self {
        Self::System(name.into())
    }

    /// A person of this name.
    pub fn person(name: impl Into<String>) -> Self {
        Self::Person(name.into())
    }
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System(name) | Self::Person(name) => f.write_str(name),
        }
    }
}

/// Names one turn of work; everything that the turn did carries it.
///
/// It is derived, not drawn: the same turn has the same name, so work that was cut off and is done
/// again is known again.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OperationId(String);

impl OperationId {
    /// The operation of this name at this instant.
    pub fn new(name: &str, at: Timestamp) -> Self {
        Self(format!("{name}@{at}"))
    }

    /// The name of the operation, without its instant.
    pub fn name(&self) -> &str {
        self.0.rsplit_once('@').map_or(self.0.as_str(), |(name, _)| name)
    }
}

impl fmt::Display for OperationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why an alias moved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AliasChange {
    /// A decision whose gates passed.
    Promotion,
    /// A return to the version that held the alias before.
    Rollback,
    /// A person moved it against the gates, and says why.
    Override {
        /// The person's reason.
        reason: String,
    },
}

/// A change of state. Subject and evidence stand beside it, in the [`Entry`].
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Event {
    /// The rules in force were set: the subject is their digest.
    Configured,
    /// A training set was made: the subject is it.
    DataSnapshot,
    /// A pipeline step ran: the subject is its run.
    Ran {
        /// The name of the step.
        step: String,
    },
    /// A model was trained: the subject is it.
    Trained,
    /// A model was evaluated: the subject is the evaluation.
    Evaluated,
    /// The gates were applied: the subject is the decision.
    Decided {
        /// Whether every gate passed.
        approved: bool,
    },
    /// A model entered the registry: the subject is it.
    Registered {
        /// The name under which versions are counted.
        name: String,
        /// The version that it became, from 1.
        version: u32,
    },
    /// An alias moved: the subject is the model that it now names.
    AliasMoved {
        /// The name under which versions are counted.
        name: String,
        /// The alias, such as `champion`.
        alias: String,
        /// The version that it named before.
        from: Option<u32>,
        /// The version that it names now.
        to: u32,
        /// Why.
        change: AliasChange,
    },
    /// A tag was set or taken away: the subject is the model of the version, or the digest of the
    /// name's UTF-8 bytes if the tag is on the name itself.
    Tagged {
        /// The name under which versions are counted.
        name: String,
        /// The version that the tag is on; `None` for the name itself.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        version: Option<u32>,
        /// The tag.
        key: String,
        /// What it says now; `None` if it was taken away.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        value: Option<String>,
    },
    /// Everything that a prediction needs was bound together: the subject is the release.
    Released,
    /// A container image was made: the subject is it.
    Packaged,
    /// A deployment changed: the subject is the deployment.
    Deployed {
        /// The target's name.
        target: String,
        /// What was done: `started`, `shifted`, `rolled_back` or `retired`.
        step: String,
    },
    /// A monitor raised its alarm: the subject is the drift report.
    DriftAlarm,
    /// A new training was asked for: the subject is the request.
    RetrainRequested,
    /// An entity was erased on request: the subject is the receipt.
    Erased,
    /// A blob was removed for good, and is not to be missed: the subject is its digest. A
    /// replacement, if there is one, is the evidence.
    Removed {
        /// Why.
        reason: String,
    },
    /// A blob that an entry called removed is there after all, and is to be missed again: the
    /// subject is its digest.
    Restored,
    /// What the first `size` entries come to was written down, so that a registry need not read
    /// them all when it is opened: the subject is that blob.
    Folded {
        /// How many entries it covers.
        #[serde(with = "serde_int")]
        size: u64,
    },
    /// Entries of the log itself are let go: the subject is the root, by RFC 6962, over those that
    /// go. The log shows that they were there, and no longer what they said.
    Pruned {
        /// The first entry that stays. All before it go.
        #[serde(with = "serde_int")]
        first: u64,
    },
    /// A request was given up: the subject is the request.
    RetrainAbandoned {
        /// Why it could not be carried through.
        reason: String,
    },
}

/// One entry of the audit log: who did what to which digest, when, on what evidence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// When it happened.
    pub at: Timestamp,
    /// Who did it.
    pub actor: Actor,
    /// The turn of work that it belongs to.
    pub operation: OperationId,
    /// What happened.
    pub event: Event,
    /// What it happened to.
    pub subject: Digest,
    /// What it was based on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<Digest>,
}

impl Entry {
    /// At most this many bytes in an entry, as the tile format demands.
    pub const MAX_BYTES: usize = 65_535;

    /// The bytes that the log hashes.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let bytes = serde_json::to_vec(self)
            .map_err(|source| Error::internal("log entry as JSON").with_source(source))?;
        if bytes.len() > Self::MAX_BYTES {
            let event = &self.event;
            let found = bytes.len();
            return Err(Error::invalid(format!("log entry {event:?}: {found} bytes, over 65535")));
        }
        Ok(bytes)
    }
}

/// The signed head of a log: `size` entries whose Merkle root is `root`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Checkpoint {
    /// The name of the log.
    pub origin: String,
    /// How many entries it covers.
    #[serde(with = "serde_int")]
    pub size: u64,
    /// The root of the tree over them, by RFC 6962.
    pub root: Digest,
    /// The signed note in which this is published.
    pub note: String,
}

impl Checkpoint {
    /// A checkpoint with the note that states it.
    pub fn new(origin: String, size: u64, root: Digest, note: String) -> Self {
        Self { origin, size, root, note }
    }
}

/// The append-only log. An append is the commit of whatever it speaks of.
///
/// `kaizen_testkit::audit_log` is the conformance suite.
#[async_trait]
pub trait AuditLog: fmt::Debug + Send + Sync {
    /// Appends all entries or none, durably; gives the indices that they got.
    ///
    /// With `expected`, the log must have exactly that many entries, or the append fails with
    /// [`ErrorKind::Conflict`](crate::ErrorKind::Conflict): that is compare-and-set.
    async fn append(&self, entries: &[Entry], expected: Option<u64>) -> Result<Range<u64>>;

    /// How many entries there are, pruned ones too.
    async fn size(&self) -> Result<u64>;

    /// The first entry that can be read: the log was pruned of those before it. Whoever reads a
    /// whole log begins here.
    async fn first(&self) -> Result<u64> {
        Ok(0)
    }

    /// The entries at these indices. [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if the log
    /// ends before, or was pruned of them.
    async fn read(&self, indices: Range<u64>) -> Result<Vec<Entry>>;

    /// The signed head that covers every entry.
    async fn checkpoint(&self) -> Result<Checkpoint>;

    /// Lets go of the entries before `first`, for good. An entry that says so,
    /// [`Event::Pruned`], is in the log before the first of them goes. What stays can be proven as
    /// before. Done again, it ends what was cut off. Which entries are not needed any more is not
    /// asked here.
    ///
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) unless the log says otherwise.
    async fn prune(&self, first: u64, occurrence: &Occurrence) -> Result<()> {
        let _ = (first, occurrence);
        Err(Error::new(ErrorKind::Unsupported, "log: it keeps every entry"))
    }
}
