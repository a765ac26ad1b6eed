//! Makes the services of an agent over its open stores, as its options say.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use penstock_compaction::checkpoint::{CheckpointParts, CheckpointSettings, Checkpoints};
use penstock_compaction::collector::{Collector, CollectorParts, CollectorSettings};
use penstock_compaction::compact::{Compaction, CompactionParts, CompactionSettings};
use penstock_compaction::merge::{Merge, MergeParts, MergeSettings};
use penstock_compaction::producer_expiry::{ProducerExpiry, ProducerExpirySettings};
use penstock_compaction::retention::{Retention, RetentionParts, RetentionSettings};
use penstock_compaction::sealer::{SealSettings, Sealer};
use penstock_compaction::sweeper::{Sweeper, SweeperSettings};
use penstock_config::broker::BrokerConfig;
use penstock_config::{
    AgentConfig, CacheOptions, CheckpointOptions, FetchOptions, GroupOptions, MetadataKind,
};
use penstock_metadata::commit::Committer;
use penstock_metadata::feed_watch::FeedWatch;
use penstock_metadata::ground::CatalogGround;
use penstock_metadata::keys::Keyspace;
use penstock_metadata::keys::cluster::ClusterIdentity;
use penstock_metadata::kv::{SharedStore, StoreError};
use penstock_metadata::lookup::LogReader;
use penstock_metadata::order_rows::OrderRows;
use penstock_metadata::producer_expiry::JUMP;
use penstock_metadata::producer_ids::ProducerIds;
use penstock_metadata::standing::Standing;
use penstock_metadata::topics::{TopicAdmin, TopicCatalog};
use penstock_metadata::views::Views;
use penstock_storage::bucket::Bucket;
use penstock_storage::cache::{self, Cache};

use super::{Parts, StartError};
use crate::broker::{Broker, Identity};
use crate::cluster::{Cluster, Patience, Traffic};
use crate::coordinator::{GroupCoordinator, GroupCoordinatorParts};
use crate::fetch::session::FetchSessions;
use crate::fetch::{Fetch, FetchParts, FetchSettings};
use crate::produce::policy::FlushSetting;
use crate::produce::{Produce, ProduceParts, ProduceSettings};

/// Tail views of partitions that nobody reads are forgotten past this number.
const VIEWS: usize = 20_000;
/// Bytes of the index that a transaction of merging rewrites: far below what a transaction may have, and done in time.
const SWAP_BYTES: u64 = 1_000_000;
/// Bytes of a unit of what was merged before, at most: at the default pace a few minutes' work.
const LEVEL_BYTES: u64 = 16 * 1024 * 1024 * 1024;
/// Bytes that log compaction reads together.
const COMPACT_READ_BYTES: u64 = 8 * 1024 * 1024;
/// Partitions of all incremental fetch sessions together.
const SESSION_PARTITIONS: usize = 1_000_000;

/// What the agent stands on.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) store: SharedStore,
    pub(super) bucket: Arc<Bucket>,
    pub(super) keyspace: Keyspace,
    pub(super) cluster: ClusterIdentity,
}

/// An agent's services.
#[derive(Debug)]
pub(super) struct Services {
    pub(super) broker: Arc<Broker>,
    pub(super) feed: Arc<FeedWatch>,
    pub(super) sealer: Arc<Sealer>,
    pub(super) checkpoints: Arc<Checkpoints>,
    pub(super) producer_expiry: Arc<ProducerExpiry>,
    pub(super) retention: Arc<Retention>,
    pub(super) collector: Arc<Collector>,
    pub(super) sweeper: Arc<Sweeper>,
    pub(super) merge: Arc<Merge>,
    pub(super) compaction: Arc<Compaction>,
}

async fn open_catalog(
    store: &SharedStore,
    keyspace: &Keyspace,
    node_id: i32,
    options: BrokerConfig,
) -> Result<TopicCatalog, StoreError> {
    let mut patience = Patience::new();
    loop {
        let (store, keyspace) = (Arc::clone(store), keyspace.clone());
        match TopicCatalog::open(store, keyspace, node_id, options.clone()).await {
            Ok(opened) => return Ok(opened),
            Err(error) => patience.bear(error).await?,
        }
    }
}

