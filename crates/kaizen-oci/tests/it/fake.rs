//! A registry in memory that follows the protocol, with choices where the protocol leaves them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

use kaizen_core::{Digest, media_type};
use kaizen_oci::{Options, RemoteRegistry};
use serde_json::{Value, json};

use crate::server::{Reply, Request, Server};

/// What this registry does where registries differ.
#[derive(Clone, Debug, Default)]
pub(crate) struct Choices {
    /// It has the referrers API.
    pub(crate) referrers: bool,
    /// It gives `ETag` with manifests and knows `If-Match` and `If-None-Match`.
    pub(crate) conditional: bool,
    /// It mounts blobs from other repositories.
    pub(crate) mounts: bool,
    /// Pages of tags and referrers have so many entries.
    pub(crate) page: Option<usize>,
    /// It takes no smaller chunk than this, but for the last.
    pub(crate) min_chunk: Option<usize>,
}

#[derive(Default)]
pub(crate) struct State {
    /// By repository and digest.
    pub(crate) blobs: BTreeMap<(String, String), Vec<u8>>,
    /// By repository and tag or digest.
    pub(crate) manifests: BTreeMap<(String, String), (String, Vec<u8>)>,
    pub(crate) uploads: BTreeMap<usize, Vec<u8>>,
    /// Answers given to the next requests that match a method and a part of the path. With the
    /// flag, the request is carried out all the same.
    pub(crate) faults: VecDeque<(String, String, Reply, bool)>,
    opened: usize,
}

pub(crate) struct Fake {
    pub(crate) server: Server,
    pub(crate) state: Arc<Mutex<State>>,
}

impl Fake {
    pub(crate) async fn start(choices: Choices) -> Self {
        Self::start_behind(choices, |_| None).await
    }

    /// A registry whose requests are first shown to `guard`, which may answer them.
    pub(crate) async fn start_behind(
        choices: Choices,
        guard: impl Fn(&Request) -> Option<Reply> + Send + Sync + 'static,
    ) -> Self {
        let state = Arc::new(Mutex::new(State::default()));
        let own = Arc::clone(&state);
        let server = Server::start(move |request| {
            if let Some(reply) = guard(request) {
                return reply;
            }
            let mut state = own.lock().unwrap();
            let hit = state.faults.iter().position(|(method, part, ..)| {
                *method == request.method && request.target.contains(part)
            });
            match hit.and_then(|hit| state.faults.remove(hit)) {
                Some((.., reply, done)) => {
                    if done {
                        state.answer(request, &choices);
                    }
                    reply
                }
                None => state.answer(request, &choices),
            }
        })
        .await;
        Self { server, state }
    }

    /// The repository `team/late` in it.
    pub(crate) fn open(&self, options: Options) -> RemoteRegistry {
        RemoteRegistry::open(&format!("{}/team/late", self.server.address), options).unwrap()
    }

    /// The next request of this method, with this in its target, gets this reply.
    pub(crate) fn fault(&self, method: &str, part: &str, reply: Reply, done: bool) {
        let fault = (method.to_owned(), part.to_owned(), reply, done);
        self.state.lock().unwrap().faults.push_back(fault);
    }

    pub(crate) fn count(&self, method: &str, part: &str) -> usize {
        let requests = self.server.requests();
        requests.iter().filter(|one| one.method == method && one.target.contains(part)).count()
    }
}

fn error(status: u16, code: &str) -> Reply {
    let body = json!({"errors": [{"code": code, "message": "by the fake registry"}]});
    Reply::status(status).header("content-type", "application/json").body(body.to_string())
}

impl State {
    fn answer(&mut self, request: &Request, choices: &Choices) -> Reply {
        let Some(path) = request.path().strip_prefix("/v2/") else {
            return error(404, "UNSUPPORTED");
        };
        if path.is_empty() {
            return Reply::status(200);
        }
        for part in ["blobs/uploads", "blobs", "manifests", "referrers", "tags"] {
            let Some((repository, rest)) = path.split_once(&format!("/{part}/")) else { continue };
            return match part {
                "blobs/uploads" => self.upload(request, (repository, rest), choices),
                "blobs" => self.blob(request, repository, rest),
                "manifests" => self.manifest(request, (repository, rest), choices),
                "referrers" => self.referrers(request, (repository, rest), choices),
                _ => self.tags(request, repository, choices),
            };
        }
        error(404, "UNSUPPORTED")
    }

    fn upload(
        &mut self,
        request: &Request,
        (repository, id): (&str, &str),
        choices: &Choices,
    ) -> Reply {
        let target = |id: usize| format!("/v2/{repository}/blobs/uploads/{id}?state={id}");
        if request.method == "POST" {
            if let (Some(digest), Some(from)) = (request.query("mount"), request.query("from")) {
                let there = self.blobs.get(&(from, digest.clone())).cloned();
                if let Some(bytes) = there.filter(|_| choices.mounts) {
                    self.blobs.insert((repository.to_owned(), digest), bytes);
                    return Reply::status(201).header("location", "/v2/mounted");
                }
            }
            self.opened += 1;
            self.uploads.insert(self.opened, Vec::new());
            let mut reply = Reply::status(202).header("location", target(self.opened));
            if let Some(least) = choices.min_chunk {
                reply = reply.header("oci-chunk-min-length", least.to_string());
            }
            return reply;
        }
        let id: usize = id.parse().unwrap();
        let Some(held) = self.uploads.get_mut(&id) else {
            return error(404, "BLOB_UPLOAD_UNKNOWN");
        };
        let range = |held: &[u8]| format!("0-{}", held.len().saturating_sub(1));
        match request.method.as_str() {
            "GET" => Reply::status(204).header("location", target(id)).header("range", range(held)),
            "DELETE" => {
                self.uploads.remove(&id);
                Reply::status(204)
            }
            "PATCH" => {
                let said = request.header("content-range").unwrap().split_once('-').unwrap();
                let whole = said.1.parse::<usize>().unwrap() + 1 - held.len();
                if said.0.parse::<usize>().unwrap() != held.len() || whole != request.body.len() {
                    return Reply::status(416).header("range", range(held));
                }
                held.extend_from_slice(&request.body);
                Reply::status(202).header("location", target(id)).header("range", range(held))
            }
            "PUT" => {
                let mut bytes = std::mem::take(held);
                bytes.extend_from_slice(&request.body);
                self.uploads.remove(&id);
                let digest = request.query("digest").unwrap();
                if Digest::of(&bytes).to_string() != digest {
                    return error(400, "DIGEST_INVALID");
                }
                self.blobs.insert((repository.to_owned(), digest), bytes);
                Reply::status(201).header("location", "/v2/done")
            }
            _ => error(405, "UNSUPPORTED"),
        }
    }

