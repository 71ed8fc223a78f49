//! What training sets say of their sources: which files were read of each.
//!
//! A list is the word of whoever made the set, who may be anybody. It counts for the sets that
//! have it and for nothing else: it adds nothing to a record, nor to what other sets say of the same
//! source.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kaizen_core::record::ListedFile;
use kaizen_core::{Digest, Error, ErrorKind, Result};

/// At most this many files, and at most this many lists.
const MAX_FILES: usize = 1_000_000;
/// At most this many files in all lists together, each counted as often as it is listed.
const MAX_LISTED: usize = 16_000_000;

/// A source with the files that were read of it, as some training sets list them. Sets that say
/// the same share it.
#[derive(Clone, Debug)]
pub(super) struct Listing {
    /// The digest of what the source gave.
    pub(super) data: Digest,
    pub(super) name: Arc<str>,
    files: Vec<u32>,
    /// The training sets that say so.
    pub(super) sets: Vec<Digest>,
}

/// The lists of every training set that was read.
#[derive(Clone, Debug, Default)]
pub(super) struct Listings {
    all: Vec<Listing>,
    by_source: BTreeMap<Digest, Vec<u32>>,
    /// Files by digest and path.
    files: Vec<(Digest, Arc<str>)>,
    by_file: BTreeMap<(Digest, Arc<str>), u32>,
    /// The lists that each file is in.
    listed_in: Vec<Vec<u32>>,
    /// Which lists say the same: by source, and by name and files.
    same: BTreeMap<(Digest, Digest), u32>,
    /// How many files were listed.
    listed: usize,
}

impl Listings {
    /// Takes what a training set says of one of its sources; which list it is. One that is too much
    /// is [`ErrorKind::Limit`], and leaves what others said as it was.
    pub(super) fn add(
        &mut self,
        set: Digest,
        (name, data): (String, Digest),
        listed: Vec<ListedFile>,
    ) -> Result<u32> {
        if self.listed + listed.len() > MAX_LISTED || self.all.len() >= MAX_FILES {
            return Err(too_many());
        }
        self.listed += listed.len();
        // A source of one file may have its digest.
        let listed = listed.into_iter().filter(|file| file.digest != data);
        let files = listed.map(|file| self.file(file)).collect::<Result<Vec<u32>>>()?;
        let mut said = name.len().to_le_bytes().to_vec();
        said.extend(name.bytes());
        said.extend(files.iter().flat_map(|file| file.to_le_bytes()));
        let next = self.all.len() as u32;
        let at = *self.same.entry((data, Digest::of(said))).or_insert(next);
        if at == next {
            for file in files.iter().collect::<BTreeSet<_>>() {
                self.listed_in[*file as usize].push(at);
            }
            self.by_source.entry(data).or_default().push(at);
            self.all.push(Listing { data, name: name.into(), files, sets: Vec::new() });
        }
        self.all[at as usize].sets.push(set);
        Ok(at)
    }

    fn file(&mut self, file: ListedFile) -> Result<u32> {
        let file = (file.digest, Arc::<str>::from(file.path));
        if let Some(at) = self.by_file.get(&file) {
            return Ok(*at);
        }
        if self.files.len() >= MAX_FILES {
            return Err(too_many());
        }
        let at = self.files.len() as u32;
        self.by_file.insert(file.clone(), at);
        self.files.push(file);
        self.listed_in.push(Vec::new());
        Ok(at)
    }

    pub(super) fn get(&self, at: u32) -> &Listing {
        &self.all[at as usize]
    }

    /// The lists of this source.
    pub(super) fn of_source(&self, data: &Digest) -> &[u32] {
        self.by_source.get(data).map_or(&[], Vec::as_slice)
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

    /// Every source, ordered.
    pub(super) fn sources(&self) -> impl Iterator<Item = &Digest> {
        self.by_source.keys()
    }
}

fn too_many() -> Error {
    let message = format!("over {MAX_FILES} files, or {MAX_LISTED} in the lists of training sets");
    Error::new(ErrorKind::Limit, message)
}
