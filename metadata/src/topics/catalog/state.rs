//! What the catalog holds, and how a change of the store becomes a change of it. Pure.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::Arc;

use penstock_config::broker::{BrokerConfig, Layer};
use penstock_config::topic::TopicConfig;
use penstock_types::TopicId;
use tracing::error;

use super::Topic;
use crate::keys::broker_config::BrokerScope;
use crate::keys::cluster::MetadataVersion;
use crate::keys::topic::TopicRow;

/// What changed.
#[derive(Debug)]
pub(super) struct Delta {
    /// The version that the state equals afterwards.
    pub(super) version: MetadataVersion,
    /// Topics made, changed or (`None`) deleted.
    pub(super) topics: Vec<(TopicId, Option<TopicRow>)>,
    /// All dynamic options, if any changed.
    pub(super) dynamic: Option<BTreeMap<BrokerScope, Layer>>,
}

/// Everything, as of one version.
#[derive(Debug)]
pub(super) struct State {
    /// `None` until the store was read once.
    version: Option<MetadataVersion>,
    by_id: HashMap<TopicId, Arc<Topic>>,
    by_name: BTreeMap<Arc<str>, Arc<Topic>>,
    partitions: u64,
    node_id: i32,
    broker: Arc<BrokerConfig>,
    dynamic: Arc<BTreeMap<BrokerScope, Layer>>,
    /// The topic options that the broker's options set.
    inherited: Layer,
    /// The options of a topic without its own, shared by all of these.
    plain: Arc<TopicConfig>,
}

impl State {
    /// Nothing, before the store was read.
    pub(super) fn new(node_id: i32, broker: BrokerConfig) -> Self {
        let inherited = broker.topic_defaults();
        let plain = Arc::new(resolve("", &inherited, &Layer::new()));
        Self {
            version: None,
            by_id: HashMap::new(),
            by_name: BTreeMap::new(),
            partitions: 0,
            node_id,
            broker: Arc::new(broker),
            dynamic: Arc::default(),
            inherited,
            plain,
        }
    }

    /// Nothing, for the same broker.
    pub(super) fn emptied(&self) -> Self {
        Self::new(self.node_id, self.broker.with_dynamic(Layer::new(), Layer::new()))
    }

    pub(super) fn known(&self) -> Option<MetadataVersion> {
        self.version
    }

    pub(super) fn version(&self) -> MetadataVersion {
        self.version.unwrap_or(MetadataVersion::ZERO)
    }

    pub(super) fn by_id(&self, id: TopicId) -> Option<&Arc<Topic>> {
        self.by_id.get(&id)
    }

    pub(super) fn by_name(&self, name: &str) -> Option<&Arc<Topic>> {
        self.by_name.get(name)
    }

    pub(super) fn starting_at(&self, name: &str) -> impl Iterator<Item = &Arc<Topic>> {
        self.by_name.range::<str, _>((Bound::Included(name), Bound::Unbounded)).map(|(_, topic)| topic)
    }

    pub(super) fn counts(&self) -> (usize, u64) {
        (self.by_id.len(), self.partitions)
    }

    pub(super) fn broker(&self) -> Arc<BrokerConfig> {
        Arc::clone(&self.broker)
    }

    pub(super) fn dynamic(&self) -> Arc<BTreeMap<BrokerScope, Layer>> {
        Arc::clone(&self.dynamic)
    }

    /// Makes the change. What it doesn't concern is not touched, unless the broker's options change what topics
    /// inherit.
    pub(super) fn apply(&mut self, delta: Delta) {
        if let Some(dynamic) = delta.dynamic {
            self.reconfigure(dynamic);
        }
        // Deletions first: a topic deleted and made anew under the same name may be in one delta in any order.
        for (id, _) in delta.topics.iter().filter(|(_, row)| row.is_none()) {
            self.remove(*id);
        }
        for row in delta.topics.into_iter().filter_map(|(_, row)| row) {
            self.insert(row);
        }
        self.version = Some(delta.version);
    }

    fn reconfigure(&mut self, dynamic: BTreeMap<BrokerScope, Layer>) {
        let layer = |scope| dynamic.get(&scope).cloned().unwrap_or_default();
        let own = layer(BrokerScope::Broker(self.node_id));
        let broker = self.broker.with_dynamic(own, layer(BrokerScope::ClusterDefault));
        let inherited = broker.topic_defaults();
        self.broker = Arc::new(broker);
        self.dynamic = Arc::new(dynamic);
        if inherited == self.inherited {
            return;
        }
        self.plain = Arc::new(resolve("", &inherited, &Layer::new()));
        self.inherited = inherited;
        for topic in self.by_name.values_mut() {
            let mut changed = Topic::clone(topic);
            changed.config = configured(&self.plain, &self.inherited, &changed.name, &changed.overrides);
            *topic = Arc::new(changed);
            self.by_id.insert(topic.id, Arc::clone(topic));
        }
    }

    fn remove(&mut self, id: TopicId) {
        let Some(topic) = self.by_id.remove(&id) else {
            return;
        };
        self.partitions -= u64::from(topic.partitions);
        // The name may already be another topic's.
        if self.by_name.get(&topic.name).is_some_and(|named| named.id == id) {
            self.by_name.remove(&topic.name);
        }
    }

    fn insert(&mut self, row: TopicRow) {
        let old = self.by_id.get(&row.id);
        let name = old.map_or_else(|| Arc::from(row.name.as_str()), |old| Arc::clone(&old.name));
        let (overrides, config) = match old {
            Some(old) if *old.overrides == row.configs => {
                (Arc::clone(&old.overrides), Arc::clone(&old.config))
            }
            _ => {
                let config = configured(&self.plain, &self.inherited, &row.name, &row.configs);
                (Arc::new(row.configs), config)
            }
        };
        let topic = Arc::new(Topic {
            id: row.id,
            name: Arc::clone(&name),
            partitions: row.partitions,
            replication_factor: row.replication_factor,
            overrides,
            config,
            created: row.created,
            created_ms: row.created_ms,
            changed: row.changed,
        });
        self.partitions += u64::from(topic.partitions);
        if let Some(old) = self.by_id.insert(topic.id, Arc::clone(&topic)) {
            self.partitions -= u64::from(old.partitions);
        }
        self.by_name.insert(name, topic);
    }
}

fn configured(
    plain: &Arc<TopicConfig>,
    inherited: &Layer,
    name: &str,
    overrides: &Layer,
) -> Arc<TopicConfig> {
    if overrides.is_empty() { Arc::clone(plain) } else { Arc::new(resolve(name, inherited, overrides)) }
}

/// The options in force. Stored options were validated when they were written; one that no longer passes (written by
/// another version) must not take the other topics down, so its topic has the defaults, and an operator is told.
fn resolve(name: &str, inherited: &Layer, overrides: &Layer) -> TopicConfig {
    TopicConfig::resolve(inherited, overrides).unwrap_or_else(|reason| {
        error!(topic = name, %reason, "stored options can't be read: the defaults apply");
        TopicConfig::default()
    })
}
