//! An online store in one local file.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use kaizen_core::{Bytes, ErrorKind, Result, async_trait};
use kaizen_table::{OnlineEntry, OnlinePage, OnlineStore};
use redb::{
    Database, ReadOnlyTable, ReadableDatabase as _, ReadableTable as _, Table, TableDefinition,
};

use crate::blocking::blocking;

/// From the name of a space to its number.
const SPACES: TableDefinition<&str, u32> = TableDefinition::new("spaces");

/// From the number of a space, big-endian, and the key behind it, to the value. Names of spaces are
/// long; numbers keep the keys of the tree short.
const ENTRIES: TableDefinition<&[u8], &[u8]> = TableDefinition::new("entries");

/// Up to so many keys are read where the caller stands. A key takes about 2 µs when its page is in
/// memory; to hand the work to another thread and back takes about 20.
const INLINE_KEYS: usize = 256;

/// Keeps everything in one file of the embedded database redb.
///
/// A `put` is one transaction, on disk when it returns: after a crash all of it is there or none.
/// One process at a time has the file open.
///
/// Up to 256 keys are read on the thread that asks, as pages are mostly in memory. Where they are not,
/// that thread waits for the disk: give a store that is far larger than memory a runtime of its own.
#[derive(Debug)]
pub struct RedbOnlineStore(Arc<Store>);

#[derive(Debug)]
struct Store {
    name: String,
    database: Database,
    /// What readers see: the state after the last write. Opening a transaction for each read would
    /// take as long as some keys.
    state: RwLock<Arc<State>>,
}

/// The entries of all spaces after one write.
struct State {
    spaces: BTreeMap<String, u32>,
    entries: ReadOnlyTable<&'static [u8], &'static [u8]>,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").field("spaces", &self.spaces).finish_non_exhaustive()
    }
}

impl RedbOnlineStore {
    /// Opens the file, and makes it if it is not there. A file of another format is
    /// [`ErrorKind::Corrupt`], one that another process has open [`ErrorKind::Unavailable`].
    pub async fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref().to_owned();
        let name = format!("online store `{}`", path.display());
        let open = move || match Database::create(&path) {
            Ok(database) => Self::of(name, database),
            Err(error) => Err(failed(&name, error.into())),
        };
        blocking(open).await
    }

    /// The store in this database.
    fn of(name: String, database: Database) -> Result<Self> {
        let make = || -> Result<State, redb::Error> {
            // The tables must be there before they can be read.
            let transaction = database.begin_write()?;
            transaction.open_table(SPACES)?;
            transaction.open_table(ENTRIES)?;
            transaction.commit()?;
            State::read(&database)
        };
        let state = make().map_err(|error| failed(&name, error))?;
        let state = RwLock::new(Arc::new(state));
        Ok(Self(Arc::new(Store { name, database, state })))
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Store) -> Result<T, redb::Error> + Send + 'static,
    ) -> Result<T> {
        let store = Arc::clone(&self.0);
        blocking(move || work(&store).map_err(|source| failed(&store.name, source))).await
    }
}

