//! Making topics.
//!
//! A plan is checked without the store ([`TopicAdmin::plan_topic`]); the transaction then only has to see that the name is free. The
//! topic's id is part of the plan: whoever runs the transaction again after an unknown outcome recognizes its own.

use std::collections::BTreeMap;
use std::convert::Infallible;

use penstock_config::broker::{BrokerConfig, Layer};
use penstock_config::definition::ConfigError;
use penstock_config::topic;
use penstock_types::{Randomness, TopicId};

use super::admin::{ChangeFailed, Request, TOPICS_AT_ONCE, TopicAdmin, changed};
use super::changes;
use super::names::{NameError, is_internal, validate_name};
use crate::keys::cluster::MetadataVersion;
use crate::keys::topic::{Change, TopicRow, decode_name, encode_name, encode_row, name_key, row_key};
use crate::kv::{Isolation, Transaction, WriteConflict};
use crate::transact::{Abort, OnUnknown, transact};

#[cfg(test)]
mod tests;

/// The most bytes that a topic's options may take together.
pub const CONFIG_BYTES: usize = 65_536;

/// A topic that a client wants.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// How many partitions; -1 for the broker's default.
    pub partitions: i32,
    /// The replication factor; -1 for the broker's default.
    pub replication_factor: i16,
    /// Brokers by partition, instead of the two numbers.
    pub assignments: Vec<(i32, Vec<i32>)>,
    /// Its own options; `None` values are refused.
    pub configs: Vec<(String, Option<String>)>,
}

/// Why a topic wasn't made. It did not happen, but for [`CreateTopicError::Failed`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CreateTopicError {
    /// The name is not allowed.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The name is one that Kafka keeps for itself.
    #[error("Creation of internal topic {name} is prohibited.")]
    Internal {
        /// The name.
        name: String,
    },
    /// There is a topic of this name.
    #[error("Topic '{name}' already exists.")]
    Exists {
        /// The name.
        name: String,
    },
    /// There is a topic whose name differs only in '.' and '_'.
    #[error("Topic '{name}' collides with existing topic: {existing}")]
    Collides {
        /// The name asked for.
        name: String,
        /// The topic there is.
        existing: String,
    },
    /// The number of partitions is not one.
    #[error("Number of partitions was set to an invalid non-positive value.")]
    Partitions,
    /// The replication factor is not one.
    #[error("Replication factor must be larger than 0, or -1 to use the default value.")]
    ReplicationFactor,
    /// The assignment and the numbers exclude one another.
    #[error("A manual partition assignment was specified, but {what} was not set to -1.")]
    AssignmentAndNumber {
        /// Which number.
        what: &'static str,
    },
    /// The assignment makes no sense.
    #[error(transparent)]
    Assignment(#[from] AssignmentError),
    /// An option is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// An option has no value.
    #[error("Null value not supported for topic configs: {names}")]
    NullConfig {
        /// Which ones.
        names: String,
    },
    /// The options are too large.
    #[error("The configs take {bytes} bytes, the limit is {CONFIG_BYTES}")]
    ConfigSize {
        /// How large they are.
        bytes: usize,
    },
    /// The store failed.
    #[error(transparent)]
    Failed(#[from] ChangeFailed),
}

/// Why a manual assignment makes no sense (answered with INVALID_REPLICA_ASSIGNMENT).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AssignmentError {
    /// A partition stands twice.
    #[error("Found multiple manual partition assignments for partition {partition}")]
    Twice {
        /// Which one.
        partition: i32,
    },
    /// Partitions are missing.
    #[error("partitions should be a consecutive 0-based integer sequence")]
    Gap,
    /// A partition has no brokers.
    #[error("The manual partition assignment includes an empty replica list.")]
    Empty,
    /// A broker stands twice.
    #[error("The manual partition assignment includes the broker {broker} more than once.")]
    RepeatedBroker {
        /// Which one.
        broker: i32,
    },
    /// A broker isn't there.
    #[error("The manual partition assignment includes broker {broker}, but no such broker is registered.")]
    UnknownBroker {
        /// Which one.
        broker: i32,
    },
    /// Partitions differ in their number of brokers.
    #[error(
        "The manual partition assignment includes a partition with {found} replica(s), but this is not consistent \
         with previous partitions, which have {expected} replica(s)."
    )]
    Uneven {
        /// How many this one has.
        found: usize,
        /// How many the others have.
        expected: usize,
    },
    /// Not one assignment for each new partition.
    #[error(
        "Attempted to add {wanted} additional partition(s), but only {given} assignment(s) were specified."
    )]
    TooFew {
        /// New partitions.
        wanted: i64,
        /// Assignments.
        given: usize,
    },
}

