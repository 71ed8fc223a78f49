//! Docker's configuration and its helper programs.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use kaizen_core::ErrorKind;
use kaizen_oci::{CredentialSource, Credentials, DockerConfig};
use proptest::prelude::*;

fn parse(text: &str) -> DockerConfig {
    DockerConfig::parse(text.as_bytes()).unwrap()
}

fn auth(text: &str) -> String {
    base64::engine::general_purpose::STANDARD.encode(text)
}

/// A helper that runs these lines of shell.
fn helper(folder: &Path, name: &str, lines: &str) {
    let path = folder.join(format!("docker-credential-{name}"));
    fs::write(&path, format!("#!/bin/sh\n{lines}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
}

#[tokio::test]
async fn credentials_are_found_in_every_form_that_docker_writes() {
    let text = format!(
        r#"{{"auths": {{
            "a.example": {{"auth": "{}"}},
            "https://b.example/v2/": {{"username": "ben", "password": "b"}},
            "c.example:5000": {{"identitytoken": "i", "auth": "{}"}},
            "d.example": {{"registrytoken": "r"}},
            "https://index.docker.io/v1/": {{"auth": "{}"}},
            "e.example": {{}}
        }}, "HttpHeaders": {{"X": "y"}}}}"#,
        auth("ann:s:ecret"),
        auth("00000000-0000-0000-0000-000000000000:"),
        auth("hub:h"),
    );
    let config = parse(&text);
    let cases = [
        ("a.example", Credentials::password("ann", "s:ecret")),
        ("b.example", Credentials::password("ben", "b")),
        ("c.example:5000", Credentials::IdentityToken("i".into())),
        ("c.example", Credentials::Anonymous),
        ("d.example", Credentials::AccessToken("r".into())),
        ("docker.io", Credentials::password("hub", "h")),
        ("e.example", Credentials::Anonymous),
        ("evil.a.example", Credentials::Anonymous),
    ];
    for (host, expected) in cases {
        assert_eq!(config.credentials(host, "team/late").await.unwrap(), expected, "{host}");
    }
    let text = format!(
        r#"{{"auths": {{
            "r.example/team": {{"auth": "{}"}}, "r.example/team/late": {{"auth": "{}"}},
            "r.example": {{"auth": "{}"}}, "s.example/v1/": {{"auth": "{}"}}
        }}}}"#,
        auth("team:t"),
        auth("late:l"),
        auth("all:a"),
        auth("old:o"),
    );
    let narrow = parse(&text);
    for (host, repository, user) in [
        ("r.example", "team/late", "late"),
        ("r.example", "team/later", "team"),
        ("r.example", "team/late/x", "late"),
        ("r.example", "teams", "all"),
        ("s.example", "x", "old"),
    ] {
        let found = narrow.credentials(host, repository).await.unwrap();
        let expected = Credentials::password(user, &user[..1]);
        assert_eq!(found, expected, "{host}/{repository}");
    }
    let shown = format!("{config:?}");
    assert!(shown.contains("a.example") && !shown.contains("ecret") && !shown.contains("YW5u"));
}

