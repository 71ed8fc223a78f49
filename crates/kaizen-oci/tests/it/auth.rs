//! Logging in.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use kaizen_core::{ArtifactStore, Digest, ErrorKind};
use kaizen_oci::{Credentials, Options};
use serde_json::json;

use crate::fake::{Choices, Fake};
use crate::server::{Reply, Request, Server};
use crate::support::{Hands, bytes, options};

const ANN: &str = "Basic YW5uOnNlY3JldA==";

fn as_ann() -> Options {
    let (mut options, _) = options();
    options.credentials = Arc::new(Credentials::password("ann", "secret"));
    options
}

#[tokio::test]
async fn a_registry_that_wants_a_password_gets_it_and_nobody_else_does() {
    let fake = Fake::start_behind(Choices::default(), |request| {
        let right = request.header("authorization") == Some(ANN);
        let challenge = Reply::status(401).header("www-authenticate", "Basic realm=\"x\"");
        (!right).then_some(challenge)
    })
    .await;
    let registry = fake.open(as_ann());
    registry.ping().await.unwrap();
    let digest = registry.put_blob("weights".into()).await.unwrap();
    assert_eq!(registry.get_blob(&digest).await.unwrap(), "weights");
    let without =
        fake.server.requests().iter().filter(|r| r.header("authorization").is_none()).count();
    assert_eq!(without, 1, "only the very first request asks without it");

    let (anonymous, _) = options();
    let mut wrong = as_ann();
    wrong.credentials = Arc::new(Credentials::password("ann", "wrong"));
    for options in [anonymous, wrong] {
        let error = fake.open(options).ping().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused);
        assert!(!format!("{error:#}").contains("wrong"), "{error:#}");
    }
}

/// A token server that gives tokens `t1`, `t2`, …, and notes for what.
struct Tokens {
    server: Server,
    given: Arc<AtomicUsize>,
}

impl Tokens {
    async fn start(answer: impl Fn(&Request) -> Option<Reply> + Send + Sync + 'static) -> Self {
        let given = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&given);
        let server = Server::start(move |request| {
            answer(request).unwrap_or_else(|| {
                let number = count.fetch_add(1, Ordering::SeqCst) + 1;
                let body = json!({"token": format!("t{number}"), "expires_in": 100});
                Reply::status(200).body(body.to_string())
            })
        })
        .await;
        Self { server, given }
    }

    fn scopes(&self) -> Vec<String> {
        let query = |one: &Request| one.query("scope").unwrap_or_default();
        self.server.requests().iter().map(query).collect()
    }
}

/// A registry that takes only the tokens that `valid` names.
async fn behind(tokens: &Tokens, valid: Arc<Mutex<Vec<String>>>) -> Fake {
    let realm = format!("http://{}/token", tokens.server.address);
    Fake::start_behind(Choices::default(), move |request| {
        let token = request.header("authorization").and_then(|v| v.strip_prefix("Bearer "));
        let right = token.is_some_and(|token| valid.lock().unwrap().iter().any(|v| v == token));
        // The scope that it names is wider than what is needed.
        let challenge = format!(
            "Bearer realm=\"{realm}\",service=\"fake\",scope=\"repository:other/secret:pull,push,delete\""
        );
        (!right).then(|| Reply::status(401).header("www-authenticate", challenge))
    })
    .await
}

fn valid(tokens: &[&str]) -> Arc<Mutex<Vec<String>>> {
    Arc::new(Mutex::new(tokens.iter().map(|token| (*token).to_owned()).collect()))
}

#[tokio::test]
async fn a_token_is_asked_for_with_no_more_rights_than_needed_and_kept_while_it_lives() {
    let tokens = Tokens::start(|request| {
        let right = request.header("authorization") == Some(ANN);
        (!right).then(|| Reply::status(401))
    })
    .await;
    let fake = behind(&tokens, valid(&["t1", "t2", "t3"])).await;
    let clock = Hands::at_noon();
    let mut options = as_ann();
    options.clock = clock.clone();
    let registry = fake.open(options);
    let digest = registry.put_blob("weights".into()).await.unwrap();
    assert_eq!(registry.get_blob(&digest).await.unwrap(), "weights");
    clock.forward(89);
    assert!(registry.contains(&digest).await.unwrap());
    assert_eq!(tokens.given.load(Ordering::SeqCst), 2, "one to read, one to write");
    let both = ["repository:team/late:pull", "repository:team/late:pull,push"];
    assert_eq!(tokens.scopes(), both);
    clock.forward(2);
    assert!(registry.contains(&digest).await.unwrap());
    assert_eq!(tokens.scopes(), [both[0], both[1], both[0]]);
    let asked = &tokens.server.requests()[0];
    assert_eq!((asked.method.as_str(), asked.query("service").as_deref()), ("GET", Some("fake")));
}

