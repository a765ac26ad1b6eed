use super::*;
use crate::keys::agent::{Agent, Phase, Roles};

const LEASE: Duration = Duration::from_secs(6);
const TICK: Duration = Duration::from_secs(1);

fn row(session: u64, renewals: u64, renewed_at: u64) -> AgentRow {
    AgentRow {
        session,
        renewals,
        renewed_at: (Incarnation::FIRST, StoreVersion::new(renewed_at)),
        lease_ms: 6_000,
        phase: Phase::Serving,
        clock_ms: 0,
        agent: Agent {
            name: String::new(),
            zone: String::new(),
            program: String::new(),
            roles: Roles { clients: true, jobs: true },
            schema: 1,
            http: (String::new(), 0),
            listeners: Vec::new(),
            started_ms: 0,
        },
    }
}

fn look(version: u64, rows: &[AgentRow]) -> Look {
    let rows = rows.iter().zip(1..).map(|(row, node)| (NodeId::new(node), row.clone())).collect();
    Look { incarnation: Incarnation::FIRST, version: StoreVersion::new(version), rows }
}

fn alive(observer: &mut Observer, now: Duration, look: &Look) -> Vec<i32> {
    observer.observe(now, look).keys().map(|node| node.get()).collect()
}

#[test]
fn the_first_look_goes_by_versions_and_the_next_by_change() {
    let mut observer = Observer::default();
    let (young, old) = (row(1, 0, 95_000_000), row(2, 0, 90_000_000));
    assert_eq!(alive(&mut observer, TICK, &look(100_000_000, &[young.clone(), old])), [1]);
    // Versions had jumped: it renews, so it lives.
    let renewed = row(2, 1, 100_500_000);
    assert_eq!(alive(&mut observer, TICK * 2, &look(101_000_000, &[young, renewed])), [1, 2]);
}

#[test]
fn who_does_not_change_for_a_watched_lease_is_dead_until_it_changes() {
    let mut observer = Observer::default();
    let silent = row(1, 5, 100_000_000);
    let mut died_at = None;
    for second in 0..10 {
        let seen = alive(&mut observer, TICK * second, &look(100_000_000, std::slice::from_ref(&silent)));
        if seen.is_empty() && died_at.is_none() {
            died_at = Some(second);
            assert!(observer.is_dead(NodeId::new(1), &silent));
        }
    }
    assert_eq!(died_at, Some(6), "the lease is six seconds");
    let back = row(1, 6, 100_000_000);
    assert!(!observer.is_dead(NodeId::new(1), &back), "a row that is not the one that was watched");
    assert_eq!(alive(&mut observer, TICK * 10, &look(100_000_000, &[back])), [1]);
}

#[test]
fn time_without_a_look_does_not_kill() {
    let mut observer = Observer::default();
    let other = row(1, 5, 100_000_000);
    assert_eq!(alive(&mut observer, Duration::ZERO, &look(100_000_000, std::slice::from_ref(&other))), [1]);
    // The observer was paused for an hour.
    let hour = Duration::from_secs(3_600);
    assert_eq!(alive(&mut observer, hour, &look(100_000_000, std::slice::from_ref(&other))), [1]);
    assert_eq!(alive(&mut observer, hour + LEASE / 3, &look(100_000_000, std::slice::from_ref(&other))), [1]);
    assert!(alive(&mut observer, hour + LEASE, &look(100_000_000, &[other])).is_empty());
}

#[test]
fn a_new_session_is_alive_and_who_left_is_forgotten() {
    let mut observer = Observer::default();
    let dead = row(1, 5, 0);
    assert!(alive(&mut observer, TICK, &look(1_000_000_000, std::slice::from_ref(&dead))).is_empty());
    assert_eq!(alive(&mut observer, TICK * 2, &look(1_000_000_000, &[row(9, 5, 0)])), [1]);
    assert!(alive(&mut observer, TICK * 3, &look(1_000_000_000, &[])).is_empty());
    assert!(!observer.is_dead(NodeId::new(1), &dead));
}

#[test]
fn rows_of_another_incarnation_are_not_alive_at_first() {
    let mut observer = Observer::default();
    let mut restored = look(100, &[row(1, 5, 100)]);
    restored.incarnation = Incarnation::new(2);
    assert!(alive(&mut observer, TICK, &restored).is_empty());
}
