//! The older life of a cluster whose metadata are restored from a backup: clients work while things go wrong, the backup
//! is taken meanwhile, and then it takes the place of the metadata, as docs/metadata.md says it is done.
//!
//! Some agents don't end as they should: they stand still, or are cut off, with uploads and commits under way, and go on
//! when the new life has begun. Clients don't reach those: what an agent of the older life may do to the stores is what is
//! tested here. Until it sees that its lease is gone, it answers reads as it knows the older life.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::{BrokerId, ListOffsetsRequest, MetadataRequest};
use penstock_metadata::incarnation::{self, RaiseError};
use penstock_metadata::keys::Keyspace;
use penstock_metadata::kv::SharedStore;
use penstock_metadata::kv::memory::MemoryStore;
use penstock_types::simulated::Life;
use penstock_types::{Incarnation, pause};

use super::{Crowd, STARTS_WITHIN, World};
use crate::agent::host::Host;
use crate::agent::seam::{At, COMMIT, GROUP_COMMIT, Hold, JOB_COMMIT};
use crate::client::peer::Lost;
use crate::draw::Draw;
use crate::net::agent_address;
use crate::oracle::{Oracle, Partition};
use crate::scenario::RestorePlan;
use crate::{note, trace};

/// An agent that learns that its life is over ends within so long.
const ENDS_WITHIN: Duration = Duration::from_secs(120);
/// Longer than anything lasts.
const FOR_EVER: Duration = Duration::from_secs(100_000);
/// Attempts of the operator, where the store fails.
const ATTEMPTS: u32 = 50;

/// What becomes of an agent when the older life ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Killed,
    Stopped,
    /// It stands still, and goes on later.
    Held,
    /// It can't reach the metadata, and can again later.
    Cut,
}

/// An agent that outlives the life of the metadata.
struct Zombie {
    host: Arc<Host>,
    life: u32,
    fate: Fate,
    wakes_after: Duration,
}

fn is_among(zombies: &[Zombie], host: &Arc<Host>) -> bool {
    zombies.iter().any(|zombie| Arc::ptr_eq(&zombie.host, host))
}

impl World {
    /// The older life, its end, and the beginning of the new one; whether all went well.
    pub(super) async fn older_life(&mut self, plan: &RestorePlan) -> bool {
        let oracle = Arc::clone(&self.ground.oracle);
        let draw = self.draw.stream("restore");
        trace::count("fault: metadata restored");
        let Some(crowd) = self.crowd().await else { return false };
        let backup = async {
            pause(plan.backup_after).await;
            let mark = oracle.tick();
            note!("world", "a backup is taken");
            (mark, self.ground.store.current().contents())
        };
        let ((), (mark, contents)) = tokio::join!(self.faults(plan.lasts), backup);
        let zombies = self.end_older_life(plan, &draw, crowd).await;
        note!("world", "the backup is restored, {} agents are left over", zombies.len());
        pause(plan.takes).await;
        let last = self.ground.store.current().last_version();
        let version = if plan.ahead { last + plan.versions } else { plan.versions.min(last) };
        let store = MemoryStore::restored(&contents, version.max(1), draw.randomness());
        store.set_faults(if plan.faulty { self.scenario.store.clone() } else { Default::default() });
        self.ground.store.move_to(Arc::clone(&store));
        if let Err(why) = self.raise(plan, &draw, store, &zombies).await {
            oracle.violation(&format!("the incarnation can't be raised: {why}"));
            return false;
        }
        self.calm();
        for zombie in &zombies {
            zombie.host.ways().cut_store();
        }
        for host in &self.hosts {
            host.come_up();
        }
        let fresh = self.hosts.iter().position(|host| !is_among(&zombies, host));
        let fresh = fresh.expect("one agent at least ends as it should");
        let starts = self.hosts[fresh].wait_until_serving();
        if tokio::time::timeout(STARTS_WITHIN, starts).await.is_err() {
            oracle.violation("an agent of the new life does not start");
            return false;
        }
        self.former_lives += 1;
        let Some(ends) = self.ends_at(fresh).await else { return false };
        oracle.restored(mark, &ends);
        for zombie in zombies {
            tokio::spawn(zombie.goes_on(Arc::clone(&oracle)));
        }
        true
    }

    /// Clients end, agents are killed, stop, or are left over.
    async fn end_older_life(&mut self, plan: &RestorePlan, draw: &Draw, crowd: Crowd) -> Vec<Zombie> {
        let mut zombies = Vec::new();
        let spared = draw.index(self.hosts.len());
        for (index, host) in self.hosts.iter().enumerate() {
            host.stay_down();
            let is_zombie = draw.chance(plan.zombies) && index != spared;
            let fate = *draw.pick(match is_zombie {
                true => &[Fate::Held, Fate::Held, Fate::Cut],
                false => &[Fate::Killed, Fate::Stopped, Fate::Stopped],
            });
            // One that is between two lives has none to outlive.
            let Some(seam) = host.seam() else { continue };
            note!("world", "agent {index} of the older life: {fate:?}");
            match fate {
                Fate::Killed => host.kill(),
                Fate::Stopped => host.stop(),
                Fate::Held => {
                    let kind =
                        *draw.pick(&["", "store", COMMIT, COMMIT, GROUP_COMMIT, JOB_COMMIT, "bucket put"]);
                    seam.spare();
                    seam.hold_at(Hold { at: At { kind, left: draw.within(0..10) }, time: FOR_EVER });
                }
                Fate::Cut => host.ways().cut_store(),
            }
            if is_zombie {
                let wakes_after = draw.duration(Duration::ZERO..Duration::from_secs(20));
                zombies.push(Zombie { host: Arc::clone(host), life: host.lives(), fate, wakes_after });
            }
        }
        pause(draw.duration(Duration::from_millis(10)..Duration::from_secs(2))).await;
        self.life.end();
        drop(crowd);
        self.life = Life::new("clients".to_owned(), Arc::clone(&self.ground.scheduler) as _);
        self.calm();
        for zombie in &zombies {
            let Some(seam) = zombie.host.seam() else { continue };
            seam.spare();
            if zombie.fate == Fate::Held {
                seam.life().hold();
            }
            // Whatever wakes it before its time, it reaches nothing.
            zombie.host.ways().cut_store();
            self.ground.net.forget(&seam);
        }
        for host in self.hosts.iter().filter(|host| !is_among(&zombies, host)) {
            if let Some(seam) = host.seam() {
                seam.life().go_on();
            }
            if tokio::time::timeout(ENDS_WITHIN, host.wait_until_gone()).await.is_err() {
                host.kill();
                host.wait_until_gone().await;
            }
        }
        zombies
    }

