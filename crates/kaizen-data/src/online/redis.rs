//! An online store in Redis.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use kaizen_core::{Bytes, Context, Error, ErrorKind, Result, async_trait};
use kaizen_table::{OnlineEntry, OnlinePage, OnlineStore};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Cmd, IntoConnectionInfo, Pipeline, RedisError, Value};
use tokio::sync::Mutex;
use url::Url;

/// One command holds at most about so many fields, and so many bytes.
const FIELDS: usize = 1_000;
const COMMAND_BYTES: usize = 4 << 20;

/// One `put` holds at most so many bytes: the server keeps it in memory until it is whole.
const PUT_BYTES: usize = 512 << 20;

/// How long a connection, and an answer, may take.
const CONNECT: Duration = Duration::from_secs(5);
const ANSWER: Duration = Duration::from_secs(60);

/// Keeps everything on one Redis server (or one that speaks as it does), under a prefix.
///
/// A space is one hash, `PREFIX:space:NAME`; the names of spaces are the set `PREFIX:spaces`. A
/// `put` is one transaction. A `get` is one command, or for very many keys one transaction. What
/// survives a crash of the server, and what happens when its memory is full, is its own setting; a
/// policy that evicts keys removes whole spaces.
///
/// A lost connection is made again at the next call. A `put` during which it was lost is
/// [`ErrorKind::Unavailable`], and all of it was written or nothing.
pub struct RedisOnlineStore {
    /// The address, without user and password.
    name: String,
    prefix: String,
    reading: Line,
    /// Apart, so that no reader waits behind a large write.
    writing: Line,
}

impl fmt::Debug for RedisOnlineStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, prefix, .. } = self;
        f.debug_struct("RedisOnlineStore").field("name", name).field("prefix", prefix).finish()
    }
}

impl RedisOnlineStore {
    /// Connects to `redis://[USER[:PASSWORD]@]HOST[:PORT][/DATABASE][?prefix=PREFIX]`; the prefix
    /// is `kaizen` unless given, and made of letters, digits, `-`, `_` and `.`.
    ///
    /// [`ErrorKind::Unavailable`] names the address if nothing answers there.
    pub async fn open(url: &str) -> Result<Self> {
        let (client, prefix) = parse(url)?;
        let info = client.get_connection_info();
        let name = format!("online store `redis://{}/{}`", info.addr(), info.redis_settings().db());
        let line = || Line { client: client.clone(), held: Mutex::default() };
        let store = Self { name, prefix, reading: line(), writing: line() };
        store.read(&redis::cmd("PING").into()).await?;
        Ok(store)
    }

    /// Asks, on a new connection if the one that was held is gone.
    async fn read(&self, question: &Question) -> Result<Value> {
        let (mut connection, held) = self.reading.get().await.map_err(|e| self.failed(e))?;
        let mut answer = question.ask(&mut connection).await;
        if held && answer.as_ref().is_err_and(broken) {
            self.reading.forget().await;
            connection = self.reading.get().await.map_err(|e| self.failed(e))?.0;
            answer = question.ask(&mut connection).await;
        }
        if answer.as_ref().is_err_and(broken) {
            self.reading.forget().await;
        }
        answer.map_err(|error| self.failed(error))
    }

    /// Writes, once: whether a write that was cut off is there cannot be told.
    async fn write(&self, transaction: Pipeline) -> Result<()> {
        let (mut connection, held) = self.writing.get().await.map_err(|e| self.failed(e))?;
        if held && redis::cmd("PING").exec_async(&mut connection).await.is_err() {
            self.writing.forget().await;
            connection = self.writing.get().await.map_err(|e| self.failed(e))?.0;
        }
        let written = transaction.exec_async(&mut connection).await;
        if written.as_ref().is_err_and(broken) {
            self.writing.forget().await;
        }
        written.map_err(|error| self.failed(error))
    }

    fn hash(&self, space: &str) -> String {
        format!("{}:space:{space}", self.prefix)
    }

    fn set(&self) -> String {
        format!("{}:spaces", self.prefix)
    }

    fn failed(&self, source: RedisError) -> Error {
        use redis::ErrorKind as Kind;
        let kind = match (source.kind(), source.code()) {
            (Kind::AuthenticationFailed, _) | (_, Some("NOAUTH" | "WRONGPASS" | "NOPERM")) => {
                ErrorKind::Refused
            }
            (Kind::InvalidClientConfig, _) => ErrorKind::Unsupported,
            (Kind::Parse | Kind::UnexpectedReturnType, _) | (_, Some("WRONGTYPE")) => {
                ErrorKind::Corrupt
            }
            _ => ErrorKind::Unavailable,
        };
        Error::new(kind, self.name.clone()).with_source(source)
    }

