use std::sync::Arc;

use penstock_types::SeededRandomness;

use super::*;
use crate::keys::agent::{AdvertisedListener, Roles};
use crate::kv::memory::{MemoryFaults, MemoryStore};

const LEASE: Duration = Duration::from_secs(6);

fn agents() -> (Arc<MemoryStore>, Agents) {
    let memory = MemoryStore::new(Arc::new(SeededRandomness::new(7)));
    let store: SharedStore = memory.clone();
    let agents = Agents::new(store, Keyspace::new(b""), Incarnation::FIRST, Duration::from_secs(10));
    (memory, agents)
}

fn wanted(name: &str, node: Option<i32>) -> Wanted {
    let listener =
        AdvertisedListener { name: "PLAINTEXT".to_owned(), host: format!("host-{name}"), port: 9_092 };
    Wanted {
        node: node.map(NodeId::new),
        agent: Agent {
            name: name.to_owned(),
            zone: "z".to_owned(),
            program: "0".to_owned(),
            roles: Roles { clients: true, jobs: true },
            schema: 1,
            http: ("h".to_owned(), 1),
            listeners: vec![listener],
            started_ms: 0,
        },
        lease: LEASE,
    }
}

fn alive(_: NodeId, _: &AgentRow) -> bool {
    false
}

fn dead(_: NodeId, _: &AgentRow) -> bool {
    true
}

async fn register(agents: &Agents, session: u64, wanted: &Wanted) -> Result<i32, RegisterError> {
    agents.register(session, wanted, 0, &alive).await.map(NodeId::get)
}

#[tokio::test]
async fn ids_are_the_smallest_free_ones_and_never_two_agents() {
    let (_, agents) = agents();
    assert_eq!(register(&agents, 1, &wanted("", None)).await, Ok(1));
    assert_eq!(register(&agents, 2, &wanted("", None)).await, Ok(2));
    assert_eq!(register(&agents, 2, &wanted("", None)).await, Ok(2), "the same session is the same agent");
    agents.release(NodeId::new(1), 1).await.expect("released");
    assert_eq!(register(&agents, 3, &wanted("", None)).await, Ok(1));
    // A dead agent's id is not given to a stranger at once.
    assert_eq!(agents.register(4, &wanted("", None), 0, &dead).await.map(NodeId::get), Ok(3));
    let refused = register(&agents, 5, &wanted("", Some(2))).await;
    assert!(matches!(refused, Err(RegisterError::Held { node, .. }) if node.get() == 2), "{refused:?}");
    assert_eq!(agents.register(5, &wanted("", Some(2)), 0, &dead).await.map(NodeId::get), Ok(2));
    let lost = agents.renew(NodeId::new(2), 2, Phase::Serving, 0).await.err();
    assert_eq!(lost, Some(RenewError::Lost), "the former one notices");
}

#[tokio::test]
async fn a_name_keeps_its_id_over_restarts() {
    let (_, agents) = agents();
    assert_eq!(register(&agents, 1, &wanted("a", None)).await, Ok(1));
    assert_eq!(register(&agents, 2, &wanted("b", None)).await, Ok(2));
    let refused = register(&agents, 3, &wanted("a", None)).await;
    assert!(matches!(refused, Err(RegisterError::Held { .. })), "two of one name: {refused:?}");
    agents.release(NodeId::new(1), 1).await.expect("released");
    assert_eq!(register(&agents, 4, &wanted("", None)).await, Ok(3), "a name's id is kept for it");
    assert_eq!(register(&agents, 5, &wanted("a", None)).await, Ok(1));
    // Killed, and watched for a lease.
    assert_eq!(agents.register(6, &wanted("b", None), 0, &dead).await.map(NodeId::get), Ok(2));
    // All processes are gone.
    agents.void().await.expect("voided");
    assert_eq!(register(&agents, 7, &wanted("b", None)).await, Ok(2));
}

#[tokio::test]
async fn renewals_show_and_a_change_of_phase_wakes_the_others() {
    let (_, agents) = agents();
    register(&agents, 1, &wanted("", None)).await.expect("registered");
    drop(agents.renew(NodeId::new(1), 1, Phase::Serving, 0).await.expect("renewed"));
    let (look, watch) = agents.renew(NodeId::new(1), 1, Phase::Serving, 77).await.expect("renewed");
    assert_eq!((look.rows[&NodeId::new(1)].renewals, look.rows[&NodeId::new(1)].clock_ms), (2, 77));
    let (_, renewal) = agents.renew(NodeId::new(1), 1, Phase::Serving, 77).await.expect("renewed");
    let mut watch = std::pin::pin!(watch);
    assert!(futures::poll!(&mut watch).is_pending(), "a renewal is no change of the membership");
    drop(agents.renew(NodeId::new(1), 1, Phase::Draining, 78).await.expect("renewed"));
    watch.await.expect("the change of phase wakes");
    renewal.await.expect("and every other watch");
    assert_eq!(agents.look().await.expect("a look").rows[&NodeId::new(1)].phase, Phase::Draining);
}

#[tokio::test]
async fn agents_that_register_at_once_get_ids_of_their_own_whatever_the_store_does() {
    let (memory, agents) = agents();
    memory.set_faults(MemoryFaults {
        conflict: 0.2,
        unknown_applied: 0.1,
        unknown_not_applied: 0.1,
        ..MemoryFaults::default()
    });
    let wanted = wanted("", None);
    let registering = (1..=20).map(|session| register(&agents, session, &wanted));
    let ids = futures::future::join_all(registering).await;
    let ids: BTreeSet<i32> = ids.into_iter().map(|id| id.expect("registered")).collect();
    assert_eq!(ids, (1..=20).collect());
}

#[tokio::test]
async fn an_agent_of_a_former_life_neither_registers_nor_renews() {
    let (memory, agents) = agents();
    let of_life = async |incarnation: u32| {
        let identity = crate::keys::cluster::ClusterIdentity {
            cluster_id: "c".to_owned(),
            incarnation: Incarnation::new(incarnation),
            schema_version: 1,
            oldest_writer: 1,
            created_ms: 0,
        };
        let store: SharedStore = memory.clone();
        let mut transaction = store.begin(Priority::Default);
        let value = crate::keys::cluster::encode_identity(&identity);
        transaction.set(&identity_key(&Keyspace::new(b"")), &value, WriteConflict::Yes);
        transaction.commit().await.expect("written");
    };
    of_life(1).await;
    assert_eq!(register(&agents, 1, &wanted("", None)).await, Ok(1));
    of_life(2).await;
    let renewed = agents.renew(NodeId::new(1), 1, Phase::Serving, 0).await;
    assert_eq!(renewed.err(), Some(RenewError::Lost));
    let refused = register(&agents, 2, &wanted("", None)).await;
    assert_eq!(refused, Err(RegisterError::Superseded { own: 1, now: 2 }));
}
