//! `index.json` against the blobs.

use std::collections::{BTreeMap, BTreeSet};

use kaizen_core::{Digest, media_type};
use serde_json::{Map, Value, json};

use super::needs::Spoken;
use super::{Fault, Need, Problem, Read, blob_file, problem};

const NAME: &str = "index.json";

/// The fields that the OCI specification gives an index.
const FIELDS: [&str; 6] =
    ["schemaVersion", "mediaType", "manifests", "annotations", "artifactType", "subject"];

/// The fields that it gives a descriptor.
const ENTRY_FIELDS: [&str; 8] =
    ["mediaType", "digest", "size", "urls", "annotations", "data", "artifactType", "platform"];

/// The other algorithms of digests under which tools store blobs.
const ALGORITHMS: [&str; 3] = ["sha384:", "sha512:", "blake3:"];

pub(super) fn check(
    bytes: &[u8],
    blobs: &BTreeMap<Digest, u64>,
    read: &Read,
    spoken: &Spoken,
) -> Vec<Problem> {
    let Ok(Value::Object(document)) = serde_json::from_slice(bytes) else {
        return vec![problem(NAME, Fault::Damaged, "it is no JSON object")];
    };
    let mut found = Vec::new();
    let mut wrong = |detail: String| found.push(problem(NAME, Fault::Index, detail));
    if document.get("schemaVersion") != Some(&json!(2)) {
        wrong("its schemaVersion is not 2".to_owned());
    }
    if document.get("mediaType").is_some_and(|kind| *kind != json!(media_type::INDEX)) {
        wrong("its mediaType is not that of an OCI index".to_owned());
    }
    for unknown in document.keys().filter(|name| !FIELDS.contains(&name.as_str())) {
        wrong(format!("it has a field `{unknown}`, which no index has"));
    }
    let Some(Value::Array(entries)) = document.get("manifests") else {
        wrong("it lists no manifests".to_owned());
        return found;
    };
    let mut listed = BTreeSet::new();
    for (nth, entry) in entries.iter().enumerate() {
        match entry.as_object() {
            Some(entry) => check_entry(nth, entry, read, &mut listed, &mut found),
            None => found.push(problem(NAME, Fault::Index, format!("entry {nth} is no object"))),
        }
    }
    for id in listed.iter().filter(|id| !blobs.contains_key(*id)) {
        let mut missing = problem(blob_file(id), Fault::Missing, "");
        (missing.digest, missing.needed_by) = (Some(*id), vec![Need::Index]);
        found.push(missing);
    }
    for id in read.manifests.keys().filter(|id| !listed.contains(*id)) {
        let needs = spoken.speaks_of(id);
        // What the log speaks of was listed once, until a collection is about to remove it.
        let lacks = !needs.is_empty() && !spoken.is_removed(id);
        let fault = if lacks { Fault::Index } else { Fault::Unlisted };
        let mut unlisted = problem(blob_file(id), fault, "a manifest that the index does not list");
        (unlisted.digest, unlisted.needed_by) = (Some(*id), needs);
        found.push(unlisted);
    }
    found
}

fn check_entry(
    nth: usize,
    entry: &Map<String, Value>,
    read: &Read,
    listed: &mut BTreeSet<Digest>,
    found: &mut Vec<Problem>,
) {
    let mut wrong = |digest: Option<Digest>, detail: String| {
        let mut problem = problem(NAME, Fault::Index, format!("entry {nth}: {detail}"));
        problem.digest = digest;
        found.push(problem);
    };
    let Some(Value::String(text)) = entry.get("digest") else {
        return wrong(None, "it has no digest".to_owned());
    };
    let digest = match text.parse::<Digest>() {
        Ok(digest) => digest,
        Err(_) if ALGORITHMS.iter().any(|algorithm| text.starts_with(algorithm)) => return,
        Err(error) => return wrong(None, error.to_string()),
    };
    for unknown in entry.keys().filter(|name| !ENTRY_FIELDS.contains(&name.as_str())) {
        wrong(Some(digest), format!("it has a field `{unknown}`, which no descriptor has"));
    }
    if !listed.insert(digest) {
        return wrong(Some(digest), format!("{digest} is listed twice"));
    }
    let Some((_, expected)) = read.manifests.get(&digest) else {
        if entry.get("mediaType") == Some(&json!(media_type::MANIFEST))
            && !read.damaged.contains(&digest)
            && !read.others.contains(&digest)
        {
            wrong(Some(digest), format!("{digest} is no manifest in this store"));
        }
        return;
    };
    let expected = [
        ("mediaType", Some(json!(expected.media_type))),
        ("size", Some(json!(expected.size))),
        ("artifactType", expected.artifact_type.as_ref().map(|kind| json!(kind))),
    ];
    for (field, wanted) in expected {
        if entry.get(field) != wanted.as_ref() {
            let said = entry.get(field).map_or_else(|| "nothing".to_owned(), Value::to_string);
            wrong(Some(digest), format!("{digest}: its {field} is {said}"));
        }
    }
}
