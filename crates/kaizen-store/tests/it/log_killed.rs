//! Two processes that append to one log, tag and move an alias in it, killed at random.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use kaizen_core::record::{Algorithm, Decision, GateResult, Model, Occurrence};
use kaizen_core::{
    Actor, ArtifactStore, AuditLog, Checkpoint, DataType, Digest, Entry, ErrorKind, Event, Field,
    OperationId, Records, Signature, Timestamp,
};
use kaizen_store::merkle::verify_consistency;
use kaizen_store::{AliasMove, Ed25519Signer, LocalLog, LocalStore, Registry};
use kaizen_testkit::audit_log::entry;

const DIR: &str = "KAIZEN_TEST_KILLED_DIR";
const NAME: &str = "KAIZEN_TEST_KILLED_NAME";
const ROUNDS: u64 = 200;
/// After so many rounds another log is begun: what a process reads first takes time.
const ROUNDS_OF_A_LOG: u64 = 25;
const MODEL: &str = "late";
const ALIAS: &str = "champion";
const VERSIONS: u32 = 3;

fn signer() -> Arc<Ed25519Signer> {
    Arc::new(Ed25519Signer::from_seed("kaizen.test/log", [1; 32]).unwrap())
}

async fn open(dir: &Path) -> LocalLog {
    // A small journal, so that publications are cut off too.
    let builder = LocalLog::builder(dir.join("log"), signer());
    builder.journal_bytes(32 << 10).open().await.unwrap()
}

async fn registry(dir: &Path, log: &LocalLog) -> Registry {
    let store = LocalStore::open(dir.join("store")).await.unwrap();
    Registry::new(Arc::new(store), Arc::new(log.clone()))
}

fn occurrence(name: &str, number: u64) -> Occurrence {
    let at = Timestamp::from_micros(0).plus_seconds(number as i64);
    Occurrence::new(at, Actor::system(name), OperationId::new(&format!("{name} {number}"), at))
}

fn named(name: &str, number: u64) -> Entry {
    let event = Event::Ran { step: format!("{name} {number}") };
    Entry { actor: Actor::system(name), event, ..entry(number) }
}

/// Which decision gives the alias to a version, by the version that holds it.
type Decisions = BTreeMap<(u32, u32), Digest>;

/// Registers models, and decides for each against each; the first holds the alias.
async fn prepare(dir: &Path) -> Decisions {
    let log = open(dir).await;
    let store = LocalStore::open(dir.join("store")).await.unwrap();
    let registry = registry(dir, &log).await;
    let weights = store.put_blob("weights".into()).await.unwrap();
    let mut models = Vec::new();
    for version in 1..=VERSIONS {
        let model = Model {
            name: MODEL.into(),
            training_set: Digest::of("a training set"),
            algorithm: Algorithm { name: "test".into(), settings: BTreeMap::new() },
            seed: version.into(),
            signature: Signature::new(vec![Field::new("miles", DataType::Float64)], vec![])
                .unwrap(),
            service: Digest::of("a service"),
            format: "test".into(),
            weights,
        };
        let model = store.put(&model, &[]).await.unwrap();
        let found = registry.register(MODEL, &model, occurrence("prepare", 0)).await.unwrap();
        assert_eq!(found, version);
        models.push((version, model));
    }
    let gate = GateResult { gate: "auc".into(), passed: true, evidence: "0.7".into() };
    let mut decisions = Decisions::new();
    for (from, champion) in
        std::iter::once((0, None)).chain(models.iter().map(|m| (m.0, Some(m.1))))
    {
        for (to, model) in models.iter().filter(|(to, _)| *to != from) {
            let decision = Decision {
                occurrence: occurrence("prepare", 0),
                model: *model,
                champion,
                evaluation: Digest::of("an evaluation"),
                gates: vec![gate.clone()],
                overridden: None,
            };
            decisions.insert((from, *to), store.put(&decision, &[]).await.unwrap());
        }
    }
    let first = &decisions[&(0, 1)];
    registry.promote(MODEL, ALIAS, 1, first, occurrence("prepare", 0)).await.unwrap();
    let lines = decisions.iter().map(|((from, to), id)| format!("{from} {to} {id}\n"));
    fs::write(dir.join("decisions"), lines.collect::<String>()).unwrap();
    decisions
}

