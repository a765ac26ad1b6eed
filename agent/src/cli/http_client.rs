//! Asking an agent over HTTP.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use serde::de::DeserializeOwned;

use super::CommandError;

const TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of an answer at most.
const ANSWER_MAX: u64 = 16 << 20;

/// The body of the answer to a GET of `path`.
pub(super) fn get(address: &str, path: &str) -> io::Result<String> {
    ask(address, "GET", path)
}

/// What an agent answers to a GET of `path`.
pub(super) fn get_json<T: DeserializeOwned>(address: &str, path: &str) -> Result<T, CommandError> {
    parsed(address, get(address, path))
}

/// What an agent answers to a POST to `path`.
pub(super) fn post_json<T: DeserializeOwned>(address: &str, path: &str) -> Result<T, CommandError> {
    parsed(address, ask(address, "POST", path))
}

fn parsed<T: DeserializeOwned>(address: &str, body: io::Result<String>) -> Result<T, CommandError> {
    let failed = |reason: String| CommandError::Failed(format!("the agent at {address}: {reason}"));
    let body = body.map_err(|error| failed(error.to_string()))?;
    serde_json::from_str(&body)
        .map_err(|error| failed(format!("its answer is not that of a Penstock agent ({error})")))
}

/// Of HTTP/1.0, so the body is whatever comes until the connection ends.
fn ask(address: &str, method: &str, path: &str) -> io::Result<String> {
    let unresolved = || io::Error::other("the name has no address");
    let resolved = address.to_socket_addrs()?.next().ok_or_else(unresolved)?;
    let mut stream = TcpStream::connect_timeout(&resolved, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    stream.write_all(
        format!("{method} {path} HTTP/1.0\r\nHost: {address}\r\nContent-Length: 0\r\n\r\n").as_bytes(),
    )?;
    let mut answer = String::new();
    stream.take(ANSWER_MAX).read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| io::Error::other("no HTTP answer"))?;
    if !matches!(head.split_whitespace().nth(1), Some("200" | "202")) {
        let status = head.lines().next().unwrap_or_default();
        return Err(io::Error::other(format!("{status}: {}", body.trim())));
    }
    Ok(body.to_owned())
}
