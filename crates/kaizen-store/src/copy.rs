//! Copying a record from one store to another: only what is missing travels.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context as TaskContext, Poll, ready};

use futures_core::Stream;
use futures_util::{StreamExt as _, stream};
use kaizen_core::{
    ArtifactStore, ByteStream, Bytes, Descriptor, Digest, Error, ErrorKind, Manifest, Progress,
    Result,
};

use crate::closure::{MAX_RECORDS, named_in_body, read_manifest};

/// What is copied with a record, and how.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CopyOptions {
    /// Whether what is said about the record, and about all that is copied with it, comes along:
    /// evaluations, decisions, signatures.
    pub referrers: bool,
    /// Whether the records that it was made from come along, as far as the source has them.
    pub parents: bool,
    /// How many blobs travel at the same time, from 1.
    pub concurrency: usize,
}

impl Default for CopyOptions {
    fn default() -> Self {
        Self { referrers: false, parents: false, concurrency: 4 }
    }
}

impl CopyOptions {
    /// The record with its payloads, and what it is about.
    pub fn new() -> Self {
        Self::default()
    }

    /// With all that is said about it, or without.
    #[must_use]
    pub fn referrers(mut self, referrers: bool) -> Self {
        self.referrers = referrers;
        self
    }

    /// With the records that it was made from, or without.
    #[must_use]
    pub fn parents(mut self, parents: bool) -> Self {
        self.parents = parents;
        self
    }

    /// With this many blobs at the same time.
    #[must_use]
    pub fn concurrency(mut self, blobs: usize) -> Self {
        self.concurrency = blobs;
        self
    }
}

/// What a copy did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Copied {
    /// The manifests that the target now has, the record itself last.
    pub manifests: Vec<Digest>,
    /// How many blobs travelled; manifests are not counted.
    pub blobs: u64,
    /// How many bytes travelled in them.
    pub bytes: u64,
    /// How many blobs the target had already.
    pub present: u64,
}

/// Copies a record with its body, its payloads and what it is a statement about from one store to
/// another; with what is said about it and what it was made from, if the options ask for it.
///
/// Blobs that the target has do not travel, so a copy that was cut off goes on where it was. Every
/// blob is checked against its digest and its size on the way. A manifest is put after its blobs,
/// and the record itself last: a target that has the record has all of it. Progress is reported
/// under the task `copy`, in bytes of blobs.
///
/// # Errors
///
/// [`ErrorKind::NotFound`] if the source lacks the record, what it is about, or a blob;
/// [`ErrorKind::Corrupt`] if the source gives other bytes; what the target has by then is whole.
pub async fn copy(
    from: &dyn ArtifactStore,
    to: &dyn ArtifactStore,
    id: &Digest,
    options: &CopyOptions,
    progress: &dyn Progress,
) -> Result<Copied> {
    let plan = plan(from, id, options).await?;
    let blobs: BTreeMap<_, _> =
        plan.iter().flat_map(|(_, m, _)| m.blobs()).map(|blob| (blob.digest, blob)).collect();
    let concurrency = options.concurrency.max(1);
    let looked = stream::iter(blobs.values().map(|blob| async move {
        let there = to.size_of(&blob.digest).await? == Some(blob.size);
        Ok::<_, Error>((!there).then_some(*blob))
    }));
    let mut looked = pin!(looked.buffer_unordered(concurrency));
    let mut missing = Vec::new();
    while let Some(blob) = looked.next().await {
        missing.extend(blob?);
    }
    let total = missing.iter().map(|blob| blob.size).sum();
    let mut copied = Copied {
        blobs: missing.len() as u64,
        bytes: total,
        present: (blobs.len() - missing.len()) as u64,
        ..Copied::default()
    };
    let done = Arc::new(AtomicU64::new(0));
    let report = || progress.report("copy", done.load(Ordering::Relaxed), Some(total));
    report();
    let travelling = missing.iter().map(|blob| carry(from, to, blob, &done));
    let mut travelling = pin!(stream::iter(travelling).buffer_unordered(concurrency));
    loop {
        // Whatever wakes this has moved bytes, or may have.
        let next = poll_fn(|context| {
            let next = travelling.as_mut().poll_next(context);
            report();
            next
        });
        match next.await {
            Some(carried) => carried?,
            None => break,
        }
    }
    for (id, _, bytes) in plan.iter().rev() {
        let put = to.put_manifest(bytes.clone()).await?;
        id.check_found(&put, &format!("manifest {id}, as the target stored it"))?;
        copied.manifests.push(*id);
    }
    Ok(copied)
}

/// The manifests to copy, what others need after those that need it: the record itself first.
async fn plan(
    from: &dyn ArtifactStore,
    id: &Digest,
    options: &CopyOptions,
) -> Result<Vec<(Digest, Manifest, Bytes)>> {
    let mut plan = Vec::new();
    let mut seen = BTreeSet::from([*id]);
    // With each, whether it must be there: what a body names may be anything, and anywhere.
    let mut waiting = VecDeque::from([(*id, true)]);
    while let Some((next, required)) = waiting.pop_front() {
        let (manifest, bytes) = match read_manifest(from, &next).await {
            Ok(read) => read,
            Err(error) if !required && is_no_record(&error) => continue,
            Err(error) => return Err(error),
        };
        if plan.len() == MAX_RECORDS {
            let message = format!("copy of {id}: over {MAX_RECORDS} records");
            return Err(Error::new(ErrorKind::Limit, message));
        }
        let mut leads_to: Vec<_> = manifest.subject.iter().map(|s| (s.digest, false)).collect();
        if options.parents {
            let named = named_in_body(from, &manifest, true).await?;
            leads_to.extend(named.into_iter().map(|digest| (digest, false)));
        }
        if options.referrers {
            let about = from.referrers(&next).await?;
            leads_to.extend(about.into_iter().map(|digest| (digest, true)));
        }
        waiting.extend(leads_to.into_iter().filter(|(digest, _)| seen.insert(*digest)));
        plan.push((next, manifest, bytes));
    }
    Ok(plan)
}

/// What a body names may be a blob, or may never have been stored.
fn is_no_record(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Corrupt)
}

async fn carry(
    from: &dyn ArtifactStore,
    to: &dyn ArtifactStore,
    blob: &Descriptor,
    done: &Arc<AtomicU64>,
) -> Result<()> {
    let bytes = from.get_stream(&blob.digest).await?;
    let bounded = Bounded {
        bytes,
        left: blob.size,
        what: format!("blob {} from the source", blob.digest),
        done: Arc::clone(done),
    };
    to.put_stream(Box::pin(bounded), Some(&blob.digest)).await?;
    Ok(())
}

/// The bytes of a blob, counted, and cut off with an error if they are more than was said.
struct Bounded {
    bytes: ByteStream,
    left: u64,
    what: String,
    done: Arc<AtomicU64>,
}

impl Stream for Bounded {
    type Item = Result<Bytes>;

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Bytes>>> {
        let piece = ready!(self.bytes.as_mut().poll_next(context));
        if let Some(Ok(piece)) = &piece {
            let size = piece.len() as u64;
            let Some(left) = self.left.checked_sub(size) else {
                let message = format!("{}: it has more bytes than its manifest says", self.what);
                return Poll::Ready(Some(Err(Error::corrupt(message))));
            };
            self.left = left;
            self.done.fetch_add(size, Ordering::Relaxed);
        }
        Poll::Ready(piece)
    }
}
