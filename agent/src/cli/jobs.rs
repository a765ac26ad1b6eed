//! `penstock jobs`.

use std::time::Duration;

use clap::{Args, Subcommand};
use penstock_types::pause;
use serde::Serialize;

use super::CommandError;
use super::bench::progress::{STEPS, bar};
use super::error::Outcome;
use super::http_client::{get_json, post_json};
use super::output::{OutputArguments, Table};
use super::verify::duration;
use crate::http::cluster::ClusterReport;
use crate::http::jobs::{Asked, JobReport};

/// How often a job that runs is looked at.
const LOOK: Duration = Duration::from_millis(250);

/// The arguments of `jobs`.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Agents share their jobs out: each does what is its own in its turn. `run` gives each agent a turn
at once, also where the job is paused, and waits until all have ended. A pause is told to the agents
that are there; it ends by itself, and with the agent's process.

Columns: DONE counts what the turn under way, or the last, has done, of how much where that is known;
LAST is how long ago the last turn ended, and how long it took.

Examples:
  penstock jobs
  penstock jobs run retention
  penstock jobs pause all --for 2h
  penstock jobs resume all
  penstock jobs --output json"
)]
pub(super) struct JobsArguments {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    common: CommonArguments,
}

/// Whom to ask, and how to print.
#[derive(Debug, Args)]
struct CommonArguments {
    /// The HTTP address of any agent of the cluster
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:9644", env = "PENSTOCK_AGENT_HTTP")]
    agent_http: String,
    #[command(flatten)]
    output: OutputArguments,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Run a job on all agents now, and wait until it is done
    #[command(after_help = "Example:\n  penstock jobs run retention")]
    Run {
        /// Its name, as `penstock jobs` shows it
        job: String,
        #[command(flatten)]
        common: CommonArguments,
    },
    /// Let a job rest on all agents
    #[command(after_help = "Example:\n  penstock jobs pause all --for 2h")]
    Pause {
        /// Its name, or `all`
        job: String,
        /// For how long: at most seven days
        #[arg(long = "for", value_name = "TIME", default_value = "1h", value_parser = duration)]
        time: Duration,
        #[command(flatten)]
        common: CommonArguments,
    },
    /// End a pause
    #[command(after_help = "Example:\n  penstock jobs resume all")]
    Resume {
        /// Its name, or `all`
        job: String,
        #[command(flatten)]
        common: CommonArguments,
    },
}

/// The jobs of an agent.
#[derive(Debug, Serialize)]
struct AgentJobs {
    node: i32,
    http: String,
    jobs: Vec<JobReport>,
}

/// Shows, runs, pauses or resumes jobs.
pub(super) fn run(arguments: &JobsArguments) -> Outcome {
    let common = match &arguments.action {
        None => &arguments.common,
        Some(Action::Run { common, .. } | Action::Pause { common, .. } | Action::Resume { common, .. }) => {
            common
        }
    };
    let agents = agents(&common.agent_http)?;
    match &arguments.action {
        None => {}
        Some(Action::Run { job, .. }) => run_now(&agents, job)?,
        Some(Action::Pause { job, time, .. }) => {
            each(&agents, job, &format!("pause?seconds={}", time.as_secs()))?;
        }
        Some(Action::Resume { job, .. }) => each(&agents, job, "resume")?,
    }
    let shown: Vec<AgentJobs> = agents
        .iter()
        .map(|(node, http)| Ok(AgentJobs { node: *node, http: http.clone(), jobs: jobs(http)? }))
        .collect::<Result<_, CommandError>>()?;
    common.output.print(&shown, || table(&shown))
}

/// The agents that are alive: id and HTTP address.
fn agents(address: &str) -> Result<Vec<(i32, String)>, CommandError> {
    let report: ClusterReport = get_json(address, "/cluster")?;
    // The one that was asked may be reached in its own way.
    let agents =
        report.agents.into_iter().filter(|agent| agent.node == report.node || !agent.http.is_empty());
    let address = |node: i32, http: String| if node == report.node { address.to_owned() } else { http };
    Ok(agents.map(|agent| (agent.node, address(agent.node, agent.http))).collect())
}

