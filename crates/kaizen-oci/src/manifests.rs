//! Manifests and their tags.

use bytes::Bytes;
use hyper::header::{self, HeaderMap};
use hyper::{Method, StatusCode};
use kaizen_core::{Context, Digest, Error, ErrorKind, Manifest, Result, media_type};
use serde::Deserialize;
use url::Url;

use crate::header::next_link;
use crate::http::{Whole, check_digest, content_digest};
use crate::location;
use crate::reference::{is_tag, shown};
use crate::registry::Inner;
use crate::wire::Call;

/// What we say that we understand. Docker's own two are what old images are.
pub(crate) const ACCEPTED: &str = "application/vnd.oci.image.manifest.v1+json, \
    application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json, \
    application/vnd.docker.distribution.manifest.list.v2+json";
/// At most this many pages of one list.
const MAX_PAGES: usize = 1_000;
/// At most this many tags in a repository.
const MAX_TAGS: usize = 100_000;
/// At most this many bytes in one page of tags.
const MAX_PAGE: usize = 4 << 20;

#[derive(Deserialize)]
struct TagPage {
    tags: Option<Vec<String>>,
}

/// On what a manifest is put under a tag.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Condition<'a> {
    /// On nothing.
    Always,
    /// That nothing has the tag yet.
    Absent,
    /// That what has it is still what was read with this `ETag`.
    Unchanged(&'a str),
}

/// Pages of a list, each of which says where the next one is.
pub(crate) struct Pages {
    /// The next page.
    pub(crate) next: Option<Url>,
    seen: usize,
}

impl Pages {
    pub(crate) fn new(first: Url) -> Self {
        Self { next: Some(first), seen: 0 }
    }

    /// Notes where the page after this one is: within the same list, and not for ever.
    pub(crate) fn turn(&mut self, page: &Url, headers: &HeaderMap) -> Result<()> {
        self.next = None;
        self.seen += 1;
        let Some(link) = headers.get(header::LINK) else { return Ok(()) };
        let name = location::plain(page);
        let text = link.to_str().context(ErrorKind::Corrupt, format!("{name}: header link"))?;
        let Some(raw) = next_link(text).context(ErrorKind::Corrupt, name.clone())? else {
            return Ok(());
        };
        let next = location::resolve(page, raw)?;
        if !location::same_server(page, &next) || next.path() != page.path() {
            return Err(Error::refused(format!("{name}: its next page is not of this list")));
        }
        if self.seen >= MAX_PAGES || next == *page {
            return Err(Error::new(ErrorKind::Limit, format!("{name}: a list without end")));
        }
        self.next = Some(next);
        Ok(())
    }
}

impl Inner {
    /// A manifest's bytes, checked.
    pub(crate) async fn get_manifest(&self, digest: &Digest) -> Result<Option<Bytes>> {
        let found = self.fetch_manifest(&digest.to_string()).await?;
        let Some(found) = found else { return Ok(None) };
        let what = format!("manifest {digest} from {}", self.reference.host());
        digest.check(&found.body, &what)?;
        check_manifest(&found, &what)?;
        self.known().manifest(*digest);
        Ok(Some(found.body))
    }

    /// What a registry has as a manifest under a tag or a digest.
    pub(crate) async fn fetch_manifest(&self, name: &str) -> Result<Option<Whole>> {
        let call = Call::new(Method::GET, self.url(&format!("manifests/{name}"))?)
            .header(header::ACCEPT, ACCEPTED)?;
        let bounds = (Manifest::MAX_BYTES, &[StatusCode::NOT_FOUND][..]);
        let whole = self.http.fetch(&call, &self.pull_scopes(), bounds).await?;
        match whole.status {
            StatusCode::NOT_FOUND => Ok(None),
            StatusCode::OK => Ok(Some(whole)),
            status => {
                let text = format!("{}: {} is no answer to it", call.name(), status.as_u16());
                Err(Error::corrupt(text))
            }
        }
    }

    pub(crate) async fn get_tag(&self, tag: &str) -> Result<Option<Digest>> {
        let Some(found) = self.fetch_manifest(tag).await? else { return Ok(None) };
        let digest = Digest::of(&found.body);
        let what = format!("{}:{tag}", self.reference);
        check_digest(&found.headers, &digest, &what)?;
        check_manifest(&found, &what)?;
        self.known().manifest(digest);
        Ok(Some(digest))
    }