    fn strange(&self) -> Error {
        Error::corrupt(format!("{}: an answer of another form", self.name))
    }
}

#[async_trait]
impl OnlineStore for RedisOnlineStore {
    async fn get(&self, space: &str, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let hash = self.hash(space);
        let ask = |keys: &[Bytes]| {
            let mut command = redis::cmd("HMGET");
            command.arg(&hash);
            for key in keys {
                command.arg(&key[..]);
            }
            command
        };
        let answers = if keys.len() <= FIELDS {
            vec![self.read(&ask(keys).into()).await?]
        } else {
            let mut transaction = redis::pipe();
            transaction.atomic();
            for keys in keys.chunks(FIELDS) {
                transaction.add_command(ask(keys));
            }
            self.list(self.read(&Question::Several(transaction)).await?)?
        };
        let mut found = Vec::with_capacity(keys.len());
        for value in answers {
            for value in self.list(value)? {
                found.push(match value {
                    Value::Nil => None,
                    value => Some(self.bytes(value)?),
                });
            }
        }
        if found.len() != keys.len() {
            return Err(self.strange());
        }
        Ok(found)
    }

    async fn put(&self, entries: Vec<OnlineEntry>) -> Result<()> {
        if entries.is_empty() {
            return Ok(());
        }
        let size =
            |entry: &OnlineEntry| entry.key.len() + entry.value.as_ref().map_or(0, Bytes::len);
        let bytes: usize = entries.iter().map(size).sum();
        if bytes > PUT_BYTES {
            let name = &self.name;
            let message = format!("{name}: {bytes} bytes at once, over {PUT_BYTES}: write less");
            return Err(Error::new(ErrorKind::Limit, message));
        }
        let mut transaction = redis::pipe();
        transaction.atomic();
        let filled = entries.iter().filter(|entry| entry.value.is_some());
        let spaces: BTreeSet<&str> = filled.map(|entry| entry.space.as_str()).collect();
        if !spaces.is_empty() {
            transaction.cmd("SADD").arg(self.set()).arg(spaces);
        }
        // In their order, so that of several entries of one key the last counts.
        let alike = |one: &OnlineEntry, other: &OnlineEntry| {
            one.space == other.space && one.value.is_some() == other.value.is_some()
        };
        for run in entries.chunk_by(alike) {
            let mut rest = run;
            while let Some(first) = rest.first() {
                let mut bytes = 0;
                let fits = |entry: &&OnlineEntry| {
                    bytes += size(entry);
                    bytes <= COMMAND_BYTES
                };
                let count = rest.iter().take(FIELDS).take_while(fits).count().max(1);
                let (now, later) = rest.split_at(count);
                let set = first.value.is_some();
                let command = transaction.cmd(if set { "HSET" } else { "HDEL" });
                command.arg(self.hash(&first.space));
                for OnlineEntry { key, value, .. } in now {
                    command.arg(&key[..]);
                    if let Some(value) = value {
                        command.arg(&value[..]);
                    }
                }
                rest = later;
            }
        }
        self.write(transaction).await
    }

    async fn spaces(&self) -> Result<Vec<String>> {
        let mut command = redis::cmd("SMEMBERS");
        command.arg(self.set());
        let names = self.read(&command.into()).await?;
        let mut spaces = Vec::new();
        for name in self.list(names)? {
            let name = String::from_utf8(self.bytes(name)?.into());
            spaces.push(name.context(ErrorKind::Corrupt, &self.name)?);
        }
        spaces.sort_unstable();
        if spaces.is_empty() {
            return Ok(spaces);
        }
        // A hash is gone with its last field; its name stays in the set.
        let mut there = redis::pipe();
        for space in &spaces {
            there.cmd("EXISTS").arg(self.hash(space));
        }
        let there = self.list(self.read(&Question::Several(there)).await?)?;
        let listed = spaces.into_iter().zip(there);
        Ok(listed.filter(|(_, there)| *there == Value::Int(1)).map(|(space, _)| space).collect())
    }