impl Store {
    fn state(&self) -> Arc<State> {
        Arc::clone(&self.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn put(&self, mut entries: Vec<OnlineEntry>) -> Result<(), redb::Error> {
        // In the order of the tree, in which pages are written once; entries of one key keep theirs.
        entries.sort_by(|one, other| (&one.space, &one.key).cmp(&(&other.space, &other.key)));
        let transaction = self.database.begin_write()?;
        {
            let mut spaces = transaction.open_table(SPACES)?;
            let mut table = transaction.open_table(ENTRIES)?;
            for run in entries.chunk_by(|one, other| one.space == other.space) {
                write_space(&mut spaces, &mut table, run)?;
            }
        }
        transaction.commit()?;
        // Read while nobody else can keep a state: of two puts the later state is kept last.
        let mut kept = self.state.write().unwrap_or_else(PoisonError::into_inner);
        *kept = Arc::new(State::read(&self.database)?);
        Ok(())
    }
}

/// Writes entries of one space, at least one.
fn write_space(
    spaces: &mut Table<'_, &str, u32>,
    table: &mut Table<'_, &[u8], &[u8]>,
    run: &[OnlineEntry],
) -> Result<(), redb::Error> {
    let Some(name) = run.first().map(|entry| entry.space.as_str()) else { return Ok(()) };
    let known = spaces.get(name)?.map(|number| number.value());
    let number = match known {
        Some(number) => number,
        None => {
            // A number is free again when its space is empty, so that there are always some.
            let taken = spaces.iter()?.map(|entry| Ok(entry?.1.value()));
            let taken = taken.collect::<Result<std::collections::BTreeSet<u32>, redb::Error>>()?;
            let free = (0..u32::MAX).find(|number| !taken.contains(number)).unwrap_or(u32::MAX);
            spaces.insert(name, free)?;
            free
        }
    };
    let mut key = Vec::new();
    for entry in run {
        key.clear();
        key.extend(number.to_be_bytes());
        key.extend_from_slice(&entry.key);
        match &entry.value {
            Some(value) => drop(table.insert(key.as_slice(), value.as_ref())?),
            None => drop(table.remove(key.as_slice())?),
        }
    }
    let first = table.range(&number.to_be_bytes()[..]..)?.next().transpose()?;
    if !first.is_some_and(|(key, _)| key.value().starts_with(&number.to_be_bytes())) {
        spaces.remove(name)?;
    }
    Ok(())
}

impl State {
    fn read(database: &Database) -> Result<Self, redb::Error> {
        let transaction = database.begin_read()?;
        let mut spaces = BTreeMap::new();
        for entry in transaction.open_table(SPACES)?.iter()? {
            let (name, number) = entry?;
            spaces.insert(name.value().to_owned(), number.value());
        }
        Ok(Self { spaces, entries: transaction.open_table(ENTRIES)? })
    }

    fn get(&self, space: &str, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>, redb::Error> {
        let Some(number) = self.spaces.get(space) else { return Ok(vec![None; keys.len()]) };
        let mut whole = Vec::new();
        let get = |key: &Bytes| {
            whole.clear();
            whole.extend(number.to_be_bytes());
            whole.extend_from_slice(key);
            let found = self.entries.get(whole.as_slice())?;
            Ok(found.map(|value| Bytes::copy_from_slice(value.value())))
        };
        keys.iter().map(get).collect()
    }

    fn page(
        &self,
        space: &str,
        after: Option<&Bytes>,
        most: usize,
    ) -> Result<OnlinePage, redb::Error> {
        let mut page = OnlinePage::default();
        let Some(number) = self.spaces.get(space).map(|number| number.to_be_bytes()) else {
            return Ok(page);
        };
        let first = [&number[..], after.map_or(&[], |after| after)].concat();
        let first = match after {
            Some(_) => Bound::Excluded(first.as_slice()),
            None => Bound::Included(first.as_slice()),
        };
        for entry in self.entries.range::<&[u8]>((first, Bound::Unbounded))? {
            let (key, value) = entry?;
            let Some(key) = key.value().strip_prefix(&number) else { break };
            if page.entries.len() >= most.max(1) {
                page.next = page.entries.last().map(|(key, _)| key.clone());
                break;
            }
            let copy = Bytes::copy_from_slice;
            page.entries.push((copy(key), copy(value.value())));
        }
        Ok(page)
    }
}

#[async_trait]
impl OnlineStore for RedbOnlineStore {
    async fn get(&self, space: &str, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>> {
        if keys.len() <= INLINE_KEYS {
            let found = self.0.state().get(space, keys);
            return found.map_err(|source| failed(&self.0.name, source));
        }
        let (space, keys) = (space.to_owned(), keys.to_vec());
        self.blocking(move |store| store.state().get(&space, &keys)).await
    }

    async fn put(&self, entries: Vec<OnlineEntry>) -> Result<()> {
        self.blocking(move |store| store.put(entries)).await
    }

    async fn spaces(&self) -> Result<Vec<String>> {
        Ok(self.0.state().spaces.keys().cloned().collect())
    }

    async fn page(&self, space: &str, after: Option<&Bytes>, most: usize) -> Result<OnlinePage> {
        let (space, after) = (space.to_owned(), after.cloned());
        self.blocking(move |store| store.state().page(&space, after.as_ref(), most)).await
    }
}

fn failed(name: &str, source: redb::Error) -> kaizen_core::Error {
    let kind = match &source {
        redb::Error::Corrupted(_) | redb::Error::UpgradeRequired(_) => ErrorKind::Corrupt,
        redb::Error::Io(error) if error.kind() == std::io::ErrorKind::InvalidData => {
            ErrorKind::Corrupt
        }
        redb::Error::Io(error) if error.kind() == std::io::ErrorKind::NotFound => {
            ErrorKind::NotFound
        }
        redb::Error::ValueTooLarge(_) => ErrorKind::Limit,
        _ => ErrorKind::Unavailable,
    };
    kaizen_core::Error::new(kind, name).with_source(source)
}

#[cfg(test)]
mod tests {
    use std::io::{Error as IoError, ErrorKind as IoKind};
    use std::sync::Mutex;

    use redb::StorageBackend;

    use super::*;

    /// A disk that outlives the database on it, and takes only so many bytes more.
    #[derive(Clone, Debug, Default)]
    struct Disk(Arc<Mutex<(Vec<u8>, Option<usize>)>>);

    impl StorageBackend for Disk {
        fn len(&self) -> Result<u64, IoError> {
            Ok(self.0.lock().unwrap().0.len() as u64)
        }

        fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), IoError> {
            let disk = self.0.lock().unwrap();
            let offset = offset as usize;
            let bytes = disk.0.get(offset..offset + out.len()).ok_or(IoKind::UnexpectedEof)?;
            out.copy_from_slice(bytes);
            Ok(())
        }

        fn set_len(&self, length: u64) -> Result<(), IoError> {
            self.0.lock().unwrap().0.resize(length as usize, 0);
            Ok(())
        }

        fn sync_data(&self) -> Result<(), IoError> {
            Ok(())
        }

        fn write(&self, offset: u64, data: &[u8]) -> Result<(), IoError> {
            let (bytes, left) = &mut *self.0.lock().unwrap();
            if let Some(left) = left {
                *left = left.checked_sub(data.len()).ok_or(IoKind::StorageFull)?;
            }
            bytes[offset as usize..offset as usize + data.len()].copy_from_slice(data);
            Ok(())
        }
    }

    fn open(disk: &Disk) -> RedbOnlineStore {
        let database = Database::builder().create_with_backend(disk.clone()).unwrap();
        RedbOnlineStore::of("disk".to_owned(), database).unwrap()
    }

    fn entries(value: &str) -> Vec<OnlineEntry> {
        let entry = |number: u32| OnlineEntry {
            space: format!("space {}", number % 3),
            key: number.to_be_bytes().to_vec().into(),
            value: Some(Bytes::from(format!("{value} {}", "x".repeat(100)))),
        };
        (0..300).map(entry).collect()
    }

    async fn values(store: &RedbOnlineStore) -> Vec<Option<Bytes>> {
        let mut found = Vec::new();
        for OnlineEntry { space, key, .. } in entries("") {
            found.extend(store.get(&space, &[key]).await.unwrap());
        }
        found
    }

    /// The disk is full after any number of bytes; then the program ends, and is started again.
    #[tokio::test]
    async fn on_a_full_disk_all_of_a_write_is_there_or_nothing() {
        let (old, new) = (entries("old"), entries("new"));
        let (mut failed, mut written) = (0, 0);
        for limit in (0..400_000).step_by(9_973) {
            let disk = Disk::default();
            let store = open(&disk);
            store.put(old.clone()).await.unwrap();
            disk.0.lock().unwrap().1 = Some(limit);
            let put = store.put(new.clone()).await;
            if let Err(error) = &put {
                assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
                assert!(format!("{error:#}").starts_with("disk: "), "{error:#}");
            }
            drop(store);
            disk.0.lock().unwrap().1 = None;
            let found = values(&open(&disk)).await;
            let is = |side: &[OnlineEntry]| found.iter().zip(side).all(|(f, e)| *f == e.value);
            match put {
                Ok(()) => assert!(is(&new), "what was written is there"),
                Err(_) => assert!(is(&old) || is(&new), "all or nothing, {limit}"),
            }
            failed += usize::from(is(&old));
            written += usize::from(is(&new));
        }
        assert!(failed > 3 && written > 3, "{failed} failed, {written} written");
    }

    #[tokio::test]
    async fn numbers_of_empty_spaces_are_given_again() {
        let store = open(&Disk::default());
        let one = |space: String, value: Option<&'static str>| OnlineEntry {
            space,
            key: Bytes::from("k"),
            value: value.map(Bytes::from),
        };
        for round in 0..20 {
            store.put(vec![one(format!("s{round}"), Some("v"))]).await.unwrap();
            store.put(vec![one(format!("s{round}"), None)]).await.unwrap();
        }
        store
            .put(vec![one("a".to_owned(), Some("1")), one("b".to_owned(), Some("2"))])
            .await
            .unwrap();
        assert_eq!(store.0.state().spaces.values().copied().collect::<Vec<_>>(), [0, 1]);
    }
}
