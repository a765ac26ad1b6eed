//! Changing topics' options and dynamic configuration.

use std::convert::Infallible;

use penstock_config::broker::{self, BrokerConfig, Layer, Mutability};
use penstock_config::definition::{ConfigError, ConfigType};
use penstock_config::topic;
use penstock_types::TopicId;

use super::admin::{ChangeFailed, Request, TOPICS_AT_ONCE, TopicAdmin, changed};
use super::alter::{AlterError, Alteration, Options};
use super::create::{CONFIG_BYTES, size_of_configs};
use super::{changes, read_rows};
use crate::keys::broker_config::{self, BrokerScope};
use crate::keys::topic::Change;
use crate::kv::{Isolation, Transaction, WriteConflict};
use crate::transact::{Abort, OnUnknown, TransactError, transact};

#[cfg(test)]
mod tests;

/// Why a topic's options weren't changed. It did not happen, but for [`AlterTopicError::Failed`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AlterTopicError {
    /// There is no such topic.
    #[error("topic {id} does not exist")]
    NotFound {
        /// The id asked for.
        id: TopicId,
    },
    /// The change makes no sense.
    #[error(transparent)]
    Alter(#[from] AlterError),
    /// The options would be wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The options would be too large.
    #[error("The configs take {bytes} bytes, the limit is {CONFIG_BYTES}")]
    Size {
        /// How large they would be.
        bytes: usize,
    },
    /// The store failed.
    #[error(transparent)]
    Failed(#[from] ChangeFailed),
}

/// Why dynamic configuration wasn't changed. It did not happen, but for [`AlterBrokerError::Failed`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AlterBrokerError {
    /// The change makes no sense.
    #[error(transparent)]
    Alter(#[from] AlterError),
    /// There is no such option: it could not be honoured.
    #[error("Unknown broker config name: {name}")]
    Unknown {
        /// The name.
        name: String,
    },
    /// These need a restart.
    #[error("Cannot update these configs dynamically: Set({names})")]
    ReadOnly {
        /// Which ones.
        names: String,
    },
    /// A value is wrong.
    #[error(transparent)]
    Config(ConfigError),
    /// The options would be too large.
    #[error("The configs take {bytes} bytes, the limit is {CONFIG_BYTES}")]
    Size {
        /// How large they would be.
        bytes: usize,
    },
    /// The store failed.
    #[error(transparent)]
    Failed(#[from] ChangeFailed),
}

struct TopicOptions<'a>(&'a Layer);

impl Options for TopicOptions<'_> {
    fn kind(&self, name: &str) -> Option<ConfigType> {
        Some(topic::definition(name)?.option.kind)
    }
    fn inherited(&self, name: &str) -> Option<String> {
        let default = || Some(topic::definition(name)?.option.default?.to_owned());
        self.0.get(name).cloned().or_else(default)
    }
}

struct BrokerOptions<'a>(&'a BrokerConfig);

impl Options for BrokerOptions<'_> {
    fn kind(&self, name: &str) -> Option<ConfigType> {
        Some(broker::definition(name)?.option.kind)
    }
    fn inherited(&self, name: &str) -> Option<String> {
        self.0.text(name).map(str::to_owned)
    }
}

/// Could a topic that has no options of its own be changed like that? Kafka asks this before it asks whether the topic
/// is there. `broker` gives what topics inherit.
pub fn check_alteration(alteration: &Alteration, broker: &BrokerConfig) -> Result<(), AlterTopicError> {
    altered_configs(&Layer::new(), alteration, &broker.topic_defaults()).map(drop)
}

impl TopicAdmin {
    /// Changes topics' own options, in transactions of up to 500 topics; answers for each in order. A topic must not
    /// stand twice. `broker` gives what topics inherit.
    ///
    /// Every alteration done twice is done once, so an unknown outcome is settled by running it again. Dropping the
    /// future leaves it unknown which topics have changed.
    pub async fn alter_topics(
        &self,
        alterations: &[(TopicId, Alteration)],
        broker: &BrokerConfig,
        request: Request,
    ) -> Vec<Result<(), AlterTopicError>> {
        let inherited = broker.topic_defaults();
        let mut results = Vec::with_capacity(alterations.len());
        for alterations in alterations.chunks(TOPICS_AT_ONCE) {
            let altered =
                transact!(&*self.store, request.policy(), OnUnknown::RunAgain, async |transaction| {
                    self.alter_in(transaction, alterations, &inherited, request.validate_only).await
                });
            match changed(altered.await) {
                Ok(verdicts) => results.extend(verdicts),
                Err(failed) => results.extend(alterations.iter().map(|_| Err(failed.clone().into()))),
            }
        }
        results
    }

