//! An online store in one local file.

use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;

use kaizen_core::{Bytes, Context, ErrorKind, Result, async_trait};
use kaizen_table::{OnlineEntry, OnlinePage, OnlineStore};
use redb::{Database, ReadableDatabase as _, TableDefinition};

/// From space and key to value.
const ENTRIES: TableDefinition<(&str, &[u8]), &[u8]> = TableDefinition::new("online");

/// Keeps everything in one file of the embedded database redb.
///
/// A `put` is one transaction, on disk when it returns: after a crash all of it is there or none.
/// One process at a time has the file open.
#[derive(Debug)]
pub struct RedbOnlineStore {
    name: String,
    database: Arc<Database>,
}

impl RedbOnlineStore {
    /// Opens the file, and makes it if it is not there. A file of another format is
    /// [`ErrorKind::Corrupt`], one that another process has open [`ErrorKind::Unavailable`].
    pub async fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref().to_owned();
        let name = format!("online store `{}`", path.display());
        let open = move || {
            let database = Database::create(&path)?;
            // The table must be there before it can be read.
            let transaction = database.begin_write()?;
            transaction.open_table(ENTRIES)?;
            transaction.commit()?;
            Ok(database)
        };
        let opened: Result<Database, redb::Error> =
            tokio::task::spawn_blocking(open).await.context(ErrorKind::Internal, &name)?;
        let database = Arc::new(opened.map_err(|source| failed(&name, source))?);
        Ok(Self { name, database })
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Database) -> Result<T, redb::Error> + Send + 'static,
    ) -> Result<T> {
        let database = Arc::clone(&self.database);
        let done = tokio::task::spawn_blocking(move || work(&database)).await;
        let done = done.context(ErrorKind::Internal, &self.name)?;
        done.map_err(|source| failed(&self.name, source))
    }
}

#[async_trait]
impl OnlineStore for RedbOnlineStore {
    async fn get(&self, space: &str, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>> {
        let (space, keys) = (space.to_owned(), keys.to_vec());
        let read = move |database: &Database| {
            let table = database.begin_read()?.open_table(ENTRIES)?;
            let get = |key: &Bytes| {
                let found = table.get((space.as_str(), key.as_ref()))?;
                Ok(found.map(|value| Bytes::copy_from_slice(value.value())))
            };
            keys.iter().map(get).collect()
        };
        self.blocking(read).await
    }

    async fn put(&self, entries: Vec<OnlineEntry>) -> Result<()> {
        let write = move |database: &Database| {
            let transaction = database.begin_write()?;
            {
                let mut table = transaction.open_table(ENTRIES)?;
                for OnlineEntry { space, key, value } in &entries {
                    let key = (space.as_str(), key.as_ref());
                    match value {
                        Some(value) => drop(table.insert(key, value.as_ref())?),
                        None => drop(table.remove(key)?),
                    }
                }
            }
            Ok(transaction.commit()?)
        };
        self.blocking(write).await
    }

    async fn spaces(&self) -> Result<Vec<String>> {
        let read = |database: &Database| {
            let table = database.begin_read()?.open_table(ENTRIES)?;
            let mut spaces: Vec<String> = Vec::new();
            // From one space to the next, not from key to key.
            loop {
                let last = spaces.last().map(|space| format!("{space}\0"));
                let from = (last.as_deref().unwrap_or_default(), &[][..]);
                let next = table.range::<(&str, &[u8])>(from..)?.next().transpose()?;
                match next {
                    Some((key, _)) => spaces.push(key.value().0.to_owned()),
                    None => return Ok(spaces),
                }
            }
        };
        self.blocking(read).await
    }

    async fn page(&self, space: &str, after: Option<&Bytes>, most: usize) -> Result<OnlinePage> {
        let (space, after) = (space.to_owned(), after.cloned());
        let read = move |database: &Database| {
            let table = database.begin_read()?.open_table(ENTRIES)?;
            let space = space.as_str();
            let from = match &after {
                Some(after) => Bound::Excluded((space, after.as_ref())),
                None => Bound::Included((space, &[][..])),
            };
            let mut page = OnlinePage::default();
            for entry in table.range::<(&str, &[u8])>((from, Bound::Unbounded))? {
                let (key, value) = entry?;
                let (found, key) = key.value();
                if found != space {
                    break;
                }
                if page.entries.len() == most {
                    page.next = page.entries.last().map(|(key, _)| key.clone());
                    break;
                }
                let copy = Bytes::copy_from_slice;
                page.entries.push((copy(key), copy(value.value())));
            }
            Ok(page)
        };
        self.blocking(read).await
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
