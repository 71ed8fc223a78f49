//! Copying a record from one store to another: only what is missing travels.

mod plan;

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context as TaskContext, Poll, ready};

use futures_core::Stream;
use futures_util::{StreamExt as _, stream};
use kaizen_core::{
    ArtifactStore, ByteStream, Bytes, Descriptor, Digest, Error, ErrorKind, Progress, Result,
};

use plan::Plan;

/// At most this many blobs travel at the same time.
const MAX_CONCURRENCY: usize = 64;

/// What is copied with a record, and how.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CopyOptions {
    /// Whether what is said about the record, and about all that is copied with it, comes along:
    /// evaluations, decisions, signatures.
    pub referrers: bool,
    /// Whether the records that it was made from come along, as far as the source has them.
    pub parents: bool,
    /// How many blobs travel at the same time, from 1 to 64.
    pub concurrency: usize,
    /// Whether blobs that the target has are read and checked. Otherwise one of the right size
    /// counts as there, and stays as it is if it is damaged.
    pub verify: bool,
}

impl Default for CopyOptions {
    fn default() -> Self {
        Self { referrers: false, parents: false, concurrency: 4, verify: false }
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

    /// With a look at what the target has, or without.
    #[must_use]
    pub fn verify(mut self, verify: bool) -> Self {
        self.verify = verify;
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
    /// How many blobs the target had already, or took from elsewhere.
    pub present: u64,
    /// What the source names and did not give, or what is not ours to copy, with the reason.
    pub skipped: Vec<Skipped>,
}

/// A digest that a copy left out.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Skipped {
    /// The digest.
    pub digest: Digest,
    /// What it was to the one that leads to it.
    pub link: Link,
    /// Why it was left out.
    pub reason: SkipReason,
}

/// How one record leads to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Link {
    /// It is what the record is about.
    Subject,
    /// It is said to be about the record.
    Referrer,
    /// The record names it, as what it was made from.
    Parent,
}

/// Why a digest was left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SkipReason {
    /// The source does not have it.
    Missing,
    /// It is no image manifest with digests of SHA-256.
    NoRecord,
    /// It is about something else than the source says.
    AboutAnother,
    /// It has a layer whose title leads out of its folder.
    Title,
}

/// Copies a record with its body, its payloads and what it is a statement about from one store to
/// another; with what is said about it and what it was made from, if the options ask for it.
///
/// Blobs that the target has do not travel, so a copy that was cut off goes on where it was. Every
/// blob is checked against its digest and its size on the way. A manifest is put after its blobs
/// and after the records that it was made from, as far as these come along, and the record itself
/// last: a target that has the record has all of it. What is said about a record is put before it,
/// so for a while, or if the copy is cut off, there are statements about what is not there yet.
/// Progress is reported under the task `copy`, in bytes of blobs that the target lacked.
///
/// What a record is about comes along if the source has it, as a record or as a blob. It need not
/// be in the source, and of what is said to be about it only what is there and is about it comes
/// along; what was left out is in [`Copied::skipped`]. So is whatever is reached from the record
/// and has a layer whose title leads out of its folder.
///
/// # Errors
///
/// [`ErrorKind::NotFound`] if the source lacks the record or a blob; [`ErrorKind::Corrupt`] if the
/// source gives other bytes, of whatever, or the target keeps other bytes than it is given;
/// [`ErrorKind::Refused`] if the record has a layer whose title leads out of its folder;
/// [`ErrorKind::Limit`] if there are over 1,000,000 records, or blobs, those counted that are not
/// there, or their manifests have over 256 MiB. What the target has by then is whole.
pub async fn copy(
    from: &dyn ArtifactStore,
    to: &dyn ArtifactStore,
    id: &Digest,
    options: &CopyOptions,
    progress: &dyn Progress,
) -> Result<Copied> {
    let Plan { manifests, blobs, skipped } = Plan::of(from, id, options).await?;
    let concurrency = options.concurrency.clamp(1, MAX_CONCURRENCY);
    let looked = stream::iter(blobs.values().map(|blob| async move {
        let there = look(to, blob, options.verify).await?;
        Ok::<_, Error>((there != There::Whole).then_some((blob, there)))
    }));
    let mut looked = pin!(looked.buffer_unordered(concurrency));
    let mut missing = Vec::new();
    while let Some(blob) = looked.next().await {
        missing.extend(blob?);
    }
    // The sizes are what manifests of others say.
    let total = missing.iter().fold(0_u64, |total, (blob, _)| total.saturating_add(blob.size));
    let mut copied = Copied { skipped, ..Copied::default() };
    let done = Arc::new(AtomicU64::new(0));
    let report = || progress.report("copy", done.load(Ordering::Relaxed), Some(total));
    report();
    let travelling = missing.iter().map(|(blob, there)| {
        let done = &done;
        async move {
            let travelled = carry(from, to, blob, done).await?;
            if *there == There::Otherwise {
                heals(to, blob, options.verify).await?;
            }
            Ok(travelled)
        }
    });
    let mut travelling = pin!(stream::iter(travelling).buffer_unordered(concurrency));
    loop {
        // Whatever wakes this has moved bytes, or may have.
        let next = poll_fn(|context| {
            let next = travelling.as_mut().poll_next(context);
            report();
            next
        });
        let Some(carried) = next.await.transpose()? else { break };
        copied.blobs += u64::from(carried.is_some());
        copied.bytes = copied.bytes.saturating_add(carried.unwrap_or_default());
    }
    copied.present = blobs.len() as u64 - copied.blobs;
    for (id, bytes) in manifests {
        let put = to.put_manifest(bytes).await?;
        id.check_found(&put, &format!("manifest {id}, as the target stored it"))?;
        copied.manifests.push(id);
    }
    Ok(copied)
}

