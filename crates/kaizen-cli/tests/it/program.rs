use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kaizen_core::record::{Occurrence, Release};
use kaizen_core::{
    Actor, AuditLog as _, Digest, Entry, Event, OperationId, Payload, Records as _, Signer as _,
    Timestamp,
};
use kaizen_store::{Ed25519Signer, LocalLog, LocalStore, LogSigners, WitnessKey, WitnessPolicy};
use kaizen_testkit::{Story, judge, story};
use serde_json::Value;

/// A store and a log with the history of `kaizen_testkit::story`, on disk.
struct Place {
    dir: tempfile::TempDir,
    key: String,
    story: Story,
}

impl Place {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = LocalStore::open(dir.path().join("store")).await.unwrap();
        let signer = Ed25519Signer::from_seed("example.com/models", [7; 32]).unwrap();
        let key = signer.verifier().to_string();
        let log = LocalLog::open(dir.path().join("log"), Arc::new(signer)).await.unwrap();
        let story = story(&store, &log).await.unwrap();
        assert_eq!(log.size().await.unwrap(), 22);
        Self { dir, key, story }
    }

    /// Its log, to be written to.
    async fn log(&self) -> LocalLog {
        let signer = Ed25519Signer::from_seed("example.com/models", [7; 32]).unwrap();
        LocalLog::open(self.dir.path().join("log"), Arc::new(signer)).await.unwrap()
    }

    /// Enters as many versions of the name `many`.
    async fn register(&self, versions: u32) -> LocalLog {
        let log = self.log().await;
        let entries = (1..=versions).map(|version| {
            let Occurrence { at, actor, operation } = later();
            let event = Event::Registered { name: "many".into(), version };
            let subject = Digest::of(version.to_string());
            Entry { at, actor, operation, event, subject, evidence: vec![] }
        });
        log.append(&entries.collect::<Vec<_>>(), None).await.unwrap();
        log
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kaizen"));
        command.current_dir(self.dir.path()).env("KAIZEN_KEY", &self.key).args(arguments);
        command.env_remove("KAIZEN_STORE").env_remove("KAIZEN_LOG");
        command
    }

    fn text(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let arguments = [arguments, &["--json"]].concat();
        serde_json::from_str(&self.text(&arguments)).unwrap()
    }

    /// The exit code and what was said of it.
    fn refused(&self, arguments: &[&str]) -> (i32, String) {
        let output = self.command(arguments).output().unwrap();
        assert!(!output.status.success(), "{arguments:?}");
        (output.status.code().unwrap(), stderr(&output))
    }
}