pub(super) async fn start(
    config: AgentConfig,
    parts: Parts,
    opened: Opened,
    agents: Arc<Cluster>,
    kafka: SocketAddr,
) -> Result<Services, StartError> {
    let Opened { store, bucket, keyspace, cluster } = opened;
    let node_id = agents.node().get();
    let options = BrokerConfig::new(config.broker_layer(node_id))?;
    let cache_options = cache_options(&config.cache);
    cache_options.check().map_err(|reason| StartError::Cache { reason })?;
    let topics = Arc::new(open_catalog(&store, &keyspace, node_id, options).await?);
    let options = topics.broker();
    let producer_expiry = milliseconds(&options, "producer.id.expiration.ms");

    let cache = Cache::new(Arc::clone(&bucket), cache_options);
    let views = Views::new(Arc::clone(&store), keyspace.clone(), VIEWS);
    let log = LogReader::new(Arc::clone(&store), keyspace.clone());
    let feed = FeedWatch::new(Arc::clone(&store), keyspace.clone());
    let committer = Committer {
        store: Arc::clone(&store),
        keyspace: keyspace.clone(),
        incarnation: cluster.incarnation,
        topics: CatalogGround::new(Arc::clone(&topics), keyspace.clone()),
        producer_expiry,
        order_rows: OrderRows::default(),
        standing: Standing::default(),
    };
    let sealer =
        Sealer::new(Arc::clone(&store), keyspace.clone(), seal_settings(&config), Arc::clone(&agents) as _);
    let checkpoints = Checkpoints::new(
        CheckpointParts {
            store: Arc::clone(&store),
            keyspace: keyspace.clone(),
            cluster: cluster.clone(),
            bucket: Arc::clone(&bucket),
            randomness: Arc::clone(&parts.randomness),
            share: Arc::clone(&agents) as _,
        },
        checkpoint_settings(&config.checkpoint),
    );
    let producer_expiry_job = ProducerExpiry::new(
        Arc::clone(&store),
        keyspace.clone(),
        cluster.incarnation,
        ProducerExpirySettings {
            after: producer_expiry.saturating_add(JUMP),
            interval: milliseconds(&options, "producer.id.expiration.check.interval.ms"),
        },
        Arc::clone(&agents) as _,
    );
    let collector_parts = CollectorParts {
        store: Arc::clone(&store),
        keyspace: keyspace.clone(),
        cluster: cluster.clone(),
        bucket: Arc::clone(&bucket),
        share: Arc::clone(&agents) as _,
    };
    let collector = Collector::new(collector_parts.clone(), collector_settings(&config));
    let sweeper = Sweeper::new(collector_parts, sweeper_settings(&config));
    let merge = Merge::new(
        MergeParts {
            store: Arc::clone(&store),
            keyspace: keyspace.clone(),
            incarnation: cluster.incarnation,
            bucket: Arc::clone(&bucket),
            randomness: Arc::clone(&parts.randomness),
            topics: Arc::clone(&topics),
            share: Arc::clone(&agents) as _,
            collected: Arc::clone(collector.stats()),
        },
        merge_settings(&config),
    );
    let compaction = Compaction::new(
        CompactionParts {
            store: Arc::clone(&store),
            keyspace: keyspace.clone(),
            incarnation: cluster.incarnation,
            bucket: Arc::clone(&bucket),
            randomness: Arc::clone(&parts.randomness),
            topics: Arc::clone(&topics),
            clocks: Arc::clone(&agents) as _,
            share: Arc::clone(&agents) as _,
            collected: Arc::clone(collector.stats()),
        },
        compaction_settings(&config),
    );
    let retention = Retention::new(
        RetentionParts {
            store: Arc::clone(&store),
            keyspace: keyspace.clone(),
            incarnation: cluster.incarnation,
            topics: Arc::clone(&topics),
            clocks: Arc::clone(&agents) as _,
            share: Arc::clone(&agents) as _,
            collected: Arc::clone(collector.stats()),
        },
        RetentionSettings {
            interval: milliseconds(&options, "log.retention.check.interval.ms"),
            clock_step: config.collect.clock_step,
        },
    );
    let produce_parts = ProduceParts {
        store: Arc::clone(&store),
        committer,
        incarnation: cluster.incarnation,
        bucket: Arc::clone(&bucket),
        cache: Arc::clone(&cache),
        views: Arc::clone(&views),
        log: log.clone(),
        sealer: Arc::clone(&sealer),
        randomness: Arc::clone(&parts.randomness),
    };
    let fetch_parts =
        FetchParts { views: Arc::clone(&views), log, feed: Arc::clone(&feed), cache: Arc::clone(&cache) };
    let groups = GroupCoordinator::new(GroupCoordinatorParts {
        store: Arc::clone(&store),
        keyspace: keyspace.clone(),
        clock: Arc::clone(&parts.clock),
        randomness: Arc::clone(&parts.randomness),
        options: GroupOptions::of(&options),
        topics: Arc::clone(&topics) as _,
        ownership: Arc::clone(&agents) as _,
    });
    let topic_admin = TopicAdmin::new(
        Arc::clone(&store),
        keyspace.clone(),
        cluster.incarnation,
        Arc::clone(&parts.clock),
        Arc::clone(&parts.randomness),
    );
    let broker = Arc::new(Broker {
        identity: identity(&config, cluster.cluster_id.into(), node_id, kafka),
        produce: Produce::start(produce_parts, produce_settings(&config)),
        fetch: Fetch::new(fetch_parts, fetch_settings(&config.fetch)),
        sessions: Mutex::new(FetchSessions::new(config.fetch.session_slots as usize, SESSION_PARTITIONS)),
        producer_ids: ProducerIds::new(
            Arc::clone(&store),
            keyspace.clone(),
            cluster.incarnation,
            producer_expiry,
        ),
        config: Arc::new(config),
        store,
        keyspace,
        clock: parts.clock,
        randomness: parts.randomness,
        topics,
        topic_admin,
        bucket,
        cache,
        views,
        groups,
        cluster: agents,
        traffic: Traffic::default(),
    });
    let producer_expiry = producer_expiry_job;
    Ok(Services {
        broker,
        feed,
        sealer,
        checkpoints,
        producer_expiry,
        retention,
        collector,
        sweeper,
        merge,
        compaction,
    })
}

