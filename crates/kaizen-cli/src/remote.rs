//! `kaizen push` and `kaizen pull`.

use std::io::{IsTerminal as _, Write as _};
use std::sync::Arc;

use kaizen_core::{ArtifactStore, Context, Digest, Error, ErrorKind, Progress, Result};
use kaizen_oci::{DockerConfig, Options, Proxy, Reference, RemoteRegistry, Transport};
use kaizen_store::{Copied, CopyOptions, LocalStore};
use serde_json::json;

use crate::arguments::{Place, Pull, Push, Way, digits};
use crate::failed::{Blame as _, Failed, asked};
use crate::open::version_of;
use crate::print::{Printer, Style, bytes, cell};

/// Says on the terminal, if there is one, how far a copy is. Not on the output: that is for what
/// comes of it.
#[derive(Debug)]
struct OnTerminal;

impl Progress for OnTerminal {
    fn report(&self, task: &str, done: u64, total: Option<u64>) {
        let mut terminal = std::io::stderr();
        if terminal.is_terminal() {
            let of = total.map_or_else(String::new, |total| format!(" of {}", bytes(total)));
            // There is nobody to tell if this fails.
            let _ = write!(terminal, "\r{task}: {}{of}\u{1b}[K", bytes(done));
            if total == Some(done) {
                let _ = writeln!(terminal);
            }
        }
    }
}

/// Copies a record with its payloads to a repository, and gives it a tag there.
pub(crate) async fn push(
    place: &Place,
    wanted: &Push,
    out: &mut Printer<'_>,
) -> Result<(), Failed> {
    let reference: Reference = wanted.repository.parse().asked()?;
    if reference.digest().is_some() {
        let name = &wanted.repository;
        let message = format!("repository `{name}`: a digest is not chosen by a push");
        return Err(Failed::Asked(Error::invalid(message)));
    }
    let store = place.store().await?;
    let id = record(place, store.as_ref(), &wanted.what).await?;
    let remote = open(&reference, wanted.way.plain_http).await?;
    // Not a bare copy: this one goes on when the connection is lost.
    let copied = remote.push(store.as_ref(), &id, &wanted.way.options(), &OnTerminal).await?;
    if let Some(tag) = reference.tag() {
        remote.put_tag(tag, &id).await?;
    }
    print(&id, &wanted.repository, &copied, out)
}

/// Copies a record with its payloads from a repository.
pub(crate) async fn pull(
    place: &Place,
    wanted: &Pull,
    out: &mut Printer<'_>,
) -> Result<(), Failed> {
    let reference: Reference = wanted.repository.parse().asked()?;
    let remote = open(&reference, wanted.way.plain_http).await?;
    let id = remote.resolve(&reference).await?;
    // A pull may be the first thing that a store sees.
    let store = LocalStore::open(place.store.clone()).await?;
    let copied = remote.pull(&store, &id, &wanted.way.options(), &OnTerminal).await?;
    print(&id, &wanted.repository, &copied, out)
}

impl Way {
    fn options(&self) -> CopyOptions {
        CopyOptions::new().referrers(self.referrers).parents(self.parents)
    }
}

async fn open(reference: &Reference, plain_http: bool) -> Result<RemoteRegistry> {
    let mut options = Options::default();
    options.credentials = Arc::new(DockerConfig::from_env().await?);
    options.proxy = Some(Proxy::from_env());
    if plain_http {
        options.transport = Transport::Http;
    }
    RemoteRegistry::open(&format!("{}/{}", reference.host(), reference.repository()), options)
}

/// The record that a digest, its first digits, `NAME@ALIAS` or `NAME:NUMBER` says. Only a name needs
/// the log.
async fn record(place: &Place, store: &dyn ArtifactStore, what: &str) -> Result<Digest, Failed> {
    if let Ok(id) = what.parse() {
        return Ok(id);
    }
    if let Some(digits) = digits(what) {
        let mut found = store.manifests().await?;
        found.retain(|id| id.hex().starts_with(&digits));
        return match found[..] {
            [id] => Ok(id),
            [] => Err(Error::not_found(format!("`{what}`: no record begins so")).into()),
            _ => Err(asked(format!("`{what}`: {} records begin so", found.len()))),
        };
    }
    let registry = place.registry().await?;
    let version = version_of(&registry, what).await?;
    Ok(version.context(ErrorKind::NotFound, format!("`{what}`: nothing has this name"))?.1.model)
}

fn print(
    id: &Digest,
    repository: &str,
    copied: &Copied,
    out: &mut Printer<'_>,
) -> Result<(), Failed> {
    if out.is_json() {
        return Ok(out.json(&json!({
            "id": id,
            "repository": repository,
            "manifests": copied.manifests,
            "blobs": copied.blobs.to_string(),
            "bytes": copied.bytes.to_string(),
            "present": copied.present.to_string(),
        }))?);
    }
    let (size, present) = (bytes(copied.bytes), copied.present);
    let blobs = copied.blobs;
    Ok(out.table(&[
        vec![cell("record", Style::Quiet), cell(id, Style::Strong)],
        vec![cell("repository", Style::Quiet), cell(repository, Style::Plain)],
        vec![cell("travelled", Style::Quiet), cell(format!("{blobs} blobs, {size}"), Style::Plain)],
        vec![cell("was there", Style::Quiet), cell(format!("{present} blobs"), Style::Plain)],
    ])?)
}