fn later() -> Occurrence {
    let at = Timestamp::from_micros(1_370_000_000_000_000);
    Occurrence::new(at, Actor::person("ada"), OperationId::new("later", at))
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn flip(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

#[tokio::test]
async fn a_log_is_verified_with_its_public_key_alone() {
    let place = Place::new().await;
    let text = place.text(&["log", "verify"]);
    assert!(
        text.contains("entries  22\n") && text.contains("verified, to the last byte"),
        "{text}"
    );
    let json = place.json(&["log", "verify"]);
    assert_eq!((&json["origin"], &json["size"]), (&"example.com/models".into(), &"22".into()));
    // The key may stand in a file.
    std::fs::write(place.dir.path().join("key.pub"), format!("{}\n", place.key)).unwrap();
    assert_eq!(place.text(&["log", "verify", "--key", "key.pub"]), text);

    let other = Ed25519Signer::from_seed("example.com/models", [8; 32]).unwrap().verifier();
    let (code, said) = place.refused(&["log", "verify", "--key", &other.to_string()]);
    assert!(code == 1 && said.contains("checkpoint"), "{said}");
    let mut none = place.command(&["log", "verify"]);
    let said = stderr(&none.env_remove("KAIZEN_KEY").output().unwrap());
    assert!(said.contains("give --key or KAIZEN_KEY"), "{said}");
    let (_, said) = place.refused(&["log", "show", "--log", "nowhere"]);
    assert!(said.contains("log nowhere: there is none"), "{said}");
    assert!(!place.dir.path().join("nowhere").exists(), "looking makes nothing");
}

#[tokio::test]
async fn a_log_that_was_pruned_says_of_how_many_entries() {
    let place = Place::new().await;
    assert_eq!(place.json(&["log", "verify"])["pruned"], "0");
    assert!(place.text(&["log", "verify"]).contains("pruned   none\n"));
    let log = place.register(600).await;
    log.publish().await.unwrap();
    log.prune(256, &later()).await.unwrap();
    let json = place.json(&["log", "verify"]);
    assert_eq!((&json["size"], &json["pruned"]), (&"623".into(), &"256".into()));
    let text = place.text(&["log", "verify"]);
    assert!(text.contains("pruned   the first 256; their hashes are there\n"), "{text}");
}

#[tokio::test]
async fn a_list_for_programs_is_never_cut_unless_that_is_asked_for() {
    let place = Place::new().await;
    place.register(1_001).await;
    let count = |more: &[&str]| {
        let found = place.json(&[&["models", "many"], more].concat());
        found.as_array().unwrap().len()
    };
    assert_eq!((count(&[]), count(&["--limit", "1000"])), (1_001, 1_000));
    let text = place.text(&["models", "many"]);
    assert!(text.contains("there are more: these are the first 1000; see --limit"), "{text}");
}

#[tokio::test]
async fn a_log_that_lost_its_checkpoint_is_not_taken_for_none() {
    let place = Place::new().await;
    let id = place.story.models[1].hex();
    let checkpoint = place.dir.path().join("log/checkpoint");
    std::fs::rename(&checkpoint, place.dir.path().join("gone")).unwrap();
    let (code, said) = place.refused(&["lineage", &id]);
    assert!(code == 1 && said.contains("log log: there is none"), "{said}");
    let without = place.text(&["lineage", &id, "--without-log"]);
    // A folder in which there is nothing is no log, and a file is none either.
    std::fs::create_dir(place.dir.path().join("empty")).unwrap();
    assert_eq!(place.text(&["lineage", &id, "--log", "empty"]), without);
    let (code, said) = place.refused(&["lineage", &id, "--log", "gone"]);
    assert!(code == 1 && said.contains("log gone: it cannot be looked into"), "{said}");
}

#[tokio::test]
async fn entries_are_shown_in_lines_that_people_can_read() {
    let place = Place::new().await;
    let text = place.text(&["log", "show", "--type", "alias_moved"]);
    let lines: Vec<_> = text.lines().collect();
    assert!(lines[0].starts_with("entry  when (UTC)") && lines.len() == 3, "{text}");
    let lines = &lines[1..];
    let [first, second] = place.story.models.map(|id| id.short());
    assert!(lines[0].contains(&first) && lines[0].contains("OVERRIDE: the gate counts"), "{text}");
    assert!(lines[1].contains(&second) && lines[1].contains("from 1 to 2, promotion"), "{text}");
    let person = lines[0].find(Story::PERSON).unwrap();
    assert_eq!(lines[1].find("cycle"), Some(person), "columns stand below each other:\n{text}");
    assert!(lines[0].contains("2013-03-02 00:00:00"), "{text}");
    assert!(!text.contains('\u{1b}'), "no colour where there is no terminal");
    assert!(place.text(&["log", "show", "--color", "always"]).contains("\u{1b}["));

    let last = place.json(&["log", "show", "--count", "2"]);
    assert_eq!(last[1]["entry"]["event"]["type"], "retrain_abandoned");
    assert_eq!((last.as_array().unwrap().len(), &last[1]["index"]), (2, &"21".into()));
    let from = place.json(&["log", "show", "--from", "0", "--count", "3"]);
    assert_eq!((from.as_array().unwrap().len(), &from[0]["index"]), (3, &"0".into()));
    let about = place.json(&["log", "show", "--about", &place.story.models[0].hex()[..12]]);
    let types = about.as_array().unwrap().iter().map(|e| e["entry"]["event"]["type"].clone());
    let expected =
        ["trained", "ran", "evaluated", "registered", "decided", "alias_moved"].map(Value::from);
    assert_eq!(types.collect::<Vec<_>>(), expected);
    assert_eq!(place.json(&["log", "show", "--actor", Story::PERSON])[0]["index"], "7");
    assert_eq!(place.json(&["log", "show", "--about", "late:1"]), about);

    // What is misspelt is not "none".
    let none = place.text(&["log", "show", "--actor", "nobody"]);
    assert_eq!(none, "no such entries\n");
    let (code, said) = place.refused(&["log", "show", "--type", "alias_move"]);
    assert!(code == 2 && said.contains("alias_moved"), "{said}");
    let (code, said) = place.refused(&["log", "show", "--about", "early@champion"]);
    assert!(code == 2 && said.contains("`early@champion`"), "{said}");
}

#[tokio::test]
async fn models_are_listed_and_an_override_is_marked() {
    let place = Place::new().await;
    let text = place.text(&["models"]);
    let lines: Vec<_> = text.lines().skip(1).collect();
    assert!(text.starts_with("name  version  model "), "{text}");
    assert!(lines[0].starts_with("late  1        ") && lines[0].contains("OVERRIDDEN"), "{text}");
    assert!(lines[1].starts_with("late  2        ") && lines[1].contains("champion"), "{text}");
    assert!(lines[2].contains("OVERRIDDEN by ada") && lines[2].contains(Story::REASON), "{text}");
    let json = place.json(&["models", "--overridden"]);
    assert_eq!((json.as_array().unwrap().len(), &json[0]["overridden"]), (1, &true.into()));
    assert_eq!(json[0]["overrides"][0]["reason"], Story::REASON);
    assert_eq!(place.json(&["models", "--alias", "champion"])[0]["version"], 2);
    assert_eq!(place.json(&["models", "LAT", "--tag", "purpose"]).as_array().unwrap().len(), 2);
    assert_eq!(place.json(&["models", "--tag", "purpose=other"]), Value::Array(vec![]));
    assert_eq!(place.text(&["models", "nothing"]), "no such versions\n");
    let cut = place.text(&["models", "--limit", "1"]);
    assert!(cut.contains("there are more: these are the first 1; see --limit"), "{cut}");
    assert!(!place.text(&["models", "--limit", "2"]).contains("there are more"));
    let history = place.text(&["models", "--history"]);
    for part in ["champion of late", "– → 1", "1 → 2", "tags of late", "= warns of late flights"]
    {
        assert!(history.contains(part), "{part}\n{history}");
    }
    let card = place.text(&["card", "late:1", "--currency", "EUR"]);
    assert!(card.starts_with("# late, version 1\n\n> **OVERRIDDEN by ada"), "{card}");
    assert!(place.text(&["card", "late@champion", "--html"]).starts_with("<!DOCTYPE html>"));
    assert_eq!(place.json(&["card", "late"])["version"]["version"], 2);
    assert!(place.refused(&["card", "late:7"]).1.contains("version 7 of `late`"));
    assert!(place.refused(&["card", "early"]).1.contains("model `early`"));
}

#[tokio::test]
async fn lineage_leads_from_a_prediction_to_the_source_file_and_back() {
    let place = Place::new().await;
    let batch = &place.story.predictions.hex()[..10];
    let up = place.text(&["lineage", batch, "--up"]);
    let found: Vec<_> = up.lines().map(|l| l.split("  ").next().unwrap_or_default()).collect();
    assert_eq!(found[0], "predictions");
    for line in [
        "└─ model",
        "└─ training-set",
        "├─ source flights",
        "│  ├─ file 2012.parquet",
        "│  └─ file 2013/day=2.parquet",
        "└─ source weather",
    ] {
        assert!(up.contains(line), "{line}\n{up}");
    }
    assert!(up.contains("2013-03-03 00:00:00  cycle"), "{up}");
    let down = place.text(&["lineage", "2013/day=1.parquet", "--down"]);
    assert!(down.starts_with("file 2013/day=1.parquet") && down.contains("evaluation"), "{down}");
    assert!(!down.contains("predictions"), "the second version answered:\n{down}");
    let json = place.json(&["lineage", "2013/day=2.parquet"]);
    let kinds: Vec<_> =
        json["descendants"].as_array().unwrap().iter().map(|step| step["kind"].as_str()).collect();
    assert!(
        kinds.contains(&Some("predictions")) && kinds.contains(&Some("deployment")),
        "{kinds:?}"
    );
    assert_eq!(place.json(&["lineage", "late@champion"])["ancestors"][0]["kind"], "model");
    for (asked, other) in [("--up", "descendants"), ("--down", "ancestors")] {
        let json = place.json(&["lineage", "late@champion", asked]);
        assert!(json.get(other).is_none() && !json.as_object().unwrap().is_empty(), "{json}");
    }
    let (code, said) = place.refused(&["lineage", "nothing"]);
    assert!(code == 1 && said.contains("`nothing`: nothing has this name"), "{said}");

    // Where there is no log nor key, as on a machine that pulled, only names are not known.
    for log in [&["--log", "nowhere"][..], &["--without-log"]] {
        let ask = |what| [&["lineage", what], log].concat();
        let mut command = place.command(&ask(batch));
        let output = command.env_remove("KAIZEN_KEY").output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains("└─ model") && !text.contains("cycle"), "{text}");
        assert!(place.refused(&ask("late@champion")).1.contains("there is no log"));
    }
}

#[tokio::test]
async fn what_is_damaged_is_named_and_what_is_misspelt_is_explained() {
    let place = Place::new().await;
    let blob = place.dir.path().join("store/blobs/sha256").join(place.story.models[0].hex());
    flip(&blob);
    let damaged = place.story.models[0].hex();
    let (code, said) = place.refused(&["lineage", &damaged]);
    assert!(code == 1 && said.contains(&damaged), "{said}");
    // It stops no other question, and is named.
    let text = place.text(&["lineage", "2013/day=2.parquet"]);
    assert!(text.contains("not read: ") && text.contains(&damaged), "{text}");
    assert!(place.json(&["lineage", "late:2"])["unreadable"].is_object());
    let (code, said) = place.refused(&["modles"]);
    assert!(code == 2 && said.contains("models") && said.starts_with("error: "), "{said}");
    let output = place.command(&[]).env_remove("KAIZEN_KEY").output().unwrap();
    assert!(stderr(&output).starts_with("Looks into a Kaizen store"), "{}", stderr(&output));
    assert_eq!(output.status.code(), Some(2));
    assert!(place.text(&["--help"]).contains("lineage"));
    assert!(place.text(&["--version"]).starts_with("kaizen "));
    // A file that holds the private key is not taken for the public one, nor shown.
    std::fs::write(place.dir.path().join("key"), "PRIVATE+KEY+x+00000000+secret").unwrap();
    let (_, said) = place.refused(&["log", "verify", "--key", "key"]);
    assert!(said.contains("a private key") && !said.contains("secret"), "{said}");
}

#[tokio::test]
async fn a_store_is_checked_and_what_is_wrong_is_named() {
    let place = Place::new().await;
    let text = place.text(&["fsck"]);
    assert!(text.contains("sound") && text.contains(" KiB, "), "{text}");
    let json = place.json(&["fsck"]);
    assert_eq!((&json["sound"], &json["problems"]), (&true.into(), &Value::Array(vec![])));
    let hex = place.story.sets[0].hex();
    flip(&place.dir.path().join("store/blobs/sha256").join(&hex));
    let output = place.command(&["fsck"]).output().unwrap();
    let (said, found) = (stderr(&output), String::from_utf8_lossy(&output.stdout).into_owned());
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(found.contains(&hex) && found.contains("DAMAGED"), "{found}");
    let (_, said) = place.refused(&["fsck", "--store", "nowhere"]);
    assert!(said.contains("store nowhere: there is none"), "{said}");
    std::fs::remove_file(place.dir.path().join("store/oci-layout")).unwrap();
    assert!(place.refused(&["fsck"]).1.contains("no file `oci-layout`"));
}

#[tokio::test]
async fn a_push_or_pull_that_cannot_be_is_explained() {
    let place = Place::new().await;
    let (code, said) = place.refused(&["push", "late@champion", "not a repository"]);
    assert!(code == 2, "{said}");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let (code, said) = place.refused(&["push", "late@champion", "late/champion"]);
    assert!(code == 2 && said.contains("docker.io/late/champion"), "{said}");
    let (_, said) = place.refused(&["push", "late@nobody", &format!("{address}/late")]);
    assert!(said.contains("nobody holds it"), "{said}");
    let (_, said) = place.refused(&["push", "nothing", &format!("{address}/late")]);
    assert!(said.contains("`nothing`: nothing has this name"), "{said}");
    // Nobody answers there.
    let there = format!("{address}/late:1");
    let id = &place.story.models[0].hex()[..12];
    for arguments in [["push", id, &there].to_vec(), ["pull", &there].to_vec()] {
        let (code, said) = place.refused(&arguments);
        assert!(code == 1 && said.contains(&address.to_string()), "{said}");
    }
}

#[tokio::test]
async fn a_proxy_that_cannot_be_read_stops_a_push() {
    let place = Place::new().await;
    let mut push = place.command(&["push", "late@champion", "registry.invalid/late:1"]);
    let output = push.env("HTTPS_PROXY", "http://ann:se{cret}@p:3128").output().unwrap();
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("proxy: HTTPS_PROXY") && !said.contains("cret"), "{said}");
}

