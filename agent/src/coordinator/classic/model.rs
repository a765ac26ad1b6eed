//! Random histories: whatever members do and however time passes, the machine's invariants hold, and once members
//! behave, all of them are in one stable generation.

use std::collections::BTreeMap;
use std::time::Duration;

use penstock_config::GroupOptions;
use proptest::prelude::*;

use super::tests::{Driver, join, joined, subscription, sync, synced};
use super::*;

const MEMBERS: usize = 4;

#[derive(Debug, Clone)]
enum Event {
    /// Joins with the id it has, or without; with this subscription; as a static member or not.
    Join {
        member: usize,
        forget_id: bool,
        topic: u8,
        is_static: bool,
        knows: bool,
    },
    Sync {
        member: usize,
        stale: bool,
    },
    Heartbeat {
        member: usize,
    },
    Leave {
        member: usize,
    },
    Commit {
        member: usize,
    },
    Pass {
        ms: u64,
    },
    Restart,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let member = 0..MEMBERS;
    let event = prop_oneof![
        5 => (member.clone(), prop::bool::weighted(0.2), 0..2_u8, prop::bool::weighted(0.2), any::<bool>()).prop_map(
            |(member, forget_id, topic, is_static, knows)| Event::Join { member, forget_id, topic, is_static, knows }
        ),
        5 => (member.clone(), prop::bool::weighted(0.1)).prop_map(|(member, stale)| Event::Sync { member, stale }),
        2 => member.clone().prop_map(|member| Event::Heartbeat { member }),
        1 => member.clone().prop_map(|member| Event::Leave { member }),
        1 => member.prop_map(|member| Event::Commit { member }),
        3 => (0..8_000_u64).prop_map(|ms| Event::Pass { ms }),
        1 => Just(Event::Restart),
    ];
    prop::collection::vec(event, 0..120)
}

#[derive(Debug, Clone, Default)]
struct Client {
    id: String,
    instance: Option<String>,
    generation: i32,
    leads: Vec<String>,
    is_synced: bool,
    /// Grows when the client forgets everything: answers to who it was no longer concern it.
    life: u32,
}

/// A call that waits: of which client, in which of its lives and in which generation it was made.
#[derive(Debug, Clone, Copy)]
struct Asked {
    member: usize,
    life: u32,
    generation: i32,
}

struct World {
    driver: Driver,
    clients: Vec<Client>,
    waiting: BTreeMap<CallId, Asked>,
    /// Leader and assignor of each generation that was told.
    generations: BTreeMap<i32, (String, Option<String>)>,
    highest: i32,
    fresh: u128,
}

impl World {
    fn new(options: GroupOptions) -> Self {
        Self {
            driver: Driver::new(options),
            clients: vec![Client::default(); MEMBERS],
            waiting: BTreeMap::new(),
            generations: BTreeMap::new(),
            highest: 0,
            fresh: 0,
        }
    }

    fn run(&mut self, event: Event) {
        let replies = match event {
            Event::Join { member, forget_id, topic, is_static, knows } => {
                if forget_id {
                    let instance = is_static.then(|| format!("i{member}"));
                    let life = self.clients[member].life + 1;
                    self.clients[member] = Client { instance, life, ..Client::default() };
                }
                self.join(member, topic, knows)
            }
            Event::Sync { member, stale } => self.sync(member, stale),
            Event::Heartbeat { member } => {
                let client = self.clients[member].clone();
                let now = self.driver.now;
                let _ = self.driver.group.heartbeat(
                    now,
                    &client.id,
                    client.instance.as_deref(),
                    client.generation,
                );
                Vec::new()
            }
            Event::Commit { member } => {
                let client = self.clients[member].clone();
                let now = self.driver.now;
                let instance = client.instance.as_deref();
                let admitted =
                    self.driver.group.validate_commit(now, &client.id, instance, client.generation);
                if let Ok(Some(generation)) = admitted {
                    assert_eq!(generation, self.driver.group.generation());
                }
                Vec::new()
            }
            Event::Leave { member } => {
                let life = self.clients[member].life + 1;
                let client =
                    std::mem::replace(&mut self.clients[member], Client { life, ..Client::default() });
                let leave = LeaveCall { member_id: client.id, instance_id: client.instance };
                self.driver.leave(&[leave]).1
            }
            Event::Pass { ms } => self.driver.advance(Duration::from_millis(ms)),
            Event::Restart => {
                self.restart();
                Vec::new()
            }
        };
        self.check(replies);
    }

