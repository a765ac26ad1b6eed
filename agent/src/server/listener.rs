//! The seam to the network: TCP in production, a simulated network elsewhere.

use std::future::Future;
use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// Where connections come from.
pub trait Listener: Send + 'static {
    /// A connection.
    type Stream: Stream;

    /// The next connection and its client's address. Cancel-safe: no connection is lost. An error is about one
    /// connection, or about a resource (file descriptors) that others may free: the caller goes on after a pause.
    fn accept(&mut self) -> impl Future<Output = io::Result<(Self::Stream, SocketAddr)>> + Send;

    /// Where it listens.
    fn local_addr(&self) -> io::Result<SocketAddr>;
}

/// A connection: two directions that are used at the same time.
pub trait Stream: Send + 'static {
    /// From the client.
    type Read: AsyncRead + Unpin + Send + 'static;
    /// To the client.
    type Write: AsyncWrite + Unpin + Send + 'static;

    /// Takes the directions apart; the connection is closed when both are dropped.
    fn split(self) -> (Self::Read, Self::Write);
}

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 1024;

/// Listens on `address`; port 0 takes a free one.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A restarted agent must not wait for the connections of its predecessor to time out.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

impl Listener for TcpListener {
    type Stream = TcpStream;

    async fn accept(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        let (stream, peer) = Self::accept(self).await?;
        // Answers are written in one piece: waiting for more to fill a packet only delays them.
        stream.set_nodelay(true)?;
        Ok((stream, peer))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Self::local_addr(self)
    }
}

impl Stream for TcpStream {
    type Read = OwnedReadHalf;
    type Write = OwnedWriteHalf;

    fn split(self) -> (OwnedReadHalf, OwnedWriteHalf) {
        self.into_split()
    }
}
