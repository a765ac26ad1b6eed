//! Consumers that assign themselves partitions and read them from the beginning, record by record.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::{BrokerId, ListOffsetsRequest};
use penstock_types::pause;

use super::peer::{Lost, Peer, topic_name};
use super::reader::Reader;
use crate::ambient::EPOCH_MS;
use crate::note;
use crate::trace;

/// How a consumer is.
#[derive(Debug, Clone)]
pub struct ConsumerPlan {
    /// Topics that it reads.
    pub topics: Vec<String>,
    /// Whether topics go by name.
    pub by_name: bool,
    /// Whether it fetches in sessions.
    pub in_session: bool,
    /// How long a fetch may wait for records.
    pub wait: Duration,
    /// How long it rests.
    pub rest: Duration,
    /// How often it begins again from the beginning.
    pub restarts: f64,
}

/// A consumer.
#[derive(Debug)]
pub struct Consumer {
    plan: ConsumerPlan,
    peer: Peer,
    reader: Reader,
    /// Once set, it ends when it has read everything.
    ends: Arc<AtomicBool>,
    tries: u32,
}

impl Consumer {
    /// A consumer that reads until `ends`, and then to the end.
    pub fn new(plan: ConsumerPlan, peer: Peer, ends: Arc<AtomicBool>) -> Self {
        let reader = Reader::new(plan.by_name, plan.in_session, &peer.draw);
        Self { plan, peer, reader, ends, tries: 0 }
    }

    /// Reads until it may end and has read everything.
    pub async fn run(mut self) {
        loop {
            match self.round().await {
                Ok(true) => {
                    note!(self.peer.name, "has read everything");
                    return;
                }
                Ok(false) => self.tries = 0,
                Err(Lost(why)) => {
                    trace::count("fetches without an answer");
                    note!(self.peer.name, "tries again: {why}");
                    self.tries += 1;
                    self.peer.back_off(self.tries).await;
                }
            }
        }
    }

    async fn round(&mut self) -> Result<bool, Lost> {
        if self.reader.positions.is_empty() || self.tries > 2 || self.peer.draw.chance(0.05) {
            self.learn().await?;
        }
        let ending = self.ends.load(Ordering::Relaxed);
        if ending {
            self.reader.hurry();
        }
        let restarts = !ending && self.peer.draw.chance(self.plan.restarts);
        if restarts {
            note!(self.peer.name, "begins again");
            self.reader.positions.values_mut().for_each(|position| *position = 0);
        }
        if self.peer.draw.chance(0.05) {
            self.list_offsets().await?;
        }
        // Any agent serves any partition: a few fetches here, a few there.
        let address = self.peer.anybody();
        for _ in 0..1 + self.peer.draw.index(8) {
            let wait = self.plan.wait;
            let polled = self.reader.poll(&mut self.peer, address, wait).await?;
            if !polled.elsewhere.is_empty() {
                return Err(Lost("partitions are elsewhere".to_owned()));
            }
            if self.ends.load(Ordering::Relaxed) {
                let oracle = Arc::clone(self.peer.oracle());
                let current = |partition| if oracle.is_doomed(partition) { 0 } else { i64::MAX };
                let end = |partition: (uuid::Uuid, i32)| oracle.end(partition).min(current(partition.0));
                if !self.reader.positions.is_empty() && self.reader.is_at_end(end) {
                    return Ok(true);
                }
            } else {
                pause(self.peer.draw.around(self.plan.rest)).await;
            }
        }
        Ok(false)
    }

    /// Learns of topics, and reads new partitions from their beginning.
    async fn learn(&mut self) -> Result<(), Lost> {
        let topics = self.peer.metadata(&self.plan.topics).await?;
        let oracle = Arc::clone(self.peer.oracle());
        self.reader.positions.retain(|(id, _), _| !oracle.is_doomed(*id));
        for (name, topic) in topics {
            self.reader.names.insert(topic.id, name);
            for index in topic.leaders.keys() {
                self.reader.positions.entry((topic.id, *index)).or_insert(0);
            }
        }
        if self.reader.positions.is_empty() && !self.ends.load(Ordering::Relaxed) {
            return Err(Lost("no topic".to_owned()));
        }
        Ok(())
    }

    /// Asks where the logs end and begin, or what was first at some time.
    async fn list_offsets(&mut self) -> Result<(), Lost> {
        if !self.plan.by_name {
            return Ok(());
        }
        let now = EPOCH_MS + trace::elapsed().as_millis() as i64;
        let asked = match self.peer.draw.fraction() {
            some if some < 0.5 => -1,
            some if some < 0.7 => -2,
            _ => self.peer.draw.within(EPOCH_MS as u64..now as u64 + 1_000) as i64,
        };
        let partitions = self.reader.known();
        let oracle = Arc::clone(self.peer.oracle());
        let began = oracle.tick();
        let known: Vec<Option<i64>> =
            partitions.iter().map(|partition| oracle.first_since(*partition, asked)).collect();
        let topics = partitions.iter().map(|(id, index)| {
            let partition = ListOffsetsPartition::default()
                .with_partition_index(*index)
                .with_current_leader_epoch(-1)
                .with_timestamp(asked);
            let name = topic_name(self.reader.names.get(id).map_or("", String::as_str));
            ListOffsetsTopic::default().with_name(name).with_partitions(vec![partition])
        });
        let request =
            ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(topics.collect());
        let address = self.peer.anybody();
        let answer = self.peer.call(address, 5, &request).await?;
        for topic in &answer.topics {
            let id =
                self.reader.names.iter().find(|(_, name)| topic_name(name) == topic.name).map(|(id, _)| *id);
            for partition in topic.partitions.iter().filter(|partition| partition.error_code == 0) {
                let of = (id.unwrap_or_default(), partition.partition_index);
                match asked {
                    -1 => oracle.told_end(&self.peer.name, of, began, partition.offset),
                    -2 => oracle.told_start(&self.peer.name, of, began, partition.offset),
                    _ => {
                        let known = partitions.iter().position(|it| *it == of).and_then(|at| known[at]);
                        let told = (partition.offset, partition.timestamp);
                        oracle.told_first_since(&self.peer.name, of, asked, known, told);
                        trace::count("offsets asked for by time");
                    }
                }
            }
        }
        Ok(())
    }
}
