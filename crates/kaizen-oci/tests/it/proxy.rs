//! A proxy that cuts connections at chosen bytes.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// After how many bytes a connection is cut: of those to the server, and of those from it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cut {
    pub(crate) up: Option<usize>,
    pub(crate) down: Option<usize>,
}

/// A proxy, until it is dropped.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    cuts: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// A proxy in front of a server. `plan` says what happens to the n-th connection.
    pub(crate) async fn start(
        server: SocketAddr,
        mut plan: impl FnMut(usize) -> Cut + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let cuts = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&cuts);
        let task = tokio::spawn(async move {
            let mut number = 0;
            while let Ok((client, _)) = listener.accept().await {
                let cut = plan(number);
                number += 1;
                let counted = Arc::clone(&counted);
                tokio::spawn(async move {
                    let Ok(upstream) = TcpStream::connect(server).await else { return };
                    let (client_in, client_out) = client.into_split();
                    let (server_in, server_out) = upstream.into_split();
                    // Whichever ends first ends both.
                    let was_cut = tokio::select! {
                        cut = forward(client_in, server_out, cut.up) => cut,
                        cut = forward(server_in, client_out, cut.down) => cut,
                    };
                    counted.fetch_add(usize::from(was_cut), Ordering::SeqCst);
                });
            }
        });
        Self { address, cuts, task }
    }

    /// How many connections were cut.
    pub(crate) fn cuts(&self) -> usize {
        self.cuts.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A proxy that makes tunnels for who knows its password; the requests that it got.
pub(crate) struct Tunnels {
    pub(crate) address: SocketAddr,
    pub(crate) asked: Arc<Mutex<Vec<String>>>,
}

impl Tunnels {
    /// Every tunnel leads to this server, whatever was asked for.
    pub(crate) async fn start(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, asked) = (listener.local_addr().unwrap(), Arc::new(Mutex::default()));
        let noted: Arc<Mutex<Vec<String>>> = Arc::clone(&asked);
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let noted = Arc::clone(&noted);
                tokio::spawn(async move {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        head.push(client.read_u8().await.unwrap());
                    }
                    let head = String::from_utf8(head).unwrap();
                    // `ann:secret`, by Basic.
                    let known = head.contains("Basic YW5uOnNlY3JldA==\r\n");
                    noted.lock().unwrap().push(head);
                    if !known {
                        let refusal = b"HTTP/1.1 407 X\r\ncontent-length: 0\r\n\r\n";
                        return drop(client.write_all(refusal).await);
                    }
                    client.write_all(b"HTTP/1.1 200 X\r\n\r\n").await.unwrap();
                    let mut server = TcpStream::connect(server).await.unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                });
            }
        });
        Self { address, asked }
    }
}

/// Sends bytes on until there are no more, or so many; whether it was the number.
async fn forward(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, most: Option<usize>) -> bool {
    let mut left = most.unwrap_or(usize::MAX);
    let mut buffer = vec![0; 16 << 10];
    while left > 0 {
        let room = buffer.len().min(left);
        let Ok(read) = from.read(&mut buffer[..room]).await else { return false };
        if read == 0 || to.write_all(&buffer[..read]).await.is_err() {
            return false;
        }
        left -= read;
    }
    true
}
