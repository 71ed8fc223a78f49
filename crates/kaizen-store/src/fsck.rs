//! Checking a layout as it lies there: every damaged, missing or strange file is named.

mod index;
mod needs;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use futures_util::{StreamExt as _, stream};
use kaizen_core::{
    ArtifactStore, AuditLog, Bytes, Descriptor, Digest, Error, ErrorKind, Manifest, Result,
    async_trait, record,
};

use crate::closure::{is_own, names_in};
use crate::index::Index;
use crate::local_store::check_layout;
use needs::Missing;
pub(crate) use needs::Spoken;

/// How many blobs are read at the same time.
const BLOBS: usize = 4;

/// An OCI image layout whose files can be looked at as they lie there.
#[async_trait]
pub trait Layout: ArtifactStore {
    /// The name of every file, parts parted by `/`, with its size in bytes.
    async fn files(&self) -> Result<Vec<(String, u64)>>;

    /// The bytes of a file, unchecked, if it is there. More than `most` are [`ErrorKind::Limit`].
    async fn read_file(&self, name: &str, most: u64) -> Result<Option<Bytes>>;

    /// Whether a file that is neither blob nor index belongs to this kind of store.
    fn keeps(&self, name: &str) -> bool;

    /// Whether a file was left behind by a put that never ended.
    fn is_unfinished(&self, name: &str) -> bool;
}

/// What is wrong with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Fault {
    /// Its bytes are not those that its name, or its format, says.
    Damaged,
    /// It is there and cannot be read: a bad sector, a file that is not ours to read, a link that
    /// leads nowhere.
    Unreadable,
    /// It is needed and not there, and no tombstone in the log says that it was removed.
    Missing,
    /// The index says something else than the blobs.
    Index,
    /// A manifest that is not in the index, and of which the log does not speak: a put was cut
    /// off. Put it again, or let it be collected.
    Unlisted,
    /// A put that never ended left it behind; collection clears it away.
    Unfinished,
    /// It does not belong there, or is the body of a record and no JSON.
    Stranger,
}

impl Fault {
    /// Whether something was lost or is wrong, and not merely superfluous.
    pub fn is_harm(self) -> bool {
        matches!(self, Self::Damaged | Self::Unreadable | Self::Missing | Self::Index)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Damaged => "damaged",
            Self::Unreadable => "cannot be read",
            Self::Missing => "missing",
            Self::Index => "index disagrees",
            Self::Unlisted => "not in the index",
            Self::Unfinished => "unfinished",
            Self::Stranger => "stranger",
        })
    }
}

/// What needs a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Need {
    /// A manifest that names it.
    Manifest(Digest),
    /// The log entry of this index that speaks of it.
    Entry(u64),
    /// The index that lists it.
    Index,
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Manifest(id) => write!(f, "manifest {id}"),
            Self::Entry(index) => write!(f, "log entry {index}"),
            Self::Index => f.write_str("index.json"),
        }
    }
}

/// Something that [`fsck`] found.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct Problem {
    /// The file or object, by its name in the layout.
    pub file: String,
    /// What is wrong.
    pub fault: Fault,
    /// The digest that is concerned, if there is one.
    pub digest: Option<Digest>,
    /// More about it, for people.
    pub detail: String,
    /// What needs it.
    pub needed_by: Vec<Need>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.file, self.fault)?;
        if !self.detail.is_empty() {
            write!(f, ": {}", self.detail)?;
        }
        for (nth, need) in self.needed_by.iter().enumerate() {
            write!(f, "{}{need}", if nth == 0 { "; needed by " } else { ", " })?;
        }
        Ok(())
    }
}

/// What [`fsck`] saw.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Checked {
    /// How many blobs were read, manifests too.
    pub blobs: u64,
    /// How many bytes they have.
    pub bytes: u64,
    /// How many of them are manifests.
    pub manifests: u64,
    /// How many blobs are needed and gone, and were removed as a tombstone in the log says.
    pub removed: u64,
    /// What is wrong, ordered by file.
    pub problems: Vec<Problem>,
}

impl Checked {
    /// Whether nothing is damaged, missing or contradictory. What is merely superfluous does no
    /// harm.
    pub fn is_sound(&self) -> bool {
        self.problems.iter().all(|problem| !problem.fault.is_harm())
    }
}

