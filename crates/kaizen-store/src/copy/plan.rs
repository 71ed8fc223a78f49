//! What is to be copied, and in what order.

use std::collections::{BTreeMap, BTreeSet};

use kaizen_core::{ArtifactStore, Bytes, Descriptor, Digest, Error, ErrorKind, Manifest, Result};

use super::{CopyOptions, Link, SkipReason, Skipped};
use crate::closure::{Body, Found, MAX_RECORDS, find_manifest, read_body};

/// At most this many bytes of manifests are held: a source may name any number of them.
const MAX_BYTES: usize = 256 << 20;

/// What is to be copied.
pub(super) struct Plan {
    /// Each after what it needs, the record itself last.
    pub(super) manifests: Vec<(Digest, Bytes)>,
    /// What they need.
    pub(super) blobs: BTreeMap<Digest, Descriptor>,
    pub(super) skipped: Vec<Skipped>,
}

/// Why a digest is looked at.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Why {
    /// It is to be copied.
    Asked,
    /// A body names it, which may name anything.
    Named,
    /// A manifest is about it, which says that it has so many bytes.
    Subject(u64),
    /// It is said to be about this.
    About(Digest),
}

/// What to do next.
enum Turn {
    Look(Digest, Why),
    /// All that it needs has been seen to.
    Add(Digest, Bytes),
}

/// What was looked at. A digest that is left out for one reason may be copied, or missed, for
/// another, whichever of them is met first.
#[derive(Default)]
struct Looked {
    taken: BTreeSet<Digest>,
    at: BTreeSet<(Digest, Why)>,
}

impl Looked {
    fn is_first(&mut self, digest: Digest, why: Why) -> bool {
        !self.taken.contains(&digest) && self.at.insert((digest, why))
    }
}

impl Plan {
    pub(super) async fn of(
        from: &dyn ArtifactStore,
        id: &Digest,
        options: &CopyOptions,
    ) -> Result<Self> {
        let mut plan = Self { manifests: Vec::new(), blobs: BTreeMap::new(), skipped: Vec::new() };
        let mut held = 0;
        let mut looked = Looked::default();
        let mut turns = vec![Turn::Look(*id, Why::Asked)];
        while let Some(turn) = turns.pop() {
            let (next, why) = match turn {
                Turn::Look(next, why) => (next, why),
                Turn::Add(done, bytes) => {
                    plan.manifests.push((done, bytes));
                    continue;
                }
            };
            if !looked.is_first(next, why) {
                continue;
            }
            // What is left out counts too: a source may name any number that it does not have.
            if looked.at.len() > MAX_RECORDS {
                return Err(too_many(id, "records"));
            }
            let Some((manifest, bytes)) = plan.look(from, &next, why).await? else { continue };
            looked.taken.insert(next);
            held += bytes.len();
            if held > MAX_BYTES {
                let message = format!("copy of {id}: over {MAX_BYTES} bytes of manifests");
                return Err(Error::new(ErrorKind::Limit, message));
            }
            turns.push(Turn::Add(next, bytes));
            let leads_to = leads_to(from, &next, &manifest, options).await?;
            turns.extend(leads_to.into_iter().map(|(digest, why)| Turn::Look(digest, why)));
            if turns.len() > MAX_RECORDS {
                return Err(too_many(id, "records"));
            }
            plan.blobs.extend(manifest.blobs().map(|blob| (blob.digest, blob.clone())));
            if plan.blobs.len() > MAX_RECORDS {
                return Err(too_many(id, "blobs"));
            }
        }
        Ok(plan)
    }

    /// Reads a manifest if it is to be copied, and says if it is left out.
    async fn look(
        &mut self,
        from: &dyn ArtifactStore,
        id: &Digest,
        why: Why,
    ) -> Result<Option<(Box<Manifest>, Bytes)>> {
        let found = find_manifest(from, id).await?;
        if let (Found::Other(error), Why::Subject(size)) = (&found, why)
            && error.kind() != ErrorKind::Unsupported
            && from.size_of(id).await? == Some(size)
        {
            // A statement may be about a blob.
            let blob = || Descriptor::new("application/octet-stream", *id, size);
            self.blobs.entry(*id).or_insert_with(blob);
            return Ok(None);
        }
        let (link, reason) = match (found, why) {
            (Found::Manifest(manifest, _), Why::About(subject))
                if manifest.subject.as_ref().is_none_or(|of| of.digest != subject) =>
            {
                (Link::Referrer, SkipReason::AboutAnother)
            }
            // Wherever the manifest comes from: a registry looks at none of its titles.
            (Found::Manifest(manifest, bytes), why) => {
                match (manifest.check_titles(&format!("manifest {id}")), why) {
                    (Ok(()), _) => return Ok(Some((manifest, bytes))),
                    (Err(error), Why::Asked) => return Err(error),
                    (Err(_), Why::Named) => (Link::Parent, SkipReason::Title),
                    (Err(_), Why::Subject(_)) => (Link::Subject, SkipReason::Title),
                    (Err(_), Why::About(_)) => (Link::Referrer, SkipReason::Title),
                }
            }
            (Found::Missing, Why::Asked) => {
                return Err(Error::not_found(format!("manifest {id}: not in the store")));
            }
            (Found::Other(error), Why::Asked) => {
                let kind = match error.kind() {
                    ErrorKind::Unsupported => ErrorKind::Unsupported,
                    _ => ErrorKind::Corrupt,
                };
                let message = format!("manifest {id}: it cannot be read");
                return Err(Error::new(kind, message).with_source(error));
            }
            (_, Why::Named) => return Ok(None),
            (found, Why::Subject(_)) => (Link::Subject, reason(&found)),
            (found, Why::About(_)) => (Link::Referrer, reason(&found)),
        };
        tracing::warn!(digest = %id, ?link, ?reason, "left out of a copy");
        self.skipped.push(Skipped { digest: *id, link, reason });
        Ok(None)
    }
}

fn too_many(id: &Digest, what: &str) -> Error {
    Error::new(ErrorKind::Limit, format!("copy of {id}: over {MAX_RECORDS} {what}"))
}

fn reason(found: &Found) -> SkipReason {
    match found {
        Found::Missing => SkipReason::Missing,
        _ => SkipReason::NoRecord,
    }
}

/// What else is to be looked at because of a record.
async fn leads_to(
    from: &dyn ArtifactStore,
    id: &Digest,
    manifest: &Manifest,
    options: &CopyOptions,
) -> Result<Vec<(Digest, Why)>> {
    let mut leads_to = Vec::new();
    if options.referrers {
        let about = from.referrers(id).await?;
        leads_to.extend(about.into_iter().map(|digest| (digest, Why::About(*id))));
    }
    if options.parents
        && let Body::Names(named) = read_body(from, manifest, true).await?
    {
        leads_to.extend(named.into_iter().map(|digest| (digest, Why::Named)));
    }
    let subject = manifest.subject.iter().map(|of| (of.digest, Why::Subject(of.size)));
    leads_to.extend(subject);
    Ok(leads_to)
}
