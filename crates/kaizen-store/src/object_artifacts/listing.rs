//! The index on an object store: read, and written by compare-and-set.

use std::collections::BTreeSet;

use futures_util::StreamExt as _;
use kaizen_core::{Bytes, Digest, Error, ErrorKind, Manifest, Result, Timestamp, stream};
use object_store::{GetOptions, ObjectStore as _, PutMode, UpdateVersion};

use super::{Inner, REQUESTS, at, blob, touched};
use crate::index::{self, Index, Subject};

/// The name of the index.
const INDEX: &str = "index.json";

/// How often the index is written anew because another process was faster.
const TRIES: u32 = 256;

/// The index, and the version of the object that it was read from.
#[derive(Debug, Default)]
pub(super) struct Listing {
    pub(super) index: Index,
    version: Option<UpdateVersion>,
}

impl Inner {
    /// Reads the index again if it has changed, and rebuilds it if it is missing or damaged.
    pub(super) async fn refresh(&self, listing: &mut Listing) -> Result<()> {
        for _ in 0..TRIES {
            let known = listing.version.as_ref().and_then(|version| version.e_tag.clone());
            let options = GetOptions { if_none_match: known, ..GetOptions::default() };
            let path = self.folder.path(INDEX);
            let version = match self.folder.store.get_opts(&path, options).await {
                Err(object_store::Error::NotModified { .. }) => return Ok(()),
                Err(object_store::Error::NotFound { .. }) => None,
                Err(error) => return Err(self.folder.failed(INDEX, error)),
                Ok(got) => {
                    let meta = &got.meta;
                    if meta.size > index::MAX_BYTES {
                        let place = self.folder.place(INDEX);
                        let message = format!("{place}: {} bytes", meta.size);
                        return Err(Error::new(ErrorKind::Limit, message));
                    }
                    let (e_tag, version) = (meta.e_tag.clone(), meta.version.clone());
                    let version = UpdateVersion { e_tag, version };
                    let bytes =
                        got.bytes().await.map_err(|error| self.folder.failed(INDEX, error))?;
                    if let Some((document, listed)) = Index::parse(&bytes) {
                        let subjects = self.subjects(&listing.index, listed).await;
                        let index = Index::new(document, subjects);
                        *listing = Listing { index, version: Some(version) };
                        return Ok(());
                    }
                    let index = self.folder.place(INDEX);
                    tracing::warn!(%index, "index is damaged; rebuilt from the blobs");
                    Some(version)
                }
            };
            let rebuilt = self.scan().await?;
            listing.version = version;
            if self.replace(listing, rebuilt).await? {
                return Ok(());
            }
            listing.version = None;
        }
        Err(self.contended())
    }

    fn contended(&self) -> Error {
        let place = self.folder.place(INDEX);
        Error::new(ErrorKind::Unavailable, format!("{place}: others wrote it {TRIES} times"))
    }

    /// Writes the index if it is still the one that was read; whether it was.
    async fn replace(&self, listing: &mut Listing, with: Index) -> Result<bool> {
        let mode = listing.version.clone().map_or(PutMode::Create, PutMode::Update);
        let Some(version) = self.folder.put(INDEX, with.to_bytes()?, mode).await? else {
            return Ok(false);
        };
        *listing = Listing { index: with, version: Some(version) };
        Ok(true)
    }

    /// The subjects of listed manifests. One that cannot be read is read again when somebody asks
    /// for referrers.
    async fn subjects(&self, known: &Index, listed: BTreeSet<Digest>) -> Vec<(Digest, Subject)> {
        let subject = |manifest: Digest| async move {
            match known.subject(&manifest) {
                Subject::Unread => {
                    (manifest, self.subject_of(&manifest).await.unwrap_or(Subject::Unread))
                }
                known => (manifest, known),
            }
        };
        let reading: Vec<_> = listed.into_iter().map(subject).collect();
        futures_util::stream::iter(reading).buffer_unordered(REQUESTS).collect().await
    }

    /// What a listed manifest is about.
    pub(super) async fn subject_of(&self, manifest: &Digest) -> Result<Subject> {
        Subject::read(manifest, self.small(manifest).await)
    }

    /// A blob that may be a manifest.
    async fn small(&self, id: &Digest) -> Result<Bytes> {
        let most = Manifest::MAX_BYTES as u64;
        stream::whole(self.get_stream(id).await?, most, &format!("blob {id}")).await
    }

    /// Finds every manifest among the blobs.
    async fn scan(&self) -> Result<Index> {
        let most = Manifest::MAX_BYTES as u64;
        let small = self.blobs().await?.into_iter().filter(|(_, size)| *size <= most);
        let reading: Vec<_> = small
            .map(|(digest, _)| async move { index::scanned(&digest, self.small(&digest).await) })
            .collect();
        let mut reading = futures_util::stream::iter(reading).buffer_unordered(REQUESTS);
        let mut found = Vec::new();
        while let Some(read) = reading.next().await {
            found.extend(read?);
        }
        let mut index = Index::default();
        index.add(found.iter().map(|(manifest, bytes)| (manifest, &bytes[..])))?;
        Ok(index)
    }