fn milliseconds(options: &BrokerConfig, name: &str) -> Duration {
    Duration::from_millis(u64::try_from(options.integer(name)).unwrap_or(0))
}

fn identity(config: &AgentConfig, cluster_id: Arc<str>, node_id: i32, kafka: SocketAddr) -> Identity {
    let advertised = config.advertised();
    Identity {
        cluster_id,
        node_id,
        advertised_host: advertised.host.as_str().into(),
        advertised_port: if advertised.port == 0 { kafka.port() } else { advertised.port },
    }
}

fn produce_settings(config: &AgentConfig) -> ProduceSettings {
    let flush = &config.flush;
    ProduceSettings {
        flush: if flush.interval.is_zero() {
            FlushSetting::CostBounded {
                put_per_second: flush.put_budget_per_second,
                burst: f64::from(flush.put_burst),
            }
        } else {
            FlushSetting::Interval(flush.interval)
        },
        object_bytes: flush.object_max.get(),
        memory_bytes: config.produce.memory.as_usize(),
        uploads: config.upload.concurrency as usize,
        deadline: config.upload.deadline,
    }
}

fn seal_settings(config: &AgentConfig) -> SealSettings {
    let options = &config.seal;
    SealSettings { rows: u64::from(options.rows), age: options.age, interval: options.interval }
}

fn checkpoint_settings(options: &CheckpointOptions) -> CheckpointSettings {
    let look = (options.interval / 10).clamp(Duration::from_millis(100), Duration::from_secs(30));
    let bytes_per_second = options.slot_bytes_per_second.get();
    CheckpointSettings { interval: options.interval, bytes_per_second, look }
}

