//! Online features in Redis, on a server that we did not write.
//!
//! `KAIZEN_REDIS_URL` names one, such as `redis://127.0.0.1:6379`; without it, and without a
//! `redis-server` to start, the tests say so and pass.
#![allow(clippy::print_stdout, clippy::panic, reason = "a test that is skipped says so")]

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use kaizen_core::{Bytes, ErrorKind, Silent};
use kaizen_data::{MemoryOnlineStore, MemorySource, Online, RedisOnlineStore, open_online};
use kaizen_table::{OnlineEntry, OnlineStore};
use kaizen_testkit::judge;
use kaizen_testkit::online_store::{same, suite};

use crate::online::{S, events, request, second, service, view};

/// A part of the server for one test, which is emptied when the test is over.
async fn store(test: &str) -> Option<RedisOnlineStore> {
    let url = judge::variable("KAIZEN_REDIS_URL")?;
    let prefix = format!("kaizen-test-{}-{test}", std::process::id());
    let store = RedisOnlineStore::open(&format!("{url}?prefix={prefix}")).await.unwrap();
    clear(&store).await;
    Some(store)
}

async fn clear(store: &RedisOnlineStore) {
    for space in store.spaces().await.unwrap() {
        let mut after = None;
        loop {
            let page = store.page(&space, after.as_ref(), 1_000).await.unwrap();
            let remove = |(key, _)| OnlineEntry { space: space.clone(), key, value: None };
            store.put(page.entries.into_iter().map(remove).collect()).await.unwrap();
            after = page.next;
            if after.is_none() {
                break;
            }
        }
    }
}

fn entry(key: String, value: &[u8]) -> OnlineEntry {
    let value = Some(Bytes::copy_from_slice(value));
    OnlineEntry { space: "s".to_owned(), key: key.into(), value }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_conforms() {
    let Some(store) = store("conforms").await else { return };
    suite(&store).await;
    clear(&store).await;
    assert!(store.spaces().await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_takes_more_than_one_command_at_once() {
    let Some(store) = store("large").await else { return };
    let entries: Vec<OnlineEntry> =
        (0..25_000).map(|n| entry(n.to_string(), n.to_string().as_bytes())).collect();
    store.put(entries.clone()).await.unwrap();
    let large = vec![1; 3 << 20];
    store.put((0..4).map(|n| entry(format!("large {n}"), &large)).collect()).await.unwrap();
    let keys: Vec<Bytes> = entries.iter().map(|entry| entry.key.clone()).collect();
    let found = store.get("s", &keys).await.unwrap();
    assert!(found.iter().zip(&entries).all(|(found, entry)| *found == entry.value));
    let found = store.get("s", &[Bytes::from("large 3")]).await.unwrap();
    assert_eq!(found, [Some(Bytes::from(large))]);
    clear(&store).await;
}

/// Two clients write and read at the same time: a reader sees all of a write, or nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_shows_two_clients_whole_writes() {
    let Some(one) = store("two").await else { return };
    let Some(other) = store("two").await else { return };
    let (one, other) = (Arc::new(one), Arc::new(other));
    let keys: Vec<Bytes> = (0..3_000).map(|n: u32| n.to_string().into()).collect();
    let write = |store: Arc<RedisOnlineStore>, name: &'static str| async move {
        for round in 0..20 {
            let value = format!("{name} {round}");
            let entries = (0..3_000).map(|n| entry(n.to_string(), value.as_bytes())).collect();
            store.put(entries).await.unwrap();
        }
    };
    let read = |store: Arc<RedisOnlineStore>, keys: Vec<Bytes>| async move {
        for _ in 0..40 {
            let found = store.get("s", &keys).await.unwrap();
            assert!(found.windows(2).all(|pair| pair[0] == pair[1]), "half a write");
        }
    };
    let tasks = [
        tokio::spawn(write(Arc::clone(&one), "one")),
        tokio::spawn(write(Arc::clone(&other), "other")),
        tokio::spawn(read(Arc::clone(&one), keys.clone())),
        tokio::spawn(read(Arc::clone(&other), keys)),
    ];
    for task in tasks {
        task.await.unwrap();
    }
    clear(&one).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_answers_like_memory() {
    let Some(redis) = store("answers").await else { return };
    let (redis, memory) = (Arc::new(redis), Arc::new(MemoryOnlineStore::default()));
    let source = MemorySource::new("s", events(50));
    let asked = request(vec![7, 8], 40 * S);
    let mut answers = Vec::new();
    for store in [Arc::clone(&redis) as Arc<dyn OnlineStore>, Arc::clone(&memory) as _] {
        let online = Online::new(store).rows_per_write(10);
        online.materialize(&view(), &source, second(40), &Silent).await.unwrap();
        answers.push(online.features(&service(view()), &asked, "at").await.unwrap());
    }
    assert_eq!(answers[0], answers[1]);
    same(memory.as_ref(), redis.as_ref()).await;
    clear(&redis).await;
}

/// A server of this test alone.
struct Server {
    child: Child,
    port: u16,
}

impl Server {
    fn start(folder: &std::path::Path, port: u16) -> Option<Self> {
        let child = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--requirepass", "hush"])
            .args(["--save", "", "--appendonly", "yes", "--appendfsync", "always", "--dir"])
            .arg(folder)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Some(Self { child: child.ok()?, port })
    }

    async fn open(&self) -> Arc<dyn OnlineStore> {
        let url = format!("redis://:hush@127.0.0.1:{}", self.port);
        for _ in 0..200 {
            if let Ok(store) = open_online(&url).await {
                return store;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("the server of the test does not answer");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_that_goes_away_is_unavailable_and_is_found_again() {
    let folder = tempfile::tempdir().unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let Some(server) = Server::start(folder.path(), port) else {
        judge::absent("there is no redis-server to start");
        return;
    };
    let store = server.open().await;
    let wrong = open_online(&format!("redis://:guessed@127.0.0.1:{port}")).await.unwrap_err();
    assert_eq!(wrong.kind(), ErrorKind::Refused, "{wrong:?}");
    assert!(!format!("{wrong:?}").contains("guessed"), "{wrong:?}");

    let online = Online::new(Arc::clone(&store)).rows_per_write(10);
    let source = MemorySource::new("s", events(50));
    let asked = request(vec![7], 20 * S);
    online.materialize(&view(), &source, second(20), &Silent).await.unwrap();
    let before = online.features(&service(view()), &asked, "at").await.unwrap();
    drop(server);
    let error = online.features(&service(view()), &asked, "at").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    assert!(error.to_string().contains(&format!("`redis://127.0.0.1:{port}/0`")), "{error}");
    assert!(!format!("{error:?}").contains("hush"), "{error:?}");
    let error = online.materialize(&view(), &source, second(40), &Silent).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");

    let server = Server::start(folder.path(), port).unwrap();
    server.open().await;
    assert_eq!(online.features(&service(view()), &asked, "at").await.unwrap(), before);
    online.materialize(&view(), &source, second(40), &Silent).await.unwrap();

    // Between two writes: the held connection is dead, and the write is made on a new one.
    drop(server);
    let server = Server::start(folder.path(), port).unwrap();
    server.open().await;
    online.materialize(&view(), &source, second(49), &Silent).await.unwrap();
    let memory = Arc::new(MemoryOnlineStore::default());
    let expected = Online::new(Arc::clone(&memory) as Arc<dyn OnlineStore>);
    for until in [20, 40, 49] {
        expected.materialize(&view(), &source, second(until), &Silent).await.unwrap();
    }
    same(memory.as_ref(), store.as_ref()).await;
}
