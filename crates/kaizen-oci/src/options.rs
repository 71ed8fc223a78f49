//! How a registry is reached.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use kaizen_core::{Clock, SystemClock};

use crate::credentials::{CredentialSource, Credentials};
use crate::pace::{Pace, Retry, SystemPace};
use crate::proxy::Proxy;

/// Whether the way to a registry is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Transport {
    /// https, but http to this machine (a loopback address, `localhost`).
    #[default]
    Automatic,
    /// https, to this machine too.
    Https,
    /// http, to any machine: whoever is on the way reads and changes what travels. Digests find
    /// changes of content; passwords are there to be read.
    Http,
}

/// How a registry is reached. Change what you need:
///
/// ```
/// use std::sync::Arc;
/// use kaizen_oci::{Credentials, Options};
///
/// let mut options = Options::default();
/// options.credentials = Arc::new(Credentials::password("ann", "secret"));
/// options.concurrency = 2;
/// ```
#[non_exhaustive]
#[derive(Clone)]
pub struct Options {
    /// Who calls; nobody, if this is not set.
    pub credentials: Arc<dyn CredentialSource>,
    /// Whether the way is encrypted.
    pub transport: Transport,
    /// Through which proxy encrypted connections go; through none, if this is not set.
    pub proxy: Option<Proxy>,
    /// Certificates, in PEM, that are trusted besides the machine's own.
    pub trusted_certificates: Vec<Vec<u8>>,
    /// Repositories of the same registry that may have a blob already: it is mounted from there, if
    /// the registry agrees, and not sent.
    pub mount_from: Vec<String>,
    /// How many bytes of a blob travel in one request and are held in memory; a smaller blob
    /// travels whole. At least 64 KiB; 8 MiB if this is not set.
    pub chunk_bytes: usize,
    /// How many blobs are sent, and how many are fetched, at the same time; 4 if this is not set.
    pub concurrency: usize,
    /// A blob that is larger is not fetched; 1 TiB if this is not set.
    pub max_blob_bytes: u64,
    /// How often a request is tried.
    pub retry: Retry,
    /// How long a server may say nothing; a minute if this is not set.
    pub stall: Duration,
    /// How the client waits and draws.
    pub pace: Arc<dyn Pace>,
    /// The present instant, by which tokens age.
    pub clock: Arc<dyn Clock>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            credentials: Arc::new(Credentials::Anonymous),
            transport: Transport::Automatic,
            proxy: None,
            trusted_certificates: Vec::new(),
            mount_from: Vec::new(),
            chunk_bytes: 8 << 20,
            concurrency: 4,
            max_blob_bytes: 1 << 40,
            retry: Retry::default(),
            stall: Duration::from_secs(60),
            pace: Arc::new(SystemPace),
            clock: Arc::new(SystemClock),
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("credentials", &self.credentials)
            .field("transport", &self.transport)
            .field("proxy", &self.proxy)
            .field("mount_from", &self.mount_from)
            .field("chunk_bytes", &self.chunk_bytes)
            .field("concurrency", &self.concurrency)
            .field("max_blob_bytes", &self.max_blob_bytes)
            .field("retry", &self.retry)
            .field("stall", &self.stall)
            .finish_non_exhaustive()
    }
}