    pub(super) async fn put_manifest(&self, bytes: Bytes) -> Result<Digest> {
        let manifest = Manifest::parse(&bytes)?;
        let digest = Digest::of(&bytes);
        let lowest = Timestamp::from_micros(i64::MIN);
        self.has_blobs_of(&manifest, digest, lowest).await?;
        self.put_whole(bytes.clone(), &digest).await?;
        let put = self.head(&blob(&digest)).await?.map_or(lowest, |meta| at(&meta));
        let again = self.head(&touched(&digest)).await?.map_or(lowest, |meta| at(&meta));
        // Once more: what was old is put now, and what was collected meanwhile is missed.
        self.has_blobs_of(&manifest, digest, put.max(again)).await?;
        let own = self.additions.push(manifest, bytes);
        for _ in 0..TRIES {
            let mut listing = self.listing.lock().await;
            if let Some(outcome) = own.outcome() {
                return outcome.map(|()| digest);
            }
            let batch = self.additions.take();
            let additions = batch.iter().map(|added| (&added.manifest, &added.bytes[..]));
            match self.write(&mut listing, additions.collect()).await {
                Ok(()) => batch.iter().for_each(|addition| addition.settle(Ok(()))),
                Err(error) => {
                    own.settle(Err(error));
                    self.additions.give_back(batch);
                }
            }
        }
        Err(self.contended())
    }

    /// Lists manifests.
    async fn write(&self, listing: &mut Listing, manifests: Vec<(&Manifest, &[u8])>) -> Result<()> {
        for _ in 0..TRIES {
            self.refresh(listing).await?;
            let listed =
                |(_, bytes): &(&Manifest, &[u8])| listing.index.contains(&Digest::of(bytes));
            if manifests.iter().all(listed) {
                return Ok(());
            }
            let mut grown = listing.index.clone();
            grown.add(manifests.iter().copied())?;
            if self.replace(listing, grown).await? {
                return Ok(());
            }
            tokio::task::yield_now().await;
        }
        Err(self.contended())
    }

    /// Takes out of the index, then out of the store; gives what was there. With `before`, what was
    /// put since then stays, as far as the last look before its removal tells, and is listed again.
    pub(super) async fn take_out(
        &self,
        listing: &mut Listing,
        digests: &[Digest],
        before: Option<Timestamp>,
    ) -> Result<Vec<Digest>> {
        let all: BTreeSet<_> = digests.iter().copied().collect();
        let mut listed = BTreeSet::new();
        let mut tries = 0;
        loop {
            self.refresh(listing).await?;
            let of_them = all.iter().filter(|digest| listing.index.contains(digest));
            let of_them: Vec<_> = of_them.copied().collect();
            if of_them.is_empty() {
                break;
            }
            listed.extend(of_them);
            let mut shrunk = listing.index.clone();
            shrunk.remove(&all);
            if self.replace(listing, shrunk).await? {
                break;
            }
            tries += 1;
            if tries == TRIES {
                return Err(self.contended());
            }
        }
        let mut removing = futures_util::stream::iter(all)
            .map(|digest| async move { (digest, self.remove(&digest, before).await) })
            .buffer_unordered(REQUESTS);
        let (mut removed, mut failed) = (Vec::new(), None);
        while let Some((digest, outcome)) = removing.next().await {
            match outcome {
                Ok(true) => removed.push(digest),
                Ok(false) => {}
                Err(error) => failed = Some(error),
            }
        }
        removed.sort_unstable();
        if before.is_some() {
            listed.retain(|digest| removed.binary_search(digest).is_err());
            self.list_again(listing, listed).await?;
        }
        failed.map_or(Ok(removed), Err)
    }

    /// Lists manifests that were to go and stayed: whoever put them meanwhile saw that they were
    /// listed.
    async fn list_again(&self, listing: &mut Listing, stayed: BTreeSet<Digest>) -> Result<()> {
        let (mut manifests, mut failed) = (Vec::new(), None);
        for id in stayed {
            match self.small(&id).await {
                Ok(bytes) => manifests.extend(Manifest::parse(&bytes).ok().map(|m| (m, bytes))),
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                // The others are listed in spite of it.
                Err(error) => failed = Some(error),
            }
        }
        let manifests = manifests.iter().map(|(manifest, bytes)| (manifest, &bytes[..])).collect();
        self.write(listing, manifests).await?;
        failed.map_or(Ok(()), Err)
    }

    async fn remove(&self, digest: &Digest, before: Option<Timestamp>) -> Result<bool> {
        let put = self.stored_at(digest).await?;
        if before.zip(put).is_some_and(|(before, put)| put >= before) {
            return Ok(false);
        }
        if put.is_some() {
            self.folder.delete(&blob(digest)).await?;
        }
        if self.head(&touched(digest)).await?.is_some() {
            self.folder.delete(&touched(digest)).await?;
        }
        Ok(put.is_some())
    }
}
