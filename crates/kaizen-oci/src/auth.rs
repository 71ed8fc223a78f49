//! Logging in: Basic, and Bearer with tokens from the registry's token server.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::header::{self, HeaderValue};
use hyper::{Method, StatusCode};
use kaizen_core::{Context, Error, ErrorKind, Result, Timestamp};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::Mutex;
use url::Url;
use url::form_urlencoded::Serializer;

use crate::credentials::{CredentialSource, Credentials};
use crate::header::{Challenge, MAX_CHALLENGES, challenges};
use crate::location;
use crate::pace::Failed;
use crate::reference::Reference;
use crate::wire::{Answer, Call, Wire};

/// At most this many bytes in what a token server answers.
const MAX_ANSWER: usize = 256 << 10;
/// At most this many bytes in a token: more does not fit a header anywhere.
const MAX_TOKEN: usize = 64 << 10;
/// At most this many tokens are kept: one per set of rights.
const MAX_TOKENS: usize = 64;
/// What a token lives if nobody says how long, in seconds.
const DEFAULT_LIFE: u64 = 60;
/// No token is believed to live longer, in seconds.
const LONGEST_LIFE: u64 = 86_400;

/// What a request needs to be allowed, as a token server is asked for it: each item is
/// `repository:NAME:ACTIONS`. Only what the request needs is asked for, whatever the registry says.
pub(crate) type Scopes = Vec<String>;

/// What proves the client to one registry.
pub(crate) struct Auth {
    source: Arc<dyn CredentialSource>,
    /// The host and the repository as the user named them, under which credentials are kept.
    host: String,
    repository: String,
    base: Url,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    scheme: Scheme,
    tokens: BTreeMap<Scopes, Token>,
}

#[derive(Default)]
enum Scheme {
    #[default]
    Unknown,
    Basic(HeaderValue),
    Bearer(TokenServer),
}

#[derive(Clone, PartialEq)]
struct TokenServer {
    realm: Url,
    service: Option<String>,
}

struct Token {
    value: HeaderValue,
    expires: Timestamp,
}

/// What a token server answers; the two names mean the same.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Granted {
    token: Option<String>,
    access_token: Option<String>,
    /// In seconds. Some say it as text, or with a fraction.
    expires_in: Option<Value>,
}

impl State {
    fn proof(&self, scopes: &Scopes, now: Timestamp) -> Option<&HeaderValue> {
        match &self.scheme {
            Scheme::Unknown => None,
            Scheme::Basic(value) => Some(value),
            Scheme::Bearer(_) => {
                let token = self.tokens.get(scopes).filter(|token| now < token.expires);
                token.map(|token| &token.value)
            }
        }
    }
}

impl Auth {
    pub(crate) fn new(source: Arc<dyn CredentialSource>, reference: &Reference, base: Url) -> Self {
        let (host, repository) = (reference.host().to_owned(), reference.repository().to_owned());
        Self { source, host, repository, base, state: Mutex::default() }
    }

    /// What to send with a request, as far as it is known what the registry wants.
    pub(crate) async fn proof(
        &self,
        wire: &Wire,
        scopes: &Scopes,
    ) -> Result<Option<HeaderValue>, Failed> {
        let mut state = self.state.lock().await;
        let now = wire.clock.now();
        match (state.proof(scopes, now).cloned(), &state.scheme) {
            (None, Scheme::Bearer(server)) => {
                let token = self.fetch(wire, server, scopes).await?;
                Ok(state.keep(scopes, token, now))
            }
            (proof, _) => Ok(proof),
        }
    }

    /// What to send after the registry said who it wants to be told; `None` if nothing would help.
    /// `sent` is what it did not take.
    pub(crate) async fn answer(
        &self,
        wire: &Wire,
        scopes: &Scopes,
        challenge: &Answer,
        sent: Option<&HeaderValue>,
    ) -> Result<Option<HeaderValue>, Failed> {
        // Held while a token is fetched: of many requests that need one, one fetches it.
        let mut state = self.state.lock().await;
        let now = wire.clock.now();
        let current = state.proof(scopes, now).cloned();
        if current.is_some() && current.as_ref() != sent {
            return Ok(current);
        }
        let offered = offers(challenge)?;
        let bearer = offered.iter().find(|one| one.scheme == "bearer");
        if let Some(realm) = bearer.and_then(|one| one.parameter("realm")) {
            let service = bearer.and_then(|one| one.parameter("service")).map(str::to_owned);
            let server = TokenServer { realm: location::resolve(&self.base, realm)?, service };
            let token = self.fetch(wire, &server, scopes).await?;
            state.scheme = Scheme::Bearer(server);
            return Ok(state.keep(scopes, token, now));
        }
        if offered.iter().any(|one| one.scheme == "basic") {
            let Credentials::Password { username, password } = self.credentials().await? else {
                return Ok(None);
            };
            let value = basic(&username, &password)?;
            state.scheme = Scheme::Basic(value.clone());
            return Ok((Some(&value) != sent).then_some(value));
        }
        let schemes: Vec<&str> = offered.iter().map(|one| one.scheme.as_str()).collect();
        let text = format!("{}: it wants {}, not Basic or Bearer", self.host, schemes.join(", "));
        Err(Error::new(ErrorKind::Unsupported, text).into())
    }

