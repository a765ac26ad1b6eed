//! The agent's own numbers, read from its `/metrics` before and after.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use crate::cli::CommandError;
use crate::metrics::definitions;

const TIMEOUT: Duration = Duration::from_secs(10);

/// An agent's numbers at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct AgentNumbers {
    /// CPU time so far, in seconds.
    pub(super) cpu_seconds: f64,
    /// Requests to put objects so far.
    pub(super) puts: f64,
    /// Requests to get (parts of) objects so far.
    pub(super) gets: f64,
    /// The most memory that the agent ever had in RAM, in bytes.
    pub(super) peak_memory_bytes: f64,
}

/// Asks the agent, if its address is known.
pub(super) fn read(address: Option<&str>) -> Result<Option<AgentNumbers>, CommandError> {
    let Some(address) = address else { return Ok(None) };
    let failed = |reason: String| CommandError::Failed(format!("the agent's metrics at {address}: {reason}"));
    let text = get(address, "/metrics").map_err(|error| failed(error.to_string()))?;
    parse(&text).map(Some).ok_or_else(|| failed("they are not those of a Penstock agent".to_owned()))
}

/// The body of an answer to HTTP/1.0, which is whatever comes until the connection ends.
fn get(address: &str, path: &str) -> std::io::Result<String> {
    let unresolved = || std::io::Error::other("the name has no address");
    let resolved = address.to_socket_addrs()?.next().ok_or_else(unresolved)?;
    let mut stream = TcpStream::connect_timeout(&resolved, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").as_bytes())?;
    let mut answer = String::new();
    stream.take(16 << 20).read_to_string(&mut answer)?;
    let (head, body) =
        answer.split_once("\r\n\r\n").ok_or_else(|| std::io::Error::other("no HTTP answer"))?;
    if head.split_whitespace().nth(1) != Some("200") {
        return Err(std::io::Error::other(head.lines().next().unwrap_or_default().to_owned()));
    }
    Ok(body.to_owned())
}

fn parse(text: &str) -> Option<AgentNumbers> {
    let value = |name: &str, label: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(label)?.strip_prefix(' ')?.parse().ok())
    };
    let requests = definitions::OBJECT_STORE_REQUESTS.exposed_name();
    Some(AgentNumbers {
        cpu_seconds: value(&definitions::PROCESS_CPU.exposed_name(), "")?,
        puts: value(&requests, "{operation=\"put\"}")?,
        gets: value(&requests, "{operation=\"get\"}")?,
        peak_memory_bytes: value(&definitions::PROCESS_RESIDENT_MEMORY_PEAK.exposed_name(), "")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{Metrics, Reading};

    #[test]
    fn what_the_agent_writes_is_read() {
        let mut metrics = Metrics::default();
        metrics.value(definitions::PROCESS_CPU, || 1.25);
        metrics.value(definitions::PROCESS_RESIDENT_MEMORY_PEAK, || 1024.0);
        let requests = || Reading::Labelled(vec![(vec!["put".into()], 3.0), (vec!["get".into()], 4.0)]);
        metrics.gather(definitions::OBJECT_STORE_REQUESTS, requests);
        let text = metrics.encode().expect("it encodes");
        let expected = AgentNumbers { cpu_seconds: 1.25, puts: 3.0, gets: 4.0, peak_memory_bytes: 1024.0 };
        assert_eq!(parse(&text), Some(expected));
        assert_eq!(parse("nothing 1"), None);
    }
}
