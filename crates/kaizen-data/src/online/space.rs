//! Where a view's rows are online, and how far they go.

use kaizen_core::{Bytes, Context, Digest, Error, ErrorKind, Result, Timestamp, serde_int};
use kaizen_table::{FeatureView, OnlineEntry};
use serde::{Deserialize, Serialize};

use super::past::Past;
use crate::keys::KeyTypes;

/// Changes when the bytes of keys or rows are laid out anew, so that old ones are not misread.
const VERSION: u32 = 4;

/// The key of [`Progress`]; the keys of entities begin with [`ENTITY`].
const PROGRESS: &[u8] = &[0];

/// The first byte of an entity's key.
const ENTITY: u8 = 1;

/// How many bytes of its definition's digest stand before an entity's rows.
const MARK: usize = 8;

/// The space of one definition of a view: a changed definition has another.
///
/// An entity's rows stand behind the first bytes of the definition's digest. Bytes that came here
/// from elsewhere are recognised by that, and never read as rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Space {
    name: String,
    mark: [u8; MARK],
}

impl Space {
    /// The space of this definition.
    pub(crate) fn of(view: &FeatureView) -> Result<Self> {
        Ok(Self::named(view.name(), &view.digest()?))
    }

    /// The space of the definition of a view that has this digest.
    pub(crate) fn named(view: &str, digest: &Digest) -> Self {
        let mut mark = [0; MARK];
        mark.copy_from_slice(&digest.as_bytes()[..MARK]);
        Self { name: format!("{view}@{}/v{VERSION}", digest.hex()), mark }
    }

    /// The view whose definition a space of this name holds, in whatever layout; `None` for spaces
    /// of other things.
    pub(crate) fn view_of(name: &str) -> Option<&str> {
        let (rest, version) = name.rsplit_once("/v")?;
        let (view, digest) = rest.rsplit_once('@')?;
        let number = !version.is_empty() && version.bytes().all(|byte| byte.is_ascii_digit());
        let hex = digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit());
        (number && hex).then_some(view)
    }

    /// Whether a space of this name is laid out as this program reads and writes it.
    pub(crate) fn is_known(name: &str) -> bool {
        name.rsplit_once("/v").is_some_and(|(_, version)| version == VERSION.to_string())
    }

    /// The space's name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The key under which it is kept how far the view goes.
    pub(crate) fn progress_key() -> Bytes {
        Bytes::from_static(PROGRESS)
    }

    /// The key under which an entity's rows are kept.
    pub(crate) fn entity_key(key: &[u8]) -> Bytes {
        let mut bytes = Vec::with_capacity(1 + key.len());
        bytes.push(ENTITY);
        bytes.extend_from_slice(key);
        bytes.into()
    }

    /// Whether this is the key of an entity.
    pub(crate) fn is_entity(key: &[u8]) -> bool {
        key.first() == Some(&ENTITY)
    }

    /// An entry of this space: of an entity's key, its rows.
    pub(crate) fn entry(&self, key: Bytes, value: Bytes) -> OnlineEntry {
        let value = match key.first() {
            Some(&ENTITY) => [&self.mark[..], &value].concat().into(),
            _ => value,
        };
        OnlineEntry { space: self.name.clone(), key, value: Some(value) }
    }

    /// The rows in an entity's value, whose mark is checked.
    pub(crate) fn rows(&self, value: Option<Bytes>) -> Result<Option<Bytes>> {
        let Some(value) = value else { return Ok(None) };
        if !value.starts_with(&self.mark) {
            let space = &self.name;
            return Err(Error::corrupt(format!("space `{space}`: rows of another definition")));
        }
        Ok(Some(value.slice(MARK..)))
    }
}

