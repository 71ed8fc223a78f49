//! The file in which Docker, and every tool like it, keeps what it knows of registries.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kaizen_core::{Context, Error, ErrorKind, Result, async_trait};
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

use crate::credentials::{CredentialSource, Credentials};

/// At most this many bytes in a configuration file.
const MAX_FILE: usize = 1 << 20;
/// At most this many bytes are read of what a helper program prints.
const MAX_OUTPUT: usize = 64 << 10;
/// How long a helper program may run: it may ask a person.
const HELPER_TIME: Duration = Duration::from_secs(60);
/// The name under which Docker keeps the credentials of its own registry.
const DOCKER_HUB: &str = "https://index.docker.io/v1/";

/// Credentials from Docker's `config.json`: its `auths`, its `credsStore` and its `credHelpers`.
///
/// A helper is a program `docker-credential-NAME` on the path. It is run with a limit on its time
/// and its output; it is given the name of the registry and nothing else.
///
/// ```
/// use kaizen_oci::{CredentialSource, Credentials, DockerConfig};
///
/// # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
/// # runtime.block_on(async {
/// let text = r#"{"auths": {"registry.example.com": {"auth": "YW5uOnNlY3JldA=="}}}"#;
/// let config = DockerConfig::parse(text.as_bytes())?;
/// let found = config.credentials("registry.example.com", "team/late").await?;
/// assert_eq!(found, Credentials::password("ann", "secret"));
/// assert_eq!(config.credentials("example.com", "late").await?, Credentials::Anonymous);
/// # Ok::<(), kaizen_core::Error>(())
/// # }).unwrap();
/// ```
#[derive(Clone)]
pub struct DockerConfig {
    file: File,
    helper_time: Duration,
    helper_folder: Option<PathBuf>,
}

#[derive(Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct File {
    auths: Option<BTreeMap<String, Auth>>,
    creds_store: Option<String>,
    cred_helpers: Option<BTreeMap<String, String>>,
}

#[derive(Clone, Default, Deserialize)]
#[serde(default)]
struct Auth {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
    registrytoken: Option<String>,
}

/// What a helper prints.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    username: String,
    secret: String,
}

impl DockerConfig {
    /// Reads the file that Docker would: `config.json` in the folder that `DOCKER_CONFIG` names,
    /// else in `.docker` in the home folder. Where there is none, nothing is known of any registry.
    pub async fn from_env() -> Result<Self> {
        let named = std::env::var_os("DOCKER_CONFIG").filter(|value| !value.is_empty());
        let folder = match named {
            Some(folder) => Some(PathBuf::from(folder)),
            None => std::env::home_dir().map(|home| home.join(".docker")),
        };
        match folder.map(|folder| folder.join("config.json")) {
            Some(path) => Self::read(path).await,
            None => Ok(Self::of(File::default())),
        }
    }

    /// Reads a configuration file. One that is not there knows nothing of any registry.
    pub async fn read(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        let reading = path.clone();
        let read = tokio::task::spawn_blocking(move || read_file(&reading)).await;
        match read.context(ErrorKind::Internal, "file work panicked")?? {
            Some(bytes) => {
                Self::parse(&bytes).context(ErrorKind::Invalid, path.display().to_string())
            }
            None => Ok(Self::of(File::default())),
        }
    }

    /// Reads the content of a configuration file.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        if bytes.len() > MAX_FILE {
            return Err(Error::invalid(format!("Docker's configuration: over {MAX_FILE} bytes")));
        }
        // The reason that serde gives may hold a part of the text, and so a secret.
        let read = serde_json::from_slice(bytes).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            let place = format!("line {line}, column {column}");
            Error::invalid(format!("Docker's configuration: not read beyond {place}"))
        });
        read.map(Self::of)
    }

    fn of(file: File) -> Self {
        Self { file, helper_time: HELPER_TIME, helper_folder: None }
    }

    /// How long a helper may run; a minute if this is not called.
    #[must_use]
    pub fn helper_time(self, limit: Duration) -> Self {
        Self { helper_time: limit, ..self }
    }

    /// Looks for helpers in this folder, and not on the path.
    #[must_use]
    pub fn helpers_in(self, folder: impl Into<PathBuf>) -> Self {
        Self { helper_folder: Some(folder.into()), ..self }
    }

    /// What is stored for the narrowest key that the repository is in: Podman keeps credentials of
    /// parts of a registry, as `registry.example.com/team`.
    fn stored(&self, host: &str, repository: &str) -> Result<Credentials> {
        let wanted = format!("{}/{repository}", host_of(host));
        let keys = self.file.auths.iter().flatten().filter_map(|(key, auth)| {
            let place = place_of(key);
            let rest = wanted.strip_prefix(place)?;
            // Written as it was asked for, it is the one of several for a host.
            (rest.is_empty() || rest.starts_with('/')).then_some((place.len(), key == host, auth))
        });
        match keys.max_by_key(|(narrow, exact, _)| (*narrow, *exact)) {
            Some((.., auth)) => auth.credentials(host),
            None => Ok(Credentials::Anonymous),
        }
    }

    async fn ask(&self, helper: &str, server: &str) -> Result<Credentials> {
        let name = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
        if helper.is_empty() || helper.len() > 64 || !helper.bytes().all(name) {
            return Err(Error::invalid("Docker's configuration: no name of a credential helper"));
        }
        let program = format!("docker-credential-{helper}");
        let path = match &self.helper_folder {
            Some(folder) => folder.join(&program),
            None => PathBuf::from(&program),
        };
        let run = tokio::time::timeout(self.helper_time, run(&path, server));
        let late = || Error::new(ErrorKind::Unavailable, format!("{program}: it does not answer"));
        let (succeeded, output) = run.await.map_err(|_| late())?.map_err(|error| {
            Error::new(error.kind(), format!("{program} for {server}")).with_source(error)
        })?;
        if !succeeded {
            // The program's own words for "I know nothing of it".
            return match String::from_utf8_lossy(&output).contains("credentials not found") {
                true => Ok(Credentials::Anonymous),
                false => {
                    let refused = format!("{program}: it gives no credentials for {server}");
                    Err(Error::refused(refused))
                }
            };
        }
        let answer: Answer = serde_json::from_slice(&output).map_err(|_| {
            Error::invalid(format!("{program}: what it says of {server} is not understood"))
        })?;
        Ok(match answer.username.as_str() {
            "<token>" => Credentials::IdentityToken(answer.secret),
            _ => Credentials::password(answer.username, answer.secret),
        })
    }
}