/// A registry lists a decision, and has lost it.
#[tokio::test]
async fn what_a_pull_leaves_out_is_named_and_is_no_success() {
    let Some(program) = judge::variable("KAIZEN_REGISTRY_PROGRAM") else { return };
    let place = Place::new().await;
    let registry = Registry::start(&program, place.dir.path());
    let there = format!("{}/late:2", registry.address);
    place.text(&["push", "late@champion", &there, "--referrers"]);
    let lost = place.story.decisions[1];
    let revisions = "registry/docker/registry/v2/repositories/late/_manifests/revisions/sha256";
    std::fs::remove_dir_all(place.dir.path().join(revisions).join(lost.hex())).unwrap();
    drop(registry);
    let registry = Registry::start(&program, place.dir.path());
    let there = format!("{}/late:2", registry.address);
    let pull = ["pull", &there, "--store", "other", "--referrers"];
    let output = place.command(&pull).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(text.contains(&format!("{lost}, a statement: MISSING at the source")), "{text}");
    let output = place.command(&[&pull[..], &["--json"]].concat()).output().unwrap();
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    let skipped = json["skipped"].as_array().unwrap();
    let skipped = skipped.iter().find(|one| one["digest"] == lost.to_string()).unwrap();
    assert_eq!((&skipped["link"], &skipped["reason"]), (&"referrer".into(), &"missing".into()));
    // Without what is missing it is whole.
    place.text(&["pull", &there, "--store", "third"]);
}

