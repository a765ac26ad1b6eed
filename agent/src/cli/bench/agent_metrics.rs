//! The agent's own numbers, read from its `/metrics` before and after.

use crate::cli::CommandError;
use crate::cli::http_client::get;
use crate::metrics::definitions;

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