    fn join(&mut self, member: usize, topic: u8, knows: bool) -> Vec<(CallId, Reply)> {
        self.fresh += 1;
        let client = self.clients[member].clone();
        let mut call = join(&client.id, self.fresh);
        call.instance_id = client.instance;
        call.requires_known_member_id = knows;
        call.protocols = vec![("range".to_owned(), subscription(&[if topic == 0 { "a" } else { "b" }]))];
        let (call, replies) = self.driver.join(call);
        self.waiting.insert(call, Asked { member, life: client.life, generation: client.generation });
        replies
    }

    fn sync(&mut self, member: usize, stale: bool) -> Vec<(CallId, Reply)> {
        let client = self.clients[member].clone();
        let generation = client.generation - i32::from(stale);
        let tags: Vec<(String, String)> =
            client.leads.iter().map(|id| (id.clone(), format!("{generation}:{id}"))).collect();
        let tags: Vec<(&str, &str)> = tags.iter().map(|(id, tag)| (id.as_str(), tag.as_str())).collect();
        let mut call = sync(&client.id, generation, &tags);
        call.instance_id = client.instance;
        let (call, replies) = self.driver.sync(call);
        self.waiting.insert(call, Asked { member, life: client.life, generation });
        replies
    }

    /// The coordinator dies; another one goes on from what was stored last, which is what a snapshot of now would hold
    /// unless a rebalance is being prepared.
    fn restart(&mut self) {
        if self.driver.group.state() == State::PreparingRebalance || !self.driver.group.exists() {
            return;
        }
        let mut effects = Effects::default();
        let before = (self.driver.group.describe(), self.driver.group.generation());
        let stored = self.driver.group.snapshot(Store::Snapshot);
        self.driver.group.abandon(Refusal::NotCoordinator, &mut effects);
        self.check(effects.replies);
        let mut effects = Effects::default();
        let options = std::sync::Arc::clone(&self.driver.options);
        self.driver.group = ClassicGroup::restore(options, stored, self.driver.now, &mut effects);
        assert_eq!((self.driver.group.describe(), self.driver.group.generation()), before);
        assert!(effects.replies.is_empty());
    }

    fn check(&mut self, replies: Vec<(CallId, Reply)>) {
        for (call, reply) in replies {
            let asked = self.waiting.remove(&call).expect("an answer to a call that waits, and only once");
            match &reply {
                Reply::Join(_) => self.check_join(asked, &reply),
                Reply::Sync(_) => self.check_sync(asked, &reply),
            }
        }
        let group = &self.driver.group;
        assert!(group.generation() >= self.highest, "generations only grow");
        self.highest = group.generation();
        assert_eq!(group.state() == State::Empty, group.members.is_empty() && group.state() == State::Empty);
        assert_eq!(group.awaiting_join, group.members.values().filter(|m| m.awaiting_join.is_some()).count());
        assert_eq!(group.bytes, group.members.values().map(Member::bytes).sum::<usize>());
        let statics = group.members.values().filter(|member| member.instance_id.is_some()).count();
        assert_eq!(statics, group.static_members.len());
        assert!(
            group.members.is_empty()
                || group.leader.as_ref().is_some_and(|id| group.members.contains_key(id))
        );
        let waiting =
            group.members.values().filter(|m| m.awaiting_join.is_some() || m.awaiting_sync.is_some());
        assert!(waiting.count() <= self.waiting.len());
        for member in group.members.values() {
            assert!(member.awaiting_join.is_none() || group.state() == State::PreparingRebalance);
            assert!(member.awaiting_sync.is_none() || group.state() == State::CompletingRebalance);
        }
        if !self.waiting.is_empty() {
            assert!(group.next_deadline().is_some(), "whoever waits is waited for by a timer");
        }
    }