/// A registry that forgets the first upload that is sent in chunks, as Debian's does when a
/// connection is cut in the middle of one.
#[tokio::test(flavor = "multi_thread")]
async fn a_push_goes_on_when_a_registry_lost_an_upload() {
    let Some(program) = judge::variable("KAIZEN_REGISTRY_PROGRAM") else { return };
    let place = Place::new().await;
    let store = LocalStore::open(place.dir.path().join("store")).await.unwrap();
    let payload = Payload::new("large", "application/octet-stream", vec![7; 20 << 20]);
    let body = Release {
        name: "late".into(),
        version: 9,
        model: place.story.models[1],
        service: place.story.sets[0],
        functions: vec![],
    };
    let id = store.put(&body, &[payload]).await.unwrap();
    let registry = Registry::start(&program, place.dir.path());
    let cut = cut_once(registry.address, 10 << 20);
    let there = format!("{cut}/late:9");
    let pushed = place.json(&["push", &id.hex()[..12], &there]);
    assert_eq!(pushed["id"], id.to_string());
}

/// Debian's registry, until it is dropped.
struct Registry {
    child: std::process::Child,
    address: SocketAddr,
}

impl Registry {
    fn start(program: &str, folder: &Path) -> Self {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let root = folder.join("registry");
        let text = format!(
            "version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: {}\n\
             http:\n  addr: {address}\n  secret: judge\n",
            root.display()
        );
        let config = folder.join("registry.yml");
        std::fs::write(&config, text).unwrap();
        let mut command = Command::new(program);
        command.arg("serve").arg(&config).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().unwrap();
        for _ in 0..300 {
            if TcpStream::connect(address).is_ok() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        Self { child, address }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An address before the server's, at which the first connection that sends so many bytes is cut.
fn cut_once(server: SocketAddr, after: usize) -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let whole = Arc::new(AtomicBool::new(true));
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let (mut client, mut server) = (client.unwrap(), TcpStream::connect(server).unwrap());
            let (mut back, mut answers) =
                (client.try_clone().unwrap(), server.try_clone().unwrap());
            std::thread::spawn(move || std::io::copy(&mut answers, &mut back));
            let whole = Arc::clone(&whole);
            std::thread::spawn(move || {
                let (mut buffer, mut sent) = (vec![0; 16 << 10], 0);
                while let Ok(read @ 1..) = client.read(&mut buffer) {
                    sent += read;
                    if sent > after && whole.swap(false, Ordering::SeqCst) {
                        break;
                    }
                    if server.write_all(&buffer[..read]).is_err() {
                        break;
                    }
                }
                let _ = client.shutdown(Shutdown::Both);
                let _ = server.shutdown(Shutdown::Both);
            });
        }
    });
    address
}