fn decisions_in(dir: &Path) -> Decisions {
    let text = fs::read_to_string(dir.join("decisions")).unwrap();
    let parse = |line: &str| {
        let parts: Vec<_> = line.split(' ').collect();
        ((parts[0].parse().unwrap(), parts[1].parse().unwrap()), parts[2].parse().unwrap())
    };
    text.lines().map(parse).collect()
}

/// Appends, tags and moves the alias until it is killed, and says what was acknowledged.
#[tokio::test]
#[ignore = "a process that the test below starts and kills"]
async fn child() {
    let (Some(dir), Ok(name)) = (std::env::var_os(DIR), std::env::var(NAME)) else { return };
    let dir = Path::new(&dir);
    let decisions = decisions_in(dir);
    let log = open(dir).await;
    let registry = registry(dir, &log).await;
    // In one piece, or not at all.
    let say = |line: String| std::io::stderr().write_all(line.as_bytes()).unwrap();
    say("ready\n".to_owned());
    for number in 0.. {
        match number % 6 {
            2 | 5 => {
                let (value, by) = (number.to_string(), occurrence(&name, number));
                registry.tag(MODEL, None, &name, &value, by).await.unwrap();
                say(format!("tagged {number}\n"));
            }
            3 => {
                let holder = registry.alias(MODEL, ALIAS).await.unwrap().unwrap().version;
                let to = 1 + (holder + number as u32 % (VERSIONS - 1)) % VERSIONS;
                let (decision, by) = (&decisions[&(holder, to)], occurrence(&name, number));
                match registry.promote(MODEL, ALIAS, to, decision, by).await {
                    Ok(_) => say(format!("moved {holder} {to}\n")),
                    // The other one was faster.
                    Err(error) => assert_eq!(error.kind(), ErrorKind::Conflict, "{error}"),
                }
            }
            _ => {
                let length = [1, 3, 1, 20][number as usize % 4];
                let entries: Vec<_> = (0..length).map(|_| named(&name, number)).collect();
                let range = log.append(&entries, None).await.unwrap();
                say(format!("appended {} {length} {number}\n", range.start));
            }
        }
    }
}

struct Writer {
    name: String,
    child: Child,
    said: BufReader<ChildStderr>,
}

/// What a process had acknowledged when it was killed.
#[derive(Default)]
struct Said {
    name: String,
    /// First index, length, number.
    appended: Vec<[u64; 3]>,
    /// The last one.
    tagged: Option<u64>,
    moved: Vec<(u32, u32)>,
}

impl Writer {
    fn start(dir: &Path, name: String) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "log_killed::child", "--ignored", "--nocapture"])
            .env(DIR, dir)
            .env(NAME, &name)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let said = BufReader::new(child.stderr.take().unwrap());
        Self { name, child, said }
    }

    /// Waits until it has opened the log.
    fn ready(&mut self) {
        let mut line = String::new();
        self.said.read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n", "{}", self.name);
    }

    fn kill(mut self) -> Said {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        let mut said = Said { name: self.name, ..Said::default() };
        for line in self.said.lines().map_while(Result::ok) {
            let (what, numbers) = line.split_once(' ').unwrap_or((&line, ""));
            let numbers: Vec<u64> = numbers.split(' ').filter_map(|n| n.parse().ok()).collect();
            match (what, &numbers[..]) {
                ("ready", []) => {}
                ("appended", numbers) => said.appended.extend(<[u64; 3]>::try_from(numbers)),
                ("tagged", [number]) => said.tagged = Some(*number),
                ("moved", [from, to]) => said.moved.push((*from as u32, *to as u32)),
                _ => panic!("{}: {line}", said.name),
            }
        }
        said
    }
}

impl Said {
    fn count(&self) -> usize {
        self.appended.len() + self.moved.len() + usize::from(self.tagged.is_some())
    }

