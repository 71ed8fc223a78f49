//! A repository of a remote registry as an artefact store.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hyper::{Method, StatusCode};
use kaizen_core::{
    ArtifactStore, ByteStream, Bytes, Digest, Error, ErrorKind, Result, async_trait, stream,
};
use tokio::sync::Semaphore;
use url::Url;

use crate::auth::{Auth, Scopes};
use crate::connect::connector;
use crate::download;
use crate::http::{Http, check_digest};
use crate::location::is_loopback;
use crate::manifests::ACCEPTED;
use crate::options::{Options, Transport};
use crate::reference::{Reference, is_repository, is_tag, shown};
use crate::wire::{Call, Wire};

/// At most this many digests are remembered of each sort. What is forgotten is asked again.
const MAX_KNOWN: usize = 10_000;

/// One repository of a container registry, reached by the OCI distribution protocol.
///
/// It is an [`ArtifactStore`], so records are pushed and pulled by [`kaizen_store::copy`], or by
/// [`push`](Self::push) and [`pull`](Self::pull), which go on when the connection is lost. It
/// cannot list its manifests and blobs, for the protocol lists only tags: those calls are
/// [`ErrorKind::Unsupported`]. It removes nothing.
///
/// Cloning is cheap; clones share connections, tokens and limits.
///
/// ```no_run
/// # async fn example(store: &kaizen_store::LocalStore, id: kaizen_core::Digest)
/// #     -> kaizen_core::Result<()> {
/// use std::sync::Arc;
/// use kaizen_core::Silent;
/// use kaizen_oci::{DockerConfig, Options, RemoteRegistry};
/// use kaizen_store::CopyOptions;
///
/// let mut options = Options::default();
/// options.credentials = Arc::new(DockerConfig::from_env().await?);
/// let registry = RemoteRegistry::open("registry.example.com/team/late", options)?;
/// registry.push(store, &id, &CopyOptions::new().referrers(true), &Silent).await?;
/// registry.put_tag("v3", &id).await?;
/// assert_eq!(registry.get_tag("v3").await?, Some(id));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct RemoteRegistry(pub(crate) Arc<Inner>);

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) http: Http,
    pub(crate) reference: Reference,
    pub(crate) options: Options,
    /// Blobs that are being sent.
    pub(crate) sending: Semaphore,
    /// Blobs that are being fetched.
    pub(crate) fetching: Arc<Semaphore>,
    known: Mutex<Known>,
    /// Held while the list of referrers under a tag is changed.
    pub(crate) statements: tokio::sync::Mutex<()>,
}

/// What was seen in the repository. It saves requests; what matters is asked again.
#[derive(Debug, Default)]
pub(crate) struct Known {
    blobs: BTreeSet<Digest>,
    manifests: BTreeSet<Digest>,
}

impl Known {
    pub(crate) fn blob(&mut self, digest: Digest) {
        if self.blobs.len() >= MAX_KNOWN {
            self.blobs.clear();
        }
        self.blobs.insert(digest);
    }

    pub(crate) fn manifest(&mut self, digest: Digest) {
        if self.manifests.len() >= MAX_KNOWN {
            self.manifests.clear();
        }
        self.manifests.insert(digest);
    }

    pub(crate) fn has_blob(&self, digest: &Digest) -> bool {
        self.blobs.contains(digest)
    }
}

/// The two places of a repository where bytes lie.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    Blobs,
    Manifests,
}

impl RemoteRegistry {
    /// The repository of this name: `host/path`, with neither tag nor digest. Nothing travels yet.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`] if the name is none, [`ErrorKind::Unsupported`] if the way is to be
    /// encrypted and this crate was built without the feature `tls`.
    pub fn open(name: &str, options: Options) -> Result<Self> {
        let reference: Reference = name.parse()?;
        if reference.tag().is_some() || reference.digest().is_some() {
            let text = format!("repository `{}`: it has a tag or a digest", shown(name));
            return Err(Error::invalid(text));
        }
        if let Some(bad) = options.mount_from.iter().find(|from| !is_repository(from)) {
            return Err(Error::invalid(format!("repository `{}` to mount from", shown(bad))));
        }
        let base = base(&reference, options.transport)?;
        let auth = Auth::new(options.credentials.clone(), &reference, base.clone());
        let ports = (options.pace.clone(), options.clock.clone());
        let connector = connector(&options.trusted_certificates, options.proxy.clone())?;
        let wire = Wire::new(connector, ports, (options.retry, options.stall));
        let concurrency = options.concurrency.clamp(1, 64);
        Ok(Self(Arc::new(Inner {
            http: Http::new(wire, auth, base),
            reference,
            options,
            sending: Semaphore::new(concurrency),
            fetching: Arc::new(Semaphore::new(concurrency)),
            known: Mutex::default(),
            statements: tokio::sync::Mutex::default(),
        })))
    }

