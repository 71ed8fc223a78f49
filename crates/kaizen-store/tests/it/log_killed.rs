//! Two processes that append to one log, killed at random.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use kaizen_core::{Actor, AuditLog, Entry, Event};
use kaizen_store::merkle::verify_consistency;
use kaizen_store::{Ed25519Signer, LocalLog};
use kaizen_testkit::audit_log::entry;

const DIR: &str = "KAIZEN_TEST_KILLED_DIR";
const NAME: &str = "KAIZEN_TEST_KILLED_NAME";
const ROUNDS: u64 = 200;

fn signer() -> Arc<Ed25519Signer> {
    Arc::new(Ed25519Signer::from_seed("kaizen.test/log", [1; 32]).unwrap())
}

async fn open(dir: &Path) -> LocalLog {
    // A small journal, so that publications are cut off too.
    LocalLog::builder(dir, signer()).journal_bytes(32 << 10).open().await.unwrap()
}

fn named(name: &str, number: u64) -> Entry {
    let event = Event::Ran { step: format!("{name} {number}") };
    Entry { actor: Actor::system(name), event, ..entry(number) }
}

/// Appends until it is killed, and says what was acknowledged: the first index and how many.
#[tokio::test]
#[ignore = "a process that the test below starts and kills"]
async fn child() {
    let (Some(dir), Ok(name)) = (std::env::var_os(DIR), std::env::var(NAME)) else { return };
    let log = open(Path::new(&dir)).await;
    let mut out = std::io::stderr();
    for number in 0.. {
        let length = [1, 3, 1, 40][number as usize % 4];
        let entries: Vec<_> = (0..length).map(|_| named(&name, number)).collect();
        let range = log.append(&entries, None).await.unwrap();
        // In one piece, or not at all.
        let line = format!("acknowledged {} {length} {number}\n", range.start);
        out.write_all(line.as_bytes()).unwrap();
    }
}

struct Writer {
    name: String,
    child: Child,
}

impl Writer {
    fn start(dir: &Path, name: String) -> Self {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "log_killed::child", "--ignored", "--nocapture"])
            .env(DIR, dir)
            .env(NAME, &name)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Self { name, child }
    }

    /// Kills it; gives what it had acknowledged: first index, length, number.
    fn kill(mut self) -> (String, Vec<[u64; 3]>) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        let lines = BufReader::new(self.child.stderr.take().unwrap()).lines();
        let mut acknowledged = Vec::new();
        for line in lines.map_while(Result::ok) {
            let Some(rest) = line.strip_prefix("acknowledged ") else {
                panic!("{}: {line}", self.name);
            };
            let numbers: Vec<u64> = rest.split(' ').filter_map(|n| n.parse().ok()).collect();
            acknowledged.extend(<[u64; 3]>::try_from(numbers));
        }
        (self.name, acknowledged)
    }
}

/// What a generator of pseudo-random numbers gives next: the same in every run.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *state >> 33
}

#[tokio::test]
async fn two_processes_that_are_killed_at_random_lose_nothing_that_was_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let mut random = 7;
    let mut old = open(dir.path()).await.checkpoint().await.unwrap();
    let (mut acknowledged, mut cut_off) = (0, 0);
    for round in 0..ROUNDS {
        let start = |half| Writer::start(dir.path(), format!("{round}-{half}"));
        let writers = [start(0), start(1)];
        let mut told = Vec::new();
        for writer in writers {
            // The second one goes on meanwhile.
            std::thread::sleep(Duration::from_millis(8 + next(&mut random) % 20));
            told.push(writer.kill());
        }
        let log = open(dir.path()).await;
        for (name, appends) in told {
            for [first, length, number] in appends {
                let found = log.read(first..first + length).await.unwrap();
                let wanted = named(&name, number);
                assert!(found.iter().all(|entry| *entry == wanted), "{name}: {first}");
                acknowledged += length;
            }
        }
        let head = log.checkpoint().await.unwrap();
        let proof = log.consistency_proof(old.size, head.size).await.unwrap();
        verify_consistency(old.size, head.size, &proof, &old.root, &head.root).unwrap();
        old = head;
        if round % 20 == 0 || round == ROUNDS - 1 {
            let verified = LocalLog::verify(dir.path(), &signer().verifier()).await.unwrap();
            assert_eq!(verified.size, old.size);
            cut_off = verified.size - acknowledged;
        }
    }
    println!("{acknowledged} entries acknowledged, {cut_off} written and not acknowledged");
    assert!(acknowledged > 0);
}