/// What the target has of a blob.
#[derive(Clone, Copy, PartialEq, Eq)]
enum There {
    Whole,
    /// Other bytes, or another number of them.
    Otherwise,
    Missing,
}

/// Looks whether the target need not be given this blob.
async fn look(to: &dyn ArtifactStore, blob: &Descriptor, verify: bool) -> Result<There> {
    match to.size_of(&blob.digest).await? {
        None => return Ok(There::Missing),
        Some(size) if size != blob.size => return Ok(There::Otherwise),
        Some(_) if !verify => return Ok(There::Whole),
        Some(_) => {}
    }
    let mut pieces = to.get_stream(&blob.digest).await?;
    loop {
        match kaizen_core::stream::next(&mut pieces).await.transpose() {
            Ok(Some(_)) => {}
            Ok(None) => return Ok(There::Whole),
            Err(error) if error.kind() == ErrorKind::Corrupt => return Ok(There::Otherwise),
            Err(error) => return Err(error),
        }
    }
}

/// Looks once more at a blob of which the target had something else: it may take what it has for
/// the right one, and refuse to be given another.
async fn heals(to: &dyn ArtifactStore, blob: &Descriptor, verify: bool) -> Result<()> {
    if look(to, blob, verify).await? == There::Whole {
        return Ok(());
    }
    let digest = blob.digest;
    let message = format!("blob {digest}: the target keeps other bytes under that digest");
    Err(Error::corrupt(message))
}

/// Gives the target a blob; how many bytes travelled, if it wanted them.
async fn carry(
    from: &dyn ArtifactStore,
    to: &dyn ArtifactStore,
    blob: &Descriptor,
    done: &Arc<AtomicU64>,
) -> Result<Option<u64>> {
    let bytes = from.get_stream(&blob.digest).await?;
    let travelled = Arc::new(AtomicU64::new(0));
    let bounded = Bounded {
        bytes,
        left: blob.size,
        what: format!("blob {} from the source", blob.digest),
        travelled: Arc::clone(&travelled),
        done: Arc::clone(done),
    };
    to.put_stream(Box::pin(bounded), Some(&blob.digest)).await?;
    let travelled = travelled.load(Ordering::Relaxed);
    // Others may have put it meanwhile, or the target has it from elsewhere: it is done all the
    // same.
    let rest = blob.size.saturating_sub(travelled);
    let _ = done
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |done| Some(done.saturating_add(rest)));
    Ok((travelled > 0 || blob.size == 0).then_some(travelled))
}

/// The bytes of a blob, counted, and cut off with an error if they are more than was said.
struct Bounded {
    bytes: ByteStream,
    left: u64,
    what: String,
    /// Of this blob, and of all.
    travelled: Arc<AtomicU64>,
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
            self.travelled.fetch_add(size, Ordering::Relaxed);
            self.done.fetch_add(size, Ordering::Relaxed);
        }
        Poll::Ready(piece)
    }
}
