//! `dev --agents 3` under load: an agent that drains is not noticed, one that is ended as if killed costs time and nothing
//! else, and groups move without a rebalance.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use penstock_tests::load::{Load, Plan, create_topic};
use penstock_tests::{BrokerSpec, free_ports, http, http_get, nap};
use rdkafka::client::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, Rebalance};
use rdkafka::error::KafkaError;
use tokio::time::Instant;

const AGENTS: u16 = 3;
const PARTITIONS: i32 = 6;
/// Longer than a lease and what clients take to ask again.
const WITHIN: Duration = Duration::from_secs(60);

/// The agents as specs of one broker each.
fn agents(first: &BrokerSpec) -> Vec<BrokerSpec> {
    let of = |number: u16| {
        let mut spec = first.clone();
        spec.kafka_port += number;
        spec.http_port += number;
        spec
    };
    (0..AGENTS).map(of).collect()
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) -> Result<()> {
    let begun = Instant::now();
    while !is_so() {
        ensure!(begun.elapsed() < WITHIN, "{what}: not within {WITHIN:?}");
        nap(Duration::from_millis(20));
    }
    Ok(())
}

fn is_ready(spec: &BrokerSpec) -> bool {
    http_get(spec.http_port, "/health/ready").is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
}

/// What a member of a group counts.
#[derive(Debug, Default)]
struct Counts {
    assignments: AtomicU64,
    records: AtomicU64,
}

struct Counting(Arc<Counts>);

impl ClientContext for Counting {
    fn error(&self, _: KafkaError, _: &str) {}
}

impl ConsumerContext for Counting {
    fn post_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Assign(_) = rebalance {
            self.0.assignments.fetch_add(1, SeqCst);
        }
    }
}

/// A consumer of the group, told of one agent.
struct Member {
    counts: Arc<Counts>,
    thread: JoinHandle<Result<()>>,
}

impl Member {
    fn start(spec: &BrokerSpec, topic: &str, stop: &Arc<AtomicBool>) -> Result<Self> {
        let counts = Arc::new(Counts::default());
        let consumer: BaseConsumer<Counting> = ClientConfig::new()
            .set("bootstrap.servers", spec.bootstrap())
            .set("group.id", "the-group")
            .set("auto.offset.reset", "earliest")
            .set("session.timeout.ms", "20000")
            .create_with_context(Counting(Arc::clone(&counts)))?;
        consumer.subscribe(&[topic])?;
        let (counted, stop) = (Arc::clone(&counts), Arc::clone(stop));
        let thread = std::thread::spawn(move || {
            while !stop.load(SeqCst) {
                if let Some(Ok(_)) = consumer.poll(Duration::from_millis(100)) {
                    counted.records.fetch_add(1, SeqCst);
                }
            }
            Ok(())
        });
        Ok(Self { counts, thread })
    }
}

#[test]
fn agents_drain_and_die_under_load_and_groups_move_along() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let mut first = BrokerSpec::new(directory.path(), &["--agents", "3"])?;
    first.kafka_port = free_ports(AGENTS)?;
    first.http_port = free_ports(AGENTS)?;
    let process = first.start()?;
    let agents = agents(&first);
    wait_until("all agents are ready", || agents.iter().all(is_ready))?;
    create_topic(&agents[2], "load", PARTITIONS, &[])?;

    // The producers are told of the agent that drains first, and then of nobody.
    let plan = Plan {
        topic: "load".to_owned(),
        partitions: PARTITIONS,
        producers: 2,
        records_per_second: 1_000,
        value_bytes: 24,
        settings: vec![("linger.ms", "2")],
    };
    let load = Load::start(&agents[1], plan);
    let stop = Arc::new(AtomicBool::new(false));
    let members = agents.iter().map(|spec| Member::start(spec, "load", &stop)).collect::<Result<Vec<_>>>()?;
    let total = |of: fn(&Counts) -> &AtomicU64| {
        members.iter().map(|member| of(&member.counts).load(SeqCst)).sum::<u64>()
    };
    let consumed = || total(|counts| &counts.records);
    wait_until("every member consumes", || {
        members.iter().all(|member| member.counts.records.load(SeqCst) > 0)
    })?;
    load.wait_for(500, WITHIN)?;
    let assignments = total(|counts| &counts.assignments);

    let begun = Instant::now();
    let answer = http(agents[1].http_port, "POST", "/admin/drain")?;
    ensure!(answer.starts_with("HTTP/1.1 202"), "{answer}");
    wait_until("the drained agent ends", || http_get(agents[1].http_port, "/health/live").is_err())?;
    println!("drained in {:?}", begun.elapsed());
    let slowest = load.wait_for(500, WITHIN)?;
    ensure!(slowest < Duration::from_secs(10), "a drain holds nobody up: {slowest:?}");

    let answer = http(agents[2].http_port, "POST", "/admin/abort")?;
    ensure!(answer.starts_with("HTTP/1.1 202"), "{answer}");
    println!("500 records after an agent was killed took {:?}", load.wait_for(500, WITHIN)?);
    wait_until("one agent is left", || {
        http_get(agents[0].http_port, "/cluster").is_ok_and(|report| report.matches("\"node\":").count() == 2)
    })?;
    load.wait_for(1_000, WITHIN)?;

    let outcome = load.finish_at(&agents[0])?;
    ensure!(outcome.acknowledged == outcome.sent && outcome.found == outcome.sent, "{outcome:?}");
    wait_until("the group has everything", || consumed() >= outcome.sent)?;
    ensure!(consumed() == outcome.sent, "{} records for {} sent: some came again", consumed(), outcome.sent);
    let now = total(|counts| &counts.assignments);
    ensure!(now == assignments, "{} rebalances since the agents went", now - assignments);
    stop.store(true, SeqCst);
    for member in members {
        member.thread.join().ok().context("a member's thread")??;
    }
    ensure!(process.terminate()? == Some(0), "SIGTERM ends the last agent with exit code 0");
    Ok(())
}
