//! `kaizen push` and `kaizen pull`.

use std::io::{IsTerminal as _, Write as _};
use std::sync::Arc;

use kaizen_core::{ArtifactStore, Context, Digest, Error, ErrorKind, Progress, Result};
use kaizen_oci::{DockerConfig, Options, Proxy, Reference, RemoteRegistry, Transport};
use kaizen_store::{Copied, CopyOptions, Link, LocalStore, SkipReason, Skipped};
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
    options.proxy = Some(Proxy::from_env()?);
    if plain_http {
        options.transport = Transport::Http;
    }
    RemoteRegistry::open(&format!("{}/{}", reference.host(), reference.repository()), options)
}

/// The record that a digest, its first digits, `NAME@ALIAS` or `NAME:NUMBER` says. Only a name
/// needs the log.
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

/// Says what a copy did, and what it left out; an error, after that, if something is missing that
/// was asked for.
fn print(
    id: &Digest,
    repository: &str,
    copied: &Copied,
    out: &mut Printer<'_>,
) -> Result<(), Failed> {
    if out.is_json() {
        let skipped = copied.skipped.iter().map(|skipped| {
            let (link, reason) = (link(skipped.link).0, reason(skipped.reason).0);
            json!({ "digest": skipped.digest, "link": link, "reason": reason })
        });
        out.json(&json!({
            "id": id,
            "repository": repository,
            "manifests": copied.manifests,
            "blobs": copied.blobs.to_string(),
            "bytes": copied.bytes.to_string(),
            "present": copied.present.to_string(),
            "skipped": skipped.collect::<Vec<_>>(),
        }))?;
    } else {
        let (size, present) = (bytes(copied.bytes), copied.present);
        let travelled = format!("{} blobs, {size}", copied.blobs);
        let mut rows = vec![
            vec![cell("record", Style::Quiet), cell(id, Style::Strong)],
            vec![cell("repository", Style::Quiet), cell(repository, Style::Plain)],
            vec![cell("travelled", Style::Quiet), cell(travelled, Style::Plain)],
            vec![cell("was there", Style::Quiet), cell(format!("{present} blobs"), Style::Plain)],
        ];
        rows.extend(copied.skipped.iter().map(|skipped| {
            let (link, reason) = (link(skipped.link).1, reason(skipped.reason).1);
            let text = format!("{}, {link}: {reason}", skipped.digest);
            vec![cell("left out", Style::Quiet), cell(text, Style::Warn)]
        }));
        out.table(&rows)?;
    }
    // Statements were asked for, and one is listed that cannot be had. A statement may outlive what
    // it is about, and what is no record of ours, about something else, or has a title that climbs,
    // nobody has asked for.
    let is_lost = |one: &&Skipped| one.link == Link::Referrer && one.reason == SkipReason::Missing;
    match copied.skipped.iter().filter(is_lost).count() {
        0 => Ok(()),
        lost => {
            let what = if lost == 1 { "statement is" } else { "statements are" };
            let message = format!("{repository}: {lost} {what} listed and missing at the source");
            Err(Error::not_found(message).into())
        }
    }
}

/// For programs, and for people.
fn link(link: Link) -> (&'static str, &'static str) {
    match link {
        Link::Subject => ("subject", "what a record is about"),
        Link::Referrer => ("referrer", "a statement"),
        Link::Parent => ("parent", "what a record was made from"),
        _ => ("other", "a record"),
    }
}

/// For programs, and for people.
fn reason(reason: SkipReason) -> (&'static str, &'static str) {
    match reason {
        SkipReason::Missing => ("missing", "MISSING at the source"),
        SkipReason::NoRecord => ("no_record", "no record that is copied"),
        SkipReason::AboutAnother => ("about_another", "about something else"),
        SkipReason::Title => ("title", "a layer's title leads out of its folder"),
        _ => ("other", "not copied"),
    }
}

#[cfg(test)]
mod tests {
    use kaizen_core::record::Evaluation;
    use kaizen_core::{ArtifactStore as _, Descriptor, Manifest, Records as _, Silent, media_type};
    use kaizen_store::copy;
    use kaizen_testkit::{MemoryLog, MemoryStore, story};

    use super::*;

    #[tokio::test]
    async fn what_a_copy_left_out_is_shown_in_text_and_json() {
        let (from, to) = (MemoryStore::default(), MemoryStore::default());
        let story = story(&from, &MemoryLog::default()).await.unwrap();
        let id = story.evaluations[0];
        let model = from.get::<Evaluation>(&id).await.unwrap().record.model;
        assert!(from.remove_manifest(&model).await.unwrap());
        let copied = copy(&from, &to, &id, &CopyOptions::new(), &Silent).await.unwrap();
        let [skipped] = &copied.skipped[..] else { panic!("{:?}", copied.skipped) };
        let shown = |json: bool| {
            let mut out = String::new();
            let mut printer = Printer::new(&mut out, json, false);
            print(&id, "r.example/late", &copied, &mut printer).unwrap();
            out
        };
        let (text, left) = (shown(false), skipped.digest);
        assert_eq!(left, model);
        let line = format!("left out    {left}, what a record is about: MISSING at the source\n");
        assert!(text.contains(&line), "{text}");
        let json: serde_json::Value = serde_json::from_str(&shown(true)).unwrap();
        let skipped = json!([{ "digest": left, "link": "subject", "reason": "missing" }]);
        assert_eq!(json["skipped"], skipped);
    }

    #[tokio::test]
    async fn a_statement_with_a_title_that_climbs_is_named_and_is_no_fault() {
        let (from, to) = (MemoryStore::default(), MemoryStore::default());
        let story = story(&from, &MemoryLog::default()).await.unwrap();
        let id = story.models[0];
        let blob = from.put_blob("{}".into()).await.unwrap();
        let blob = Descriptor::new(media_type::JSON, blob, 2);
        let layer = blob.clone().annotate(media_type::TITLE, "/tmp/scan.json");
        let mut bad = Manifest::new(blob, vec![layer]);
        bad.subject = Some(from.describe(&id).await.unwrap());
        let bad = from.put_manifest(bad.to_bytes().unwrap().into()).await.unwrap();
        let options = CopyOptions::new().referrers(true);
        let copied = copy(&from, &to, &id, &options, &Silent).await.unwrap();
        let shown = |json: bool| {
            let mut out = String::new();
            let mut printer = Printer::new(&mut out, json, false);
            print(&id, "r.example/late", &copied, &mut printer).unwrap();
            out
        };
        let text = shown(false);
        let line =
            format!("left out    {bad}, a statement: a layer's title leads out of its folder\n");
        assert!(text.contains(&line), "{text}");
        let json: serde_json::Value = serde_json::from_str(&shown(true)).unwrap();
        let skipped = json!([{ "digest": bad, "link": "referrer", "reason": "title" }]);
        assert_eq!(json["skipped"], skipped);
    }
}
