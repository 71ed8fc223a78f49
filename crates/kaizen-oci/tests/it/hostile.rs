//! Registries that lie, never end, or lead astray. Each is refused for what it does.

mod manifests;

use std::sync::Arc;
use std::time::Duration;

use kaizen_core::{ArtifactStore, Digest, ErrorKind, Records, stream};
use kaizen_oci::{Credentials, Options, RemoteRegistry};
use kaizen_testkit::artifact_store::release;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::fake::{Choices, Fake};
use crate::server::{Reply, Request, Server};
use crate::support::{bytes, options};

async fn against(
    reply: impl Fn(&Request) -> Reply + Send + Sync + 'static,
) -> (Server, RemoteRegistry) {
    against_with(options().0, reply).await
}

async fn against_with(
    options: Options,
    reply: impl Fn(&Request) -> Reply + Send + Sync + 'static,
) -> (Server, RemoteRegistry) {
    let server = Server::start(reply).await;
    let registry = RemoteRegistry::open(&format!("{}/team/late", server.address), options);
    (server, registry.unwrap())
}

fn raw(text: &str) -> Reply {
    Reply::Raw(text.as_bytes().to_vec())
}

fn endless(head: &str, unit: &str) -> Reply {
    Reply::Endless(head.as_bytes().to_vec(), unit.as_bytes().to_vec())
}

async fn read(registry: &RemoteRegistry, digest: &Digest) -> kaizen_core::Result<()> {
    let pieces = registry.get_stream(digest).await?;
    stream::whole(pieces, 1 << 30, "a blob").await.map(|_| ())
}

#[tokio::test]
async fn other_bytes_than_were_asked_for_are_corrupt() {
    let content = bytes(1, 100_000);
    let digest = Digest::of(&content);
    let mut other = content.to_vec();
    other[70_000] ^= 1;
    let longer = [&content[..], b"!"].concat();
    let shorter = content[..99_999].to_vec();
    for lie in [other.clone(), longer.clone(), shorter, Vec::new()] {
        let (_server, registry) = against(move |_| Reply::status(200).body(lie.clone())).await;
        assert_eq!(read(&registry, &digest).await.unwrap_err().kind(), ErrorKind::Corrupt);
        let error = registry.get_blob(&digest).await.unwrap_err();
        assert!(error.to_string().contains(&digest.hex()), "{error}");
    }
    // In chunks, of which nobody says how many there are.
    let mut chunked = b"HTTP/1.1 200 X\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    chunked.extend(format!("{:x}\r\n", other.len()).bytes());
    chunked.extend(other);
    chunked.extend(b"\r\n0\r\n\r\n");
    let (_server, registry) = against(move |_| Reply::Raw(chunked.clone())).await;
    assert_eq!(read(&registry, &digest).await.unwrap_err().kind(), ErrorKind::Corrupt);
}

#[tokio::test]
async fn a_wrong_digest_in_a_header_is_found_before_anything_travels() {
    let digest = Digest::of("x");
    for said in [Digest::of("y").to_string(), "sha256:..".into(), "\u{1b}[2J".into()] {
        let (server, registry) = against(move |_| {
            Reply::status(200).header("docker-content-digest", said.clone()).body("x")
        })
        .await;
        for result in [read(&registry, &digest).await, registry.size_of(&digest).await.map(|_| ())]
        {
            assert_eq!(result.unwrap_err().kind(), ErrorKind::Corrupt);
        }
        assert_eq!(server.requests().len(), 2);
    }
}

#[tokio::test]
async fn a_length_that_lies_is_found() {
    let content = bytes(2, 1_000);
    let digest = Digest::of(&content);
    // Promises more than it has, always: after a few attempts it is given up.
    let body = content.clone();
    let (_server, registry) = against(move |request| match request.header("range") {
        None => Reply::Raw([b"HTTP/1.1 200 X\r\ncontent-length: 2000\r\n\r\n", &body[..]].concat()),
        Some(_) => raw(
            "HTTP/1.1 206 X\r\ncontent-range: bytes 1000-1999/2000\r\ncontent-length: 1000\r\n\r\n",
        ),
    })
    .await;
    assert_eq!(read(&registry, &digest).await.unwrap_err().kind(), ErrorKind::Unavailable);
    for bad in ["-1", "99999999999999999999", "5, 6", "x"] {
        let text = format!("HTTP/1.1 200 X\r\ncontent-length: {bad}\r\n\r\nhello");
        let (_server, registry) = against(move |_| raw(&text)).await;
        let kind = read(&registry, &digest).await.unwrap_err().kind();
        assert!([ErrorKind::Corrupt, ErrorKind::Unavailable].contains(&kind), "{bad}: {kind:?}");
    }
    let (_server, registry) = against(|_| raw("HTTP/1.1 200 X\r\n\r\n")).await;
    assert_eq!(registry.size_of(&digest).await.unwrap_err().kind(), ErrorKind::Unsupported);
}

