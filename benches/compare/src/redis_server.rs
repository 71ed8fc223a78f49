//! A Redis server for the time of a comparison.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use kaizen_core::{Context, Error, ErrorKind, Result};

/// A Redis server on loopback that keeps nothing; it is stopped when this is dropped.
pub(crate) struct RedisServer {
    process: Child,
    port: u16,
}

impl RedisServer {
    /// Starts one on a free port; `None` if there is no `redis-server` on the path.
    pub(crate) fn start() -> Result<Option<Self>> {
        let place = "redis-server";
        // Free now, and hardly taken by anybody in the moment until the server has it.
        let free =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
        let port = free.context(ErrorKind::Unavailable, "a free port")?.port();
        let mut command = Command::new(place);
        command.args(["--bind", "127.0.0.1", "--port", &port.to_string()]);
        command.args(["--save", "", "--appendonly", "no"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let process = match command.spawn() {
            Ok(process) => process,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).context(ErrorKind::Unavailable, place),
        };
        let server = Self { process, port };
        for _ in 0..100 {
            if TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok() {
                return Ok(Some(server));
            }
            sleep(Duration::from_millis(50));
        }
        Err(Error::new(ErrorKind::Unavailable, format!("{place}: not there on port {port}")))
    }

    /// Its address, host and port.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}
