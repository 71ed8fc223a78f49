//! Tunnels through a proxy.

use std::error::Error as StdError;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Poll};

use hyper::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::proxy::matcher::Matcher;
use hyper_util::rt::TokioIo;
use kaizen_core::{Error, Result};
use tokio::net::TcpStream;
use tower_service::Service;
use url::Url;

/// A proxy through which encrypted connections go, by the method CONNECT: it sees to which host they
/// go, and nothing of what travels. Connections by plain HTTP never go through it. `Debug` shows no
/// password.
#[derive(Clone)]
pub struct Proxy(Arc<Matcher>);

impl Proxy {
    /// What the variables `HTTPS_PROXY` and `ALL_PROXY` say, and `NO_PROXY` of hosts that are reached
    /// without it; also in lower case, as `curl` reads them.
    pub fn from_env() -> Self {
        Self(Arc::new(Matcher::from_env()))
    }

    /// The proxy at an address such as `http://ann:secret@proxy.example.com:3128`, but not for the
    /// hosts that `without` names: domains, addresses and networks, with commas between.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`](kaizen_core::ErrorKind::Invalid) if it is no address that begins with
    /// `http://`. The error does not show it.
    pub fn new(address: &str, without: &str) -> Result<Self> {
        let fits = address.parse().is_ok_and(|url: Url| url.scheme() == "http" && url.has_host());
        if !fits {
            return Err(Error::invalid("proxy: its address is none that begins with `http://`"));
        }
        Ok(Self(Arc::new(Matcher::builder().https(address).no(without).build())))
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Proxy(…)")
    }
}

type Failure = Box<dyn StdError + Send + Sync>;

/// Connects to servers, where there is a proxy through it.
#[derive(Clone, Debug)]
pub(crate) struct Way {
    pub(crate) direct: HttpConnector,
    pub(crate) proxy: Option<Proxy>,
}

impl Service<Uri> for Way {
    type Response = TokioIo<TcpStream>;
    type Error = Failure;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Failure>> + Send>>;

    fn poll_ready(&mut self, context: &mut task::Context<'_>) -> Poll<Result<(), Failure>> {
        self.direct.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let proxy = self.proxy.as_ref().filter(|_| to.scheme_str() == Some("https"));
        let through = proxy.and_then(|proxy| proxy.0.intercept(&to));
        let Some(through) = through else {
            let connecting = self.direct.call(to);
            return Box::pin(async move { connecting.await.map_err(Into::into) });
        };
        // Of a proxy that is spoken to otherwise, no byte is to be taken for something else.
        if through.uri().scheme_str() != Some("http") {
            let text = "proxy: only one whose address begins with `http://` is spoken to";
            return Box::pin(async move { Err(text.into()) });
        }
        let mut tunnel = Tunnel::new(through.uri().clone(), self.direct.clone());
        if let Some(proof) = through.basic_auth() {
            tunnel = tunnel.with_auth(proof.clone());
        }
        let connecting = tunnel.call(to);
        Box::pin(async move { connecting.await.map_err(Into::into) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_a_proxy_is_checked_and_its_password_shown_to_nobody() {
        for bad in ["", "proxy.example:3128", "https://ann:secret@p", "socks5://p", "http://"] {
            let error = Proxy::new(bad, "").unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
        let proxy = Proxy::new("http://ann:secret@p.example:3128", "r.example,10.0.0.0/8").unwrap();
        assert!(!format!("{proxy:?}").contains("secret"));
        let through = |to: &str| proxy.0.intercept(&to.parse().unwrap()).is_some();
        assert!(through("https://other.example/") && through("https://11.0.0.1/"));
        assert!(!through("https://r.example/") && !through("https://10.1.2.3/"));
    }
}