/// Against what plans are checked.
#[derive(Debug, Clone, Copy)]
pub struct Terms<'a> {
    /// The broker's options in force: numbers and topic options that are not given.
    pub broker: &'a BrokerConfig,
    /// The brokers there are.
    pub brokers: &'a [i32],
}

/// A topic that may be made if its name is free.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedTopic {
    /// Its id, should it be made.
    pub id: TopicId,
    /// Its name.
    pub name: String,
    /// How many partitions.
    pub partitions: u32,
    /// The replication factor.
    pub replication_factor: u16,
    /// Its own options.
    pub configs: Layer,
}

/// Checks a topic that a client wants, in Kafka's order.
fn plan(
    new: &NewTopic,
    terms: Terms<'_>,
    randomness: &dyn Randomness,
) -> Result<PlannedTopic, CreateTopicError> {
    if is_internal(&new.name) {
        return Err(CreateTopicError::Internal { name: new.name.clone() });
    }
    validate_name(&new.name)?;
    let configs = configs(&new.configs, terms.broker)?;
    let (partitions, replication_factor) =
        if new.assignments.is_empty() { numbers(new, terms.broker)? } else { assigned(new, terms.brokers)? };
    let id = TopicId::new(randomness.uuid());
    Ok(PlannedTopic { id, name: new.name.clone(), partitions, replication_factor, configs })
}

fn configs(given: &[(String, Option<String>)], broker: &BrokerConfig) -> Result<Layer, CreateTopicError> {
    let mut missing: Vec<&str> = Vec::new();
    let mut configs = Layer::new();
    for (name, value) in given {
        match value {
            None => missing.push(name),
            Some(value) => {
                configs.insert(name.clone(), value.clone());
            }
        }
    }
    if !missing.is_empty() {
        return Err(CreateTopicError::NullConfig { names: missing.join(",") });
    }
    let bytes = size_of_configs(&configs);
    if bytes > CONFIG_BYTES {
        return Err(CreateTopicError::ConfigSize { bytes });
    }
    topic::validate(&broker.topic_defaults(), &configs)?;
    Ok(configs)
}

/// What options count towards [`CONFIG_BYTES`].
pub(super) fn size_of_configs(configs: &Layer) -> usize {
    configs.iter().map(|(name, value)| name.len() + value.len()).sum()
}

fn numbers(new: &NewTopic, broker: &BrokerConfig) -> Result<(u32, u16), CreateTopicError> {
    let replication_factor = match new.replication_factor {
        -1 => u16::try_from(broker.integer("default.replication.factor")).unwrap_or(1),
        given => u16::try_from(given).map_err(|_| CreateTopicError::ReplicationFactor)?,
    };
    if replication_factor == 0 {
        return Err(CreateTopicError::ReplicationFactor);
    }
    let partitions = match new.partitions {
        -1 => u32::try_from(broker.integer("num.partitions")).unwrap_or(1),
        given => u32::try_from(given).map_err(|_| CreateTopicError::Partitions)?,
    };
    if partitions == 0 { Err(CreateTopicError::Partitions) } else { Ok((partitions, replication_factor)) }
}

fn assigned(new: &NewTopic, brokers: &[i32]) -> Result<(u32, u16), CreateTopicError> {
    if new.replication_factor != -1 {
        return Err(CreateTopicError::AssignmentAndNumber { what: "replication factor" });
    }
    if new.partitions != -1 {
        return Err(CreateTopicError::AssignmentAndNumber { what: "numPartitions" });
    }
    let mut by_partition = BTreeMap::new();
    let mut expected = None;
    for (partition, replicas) in &new.assignments {
        if by_partition.contains_key(partition) {
            return Err(AssignmentError::Twice { partition: *partition }.into());
        }
        check_replicas(replicas, brokers, &mut expected)?;
        by_partition.insert(*partition, replicas);
    }
    if !by_partition.keys().copied().eq(0..by_partition.len() as i32) {
        return Err(AssignmentError::Gap.into());
    }
    Ok((by_partition.len() as u32, u16::try_from(expected.unwrap_or(1)).unwrap_or(u16::MAX)))
}

