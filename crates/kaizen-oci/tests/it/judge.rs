//! Software that we did not write: Debian's registry, and `skopeo`.

use std::fs;
use std::sync::{Arc, Mutex};

use kaizen_core::record::Release;
use kaizen_core::{ArtifactStore, Digest, ErrorKind, Progress, Records, Silent};
use kaizen_oci::{Credentials, DockerConfig, Options, RemoteRegistry, Transport};
use kaizen_store::{CopyOptions, LocalStore};
use kaizen_testkit::{MemoryStore, artifact_store as suite, judge};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::debian::{Certificate, Registry, run, token_server};
use crate::proxy::{Cut, Proxy, Tunnels};
use crate::support::{bytes, options, put_statement, store_with_record};

const MIB: usize = 1 << 20;

/// A repository of its own at a registry, for this run.
fn open(address: &str, name: &str, options: Options) -> RemoteRegistry {
    let run = std::process::id();
    RemoteRegistry::open(&format!("{address}/judge/{name}-{run}"), options).unwrap()
}

fn all() -> CopyOptions {
    CopyOptions::new().referrers(true)
}

#[derive(Debug, Default)]
struct Reports(Mutex<Vec<(u64, Option<u64>)>>);

impl Progress for Reports {
    fn report(&self, _task: &str, done: u64, total: Option<u64>) {
        self.0.lock().unwrap().push((done, total));
    }
}

/// Pushes a record with a statement about it, and pulls both into an empty store.
async fn there_and_back(registry: &RemoteRegistry, seed: u64) {
    let (store, id) = store_with_record(seed, 3 * MIB).await;
    let statement = put_statement(&store, &id, &format!("good {seed}")).await;
    let reports = Reports::default();
    let copied = registry.push(&store, &id, &all(), &reports).await.unwrap();
    assert_eq!(copied.manifests.len(), 2);
    let (done, total) = *reports.0.lock().unwrap().last().unwrap();
    assert_eq!(Some(done), total, "progress ends with all bytes, of all attempts");
    assert!(done > 3 * MIB as u64 && done >= copied.bytes);
    let again = registry.push(&store, &id, &all(), &Silent).await.unwrap();
    assert_eq!((again.blobs, again.bytes), (0, 0), "nothing travels twice");
    assert_eq!(registry.referrers(&id).await.unwrap(), [statement]);

    registry.put_tag("v1", &id).await.unwrap();
    let found = registry.get_tag("v1").await.unwrap().unwrap();
    assert_eq!(found, id);
    let target = MemoryStore::default();
    registry.pull(&target, &found, &all(), &Silent).await.unwrap();
    let stored = target.get::<Release>(&id).await.unwrap();
    assert_eq!(stored.payload(&target, "large.bin").await.unwrap(), bytes(seed, 3 * MIB));
    assert_eq!(target.referrers(&id).await.unwrap(), [statement]);
}

#[tokio::test]
async fn debians_registry_keeps_every_rule_of_a_store_that_needs_no_listing() {
    let Some(address) = judge::variable("KAIZEN_REGISTRY_URL") else { return };
    let store = open(&address, "suite", options().0);
    store.ping().await.unwrap();
    suite::blobs_come_back_under_their_digest(&store).await;
    suite::putting_a_blob_again_changes_nothing(&store).await;
    suite::a_missing_blob_is_not_found(&store).await;
    suite::manifests_are_kept_byte_for_byte(&store).await;
    suite::a_subject_need_not_be_there(&store).await;
    suite::referrers_are_all_and_in_order(&store).await;
    suite::records_come_back_with_their_payloads(&store).await;
    suite::a_record_of_another_kind_is_invalid(&store).await;
    suite::streams_of_any_pieces_give_the_same_blob(&store).await;
    suite::bytes_of_another_digest_are_refused(&store).await;
    suite::a_stream_gives_the_whole_blob(&store).await;
    suite::payloads_may_come_as_streams(&store).await;
}

#[tokio::test]
async fn records_go_to_debians_registry_and_come_back() {
    let Some(address) = judge::variable("KAIZEN_REGISTRY_URL") else { return };
    let registry = open(&address, "records", options().0);
    assert_eq!(registry.tags().await.unwrap(), Vec::<String>::new());
    there_and_back(&registry, 10).await;
    let (store, id) = store_with_record(20, 1_000).await;
    registry.push(&store, &id, &all(), &Silent).await.unwrap();
    for number in 0..5 {
        registry.put_tag(&format!("w{number}"), &id).await.unwrap();
    }
    let tags = registry.tags().await.unwrap();
    assert_eq!(tags.iter().filter(|tag| tag.starts_with('w')).count(), 5, "{tags:?}");
}