    async fn credentials(&self) -> Result<Credentials> {
        self.source.credentials(&self.host, &self.repository).await
    }

    async fn fetch(
        &self,
        wire: &Wire,
        server: &TokenServer,
        scopes: &Scopes,
    ) -> Result<Granted, Failed> {
        let credentials = self.credentials().await?;
        match &credentials {
            Credentials::AccessToken(token) => {
                Ok(Granted { token: Some(token.clone()), ..Granted::default() })
            }
            Credentials::IdentityToken(token) => {
                let secret = [("grant_type", "refresh_token"), ("refresh_token", token)];
                self.ask(wire, server.post(scopes, &secret)?, None).await
            }
            Credentials::Anonymous => self.ask(wire, server.get(scopes), None).await,
            Credentials::Password { username, password } => {
                let proof = basic(username, password)?;
                let asked = self.ask(wire, server.get(scopes), Some(&proof)).await;
                // Some token servers know the way of OAuth 2 only.
                let other_way = [ErrorKind::NotFound, ErrorKind::Unsupported];
                if !asked.as_ref().is_err_and(|failed| other_way.contains(&failed.error.kind())) {
                    return asked;
                }
                let secret =
                    [("grant_type", "password"), ("username", username), ("password", password)];
                self.ask(wire, server.post(scopes, &secret)?, None).await
            }
        }
    }

    /// Asks the token server. It sends the client nowhere else.
    async fn ask(
        &self,
        wire: &Wire,
        call: Call,
        proof: Option<&HeaderValue>,
    ) -> Result<Granted, Failed> {
        let answer = wire.exchange(&call, &call.url, proof).await?;
        if answer.status != StatusCode::OK {
            return Err(wire.failure(answer).await);
        }
        let name = answer.name.clone();
        let body = answer.whole(MAX_ANSWER).await?;
        // What was read may hold a part of a token, and is not shown.
        let bad = |_| Error::corrupt(format!("{name}: no token in what it answers"));
        Ok(serde_json::from_slice::<Granted>(&body).map_err(bad)?)
    }
}

impl State {
    fn keep(&mut self, scopes: &Scopes, granted: Granted, now: Timestamp) -> Option<HeaderValue> {
        let given = [granted.token, granted.access_token].into_iter().flatten();
        let token =
            given.into_iter().find(|token| !token.is_empty() && token.len() <= MAX_TOKEN)?;
        let mut value = HeaderValue::from_str(&format!("Bearer {token}")).ok()?;
        value.set_sensitive(true);
        // Nine tenths of its life, so that it does not die on the way.
        let life = granted.expires_in.as_ref().and_then(seconds);
        let life = life.unwrap_or(DEFAULT_LIFE).min(LONGEST_LIFE);
        let expires = now.plus_seconds(i64::try_from(life * 9 / 10).unwrap_or(0));
        if self.tokens.len() >= MAX_TOKENS {
            self.tokens.retain(|_, token| now < token.expires);
        }
        if self.tokens.len() < MAX_TOKENS {
            self.tokens.insert(scopes.clone(), Token { value: value.clone(), expires });
        }
        Some(value)
    }
}

impl TokenServer {
    fn get(&self, scopes: &Scopes) -> Call {
        let mut url = self.realm.clone();
        let mut query = url.query_pairs_mut();
        if let Some(service) = &self.service {
            query.append_pair("service", service);
        }
        query.extend_pairs(scopes.iter().map(|scope| ("scope", scope)));
        drop(query);
        Call::new(Method::GET, url)
    }

    /// As OAuth 2 does it.
    fn post(&self, scopes: &Scopes, secret: &[(&str, &str)]) -> Result<Call> {
        let mut form = Serializer::new(String::new());
        form.extend_pairs(secret).append_pair("client_id", "kaizen");
        if let Some(service) = &self.service {
            form.append_pair("service", service);
        }
        form.append_pair("scope", &scopes.join(" "));
        let call = Call::new(Method::POST, self.realm.clone());
        let call = call.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")?;
        Ok(call.body(form.finish().into()))
    }
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Auth").field("host", &self.host).finish_non_exhaustive()
    }
}

