//! An online store in a file that is only read. `docs/formats.md` lays out its bytes.

use std::collections::BTreeMap;
use std::path::Path;

use kaizen_core::{Bytes, Context, Digest, Error, ErrorKind, Result, async_trait};
use kaizen_table::{OnlineEntry, OnlinePage, OnlineStore};

use super::memory::place;
use crate::blocking::blocking;

/// The first bytes of the file.
const MAGIC: &[u8; 8] = b"KZONLINE";

/// Changes with the layout.
const VERSION: u32 = 1;

/// So many bytes come from memory at once.
const LINE: usize = 64;

/// So many lines of an entry are read ahead.
const TOUCHED: usize = 4;

/// Before the list of spaces: magic, version, number of spaces.
const HEAD: usize = 16;

/// A space in the list: where its name is, how long it is, where its table is, how many slots.
const SPACE: usize = 32;

/// The digest at the end.
const DIGEST: usize = 32;

/// The low bits of a slot are the place of the entry, those above some of its key's hash.
const PLACE_BITS: u32 = 48;

/// Entries that were [exported](crate::Online::export) to a file, which is read into memory once.
/// Any number of programs may open it, and none changes it.
#[derive(Clone, Debug)]
pub struct SnapshotOnlineStore {
    name: String,
    bytes: Bytes,
    spaces: BTreeMap<String, Table>,
}

/// The hash table of a space.
#[derive(Clone, Copy, Debug)]
struct Table {
    start: usize,
    slots: usize,
}

impl SnapshotOnlineStore {
    /// Reads the file. One that is no snapshot, or not as it was written, is
    /// [`ErrorKind::Corrupt`]; one of a later layout is [`ErrorKind::Unsupported`].
    pub async fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref().to_owned();
        let name = format!("online store `snapshot:{}`", path.display());
        let open = move || {
            let bytes = std::fs::read(&path).map_err(|error| {
                let kind = match error.kind() {
                    std::io::ErrorKind::NotFound => ErrorKind::NotFound,
                    _ => ErrorKind::Unavailable,
                };
                Error::new(kind, &name).with_source(error)
            })?;
            Self::parse(&name, bytes.into())
        };
        blocking(open).await
    }

    /// The store in these bytes.
    fn parse(name: &str, bytes: Bytes) -> Result<Self> {
        let corrupt = |what: &str| Error::corrupt(format!("{name}: {what}"));
        if !bytes.starts_with(MAGIC) {
            return Err(corrupt("it is no snapshot"));
        }
        let version = number(&bytes, 8).context(ErrorKind::Corrupt, name)?;
        if version != VERSION {
            let message = format!("{name}: layout {version}, where {VERSION} is known");
            return Err(Error::new(ErrorKind::Unsupported, message));
        }
        let end = bytes.len().checked_sub(DIGEST).filter(|end| *end >= HEAD);
        let end = end.ok_or_else(|| corrupt("it is cut off"))?;
        if Digest::of(&bytes[..end]).as_bytes() != &bytes[end..] {
            return Err(corrupt("its bytes are not those that were written"));
        }
        // What the digest covers was written by a program, which may be another: every place is
        // checked all the same.
        let bytes = bytes.slice(..end);
        let count = number(&bytes, 12).context(ErrorKind::Corrupt, name)? as usize;
        let mut spaces = BTreeMap::new();
        for index in 0..count {
            let space = space(&bytes, index).ok_or_else(|| corrupt("its list of spaces"))?;
            spaces.insert(space.0, space.1);
        }
        Ok(Self { name: name.to_owned(), bytes, spaces })
    }

    /// The entry in a slot: its key and its value; `None` in an empty one.
    fn entry(&self, table: &Table, slot: usize) -> Result<Option<(u64, &[u8], usize)>> {
        let corrupt = || Error::corrupt(format!("{}: an entry beyond its end", self.name));
        let slot = word(&self.bytes, table.start + slot * 8).ok_or_else(corrupt)?;
        if slot == 0 {
            return Ok(None);
        }
        let place = (slot & ((1 << PLACE_BITS) - 1)) as usize;
        let length = number(&self.bytes, place).ok_or_else(corrupt)? as usize;
        let key = self.bytes.get(place + 8..place + 8 + length).ok_or_else(corrupt)?;
        Ok(Some((slot >> PLACE_BITS, key, place)))
    }

    /// The value of the entry at a place.
    fn value(&self, place: usize, key: &[u8]) -> Result<Bytes> {
        let corrupt = || Error::corrupt(format!("{}: a value beyond its end", self.name));
        let length = number(&self.bytes, place + 4).ok_or_else(corrupt)? as usize;
        let start = place + 8 + key.len();
        if start + length > self.bytes.len() {
            return Err(corrupt());
        }
        Ok(self.bytes.slice(start..start + length))
    }

    /// Reads something of the slots and then of the entries of these keys, that all of them come
    /// from memory at once: to find one after another is to wait for each.
    fn touch(&self, table: &Table, keys: &[Bytes]) {
        let slot = |key: &Bytes| {
            let slot = hash(key) as usize & (table.slots - 1);
            word(&self.bytes, table.start + slot * 8).unwrap_or(0)
        };
        let slots: Vec<u64> = keys.iter().map(slot).collect();
        let entry = |slot: &u64| {
            let place = (slot & ((1 << PLACE_BITS) - 1)) as usize;
            let lines = (place..).step_by(LINE).take(TOUCHED);
            lines.fold(0, |sum, at| sum ^ self.bytes.get(at).copied().unwrap_or(0))
        };
        std::hint::black_box(slots.iter().map(entry).fold(0, |sum, byte| sum ^ byte));
    }

    fn find(&self, table: &Table, key: &[u8]) -> Result<Option<Bytes>> {
        let hash = hash(key);
        let mut slot = hash as usize & (table.slots - 1);
        for _ in 0..table.slots {
            match self.entry(table, slot)? {
                None => return Ok(None),
                Some((tag, found, place)) if tag == hash >> PLACE_BITS && found == key => {
                    return self.value(place, found).map(Some);
                }
                Some(_) => slot = (slot + 1) & (table.slots - 1),
            }
        }
        Ok(None)
    }
}

