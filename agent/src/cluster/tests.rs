//! Several agents over one memory store: who they see, who coordinates, what a lost lease does.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use penstock_metadata::agents::{Agents, Wanted};
use penstock_metadata::keys::Keyspace;
use penstock_metadata::keys::agent::{AdvertisedListener, Agent, AgentRow, Phase, Roles};
use penstock_metadata::kv::memory::{MemoryFaults, MemoryStore};
use penstock_types::{
    Incarnation, NodeId, PartitionIndex, Randomness, SeededRandomness, StoreVersion, TestClock, TopicId,
    TopicPartition, pause,
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::placement::{Placements, coordinator, zone_of_client};
use super::*;

const LEASE: Duration = Duration::from_secs(6);

fn agent(name: &str, zone: &str, port: u16) -> Agent {
    Agent {
        name: name.to_owned(),
        zone: zone.to_owned(),
        program: "0".to_owned(),
        roles: Roles { clients: true, jobs: true },
        schema: 1,
        http: ("h".to_owned(), 1),
        listeners: vec![AdvertisedListener { name: "PLAINTEXT".to_owned(), host: "h".to_owned(), port }],
        started_ms: 0,
    }
}

pub(super) fn row(node: i32, zone: &str, phase: Phase) -> AgentRow {
    AgentRow {
        session: node as u64,
        renewals: 0,
        renewed_at: (Incarnation::FIRST, StoreVersion::ZERO),
        lease_ms: 6_000,
        phase,
        clock_ms: 0,
        agent: agent("", zone, 9_000 + node as u16),
    }
}

fn membership(zones: &[(i32, &str)]) -> Membership {
    let rows: BTreeMap<NodeId, AgentRow> =
        zones.iter().map(|(node, zone)| (NodeId::new(*node), row(*node, zone, Phase::Serving))).collect();
    Membership::new(NodeId::new(zones[0].0), true, &rows)
}

fn partitions(count: i32) -> impl Iterator<Item = TopicPartition> {
    (0..count).map(|index| TopicPartition {
        topic: TopicId::from_bytes([index as u8; 16]),
        partition: PartitionIndex::new(index / 7),
    })
}

#[test]
fn load_is_spread_and_one_agent_more_moves_only_what_it_gets() {
    let three = membership(&[(1, ""), (2, ""), (3, "")]);
    let four = membership(&[(1, ""), (2, ""), (3, ""), (4, "")]);
    let (before, after) = (Placements::new(&three, ""), Placements::new(&four, ""));
    let mut counts: BTreeMap<NodeId, i32> = BTreeMap::new();
    for partition in partitions(3_000) {
        let (old, new) = (before.of(partition), after.of(partition));
        assert!(
            new.leader == old.leader || new.leader == NodeId::new(4),
            "{partition} moved between old agents"
        );
        assert_eq!(new.replicas, [new.leader]);
        *counts.entry(new.leader).or_default() += 1;
    }
    assert!(counts.len() == 4 && counts.values().all(|count| (600..900).contains(count)), "{counts:?}");
    let groups = (0..3_000).map(|number| format!("group-{number}"));
    let moved = groups.filter(|group| {
        coordinator(&three, group).map(|member| member.node)
            != coordinator(&four, group).map(|member| member.node)
    });
    assert!((600..900).contains(&moved.count()));
}

#[test]
fn leaders_are_of_the_clients_zone_and_replicas_of_every_zone() {
    let members = membership(&[(1, "a"), (2, "a"), (3, "b"), (4, "c")]);
    let (nobody, in_b, elsewhere) =
        (Placements::new(&members, ""), Placements::new(&members, "b"), Placements::new(&members, "x"));
    for partition in partitions(200) {
        let placed = nobody.of(partition);
        assert_eq!((placed.replicas[0], placed.replicas.len()), (placed.leader, 3));
        let zones = |node: &NodeId| members.member(*node).expect("a member").zone.to_string();
        let mut zones: Vec<String> = placed.replicas.iter().map(zones).collect();
        zones.sort();
        assert_eq!(zones, ["a", "b", "c"]);
        assert_eq!(in_b.of(partition).leader, NodeId::new(3));
        assert_eq!(elsewhere.of(partition), placed, "a zone without agents is no zone");
    }
}

#[test]
fn a_client_says_its_zone_anywhere_in_its_id() {
    for (id, zone) in [
        ("zone=a", "a"),
        ("app,zone=eu-1b,x=1", "eu-1b"),
        ("app zone=eu-1b extra", "eu-1b"),
        ("timezone=a", ""),
        ("timezone=a;zone=b", "b"),
        ("app", ""),
        ("zone=", ""),
        ("", ""),
    ] {
        assert_eq!(zone_of_client(id), zone, "{id}");
    }
}

#[test]
fn a_draining_agent_is_named_only_when_nobody_else_is_left() {
    let of = |phases: [Phase; 2]| {
        let rows = phases.into_iter().zip(1..).map(|(phase, node)| (NodeId::new(node), row(node, "", phase)));
        Membership::new(NodeId::new(1), true, &rows.collect())
    };
    let both = of([Phase::Draining, Phase::Serving]);
    assert_eq!(both.serving().iter().map(|member| member.node.get()).collect::<Vec<_>>(), [2]);
    assert!(both.sends_away());
    let last = of([Phase::Draining, Phase::Draining]);
    assert_eq!(last.serving().len(), 2);
    assert!(!last.sends_away());
    let early = of([Phase::Draining, Phase::Starting]);
    assert_eq!(early.serving().iter().map(|member| member.node.get()).collect::<Vec<_>>(), [1]);
    let starting = of([Phase::Starting, Phase::Serving]);
    assert!(!starting.sends_away(), "who comes too early is served");
    assert!(starting.lapsed().sends_away());
}

#[test]
fn an_agent_for_jobs_serves_whoever_comes() {
    let rows = [1, 2].map(|node| {
        let mut row = row(node, "", Phase::Serving);
        row.agent.roles.clients = node == 2;
        (NodeId::new(node), row)
    });
    let members = Membership::new(NodeId::new(1), true, &BTreeMap::from(rows));
    assert_eq!(members.serving().iter().map(|member| member.node.get()).collect::<Vec<_>>(), [2]);
    assert!(!members.sends_away());
}

struct World {
    memory: Arc<MemoryStore>,
    randomness: Arc<SeededRandomness>,
}

struct Running {
    cluster: Arc<Cluster>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl World {
    fn new() -> Self {
        let randomness = Arc::new(SeededRandomness::new(3));
        let memory = MemoryStore::new(Arc::clone(&randomness) as Arc<dyn Randomness>);
        Self { memory, randomness }
    }

    async fn join(&self, name: &str) -> Result<Arc<Cluster>, JoinError> {
        let store = Arc::clone(&self.memory) as _;
        Cluster::join(ClusterParts {
            agents: Agents::new(store, Keyspace::new(b""), Incarnation::FIRST, LEASE / 2),
            wanted: Wanted { node: None, agent: agent(name, "", 9_092), lease: LEASE },
            clock: Arc::new(TestClock::at(0)),
            randomness: Arc::clone(&self.randomness) as _,
        })
        .await
    }

    async fn start(&self, name: &str) -> Running {
        let cluster = self.join(name).await.expect("joined");
        let stop = CancellationToken::new();
        let task = tokio::spawn(Arc::clone(&cluster).run(stop.clone()));
        cluster.serve().await;
        Running { cluster, stop, task }
    }
}

impl Running {
    /// As kill -9: nothing is given up.
    fn kill(&self) {
        self.task.abort();
    }

    async fn leave(self) {
        self.cluster.drain().await;
        self.stop.cancel();
        self.task.await.expect("ended");
        self.cluster.leave().await;
    }

    fn sees(&self) -> Vec<i32> {
        self.cluster.membership().serving().iter().map(|member| member.node.get()).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn agents_see_one_another_come_leave_and_die() {
    let world = World::new();
    let one = world.start("").await;
    let two = world.start("").await;
    let three = world.start("").await;
    pause(Duration::from_millis(200)).await;
    assert_eq!((one.sees(), two.sees(), three.sees()), (vec![1, 2, 3], vec![1, 2, 3], vec![1, 2, 3]));
    let coordinators =
        |group: &str| [&one, &two].iter().filter(|agent| agent.cluster.coordinates(group)).count();
    assert!((0..50).all(|number| coordinators(&format!("g{number}")) <= 1));

    three.leave().await;
    pause(Duration::from_millis(200)).await;
    assert_eq!((one.sees(), two.sees()), (vec![1, 2], vec![1, 2]), "who leaves is seen to leave at once");

    two.kill();
    pause(LEASE / 2).await;
    assert_eq!(one.sees(), [1, 2], "a silence of half a lease is no death");
    pause(LEASE).await;
    assert_eq!(one.sees(), [1]);
    assert!((0..50).all(|number| one.cluster.coordinates(&format!("g{number}"))));
    assert!(!two.cluster.holds_lease());
    assert!((0..50).all(|number| !two.cluster.coordinates(&format!("g{number}"))));
}

#[tokio::test(start_paused = true)]
async fn a_named_agent_waits_for_its_former_self_and_refuses_a_living_double() {
    let world = World::new();
    let first = world.start("a").await;
    let double = world.join("a").await.expect_err("a lives");
    assert!(matches!(double, JoinError::Held { node, .. } if node == NodeId::new(1)), "{double}");
    first.kill();
    let again = world.start("a").await;
    assert_eq!(again.cluster.node(), NodeId::new(1));
    again.leave().await;
    let before = tokio::time::Instant::now();
    let back = world.start("a").await;
    assert_eq!(back.cluster.node(), NodeId::new(1));
    assert!(before.elapsed() < LEASE / 2, "an id that was given up is free at once");
}

#[tokio::test(start_paused = true)]
async fn without_the_store_the_lease_ends_and_with_it_comes_back() {
    let world = World::new();
    let one = world.start("").await;
    let two = world.start("").await;
    pause(Duration::from_millis(200)).await;
    world.memory.set_faults(MemoryFaults { unavailable: 1.0, ..MemoryFaults::default() });
    pause(LEASE * 3).await;
    for (agent, other) in [(&one, 2), (&two, 1)] {
        assert!(!agent.cluster.holds_lease());
        assert!(!agent.cluster.membership().leased);
        assert_eq!(agent.cluster.membership().all().len(), 2, "who can't look sees nobody die");
        assert_eq!(agent.sees(), [other], "but may be the one that is cut off");
        assert!(agent.cluster.sends_away());
    }
    world.memory.set_faults(MemoryFaults::default());
    pause(LEASE / 2).await;
    for agent in [&one, &two] {
        assert!(agent.cluster.holds_lease() && agent.cluster.membership().leased);
        assert_eq!((agent.cluster.term(), agent.cluster.membership().term), (1, 1));
        assert_eq!(agent.sees(), [1, 2]);
    }
}

#[tokio::test(start_paused = true)]
async fn an_agent_whose_id_was_taken_ends() {
    let world = World::new();
    let paused = world.start("a").await;
    paused.kill();
    let successor = world.start("a").await;
    // The paused one wakes up.
    let woken = tokio::spawn(Arc::clone(&paused.cluster).run(CancellationToken::new()));
    tokio::time::timeout(LEASE, woken).await.expect("it ends").expect("without a panic");
    assert!(!paused.cluster.holds_lease());
    assert!(successor.cluster.holds_lease());
}
