//! The administrator: creates topics, gives them more partitions, deletes them and creates them anew, and deletes records.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::{
    CreatePartitionsRequest, CreateTopicsRequest, DeleteRecordsRequest, DeleteTopicsRequest,
};
use kafka_protocol::protocol::StrBytes;
use penstock_types::pause;

use super::codes;
use super::keys::KeyPlan;
use super::peer::{Lost, Peer, topic_name};
use crate::{note, trace};

/// A topic to be.
#[derive(Debug, Clone)]
pub struct TopicPlan {
    /// Its name.
    pub name: String,
    /// Its partitions at first.
    pub partitions: i32,
    /// Whether it may be deleted and grow.
    pub mortal: bool,
    /// Whether its records are deleted now and then.
    pub pruned: bool,
    /// How long its records stay, if they expire.
    pub retention: Option<Duration>,
    /// Its keys, if it is compacted.
    pub keys: Option<KeyPlan>,
    /// Its settings.
    pub configs: Vec<(String, String)>,
}

/// The administrator.
#[derive(Debug)]
pub struct Admin {
    topics: Vec<TopicPlan>,
    peer: Peer,
    works: Arc<AtomicBool>,
    rest: Duration,
    sizes: BTreeMap<String, i32>,
}

impl Admin {
    /// An administrator of `topics`, as long as it `works`.
    pub fn new(topics: Vec<TopicPlan>, peer: Peer, works: Arc<AtomicBool>, rest: Duration) -> Self {
        Self { topics, peer, works, rest, sizes: BTreeMap::new() }
    }

    /// Creates all topics: tries until they are there.
    pub async fn create_all(&mut self) {
        for topic in self.topics.clone() {
            self.until_done(&topic, Self::create).await;
        }
    }

    /// Changes what may be changed, again and again; all topics are there when it ends.
    pub async fn run(mut self) {
        let changes = |topic: &&TopicPlan| topic.mortal || topic.pruned;
        let changing: Vec<TopicPlan> = self.topics.iter().filter(changes).cloned().collect();
        if changing.is_empty() {
            return;
        }
        loop {
            pause(self.peer.draw.around(self.rest)).await;
            if !self.works.load(Ordering::Relaxed) {
                return;
            }
            let topic = self.peer.draw.pick(&changing).clone();
            if !topic.mortal {
                self.prune(&topic).await;
            } else if self.peer.draw.chance(0.5) {
                self.until_done(&topic, Self::grow).await;
            } else {
                self.until_done(&topic, Self::delete).await;
                pause(self.peer.draw.around(Duration::from_millis(500))).await;
                self.until_done(&topic, Self::create).await;
            }
        }
    }

    async fn until_done(
        &mut self,
        topic: &TopicPlan,
        what: impl AsyncFn(&mut Self, &TopicPlan) -> Result<(), Lost>,
    ) {
        let mut tries = 0;
        while let Err(Lost(why)) = what(self, topic).await {
            note!(self.peer.name, "tries again: {why}");
            tries += 1;
            self.peer.back_off(tries).await;
        }
    }

    async fn create(&mut self, topic: &TopicPlan) -> Result<(), Lost> {
        let configs = topic.configs.iter().map(|(name, value)| {
            CreatableTopicConfig::default()
                .with_name(StrBytes::from_string(name.clone()))
                .with_value(Some(StrBytes::from_string(value.clone())))
        });
        let wanted = CreatableTopic::default()
            .with_name(topic_name(&topic.name))
            .with_num_partitions(topic.partitions)
            .with_replication_factor(1)
            .with_configs(configs.collect());
        let request = CreateTopicsRequest::default().with_topics(vec![wanted]).with_timeout_ms(10_000);
        let address = self.peer.anybody();
        let answer = self.peer.call(address, 7, &request).await?;
        let code = answer.topics.first().map_or(-1, |topic| topic.error_code);
        note!(self.peer.name, "creates {}: {code}", topic.name);
        match code {
            0 | codes::TOPIC_ALREADY_EXISTS => {
                trace::count("topics created");
                self.sizes.insert(topic.name.clone(), topic.partitions);
                Ok(())
            }
            code => Err(Lost(format!("code {code}"))),
        }
    }

