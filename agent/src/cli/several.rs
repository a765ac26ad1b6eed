//! `penstock dev --agents N`: several agents in one process, each in a runtime of its own, so that one can be ended as if
//! it were killed while the others go on. They share the metadata store and nothing else.

use std::sync::Arc;
use std::thread::JoinHandle;

use penstock_config::{AgentConfig, Loaded};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::CommandError;
use super::agent::{Signals, exit_at_once, new_runtime};
use super::banner::{self, Started};
use super::error::Outcome;
use crate::http::Control;
use crate::start::{Interruption, SharedStores, start};

/// What an agent's thread tells.
#[derive(Debug)]
enum Event {
    Started(Started),
    Ended { number: usize, outcome: Result<(), String> },
}

/// Runs `count` agents until a signal, or until all have ended.
pub(super) fn run(loaded: &Loaded, count: u16) -> Outcome {
    let configs =
        (0..count).map(|number| config_of(&loaded.config, number)).collect::<Result<Vec<_>, _>>()?;
    let runtime = new_runtime()?;
    let outcome = runtime.block_on(supervise(loaded, configs));
    runtime.shutdown_background();
    outcome
}

/// The configuration of one agent: the ports that follow, and a name by which it finds its id again.
fn config_of(config: &AgentConfig, number: u16) -> Result<AgentConfig, CommandError> {
    let mut config = config.clone();
    let usage = |option: &str| CommandError::Usage(format!("{option} has no room for so many agents' ports"));
    let shift = |port: &mut u16, option: &str| {
        // 0 is a free one for each.
        *port = if *port == 0 { 0 } else { port.checked_add(number).ok_or_else(|| usage(option))? };
        Ok::<_, CommandError>(())
    };
    shift(&mut config.server.listen.port, "--listen")?;
    shift(&mut config.http.http.port, "--http")?;
    if let Some(advertise) = &mut config.server.advertise {
        shift(&mut advertise.port, "--advertise")?;
    }
    if config.node.node_id >= 0 {
        config.node.node_id = config.node.node_id.saturating_add(i32::from(number));
    }
    let base = if config.node.node_name.is_empty() { "dev" } else { config.node.node_name.as_str() };
    config.node.node_name = format!("{base}-{}", number + 1);
    Ok(config)
}

async fn supervise(loaded: &Loaded, configs: Vec<AgentConfig>) -> Outcome {
    let mut signals = Signals::new()?;
    let failed = |error: crate::start::StartError| CommandError::Failed(error.to_string());
    let stores = tokio::select! {
        opened = SharedStores::open(&loaded.config) => Arc::new(opened.map_err(failed)?),
        () = signals.wait() => return Ok(()),
    };
    let stop = CancellationToken::new();
    let (events, mut told) = mpsc::channel(configs.len() * 2);
    let mut threads = Vec::new();
    let mut failures = Vec::new();
    // One behind the other, so that ids follow the ports.
    for (number, config) in configs.into_iter().enumerate() {
        let seed =
            Seed { number, config, stores: Arc::clone(&stores), stop: stop.clone(), events: events.clone() };
        threads.push(seed.spawn()?);
        let has_started = loop {
            let event = tokio::select! {
                event = told.recv() => event,
                () = signals.wait() => None,
            };
            match event {
                Some(Event::Started(started)) => {
                    banner::print_one_of(loaded, &started, number);
                    break true;
                }
                Some(Event::Ended { number: ended, outcome }) => {
                    failures.extend(outcome.err());
                    // Another one may have been told to drain.
                    if ended == number {
                        break false;
                    }
                }
                None => break false,
            }
        };
        if !has_started {
            stop.cancel();
            break;
        }
    }
    drop(events);
    loop {
        tokio::select! {
            event = told.recv() => match event {
                Some(Event::Ended { number, outcome }) => {
                    tracing::info!(agent = number + 1, ?outcome, "an agent has ended");
                    failures.extend(outcome.err());
                }
                Some(Event::Started(_)) => {}
                None => break,
            },
            () = signals.wait() => {
                if stop.is_cancelled() {
                    exit_at_once();
                }
                tracing::info!("stopping all agents");
                stop.cancel();
            }
        }
    }
    for thread in threads {
        let _panicked = thread.join();
    }
    if let Some(stores) = Arc::into_inner(stores) {
        stores.close().await;
    }
    if failures.is_empty() { Ok(()) } else { Err(CommandError::Failed(failures.join("; "))) }
}

/// An agent to be started on a thread.
struct Seed {
    number: usize,
    config: AgentConfig,
    stores: Arc<SharedStores>,
    stop: CancellationToken,
    events: mpsc::Sender<Event>,
}

impl Seed {
    fn spawn(self) -> Result<JoinHandle<()>, CommandError> {
        let name = format!("agent-{}", self.number + 1);
        let spawned = std::thread::Builder::new().name(name).spawn(move || {
            let (number, events) = (self.number, self.events.clone());
            let outcome = match new_runtime() {
                Ok(runtime) => self.run(runtime),
                Err(error) => Err(error.to_string()),
            };
            let _nobody_listens = events.blocking_send(Event::Ended { number, outcome });
        });
        spawned.map_err(|error| CommandError::Failed(format!("an agent's thread can't be started: {error}")))
    }

    fn run(self, runtime: Runtime) -> Result<(), String> {
        let outcome = runtime.block_on(self.serve());
        // Ends every task where it stands: an aborted agent finishes nothing.
        runtime.shutdown_background();
        outcome
    }

    async fn serve(self) -> Result<(), String> {
        let mut agent = tokio::select! {
            started = start(self.config, self.stores.parts()) => started.map_err(|error| error.to_string())?,
            () = self.stop.cancelled() => return Ok(()),
        };
        drop(self.stores);
        let _nobody_listens = self.events.send(Event::Started(Started::of(&agent))).await;
        let mut failure = None;
        tokio::select! {
            () = self.stop.cancelled() => {}
            interruption = agent.interrupted() => match interruption {
                Interruption::Failed(failed) => failure = Some(failed.to_string()),
                Interruption::Asked(Control::Drain) => {}
                Interruption::Asked(Control::Abort) => return Ok(()),
            },
        }
        agent.shutdown().await.map_err(|error| error.to_string())?;
        failure.map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_follow_and_names_differ() {
        let mut config = AgentConfig::default();
        let third = config_of(&config, 2).expect("there is room");
        assert_eq!((third.server.listen.port, third.http.http.port), (9_094, 9_646));
        assert_eq!((third.node.node_id, third.node.node_name.as_str()), (-1, "dev-3"));
        config.server.listen.port = 0;
        config.node.node_id = 5;
        let third = config_of(&config, 2).expect("there is room");
        assert_eq!((third.server.listen.port, third.node.node_id), (0, 7));
        config.http.http.port = 65_535;
        assert!(config_of(&config, 0).is_ok());
        assert!(config_of(&config, 1).is_err());
    }
}
