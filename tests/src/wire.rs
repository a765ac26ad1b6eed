//! Kafka's protocol by hand: frames that no client would send.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::BrokerSpec;

/// A connection to a broker.
#[derive(Debug)]
pub struct Raw(TcpStream);

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    /// A frame without its length.
    Frame(Vec<u8>),
    /// The broker closed the connection.
    Closed,
}

impl Raw {
    /// Connects; answers are waited for `patience` at most.
    pub fn connect(spec: &BrokerSpec, patience: Duration) -> Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", spec.kafka_port)).context("the broker accepts")?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))?;
        Ok(Self(stream))
    }

    /// Sends bytes; a broker that has closed the connection already is no error.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        match self.0.write_all(bytes) {
            Err(error) if !is_closed(&error) => Err(error).context("sending"),
            _ => Ok(()),
        }
    }

    /// Says that nothing more will be sent.
    pub fn end(&mut self) -> Result<()> {
        match self.0.shutdown(std::net::Shutdown::Write) {
            Err(error) if !is_closed(&error) => Err(error).context("closing"),
            _ => Ok(()),
        }
    }

    /// The next answer, or the connection's end.
    pub fn receive(&mut self) -> Result<Received> {
        let mut head = [0; 4];
        if !self.fill(&mut head)? {
            return Ok(Received::Closed);
        }
        let length = i32::from_be_bytes(head);
        ensure!((0..1 << 28).contains(&length), "an answer of {length} bytes");
        let mut frame = vec![0; length as usize];
        ensure!(self.fill(&mut frame)?, "an answer ends early");
        Ok(Received::Frame(frame))
    }

    /// Waits for the connection's end; an answer is an error.
    pub fn closed(&mut self) -> Result<()> {
        match self.receive()? {
            Received::Closed => Ok(()),
            Received::Frame(frame) => {
                bail!("an answer of {} bytes: {:?}", frame.len(), &frame[..frame.len().min(40)])
            }
        }
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Result<bool> {
        match self.0.read_exact(buffer) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof || is_closed(&error) => Ok(false),
            Err(error) => Err(error).context("neither an answer nor the connection's end"),
        }
    }
}

fn is_closed(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionReset
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::NotConnected
    )
}

/// A whole frame: length, request header (version 2 where `flexible`, else 1), body.
pub fn frame(api_key: i16, version: i16, correlation_id: i32, flexible: bool, body: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; 4];
    frame.extend_from_slice(&api_key.to_be_bytes());
    frame.extend_from_slice(&version.to_be_bytes());
    frame.extend_from_slice(&correlation_id.to_be_bytes());
    frame.extend_from_slice(b"\0\x04test");
    if flexible {
        frame.push(0);
    }
    frame.extend_from_slice(body);
    let length = (frame.len() - 4) as i32;
    frame[..4].copy_from_slice(&length.to_be_bytes());
    frame
}