/// Reads every blob of a layout, and names whatever is damaged, missing or strange, and what needs
/// it. It changes nothing.
///
/// With a log, a blob that a tombstone says was removed is not missed, unless the log says later
/// that a manifest which names it was made again; and the records of which the log speaks must be
/// there. Blobs pass through in pieces; what is kept in memory is what the manifests name. Open
/// the layout by its `to_check` so that an index that is damaged is not mended before.
///
/// # Errors
///
/// [`ErrorKind::Unavailable`] if the files cannot be listed, or the index or the log cannot be
/// read. What is wrong with a blob is no error but a [`Problem`].
pub async fn fsck(store: &dyn Layout, log: Option<&dyn AuditLog>) -> Result<Checked> {
    let mut check = Check { store, files: BTreeMap::new(), checked: Checked::default() };
    check.files = store.files().await?.into_iter().collect();
    check.mark().await?;
    let (mut blobs, mut read) = (check.sort_files(), Read::default());
    check.read_blobs(&mut blobs, &mut read).await?;
    // After the blobs: what went meanwhile had its tombstone before.
    let mut spoken = Spoken::of(log).await?;
    // After the log: what it speaks of was listed before.
    let index = check.index().await?;
    check.read_late(&mut blobs, &mut read, &spoken, index.as_deref()).await?;
    if check.forget_gone(&mut blobs, &mut read, index.as_deref()).await? {
        // A collection may be at it.
        spoken = Spoken::of(log).await?;
    }
    if let Some(bytes) = index {
        check.checked.problems.extend(index::check(&bytes, &blobs, &read, &spoken));
    }
    check.bodies(&blobs, &read).await?;
    needs::check(&mut check.checked, &blobs, &read, &spoken);
    let mut checked = check.checked;
    checked.manifests = read.manifests.len() as u64;
    checked.problems.sort_unstable();
    Ok(checked)
}

/// What reading the blobs gave.
#[derive(Default)]
struct Read {
    manifests: BTreeMap<Digest, (Manifest, Descriptor)>,
    /// Manifests that are none of ours: with digests of another algorithm, say.
    others: BTreeSet<Digest>,
    damaged: BTreeSet<Digest>,
}

struct Check<'a> {
    store: &'a dyn Layout,
    files: BTreeMap<String, u64>,
    checked: Checked,
}

