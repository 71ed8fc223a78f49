//! What training sets say of their sources: which files were read of each.
//!
//! A list is the word of whoever made the set, who may be anybody. It counts for the sets that have
//! it and for nothing else: it adds nothing to a record, nor to what other sets say of the same
//! source.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kaizen_core::record::ListedFile;
use kaizen_core::{Digest, Error, ErrorKind, Result};

/// At most this many files in the lists of one training set, each counted as often as it is listed.
pub(super) const MAX_OF_SET: usize = 1_000_000;
/// At most this many files.
const MAX_FILES: usize = if cfg!(test) { 40 } else { 4_000_000 };
/// At most this many lists and files in them; sets that say the same share a list.
const MAX_LISTED: usize = if cfg!(test) { 100 } else { 64_000_000 };

/// A source with the files that were read of it, as some training sets list them. Sets that say
/// the same share it.
#[derive(Clone, Debug)]
pub(super) struct Listing {
    /// The digest of what the source gave.
    pub(super) data: Digest,
    pub(super) name: Arc<str>,
    files: Arc<[u32]>,
    /// The training sets that say so.
    pub(super) sets: Vec<Digest>,
}

/// What a list says: a source, its name and its files.
type Said = (Digest, Arc<str>, Arc<[u32]>);

/// The lists of every training set that was read.
#[derive(Clone, Debug, Default)]
pub(super) struct Listings {
    all: Vec<Listing>,
    /// Which list says so.
    known: BTreeMap<Said, u32>,
    /// Files by digest and path.
    files: Vec<(Digest, Arc<str>)>,
    by_file: BTreeMap<(Digest, Arc<str>), u32>,
    /// The lists that each file is in.
    listed_in: Vec<Vec<u32>>,
    /// How many files the lists have, and how many lists there are.
    listed: usize,
}

impl Listings {
    /// Takes what a training set says of one of its sources; which list it is. The caller has seen
    /// to [`MAX_OF_SET`], so what goes beyond is the fault of all sets together:
    /// [`ErrorKind::Limit`], which ends the whole question and is put down to none of them.
    pub(super) fn add(
        &mut self,
        set: Digest,
        (name, data): (String, Digest),
        listed: Vec<ListedFile>,
    ) -> Result<u32> {
        // A source of one file may have its digest.
        let listed = listed.into_iter().filter(|file| file.digest != data);
        let files: Arc<[u32]> = listed.map(|file| self.file(file)).collect();
        let next = self.all.len() as u32;
        let list: Said = (data, name.into(), files);
        let at = *self.known.entry(list.clone()).or_insert(next);
        if at == next {
            let (data, name, files) = list;
            for file in files.iter().collect::<BTreeSet<_>>() {
                self.listed_in[*file as usize].push(at);
            }
            self.listed += 1 + files.len();
            self.all.push(Listing { data, name, files, sets: Vec::new() });
        }
        self.all[at as usize].sets.push(set);
        if self.files.len() > MAX_FILES || self.listed > MAX_LISTED {
            return Err(Error::new(
                ErrorKind::Limit,
                format!(
                    "lineage: over {MAX_FILES} files, or {MAX_LISTED} in the lists of all training sets"
                ),
            ));
        }
        Ok(at)
    }

    fn file(&mut self, file: ListedFile) -> u32 {
        let file = (file.digest, Arc::<str>::from(file.path));
        if let Some(at) = self.by_file.get(&file) {
            return *at;
        }
        let at = self.files.len() as u32;
        self.by_file.insert(file.clone(), at);
        self.files.push(file);
        self.listed_in.push(Vec::new());
        at
    }

    pub(super) fn get(&self, at: u32) -> &Listing {
        &self.all[at as usize]
    }

    /// The lists of this source.
    pub(super) fn of_source(&self, data: &Digest) -> impl Iterator<Item = u32> {
        let from = (*data, Arc::from(""), Arc::from([]));
        let of_source = self.known.range(from..).take_while(move |((of, ..), _)| of == data);
        of_source.map(|(_, at)| *at)
    }

    /// The files in a list with their paths, in its order.
    pub(super) fn files_of(&self, at: u32) -> impl Iterator<Item = &(Digest, Arc<str>)> {
        self.get(at).files.iter().map(|file| &self.files[*file as usize])
    }

    /// Every path of a file, ordered.
    pub(super) fn paths(&self, id: &Digest) -> impl Iterator<Item = (&Arc<str>, u32)> {
        let from = (*id, Arc::from(""));
        let of_file = self.by_file.range(from..).take_while(move |((file, _), _)| file == id);
        of_file.map(|((_, path), at)| (path, *at))
    }

    /// The lists that a file is in, under whatever path.
    pub(super) fn with_file(&self, id: &Digest) -> BTreeSet<u32> {
        self.paths(id).flat_map(|(_, file)| &self.listed_in[file as usize]).copied().collect()
    }

    /// Every file with each of its paths, ordered.
    pub(super) fn files(&self) -> impl Iterator<Item = (Digest, &str)> {
        self.by_file.keys().map(|(id, path)| (*id, &**path))
    }

    /// Every source, as often as there are lists of it.
    pub(super) fn sources(&self) -> impl Iterator<Item = &Digest> {
        self.all.iter().map(|listing| &listing.data)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use kaizen_core::record::TrainingSet;
    use kaizen_core::{Digest, ErrorKind, Payload, Records as _, Timestamp, media_type};
    use kaizen_testkit::MemoryStore;

    use crate::LineageIndex;

    /// Stores a training set that lists these files.
    async fn put(store: &MemoryStore, number: u64, files: std::ops::Range<u32>) -> Digest {
        let listed: Vec<_> = files
            .map(|file| serde_json::json!({ "path": file.to_string(), "digest": Digest::of("x") }))
            .collect();
        let list = serde_json::json!({ "flights": listed }).to_string();
        let set = TrainingSet {
            service: Digest::of("service"),
            label_view: Digest::of("labels"),
            sources: BTreeMap::from([("flights".to_owned(), Digest::of("data"))]),
            cutoff: Timestamp::from_micros(0),
            rows: number,
            unlabelled: 0,
            features: Vec::new(),
            label: "late".into(),
            time: "at".into(),
            coverage: BTreeMap::new(),
        };
        store
            .put(&set, &[Payload::new(TrainingSet::SOURCES, media_type::JSON, list)])
            .await
            .unwrap()
    }

    #[tokio::test]
    async fn sets_that_say_the_same_count_once_and_too_much_of_all_is_the_fault_of_none() {
        let store = MemoryStore::default();
        for number in 0..50 {
            put(&store, number, 0..30).await;
        }
        let index = LineageIndex::read(&store).await.unwrap();
        assert!(index.unreadable().is_empty() && index.files().len() == 30);
        // Lists of their own, of files that are known: three have fewer than 100, four do not.
        for (number, most) in [(50, 29), (51, 28)] {
            put(&store, number, 0..most).await;
        }
        assert!(LineageIndex::read(&store).await.is_ok());
        put(&store, 52, 0..27).await;
        assert_eq!(LineageIndex::read(&store).await.unwrap_err().kind(), ErrorKind::Limit);

        let store = MemoryStore::default();
        let mine = put(&store, 0, 0..30).await;
        put(&store, 1, 30..41).await;
        assert_eq!(LineageIndex::read(&store).await.unwrap_err().kind(), ErrorKind::Limit);
        let above = crate::ancestors(&store, &mine).await.unwrap();
        assert_eq!(above.steps().len(), 32, "it reads no other set");
    }
}