/// Every challenge in an answer.
fn offers(answer: &Answer) -> Result<Vec<Challenge>> {
    let mut found = Vec::new();
    for value in answer.headers.get_all(header::WWW_AUTHENTICATE) {
        let bad = || format!("{}: header {}", answer.name, header::WWW_AUTHENTICATE);
        let text = value.to_str().context(ErrorKind::Corrupt, bad())?;
        found.extend(challenges(text).context(ErrorKind::Corrupt, bad())?);
        if found.len() > MAX_CHALLENGES {
            return Err(Error::new(ErrorKind::Limit, format!("{}: too many challenges", bad())));
        }
    }
    Ok(found)
}

/// A whole number of seconds in what should be one; of what is none, nothing.
fn seconds(said: &Value) -> Option<u64> {
    match said {
        Value::Number(number) => number.as_u64().or_else(|| whole(number.as_f64()?)),
        Value::String(text) => {
            let text = text.trim();
            text.parse().ok().or_else(|| whole(text.parse().ok()?))
        }
        _ => None,
    }
}

fn whole(seconds: f64) -> Option<u64> {
    (seconds.is_finite() && seconds >= 0.0).then_some(seconds as u64)
}

fn basic(username: &str, password: &str) -> Result<HeaderValue> {
    if username.contains(':') {
        return Err(Error::invalid("credentials: a user's name with a colon in it"));
    }
    let text = format!("Basic {}", STANDARD.encode(format!("{username}:{password}")));
    let mut value = HeaderValue::from_str(&text).context(ErrorKind::Invalid, "credentials")?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn granted(text: &str) -> Granted {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn a_token_is_kept_for_nine_tenths_of_its_life_and_never_for_ever() {
        let now = Timestamp::from_micros(0);
        let mut state = State::default();
        let scopes = vec!["repository:a:pull".to_owned()];
        let realm = Url::parse("https://t.example/token").unwrap();
        state.scheme = Scheme::Bearer(TokenServer { realm, service: None });
        let lives = [("", 54), (",\"expires_in\":300", 270), (",\"expires_in\":99999999", 77_760)];
        for (life, seconds) in lives {
            let token = granted(&format!("{{\"access_token\":\"x\"{life}}}"));
            assert_eq!(state.keep(&scopes, token, now).unwrap(), "Bearer x");
            assert!(state.proof(&scopes, now.plus_seconds(seconds - 1)).is_some(), "{life}");
            assert!(state.proof(&scopes, now.plus_seconds(seconds)).is_none(), "{life}");
        }
        assert!(state.proof(&vec!["repository:a:pull,push".to_owned()], now).is_none());
    }

    #[test]
    fn what_is_no_token_is_not_sent_and_few_are_kept() {
        let now = Timestamp::from_micros(0);
        let mut state = State::default();
        for bad in ["{}", "{\"token\":\"\"}", "{\"token\":\"a\\nb\"}"] {
            assert!(state.keep(&Vec::new(), granted(bad), now).is_none(), "{bad}");
        }
        for number in 0..2 * MAX_TOKENS {
            let token = granted("{\"token\":\"x\"}");
            assert!(state.keep(&vec![number.to_string()], token, now).is_some());
        }
        assert_eq!(state.tokens.len(), MAX_TOKENS);
    }

    #[test]
    fn a_password_is_shown_to_nobody() {
        let value = basic("Aladdin", "open sesame").unwrap();
        assert_eq!(value.to_str().unwrap(), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        assert!(!format!("{value:?}").contains("QWxh"));
        assert!(basic("a:b", "c").is_err());
        let shown = format!("{:?}", Credentials::password("ann", "secret"));
        assert_eq!(shown, "Password(\"ann\", …)");
    }

    #[test]
    fn a_life_is_read_as_token_servers_write_it() {
        let life = |said: Value| {
            let text = json!({ "token": "t", "expires_in": said }).to_string();
            let granted: Granted = serde_json::from_str(&text).unwrap();
            granted.expires_in.as_ref().and_then(seconds)
        };
        for said in [json!(300), json!("300"), json!(300.5), json!(" 300.0 ")] {
            assert_eq!(life(said.clone()), Some(300), "{said}");
        }
        for said in [json!(null), json!(-1), json!("soon"), json!([300]), json!("NaN")] {
            assert_eq!(life(said.clone()), None, "{said}");
        }
    }
}