    /// The repository's name.
    pub fn reference(&self) -> &Reference {
        &self.0.reference
    }

    /// Asks whether there is a registry that lets us in.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Refused`] if it does not, [`ErrorKind::Unavailable`] if nothing answers.
    pub async fn ping(&self) -> Result<()> {
        let call = Call::new(Method::GET, self.0.http.url("")?);
        let answer = self.0.http.send(&call, &Scopes::new()).await?;
        match answer.status {
            StatusCode::OK => Ok(()),
            _ => Err(self.0.http.failure(answer).await.error),
        }
    }

    /// Puts a blob here from another repository of the same registry, without sending it; whether
    /// the registry did so. Where it did not, the blob is to be sent.
    pub async fn mount(&self, digest: &Digest, from: &str) -> Result<bool> {
        if !is_repository(from) {
            return Err(Error::invalid(format!("repository `{}` to mount from", shown(from))));
        }
        self.0.mount(digest, from).await
    }

    /// Gives a stored manifest a tag, which it takes from what had it before.
    pub async fn put_tag(&self, tag: &str, manifest: &Digest) -> Result<()> {
        if !is_tag(tag) {
            return Err(Error::invalid(format!("tag `{}`", shown(tag))));
        }
        let (inner, tag, manifest) = (Arc::clone(&self.0), tag.to_owned(), *manifest);
        to_its_end(async move { inner.put_tag(&tag, &manifest).await }).await
    }

    /// The manifest that has this tag.
    pub async fn get_tag(&self, tag: &str) -> Result<Option<Digest>> {
        if !is_tag(tag) {
            return Err(Error::invalid(format!("tag `{}`", shown(tag))));
        }
        self.0.get_tag(tag).await
    }

    /// Every tag, in order. A repository that does not exist has none.
    pub async fn tags(&self) -> Result<Vec<String>> {
        self.0.tags().await
    }

    /// The manifest that a reference into this repository means: its digest if it has one, else
    /// that of its tag, else that of the tag `latest`.
    pub async fn resolve(&self, reference: &Reference) -> Result<Digest> {
        let own = &self.0.reference;
        if (reference.host(), reference.repository()) != (own.host(), own.repository()) {
            return Err(Error::invalid(format!("{reference}: not in {own}")));
        }
        match (reference.digest(), reference.tag().unwrap_or("latest")) {
            (Some(digest), _) => Ok(*digest),
            (None, tag) => {
                let found = self.get_tag(tag).await?;
                found.ok_or_else(|| Error::not_found(format!("{own}:{tag}: no such tag")))
            }
        }
    }
}

/// The address of the protocol at a registry.
fn base(reference: &Reference, transport: Transport) -> Result<Url> {
    let host = reference.api_host();
    let bad = |_| Error::invalid(format!("registry `{host}`"));
    let url = Url::parse(&format!("https://{host}/v2/")).map_err(bad)?;
    let plain = match transport {
        Transport::Automatic => is_loopback(&url),
        Transport::Https => false,
        Transport::Http => true,
    };
    if plain {
        return Url::parse(&format!("http://{host}/v2/")).map_err(bad);
    }
    if !cfg!(feature = "tls") {
        let text = format!("{host}: https needs the feature `tls` of kaizen-oci");
        return Err(Error::new(ErrorKind::Unsupported, text));
    }
    Ok(url)
}

/// Does what must not stop in the middle also when nobody waits for it any more.
pub(crate) async fn to_its_end<T: Send + 'static>(
    work: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    let done = tokio::spawn(work).await;
    done.map_err(|error| Error::internal("work for a registry was lost").with_source(error))?
}