#[tokio::test]
async fn another_part_than_was_asked_for_is_corrupt() {
    let content = bytes(3, 1_000);
    let digest = Digest::of(&content);
    for said in ["bytes 0-999/1000", "bytes 600-999/1001", "bytes x", "bytes 999-600/1000"] {
        let body = content.clone();
        let (_server, registry) = against(move |request| match request.header("range") {
            None => {
                let head = b"HTTP/1.1 200 X\r\ncontent-length: 1000\r\n\r\n";
                Reply::Raw([&head[..], &body[..500]].concat())
            }
            Some(_) => Reply::status(206).header("content-range", said).body(&body[500..]),
        })
        .await;
        assert_eq!(
            read(&registry, &digest).await.unwrap_err().kind(),
            ErrorKind::Corrupt,
            "{said}"
        );
    }
}

#[tokio::test]
async fn a_registry_that_ignores_the_range_is_read_over() {
    let content = bytes(4, 200_000);
    let digest = Digest::of(&content);
    let body = content.clone();
    let (server, registry) = against(move |request| match request.header("range") {
        None => {
            let head = b"HTTP/1.1 200 X\r\ncontent-length: 200000\r\n\r\n";
            Reply::Raw([&head[..], &body[..123_456]].concat())
        }
        Some(_) => Reply::status(200).body(body.clone()),
    })
    .await;
    read(&registry, &digest).await.unwrap();
    let range = server.requests().pop().unwrap().header("range").map(str::to_owned);
    assert_eq!(range.as_deref(), Some("bytes=123456-"));
}

#[tokio::test]
async fn bodies_without_end_are_left() {
    let digest = Digest::of("x");
    let chunked = "HTTP/1.1 200 X\r\ncontent-type: application/vnd.oci.image.manifest.v1+json\r\n\
                   transfer-encoding: chunked\r\n\r\n";
    let unit = format!("10000\r\n{}\r\n", "x".repeat(65_536));
    let (mut small, _) = options();
    small.max_blob_bytes = 10 << 20;
    let (_server, registry) = against_with(small, move |_| endless(chunked, &unit)).await;
    let cases = [
        read(&registry, &digest).await,
        registry.tags().await.map(|_| ()),
        registry.get_tag("v1").await.map(|_| ()),
        registry.referrers(&digest).await.map(|_| ()),
    ];
    for (number, result) in cases.into_iter().enumerate() {
        assert_eq!(result.unwrap_err().kind(), ErrorKind::Limit, "case {number}");
    }
    let huge = "HTTP/1.1 200 X\r\ncontent-length: 99999999999\r\n\r\n";
    let (mut small, _) = options();
    small.max_blob_bytes = 10 << 20;
    let (_server, registry) = against_with(small, move |_| raw(huge)).await;
    assert_eq!(read(&registry, &digest).await.unwrap_err().kind(), ErrorKind::Limit);
    assert_eq!(registry.tags().await.unwrap_err().kind(), ErrorKind::Limit);
}

#[tokio::test]
async fn headers_without_end_and_what_is_no_http_are_left() {
    let digest = Digest::of("x");
    let cases = [
        endless(
            "HTTP/1.1 200 X\r\n",
            "x: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n",
        ),
        endless(
            "HTTP/1.1 200 X\r\nx: ",
            "yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy",
        ),
        raw("SSH-2.0-OpenSSH_9.2\r\n"),
        raw("HTTP/1.1 abc\r\n\r\n"),
        raw("HTTP/1.1 200 X\r\na b: c\r\n\r\n"),
        raw(""),
    ];
    for (number, reply) in cases.into_iter().enumerate() {
        let (server, registry) = against(move |_| reply.clone()).await;
        let kind = registry.contains(&digest).await.unwrap_err().kind();
        assert!([ErrorKind::Corrupt, ErrorKind::Unavailable].contains(&kind), "case {number}");
        assert!(server.requests().len() <= 4, "case {number}");
    }
}