/// Against Debian's container registry, named by an environment variable.
#[tokio::test]
async fn what_is_pushed_to_a_registry_is_pulled_by_another() {
    let Some(registry) = judge::variable("KAIZEN_REGISTRY_URL") else { return };
    let place = Place::new().await;
    let repository = format!("{registry}/kaizen-cli/late:champion");
    let pushed = place.json(&["push", "late@champion", &repository, "--referrers", "--plain-http"]);
    assert_eq!(pushed["id"], place.story.models[1].to_string());
    let again = place.json(&["push", "late@champion", &repository, "--plain-http"]);
    assert_eq!(again["blobs"], "0", "only what is missing travels");
    let pull = ["pull", &repository, "--store", "other", "--referrers", "--plain-http"];
    let pulled = place.json(&pull);
    assert_eq!(pulled["id"], pushed["id"]);
    let found = place.text(&["lineage", &place.story.models[1].hex(), "--store", "other"]);
    assert!(found.contains("evaluation") && found.contains("decision"), "{found}");
}

#[tokio::test]
async fn a_proof_is_made_of_the_log_and_checked_without_it() {
    let place = Place::new().await;
    let decision = &place.story.decisions[0].hex()[..12];
    let proof = place.text(&["proof", "--about", decision]);
    let json = place.json(&["proof", "6"]);
    assert_eq!(json["proof"], proof, "the decision is entry 6");
    let write = |name: &str, text: &str| std::fs::write(place.dir.path().join(name), text).unwrap();
    write("it.tlog-proof", &proof);
    write("entry.json", &json["entry"].to_string());
    let check = ["proof", "--check", "it.tlog-proof", "--entry", "entry.json", "--log", "nowhere"];
    let text = place.text(&check);
    assert!(text.contains("6 of 22") && text.contains("proven"), "{text}");
    assert_eq!(place.json(&check)["origin"], "example.com/models");
    // The entry may be what the command printed.
    let shown = place.json(&["log", "show", "--from", "6", "--count", "1"]);
    for printed in [json.to_string(), shown.to_string()] {
        write("entry.json", &printed);
        assert_eq!(place.json(&check)["index"], "6");
    }

    write(
        "entry.json",
        &json["entry"].to_string().replace("\"approved\":true", "\"approved\":false"),
    );
    let (code, said) = place.refused(&check);
    assert!(code == 1 && !said.is_empty(), "{said}");
    let (_, said) = place.refused(&["proof", "22"]);
    assert!(said.contains("log entry 22: the log has 22"), "{said}");
    let (code, said) = place.refused(&["proof"]);
    assert!(code == 2 && said.contains("give an index"), "{said}");
    let (code, said) = place.refused(&["proof", "6", "--entry", "entry.json"]);
    assert!(code == 2 && said.contains("--check"), "{said}");
    // What was given is damaged; it was asked for rightly.
    write("entry.json", "{");
    let (code, said) = place.refused(&check);
    assert!(code == 1 && said.contains("entry.json: not a log entry"), "{said}");
}

