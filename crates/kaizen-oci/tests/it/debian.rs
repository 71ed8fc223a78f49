//! Debian's registry and `openssl`, started by a test.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use kaizen_core::{Clock, SystemClock};
use serde_json::{Value, json};

use crate::server::{Reply, Request, Server};

/// Runs a program that must succeed.
pub(crate) fn run(program: &str, arguments: &[&str]) -> Vec<u8> {
    let Output { status, stdout, stderr } = Command::new(program).args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&stderr);
    assert!(status.success(), "{program} {arguments:?}: {said}");
    stdout
}

/// A registry, until it is dropped.
pub(crate) struct Registry {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl Registry {
    /// Starts `docker-registry` with more configuration than where it stores and listens.
    pub(crate) async fn start(program: &str, folder: &Path, http: &str, more: &str) -> Self {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let storage = folder.join("storage");
        let text = format!(
            "version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: {}\n\
             http:\n  addr: {address}\n  secret: judge\n{http}{more}",
            storage.display()
        );
        let config = folder.join("config.yml");
        fs::write(&config, text).unwrap();
        let mut command = Command::new(program);
        command.arg("serve").arg(&config).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().unwrap();
        for _ in 0..300 {
            if std::net::TcpStream::connect(address).is_ok() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
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

/// A key and a certificate that it signed for itself.
pub(crate) struct Certificate {
    pub(crate) key: PathBuf,
    pub(crate) certificate: PathBuf,
}

impl Certificate {
    pub(crate) fn make(folder: &Path) -> Self {
        let (key, certificate) = (folder.join("key.pem"), folder.join("certificate.pem"));
        let config = folder.join("openssl.cnf");
        let text = "[req]\nprompt = no\ndistinguished_name = name\nx509_extensions = more\n\
                    [name]\nCN = judge\n[more]\nbasicConstraints = critical, CA:FALSE\n\
                    subjectAltName = IP:127.0.0.1, DNS:localhost\n";
        fs::write(&config, text).unwrap();
        let path = |path: &Path| path.display().to_string();
        run(
            "openssl",
            &[
                "req",
                "-x509",
                "-newkey",
                "rsa:2048",
                "-nodes",
                "-days",
                "2",
                "-config",
                &path(&config),
                "-keyout",
                &path(&key),
                "-out",
                &path(&certificate),
            ],
        );
        Self { key, certificate }
    }

    /// A JSON web token, signed as a registry's token server signs it.
    fn sign(&self, folder: &Path, claims: &Value) -> String {
        let der = run(
            "openssl",
            &["x509", "-in", &self.certificate.display().to_string(), "-outform", "DER"],
        );
        let head = json!({"alg": "RS256", "typ": "JWT", "x5c": [STANDARD.encode(der)]});
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(&head), part(claims));
        let number = SystemClock.now().micros();
        let input = folder.join(format!("{number}-{:?}", std::thread::current().id()));
        fs::write(&input, &signed).unwrap();
        let key = self.key.display().to_string();
        let input = input.display().to_string();
        let signature = run("openssl", &["dgst", "-sha256", "-sign", &key, &input]);
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

/// A token server that knows one user, and gives what is asked for.
pub(crate) async fn token_server(certificate: Certificate, folder: PathBuf) -> Server {
    Server::start(move |request: &Request| {
        let user = format!("Basic {}", STANDARD.encode("judge:judge-secret"));
        let known = request.header("authorization") == Some(&user);
        let pairs: Vec<(String, String)> = match request.method.as_str() {
            "POST" => url::form_urlencoded::parse(&request.body).into_owned().collect(),
            _ => {
                let query = request.target.split_once('?').map_or("", |(_, query)| query);
                url::form_urlencoded::parse(query.as_bytes()).into_owned().collect()
            }
        };
        let identity =
            pairs.iter().any(|(name, value)| name == "refresh_token" && value == "judge-identity");
        if !known && !identity {
            return Reply::status(401).body("{}");
        }
        let scopes = pairs.iter().filter(|(name, _)| name == "scope");
        let scopes = scopes.flat_map(|(_, value)| value.split(' '));
        let access: Vec<Value> = scopes
            .filter_map(|scope| {
                let mut parts = scope.splitn(3, ':');
                let (kind, name, actions) = (parts.next()?, parts.next()?, parts.next()?);
                let actions: Vec<&str> = actions.split(',').collect();
                Some(json!({"type": kind, "name": name, "actions": actions}))
            })
            .collect();
        let now = SystemClock.now().micros() / 1_000_000;
        let claims = json!({
            "iss": "judge", "sub": "judge", "aud": "judge", "exp": now + 300, "nbf": now - 10,
            "iat": now, "jti": now.to_string(), "access": access,
        });
        let token = certificate.sign(&folder, &claims);
        Reply::status(200).body(json!({"token": token, "expires_in": 300}).to_string())
    })
    .await
}
