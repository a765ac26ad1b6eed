//! The administrator: creates topics, gives them more partitions, deletes them and creates them anew.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::{CreatePartitionsRequest, CreateTopicsRequest, DeleteTopicsRequest};
use kafka_protocol::protocol::StrBytes;
use penstock_types::pause;

use super::codes;
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
        let mortal: Vec<TopicPlan> = self.topics.iter().filter(|topic| topic.mortal).cloned().collect();
        if mortal.is_empty() {
            return;
        }
        loop {
            pause(self.peer.draw.around(self.rest)).await;
            if !self.works.load(Ordering::Relaxed) {
                return;
            }
            let topic = self.peer.draw.pick(&mortal).clone();
            if self.peer.draw.chance(0.5) {
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