/// How far the versions of the store may jump: those of a store on this machine don't.
fn jump(config: &AgentConfig) -> Duration {
    match config.node.metadata {
        MetadataKind::FoundationDb(_) => JUMP,
        MetadataKind::Embedded | MetadataKind::Memory => Duration::ZERO,
    }
}

/// When the collector deletes.
pub(crate) fn collector_settings(config: &AgentConfig) -> CollectorSettings {
    let options = &config.collect;
    let delay = options.delay.saturating_add(jump(config));
    let merged_delay = options.merged_delay.saturating_add(jump(config)).max(delay);
    CollectorSettings { delay, merged_delay, interval: options.interval }
}

fn merge_settings(config: &AgentConfig) -> MergeSettings {
    let options = &config.merge;
    // By then the seal has reached what every agent wrote.
    let settle = config.seal.age.saturating_mul(2).saturating_add(jump(config));
    MergeSettings {
        interval: options.interval,
        settle,
        unit_bytes: options.unit.get(),
        age: options.age.max(settle),
        level_age: options.level_age.max(settle),
        section_bytes: options.section.get(),
        level_bytes: LEVEL_BYTES,
        object_bytes: options.object_max.get(),
        // Small outputs are swapped in small steps.
        swap_bytes: SWAP_BYTES.min(options.object_max.get() / 8),
        bytes_per_second: options.bytes_per_second.get(),
        requests_per_second: options.requests_per_second,
    }
}

fn compaction_settings(config: &AgentConfig) -> CompactionSettings {
    let options = &config.compact;
    CompactionSettings {
        interval: options.interval,
        due_bytes: options.bytes.get(),
        delay: options.delay,
        map_bytes: options.map.get(),
        read_bytes: COMPACT_READ_BYTES.min(options.object_max.get()),
        object_bytes: options.object_max.get(),
        swap_bytes: SWAP_BYTES,
        bytes_per_second: options.bytes_per_second.get(),
        requests_per_second: options.requests_per_second,
        seal_age: config.seal.age,
        clock_step: config.collect.clock_step,
    }
}

/// When the bucket is swept.
pub(crate) fn sweeper_settings(config: &AgentConfig) -> SweeperSettings {
    let options = &config.collect;
    SweeperSettings { lag: options.sweep_lag.saturating_add(jump(config)), interval: options.sweep_interval }
}

fn fetch_settings(options: &FetchOptions) -> FetchSettings {
    FetchSettings { max_bytes: options.max.get(), memory_bytes: options.memory.get() }
}

fn cache_options(options: &CacheOptions) -> cache::CacheOptions {
    let defaults = cache::CacheOptions::default();
    cache::CacheOptions {
        tail_bytes: options.bytes.get(),
        lagging_bytes: options.lagging_bytes.get(),
        block_bytes: options.block.get(),
        readahead_bytes: options.readahead.get(),
        tail_loading_bytes: options.loading.get(),
        lagging_loading_bytes: options.loading.get(),
        tail_load_bytes: defaults.tail_load_bytes.max(options.block.get()),
        lagging_load_bytes: defaults.lagging_load_bytes.max(options.block.get()),
        ..defaults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_allowed_block_size_makes_a_cache_that_passes() {
        for (block, loading) in [("64KiB", "16MiB"), ("1MiB", "32MiB"), ("16MiB", "16MiB")] {
            let mut config = AgentConfig::default();
            config.set("cache.block.bytes", block).expect("known").expect("allowed");
            config.set("cache.loading.bytes", loading).expect("known").expect("allowed");
            assert_eq!(cache_options(&config.cache).check(), Ok(()), "{block}");
        }
    }

    #[test]
    fn an_interval_replaces_the_budget() {
        let mut config = AgentConfig::default();
        assert!(matches!(produce_settings(&config).flush, FlushSetting::CostBounded { .. }));
        config.flush.interval = Duration::from_millis(250);
        assert_eq!(produce_settings(&config).flush, FlushSetting::Interval(Duration::from_millis(250)));
    }
}