fn blob_file(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn problem(file: impl Into<String>, fault: Fault, detail: impl Into<String>) -> Problem {
    let (file, detail) = (file.into(), detail.into());
    Problem { file, fault, digest: None, detail, needed_by: Vec::new() }
}

impl Check<'_> {
    fn found(&mut self, problem: Problem) {
        self.checked.problems.push(problem);
    }

    /// The file that marks a layout.
    async fn mark(&mut self) -> Result<()> {
        const NAME: &str = "oci-layout";
        match self.store.read_file(NAME, 1 << 16).await {
            Ok(None) => self.found(problem(NAME, Fault::Missing, "")),
            Ok(Some(bytes)) => {
                if let Err(error) = check_layout(NAME, &bytes) {
                    self.found(problem(NAME, Fault::Damaged, format!("{error:#}")));
                }
            }
            Err(error) if error.kind() == ErrorKind::Limit => {
                self.found(problem(NAME, Fault::Damaged, error.to_string()));
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Tells blobs from other files, and names those that should not be there.
    fn sort_files(&mut self) -> BTreeMap<Digest, u64> {
        let mut blobs = BTreeMap::new();
        for (name, size) in std::mem::take(&mut self.files) {
            let hex = name.strip_prefix("blobs/sha256/");
            if let Some(digest) = hex.and_then(|hex| format!("sha256:{hex}").parse().ok()) {
                blobs.insert(digest, size);
            } else if self.store.is_unfinished(&name) {
                self.found(problem(name, Fault::Unfinished, format!("{size} bytes")));
            } else if !matches!(&*name, "oci-layout" | "index.json") && !self.store.keeps(&name) {
                self.found(problem(name, Fault::Stranger, ""));
            }
        }
        blobs
    }

    /// Reads what is needed, was not there when the files were listed, and is there now: it was put
    /// meanwhile.
    async fn read_late(
        &mut self,
        blobs: &mut BTreeMap<Digest, u64>,
        read: &mut Read,
        spoken: &Spoken,
        index: Option<&[u8]>,
    ) -> Result<()> {
        let mut asked = BTreeSet::new();
        let listed = index.and_then(Index::parse).map(|(_, listed)| listed).unwrap_or_default();
        loop {
            let missing = Missing::find(blobs, read, spoken);
            let wanted = missing.needed_by.into_keys().chain(listed.iter().copied());
            let mut late = BTreeMap::new();
            for digest in wanted.filter(|digest| !blobs.contains_key(digest)) {
                if asked.insert(digest)
                    && let Some(size) = self.store.size_of(&digest).await?
                {
                    late.insert(digest, size);
                }
            }
            if late.is_empty() {
                return Ok(());
            }
            // A manifest among them needs others.
            self.read_blobs(&mut late, read).await?;
            blobs.append(&mut late);
        }
    }

    /// Takes out manifests that went meanwhile: the index does not list them. Whether it lacks any.
    async fn forget_gone(
        &mut self,
        blobs: &mut BTreeMap<Digest, u64>,
        read: &mut Read,
        index: Option<&[u8]>,
    ) -> Result<bool> {
        let Some((_, listed)) = index.and_then(Index::parse) else { return Ok(false) };
        let unlisted = read.manifests.keys().filter(|id| !listed.contains(*id));
        let unlisted: Vec<_> = unlisted.copied().collect();
        for id in &unlisted {
            if self.store.size_of(id).await?.is_none() {
                read.manifests.remove(id);
                self.checked.blobs -= 1;
                self.checked.bytes -= blobs.remove(id).unwrap_or_default();
            }
        }
        Ok(!unlisted.is_empty())
    }

    /// Reads these blobs, and keeps the manifests among them. What went since they were listed is
    /// taken out of `blobs`.
    async fn read_blobs(
        &mut self,
        blobs: &mut BTreeMap<Digest, u64>,
        read: &mut Read,
    ) -> Result<()> {
        let store = self.store;
        let reading: Vec<_> = blobs
            .iter()
            .map(|(digest, size)| (*digest, *size))
            .map(|(digest, size)| async move { (digest, read_blob(store, &digest, size).await) })
            .collect();
        let mut reading = stream::iter(reading).buffer_unordered(BLOBS);
        let mut gone = BTreeMap::new();
        while let Some((digest, outcome)) = reading.next().await {
            self.checked.blobs += 1;
            self.checked.bytes += blobs.get(&digest).copied().unwrap_or_default();
            let (fault, error) = match outcome {
                Ok(kind) => {
                    read.keep(digest, kind);
                    continue;
                }
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    gone.insert(digest, error);
                    continue;
                }
                Err(error) if error.kind() == ErrorKind::Corrupt => (Fault::Damaged, error),
                Err(error) => (Fault::Unreadable, error),
            };
            self.cannot_read(read, digest, fault, &error);
        }
        if !gone.is_empty() {
            let listed: BTreeMap<_, _> = store.files().await?.into_iter().collect();
            for (digest, error) in gone {
                if listed.contains_key(&blob_file(&digest)) {
                    self.cannot_read(read, digest, Fault::Unreadable, &error);
                } else {
                    self.checked.blobs -= 1;
                    self.checked.bytes -= blobs.remove(&digest).unwrap_or_default();
                }
            }
        }
        Ok(())
    }

    fn cannot_read(&mut self, read: &mut Read, digest: Digest, fault: Fault, error: &Error) {
        read.damaged.insert(digest);
        let mut found = problem(blob_file(&digest), fault, format!("{error:#}"));
        found.digest = Some(digest);
        self.checked.problems.push(found);
    }

    /// Names bodies of records that are no JSON: nobody knows what they lead to, and collection
    /// takes them to lead nowhere.
    async fn bodies(&mut self, blobs: &BTreeMap<Digest, u64>, read: &Read) -> Result<()> {
        for (id, (manifest, _)) in read.manifests.iter().filter(|(_, (of, _))| is_own(of)) {
            let (body, size) = (manifest.config.digest, manifest.config.size);
            if blobs.get(&body) != Some(&size) || read.damaged.contains(&body) {
                continue;
            }
            let names = match size <= record::MAX_BODY_BYTES {
                true => match self.store.get_bounded(&body, size).await {
                    Ok(bytes) => names_in(&bytes, true),
                    // It went meanwhile.
                    Err(error) if error.kind() == ErrorKind::NotFound => continue,
                    Err(error) => return Err(error),
                },
                false => None,
            };
            if names.is_none() {
                let detail = format!("the body of record {id} is no JSON that can be read");
                let mut found = problem(blob_file(&body), Fault::Stranger, detail);
                found.digest = Some(body);
                self.found(found);
            }
        }
        Ok(())
    }

    /// The bytes of the index, if they can be looked at.
    async fn index(&mut self) -> Result<Option<Bytes>> {
        const NAME: &str = "index.json";
        match self.store.read_file(NAME, crate::index::MAX_BYTES).await {
            Ok(None) => self.found(problem(NAME, Fault::Missing, "the next opening rebuilds it")),
            Err(error) if error.kind() == ErrorKind::Limit => {
                self.found(problem(NAME, Fault::Damaged, error.to_string()));
            }
            found => return found,
        }
        Ok(None)
    }
}

/// What a blob is.
enum Kind {
    Manifest(Box<(Manifest, Descriptor)>),
    OtherManifest,
    Blob,
}

impl Read {
    fn keep(&mut self, digest: Digest, kind: Kind) {
        match kind {
            Kind::Manifest(manifest) => drop(self.manifests.insert(digest, *manifest)),
            Kind::OtherManifest => drop(self.others.insert(digest)),
            Kind::Blob => {}
        }
    }
}

/// Checks a blob; a manifest comes with how it must be listed.
async fn read_blob(store: &dyn Layout, digest: &Digest, size: u64) -> Result<Kind> {
    if size <= Manifest::MAX_BYTES as u64 {
        let bytes = store.get_blob(digest).await?;
        return Ok(match Manifest::parse(&bytes) {
            Ok(manifest) => {
                let listed = crate::index::entry(&manifest, &bytes);
                Kind::Manifest(Box::new((manifest, listed)))
            }
            Err(error) if error.kind() == ErrorKind::Unsupported => Kind::OtherManifest,
            Err(_) => Kind::Blob,
        });
    }
    let mut pieces = store.get_stream(digest).await?;
    while let Some(piece) = kaizen_core::stream::next(&mut pieces).await {
        piece?;
    }
    Ok(Kind::Blob)
}