/// How far a view is online.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Progress {
    /// The source, or the log, of which the rows are.
    pub(crate) source: String,
    /// Every row that was known at this instant, in nanoseconds UTC, is in.
    #[serde(with = "serde_int")]
    pub(crate) until: i64,
    /// No row that a question at this instant or later needs has been dropped.
    #[serde(with = "serde_int")]
    pub(crate) from: i64,
    /// How many rows of the source those were.
    #[serde(with = "serde_int")]
    pub(crate) rows: u64,
    /// The sum of the hashes of those rows; 0 if the view follows a log.
    #[serde(with = "serde_sum")]
    pub(crate) sum: u128,
    /// Entities were forgotten since, so that the source may have fewer rows of that time.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) forgotten: bool,
    /// How many writes have removed entities. Every other write changes what stands above or below;
    /// with this none leaves the bytes as they were.
    #[serde(default, skip_serializing_if = "is_zero", with = "serde_int")]
    pub(crate) removals: u64,
    /// The offset from which a log of rows is followed on; `None` if the view is materialised.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "serde_offset")]
    pub(crate) offset: Option<u64>,
    /// Which log is followed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) log: Option<String>,
    /// The columns that name an entity.
    pub(crate) keys: Vec<String>,
    /// The types in which they are compared.
    pub(crate) key_types: Vec<String>,
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// An optional offset, as [`serde_int`] has integers.
mod serde_offset {
    use kaizen_core::serde_int;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    struct Offset(#[serde(with = "serde_int")] u64);

    pub(super) fn serialize<S: Serializer>(value: &Option<u64>, to: S) -> Result<S::Ok, S::Error> {
        value.map(Offset).serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
        Ok(Option::<Offset>::deserialize(from)?.map(|offset| offset.0))
    }
}

/// A sum of hashes, as 32 hexadecimal digits.
mod serde_sum {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(value: &u128, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&format_args!("{value:032x}"))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u128, D::Error> {
        let text = String::deserialize(from)?;
        u128::from_str_radix(&text, 16).map_err(D::Error::custom)
    }
}

impl Progress {
    /// The rows that are in.
    pub(crate) fn past(&self) -> Past {
        Past { rows: self.rows, sum: self.sum }
    }

    /// Reads what [`to_bytes`](Self::to_bytes) wrote.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self> {
        serde_json::from_slice(bytes).context(ErrorKind::Corrupt, "how far the view goes online")
    }

    /// The form in which it is kept.
    pub(crate) fn to_bytes(&self) -> Result<Bytes> {
        let json = serde_json::to_vec(self);
        Ok(json.context(ErrorKind::Internal, "how far the view goes online")?.into())
    }

    /// The entry that says so in a space.
    pub(crate) fn entry(&self, space: &str) -> Result<OnlineEntry> {
        let value = Some(self.to_bytes()?);
        Ok(OnlineEntry { space: space.to_owned(), key: Space::progress_key(), value })
    }

    /// The columns that name an entity, with the types in which they are compared.
    pub(crate) fn key_types(&self) -> Result<KeyTypes> {
        KeyTypes::parse(&self.keys, &self.key_types)
    }

    /// Says that entities are removed in the write that brings it.
    pub(crate) fn removed(&mut self) {
        self.forgotten = true;
        self.removals = self.removals.wrapping_add(1);
    }

    /// The instant, for messages.
    pub(crate) fn instant(&self) -> Timestamp {
        Timestamp::from_nanos(self.until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_space_tells_its_view_whatever_the_view_is_called() {
        for view in ["v", "a@b/v2", "@/v1", "x@0123"] {
            let space = Space::named(view, &Digest::of(view));
            assert_eq!(Space::view_of(space.name()), Some(view));
            assert!(Space::is_known(space.name()));
        }
        let older = format!("v@{}/v2", Digest::of("").hex());
        assert_eq!((Space::view_of(&older), Space::is_known(&older)), (Some("v"), false));
        let hex = Digest::of("").hex();
        for other in ["views", &format!("v@{hex}"), &format!("v@{hex}/v"), "v@12/v2"] {
            assert_eq!(Space::view_of(other), None, "{other}");
        }
    }

    #[test]
    fn rows_of_another_definition_are_corrupt() {
        let (one, two) = (Space::named("v", &Digest::of("1")), Space::named("v", &Digest::of("2")));
        let entry = one.entry(Space::entity_key(b"k"), Bytes::from("rows"));
        assert_eq!(one.rows(entry.value.clone()).unwrap(), Some(Bytes::from("rows")));
        assert_eq!(two.rows(entry.value).unwrap_err().kind(), ErrorKind::Corrupt);
        assert_eq!(one.rows(Some(Bytes::from("rows"))).unwrap_err().kind(), ErrorKind::Corrupt);
        assert_eq!(one.rows(None).unwrap(), None);
    }

    #[test]
    fn how_far_a_view_goes_survives_as_bytes() {
        let mut progress = Progress {
            source: "s".to_owned(),
            until: i64::MAX,
            from: i64::MIN,
            rows: u64::MAX,
            sum: u128::MAX - 1,
            forgotten: false,
            removals: 0,
            offset: None,
            log: None,
            keys: vec!["k".to_owned()],
            key_types: vec!["Int64".to_owned()],
        };
        assert_eq!(Progress::parse(&progress.to_bytes().unwrap()).unwrap(), progress);
        (progress.offset, progress.log) = (Some(u64::MAX), Some("log".to_owned()));
        progress.sum = 0;
        progress.removed();
        assert_eq!(Progress::parse(&progress.to_bytes().unwrap()).unwrap(), progress);
        assert_eq!(Progress::parse(b"{}").unwrap_err().kind(), ErrorKind::Corrupt);
    }
}