    async fn page(&self, space: &str, after: Option<&Bytes>, most: usize) -> Result<OnlinePage> {
        let after = after.map_or(Ok("0"), |after| std::str::from_utf8(after));
        let after = after.context(ErrorKind::Invalid, "a page after something of another store")?;
        let mut command = redis::cmd("HSCAN");
        command.arg(self.hash(space)).arg(after).arg("COUNT").arg(most.max(1));
        let answer = self.list(self.read(&command.into()).await?)?;
        let Ok([next, fields]) = <[Value; 2]>::try_from(answer) else {
            return Err(self.strange());
        };
        let next = Some(self.bytes(next)?).filter(|next| next != "0");
        let mut fields = self.list(fields)?.into_iter();
        let mut entries = Vec::with_capacity(fields.len() / 2);
        while let Some(key) = fields.next() {
            let value = fields.next().ok_or_else(|| self.strange())?;
            entries.push((self.bytes(key)?, self.bytes(value)?));
        }
        Ok(OnlinePage { entries, next })
    }
}

impl RedisOnlineStore {
    fn list(&self, value: Value) -> Result<Vec<Value>> {
        match value {
            Value::Array(values) | Value::Set(values) => Ok(values),
            _ => Err(self.strange()),
        }
    }

    fn bytes(&self, value: Value) -> Result<Bytes> {
        match value {
            Value::BulkString(bytes) => Ok(bytes.into()),
            _ => Err(self.strange()),
        }
    }
}

/// What a reader asks.
enum Question {
    One(Cmd),
    Several(Pipeline),
}

impl From<Cmd> for Question {
    fn from(command: Cmd) -> Self {
        Self::One(command)
    }
}

impl Question {
    async fn ask(&self, connection: &mut MultiplexedConnection) -> Result<Value, RedisError> {
        match self {
            Self::One(command) => command.query_async(connection).await,
            Self::Several(commands) => commands.query_async(connection).await.map(Value::Array),
        }
    }
}

/// A connection that is made when it is needed.
struct Line {
    client: Client,
    held: Mutex<Option<MultiplexedConnection>>,
}

impl Line {
    /// The connection, and whether it was there already.
    async fn get(&self) -> Result<(MultiplexedConnection, bool), RedisError> {
        let mut held = self.held.lock().await;
        if let Some(connection) = &*held {
            return Ok((connection.clone(), true));
        }
        let settings = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT))
            .set_response_timeout(Some(ANSWER));
        let connection =
            self.client.get_multiplexed_async_connection_with_config(&settings).await?;
        *held = Some(connection.clone());
        Ok((connection, false))
    }

    async fn forget(&self) {
        *self.held.lock().await = None;
    }
}

/// Whether the connection is of no more use.
fn broken(error: &RedisError) -> bool {
    error.is_io_error() || error.is_connection_dropped() || error.is_unrecoverable_error()
}

/// The server and the prefix. Messages do not repeat the URL, which may hold a password.
fn parse(url: &str) -> Result<(Client, String)> {
    let bad = "not a URL of the form `redis://[USER[:PASSWORD]@]HOST[:PORT][/DATABASE]`";
    let mut url = Url::parse(url).context(ErrorKind::Invalid, bad)?;
    let mut prefix = "kaizen".to_owned();
    for (name, value) in url.query_pairs() {
        if name != "prefix" {
            let message = format!("a Redis URL: parameter `{name}`, where only `prefix` is known");
            return Err(Error::invalid(message));
        }
        prefix = value.into_owned();
    }
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if prefix.is_empty() || !prefix.bytes().all(plain) {
        let wanted = "letters, digits, `-`, `_` and `.`";
        return Err(Error::invalid(format!("a Redis URL: prefix `{prefix}`, not of {wanted}")));
    }
    url.set_query(None);
    if url.scheme() != "redis" {
        let message = format!("`{}:`: only `redis:` is built in", url.scheme());
        return Err(Error::new(ErrorKind::Unsupported, message));
    }
    let info = url.as_str().into_connection_info().context(ErrorKind::Invalid, bad)?;
    Ok((Client::open(info).context(ErrorKind::Invalid, bad)?, prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_url_is_refused_without_its_password() {
        let cases = [
            ("redis://me:secret@", "not a URL"),
            ("secret", "not a URL"),
            ("redis://me:secret@host/notanumber", "not a URL"),
            ("rediss://me:secret@host/", "only `redis:`"),
            ("redis://me:secret@host/?prefix=a:b", "prefix `a:b`"),
            ("redis://me:secret@host/?prefix=", "prefix ``"),
            ("redis://me:secret@host/?protocol=resp3", "parameter `protocol`"),
        ];
        for (url, part) in cases {
            let error = parse(url).unwrap_err();
            assert!(error.to_string().contains(part), "{url}: {error}");
            assert!(!format!("{error:?}").contains("secret"), "{error:?}");
        }
        let (client, prefix) = parse("redis://h:1/2?prefix=p").unwrap();
        assert_eq!((client.get_connection_info().redis_settings().db(), &*prefix), (2, "p"));
    }
}
