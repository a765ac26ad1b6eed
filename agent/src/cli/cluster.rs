//! `penstock cluster`.

use clap::Args;

use super::error::Outcome;
use super::http_client::get_json;
use super::output::{OutputArguments, Table};
use crate::http::cluster::{AgentReport, ClusterReport};

/// The arguments of `cluster`.
#[derive(Debug, Args)]
#[command(after_help = "\
Columns: LEASE is how long an agent's lease is and for how long it gave no sign of life; LEADERS how many partitions
clients are told to be led by it; GROUPS the consumer groups that it coordinates, and LAG how many records these are behind.

Examples:
  penstock cluster
  penstock cluster --agent-http 127.0.0.1:9645 --output json
  curl -X POST http://127.0.0.1:9645/admin/drain")]
pub(super) struct ClusterArguments {
    /// The HTTP address of any agent of the cluster
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:9644", env = "PENSTOCK_AGENT_HTTP")]
    agent_http: String,
    #[command(flatten)]
    output: OutputArguments,
}

/// Shows the agents of a cluster.
pub(super) fn run(arguments: &ClusterArguments) -> Outcome {
    let report: ClusterReport = get_json(&arguments.agent_http, "/cluster")?;
    if report.lag_is_partial {
        eprintln!("there are many groups: LAG is that of the first 1,000 only");
    }
    arguments.output.print(&report, || table(&report))
}

fn table(report: &ClusterReport) -> Table {
    let mut table = Table::new([
        "NODE", "NAME", "KAFKA", "HTTP", "ZONE", "PHASE", "LEASE", "LEADERS", "GROUPS", "LAG", "VERSION",
    ]);
    for agent in &report.agents {
        table.row([
            mark(report, agent),
            agent.name.clone(),
            agent.kafka.clone(),
            agent.http.clone(),
            agent.zone.clone(),
            agent.phase.clone(),
            lease(report, agent),
            agent.leaders.to_string(),
            agent.groups.to_string(),
            agent.lag.to_string(),
            agent.version.clone(),
        ]);
    }
    table
}

/// The controller has a star.
fn mark(report: &ClusterReport, agent: &AgentReport) -> String {
    if agent.node == report.controller { format!("{}*", agent.node) } else { agent.node.to_string() }
}

fn lease(report: &ClusterReport, agent: &AgentReport) -> String {
    if agent.node == report.node {
        return match report.lease_left_ms {
            0 => "ended".to_owned(),
            left => format!("{left} of {} ms left", agent.lease_ms),
        };
    }
    format!("{} ms, silent {} ms", agent.lease_ms, agent.silent_ms)
}