    fn check_join(&mut self, asked: Asked, reply: &Reply) {
        let answer = joined(reply);
        let leads: Vec<String> = answer.members.iter().map(|member| member.member_id.clone()).collect();
        if answer.error.is_none() {
            let told = (answer.leader.clone(), answer.protocol_name.clone());
            let known = self.generations.entry(answer.generation).or_insert_with(|| told.clone());
            // A static member that comes back takes its place under another id.
            let is_replaced = answer.leader.starts_with('i') && known.0.starts_with('i');
            assert!(*known == told || is_replaced, "a generation has one leader: {known:?}, {told:?}");
            assert!(leads.is_empty() || answer.leader == answer.member_id);
        }
        let client = &mut self.clients[asked.member];
        if client.life != asked.life {
            return;
        }
        match answer.error {
            None => {
                client.id.clone_from(&answer.member_id);
                client.generation = answer.generation;
                client.leads = leads;
                client.is_synced = false;
            }
            Some(Refusal::MemberIdRequired) => client.id.clone_from(&answer.member_id),
            Some(Refusal::UnknownMemberId | Refusal::FencedInstanceId) => client.id.clear(),
            Some(Refusal::RebalanceInProgress | Refusal::NotCoordinator) => {}
            Some(other) => panic!("an answer that no case of this model gives: {other:?}"),
        }
    }

    fn check_sync(&mut self, asked: Asked, reply: &Reply) {
        let answer = synced(reply);
        if answer.error.is_none() {
            let text = std::str::from_utf8(&answer.assignment).expect("our own text");
            let generation = text.split(':').next().unwrap_or_default();
            let own = generation == asked.generation.to_string();
            assert!(text.is_empty() || own, "an assignment of generation {}: {text}", asked.generation);
        }
        let client = &mut self.clients[asked.member];
        if client.life == asked.life {
            client.is_synced = answer.error.is_none() && client.generation == asked.generation;
        }
    }

    /// Everybody behaves from here on.
    fn settle(&mut self) {
        for _ in 0..40 {
            for member in 0..MEMBERS {
                if self.waiting.values().any(|asked| asked.member == member) {
                    continue;
                }
                let client = self.clients[member].clone();
                let now = self.driver.now;
                let instance = client.instance.as_deref();
                let alive = self.driver.group.heartbeat(now, &client.id, instance, client.generation);
                let replies = match alive {
                    Ok(()) if client.is_synced => continue,
                    Ok(()) => self.sync(member, false),
                    Err(Refusal::UnknownMemberId | Refusal::FencedInstanceId) => {
                        // An id that was handed out and never used is used now.
                        let is_pending = self.driver.group.pending_members.contains_key(&client.id);
                        if !is_pending {
                            self.clients[member].id.clear();
                        }
                        self.join(member, 0, true)
                    }
                    Err(_) => self.join(member, 0, true),
                };
                self.check(replies);
            }
            let replies = self.driver.advance(Duration::from_secs(3));
            self.check(replies);
        }
        assert!(self.waiting.is_empty(), "every call was answered");
        let group = &self.driver.group;
        assert_eq!(group.state(), State::Stable);
        let ids: std::collections::BTreeSet<&String> = self.clients.iter().map(|client| &client.id).collect();
        assert_eq!(ids, group.members.keys().collect());
        assert!(
            self.clients.iter().all(|client| client.is_synced && client.generation == group.generation())
        );
        for (id, member) in &group.members {
            assert_eq!(member.assignment, format!("{}:{id}", group.generation()), "everybody has its own");
        }
    }
}

proptest! {
    #[test]
    fn every_history_ends_well(events in events(), delay_ms in prop_oneof![Just(0_u64), Just(3_000)]) {
        let mut world = World::new(GroupOptions {
            initial_rebalance_delay: Duration::from_millis(delay_ms),
            ..GroupOptions::default()
        });
        for event in events {
            world.run(event);
        }
        world.settle();
    }
}
