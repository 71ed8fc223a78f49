//! Connections: plain ones, and those by TLS where the feature `tls` is on.

use std::error::Error as StdError;
use std::time::Duration;

use hyper_util::client::legacy::connect::HttpConnector;
use kaizen_core::Result;

use crate::proxy::{Proxy, Way};

/// How long it may take to reach a server.
const CONNECT: Duration = Duration::from_secs(20);

fn plain(proxy: Option<Proxy>) -> Way {
    let mut direct = HttpConnector::new();
    direct.set_connect_timeout(Some(CONNECT));
    direct.set_nodelay(true);
    direct.enforce_http(false);
    Way { direct, proxy }
}

#[cfg(feature = "tls")]
pub(crate) use encrypted::{Connector, connector, is_distrust};

#[cfg(feature = "tls")]
mod encrypted {
    use std::io;
    use std::sync::{Arc, OnceLock};

    use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
    use kaizen_core::{Context, ErrorKind};
    use rustls::crypto::ring;
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;
    use rustls::{ClientConfig, RootCertStore};

    use super::{Proxy, Result, StdError, Way, plain};

    pub(crate) type Connector = HttpsConnector<Way>;

    /// Trusts what the machine trusts, and these certificates too. The provider of cryptography is
    /// named here: a library changes nothing for the whole process.
    pub(crate) fn connector(trusted: &[Vec<u8>], proxy: Option<Proxy>) -> Result<Connector> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(of_this_machine().iter().cloned());
        for pem in trusted {
            for certificate in CertificateDer::pem_slice_iter(pem) {
                let read = certificate.context(ErrorKind::Invalid, "trusted certificate")?;
                roots.add(read).context(ErrorKind::Invalid, "trusted certificate")?;
            }
        }
        let provider = Arc::new(ring::default_provider());
        let versions =
            ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = versions
            .context(ErrorKind::Internal, "versions of TLS")?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let builder = HttpsConnectorBuilder::new().with_tls_config(config);
        Ok(builder.https_or_http().enable_http1().wrap_connector(plain(proxy)))
    }

    /// The certificates that this machine trusts: some hundred files, so they are read once.
    fn of_this_machine() -> &'static [CertificateDer<'static>] {
        static READ: OnceLock<Vec<CertificateDer<'static>>> = OnceLock::new();
        READ.get_or_init(|| {
            let native = rustls_native_certs::load_native_certs();
            for error in &native.errors {
                tracing::debug!(%error, "some certificates of this machine are not read");
            }
            native.certs
        })
    }

    /// Whether TLS itself says no: trying again is of no use.
    pub(crate) fn is_distrust(error: &(dyn StdError + 'static)) -> bool {
        let mut error = error;
        // Each layer on the way wraps it once more.
        while let Some(inner) = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            error = inner;
        }
        error.is::<rustls::Error>()
    }
}

#[cfg(not(feature = "tls"))]
pub(crate) use unencrypted::{Connector, connector, is_distrust};

#[cfg(not(feature = "tls"))]
mod unencrypted {
    use super::{Proxy, Result, StdError, Way, plain};

    pub(crate) type Connector = Way;

    pub(crate) fn connector(_trusted: &[Vec<u8>], proxy: Option<Proxy>) -> Result<Connector> {
        Ok(plain(proxy))
    }

    pub(crate) fn is_distrust(_error: &(dyn StdError + 'static)) -> bool {
        false
    }
}
