//! A topic with its partitions, and producers.

use penstock_types::{PartitionIndex, TopicId, TopicPartition};

use super::facts::Inspected;
use super::{InspectError, Inspector, Sink, describe};
use crate::keys::{Family, topic};
use crate::kv::prefixed;

impl Inspector {
    /// A topic's row, and of each partition (or of `only`): log start, seal, counter, feed, the rows of the tail, the
    /// index, aborted transactions and producers.
    pub async fn topic(
        &self,
        name: &str,
        only: Option<PartitionIndex>,
        sink: &mut dyn Sink,
    ) -> Result<(), InspectError> {
        let id = self.topic_id(name, sink).await?;
        let not_found = |what, name: String| InspectError::NotFound { what, name };
        let key = topic::row_key(&self.keyspace, id);
        let row = self.get(&key).await?.ok_or_else(|| not_found("row of topic", id.to_string()))?;
        let found = describe(&self.keyspace, &row);
        let partitions = topic::decode_row(id, &row.value).map_or(0, |row| row.partitions);
        sink.put(found)?;
        let all = (0..partitions).filter_map(|index| i32::try_from(index).ok()).map(PartitionIndex::new);
        let mut told = 0;
        for partition in all.filter(|index| only.is_none_or(|only| only == *index)) {
            self.partition(TopicPartition { topic: id, partition }, sink).await?;
            told += 1;
        }
        match only {
            Some(only) if told == 0 && partitions > 0 => {
                Err(not_found("partition", format!("{name}-{only}")))
            }
            _ => Ok(()),
        }
    }

    /// The states of all producers, or of those of one topic, and the blocks of producer ids.
    pub async fn producers(&self, of: Option<&str>, sink: &mut dyn Sink) -> Result<(), InspectError> {
        let mut start = self.keyspace.family(Family::Producer);
        match of {
            Some(name) => start.extend_from_slice(self.topic_id(name, sink).await?.as_bytes()),
            None => {
                let ids = prefixed(&self.keyspace.family(Family::Allocation));
                self.describe_all(ids, sink).await?;
            }
        }
        self.describe_all(prefixed(&start), sink).await
    }

    /// The id of a topic that is spelled exactly so.
    async fn topic_id(&self, name: &str, sink: &mut dyn Sink) -> Result<TopicId, InspectError> {
        let not_found = || InspectError::NotFound { what: "topic", name: name.to_owned() };
        let row = self.get(&topic::name_key(&self.keyspace, name)).await?.ok_or_else(not_found)?;
        match topic::decode_name(&row.value) {
            Ok((id, spelled)) if spelled == name => Ok(id),
            Ok(_) => Err(not_found()),
            Err(corrupt) => {
                sink.put(Inspected::corrupt(&row, &corrupt))?;
                Err(not_found())
            }
        }
    }
}