#[tokio::test]
async fn debians_registry_mounts_blobs_between_repositories() {
    let Some(address) = judge::variable("KAIZEN_REGISTRY_URL") else { return };
    let first = open(&address, "mount-from", options().0);
    let digest = first.put_blob(bytes(30, MIB)).await.unwrap();
    let second = open(&address, "mount-to", options().0);
    assert!(!second.contains(&digest).await.unwrap());
    let from = first.reference().repository();
    assert!(second.mount(&digest, from).await.unwrap());
    assert!(second.contains(&digest).await.unwrap());
    let missing = Digest::of("nowhere");
    assert!(!second.mount(&missing, from).await.unwrap(), "what is not there is not mounted");
}

#[tokio::test]
async fn a_password_opens_debians_registry_given_or_in_dockers_configuration() {
    let Some(address) = judge::variable("KAIZEN_REGISTRY_PASSWORD_URL") else { return };
    let (Some(user), Some(password)) =
        (judge::variable("KAIZEN_REGISTRY_USER"), judge::variable("KAIZEN_REGISTRY_PASSWORD"))
    else {
        return;
    };
    let (mut given, _) = options();
    given.credentials = Arc::new(Credentials::password(&user, &password));
    there_and_back(&open(&address, "password", given), 40).await;

    let auths = format!(
        r#"{{"auths": {{"{address}": {{"username": "{user}", "password": "{password}"}}}}}}"#
    );
    let (mut configured, _) = options();
    configured.credentials = Arc::new(DockerConfig::parse(auths.as_bytes()).unwrap());
    open(&address, "password", configured).ping().await.unwrap();

    let (mut wrong, _) = options();
    wrong.credentials = Arc::new(Credentials::password(&user, "wrong"));
    for options in [wrong, options().0] {
        let error = open(&address, "password", options).put_blob("x".into()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused);
    }
}

#[tokio::test]
async fn a_token_opens_debians_registry() {
    let Some(program) = judge::variable("KAIZEN_REGISTRY_PROGRAM") else { return };
    if !judge::program("openssl") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let certificate = Certificate::make(folder.path());
    let bundle = certificate.certificate.clone();
    let tokens = token_server(certificate, folder.path().to_owned()).await;
    let auth = format!(
        "auth:\n  token:\n    realm: http://{}/token\n    service: judge\n    issuer: judge\n\
         \x20   rootcertbundle: {}\n",
        tokens.address,
        bundle.display()
    );
    let judge = Registry::start(&program, folder.path(), "", &auth).await;
    let address = judge.address.to_string();
    let (mut known, _) = options();
    known.credentials = Arc::new(Credentials::password("judge", "judge-secret"));
    let registry = open(&address, "token", known);
    there_and_back(&registry, 50).await;
    let asked = tokens.requests().len();
    assert!(asked <= 4, "tokens are kept: {asked} were asked for");

    let (mut mounting, _) = options();
    mounting.credentials = Arc::new(Credentials::IdentityToken("judge-identity".into()));
    let second = open(&address, "token-mount", mounting);
    let digest = registry.put_blob(bytes(60, 1_000)).await.unwrap();
    assert!(second.mount(&digest, registry.reference().repository()).await.unwrap());
    assert!(tokens.requests().iter().any(|one| one.method == "POST"));

    let anonymous = open(&address, "token", options().0);
    let error = anonymous.contains(&digest).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
}