    fn blob(&self, request: &Request, repository: &str, digest: &str) -> Reply {
        let Some(bytes) = self.blobs.get(&(repository.to_owned(), digest.to_owned())) else {
            return error(404, "BLOB_UNKNOWN");
        };
        let reply = Reply::status(200).header("docker-content-digest", digest);
        let Some(range) = request.header("range") else { return reply.body(bytes.clone()) };
        let start: usize = range["bytes=".len()..range.len() - 1].parse().unwrap();
        let said = format!("bytes {start}-{}/{}", bytes.len() - 1, bytes.len());
        Reply::status(206).header("content-range", said).body(&bytes[start..])
    }

    fn manifest(
        &mut self,
        request: &Request,
        (repository, name): (&str, &str),
        choices: &Choices,
    ) -> Reply {
        let key = (repository.to_owned(), name.to_owned());
        let held = self.manifests.get(&key);
        let tag = held.map(|(_, bytes)| format!("\"{}\"", Digest::of(bytes)));
        if request.method == "PUT" {
            let wanted = request.header("if-match");
            let other = wanted.is_some() && wanted != tag.as_deref();
            let is_there = request.header("if-none-match") == Some("*") && tag.is_some();
            if choices.conditional && (other || is_there) {
                return error(412, "CONDITION");
            }
            let kind = request.header("content-type").unwrap().to_owned();
            let digest = Digest::of(&request.body).to_string();
            let parsed: Value = serde_json::from_slice(&request.body).unwrap();
            self.manifests.insert(key, (kind.clone(), request.body.clone()));
            let by_digest = (repository.to_owned(), digest.clone());
            self.manifests.insert(by_digest, (kind, request.body.clone()));
            let reply = Reply::status(201).header("docker-content-digest", digest);
            return match parsed.pointer("/subject/digest").and_then(Value::as_str) {
                Some(subject) if choices.referrers => reply.header("oci-subject", subject),
                _ => reply,
            };
        }
        let Some((kind, bytes)) = held else { return error(404, "MANIFEST_UNKNOWN") };
        let mut reply = Reply::status(200).header("content-type", kind).body(bytes.clone());
        if choices.conditional {
            reply = reply.header("etag", tag.unwrap());
        }
        reply.header("docker-content-digest", Digest::of(bytes).to_string())
    }

    fn referrers(
        &self,
        request: &Request,
        (repository, subject): (&str, &str),
        choices: &Choices,
    ) -> Reply {
        if !choices.referrers {
            return error(404, "UNSUPPORTED");
        }
        let own = self
            .manifests
            .iter()
            .filter(|((own, name), _)| own == repository && name.starts_with("sha256:"));
        let about = own.filter(|(_, (_, bytes))| {
            let parsed: Value = serde_json::from_slice(bytes).unwrap();
            parsed.pointer("/subject/digest").and_then(Value::as_str) == Some(subject)
        });
        let entries: Vec<Value> = about
            .map(|((_, digest), (kind, bytes))| {
                json!({"mediaType": kind, "digest": digest, "size": bytes.len()})
            })
            .collect();
        let (page, link) = page_of(request, &entries, choices.page);
        let body = json!({
            "schemaVersion": 2, "mediaType": media_type::INDEX, "manifests": page,
        });
        let reply = Reply::status(200).header("content-type", media_type::INDEX);
        with_link(reply.body(body.to_string()), link)
    }

    fn tags(&self, request: &Request, repository: &str, choices: &Choices) -> Reply {
        let own = self.manifests.keys().filter(|(own, _)| own == repository);
        let tags: Vec<&String> = own.map(|(_, name)| name).filter(|n| !n.contains(':')).collect();
        let (page, link) = page_of(request, &tags, choices.page);
        let body = json!({"name": repository, "tags": page}).to_string();
        with_link(Reply::status(200).header("content-type", media_type::JSON).body(body), link)
    }
}

fn page_of<'a, T>(
    request: &Request,
    all: &'a [T],
    page: Option<usize>,
) -> (&'a [T], Option<String>) {
    let start = request.query("last").map_or(0, |last| last.parse::<usize>().unwrap());
    let end = page.map_or(all.len(), |page| all.len().min(start + page));
    let next = format!("<{}?last={end}>; rel=\"next\"", request.path());
    (&all[start..end], (end < all.len()).then_some(next))
}

fn with_link(reply: Reply, link: Option<String>) -> Reply {
    match link {
        Some(link) => reply.header("link", link),
        None => reply,
    }
}
