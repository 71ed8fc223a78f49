//! Tunnels through a proxy.

use std::error::Error as StdError;
use std::ffi::OsString;
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

/// A proxy through which encrypted connections go, by the method CONNECT: it sees to which host
/// they go, and nothing of what travels. Connections by plain HTTP never go through it. `Debug`
/// shows no password.
#[derive(Clone)]
pub struct Proxy(Arc<Matcher>);

impl Proxy {
    /// What the variables `HTTPS_PROXY` and `ALL_PROXY` say, and `NO_PROXY` of hosts that are
    /// reached without it; also in lower case, as `curl` reads them. Where they say nothing, or
    /// only an empty text, there is no proxy.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`](kaizen_core::ErrorKind::Invalid) if what a variable says is no
    /// address of a proxy: it is never passed over, for then all would go past the proxy. The error
    /// names the variable, and does not show what it says.
    pub fn from_env() -> Result<Self> {
        Self::from_variables(|name| std::env::var_os(name))
    }

    fn from_variables(variable: impl Fn(&str) -> Option<OsString>) -> Result<Self> {
        let said = |names: [&str; 2]| -> Result<Option<(String, String)>> {
            let set = names.iter().find_map(|name| Some((*name, variable(name)?)));
            let set = set.filter(|(_, text)| !text.is_empty()).map(|(name, text)| {
                let text = text.into_string().map_err(|_| no_address(name))?;
                Ok((name.to_owned(), text))
            });
            set.transpose()
        };
        let address = match said(["HTTPS_PROXY", "https_proxy"])? {
            Some(address) => Some(address),
            None => said(["ALL_PROXY", "all_proxy"])?,
        };
        let (_, without) = said(["NO_PROXY", "no_proxy"])?.unwrap_or_default();
        match address {
            Some((name, address)) => Self::checked(&address, &without, &name),
            None => Ok(Self(Arc::new(Matcher::builder().build()))),
        }
    }

    /// The proxy at an address such as `http://ann:secret@proxy.example.com:3128`, but not for the
    /// hosts that `without` names: domains, addresses and networks, with commas between.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`](kaizen_core::ErrorKind::Invalid) if it is no address that begins with
    /// `http://`; in a name and a password, what is no letter nor digit may have to be written as
    /// `%` and two digits. The error does not show it.
    pub fn new(address: &str, without: &str) -> Result<Self> {
        let fits = address.parse().is_ok_and(|url: Url| url.scheme() == "http" && url.has_host());
        if !fits {
            return Err(Error::invalid("proxy: its address is none that begins with `http://`"));
        }
        Self::checked(address, without, "its address")
    }

    /// What the matcher cannot read it takes for no proxy at all, so it is asked for one before it
    /// is told which hosts are reached without it.
    fn checked(address: &str, without: &str, what: &str) -> Result<Self> {
        let matcher = || Matcher::builder().https(address);
        let host = Uri::from_static("https://probe.invalid/");
        match matcher().build().intercept(&host) {
            Some(_) => Ok(Self(Arc::new(matcher().no(without).build()))),
            None => Err(no_address(what)),
        }
    }
}

fn no_address(what: &str) -> Error {
    Error::invalid(format!("proxy: {what} cannot be read"))
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

    #[test]
    fn an_address_of_a_proxy_that_cannot_be_read_is_not_taken_for_no_proxy() {
        // A URL to some, and nothing to those who connect.
        let unread =
            ["http://ann:se{cret}@p:3128", "http://ann:secret^@p", "http://ann:secret é@p"];
        for bad in unread {
            let error = Proxy::new(bad, "").unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
        assert!(Proxy::new("http://ann:se%7Bcret%7D@p:3128", "*").is_ok());

        let read = |said: &[(&str, &str)]| {
            Proxy::from_variables(|name| {
                let found = said.iter().find(|(known, _)| *known == name);
                found.map(|(_, text)| OsString::from(text))
            })
        };
        let through = |proxy: &Proxy, to: &str| {
            let found = proxy.0.intercept(&to.parse().unwrap());
            found.map(|found| found.uri().to_string())
        };
        for bad in unread.iter().chain(&["htp://ann:secret@p:3128", "secret p"]) {
            for name in ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
                let error = read(&[(name, bad), ("NO_PROXY", "*")]).unwrap_err().to_string();
                assert!(error.contains(name) && !error.contains("secret"), "{error}");
            }
        }
        let both =
            [("ALL_PROXY", "http://all:1"), ("https_proxy", "p:2"), ("no_proxy", "r.example")];
        let proxy = read(&both).unwrap();
        assert_eq!(through(&proxy, "https://x.example/").as_deref(), Some("http://p:2/"));
        assert_eq!(through(&proxy, "https://r.example/"), None);
        let all = read(&[("HTTPS_PROXY", ""), both[0]]).unwrap();
        assert_eq!(through(&all, "https://r.example/").as_deref(), Some("http://all:1/"));
        let none = read(&[("HTTP_PROXY", "http://p:2"), ("NO_PROXY", "x")]).unwrap();
        assert_eq!(through(&none, "https://r.example/"), None);
    }
}
