//! Which record names which, kept in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kaizen_core::{ArtifactStore, Context, Digest, Error, ErrorKind, Result};

use super::listings::Listings;
use super::reading::{Node, Parent, Reading};
use super::{Lineage, LineageStep, MAX_STEPS};

const SOURCE: &str = "source";
const FILE: &str = "file";

/// What every record of a store names, read once: it answers any number of questions.
///
/// ```
/// # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
/// # runtime.block_on(async {
/// use kaizen_core::record::Release;
/// use kaizen_core::{Digest, Records};
/// use kaizen_store::LineageIndex;
/// use kaizen_testkit::MemoryStore;
///
/// let store = MemoryStore::default();
/// let release = Release {
///     name: "late".into(),
///     version: 1,
///     model: Digest::of("a model that is not in the store"),
///     service: Digest::of("a feature service"),
///     functions: vec![],
/// };
/// let id = store.put(&release, &[]).await?;
/// let index = LineageIndex::read(&store).await?;
/// assert_eq!(index.lineage(&id)?.steps().len(), 1);
/// # Ok::<(), kaizen_core::Error>(())
/// # }).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct LineageIndex {
    records: BTreeMap<Digest, Node>,
    /// What training sets say of their sources.
    listings: Listings,
    /// Which records name a record, ordered by digest.
    children: BTreeMap<Digest, Vec<Digest>>,
    /// Records that cannot be read, and why.
    unreadable: BTreeMap<Digest, String>,
}

/// Where a walk comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Record(Digest),
    /// A source with the files of one list, by the number of the list: other sets may say
    /// otherwise.
    Source(u32),
    /// A file, which leads to nothing above it.
    File(Digest),
}

/// A step of a walk, and the name that the step before it gives it.
type Reached = (Place, Option<Arc<str>>);

impl LineageIndex {
    /// Reads every record of the store. One that is damaged stands without what it names, and is
    /// among the [`unreadable`](Self::unreadable); so is a training set that lists over a million
    /// files.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Limit`] beyond a million records, or four million files in the lists of all
    /// training sets; as reading the store.
    pub async fn read(store: &dyn ArtifactStore) -> Result<Self> {
        Ok(Self::of(Reading::start(store).await?.all().await?))
    }

    /// Reads a record and those that it was made from.
    pub(super) async fn above(store: &dyn ArtifactStore, id: &Digest) -> Result<Self> {
        Ok(Self::of(Reading::start(store).await?.above(id).await?))
    }

    fn of(Reading { records, listings, unreadable, .. }: Reading<'_>) -> Self {
        let mut children: BTreeMap<Digest, Vec<Digest>> = BTreeMap::new();
        for (id, node) in &records {
            for parent in &node.parents {
                let Parent::Record(parent, _) = parent else { continue };
                let of_parent = children.entry(*parent).or_default();
                if of_parent.last() != Some(id) {
                    of_parent.push(*id);
                }
            }
        }
        Self { records, listings, children, unreadable }
    }

    /// The records that cannot be read, and why.
    pub fn unreadable(&self) -> &BTreeMap<Digest, String> {
        &self.unreadable
    }

    /// Both ways: what it was made from, and what was made of it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`] if neither a record, a source nor a file has this digest,
    /// [`ErrorKind::Corrupt`] if it is a record that cannot be read, [`ErrorKind::Limit`] beyond
    /// 100,000 steps either way.
    pub fn lineage(&self, id: &Digest) -> Result<Lineage> {
        let descendants = self.descendants(id)?.descendants;
        Ok(Lineage { descendants, ..self.ancestors(id)? })
    }

    /// What it was made from. Above a training set stand the files that it lists itself, whatever
    /// others say of the same source; above a source that is asked for by itself those that any set
    /// lists of it. Above a file stands nothing but what sets call a source of the same digest,
    /// each under its name.
    ///
    /// # Errors
    ///
    /// As [`lineage`](Self::lineage).
    pub fn ancestors(&self, id: &Digest) -> Result<Lineage> {
        let ancestors = self.walk(id, |place| self.up(place))?;
        Ok(self.found(ancestors[..1].to_vec(), ancestors))
    }

    /// What was made of it: of a file by the sets that list it.
    ///
    /// # Errors
    ///
    /// As [`lineage`](Self::lineage).
    pub fn descendants(&self, id: &Digest) -> Result<Lineage> {
        let descendants = self.walk(id, |place| self.down(place))?;
        let itself = descendants[..1].to_vec();
        Ok(self.found(descendants, itself))
    }

    fn found(&self, descendants: Vec<LineageStep>, ancestors: Vec<LineageStep>) -> Lineage {
        Lineage { ancestors, descendants, unreadable: self.unreadable.clone() }
    }