#[tokio::test]
async fn a_token_that_is_not_taken_any_more_is_replaced_once() {
    let tokens = Tokens::start(|_| None).await;
    let taken = valid(&["t1"]);
    let fake = behind(&tokens, taken.clone()).await;
    let (anonymous, _) = options();
    let registry = fake.open(anonymous);
    let missing = Digest::of("missing");
    assert!(!registry.contains(&missing).await.unwrap());
    *taken.lock().unwrap() = vec!["t2".into()];
    assert!(!registry.contains(&missing).await.unwrap());
    assert_eq!(tokens.given.load(Ordering::SeqCst), 2);
    taken.lock().unwrap().clear();
    let error = registry.contains(&missing).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
    assert!(tokens.given.load(Ordering::SeqCst) <= 4, "it does not ask for ever");
}

#[tokio::test]
async fn many_requests_at_once_share_one_token() {
    let tokens = Tokens::start(|_| None).await;
    let fake = behind(&tokens, valid(&["t1"])).await;
    let (anonymous, _) = options();
    let registry = fake.open(anonymous);
    let missing = Digest::of("missing");
    let mut all = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let registry = registry.clone();
        all.spawn(async move { registry.contains(&missing).await.unwrap() });
    }
    assert!(all.join_all().await.iter().all(|found| !found));
    assert_eq!(tokens.given.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn an_identity_token_and_an_old_password_go_by_post_as_oauth_does() {
    let form = |request: &Request| {
        let pairs = url::form_urlencoded::parse(&request.body);
        let mut pairs: Vec<String> = pairs.map(|(name, value)| format!("{name}={value}")).collect();
        pairs.sort();
        pairs.join(" ")
    };
    let cases = [
        (
            Credentials::IdentityToken("i".into()),
            "client_id=kaizen grant_type=refresh_token refresh_token=i \
             scope=repository:team/late:pull service=fake",
        ),
        (
            Credentials::password("ann", "secret"),
            "client_id=kaizen grant_type=password password=secret \
             scope=repository:team/late:pull service=fake username=ann",
        ),
    ];
    for (credentials, expected) in cases {
        let tokens = Tokens::start(|request| match request.method.as_str() {
            "POST" => None,
            _ => Some(Reply::status(405)),
        })
        .await;
        let fake = behind(&tokens, valid(&["t1"])).await;
        let (mut options, _) = options();
        options.credentials = Arc::new(credentials);
        assert!(!fake.open(options).contains(&Digest::of("x")).await.unwrap());
        let last = tokens.server.requests().pop().unwrap();
        assert_eq!(form(&last), expected);
        assert!(last.header("authorization").is_none());
    }
}

#[tokio::test]
async fn an_access_token_goes_to_the_registry_as_it_is() {
    let tokens = Tokens::start(|_| None).await;
    let fake = behind(&tokens, valid(&["mine"])).await;
    let (mut options, _) = options();
    options.credentials = Arc::new(Credentials::AccessToken("mine".into()));
    assert!(!fake.open(options).contains(&Digest::of("x")).await.unwrap());
    assert_eq!(tokens.server.requests().len(), 0);
}

#[tokio::test]
async fn a_token_server_that_fails_is_asked_again_and_one_that_refuses_is_not() {
    let failures = AtomicUsize::new(0);
    let tokens = Tokens::start(move |_| {
        (failures.fetch_add(1, Ordering::SeqCst) < 2).then(|| Reply::status(503))
    })
    .await;
    let fake = behind(&tokens, valid(&["t1"])).await;
    let (anonymous, pace) = options();
    assert!(!fake.open(anonymous).contains(&Digest::of("x")).await.unwrap());
    assert_eq!(pace.waited().len(), 2);

    let tokens = Tokens::start(|_| Some(Reply::status(401).body("no, secret"))).await;
    let fake = behind(&tokens, valid(&[])).await;
    let error = fake.open(as_ann()).contains(&Digest::of("x")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(error.to_string().contains("/token"), "{error}");
    assert!(!format!("{error:#}").contains("secret"), "{error:#}");
    assert_eq!(tokens.server.requests().len(), 1);
}

#[tokio::test]
async fn what_proves_us_is_not_shown_to_where_a_blob_is_stored() {
    let content = bytes(1, 1000);
    let digest = Digest::of(&content);
    let stored = content.clone();
    let storage = Server::start(move |_| Reply::status(200).body(stored.clone())).await;
    let to = format!("http://{}/bucket/blob?signature=s3cr3t", storage.address);
    let fake = Fake::start_behind(Choices::default(), move |request| {
        let right = request.header("authorization") == Some(ANN);
        if !right {
            return Some(Reply::status(401).header("www-authenticate", "Basic realm=x"));
        }
        let blob = request.path().contains("/blobs/sha256:");
        blob.then(|| Reply::status(307).header("location", &to))
    })
    .await;
    let registry = fake.open(as_ann());
    assert_eq!(registry.get_blob(&digest).await.unwrap(), content);
    let seen = storage.requests();
    assert!(!seen.is_empty() && seen.iter().all(|one| one.header("authorization").is_none()));
}