impl Inner {
    /// The address of something in this repository.
    pub(crate) fn url(&self, path: &str) -> Result<Url> {
        self.http.url(&format!("{}/{path}", self.reference.repository()))
    }

    pub(crate) fn pull_scopes(&self) -> Scopes {
        vec![format!("repository:{}:pull", self.reference.repository())]
    }

    pub(crate) fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn check_size(&self, digest: &Digest, size: u64) -> Result<()> {
        let most = self.options.max_blob_bytes;
        if size > most {
            let text = format!("blob {digest}: more than {most} bytes");
            return Err(Error::new(ErrorKind::Limit, text));
        }
        Ok(())
    }

    /// Where to look for a digest, the likelier place first.
    fn places(&self, digest: &Digest) -> [Place; 2] {
        match self.known().manifests.contains(digest) {
            true => [Place::Manifests, Place::Blobs],
            false => [Place::Blobs, Place::Manifests],
        }
    }

    pub(crate) async fn size_of(&self, digest: &Digest) -> Result<Option<u64>> {
        for place in self.places(digest) {
            if let Some(size) = self.size_in(place, digest).await? {
                return Ok(Some(size));
            }
        }
        Ok(None)
    }

    async fn size_in(&self, place: Place, digest: &Digest) -> Result<Option<u64>> {
        let call = match place {
            Place::Blobs => Call::new(Method::HEAD, self.url(&format!("blobs/{digest}"))?),
            Place::Manifests => Call::new(Method::HEAD, self.url(&format!("manifests/{digest}"))?)
                .header(hyper::header::ACCEPT, ACCEPTED)?,
        };
        let answer = self.http.send(&call, &self.pull_scopes()).await?;
        match answer.status {
            StatusCode::NOT_FOUND => return Ok(None),
            StatusCode::OK => {}
            _ => return Err(self.http.failure(answer).await.error),
        }
        check_digest(&answer.headers, digest, &answer.name)?;
        let Some(size) = answer.length()? else {
            let text = format!("{}: the registry does not say how large it is", answer.name);
            return Err(Error::new(ErrorKind::Unsupported, text));
        };
        self.check_size(digest, size)?;
        match place {
            Place::Blobs => self.known().blob(*digest),
            Place::Manifests => self.known().manifest(*digest),
        }
        Ok(Some(size))
    }

    async fn get_stream(self: &Arc<Self>, digest: &Digest) -> Result<ByteStream> {
        for place in self.places(digest) {
            let found = match place {
                Place::Blobs => download::open(self, digest).await?,
                Place::Manifests => self.get_manifest(digest).await?.map(stream::once),
            };
            if let Some(bytes) = found {
                return Ok(bytes);
            }
        }
        Err(Error::not_found(format!("blob {digest}: not in {}", self.reference)))
    }

    fn unlisted<T>(&self) -> Result<T> {
        let text = format!("{}: a registry lists its tags only", self.reference);
        Err(Error::new(ErrorKind::Unsupported, text))
    }
}

#[async_trait]
impl ArtifactStore for RemoteRegistry {
    async fn put_stream(&self, bytes: ByteStream, expected: Option<&Digest>) -> Result<Digest> {
        self.0.put_stream(bytes, expected).await
    }

    async fn get_stream(&self, digest: &Digest) -> Result<ByteStream> {
        self.0.get_stream(digest).await
    }

    async fn size_of(&self, digest: &Digest) -> Result<Option<u64>> {
        self.0.size_of(digest).await
    }

    /// Whoever goes away before it returns stops nothing: else a statement could be there that
    /// nobody finds.
    async fn put_manifest(&self, manifest: Bytes) -> Result<Digest> {
        let inner = Arc::clone(&self.0);
        to_its_end(async move { inner.put_manifest(manifest).await }).await
    }

    async fn referrers(&self, subject: &Digest) -> Result<Vec<Digest>> {
        self.0.referrers(subject).await
    }

    async fn manifests(&self) -> Result<Vec<Digest>> {
        self.0.unlisted()
    }

    async fn blobs(&self) -> Result<Vec<(Digest, u64)>> {
        self.0.unlisted()
    }
}