    async fn alter_in(
        &self,
        transaction: &mut dyn Transaction,
        alterations: &[(TopicId, Alteration)],
        inherited: &Layer,
        validate_only: bool,
    ) -> Result<Vec<Result<(), AlterTopicError>>, Abort<Infallible>> {
        let ids: Vec<TopicId> = alterations.iter().map(|(id, _)| *id).collect();
        let rows = read_rows(transaction, &self.keyspace, &ids, Isolation::Serializable).await?;
        let mut verdicts = Vec::with_capacity(alterations.len());
        let mut altered = Vec::new();
        for ((id, alteration), row) in alterations.iter().zip(rows) {
            let configs = match &row {
                // A change that no topic could have is refused as such, also where the topic is gone.
                None => altered_configs(&Layer::new(), alteration, inherited)
                    .and(Err(AlterTopicError::NotFound { id: *id })),
                Some(row) => altered_configs(&row.configs, alteration, inherited),
            };
            match (configs, row) {
                (Ok(configs), Some(mut row)) => {
                    if !validate_only && configs != row.configs {
                        row.configs = configs;
                        self.write_row(transaction, &row);
                        altered.push(Change::Topic(*id));
                    }
                    verdicts.push(Ok(()));
                }
                (Err(refused), _) => verdicts.push(Err(refused)),
                (Ok(_), None) => verdicts.push(Err(AlterTopicError::NotFound { id: *id })),
            }
        }
        changes::record(transaction, &self.keyspace, self.incarnation, &altered).await?;
        Ok(verdicts)
    }

    /// Changes the dynamic options of the cluster or of one broker. `broker` is the broker that was asked: what it
    /// has in force is what lists are appended to.
    ///
    /// Settled under an unknown outcome as [`TopicAdmin::alter_topics`] is. Dropping the future leaves it unknown
    /// whether the options have changed.
    pub async fn alter_broker(
        &self,
        scope: BrokerScope,
        alteration: &Alteration,
        broker: &BrokerConfig,
        request: Request,
    ) -> Result<(), AlterBrokerError> {
        let altered = transact!(&*self.store, request.policy(), OnUnknown::RunAgain, async |transaction| {
            self.alter_broker_in(transaction, scope, alteration, broker, request.validate_only).await
        });
        match altered.await {
            Ok(_) => Ok(()),
            Err(TransactError::Refused(refused)) => Err(refused),
            Err(TransactError::Store { error, outcome, .. }) => Err(ChangeFailed { error, outcome }.into()),
        }
    }

    async fn alter_broker_in(
        &self,
        transaction: &mut dyn Transaction,
        scope: BrokerScope,
        alteration: &Alteration,
        broker: &BrokerConfig,
        validate_only: bool,
    ) -> Result<(), Abort<AlterBrokerError>> {
        let key = broker_config::row_key(&self.keyspace, scope);
        let value = transaction.get(&key, Isolation::Serializable).await?;
        let current = match value {
            Some(value) => broker_config::decode_row(&value)?.configs,
            None => Layer::new(),
        };
        let configs = altered_broker_configs(&current, alteration, broker).map_err(Abort::Refused)?;
        if validate_only || configs == current {
            return Ok(());
        }
        if configs.is_empty() {
            transaction.clear(&key, WriteConflict::Yes);
        } else {
            let stamped = broker_config::encode_row(self.incarnation, &configs);
            transaction.set_stamped_value(&key, &stamped.value, stamped.stamp_at, WriteConflict::Yes);
        }
        changes::record(transaction, &self.keyspace, self.incarnation, &[Change::Configuration]).await?;
        Ok(())
    }
}

fn altered_configs(
    current: &Layer,
    alteration: &Alteration,
    inherited: &Layer,
) -> Result<Layer, AlterTopicError> {
    let configs = alteration.apply(current, &TopicOptions(inherited))?;
    let bytes = size_of_configs(&configs);
    if bytes > CONFIG_BYTES {
        return Err(AlterTopicError::Size { bytes });
    }
    topic::validate(inherited, &configs)?;
    Ok(configs)
}

fn altered_broker_configs(
    current: &Layer,
    alteration: &Alteration,
    broker: &BrokerConfig,
) -> Result<Layer, AlterBrokerError> {
    let mut read_only = Vec::new();
    for name in alteration.set_names() {
        match broker::definition(name) {
            None => return Err(AlterBrokerError::Unknown { name: name.to_owned() }),
            Some(definition) if definition.mutability == Mutability::ReadOnly => read_only.push(name),
            Some(_) => {}
        }
    }
    if !read_only.is_empty() {
        return Err(AlterBrokerError::ReadOnly { names: read_only.join(", ") });
    }
    let configs = alteration.apply(current, &BrokerOptions(broker))?;
    let bytes = size_of_configs(&configs);
    if bytes > CONFIG_BYTES {
        return Err(AlterBrokerError::Size { bytes });
    }
    broker::validate(&configs).map_err(AlterBrokerError::Config)?;
    Ok(configs)
}