    /// The log holds all of it, and so does the registry that is made from the log.
    async fn is_in(&self, log: &LocalLog, registry: &Registry, decisions: &Decisions) {
        let name = &self.name;
        for [first, length, number] in &self.appended {
            let found = log.read(*first..*first + *length).await.unwrap();
            let wanted = named(name, *number);
            assert!(found.iter().all(|entry| *entry == wanted), "{name}: {first}");
        }
        if let Some(number) = self.tagged {
            let tags = registry.tags(MODEL, None).await.unwrap();
            let value: u64 = tags[name].parse().unwrap();
            // One more may have happened without being acknowledged.
            assert!(value == number || value == number + 3, "{name}: {value} and not {number}");
        }
        let history = registry.history(MODEL, ALIAS).await.unwrap();
        let (round, _) = name.split_once('-').unwrap();
        // If both say the same at once, it happens once.
        let mine: Vec<_> = history
            .iter()
            .filter(|moved| moved.operation.name().split_once('-').is_some_and(|n| n.0 == round))
            .collect();
        for (from, to) in &self.moved {
            let decision = &decisions[&(*from, *to)];
            let found = mine.iter().any(|moved| {
                (moved.from, moved.to.version) == (Some(*from), *to)
                    && moved.evidence.contains(decision)
            });
            assert!(found, "{name}: {from} to {to}");
        }
    }
}

/// Each move goes on from the one before it, and none happened twice.
fn check_history(history: &[AliasMove]) {
    let mut holder = None;
    let mut operations = BTreeSet::new();
    for moved in history {
        assert_eq!(moved.from, holder, "{moved}");
        assert!(operations.insert(&moved.operation), "{moved}");
        holder = Some(moved.to.version);
    }
}

/// What a generator of pseudo-random numbers gives next: the same in every run.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *state >> 33
}

fn two_are_killed(dir: &Path, round: u64, random: &mut u64) -> Vec<Said> {
    let start = |half| Writer::start(dir, format!("{round}-{half}"));
    let mut writers = [start(0), start(1)];
    // Every fourth time at any time, also while it opens the log.
    if !round.is_multiple_of(4) {
        writers.iter_mut().for_each(Writer::ready);
    }
    let mut said = Vec::new();
    for writer in writers {
        // The second one goes on meanwhile.
        std::thread::sleep(Duration::from_millis(2 + next(random) % 20));
        said.push(writer.kill());
    }
    said
}

#[tokio::test]
async fn two_processes_that_are_killed_at_random_lose_nothing_that_was_acknowledged() {
    let mut random = 7;
    let mut acknowledged = Vec::new();
    let mut moves = 0;
    for first in (0..ROUNDS).step_by(ROUNDS_OF_A_LOG as usize) {
        let scratch = tempfile::tempdir().unwrap();
        let dir = scratch.path();
        let decisions = prepare(dir).await;
        let mut old: Option<Checkpoint> = None;
        for round in first..first + ROUNDS_OF_A_LOG {
            let said = two_are_killed(dir, round, &mut random);
            fs::write(dir.join("log/.1-0.tmp"), "half of a checkpoint").unwrap();
            let log = open(dir).await;
            let mut left = fs::read_dir(log.dir()).unwrap().map(|entry| entry.unwrap().file_name());
            let draft = left.find(|name| name.to_str().unwrap().ends_with(".tmp"));
            assert_eq!(draft, None, "what was begun is cleared away");
            let registry = registry(dir, &log).await;
            for said in &said {
                said.is_in(&log, &registry, &decisions).await;
                moves += said.moved.len();
                acknowledged.push(said.count());
            }
            check_history(&registry.history(MODEL, ALIAS).await.unwrap());
            let head = log.checkpoint().await.unwrap();
            if let Some(old) = old {
                let proof = log.consistency_proof(old.size, head.size).await.unwrap();
                verify_consistency(old.size, head.size, &proof, &old.root, &head.root).unwrap();
            }
            if round % 5 == 4 {
                let verified = LocalLog::verify(log.dir(), log.key()).await.unwrap();
                assert_eq!(verified.size, head.size);
            }
            old = Some(head);
        }
    }
    let at_work = acknowledged.iter().filter(|count| **count > 0).count();
    let total: usize = acknowledged.iter().sum();
    println!("{total} acknowledged, {moves} of them moves, by {at_work} of {}", acknowledged.len());
    assert!(3 * at_work > acknowledged.len() && moves > 5);
}