    pub(crate) async fn put_tag(&self, tag: &str, digest: &Digest) -> Result<()> {
        let bytes = self.get_manifest(digest).await?;
        let bytes = bytes
            .context(ErrorKind::NotFound, format!("manifest {digest}: not here to be tagged"))?;
        let kind = media_type_of(&bytes).unwrap_or_else(|| media_type::MANIFEST.to_owned());
        self.send_manifest(tag, (&kind, bytes), Condition::Always).await.map(|_| ())
    }

    /// Puts bytes as a manifest under a tag or a digest; the headers of the answer.
    pub(crate) async fn send_manifest(
        &self,
        name: &str,
        (kind, bytes): (&str, Bytes),
        condition: Condition<'_>,
    ) -> Result<HeaderMap> {
        let digest = Digest::of(&bytes);
        let mut call = Call::new(Method::PUT, self.url(&format!("manifests/{name}"))?)
            .header(header::CONTENT_TYPE, kind)?
            .body(bytes);
        call = match condition {
            Condition::Always => call,
            Condition::Absent => call.header(header::IF_NONE_MATCH, "*")?,
            Condition::Unchanged(tag) => call.header(header::IF_MATCH, tag)?,
        };
        let answer = self.http.send(&call, &self.push_scopes()).await?;
        if !answer.status.is_success() {
            return Err(self.http.failure(answer).await.error);
        }
        check_digest(&answer.headers, &digest, &answer.name)?;
        self.known().manifest(digest);
        Ok(answer.headers)
    }

    pub(crate) async fn put_manifest(&self, bytes: Bytes) -> Result<Digest> {
        let manifest = Manifest::parse(&bytes)?;
        let digest = Digest::of(&bytes);
        // Not every registry looks.
        for blob in manifest.blobs() {
            let known = self.known().has_blob(&blob.digest);
            if !known && self.size_of(&blob.digest).await?.is_none() {
                let (blob, here) = (blob.digest, &self.reference);
                let text = format!("manifest {digest}: its blob {blob} is not in {here}");
                return Err(Error::not_found(text));
            }
        }
        let parts = (media_type::MANIFEST, bytes.clone());
        let name = digest.to_string();
        let headers = self.send_manifest(&name, parts, Condition::Always).await?;
        if let Some(subject) = &manifest.subject {
            self.make_findable(&headers, &subject.digest, (&digest, &manifest, &bytes)).await?;
        }
        Ok(digest)
    }

    pub(crate) async fn tags(&self) -> Result<Vec<String>> {
        let mut tags = Vec::new();
        let mut first = self.url("tags/list")?;
        first.query_pairs_mut().append_pair("n", "1000");
        let mut pages = Pages::new(first);
        while let Some(url) = pages.next.take() {
            let call = Call::new(Method::GET, url.clone());
            let bounds = (MAX_PAGE, &[StatusCode::NOT_FOUND][..]);
            let whole = self.http.fetch(&call, &self.pull_scopes(), bounds).await?;
            if whole.status == StatusCode::NOT_FOUND {
                break;
            }
            let page: TagPage = serde_json::from_slice(&whole.body)
                .context(ErrorKind::Corrupt, format!("{}: no list of tags", call.name()))?;
            for tag in page.tags.unwrap_or_default() {
                if !is_tag(&tag) {
                    let text = format!("{}: `{}` is no tag", call.name(), shown(&tag));
                    return Err(Error::corrupt(text));
                }
                tags.push(tag);
            }
            if tags.len() > MAX_TAGS {
                let text = format!("{}: more than {MAX_TAGS} tags", call.name());
                return Err(Error::new(ErrorKind::Limit, text));
            }
            pages.turn(&url, &whole.headers)?;
        }
        tags.sort_unstable();
        tags.dedup();
        Ok(tags)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Kind {
    media_type: Option<String>,
}

/// What a manifest says that it is.
pub(crate) fn media_type_of(bytes: &[u8]) -> Option<String> {
    serde_json::from_slice::<Kind>(bytes).ok()?.media_type
}

/// Checks that bytes are of the kind that the registry says. What is in them is for the reader to
/// see: he knows whether he asked for this one, or somebody says it of another.
fn check_manifest(found: &Whole, what: &str) -> Result<()> {
    let own = media_type_of(&found.body);
    let said = found.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let said = said.map(|text| text.split(';').next().unwrap_or(text).trim());
    let known = |kind: &str| ACCEPTED.split(", ").any(|accepted| accepted == kind);
    if !said.is_some_and(known) || own.as_deref().is_some_and(|own| Some(own) != said) {
        let said = shown(said.unwrap_or("nothing"));
        return Err(Error::corrupt(format!("{what}: the registry says that it is `{said}`")));
    }
    if let Some(digest) = content_digest(&found.headers) {
        digest.check(&found.body, what)?;
    }
    Ok(())
}