#[cfg(feature = "tls")]
#[tokio::test]
async fn an_encrypted_registry_is_trusted_by_its_certificate_alone() {
    let Some(program) = judge::variable("KAIZEN_REGISTRY_PROGRAM") else { return };
    if !judge::program("openssl") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let certificate = Certificate::make(folder.path());
    let tls = format!(
        "  tls:\n    certificate: {}\n    key: {}\n",
        certificate.certificate.display(),
        certificate.key.display()
    );
    let judge = Registry::start(&program, folder.path(), &tls, "").await;
    let address = judge.address.to_string();
    let (mut trusting, _) = options();
    trusting.transport = Transport::Https;
    let (strange, pace) = options();
    let mut strange = strange;
    strange.transport = Transport::Https;
    trusting.trusted_certificates = vec![fs::read(&certificate.certificate).unwrap()];
    there_and_back(&open(&address, "tls", trusting.clone()), 70).await;

    // The same through a proxy, which is told where to, and nothing else.
    let tunnels = Tunnels::start(judge.address).await;
    let proxy =
        |user: &str| kaizen_oci::Proxy::new(&format!("http://{user}{}", tunnels.address), "");
    trusting.proxy = Some(proxy("ann:secret@").unwrap());
    there_and_back(&open(&address, "tunnel", trusting.clone()), 80).await;
    let asked = tunnels.asked.lock().unwrap().clone();
    assert!(asked.iter().all(|head| head.starts_with(&format!("CONNECT {address} "))), "{asked:?}");
    trusting.proxy = Some(proxy("").unwrap());
    let error = open(&address, "tunnel", trusting.clone()).ping().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    let count = tunnels.asked.lock().unwrap().len();
    let own = format!("http://{}", tunnels.address);
    let without = kaizen_oci::Proxy::new(&own, "127.0.0.1").unwrap();
    trusting.proxy = Some(without);
    open(&address, "tunnel", trusting).ping().await.unwrap();
    assert_eq!(tunnels.asked.lock().unwrap().len(), count, "not through it");

    let error = open(&address, "tls", strange).ping().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused, "{error:?}");
    assert_eq!(pace.waited().len(), 0, "it is not tried again");
}

#[tokio::test]
async fn skopeo_reads_what_was_pushed_and_pushes_what_is_pulled() {
    let Some(address) = judge::variable("KAIZEN_REGISTRY_URL") else { return };
    if !judge::program("skopeo") {
        return;
    }
    let registry = open(&address, "skopeo", options().0);
    let (store, id) = store_with_record(80, 100_000).await;
    registry.push(&store, &id, &all(), &Silent).await.unwrap();
    registry.put_tag("v1", &id).await.unwrap();
    let remote = format!("docker://{}:v1", registry.reference());
    let shown = run("skopeo", &["inspect", "--raw", "--tls-verify=false", &remote]);
    assert_eq!(store.get_blob(&id).await.unwrap(), shown, "byte for byte");

    let folder = tempfile::tempdir().unwrap();
    let layout = format!("oci:{}:v1", folder.path().display());
    run(
        "skopeo",
        &[
            "copy",
            "--insecure-policy",
            "--preserve-digests",
            "--src-tls-verify=false",
            &remote,
            &layout,
        ],
    );
    let copied = LocalStore::open(folder.path()).await.unwrap();
    let stored = copied.get::<Release>(&id).await.unwrap();
    assert_eq!(stored.payload(&copied, "large.bin").await.unwrap(), bytes(80, 100_000));

    let second = open(&address, "skopeo-pushed", options().0);
    let remote = format!("docker://{}:v2", second.reference());
    run(
        "skopeo",
        &[
            "copy",
            "--insecure-policy",
            "--preserve-digests",
            "--dest-tls-verify=false",
            &layout,
            &remote,
        ],
    );
    let found = second.get_tag("v2").await.unwrap().unwrap();
    assert_eq!(found, id);
    let target = MemoryStore::default();
    second.pull(&target, &found, &all(), &Silent).await.unwrap();
    target.get::<Release>(&id).await.unwrap();
}

#[tokio::test]
async fn pushes_and_pulls_survive_connections_that_are_cut() {
    let Some(address) = judge::variable("KAIZEN_REGISTRY_URL") else { return };
    let mut cuts = 0;
    for seed in 0..10_u64 {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let proxy = Proxy::start(address.parse().unwrap(), move |_| {
            let mut cut = |probability| {
                random.random_bool(probability).then(|| random.random_range(1..1_000_000))
            };
            Cut { up: cut(0.6), down: cut(0.5) }
        })
        .await;
        let (mut patient, _) = options();
        patient.retry.attempts = 20;
        patient.chunk_bytes = 256 << 10;
        let registry = open(&proxy.address.to_string(), &format!("cut{seed}"), patient);
        there_and_back(&registry, 100 + 10 * seed).await;
        cuts += proxy.cuts();
    }
    assert!(cuts > 5, "only {cuts} connections were cut");
}