    async fn delete(&mut self, topic: &TopicPlan) -> Result<(), Lost> {
        let known = self.peer.metadata(std::slice::from_ref(&topic.name)).await?;
        let Some(known) = known.get(&topic.name) else {
            return Err(Lost("the topic isn't seen yet".to_owned()));
        };
        // By its id: asked twice, it is the same topic that goes.
        self.peer.oracle().doomed(known.id);
        let state = DeleteTopicState::default().with_topic_id(known.id).with_name(None);
        let request = DeleteTopicsRequest::default().with_topics(vec![state]).with_timeout_ms(10_000);
        let mut tries = 0;
        loop {
            let address = self.peer.anybody();
            let answer = self.peer.call(address, 6, &request).await;
            let code = answer.map(|answer| answer.responses.first().map_or(-1, |topic| topic.error_code));
            note!(self.peer.name, "deletes {}: {code:?}", topic.name);
            match code {
                Ok(0) => break,
                Ok(codes::UNKNOWN_TOPIC_ID | codes::UNKNOWN_TOPIC_OR_PARTITION) if tries > 0 => break,
                Ok(_) | Err(_) => {
                    tries += 1;
                    self.peer.back_off(tries).await;
                }
            }
        }
        self.peer.oracle().deleted(known.id);
        trace::count("topics deleted");
        Ok(())
    }

    /// Deletes the first records of a partition, or all.
    async fn prune(&mut self, topic: &TopicPlan) {
        let Ok(known) = self.peer.metadata(std::slice::from_ref(&topic.name)).await else { return };
        let Some(known) = known.get(&topic.name) else { return };
        let index = self.peer.draw.within(0..topic.partitions as u64) as i32;
        let partition = (known.id, index);
        let end = self.peer.oracle().end(partition);
        let below =
            if self.peer.draw.chance(0.2) { -1 } else { self.peer.draw.within(0..end as u64 + 1) as i64 };
        let wanted = DeleteRecordsPartition::default().with_partition_index(index).with_offset(below);
        let wanted =
            DeleteRecordsTopic::default().with_name(topic_name(&topic.name)).with_partitions(vec![wanted]);
        let request = DeleteRecordsRequest::default().with_topics(vec![wanted]).with_timeout_ms(10_000);
        let mut tries = 0;
        // What nobody answers may happen all the same, now or later.
        while tries < 20 {
            let address = self.peer.anybody();
            self.peer.oracle().deletes(partition, below);
            let began = self.peer.oracle().tick();
            let answer = self.peer.call(address, 2, &request).await;
            let told = answer.map(|answer| {
                let first = answer.topics.first().and_then(|topic| topic.partitions.first());
                first.map_or((-1, -1), |partition| (partition.error_code, partition.low_watermark))
            });
            note!(self.peer.name, "deletes records of {}-{index} below {below}: {told:?}", topic.name);
            if let Ok((0, start)) = told {
                trace::count("deletions of records");
                let name = self.peer.name.clone();
                self.peer.oracle().told_start(&name, partition, began, start.max(below));
                if start < below {
                    let what =
                        format!("{name}: deleted below {below} of {partition:?}, which begins at {start}");
                    self.peer.oracle().violation(&what);
                }
                return;
            }
            tries += 1;
            self.peer.back_off(tries).await;
        }
    }

    async fn grow(&mut self, topic: &TopicPlan) -> Result<(), Lost> {
        let count = self.sizes.get(&topic.name).copied().unwrap_or(topic.partitions) + 1;
        if count > 12 {
            return Ok(());
        }
        let wanted = CreatePartitionsTopic::default()
            .with_name(topic_name(&topic.name))
            .with_count(count)
            .with_assignments(None);
        let request = CreatePartitionsRequest::default().with_topics(vec![wanted]).with_timeout_ms(10_000);
        let address = self.peer.anybody();
        let answer = self.peer.call(address, 3, &request).await?;
        let code = answer.results.first().map_or(-1, |topic| topic.error_code);
        note!(self.peer.name, "grows {} to {count}: {code}", topic.name);
        match code {
            0 | codes::INVALID_PARTITIONS => {
                trace::count("partitions created");
                self.sizes.insert(topic.name.clone(), count);
                Ok(())
            }
            code => Err(Lost(format!("code {code}"))),
        }
    }
}