impl Auth {
    fn credentials(&self, host: &str) -> Result<Credentials> {
        let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        if let Some(token) = given(&self.identitytoken) {
            return Ok(Credentials::IdentityToken(token));
        }
        if let Some(token) = given(&self.registrytoken) {
            return Ok(Credentials::AccessToken(token));
        }
        if let Some(auth) = given(&self.auth) {
            let bad =
                || Error::invalid(format!("Docker's configuration: `auth` of {host} is damaged"));
            let bytes = STANDARD.decode(auth.trim()).map_err(|_| bad())?;
            let text = String::from_utf8(bytes).map_err(|_| bad())?;
            let (username, password) = text.split_once(':').ok_or_else(bad)?;
            return Ok(Credentials::password(username, password.trim_end_matches('\0')));
        }
        Ok(match (given(&self.username), given(&self.password)) {
            (Some(username), Some(password)) => Credentials::password(username, password),
            _ => Credentials::Anonymous,
        })
    }
}

#[async_trait]
impl CredentialSource for DockerConfig {
    async fn credentials(&self, host: &str, repository: &str) -> Result<Credentials> {
        let hub = ["docker.io", "index.docker.io", "registry-1.docker.io"].contains(&host);
        let key = if hub { DOCKER_HUB } else { host };
        let helpers = self.file.cred_helpers.iter().flatten();
        let own = helpers.into_iter().find(|(name, _)| host_of(name) == host_of(key));
        if let Some((name, helper)) = own {
            return self.ask(helper, name).await;
        }
        if let Some(helper) = self.file.creds_store.as_deref().filter(|name| !name.is_empty()) {
            let found = self.ask(helper, key).await?;
            if found != Credentials::Anonymous {
                return Ok(found);
            }
        }
        self.stored(key, repository)
    }
}

impl fmt::Debug for DockerConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hosts = self.file.auths.iter().flatten().map(|(host, _)| host);
        f.debug_struct("DockerConfig")
            .field("auths", &hosts.collect::<Vec<_>>())
            .field("creds_store", &self.file.creds_store)
            .field("cred_helpers", &self.file.cred_helpers)
            .finish_non_exhaustive()
    }
}

/// The part of a registry that a key of `auths` is for: one that is written as an address, or ends
/// with the version of the protocol, is for its whole host.
fn place_of(key: &str) -> &str {
    let host = host_of(key);
    let is_address = key.contains("://");
    let place = key.trim_end_matches('/');
    match place.strip_prefix(host) {
        Some(path) if !is_address && !["/v1", "/v2"].contains(&path) => place,
        _ => host,
    }
}

/// The host in a key, which may be written as an address.
fn host_of(key: &str) -> &str {
    let rest = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    rest.split('/').next().unwrap_or(rest)
}

fn read_file(path: &Path) -> Result<Option<Vec<u8>>> {
    let failed = || path.display().to_string();
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).context(ErrorKind::Unavailable, failed()),
    };
    let mut bytes = Vec::new();
    let read = file.take(MAX_FILE as u64 + 1).read_to_end(&mut bytes);
    read.context(ErrorKind::Unavailable, failed())?;
    Ok(Some(bytes))
}

/// Runs a helper; whether it succeeded, and what it printed. It ends with this future.
async fn run(program: &Path, server: &str) -> Result<(bool, Vec<u8>)> {
    let mut command = Command::new(program);
    command.arg("get").kill_on_drop(true);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    // Not `NotFound`: who asked for a blob would take that for an answer.
    let mut child: Child = command.spawn().context(ErrorKind::Invalid, "it does not start")?;
    if let Some(mut input) = child.stdin.take() {
        // A helper that does not read its input says what it has to say all the same.
        let _ = input.write_all(format!("{server}\n").as_bytes()).await;
    }
    let output = match child.stdout.take() {
        Some(output) => bounded(output).await?,
        None => Vec::new(),
    };
    let status = child.wait().await.context(ErrorKind::Unavailable, "it was lost")?;
    Ok((status.success(), output))
}

async fn bounded(from: impl AsyncRead + Unpin) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = from.take(MAX_OUTPUT as u64 + 1).read_to_end(&mut bytes).await;
    read.context(ErrorKind::Unavailable, "its output")?;
    if bytes.len() > MAX_OUTPUT {
        return Err(Error::new(ErrorKind::Limit, format!("it prints over {MAX_OUTPUT} bytes")));
    }
    Ok(bytes)
}
