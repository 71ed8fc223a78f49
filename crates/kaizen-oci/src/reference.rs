//! The names of things in registries: `host/repository:tag@sha256:…`.

use std::fmt;
use std::str::FromStr;

use kaizen_core::{Digest, Error, Result, one_line};

/// At most this many bytes in a reference.
const MAX_BYTES: usize = 1024;
/// At most this many bytes in a repository's name, host included, as registries agree.
const MAX_NAME: usize = 255;

/// A repository in a registry, and, where they are given, a tag and a digest in it.
///
/// The host is always written out; nothing stands for it by default. It has a dot or a port in it,
/// or is `localhost`. `docker.io` is reached at the address that it has in truth.
///
/// ```
/// use kaizen_oci::Reference;
///
/// let reference: Reference = "registry.example.com:5000/team/late:v3".parse()?;
/// assert_eq!(reference.host(), "registry.example.com:5000");
/// assert_eq!(reference.repository(), "team/late");
/// assert_eq!(reference.tag(), Some("v3"));
/// assert!("registry.example.com/../late".parse::<Reference>().is_err());
/// # Ok::<(), kaizen_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    host: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Reference {
    /// The registry: a host name or an address, with its port if one is given.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The repository's path within the registry.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest. It wins over the tag.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// The host that answers: other than the name for Docker's own registry.
    pub(crate) fn api_host(&self) -> &str {
        match self.host.as_str() {
            "docker.io" | "index.docker.io" => "registry-1.docker.io",
            host => host,
        }
    }
}

impl FromStr for Reference {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad = |why: &str| Error::invalid(format!("reference `{}`: {why}", shown(text)));
        if text.len() > MAX_BYTES {
            return Err(bad(&format!("more than {MAX_BYTES} bytes")));
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => {
                let digest = digest.parse().map_err(|_| bad("no SHA-256 digest after `@`"))?;
                (rest, Some(digest))
            }
            None => (text, None),
        };
        let (host, path) = rest.split_once('/').ok_or_else(|| bad("not `host/repository`"))?;
        if !is_host(host) {
            return Err(bad("no host before the first `/`"));
        }
        // Nothing stands for the host here, as Docker's own registry does in other tools. One that
        // is a single word would be asked for in vain.
        if !host.contains(['.', ':']) && host != "localhost" {
            let why = format!("`{host}` is no host; did you mean `docker.io/{rest}`?");
            return Err(bad(&why));
        }
        let (repository, tag) = match path.split_once(':') {
            Some((repository, tag)) if is_tag(tag) => (repository, Some(tag.to_owned())),
            Some(_) => return Err(bad("no tag after `:`")),
            None => (path, None),
        };
        if !is_repository(repository) || host.len() + 1 + repository.len() > MAX_NAME {
            return Err(bad("no repository after the host"));
        }
        Ok(Self { host: host.to_owned(), repository: repository.to_owned(), tag, digest })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        match &self.digest {
            Some(digest) => write!(f, "@{digest}"),
            None => Ok(()),
        }
    }
}

/// The start of a text that somebody else wrote, for one line of a message.
pub(crate) fn shown(text: &str) -> String {
    let mut characters = text.chars();
    let start: String = characters.by_ref().take(200).collect();
    let mut start = one_line(&start);
    if characters.next().is_some() {
        start.push('…');
    }
    start
}

/// Whether this is a tag: a letter, a digit or `_`, then up to 127 of those, `.` and `-`.
pub(crate) fn is_tag(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    (1..=128).contains(&text.len())
        && text.bytes().next().is_some_and(word)
        && text.bytes().all(|b| word(b) || b == b'.' || b == b'-')
}

/// Whether this is the path of a repository: parts of lower-case letters and digits, which `.`,
/// `_`, `__` or hyphens join.
pub(crate) fn is_repository(text: &str) -> bool {
    text.len() <= MAX_NAME && text.split('/').all(is_part)
}

fn is_part(part: &str) -> bool {
    let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let ends = part.bytes().next().is_some_and(word) && part.bytes().next_back().is_some_and(word);
    let joint = |joint: &str| match joint {
        "" | "." | "_" | "__" => true,
        _ => joint.bytes().all(|b| b == b'-'),
    };
    ends && part.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit()).all(joint)
}

/// Whether this is a host with or without a port: a name, an IPv4 address, or an IPv6 address in
/// brackets.
pub(crate) fn is_host(text: &str) -> bool {
    let (name, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let Some((address, after)) = rest.split_once(']') else { return false };
            if address.parse::<std::net::Ipv6Addr>().is_err() {
                return false;
            }
            match after.strip_prefix(':') {
                Some(port) => ("v6", Some(port)),
                None if after.is_empty() => ("v6", None),
                None => return false,
            }
        }
        None => match text.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (text, None),
        },
    };
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    let port_fits = |port: &str| {
        port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|p| p > 0)
    };
    name.len() <= 253 && name.split('.').all(label) && port.is_none_or(port_fits)
}