fn jobs(address: &str) -> Result<Vec<JobReport>, CommandError> {
    get_json(address, "/jobs")
}

/// The agents that run a job, with its name; of `all`, every job.
fn who_runs<'a>(agents: &'a [(i32, String)], job: &str) -> Result<Vec<(&'a str, String)>, CommandError> {
    let (mut found, mut known) = (Vec::new(), Vec::new());
    for (_, address) in agents {
        for report in jobs(address)? {
            if job == "all" || job == report.name {
                found.push((address.as_str(), report.name.clone()));
            }
            known.push(report.name);
        }
    }
    if found.is_empty() {
        known.sort_unstable();
        known.dedup();
        return Err(CommandError::Failed(format!(
            "no agent runs a job {job}; there are: {}",
            known.join(", ")
        )));
    }
    Ok(found)
}

fn each(agents: &[(i32, String)], job: &str, action: &str) -> Outcome {
    for (address, job) in who_runs(agents, job)? {
        let _: Vec<JobReport> = post_json(address, &format!("/admin/jobs/{job}/{action}"))?;
    }
    Ok(())
}

/// Runs a job everywhere, and waits.
fn run_now(agents: &[(i32, String)], job: &str) -> Outcome {
    let mut waits = Vec::new();
    for (address, job) in who_runs(agents, job)? {
        let asked: Asked = post_json(address, &format!("/admin/jobs/{job}/run"))?;
        waits.push((address, job, asked.turn));
    }
    let clock = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let bar = bar();
    let mut problems = Vec::new();
    loop {
        let (mut done, mut of, mut left) = (0, 0, Vec::new());
        for (address, job, turn) in waits {
            let Some(report) = jobs(address)?.into_iter().find(|report| report.name == job) else { continue };
            done += report.done;
            of += report.of;
            if report.asked_ended < turn {
                left.push((address, job, turn));
            } else if !report.error.is_empty() {
                problems.push(format!("{job} at {address}: {}", report.error));
            }
        }
        if of > 0 {
            bar.set_position((done.min(of) * STEPS).checked_div(of).unwrap_or(0));
        }
        bar.set_message(if of > 0 { format!("{done} of {of}") } else { format!("{done} done") });
        if left.is_empty() {
            break;
        }
        waits = left;
        clock.block_on(pause(LOOK));
    }
    bar.finish_and_clear();
    if problems.is_empty() { Ok(()) } else { Err(CommandError::Failed(problems.join("; "))) }
}

fn table(agents: &[AgentJobs]) -> Table {
    let mut table = Table::new(["NODE", "JOB", "STATE", "DONE", "LAST", "TURNS", "FAILED", "WHAT IT DOES"]);
    for agent in agents {
        for job in &agent.jobs {
            table.row([
                agent.node.to_string(),
                job.name.clone(),
                state(job),
                if job.of > 0 { format!("{} of {}", job.done, job.of) } else { job.done.to_string() },
                last(job),
                job.turns.to_string(),
                job.failures.to_string(),
                if job.error.is_empty() {
                    job.about.clone()
                } else {
                    format!("{}: {}", job.about, job.error)
                },
            ]);
        }
    }
    table
}

fn state(job: &JobReport) -> String {
    match job.state.as_str() {
        "paused" => format!("paused, {} left", seconds(job.paused_ms)),
        "running" => format!("running for {}", seconds(job.running_ms)),
        other => other.to_owned(),
    }
}

fn last(job: &JobReport) -> String {
    match u64::try_from(job.ended_ms_ago) {
        Ok(ago) => format!("{} ago, in {} ms", seconds(ago), job.took_ms),
        Err(_) => "-".to_owned(),
    }
}

fn seconds(milliseconds: u64) -> String {
    format!("{} s", milliseconds / 1_000)
}
