//! Manifests that are not what was asked for, or lead elsewhere.

use std::collections::BTreeMap;

use kaizen_core::{ArtifactStore, Descriptor, Digest, ErrorKind, Manifest, Silent, media_type};
use kaizen_oci::RemoteRegistry;
use kaizen_store::{CopyOptions, Link, SkipReason};
use kaizen_testkit::MemoryStore;
use serde_json::json;

use super::{against, read};
use crate::server::{Reply, Server};

#[tokio::test]
async fn a_manifest_of_another_kind_is_refused() {
    let body = Descriptor::of("text/plain", b"x");
    let manifest = Manifest::new(body.clone(), vec![body]).to_bytes().unwrap();
    let cases = [
        ("text/html", manifest.clone(), ErrorKind::Corrupt),
        (media_type::INDEX, manifest, ErrorKind::Corrupt),
        (media_type::MANIFEST, vec![b' '; (4 << 20) + 1], ErrorKind::Limit),
    ];
    for (number, (kind, bytes, expected)) in cases.into_iter().enumerate() {
        let digest = Digest::of(&bytes);
        let (_server, registry) =
            against(move |request| match request.path().contains("/manifests/") {
                true => Reply::status(200).header("content-type", kind).body(bytes.clone()),
                false => Reply::status(404),
            })
            .await;
        let by_digest = read(&registry, &digest).await.err().map(|error| error.kind());
        let by_tag = registry.get_tag("v1").await.err().map(|error| error.kind());
        assert_eq!((by_digest, by_tag), (Some(expected), Some(expected)), "case {number}");
    }
}

#[tokio::test]
async fn a_manifest_that_cannot_be_read_is_not_pulled() {
    for bytes in [b"{}".to_vec(), vec![b'['; 100_000]] {
        let digest = Digest::of(&bytes);
        let (_server, registry) =
            against(move |request| match request.path().contains("/manifests/") {
                true => Reply::status(200)
                    .header("content-type", media_type::MANIFEST)
                    .body(bytes.clone()),
                false => Reply::status(404),
            })
            .await;
        let to = MemoryStore::default();
        let error = registry.pull(&to, &digest, &CopyOptions::new(), &Silent).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error:#}");
    }
}

/// A registry that has these, the manifests among them under `/manifests/` or as blobs.
async fn serving(
    all: &BTreeMap<String, Vec<u8>>,
    listed: Vec<u8>,
    as_manifests: bool,
) -> (Server, RemoteRegistry) {
    let all = all.clone();
    against(move |request| {
        let (path, found) = (request.path(), all.get(request.path().rsplit('/').next().unwrap()));
        if path.contains("/referrers/") {
            let kind = ("content-type", media_type::INDEX);
            return Reply::status(200).header(kind.0, kind.1).body(listed.clone());
        }
        let is_manifest = found.is_some_and(|bytes| Manifest::parse(bytes).is_ok());
        let wanted = if is_manifest && as_manifests { "/manifests/" } else { "/blobs/" };
        match found.filter(|_| path.contains(wanted)) {
            Some(bytes) if is_manifest && as_manifests => {
                Reply::status(200).header("content-type", media_type::MANIFEST).body(bytes.clone())
            }
            Some(bytes) => Reply::status(200).body(bytes.clone()),
            None => Reply::status(404),
        }
    })
    .await
}

#[tokio::test]
async fn a_title_that_climbs_is_not_pulled_and_ends_only_a_pull_of_its_manifest() {
    let blob = |bytes: &str| (Digest::of(bytes), bytes.as_bytes().to_vec());
    let body = Descriptor::of("application/json", b"{}");
    let manifest = |manifest: Manifest| {
        let bytes = manifest.to_bytes().unwrap();
        (Digest::of(&bytes), bytes)
    };
    let whole = manifest(Manifest::new(body.clone(), Vec::new()));
    let layer = body.clone().annotate(media_type::TITLE, "../../etc/cron.d/x");
    let mut bad = Manifest::new(body.clone(), vec![layer]);
    bad.subject = Some(Descriptor::of(media_type::MANIFEST, &whole.1));
    let bad = manifest(bad);
    let mut about = Manifest::new(body.clone(), Vec::new());
    about.subject = Some(Descriptor::of(media_type::MANIFEST, &bad.1));
    let about = manifest(about);
    let naming = format!(r#"{{"model":"{}"}}"#, bad.0);
    let config = Descriptor::of("application/json", naming.as_bytes());
    let child = manifest(Manifest::new(config, Vec::new()));
    let index = json!({
        "schemaVersion": 2,
        "mediaType": media_type::INDEX,
        "manifests": [Descriptor::of(media_type::MANIFEST, &bad.1)],
    });
    let empty = json!({ "schemaVersion": 2, "mediaType": media_type::INDEX, "manifests": [] });
    let [id, subject, parent] = [whole.0, about.0, child.0];
    let (climbs, all) = (bad.0, [whole, bad, about, child, blob("{}"), blob(&naming)]);
    let all: BTreeMap<String, Vec<u8>> =
        all.into_iter().map(|(digest, bytes)| (digest.to_string(), bytes)).collect();
    for as_manifests in [true, false] {
        let (none, said) = (empty.to_string().into_bytes(), index.to_string().into_bytes());
        let (_server, registry) = serving(&all, none, as_manifests).await;
        let to = MemoryStore::default();
        let options = CopyOptions::new().parents(true);
        let error = registry.pull(&to, &climbs, &options, &Silent).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused, "{error:#}");
        assert!(to.blobs().await.unwrap().is_empty());
        let left = |copied: kaizen_store::Copied| {
            let [skipped] = &copied.skipped[..] else { panic!("{:?}", copied.skipped) };
            assert_eq!((skipped.digest, skipped.reason), (climbs, SkipReason::Title));
            skipped.link
        };
        for (id, link) in [(subject, Link::Subject), (parent, Link::Parent)] {
            let copied = registry.pull(&to, &id, &options, &Silent).await.unwrap();
            assert_eq!(left(copied), link);
        }
        // A list says that it is about this.
        let (_server, registry) = serving(&all, said, as_manifests).await;
        let with = CopyOptions::new().referrers(true);
        let copied = registry.pull(&to, &id, &with, &Silent).await.unwrap();
        assert_eq!(left(copied), Link::Referrer);
        assert!(to.contains(&id).await.unwrap() && !to.contains(&climbs).await.unwrap());
    }
}