    /// What the operator does, with the command's own steps.
    async fn raise(
        &self,
        plan: &RestorePlan,
        draw: &Draw,
        store: Arc<MemoryStore>,
        zombies: &[Zombie],
    ) -> Result<(), String> {
        let store: SharedStore = store;
        let keyspace = Keyspace::new(b"");
        let bucket = self.ground.objects.plain();
        let claim = bucket.read_claim().await.map_err(|error| error.to_string())?;
        let claimed = claim.ok_or("the bucket is claimed by nobody")?.incarnation;
        let to = Incarnation::new(claimed.get() + 1);
        let mut attempts = 0;
        let cluster_id = loop {
            let raised = async {
                let identity =
                    incarnation::identity(&store, &keyspace).await?.ok_or(RaiseError::NoCluster)?;
                if identity.incarnation == to {
                    return Ok(identity);
                }
                let dead = incarnation::wait_for_dead_agents(&store, &keyspace).await?;
                incarnation::raise(&store, &keyspace, identity.incarnation, to, &dead).await
            };
            match raised.await {
                Ok(identity) => break identity.cluster_id,
                Err(RaiseError::Store(error)) if attempts < ATTEMPTS => {
                    note!("operator", "runs the command again: {error}");
                    attempts += 1;
                    pause(Duration::from_millis(500)).await;
                }
                Err(error) => return Err(error.to_string()),
            }
        };
        note!("operator", "the metadata are in incarnation {}", to.get());
        let early = self.hosts.iter().find(|host| !is_among(zombies, host));
        if let Some(early) = early.filter(|_| plan.starts_early) {
            early.come_up();
            pause(draw.duration(Duration::from_secs(1)..Duration::from_secs(10))).await;
            if early.serves() {
                return Err("an agent serves, whose bucket is claimed by the older incarnation".to_owned());
            }
        }
        bucket.raise_claim(&cluster_id, to).await.map_err(|error| error.to_string())
    }

    /// Where the logs end, as a new agent says.
    async fn ends_at(&mut self, agent: usize) -> Option<BTreeMap<Partition, i64>> {
        for attempt in 0..20 {
            match self.list_ends(agent).await {
                Ok(ends) => return Some(ends),
                Err(Lost(why)) => note!("world", "the logs' ends are not told: {why}"),
            }
            pause(Duration::from_millis(100 << attempt.min(4))).await;
        }
        self.ground.oracle.violation("the ends of the logs that were restored are not told");
        None
    }

    async fn list_ends(&mut self, agent: usize) -> Result<BTreeMap<Partition, i64>, Lost> {
        let mut peer = self.peer("operator");
        let address = agent_address(agent);
        let all = peer.call(address, 12, &MetadataRequest::default().with_topics(None)).await?;
        let mut ends = BTreeMap::new();
        for topic in all.topics {
            let name = topic.name.clone().filter(|_| topic.error_code == 0);
            let name = name.ok_or_else(|| Lost(format!("a topic: code {}", topic.error_code)))?;
            let partitions = topic.partitions.iter().map(|partition| {
                ListOffsetsPartition::default()
                    .with_partition_index(partition.partition_index)
                    .with_current_leader_epoch(-1)
                    .with_timestamp(-1)
            });
            let asked = ListOffsetsTopic::default().with_name(name).with_partitions(partitions.collect());
            let request =
                ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![asked]);
            let answer = peer.call(address, 5, &request).await?;
            for partition in answer.topics.iter().flat_map(|topic| &topic.partitions) {
                if partition.error_code != 0 {
                    return Err(Lost(format!("an end: code {}", partition.error_code)));
                }
                ends.insert((topic.topic_id, partition.partition_index), partition.offset);
            }
        }
        note!("world", "the restored logs end at {:?}", ends.values().collect::<Vec<_>>());
        Ok(ends)
    }
}

impl Zombie {
    /// Goes on, sees that its life is over, and ends.
    async fn goes_on(self, oracle: Arc<Oracle>) {
        pause(self.wakes_after).await;
        self.host.ways().heal();
        if self.host.lives() > self.life || self.host.seam().is_none() {
            return;
        }
        note!("world", "an agent of the older life goes on: {:?}", self.fate);
        trace::count("agents that outlived their life of the metadata");
        if let Some(seam) = self.host.seam() {
            seam.spare();
            seam.life().go_on();
        }
        if tokio::time::timeout(ENDS_WITHIN, self.host.wait_until_past(self.life)).await.is_err() {
            oracle.violation("an agent of the older life goes on for ever");
        }
    }
}