#[tokio::test]
async fn a_server_that_says_nothing_is_left_in_time() {
    let digest = Digest::of("x");
    let half = "HTTP/1.1 200 X\r\ncontent-length: 10\r\n\r\nhalf";
    for reply in [Reply::Silence, raw(half)] {
        let (mut hasty, _) = options();
        hasty.stall = Duration::from_millis(50);
        hasty.retry.attempts = 2;
        let (_server, registry) = against_with(hasty, move |_| reply.clone()).await;
        let error = read(&registry, &digest).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
    }
}

/// A byte at a time, each before the connection would count as stalled.
#[tokio::test]
async fn a_server_that_says_a_byte_now_and_then_is_left_in_time() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let _ = stream.read(&mut [0; 4_096]).await;
                let head = "HTTP/1.1 200 X\r\ncontent-length: 10000\r\n\r\n";
                let mut sent = stream.write_all(head.as_bytes()).await;
                while sent.is_ok() {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    sent = stream.write_all(b"x").await;
                }
            });
        }
    });
    let (mut hasty, _) = options();
    hasty.stall = Duration::from_millis(400);
    hasty.retry.attempts = 2;
    let registry = RemoteRegistry::open(&format!("{address}/team/late"), hasty).unwrap();
    let digest = Digest::of("x");
    let read = tokio::time::timeout(Duration::from_secs(30), read(&registry, &digest)).await;
    let error = read.expect("it is left").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("stalls"), "{error}");
    let tags = tokio::time::timeout(Duration::from_secs(30), registry.tags()).await;
    assert_eq!(tags.expect("it is left").unwrap_err().kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn redirects_end_and_do_not_lead_astray() {
    let digest = Digest::of("x");
    let (server, registry) =
        against(|r| Reply::status(307).header("location", r.target.clone() + "1")).await;
    assert_eq!(registry.contains(&digest).await.unwrap_err().kind(), ErrorKind::Limit);
    assert_eq!(server.requests().len(), 6, "five redirects");
    let bad = [
        "http://203.0.113.1/x",
        "file:///etc/passwd",
        "ftp://127.0.0.1/x",
        "/v2/../../admin",
        "/v2/%2e%2e/admin",
        "http://user:password@127.0.0.1/x",
        "//",
        "x y",
    ];
    for to in bad {
        let (server, registry) = against(move |_| Reply::status(302).header("location", to)).await;
        assert_eq!(
            registry.contains(&digest).await.unwrap_err().kind(),
            ErrorKind::Refused,
            "{to}"
        );
        assert_eq!(server.requests().len(), 1, "{to}");
    }
    let (_server, registry) = against(|_| Reply::status(302)).await;
    assert_eq!(registry.contains(&digest).await.unwrap_err().kind(), ErrorKind::Corrupt);
    let (server, registry) = against(|request| match request.method.as_str() {
        "POST" => Reply::status(307).header("location", "/elsewhere"),
        _ => Reply::status(404),
    })
    .await;
    assert_eq!(registry.put_blob("x".into()).await.unwrap_err().kind(), ErrorKind::Refused);
    assert!(!server.lines().iter().any(|line| line.contains("elsewhere")), "what is written stays");
}

#[tokio::test]
async fn an_upload_is_not_sent_where_it_may_not_go() {
    let bad = [
        "/v2/team/late/blobs/uploads/../../../other/x",
        "http://203.0.113.1/x",
        "..%2fx",
        "https://u:p@storage.example/x",
        &"x".repeat(9_000),
    ];
    for to in bad {
        let location = to.to_owned();
        let (server, registry) = against(move |request| match request.method.as_str() {
            "POST" => Reply::status(202).header("location", location.clone()),
            _ => Reply::status(404),
        })
        .await;
        let error = registry.put_blob("x".into()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused, "{to}");
        assert!(!server.lines().iter().any(|line| line.starts_with("PUT")), "{to}");
    }
}

#[tokio::test]
async fn a_registry_that_lies_about_an_upload_is_found_out() {
    let large = bytes(5, 200_000);
    for (range, kind) in [
        ("0-999999999", ErrorKind::Corrupt),
        ("0-18446744073709551615", ErrorKind::Corrupt),
        ("0-0", ErrorKind::Limit),
    ] {
        let taken = std::sync::atomic::AtomicUsize::new(0);
        let (server, registry) = against(move |request| match request.method.as_str() {
            "POST" => Reply::status(202).header("location", "/up"),
            "PATCH" => {
                // A byte at a time, where it says that it takes any.
                let has = taken.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                let range = if range == "0-0" { format!("0-{has}") } else { range.to_owned() };
                Reply::status(202).header("location", "/up").header("range", range)
            }
            _ => Reply::status(404),
        })
        .await;
        let error = registry.put_blob(large.clone()).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{range}: {error}");
        assert!(server.requests().len() < 100, "{range}");
    }
    // It says that it has the blob, under another digest.
    let (_server, registry) = against(|request| match request.method.as_str() {
        "POST" => Reply::status(202).header("location", "/up"),
        "PUT" => Reply::status(201).header("docker-content-digest", Digest::of("y").to_string()),
        _ => Reply::status(404),
    })
    .await;
    assert_eq!(registry.put_blob("x".into()).await.unwrap_err().kind(), ErrorKind::Corrupt);
}

#[tokio::test]
async fn lists_without_end_are_left_and_lists_of_others_are_not_read() {
    let page = |tags: serde_json::Value, link: &str| {
        let body = json!({"name": "x", "tags": tags}).to_string();
        Reply::status(200).header("link", link).body(body)
    };
    let (server, registry) = against(move |request| {
        let last = request.query("last").map_or(0, |last| last.parse::<u64>().unwrap());
        let link = format!("<{}?last={}>; rel=next", request.path(), last + 1);
        page(json!([format!("t{last}")]), &link)
    })
    .await;
    assert_eq!(registry.tags().await.unwrap_err().kind(), ErrorKind::Limit);
    assert_eq!(server.requests().len(), 1_000);
    let cases = [
        ("<?n=1000>; rel=next", ErrorKind::Limit),
        ("</v2/other/secret/tags/list?last=x>; rel=next", ErrorKind::Refused),
        ("<http://203.0.113.1/v2/team/late/tags/list>; rel=next", ErrorKind::Refused),
        ("</v2/team/late/../x/tags/list>; rel=next", ErrorKind::Refused),
        ("<x; rel=next", ErrorKind::Corrupt),
    ];
    for (link, kind) in cases {
        let (_server, registry) = against(move |_| page(json!(["a"]), link)).await;
        assert_eq!(registry.tags().await.unwrap_err().kind(), kind, "{link}");
    }
    for tags in [json!(["../../x"]), json!([1]), json!("a"), json!([""]), json!(["a\u{1b}[2J"])] {
        let (_server, registry) = against(move |_| page(tags.clone(), "")).await;
        let error = registry.tags().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(!format!("{error:#}").contains('\u{1b}'), "{error:#}");
    }
}

#[tokio::test]
async fn challenges_lead_to_no_secret_being_told() {
    let digest = Digest::of("x");
    let long = format!("Bearer realm=\"{}\"", "x".repeat(20_000));
    let many = "Basic realm=x, ".repeat(20);
    let cases = [
        ("Bearer realm=\"http://203.0.113.1/token\"", ErrorKind::Refused),
        ("Bearer realm=\"file:///etc/passwd\"", ErrorKind::Refused),
        ("Bearer realm=\"https://u:p@x.example/\"", ErrorKind::Refused),
        ("Bearer service=x", ErrorKind::Unsupported),
        ("Digest realm=x", ErrorKind::Unsupported),
        ("Bearer realm=\"x", ErrorKind::Corrupt),
        (&long, ErrorKind::Corrupt),
        (&many, ErrorKind::Corrupt),
    ];
    for (challenge, kind) in cases {
        let (mut known, _) = options();
        known.credentials = Arc::new(Credentials::password("ann", "secret"));
        let challenge = challenge.to_owned();
        let (server, registry) = against_with(known, move |_| {
            Reply::status(401).header("www-authenticate", challenge.clone())
        })
        .await;
        let error = registry.contains(&digest).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(server.requests().iter().all(|one| one.header("authorization").is_none()));
    }
    // The token server is the registry: it is asked twice, and then nothing more.
    let (mut known, _) = options();
    known.credentials = Arc::new(Credentials::password("ann", "secret"));
    let (server, registry) = against_with(known, |request| match request.path() {
        "/token" => Reply::status(200).body("{\"token\":\"x\"}"),
        _ => {
            let realm =
                format!("Bearer realm=\"http://{}/token\"", request.header("host").unwrap());
            Reply::status(401).header("www-authenticate", realm)
        }
    })
    .await;
    assert_eq!(registry.contains(&digest).await.unwrap_err().kind(), ErrorKind::Refused);
    assert!(server.requests().len() <= 5);
}

#[tokio::test]
async fn a_refusal_is_shown_without_what_could_fool_a_terminal() {
    let body = json!({"errors": [
        {"code": "DENIED\u{1b}[2J", "message": "x\ny".repeat(1_000), "detail": {"a": 1}},
    ]});
    let (_server, registry) = against(move |_| Reply::status(403).body(body.to_string())).await;
    let error = registry.tags().await.unwrap_err();
    let text = format!("{error:#}");
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(text.contains("DENIED") && text.len() < 1_000, "{text}");
    assert!(!text.chars().any(char::is_control), "{text}");
}

/// Whatever a registry answers at any time, a call ends with an error or with the right bytes.
#[tokio::test]
async fn no_answer_makes_a_client_panic_hang_or_believe() {
    let odd = |random: &mut ChaCha8Rng| {
        let statuses = [100, 101, 200, 201, 202, 204, 206, 301, 307, 400, 401, 404, 416, 429, 500];
        let mut reply = Reply::status(*statuses.choose(random).unwrap());
        let names = [
            "location",
            "link",
            "range",
            "content-range",
            "www-authenticate",
            "retry-after",
            "docker-content-digest",
            "content-type",
            "etag",
            "oci-subject",
            "oci-chunk-min-length",
        ];
        let values = [
            "",
            "x",
            "0-0",
            "bytes 0-1/2",
            "/v2/x",
            "<x>; rel=next",
            "Basic",
            "Bearer realm=x",
            "9",
            "application/vnd.oci.image.index.v1+json",
            "application/vnd.oci.image.manifest.v1+json",
            "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "\"",
        ];
        let bodies = ["", "{}", "[]", "{\"tags\":[]}", "{\"schemaVersion\":2,\"manifests\":[{}]}"];
        for _ in 0..random.random_range(0..4) {
            reply = reply.header(names.choose(random).unwrap(), *values.choose(random).unwrap());
        }
        reply.body(*bodies.choose(random).unwrap())
    };
    for seed in 0..60_u64 {
        let random = std::sync::Mutex::new(ChaCha8Rng::seed_from_u64(seed));
        // Some answers are right, so that the client gets further.
        let fake = Fake::start_behind(Choices { page: Some(1), ..Choices::default() }, move |_| {
            let mut random = random.lock().unwrap();
            random.random_bool(0.3).then(|| odd(&mut random))
        })
        .await;
        let (mut hasty, _) = options();
        hasty.stall = Duration::from_secs(2);
        let store = fake.open(hasty);
        let content = bytes(seed, 150_000);
        let digest = Digest::of(&content);
        let work = async {
            if let Ok(put) = store.put_blob(content.clone()).await {
                assert_eq!(put, digest, "seed {seed}");
            }
            if let Ok(got) = store.get_blob(&digest).await {
                assert_eq!(got, content, "seed {seed}");
            }
            if let Ok(id) = store.put(&release(15), &[]).await {
                let _ = store.put_tag("v1", &id).await;
                let _ = store.referrers(&id).await;
            }
            let _ = store.get_tag("v1").await;
            let _ = store.tags().await;
        };
        tokio::time::timeout(Duration::from_secs(60), work).await.expect("it ends");
    }
}
