//! The Rust cells of the client matrix. Arguments: CLIENT BOOTSTRAP CAPABILITY RUN.
//!
//! The process ends with 0 if the capability holds, with 3 and a line `cannot: reason` if the client doesn't have it,
//! else with an error.

use std::process::ExitCode;

use anyhow::{Context, Result, bail};

mod flow;
mod group;
mod rdkafka_client;
mod rskafka_client;

use flow::{Client, Special};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if let Some(Special::Cannot(what)) = error.downcast_ref() {
                println!("cannot: {what}");
                return ExitCode::from(3);
            }
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [client, bootstrap, capability, run] = arguments.as_slice() else {
        bail!("arguments: CLIENT BOOTSTRAP CAPABILITY RUN")
    };
    let client: Box<dyn Client> = match client.as_str() {
        "rdkafka" => Box::new(rdkafka_client::Rdkafka::connect(bootstrap)?),
        "rskafka" => Box::new(rskafka_client::Rskafka::connect(bootstrap)?),
        _ => bail!("no client {client}"),
    };
    let client = client.as_ref();
    if let Some(codec) = capability.strip_prefix("produce-") {
        return flow::produce(client, run, codec, false);
    }
    let check = match capability.as_str() {
        "create-topic" => flow::create_topic,
        "idempotent" => |client: &dyn Client, run: &str| flow::produce(client, run, "none", true),
        "consume-start" => flow::consume_start,
        "consume-end" => flow::consume_end,
        "consume-timestamp" => flow::consume_timestamp,
        "group-of-three" => group::of_three,
        "offsets-resumed" => group::offsets_resumed,
        "admin-topics" => flow::admin_topics,
        "admin-configs" => flow::admin_configs,
        "admin-groups" => group::admin_groups,
        "admin-delete-group" => group::admin_delete_group,
        "admin-partitions" => flow::admin_partitions,
        "admin-delete" => flow::admin_delete,
        _ => bail!("no capability {capability}"),
    };
    check(client, run).with_context(|| run.clone())
}
