//! Remote container registries as artefact stores: push and pull of records by the OCI distribution
//! protocol.
//!
//! *You are here:* data → train → eval → **store** → package → deploy → serve → drift.\
//! *Takes:* records with their payloads and referrers from any artefact store.\
//! *Gives:* [`RemoteRegistry`], an artefact store in a repository of a registry; [`Reference`], the
//! name of something there; [`DockerConfig`], the credentials that people have already.\
//! *Touches the world through:* HTTP to one registry and where it sends the client on; the programs
//! that Docker's configuration names; [`Pace`] (waiting and drawing) and
//! [`Clock`](kaizen_core::Clock).
//!
//! A reference names a thing in a registry; a registry is opened without a word to it:
//!
//! ```
//! use kaizen_oci::{Options, Reference, RemoteRegistry};
//!
//! let reference: Reference = "registry.example.com/team/late:v3".parse()?;
//! assert_eq!(reference.repository(), "team/late");
//!
//! let registry = RemoteRegistry::open("registry.example.com/team/late", Options::default())?;
//! assert_eq!(registry.reference().host(), "registry.example.com");
//! # Ok::<(), kaizen_core::Error>(())
//! ```
//!
//! # What a registry is believed
//!
//! Nothing. Content is checked against its digest; every answer, list, header, redirect and
//! challenge is bounded; addresses that climb, lead from https to http, or to another host by http
//! are refused; what proves us is shown to the registry and to the token server that it names over
//! the same kind of connection, and to no other host. For a token is asked only the right that the
//! request needs, whatever the registry says.
//!
//! # Why a client of our own
//!
//! The library `oci-client` 0.18 does the plain ways well. It reads answers whole without a bound,
//! asks for tokens by GET alone, knows no configuration or helper of Docker's, resumes and repeats
//! nothing, follows redirects as its HTTP library does, and takes neither a clock nor randomness as
//! arguments. What would be left of it is less than what would be around it. So this is a thin
//! client over `hyper`: not over `reqwest`, since its feature for rustls without a provider makes
//! every plain `reqwest::Client::new()` elsewhere in the same program panic, and its other one
//! brings a second library of cryptography. TLS is rustls with ring, which needs a C compiler and
//! nothing else; the feature `tls` (on) switches it.

mod auth;
mod connect;
mod credentials;
mod docker_config;
mod download;
mod header;
mod http;
mod location;
mod manifests;
mod options;
mod pace;
mod proxy;
mod reference;
mod referrers;
mod registry;
mod transfer;
mod upload;
mod wire;

#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;

pub use credentials::{CredentialSource, Credentials};
pub use docker_config::DockerConfig;
pub use options::{Options, Transport};
pub use pace::{Pace, Retry, SystemPace};
pub use proxy::Proxy;
pub use reference::Reference;
pub use registry::RemoteRegistry;
