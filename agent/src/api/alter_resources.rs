//! What AlterConfigs and IncrementalAlterConfigs share: whose options change, and whether they may.

use std::collections::{BTreeMap, BTreeSet};

use kafka_protocol::error::ResponseError;
use penstock_metadata::keys::broker_config::BrokerScope;
use penstock_metadata::topics::{Alteration, Operation, Request, check_alteration, validate_name};
use penstock_types::TopicId;

use super::config_resource::ResourceType;
use super::topic_error::{Refusal, store_error};
use crate::broker::Broker;

#[cfg(test)]
mod tests;

/// How long a change of options may take, in milliseconds: these requests carry no time-out.
const CHANGE_MS: i32 = 15_000;

/// A change that a client wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// The kind of resource, as on the wire.
    pub(crate) resource_type: i8,
    /// Its name.
    pub(crate) name: String,
    /// The change, unless it makes no sense.
    pub(crate) alteration: Result<Alteration, Refusal>,
}

fn invalid(message: impl Into<String>) -> Refusal {
    Refusal::new(ResponseError::InvalidRequest, message)
}

/// Refuses options that stand twice, and those without a value that need one (`needs_value`).
pub(crate) fn check_keys<'a>(
    configs: impl Iterator<Item = (&'a str, bool)> + Clone,
    needs_value: &str,
) -> Result<(), Refusal> {
    let mut seen = BTreeSet::new();
    if !configs.clone().all(|(name, _)| seen.insert(name)) {
        return Err(invalid("Error due to duplicate config keys"));
    }
    let missing: Vec<&str> = configs.filter(|(_, missing)| *missing).map(|(name, _)| name).collect();
    if missing.is_empty() { Ok(()) } else { Err(invalid(format!("{needs_value}{}", missing.join(",")))) }
}

/// Carries the changes out, or only checks them; answers for each in order.
pub(crate) async fn alter(broker: &Broker, wanted: Vec<Wanted>, validate_only: bool) -> Vec<Option<Refusal>> {
    if let Err(error) = broker.topics.refresh().await {
        let refusal = Refusal::new(store_error(&error), error.to_string());
        return wanted.iter().map(|_| Some(refusal.clone())).collect();
    }
    let mut times: BTreeMap<(i8, &str), usize> = BTreeMap::new();
    for one in &wanted {
        *times.entry((one.resource_type, &one.name)).or_default() += 1;
    }
    let mut refusals = Vec::with_capacity(wanted.len());
    let mut topics: Vec<(usize, TopicId, Alteration)> = Vec::new();
    let mut brokers: Vec<(usize, BrokerScope, Alteration)> = Vec::new();
    for (at, one) in wanted.iter().enumerate() {
        let target = if times[&(one.resource_type, one.name.as_str())] > 1 {
            Err(invalid("Each resource must appear at most once."))
        } else {
            target(broker, one)
        };
        refusals.push(match target {
            Err(refusal) => Some(refusal),
            Ok(Target::Nothing) => None,
            Ok(Target::Topic(id, alteration)) => {
                topics.push((at, id, alteration));
                None
            }
            Ok(Target::Broker(scope, alteration)) => {
                brokers.push((at, scope, alteration));
                None
            }
        });
    }
    let options = broker.topics.broker();
    let how = Request::new(validate_only, CHANGE_MS);
    for (at, scope, alteration) in brokers {
        if let Err(refused) = broker.topic_admin.alter_broker(scope, &alteration, &options, how).await {
            refusals[at] = Some((&refused).into());
        } else if !validate_only {
            tracing::info!(?scope, "dynamic configuration changed");
        }
    }
    let places: Vec<usize> = topics.iter().map(|(at, _, _)| *at).collect();
    let changes: Vec<(TopicId, Alteration)> =
        topics.into_iter().map(|(_, id, alteration)| (id, alteration)).collect();
    let results = broker.topic_admin.alter_topics(&changes, &options, how).await;
    for (at, result) in places.into_iter().zip(results) {
        if let Err(refused) = result {
            refusals[at] = Some((&refused).into());
        } else if !validate_only {
            tracing::info!(topic = wanted[at].name, "a topic's options changed");
        }
    }
    if !validate_only && let Err(error) = broker.topics.refresh().await {
        tracing::debug!(%error, "the change shows at the next refresh");
    }
    refusals
}

enum Target {
    Topic(TopicId, Alteration),
    Broker(BrokerScope, Alteration),
    /// A change of nothing.
    Nothing,
}

fn target(broker: &Broker, wanted: &Wanted) -> Result<Target, Refusal> {
    let kind = ResourceType::from_wire(wanted.resource_type)
        .ok_or_else(|| invalid(format!("Unknown resource type {}", wanted.resource_type)))?;
    let alteration = wanted.alteration.clone()?;
    match kind {
        ResourceType::Topic => {
            if wanted.name.is_empty() {
                return Err(invalid("Default topic resources are not allowed."));
            }
            validate_name(&wanted.name)
                .map_err(|error| Refusal::new(ResponseError::InvalidTopicException, error.to_string()))?;
            if let Some(topic) = broker.topics.by_name(&wanted.name) {
                return Ok(Target::Topic(topic.id, alteration));
            }
            check_alteration(&alteration, &broker.topics.broker())
                .map_err(|refused| Refusal::from(&refused))?;
            let message = format!("The topic '{}' does not exist.", wanted.name);
            Err(Refusal::new(ResponseError::UnknownTopicOrPartition, message))
        }
        ResourceType::Broker => Ok(Target::Broker(scope(&wanted.name, broker.identity.node_id)?, alteration)),
        ResourceType::BrokerLogger | ResourceType::ClientMetrics | ResourceType::Group => {
            nothing_to_alter(kind, &alteration)
        }
    }
}

/// Whose dynamic options a name means, at the broker `own`.
fn scope(name: &str, own: i32) -> Result<BrokerScope, Refusal> {
    if name.is_empty() {
        return Ok(BrokerScope::ClusterDefault);
    }
    let id: i32 =
        name.parse().map_err(|_| invalid(format!("Node id must be an integer, but it is: {name}")))?;
    if id == own {
        Ok(BrokerScope::Broker(id))
    } else {
        Err(invalid(format!("Unexpected broker id, expected {own}, but received {id}")))
    }
}

/// These have no options here: any that is to get a value is unknown.
fn nothing_to_alter(kind: ResourceType, alteration: &Alteration) -> Result<Target, Refusal> {
    let set = match alteration {
        Alteration::Replace(configs) => configs.keys().next(),
        Alteration::Increment(operations) => {
            operations.iter().find(|(_, operation)| *operation != Operation::Delete).map(|(name, _)| name)
        }
    };
    let Some(name) = set else {
        return Ok(Target::Nothing);
    };
    Err(match kind {
        ResourceType::BrokerLogger => {
            Refusal::new(ResponseError::InvalidConfig, format!("Logger {name} does not exist!"))
        }
        ResourceType::Group => {
            Refusal::new(ResponseError::InvalidConfig, format!("Unknown group config name: {name}"))
        }
        ResourceType::ClientMetrics | ResourceType::Topic | ResourceType::Broker => {
            invalid(format!("Unknown client metrics configuration: {name}"))
        }
    })
}
