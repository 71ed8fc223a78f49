//! Who the client is to a registry.

use std::fmt;

use kaizen_core::{Result, async_trait};

/// What proves to a registry who calls. `Debug` shows no secret.
#[non_exhaustive]
#[derive(Clone, PartialEq, Eq, Default)]
pub enum Credentials {
    /// Nobody in particular.
    #[default]
    Anonymous,
    /// A user with a password, or what a registry takes in place of one.
    Password {
        /// The user's name.
        username: String,
        /// The password.
        password: String,
    },
    /// A token that is changed for access tokens at the registry's token server (OAuth 2 calls it
    /// a refresh token, Docker an identity token).
    IdentityToken(String),
    /// A token that is sent to the registry as it is.
    AccessToken(String),
}

impl Credentials {
    /// A user with a password.
    pub fn password(username: impl Into<String>, password: impl Into<String>) -> Self {
        Self::Password { username: username.into(), password: password.into() }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anonymous => f.write_str("Anonymous"),
            Self::Password { username, .. } => write!(f, "Password({username:?}, …)"),
            Self::IdentityToken(_) => f.write_str("IdentityToken(…)"),
            Self::AccessToken(_) => f.write_str("AccessToken(…)"),
        }
    }
}

/// Where credentials come from: [`Credentials`] themselves, [`DockerConfig`](crate::DockerConfig),
/// or a host's own vault.
///
/// It is asked when a registry demands to know who calls, and again when what it gave has become
/// too old; so it may give credentials that live for a short time.
#[async_trait]
pub trait CredentialSource: fmt::Debug + Send + Sync {
    /// The credentials for a repository, such as `team/late`, of the registry at this host, with
    /// its port where it has one.
    async fn credentials(&self, host: &str, repository: &str) -> Result<Credentials>;
}

#[async_trait]
impl CredentialSource for Credentials {
    async fn credentials(&self, _host: &str, _repository: &str) -> Result<Credentials> {
        Ok(self.clone())
    }
}