    /// The records that name it, with their kinds, ordered by digest; of a file the sources that it
    /// was read of.
    pub fn children(&self, id: &Digest) -> Vec<(Digest, String)> {
        let below = self.places(id).into_iter().flat_map(|place| self.down(&place));
        let known = below.filter_map(|(place, _)| {
            let kind = self.kind(&place)?.to_owned();
            Some((self.digest(&place), kind))
        });
        known.collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// The files that training sets were made from: digest and path. One that was listed under
    /// several paths stands here with each.
    pub fn files(&self) -> Vec<(Digest, &str)> {
        self.listings.files().collect()
    }

    /// The records whose digest begins with these hexadecimal digits, sources and files too.
    pub fn beginning_with(&self, digits: &str) -> Vec<Digest> {
        let files = self.listings.files().map(|(id, _)| id);
        let all = self.records.keys().chain(self.listings.sources()).copied().chain(files);
        let found: BTreeSet<Digest> = all.filter(|id| id.hex().starts_with(digits)).collect();
        found.into_iter().collect()
    }

    /// All that has this digest. What is a record says itself what it is; what is a file comes
    /// before what anybody calls a source.
    fn places(&self, id: &Digest) -> Vec<Place> {
        if self.records.contains_key(id) {
            return vec![Place::Record(*id)];
        }
        let sources = self.listings.of_source(id).map(Place::Source);
        let is_file = self.listings.paths(id).next().is_some();
        is_file.then_some(Place::File(*id)).into_iter().chain(sources).collect()
    }

    fn digest(&self, place: &Place) -> Digest {
        match place {
            Place::Record(id) | Place::File(id) => *id,
            Place::Source(at) => self.listings.get(*at).data,
        }
    }

    /// The kind of a step; `None` of a record that was collected meanwhile.
    fn kind(&self, place: &Place) -> Option<&str> {
        match place {
            Place::Record(id) => self.records.get(id).map(|node| node.kind.as_str()),
            Place::Source(_) => Some(SOURCE),
            Place::File(_) => Some(FILE),
        }
    }

    /// The name of a step that nothing else gives it.
    fn own_name(&self, place: &Place) -> Option<Arc<str>> {
        match place {
            Place::Record(_) => None,
            Place::Source(at) => Some(Arc::clone(&self.listings.get(*at).name)),
            Place::File(id) => self.listings.paths(id).next().map(|(path, _)| Arc::clone(path)),
        }
    }

    fn up(&self, place: &Place) -> Vec<Reached> {
        match place {
            Place::Record(id) => {
                let parents = self.records.get(id).map_or(&[][..], |node| &node.parents);
                let above = parents.iter().map(|parent| match parent {
                    Parent::Record(id, name) => (Place::Record(*id), name.clone()),
                    Parent::Source(at) => (Place::Source(*at), None),
                });
                above.collect()
            }
            Place::Source(at) => {
                let files = self.listings.files_of(*at);
                let above = files.map(|(id, path)| match self.records.contains_key(id) {
                    true => (Place::Record(*id), Some(Arc::clone(path))),
                    false => (Place::File(*id), Some(Arc::clone(path))),
                });
                above.collect()
            }
            Place::File(_) => Vec::new(),
        }
    }

    fn down(&self, place: &Place) -> Vec<Reached> {
        let listed = |id| self.listings.with_file(id).into_iter().map(Place::Source);
        let below: Vec<Place> = match place {
            Place::Record(id) => {
                let children = self.children.get(id).map_or(&[][..], Vec::as_slice);
                children.iter().copied().map(Place::Record).chain(listed(id)).collect()
            }
            Place::Source(at) => {
                self.listings.get(*at).sets.iter().copied().map(Place::Record).collect()
            }
            Place::File(id) => listed(id).collect(),
        };
        below.into_iter().map(|place| (place, None)).collect()
    }

    /// Puts what is reached in reading order. Without recursion: chains of deployments grow long.
    fn walk(&self, id: &Digest, next: impl Fn(&Place) -> Vec<Reached>) -> Result<Vec<LineageStep>> {
        let places = self.places(id);
        let message = format!("record {id}: not in the store, and no source or file of a record");
        let first = *places.first().context(ErrorKind::NotFound, message)?;
        if let Some(why) = self.unreadable.get(id) {
            return Err(Error::corrupt(why.clone()));
        }
        // What somebody calls a source stands under the name that he gives it, and is not taken for
        // what the file itself was made from.
        let asked = if matches!(first, Place::File(_)) { 1 } else { places.len() };
        let (asked, called) = places.split_at(asked);
        let (mut steps, mut seen) = (Vec::new(), BTreeSet::from_iter(asked.iter().copied()));
        steps.extend(self.step(&first, None, 0));
        let called = called.iter().map(|place| (*place, None));
        let reached = asked.iter().flat_map(&next).chain(called);
        // Several lists of a source may hold the same file.
        let mut once = BTreeSet::new();
        let reached = reached.filter(|reached| once.insert(reached.clone()));
        let mut waiting: Vec<_> = reached.map(|(place, name)| (place, name, 1)).collect();
        waiting.reverse();
        while let Some((place, name, depth)) = waiting.pop() {
            let Some(mut step) = self.step(&place, name, depth) else { continue };
            if steps.len() == MAX_STEPS {
                let message = format!("lineage of {id}: over {MAX_STEPS} steps");
                return Err(Error::new(ErrorKind::Limit, message));
            }
            step.repeated = !seen.insert(place);
            if !step.repeated {
                let reached = next(&place).into_iter().rev();
                waiting.extend(reached.map(|(place, name)| (place, name, depth + 1)));
            }
            steps.push(step);
        }
        Ok(steps)
    }

    fn step(&self, place: &Place, name: Option<Arc<str>>, depth: u32) -> Option<LineageStep> {
        let kind = self.kind(place)?.to_owned();
        let name = name.or_else(|| self.own_name(place)).map(|name| name.to_string());
        Some(LineageStep { depth, id: self.digest(place), kind, name, repeated: false, said: None })
    }
}