#[async_trait]
impl OnlineStore for SnapshotOnlineStore {
    async fn get(&self, space: &str, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>> {
        let Some(table) = self.spaces.get(space) else { return Ok(vec![None; keys.len()]) };
        self.touch(table, keys);
        keys.iter().map(|key| self.find(table, key)).collect()
    }

    async fn put(&self, _entries: Vec<OnlineEntry>) -> Result<()> {
        Err(Error::refused(format!("{}: a snapshot is only read", self.name)))
    }

    async fn spaces(&self) -> Result<Vec<String>> {
        Ok(self.spaces.keys().cloned().collect())
    }

    async fn page(&self, space: &str, after: Option<&Bytes>, most: usize) -> Result<OnlinePage> {
        let mut slot = place(after)?;
        let mut page = OnlinePage::default();
        let Some(table) = self.spaces.get(space) else { return Ok(page) };
        while slot < table.slots {
            if page.entries.len() >= most.max(1) {
                page.next = Some(slot.to_string().into());
                break;
            }
            if let Some((_, key, place)) = self.entry(table, slot)? {
                page.entries.push((self.bytes.slice_ref(key), self.value(place, key)?));
            }
            slot += 1;
        }
        Ok(page)
    }
}

/// The bytes of a snapshot of these spaces. The same entries give the same bytes.
pub(super) fn write(
    spaces: &BTreeMap<String, BTreeMap<Bytes, Bytes>>,
) -> Result<(Vec<u8>, Digest)> {
    let limit = "a snapshot: more than fits";
    let length = |length: usize| u32::try_from(length).context(ErrorKind::Limit, limit);
    let mut out = MAGIC.to_vec();
    out.extend(VERSION.to_le_bytes());
    out.extend(length(spaces.len())?.to_le_bytes());
    out.resize(HEAD + spaces.len() * SPACE, 0);
    for (index, (name, entries)) in spaces.iter().enumerate() {
        let name_at = out.len();
        out.extend_from_slice(name.as_bytes());
        // No more than half of the slots are taken.
        let slots = (entries.len() * 2).next_power_of_two();
        let start = out.len();
        out.resize(start + slots * 8, 0);
        let listed = [name_at, name.len(), start, slots];
        for (place, number) in listed.into_iter().enumerate() {
            set(&mut out, HEAD + index * SPACE + place * 8, number as u64);
        }
        for (key, value) in entries {
            let place = out.len() as u64;
            if place >> PLACE_BITS > 0 {
                return Err(Error::new(ErrorKind::Limit, limit));
            }
            let hash = hash(key);
            let mut slot = hash as usize & (slots - 1);
            while word(&out, start + slot * 8).is_some_and(|taken| taken != 0) {
                slot = (slot + 1) & (slots - 1);
            }
            set(&mut out, start + slot * 8, (hash >> PLACE_BITS) << PLACE_BITS | place);
            out.extend(length(key.len())?.to_le_bytes());
            out.extend(length(value.len())?.to_le_bytes());
            out.extend_from_slice(key);
            out.extend_from_slice(value);
        }
    }
    let digest = Digest::of(&out);
    out.extend(digest.as_bytes());
    Ok((out, digest))
}

/// FNV-1a of 64 bits, its bits then mixed as MurmurHash3 does at its end: the low ones choose a
/// slot, the high ones are kept beside it.
fn hash(key: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    let mut hash = key.iter().fold(0xcbf2_9ce4_8422_2325, step);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

fn space(bytes: &[u8], index: usize) -> Option<(String, Table)> {
    let at = HEAD + index.checked_mul(SPACE)?;
    let field = |place: usize| usize::try_from(word(bytes, at + place * 8)?).ok();
    let (name, length, start, slots) = (field(0)?, field(1)?, field(2)?, field(3)?);
    let name = bytes.get(name..name.checked_add(length)?)?;
    let end = start.checked_add(slots.checked_mul(8)?)?;
    let fits = slots.is_power_of_two() && end <= bytes.len();
    let name = std::str::from_utf8(name).ok()?;
    fits.then(|| (name.to_owned(), Table { start, slots }))
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(bytes.try_into().ok()?))
}

fn word(bytes: &[u8], at: usize) -> Option<u64> {
    let bytes = bytes.get(at..at.checked_add(8)?)?;
    Some(u64::from_le_bytes(bytes.try_into().ok()?))
}

fn set(bytes: &mut [u8], at: usize, word: u64) {
    bytes[at..at + 8].copy_from_slice(&word.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes(text: &str) -> Bytes {
        Bytes::copy_from_slice(text.as_bytes())
    }

    fn content() -> BTreeMap<String, BTreeMap<Bytes, Bytes>> {
        let entries = |count: u32| {
            (0..count).map(|n| (bytes(&n.to_string()), bytes(&"v".repeat(n as usize))))
        };
        let mut spaces = BTreeMap::new();
        spaces.insert("many".to_owned(), entries(100).collect::<BTreeMap<_, _>>());
        spaces
            .insert("one".to_owned(), BTreeMap::from([(Bytes::new(), bytes("of the empty key"))]));
        spaces
    }

    async fn everything(store: &SnapshotOnlineStore) -> Result<()> {
        for space in store.spaces().await? {
            let mut after = None;
            for _ in 0..1_000 {
                let page = store.page(&space, after.as_ref(), 7).await?;
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
            let keys: Vec<Bytes> = (0..40).map(|n: u32| bytes(&n.to_string())).collect();
            store.get(&space, &keys).await?;
        }
        Ok(())
    }

    #[tokio::test]
    async fn what_was_written_is_read_and_never_changed() {
        let (written, digest) = write(&content()).unwrap();
        assert_eq!(write(&content()).unwrap().0, written);
        assert_eq!(&written[written.len() - DIGEST..], digest.as_bytes());
        let store = SnapshotOnlineStore::parse("s", written.into()).unwrap();
        assert_eq!(store.spaces().await.unwrap(), ["many", "one"]);
        for (space, entries) in content() {
            let keys: Vec<Bytes> = entries.keys().cloned().collect();
            let values: Vec<Option<Bytes>> = entries.values().cloned().map(Some).collect();
            assert_eq!(store.get(&space, &keys).await.unwrap(), values);
            let absent = [bytes("absent"), bytes("00")];
            assert_eq!(store.get(&space, &absent).await.unwrap(), [None, None]);
            let (mut found, mut after) = (BTreeMap::new(), None);
            loop {
                let page = store.page(&space, after.as_ref(), 7).await.unwrap();
                found.extend(page.entries);
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
            assert_eq!(found, entries);
        }
        assert_eq!(store.get("none", &[Bytes::new()]).await.unwrap(), [None]);
        let entry = OnlineEntry { space: "one".to_owned(), key: Bytes::new(), value: None };
        assert_eq!(store.put(vec![entry]).await.unwrap_err().kind(), ErrorKind::Refused);
    }

    #[test]
    fn a_file_that_was_changed_or_cut_is_corrupt() {
        let written = write(&content()).unwrap().0;
        for at in (0..written.len()).step_by(7) {
            let mut other = written.clone();
            other[at] ^= 1;
            let error = SnapshotOnlineStore::parse("s", other.into()).unwrap_err();
            let expected = match at {
                8..12 => ErrorKind::Unsupported,
                _ => ErrorKind::Corrupt,
            };
            assert_eq!(error.kind(), expected, "{at}");
            let cut = written[..at].to_vec();
            let error = SnapshotOnlineStore::parse("s", cut.into()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{at}");
        }
    }

    /// Bytes that keep their digest right, but say anything else.
    fn forged(mut bytes: Vec<u8>) -> Bytes {
        let digest = Digest::of(&bytes);
        bytes.extend(digest.as_bytes());
        bytes.into()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn no_bytes_make_it_panic(
            random in prop::collection::vec(any::<u8>(), 0..200),
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
            first in any::<bool>(),
        ) {
            let mut written = write(&content()).unwrap().0;
            written.truncate(written.len() - DIGEST);
            let head = written.len().min(if first { HEAD + 2 * SPACE } else { usize::MAX });
            for (at, byte) in changes {
                let at = at.index(head);
                written[at] = byte;
            }
            let with_head = [&written[..HEAD], &random].concat();
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            for bytes in [random.into(), forged(with_head), forged(written)] {
                if let Ok(store) = SnapshotOnlineStore::parse("s", bytes) {
                    // An error is fine, a panic is not.
                    drop(runtime.block_on(everything(&store)));
                }
            }
        }
    }
}