#[tokio::test]
async fn a_file_that_is_not_there_knows_nothing_and_a_damaged_one_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.json");
    let config = DockerConfig::read(&path).await.unwrap();
    assert_eq!(config.credentials("a.example", "team/late").await.unwrap(), Credentials::Anonymous);
    for damaged in ["{\"auths\": {\"a.example\": {\"auth\": \"c2Vj", "7", "{\"auths\": 7}"] {
        fs::write(&path, damaged).unwrap();
        let error = DockerConfig::read(&path).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        let text = format!("{error:#}");
        assert!(text.contains("config.json") && !text.contains("c2Vj"), "{text}");
    }
    fs::write(&path, " ".repeat((1 << 20) + 1)).unwrap();
    assert!(DockerConfig::read(&path).await.is_err());
    for bad in ["!", &auth("nocolon")] {
        let config = parse(&format!(r#"{{"auths": {{"a.example": {{"auth": "{bad}"}}}}}}"#));
        let error = config.credentials("a.example", "team/late").await.unwrap_err();
        assert!(error.to_string().contains("a.example") && !error.to_string().contains(bad));
    }
}

#[tokio::test]
async fn helpers_are_asked_the_registrys_own_first() {
    let folder = tempfile::tempdir().unwrap();
    helper(
        folder.path(),
        "own",
        "read host; echo \"{\\\"ServerURL\\\":\\\"x\\\",\\\"Username\\\":\\\"$1\\\",\\\"Secret\\\":\\\"$host\\\"}\"",
    );
    helper(
        folder.path(),
        "all",
        "echo '{\"ServerURL\":\"x\",\"Username\":\"<token>\",\"Secret\":\"t\"}'",
    );
    helper(folder.path(), "none", "echo 'credentials not found in native keychain'; exit 1");
    let text = r#"{"credsStore": "all", "credHelpers": {"a.example": "own", "n.example": "none"}}"#;
    let config = parse(text).helpers_in(folder.path());
    let own = config.credentials("a.example", "team/late").await.unwrap();
    assert_eq!(own, Credentials::password("get", "a.example"));
    let all = config.credentials("b.example", "team/late").await.unwrap();
    assert_eq!(all, Credentials::IdentityToken("t".into()));
    let none = config.credentials("n.example", "team/late").await.unwrap();
    assert_eq!(none, Credentials::Anonymous);
}

#[tokio::test]
async fn a_store_that_knows_nothing_leaves_what_is_in_the_file() {
    let folder = tempfile::tempdir().unwrap();
    helper(folder.path(), "none", "echo 'credentials not found'; exit 1");
    let auths = format!(r#"{{"a.example": {{"auth": "{}"}}}}"#, auth("ann:x"));
    let text = format!(r#"{{"credsStore": "none", "auths": {auths}}}"#);
    let config = parse(&text).helpers_in(folder.path());
    let found = config.credentials("a.example", "team/late").await.unwrap();
    assert_eq!(found, Credentials::password("ann", "x"));
}

#[tokio::test]
async fn a_helper_that_misbehaves_is_an_error_that_names_it_and_no_secret() {
    let folder = tempfile::tempdir().unwrap();
    helper(folder.path(), "slow", "exec sleep 60");
    helper(folder.path(), "endless", "exec yes secret");
    helper(folder.path(), "odd", "echo secret");
    helper(folder.path(), "angry", "echo secret; exit 3");
    let cases = [
        ("slow", ErrorKind::Unavailable, Duration::from_millis(200)),
        ("endless", ErrorKind::Limit, Duration::from_secs(30)),
        ("odd", ErrorKind::Invalid, Duration::from_secs(30)),
        ("angry", ErrorKind::Refused, Duration::from_secs(30)),
        ("missing", ErrorKind::Invalid, Duration::from_secs(30)),
        ("../odd", ErrorKind::Invalid, Duration::from_secs(30)),
    ];
    for (name, kind, limit) in cases {
        let config = parse(&format!(r#"{{"credsStore": "{name}"}}"#));
        let config = config.helpers_in(folder.path()).helper_time(limit);
        let error = config.credentials("a.example", "team/late").await.unwrap_err();
        assert_eq!(error.kind(), kind, "{name}: {error}");
        assert!(!format!("{error:#}").contains("secret"), "{error:#}");
        assert!(name.contains('/') || error.to_string().contains(name), "{error}");
    }
}

proptest! {
    /// No file makes the parser panic.
    #[test]
    fn any_file_is_read_or_refused(
        text in "(\\{|\\}|\"|:|,|auths|auth|credsStore|credHelpers|null|[0-9]|\\[|\\]|\\PC){0,30}",
    ) {
        let _ = DockerConfig::parse(text.as_bytes());
    }

    /// Any user and password come back.
    #[test]
    fn any_password_comes_back(user in "[^:\\x00]{0,10}", password in "[^\\x00]{0,10}") {
        let both = auth(&format!("{user}:{password}"));
        let config = parse(&format!(r#"{{"auths": {{"a.example": {{"auth": "{both}"}}}}}}"#));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let found = runtime.block_on(config.credentials("a.example", "team/late")).unwrap();
        prop_assert_eq!(found, Credentials::password(user, password));
    }
}
