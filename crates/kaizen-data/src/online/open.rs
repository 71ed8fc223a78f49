//! Online stores by URL.

use std::sync::Arc;

use kaizen_core::{Error, ErrorKind, Result};
use kaizen_table::OnlineStore;

use super::{MemoryOnlineStore, RedbOnlineStore, SnapshotOnlineStore};

/// Opens an online store:
///
/// * `memory:`, a new one that is gone with the program,
/// * `redb:PATH`, a [`RedbOnlineStore`],
/// * `snapshot:PATH`, a [`SnapshotOnlineStore`],
/// * `redis://[USER[:PASSWORD]@]HOST[:PORT][/DATABASE][?prefix=PREFIX]`, a `RedisOnlineStore`, if
///   the feature `redis` is built in.
pub async fn open_online(url: &str) -> Result<Arc<dyn OnlineStore>> {
    let Some((scheme, rest)) = url.split_once(':') else {
        return Err(Error::invalid(format!("an online store's URL without a scheme; {THERE}")));
    };
    let store: Arc<dyn OnlineStore> = match scheme {
        "memory" if rest.is_empty() => Arc::new(MemoryOnlineStore::default()),
        "memory" => return Err(Error::invalid("online store `memory:`: nothing follows")),
        "redb" | "snapshot" if rest.is_empty() => {
            return Err(Error::invalid(format!("online store `{scheme}:`: a path follows")));
        }
        "redb" => Arc::new(RedbOnlineStore::open(rest).await?),
        "snapshot" => Arc::new(SnapshotOnlineStore::open(rest).await?),
        #[cfg(feature = "redis")]
        "redis" | "rediss" => Arc::new(super::RedisOnlineStore::open(url).await?),
        other => {
            let message = format!("online store `{other}:`: there is none here; {THERE}");
            return Err(Error::new(ErrorKind::Unsupported, message));
        }
    };
    Ok(store)
}

#[cfg(feature = "redis")]
const THERE: &str = "there are `memory:`, `redb:PATH`, `snapshot:PATH` and `redis://…`";
#[cfg(not(feature = "redis"))]
const THERE: &str = "there are `memory:`, `redb:PATH` and `snapshot:PATH`; `redis://…` needs the \
                     feature `redis`";