/// Checks the brokers of one partition; `expected` is how many the partitions before it have.
pub(super) fn check_replicas(
    replicas: &[i32],
    brokers: &[i32],
    expected: &mut Option<usize>,
) -> Result<(), AssignmentError> {
    if replicas.is_empty() {
        return Err(AssignmentError::Empty);
    }
    let mut sorted = replicas.to_vec();
    sorted.sort_unstable();
    for (at, broker) in sorted.iter().enumerate() {
        if !brokers.contains(broker) {
            return Err(AssignmentError::UnknownBroker { broker: *broker });
        }
        if at > 0 && sorted[at - 1] == *broker {
            return Err(AssignmentError::RepeatedBroker { broker: *broker });
        }
    }
    match *expected {
        Some(expected) if expected != replicas.len() => {
            Err(AssignmentError::Uneven { found: replicas.len(), expected })
        }
        _ => {
            *expected = Some(replicas.len());
            Ok(())
        }
    }
}

impl TopicAdmin {
    /// Checks a topic that a client wants and gives it an id. Nothing is read or written.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn plan_topic(&self, new: &NewTopic, terms: Terms<'_>) -> Result<PlannedTopic, CreateTopicError> {
        plan(new, terms, &*self.randomness)
    }

    /// Makes the topics whose names are free, in transactions of up to 500 topics; answers for each in order. A name
    /// that stands twice is taken the second time.
    ///
    /// Idempotent under the plans' ids. Dropping the future leaves it unknown which ones were made.
    pub async fn create_topics(
        &self,
        plans: Vec<PlannedTopic>,
        request: Request,
    ) -> Vec<Result<PlannedTopic, CreateTopicError>> {
        let mut results = Vec::with_capacity(plans.len());
        for plans in plans.chunks(TOPICS_AT_ONCE) {
            let made = transact!(&*self.store, request.policy(), OnUnknown::RunAgain, async |transaction| {
                self.create_in(transaction, plans, request.validate_only).await
            });
            match changed(made.await) {
                Ok(verdicts) => {
                    let paired = plans.iter().cloned().zip(verdicts);
                    results.extend(paired.map(|(plan, verdict)| verdict.map(|()| plan)));
                }
                Err(failed) => results.extend(plans.iter().map(|_| Err(failed.clone().into()))),
            }
        }
        results
    }

    async fn create_in(
        &self,
        transaction: &mut dyn Transaction,
        plans: &[PlannedTopic],
        validate_only: bool,
    ) -> Result<Vec<Result<(), CreateTopicError>>, Abort<Infallible>> {
        let keys: Vec<Vec<u8>> = plans.iter().map(|plan| name_key(&self.keyspace, &plan.name)).collect();
        let holders = transaction.get_many(&keys, Isolation::Serializable).await?;
        let mut taken: BTreeMap<&[u8], &str> = BTreeMap::new();
        let mut verdicts = Vec::with_capacity(plans.len());
        let mut made = Vec::new();
        for ((plan, key), holder) in plans.iter().zip(&keys).zip(&holders) {
            let holder = holder.as_deref().map(decode_name).transpose()?;
            let existing = match (&holder, taken.get(key.as_slice())) {
                // An earlier run of this transaction made it.
                (Some((id, _)), _) if *id == plan.id => {
                    verdicts.push(Ok(()));
                    continue;
                }
                (Some((_, name)), _) => name.as_str(),
                (None, Some(name)) => name,
                (None, None) => {
                    taken.insert(key, &plan.name);
                    if !validate_only {
                        self.write_new(transaction, plan, key);
                        made.push(Change::Topic(plan.id));
                    }
                    verdicts.push(Ok(()));
                    continue;
                }
            };
            let name = plan.name.clone();
            verdicts.push(Err(if existing == name {
                CreateTopicError::Exists { name }
            } else {
                CreateTopicError::Collides { name, existing: existing.to_owned() }
            }));
        }
        changes::record(transaction, &self.keyspace, self.incarnation, &made).await?;
        Ok(verdicts)
    }

    fn write_new(&self, transaction: &mut dyn Transaction, plan: &PlannedTopic, name_key: &[u8]) {
        let row = TopicRow {
            id: plan.id,
            changed: MetadataVersion::ZERO,
            created: MetadataVersion::ZERO,
            created_ms: self.clock.now_ms(),
            name: plan.name.clone(),
            partitions: plan.partitions,
            replication_factor: plan.replication_factor,
            configs: plan.configs.clone(),
        };
        let stamped = encode_row(self.incarnation, &row, None);
        let key = row_key(&self.keyspace, plan.id);
        transaction.set(name_key, &encode_name(plan.id, &plan.name), WriteConflict::Yes);
        transaction.set_stamped_value(&key, &stamped.value, stamped.stamp_at, WriteConflict::Yes);
    }
}
