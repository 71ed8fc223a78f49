//! Who says something about a manifest: by the referrers API, and by a tag where a registry has
//! none.

use bytes::Bytes;
use hyper::header::{self, HeaderMap, HeaderName};
use hyper::{Method, StatusCode};
use kaizen_core::{Context, Descriptor, Digest, Error, ErrorKind, Manifest, Result, media_type};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::http::Whole;
use crate::manifests::{Condition, Pages};
use crate::registry::Inner;
use crate::wire::Call;

/// With this header a registry says that it lists the referrers of a subject itself.
const SUBJECT: HeaderName = HeaderName::from_static("oci-subject");
/// At most this many referrers of one subject.
const MAX_REFERRERS: usize = 100_000;
/// How often the list under the tag is written anew because somebody else wrote it too.
const MAX_WRITES: usize = 10;

/// An image index, as far as it is of use here. What else is in it is kept.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Index {
    schema_version: u32,
    media_type: Option<String>,
    manifests: Vec<Value>,
    #[serde(flatten)]
    rest: serde_json::Map<String, Value>,
}

impl Index {
    fn empty() -> Self {
        Self {
            schema_version: 2,
            media_type: Some(media_type::INDEX.to_owned()),
            manifests: Vec::new(),
            rest: serde_json::Map::new(),
        }
    }

    fn parse(bytes: &[u8], what: &str) -> Result<Self> {
        let index: Self = serde_json::from_slice(bytes)
            .context(ErrorKind::Corrupt, format!("{what}: no index"))?;
        let right = index.media_type.as_deref().is_none_or(|kind| kind == media_type::INDEX);
        if index.schema_version != 2 || !right {
            return Err(Error::corrupt(format!("{what}: not an OCI image index")));
        }
        Ok(index)
    }

    /// The digests of its manifests. One of another algorithm is none of ours.
    fn digests(&self, what: &str) -> Result<Vec<Digest>> {
        let mut found = Vec::new();
        for entry in &self.manifests {
            let text = entry.get("digest").and_then(Value::as_str).unwrap_or_default();
            match text.parse() {
                Ok(digest) => found.push(digest),
                Err(_) if text.starts_with("sha512:") => {}
                Err(error) => {
                    let what = format!("{what}: an entry without a digest");
                    return Err(Error::corrupt(what).with_source(error));
                }
            }
        }
        Ok(found)
    }
}

/// What is read of a list is written and read the same.
#[cfg(feature = "fuzzing")]
pub(crate) fn read_and_write(bytes: &[u8]) {
    let Ok(index) = Index::parse(bytes, "fuzz") else { return };
    let listed = index.digests("fuzz").ok();
    if let Ok(written) = serde_json::to_vec(&index) {
        let again = Index::parse(&written, "fuzz").and_then(|index| index.digests("fuzz"));
        assert_eq!(again.ok(), listed);
    }
}

/// The tag under which the referrers are listed where a registry does not do it.
fn fallback_tag(subject: &Digest) -> String {
    format!("sha256-{}", subject.hex())
}

impl Inner {
    pub(crate) async fn referrers(&self, subject: &Digest) -> Result<Vec<Digest>> {
        let mut found = match self.listed(subject).await? {
            Some(found) => found,
            None => match self.fallback(subject).await? {
                Some((index, _)) => index.digests(&format!("referrers of {subject}"))?,
                None => Vec::new(),
            },
        };
        found.sort_unstable();
        found.dedup();
        let mut known = self.known();
        found.iter().take(1_000).for_each(|digest| known.manifest(*digest));
        drop(known);
        Ok(found)
    }

    /// What the referrers API says; `None` if the registry has none.
    async fn listed(&self, subject: &Digest) -> Result<Option<Vec<Digest>>> {
        let what = format!("referrers of {subject}");
        let mut found = Vec::new();
        let mut pages = Pages::new(self.url(&format!("referrers/{subject}"))?);
        let missing = [StatusCode::NOT_FOUND, StatusCode::METHOD_NOT_ALLOWED];
        while let Some(url) = pages.next.take() {
            let call = Call::new(Method::GET, url.clone());
            let call = call.header(header::ACCEPT, media_type::INDEX)?;
            let bounds = (Manifest::MAX_BYTES, &missing[..]);
            let whole = self.http.fetch(&call, &self.pull_scopes(), bounds).await?;
            if missing.contains(&whole.status) {
                return Ok(None);
            }
            // A registry that answers every path with some page does not have the API.
            let kind = whole.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
            if !kind.is_some_and(|kind| kind.starts_with(media_type::INDEX)) {
                return Ok(None);
            }
            found.extend(Index::parse(&whole.body, &what)?.digests(&what)?);
            if found.len() > MAX_REFERRERS {
                let text = format!("{what}: more than {MAX_REFERRERS}");
                return Err(Error::new(ErrorKind::Limit, text));
            }
            pages.turn(&url, &whole.headers)?;
        }
        Ok(Some(found))
    }

    /// The list under the tag, with what says which version of it this is.
    async fn fallback(&self, subject: &Digest) -> Result<Option<(Index, Option<String>)>> {
        let tag = fallback_tag(subject);
        let Some(Whole { headers, body, .. }) = self.fetch_manifest(&tag).await? else {
            return Ok(None);
        };
        let index = Index::parse(&body, &format!("{}:{tag}", self.reference))?;
        let version = headers.get(header::ETAG).and_then(|value| value.to_str().ok());
        Ok(Some((index, version.map(str::to_owned))))
    }

    /// Sees to it that a statement that was just put is found from its subject. `headers` are what
    /// the registry answered to it.
    pub(crate) async fn make_findable(
        &self,
        headers: &HeaderMap,
        subject: &Digest,
        (digest, manifest, bytes): (&Digest, &Manifest, &Bytes),
    ) -> Result<()> {
        if headers.contains_key(SUBJECT) {
            return Ok(());
        }
        // Within this program nobody else changes the list meanwhile.
        let _held = self.statements.lock().await;
        if self.listed(subject).await?.is_some_and(|listed| listed.contains(digest)) {
            return Ok(());
        }
        let what = format!("referrers of {subject}");
        for _ in 0..MAX_WRITES {
            let found = self.fallback(subject).await?;
            let condition = match &found {
                // Else, of two that say the first thing, one would write over the other.
                None => Condition::Absent,
                Some((_, Some(version))) => Condition::Unchanged(version),
                // A registry without versions knows no conditions.
                Some((_, None)) => Condition::Always,
            };
            let mut index = found.as_ref().map_or_else(Index::empty, |(index, _)| index.clone());
            if index.digests(&what)?.contains(digest) {
                return Ok(());
            }
            let mut entry = Descriptor::of(media_type::MANIFEST, bytes);
            entry.artifact_type = manifest.artifact_type.clone();
            entry.annotations = manifest.annotations.clone();
            let entry = serde_json::to_value(entry).context(ErrorKind::Internal, &what)?;
            index.manifests.push(entry);
            let list = serde_json::to_vec(&index).context(ErrorKind::Internal, &what)?;
            if list.len() > Manifest::MAX_BYTES {
                return Err(Error::new(ErrorKind::Limit, format!("{what}: their list is full")));
            }
            let parts = (media_type::INDEX, Bytes::from(list));
            // Read again in either case: a registry may not know the condition.
            match self.send_manifest(&fallback_tag(subject), parts, condition).await {
                Err(error) if error.kind() != ErrorKind::Conflict => return Err(error),
                _ => {}
            }
        }
        Err(Error::conflict(format!("{what}: others change their list all the time")))
    }
}
