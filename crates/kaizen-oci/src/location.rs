//! Where a registry sends the client on: redirects, upload sessions, next pages.

use kaizen_core::{Error, Result};
use url::{Host, Url};

use crate::reference::shown;

/// At most this many bytes in an address: signed ones are long.
const MAX_BYTES: usize = 8 << 10;

/// The address that `raw` means when `from` said so, if the client may go there.
///
/// It may go to the same place, or by https to any other; by http only where the first step was by
/// http, and then only to the same host or within this machine. So no stranger turns the client
/// towards a service inside that speaks http; to one that speaks https it sends a request without
/// credentials, as any page can.
///
/// # Errors
///
/// [`ErrorKind::Refused`](kaizen_core::ErrorKind::Refused), also for a path with `..` in it, in any
/// spelling, and for an address with a user's name.
pub(crate) fn resolve(from: &Url, raw: &str) -> Result<Url> {
    let refused = |why: &str| {
        let host = from.host_str().unwrap_or_default();
        Error::refused(format!("{host} sends to `{}`: {why}", without_secrets(raw)))
    };
    if raw.len() > MAX_BYTES {
        return Err(refused("too long"));
    }
    if raw.is_empty() || raw.bytes().any(|b| b <= b' ' || b == 0x7f) {
        return Err(refused("no address"));
    }
    if has_dots(raw) {
        return Err(refused("a path that climbs"));
    }
    let url = from.join(raw).map_err(|_| refused("no address"))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(refused("it names a user"));
    }
    match url.scheme() {
        "https" => Ok(url),
        "http" if from.scheme() != "http" => Err(refused("from https to http")),
        "http" if url.host() == from.host() || (is_loopback(&url) && is_loopback(from)) => Ok(url),
        "http" => Err(refused("another host by http")),
        _ => Err(refused("neither http nor https")),
    }
}

/// Whether a path in this address has a part `.` or `..`, also if its characters are escaped.
fn has_dots(raw: &str) -> bool {
    let path = raw.split(['?', '#']).next().unwrap_or(raw).to_ascii_lowercase();
    let plain = path.replace("%2e", ".").replace("%2f", "/").replace("%5c", "/").replace('\\', "/");
    plain.split('/').any(|part| part == "." || part == "..")
}

/// Whether two addresses are answered by the same server, so that what proves us to one may be
/// shown to the other.
pub(crate) fn same_server(one: &Url, other: &Url) -> bool {
    one.scheme() == other.scheme()
        && one.host() == other.host()
        && one.port_or_known_default() == other.port_or_known_default()
}

/// Whether the address is within this machine.
pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        // A name below it may be asked of a name server, and lead anywhere.
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// What a stranger gave as an address, without what may be secret in it: a user with a password,
/// and the query, in which signed addresses hold what opens them.
fn without_secrets(raw: &str) -> String {
    let address = raw.split(['?', '#']).next().unwrap_or_default();
    match address.rfind('@') {
        Some(at) => shown(&format!("…{}", &address[at..])),
        None => shown(address),
    }
}

/// The address without what may be secret in it: the query.
pub(crate) fn plain(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    shown(url.as_str())
}

#[cfg(test)]
mod tests {
    use kaizen_core::ErrorKind;

    use super::*;

    fn go(from: &str, raw: &str) -> Result<String> {
        resolve(&Url::parse(from).unwrap(), raw).map(String::from)
    }

    #[test]
    fn a_client_goes_on_where_it_may() {
        let registry = "https://r.example/v2/a/blobs/uploads/";
        assert_eq!(go(registry, "/v2/a/x?y=..").unwrap(), "https://r.example/v2/a/x?y=..");
        assert_eq!(go(registry, "x").unwrap(), "https://r.example/v2/a/blobs/uploads/x");
        assert_eq!(go(registry, "https://cdn.example/x").unwrap(), "https://cdn.example/x");
        assert_eq!(
            go("http://localhost:5000/v2/", "http://127.0.0.1:1/x").unwrap(),
            "http://127.0.0.1:1/x"
        );
        assert_eq!(
            go("http://r.example/", "http://r.example:81/x").unwrap(),
            "http://r.example:81/x"
        );
    }

    #[test]
    fn a_client_does_not_go_where_it_may_not() {
        let registry = "https://r.example/v2/a/";
        let bad = [
            "",
            "../x",
            "/v2/../../x",
            "/v2/%2e%2E/x",
            "/v2/..%2fx",
            "/v2/.%2e\\x",
            "x/..",
            "/./x",
            "a b",
            "a\nb",
            "http://r.example/x",
            "http://127.0.0.1/x",
            "file:///x",
            "https://u@cdn.example/x",
            "https://:p@cdn.example/x",
            "ftp://r.example/x",
            "https://",
        ];
        for raw in bad {
            let error = go(registry, raw).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Refused, "{raw}");
        }
        assert!(go(registry, &format!("/{}", "x".repeat(MAX_BYTES))).is_err());
        assert!(go("http://r.example/", "http://127.0.0.1/x").is_err());
        assert!(go("http://127.0.0.1/", "http://r.example/x").is_err());
    }

    #[test]
    fn what_is_refused_is_shown_without_what_may_be_secret_in_it() {
        let cases = [
            ("http://store.example/x?X-Amz-Signature=secret", "http://store.example/x"),
            ("https://ann:secret@host/x", "@host/x"),
            ("https://ann:secret@host/a@b", "@b"),
            ("ftp://secret@host?secret#secret", "@host"),
            ("/../x#secret", "/../x"),
            ("?a b=secret", "``"),
        ];
        for (raw, shown) in cases {
            let error = go("https://r.example/", raw).unwrap_err().to_string();
            assert!(error.contains(shown) && !error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn only_this_machine_is_this_machine() {
        let own = |text: &str| is_loopback(&Url::parse(text).unwrap());
        for text in ["http://localhost:1/", "http://127.8.9.1/", "http://[::1]/"] {
            assert!(own(text), "{text}");
        }
        for text in ["http://x.localhost/", "http://localhost.example/", "http://10.0.0.1/"] {
            assert!(!own(text), "{text}");
        }
    }

    #[test]
    fn a_server_is_its_scheme_host_and_port() {
        let same = |a: &str, b: &str| same_server(&Url::parse(a).unwrap(), &Url::parse(b).unwrap());
        assert!(same("https://r.example/a", "https://r.example:443/b"));
        assert!(!same("https://r.example/a", "https://r.example:444/a"));
        assert!(!same("https://r.example/a", "http://r.example/a"));
        assert!(!same("https://r.example/a", "https://s.r.example/a"));
    }
}
