//! An HTTP proxy between an agent and its object store that does what networks and stores do.
//!
//! It knows as much of HTTP/1.1 as the two speak: messages with a length or in chunks, many on a connection.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Result;
use penstock_types::{Randomness, SeededRandomness};

use crate::nap;

/// What is done to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Answered with 503, not forwarded.
    Unavailable,
    /// Neither forwarded nor answered; the connection stays open.
    Hang,
    /// The connection is closed before anything is forwarded.
    Closed,
    /// Forwarded and carried out; the connection is closed instead of the answer.
    LostAnswer,
    /// Forwarded and carried out; half of the answer is sent, then the connection is closed.
    CutAnswer,
    /// Forwarded and carried out; neither answered nor closed.
    HangBehind,
    /// Answered late.
    Slow,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Unavailable,
        Self::Hang,
        Self::Closed,
        Self::LostAnswer,
        Self::CutAnswer,
        Self::HangBehind,
        Self::Slow,
    ];
}

/// Runs until it is dropped.
#[derive(Debug)]
pub struct Proxy {
    /// Where it listens on 127.0.0.1.
    pub port: u16,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    upstream: u16,
    /// The faults that happen, and to how many of a hundred requests each.
    plan: Mutex<Vec<(Fault, u64)>>,
    random: SeededRandomness,
    injected: AtomicU64,
    stop: AtomicBool,
}

impl Proxy {
    /// A proxy in front of 127.0.0.1:`upstream` that does nothing to anything yet.
    pub fn start(upstream: u16, seed: u64) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        let shared = Arc::new(Shared {
            upstream,
            plan: Mutex::default(),
            random: SeededRandomness::new(seed),
            injected: AtomicU64::new(0),
            stop: AtomicBool::new(false),
        });
        let accepting = Arc::clone(&shared);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(io::Result::ok) {
                if accepting.stop.load(SeqCst) {
                    return;
                }
                let shared = Arc::clone(&accepting);
                // An error is the end of a connection, as either side wanted it.
                std::thread::spawn(move || shared.serve(client).err());
            }
        });
        Ok(Self { port, shared })
    }

    /// From now on, each of `faults` happens to `percent` of a hundred requests.
    pub fn inject(&self, faults: &[Fault], percent: u64) {
        *self.shared.plan.lock().expect("not poisoned") =
            faults.iter().map(|fault| (*fault, percent)).collect();
    }

    /// How many faults were injected so far.
    pub fn injected(&self) -> u64 {
        self.shared.injected.load(SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.stop.store(true, SeqCst);
        // Wakes the thread that accepts.
        let _closed = TcpStream::connect(("127.0.0.1", self.port));
    }
}

impl Shared {
    fn draw(&self) -> Option<Fault> {
        let mut drawn = self.random.below(100);
        for (fault, percent) in self.plan.lock().expect("not poisoned").iter() {
            if drawn < *percent {
                self.injected.fetch_add(1, SeqCst);
                return Some(*fault);
            }
            drawn -= percent;
        }
        None
    }

    fn serve(&self, mut client: TcpStream) -> io::Result<()> {
        client.set_nodelay(true)?;
        let mut requests = BufReader::new(client.try_clone()?);
        let mut store: Option<BufReader<TcpStream>> = None;
        while let Some(request) = read_message(&mut requests, true)? {
            let fault = self.draw();
            match fault {
                Some(Fault::Unavailable) => {
                    client.write_all(UNAVAILABLE)?;
                    continue;
                }
                Some(Fault::Hang) => return self.hang(&client),
                Some(Fault::Closed) => return client.shutdown(Shutdown::Both),
                _ => {}
            }
            let connection = match &mut store {
                Some(connection) => connection,
                None => store.insert(BufReader::new(self.connect()?)),
            };
            connection.get_mut().write_all(&request)?;
            let has_body = !request.starts_with(b"HEAD ");
            let Some(answer) = read_message(connection, has_body)? else {
                return client.shutdown(Shutdown::Both);
            };
            match fault {
                Some(Fault::LostAnswer) => return client.shutdown(Shutdown::Both),
                Some(Fault::HangBehind) => return self.hang(&client),
                Some(Fault::CutAnswer) => {
                    client.write_all(&answer[..answer.len() / 2])?;
                    return client.shutdown(Shutdown::Both);
                }
                Some(Fault::Slow) => nap(Duration::from_millis(200 + self.random.below(1300))),
                _ => {}
            }
            client.write_all(&answer)?;
        }
        Ok(())
    }

    fn connect(&self) -> io::Result<TcpStream> {
        let stream = TcpStream::connect(("127.0.0.1", self.upstream))?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// Until the client has had enough.
    fn hang(&self, mut client: &TcpStream) -> io::Result<()> {
        client.set_read_timeout(Some(Duration::from_millis(200)))?;
        let mut byte = [0];
        while !self.stop.load(SeqCst) {
            match client.read(&mut byte) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

const UNAVAILABLE: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/xml\r\n\
    Content-Length: 96\r\n\r\n<Error><Code>SlowDown</Code><Message>Please reduce your request rate.  \
    </Message></Error>       ";

/// One message with its head and body; `None` at the end of the connection.
fn read_message(from: &mut impl BufRead, has_body: bool) -> io::Result<Option<Vec<u8>>> {
    let mut message = Vec::new();
    let (mut length, mut chunked) = (0, false);
    loop {
        let start = message.len();
        if from.read_until(b'\n', &mut message)? == 0 {
            return if start == 0 { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
        }
        let line = String::from_utf8_lossy(&message[start..]).trim().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().map_err(io::Error::other)?;
        }
        chunked |= line.starts_with("transfer-encoding:") && line.ends_with("chunked");
    }
    let status = message.get(9..12).filter(|_| message.starts_with(b"HTTP/"));
    if !has_body || matches!(status, Some(b"204" | b"304")) {
        return Ok(Some(message));
    }
    if chunked {
        read_chunks(from, &mut message)?;
    } else {
        read_bytes(from, length, &mut message)?;
    }
    Ok(Some(message))
}

fn read_chunks(from: &mut impl BufRead, message: &mut Vec<u8>) -> io::Result<()> {
    loop {
        let start = message.len();
        from.read_until(b'\n', message)?;
        let size = String::from_utf8_lossy(&message[start..]).trim().to_owned();
        let size = u64::from_str_radix(&size, 16).map_err(io::Error::other)?;
        read_bytes(from, size + 2, message)?;
        if size == 0 {
            return Ok(());
        }
    }
}

fn read_bytes(from: &mut impl BufRead, count: u64, message: &mut Vec<u8>) -> io::Result<()> {
    if from.take(count).read_to_end(message)? as u64 != count {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(())
}