#[tokio::test]
async fn keys_that_changed_and_witnesses_are_believed_as_they_are_given() {
    let place = Place::new().await;
    let old = Arc::new(Ed25519Signer::from_seed("example.com/models", [7; 32]).unwrap());
    let new = Arc::new(Ed25519Signer::from_seed("example.com/models", [8; 32]).unwrap());
    let new_key = new.verifier().to_string();
    let signers = LogSigners::from(new).accepting(old.verifier());
    let log = LocalLog::open(place.dir.path().join("log"), signers).await.unwrap();
    let entry = log.read(21..22).await.unwrap();
    log.append(&entry, None).await.unwrap();
    log.publish().await.unwrap();
    // What was signed since is by the new key; both may be given, in any way.
    assert_eq!(place.refused(&["log", "verify"]).0, 1);
    let both = format!("{},{new_key}", place.key);
    let ways: [&[&str]; 3] =
        [&["--key", &new_key], &["--key", &place.key, "--key", &new_key], &["--key", &both]];
    for way in ways {
        assert!(place.text(&[&["log", "verify"], way].concat()).contains("entries  23\n"));
    }
    place.text(&["log", "show", "--key", &both]);

    // No witness has seen it yet.
    let witness = WitnessKey::new("w.example", old.public_key()).unwrap().to_string();
    let with = ["log", "verify", "--key", &new_key, "--witness", &witness];
    let (code, said) = place.refused(&with);
    assert!(code == 1 && said.contains("cosigned by 0 witnesses, not 1"), "{said}");
    place.text(&[&with[..], &["--quorum", "0"]].concat());
    let note = log.checkpoint().await.unwrap().note;
    let (text, _) = note.split_once("\n\n").unwrap();
    let message = format!("cosignature/v1\ntime 1363000000\n{text}\n");
    let signature = old.sign(message.as_bytes()).await.unwrap();
    let hash = u32::from_str_radix(witness.split('+').nth(1).unwrap(), 16).unwrap();
    let line = [&hash.to_be_bytes()[..], &1_363_000_000_u64.to_be_bytes(), &signature].concat();
    let cosignature = format!("— w.example {}\n", STANDARD.encode(line));
    let policy = WitnessPolicy::new(vec![witness.parse().unwrap()], 1).unwrap();
    log.add_cosignatures(cosignature, &policy).await.unwrap();
    let said = place.text(&with);
    assert!(said.contains("w.example on 2013-03-11"), "{said}");
}
