//! Where the components' counters become metrics.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use penstock_compaction::checkpoint::{CheckpointStats, Checkpoints};
use penstock_compaction::collector::{Collector, CollectorStats};
use penstock_compaction::compact::{Compaction, CompactionStats};
use penstock_compaction::merge::{Merge, MergeStats};
use penstock_compaction::producer_expiry::ProducerExpiry;
use penstock_compaction::retention::{Retention, RetentionStats};
use penstock_compaction::sealer::{SealStats, Sealer};
use penstock_compaction::sweeper::{Sweeper, SweeperStats};
use penstock_metadata::keys::agent::Phase;
use penstock_metadata::kv::embedded::{EmbeddedStats, EmbeddedStore, GROUP_SIZES};
use penstock_metadata::topics::TopicCatalog;
use penstock_storage::bucket::{Bucket, BucketStats, LATENCY_BOUNDS_MICROSECONDS, LatencySnapshot};
use penstock_storage::cache::{Cache, CacheStatsSnapshot};

use super::definitions as metric;
use super::{HistogramReading, Metrics, Reading};
use crate::broker::Broker;
use crate::cluster::Cluster;
use crate::coordinator::GroupCoordinator;
use crate::fetch::session::FetchSessions;
use crate::fetch::{Fetch, FetchStats};
use crate::http::Readiness;
use crate::produce::{Produce, ProduceStats};
use crate::server::{self, ApiSnapshot, ServerSnapshot, ServerStats};

/// Adds what the agent says of itself.
pub fn register_agent(metrics: &mut Metrics, readiness: Arc<Readiness>) {
    metrics.gather(metric::BUILD, || Reading::Labelled(vec![(vec![env!("CARGO_PKG_VERSION").into()], 1.0)]));
    metrics.value(metric::READY, move || f64::from(u8::from(readiness.is_ready())));
}

/// Adds the object store's metrics.
pub fn register_bucket(metrics: &mut Metrics, bucket: &Arc<Bucket>) {
    let by_operation =
        |metrics: &mut Metrics, definition, read: fn(&BucketStats) -> Vec<(&'static str, u64)>| {
            let bucket = Arc::clone(bucket);
            metrics.gather(definition, move || labelled(read(bucket.stats())));
        };
    by_operation(metrics, metric::OBJECT_STORE_REQUESTS, |stats| {
        let now = stats.snapshot();
        vec![("put", now.put_requests), ("get", now.get_requests), ("list", now.lists)]
    });
    by_operation(metrics, metric::OBJECT_STORE_OPERATIONS, |stats| {
        let now = stats.snapshot();
        vec![("put", now.puts), ("get", now.gets), ("delete", now.deletes)]
    });
    by_operation(metrics, metric::OBJECT_STORE_BYTES, |stats| {
        let now = stats.snapshot();
        vec![("put", now.put_bytes), ("get", now.get_bytes)]
    });
    let of_errors = Arc::clone(bucket);
    metrics.gather(metric::OBJECT_STORE_ERRORS, move || {
        let errors = of_errors.stats().snapshot().errors;
        Reading::Labelled(
            errors.into_iter().map(|(class, count)| (vec![class.to_string()], count as f64)).collect(),
        )
    });
    for (definition, read) in [
        (metric::OBJECT_STORE_RETRIES, (|stats| stats.snapshot().retries) as fn(&BucketStats) -> u64),
        (metric::OBJECT_STORE_HEDGES, |stats| stats.snapshot().hedges),
        (metric::OBJECT_STORE_HEDGE_WINS, |stats| stats.snapshot().hedge_wins),
    ] {
        let bucket = Arc::clone(bucket);
        metrics.value(definition, move || read(bucket.stats()) as f64);
    }
    let of_latency = Arc::clone(bucket);
    metrics.gather(metric::OBJECT_STORE_LATENCY, move || {
        let now = of_latency.stats().snapshot();
        Reading::Histograms(vec![
            (vec!["put".into()], latency(&now.put_latency)),
            (vec!["get".into()], latency(&now.get_latency)),
        ])
    });
}

fn labelled(values: Vec<(&'static str, u64)>) -> Reading {
    Reading::Labelled(
        values.into_iter().map(|(label, value)| (vec![label.to_owned()], value as f64)).collect(),
    )
}

fn latency(snapshot: &LatencySnapshot) -> HistogramReading {
    let bounds = LATENCY_BOUNDS_MICROSECONDS.iter().map(|bound| *bound as f64 / 1e6).chain([f64::MAX]);
    HistogramReading {
        sum: snapshot.sum_microseconds as f64 / 1e6,
        buckets: bounds.zip(snapshot.counts.iter().copied()).collect(),
    }
}

/// Adds the Kafka listener's metrics.
pub fn register_server(metrics: &mut Metrics, stats: &Arc<ServerStats>) {
    let read = |metrics: &mut Metrics, definition, read: fn(&ServerSnapshot) -> u64| {
        let stats = Arc::clone(stats);
        metrics.value(definition, move || read(&stats.snapshot()) as f64);
    };
    read(metrics, metric::SERVER_CONNECTIONS, |now| now.connections);
    read(metrics, metric::SERVER_ACCEPTED, |now| now.accepted);
    read(metrics, metric::SERVER_ACCEPT_ERRORS, |now| now.accept_errors);
    read(metrics, metric::SERVER_RECEIVED, |now| now.received_bytes);
    read(metrics, metric::SERVER_SENT, |now| now.sent_bytes);
    let of_closed = Arc::clone(stats);
    metrics.gather(metric::SERVER_CLOSED, move || labelled(of_closed.snapshot().closed));
    let of_requests = Arc::clone(stats);
    metrics.gather(metric::REQUESTS, move || {
        labelled(of_requests.snapshot().apis.into_iter().map(|api| (api.api, api.requests)).collect())
    });
    let of_latency = Arc::clone(stats);
    metrics.gather(metric::REQUEST_LATENCY, move || {
        let used = of_latency.snapshot().apis.into_iter().filter(|api| api.requests > 0);
        Reading::Histograms(used.map(|api| (vec![api.api.to_owned()], api_latency(&api))).collect())
    });
}

fn api_latency(api: &ApiSnapshot) -> HistogramReading {
    let bounds =
        server::LATENCY_BOUNDS_MICROSECONDS.iter().map(|bound| *bound as f64 / 1e6).chain([f64::MAX]);
    HistogramReading {
        sum: api.latency_sum_microseconds as f64 / 1e6,
        buckets: bounds.zip(api.latency.iter().copied()).collect(),
    }
}

/// Adds how many topics there are.
pub fn register_topics(metrics: &mut Metrics, topics: &Arc<TopicCatalog>) {
    let of_topics = Arc::clone(topics);
    metrics.value(metric::TOPICS, move || of_topics.counts().0 as f64);
    let of_partitions = Arc::clone(topics);
    metrics.value(metric::PARTITIONS, move || of_partitions.counts().1 as f64);
}

/// Adds the write path's metrics.
pub fn register_produce(metrics: &mut Metrics, produce: &Arc<Produce>) {
    let count = |metrics: &mut Metrics, definition, pick: fn(&ProduceStats) -> &AtomicU64| {
        let produce = Arc::clone(produce);
        metrics.value(definition, move || pick(produce.stats()).load(Ordering::Relaxed) as f64);
    };
    count(metrics, metric::FLUSHES, |stats| &stats.flushes);
    count(metrics, metric::FLUSHED, |stats| &stats.flushed_bytes);
    count(metrics, metric::FLUSHES_FAILED, |stats| &stats.failed_objects);
    count(metrics, metric::RECORDS_APPENDED, |stats| &stats.appended_records);
    count(metrics, metric::COMMITS, |stats| &stats.commits);
    count(metrics, metric::COMMIT_RETRIES, |stats| &stats.commit_retries);
    count(metrics, metric::COMMIT_UNKNOWNS, |stats| &stats.commit_unknowns);
    let of_batches = Arc::clone(produce);
    metrics.gather(metric::BATCHES, move || {
        let stats = of_batches.stats();
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        labelled(vec![
            ("appended", read(&stats.appended_batches)),
            ("duplicate", read(&stats.duplicate_batches)),
            ("failed", read(&stats.failed_batches)),
        ])
    });
    let of_memory = Arc::clone(produce);
    metrics.value(metric::PRODUCE_MEMORY, move || of_memory.memory_used_bytes() as f64);
    let of_flight = Arc::clone(produce);
    metrics.value(metric::OBJECTS_IN_FLIGHT, move || of_flight.objects_in_flight() as f64);
}

/// Adds the read path's metrics.
pub fn register_fetch(metrics: &mut Metrics, fetch: &Arc<Fetch>) {
    let count = |metrics: &mut Metrics, definition, pick: fn(&FetchStats) -> &AtomicU64| {
        let fetch = Arc::clone(fetch);
        metrics.value(definition, move || pick(fetch.stats()).load(Ordering::Relaxed) as f64);
    };
    count(metrics, metric::FETCHES, |stats| &stats.fetches);
    count(metrics, metric::FETCHED, |stats| &stats.bytes);
    count(metrics, metric::FETCH_WAITS, |stats| &stats.waits);
    count(metrics, metric::FETCH_WAKES, |stats| &stats.wakes);
    count(metrics, metric::FETCH_RELOOKS, |stats| &stats.relooks);
}

/// Adds the metrics of incremental fetch sessions.
pub fn register_sessions(metrics: &mut Metrics, broker: &Arc<Broker>) {
    let read = |metrics: &mut Metrics, definition, read: fn(&FetchSessions) -> u64| {
        let broker = Arc::clone(broker);
        metrics.value(definition, move || read(&broker.sessions.lock()) as f64);
    };
    read(metrics, metric::FETCH_SESSIONS, |sessions| sessions.len() as u64);
    read(metrics, metric::FETCH_SESSION_PARTITIONS, |sessions| sessions.partitions() as u64);
    read(metrics, metric::FETCH_SESSION_EVICTIONS, FetchSessions::evictions);
}

/// Adds the metrics of consumer groups.
pub fn register_groups(metrics: &mut Metrics, groups: &Arc<GroupCoordinator>) {
    let by_state = Arc::clone(groups);
    metrics.gather(metric::GROUPS, move || {
        let groups = by_state.stats().groups;
        labelled(groups.into_iter().map(|(state, count)| (state.name(), count)).collect())
    });
    let of_members = Arc::clone(groups);
    metrics.value(metric::GROUP_MEMBERS, move || of_members.stats().members as f64);
    let of_rebalances = Arc::clone(groups);
    metrics.value(metric::GROUP_REBALANCES, move || of_rebalances.stats().rebalances as f64);
}

/// Adds the metrics of the cluster's membership.
pub fn register_cluster(metrics: &mut Metrics, cluster: &Arc<Cluster>) {
    let of_agents = Arc::clone(cluster);
    metrics.gather(metric::CLUSTER_AGENTS, move || {
        let membership = of_agents.membership();
        let phases = [Phase::Starting, Phase::Serving, Phase::Draining].map(|phase| {
            (phase.word(), membership.all().iter().filter(|member| member.phase == phase).count() as u64)
        });
        labelled(phases.into())
    });
    let of_lease = Arc::clone(cluster);
    metrics.value(metric::LEASE_LEFT, move || of_lease.lease_left().as_secs_f64());
}

/// Adds the metrics of the seal.
pub fn register_seal(metrics: &mut Metrics, sealer: &Arc<Sealer>) {
    let count = |metrics: &mut Metrics, definition, pick: fn(&SealStats) -> &AtomicU64| {
        let sealer = Arc::clone(sealer);
        metrics.value(definition, move || pick(sealer.stats()).load(Ordering::Relaxed) as f64);
    };
    count(metrics, metric::SEALS, |stats| &stats.seals);
    count(metrics, metric::SEALED_ROWS, |stats| &stats.rows);
    count(metrics, metric::SEALED_VALUES, |stats| &stats.values);
    count(metrics, metric::SEAL_FAILURES, |stats| &stats.failures);
    let of_time = Arc::clone(sealer);
    metrics.value(metric::SEAL_SECONDS, move || {
        of_time.stats().microseconds.load(Ordering::Relaxed) as f64 / 1e6
    });
    let of_partitions = Arc::clone(sealer);
    metrics.value(metric::SEAL_BACKLOG_PARTITIONS, move || of_partitions.unsealed().0 as f64);
    let of_rows = Arc::clone(sealer);
    metrics.value(metric::SEAL_BACKLOG_ROWS, move || of_rows.unsealed().1 as f64);
}

/// Adds the metrics of checkpoints.
pub fn register_checkpoints(metrics: &mut Metrics, checkpoints: &Arc<Checkpoints>) {
    let count = |metrics: &mut Metrics, definition, pick: fn(&CheckpointStats) -> &AtomicU64| {
        let checkpoints = Arc::clone(checkpoints);
        metrics.value(definition, move || pick(checkpoints.stats()).load(Ordering::Relaxed) as f64);
    };
    count(metrics, metric::CHECKPOINTS, |stats| &stats.written);
    count(metrics, metric::CHECKPOINT_OBJECTS, |stats| &stats.objects);
    count(metrics, metric::CHECKPOINT_BYTES, |stats| &stats.bytes);
    count(metrics, metric::CHECKPOINT_DELETES, |stats| &stats.deleted);
    count(metrics, metric::CHECKPOINT_FAILURES, |stats| &stats.failures);
    count(metrics, metric::CHECKPOINT_BACKLOG, |stats| &stats.behind);
}

/// Adds the metrics of producer expiry.
pub fn register_producer_expiry(metrics: &mut Metrics, expiry: &Arc<ProducerExpiry>) {
    let of_states = Arc::clone(expiry);
    metrics.value(metric::PRODUCER_STATES, move || of_states.stats().states.load(Ordering::Relaxed) as f64);
    let of_removed = Arc::clone(expiry);
    metrics.value(metric::PRODUCER_STATES_EXPIRED, move || {
        of_removed.stats().removed.load(Ordering::Relaxed) as f64
    });
}

/// Adds the metrics of retention.
pub fn register_retention(metrics: &mut Metrics, retention: &Arc<Retention>) {
    let count = |metrics: &mut Metrics, definition, pick: fn(&RetentionStats) -> &AtomicU64| {
        let retention = Arc::clone(retention);
        metrics.value(definition, move || pick(retention.stats()).load(Ordering::Relaxed) as f64);
    };
    count(metrics, metric::RETENTION_BATCHES, |stats| &stats.batches);
    count(metrics, metric::RETENTION_BYTES, |stats| &stats.bytes);
    count(metrics, metric::RETENTION_TRIMMED, |stats| &stats.trimmed);
    count(metrics, metric::RETENTION_ROUNDS, |stats| &stats.rounds);
    count(metrics, metric::RETENTION_FAILURES, |stats| &stats.failures);
    count(metrics, metric::RETENTION_WAITS_FOR_CLOCK, |stats| &stats.waits_for_clock);
    count(metrics, metric::RETENTION_CLOCKS_APART, |stats| &stats.clocks_apart_ms);
}

/// Adds the metrics of the jobs that delete from the bucket.
pub fn register_collection(metrics: &mut Metrics, collector: &Arc<Collector>, sweeper: &Arc<Sweeper>) {
    let collected = |metrics: &mut Metrics, definition, pick: fn(&CollectorStats) -> &AtomicU64| {
        let collector = Arc::clone(collector);
        metrics.value(definition, move || pick(collector.stats()).load(Ordering::Relaxed) as f64);
    };
    collected(metrics, metric::COLLECTED_OBJECTS, |stats| &stats.objects);
    collected(metrics, metric::COLLECTED_BYTES, |stats| &stats.bytes);
    collected(metrics, metric::BURIED_OBJECTS, |stats| &stats.buried);
    collected(metrics, metric::BURIAL_CONTRADICTIONS, |stats| &stats.contradictions);
    collected(metrics, metric::COLLECTED_TOPICS, |stats| &stats.topics);
    collected(metrics, metric::COLLECTION_FAILURES, |stats| &stats.failures);
    let swept = |metrics: &mut Metrics, definition, pick: fn(&SweeperStats) -> &AtomicU64| {
        let sweeper = Arc::clone(sweeper);
        metrics.value(definition, move || pick(sweeper.stats()).load(Ordering::Relaxed) as f64);
    };
    swept(metrics, metric::SWEEPS, |stats| &stats.rounds);
    swept(metrics, metric::SWEPT_OBJECTS, |stats| &stats.deleted);
    swept(metrics, metric::SWEPT_ROWS, |stats| &stats.rows);
    swept(metrics, metric::SWEEP_FOREIGN, |stats| &stats.foreign);
    swept(metrics, metric::SWEEP_FAILURES, |stats| &stats.failures);
}

/// Adds the metrics of merging.
pub fn register_merge(metrics: &mut Metrics, merge: &Arc<Merge>) {
    let count = |metrics: &mut Metrics, definition, pick: fn(&MergeStats) -> &AtomicU64| {
        let merge = Arc::clone(merge);
        metrics.value(definition, move || pick(merge.stats()).load(Ordering::Relaxed) as f64);
    };
    count(metrics, metric::MERGE_UNITS, |stats| &stats.units);
    count(metrics, metric::MERGE_INPUTS, |stats| &stats.inputs);
    count(metrics, metric::MERGE_READ_BYTES, |stats| &stats.read_bytes);
    count(metrics, metric::MERGE_GETS, |stats| &stats.gets);
    count(metrics, metric::MERGE_OUTPUTS, |stats| &stats.outputs);
    count(metrics, metric::MERGE_WRITTEN_BYTES, |stats| &stats.written_bytes);
    count(metrics, metric::MERGE_BATCHES, |stats| &stats.batches);
    count(metrics, metric::MERGE_JOINED, |stats| &stats.joined);
    count(metrics, metric::MERGE_UNREADABLE, |stats| &stats.unreadable);
    count(metrics, metric::MERGE_GIVEN_UP, |stats| &stats.given_up);
    count(metrics, metric::MERGE_FAILURES, |stats| &stats.failures);
    count(metrics, metric::MERGE_WAITING_UNITS, |stats| &stats.waiting_units);
    count(metrics, metric::MERGE_WAITING_BYTES, |stats| &stats.waiting_bytes);
    count(metrics, metric::MERGE_WAITING_SECONDS, |stats| &stats.waiting_seconds);
    count(metrics, metric::MERGE_QUEUE_SECONDS, |stats| &stats.queue_seconds);
}

/// Adds the metrics of log compaction.
pub fn register_compaction(metrics: &mut Metrics, compaction: &Arc<Compaction>) {
    let count = |metrics: &mut Metrics, definition, pick: fn(&CompactionStats) -> &AtomicU64| {
        let compaction = Arc::clone(compaction);
        metrics.value(definition, move || pick(compaction.stats()).load(Ordering::Relaxed) as f64);
    };
    count(metrics, metric::COMPACTION_RUNS, |stats| &stats.runs);
    count(metrics, metric::COMPACTION_BATCHES, |stats| &stats.batches);
    count(metrics, metric::COMPACTION_RECORDS, |stats| &stats.records);
    count(metrics, metric::COMPACTION_READ_BYTES, |stats| &stats.read_bytes);
    count(metrics, metric::COMPACTION_GETS, |stats| &stats.gets);
    count(metrics, metric::COMPACTION_DROPPED, |stats| &stats.dropped);
    count(metrics, metric::COMPACTION_TOMBSTONES, |stats| &stats.tombstones);
    count(metrics, metric::COMPACTION_REWRITTEN, |stats| &stats.rewritten);
    count(metrics, metric::COMPACTION_COPIED, |stats| &stats.copied);
    count(metrics, metric::COMPACTION_GONE, |stats| &stats.gone);
    count(metrics, metric::COMPACTION_OUTPUTS, |stats| &stats.outputs);
    count(metrics, metric::COMPACTION_WRITTEN_BYTES, |stats| &stats.written_bytes);
    count(metrics, metric::COMPACTION_GIVEN_UP, |stats| &stats.given_up);
    count(metrics, metric::COMPACTION_MAP_FULL, |stats| &stats.map_full);
    count(metrics, metric::COMPACTION_FAILURES, |stats| &stats.failures);
    count(metrics, metric::COMPACTION_UNREADABLE, |stats| &stats.unreadable);
    count(metrics, metric::COMPACTION_WAITS_FOR_CLOCK, |stats| &stats.waits_for_clock);
    count(metrics, metric::COMPACTION_DUE_PARTITIONS, |stats| &stats.due_partitions);
    count(metrics, metric::COMPACTION_DIRTY_BYTES, |stats| &stats.dirty_bytes);
    count(metrics, metric::COMPACTION_OVERDUE_SECONDS, |stats| &stats.overdue_seconds);
    let compaction = Arc::clone(compaction);
    metrics.value(metric::COMPACTION_MAX_DIRTY_RATIO, move || {
        compaction.stats().max_dirty_per_mille.load(Ordering::Relaxed) as f64 / 1_000.0
    });
}

/// Adds the metrics of the embedded metadata store; without one they have no values.
pub fn register_store(metrics: &mut Metrics, store: Option<&Arc<EmbeddedStore>>) {
    let read = |metrics: &mut Metrics, definition, read: fn(&EmbeddedStats) -> Reading| {
        let store = store.map(Arc::downgrade);
        metrics.gather(definition, move || {
            // Metrics may outlive the store, and must not keep its directory locked.
            let store = store.as_ref().and_then(Weak::upgrade);
            store.map_or(Reading::Labelled(Vec::new()), |store| read(&store.stats()))
        });
    };
    read(metrics, metric::STORE_COMMITS, |now| {
        labelled(vec![("committed", now.commits), ("refused", now.refused)])
    });
    read(metrics, metric::STORE_GROUP_COMMITS, |now| {
        let bounds = GROUP_SIZES.iter().map(|most| *most as f64).chain([f64::MAX]);
        let buckets = bounds.zip(now.group_sizes).collect();
        let sum = (now.commits + now.refused) as f64;
        Reading::Histograms(vec![(Vec::new(), HistogramReading { sum, buckets })])
    });
    read(metrics, metric::STORE_FSYNCS, |now| Reading::Value(now.fsyncs as f64));
    read(metrics, metric::STORE_WRITE_SECONDS, |now| Reading::Value(now.write_microseconds as f64 / 1e6));
    read(metrics, metric::STORE_ROWS, |now| Reading::Value(now.rows as f64));
    read(metrics, metric::STORE_BYTES, |now| Reading::Value(now.bytes as f64));
    read(metrics, metric::STORE_QUEUED, |now| Reading::Value(now.queued as f64));
    read(metrics, metric::STORE_DISK, |now| Reading::Value(now.bytes_on_disk as f64));
}

/// Adds the cache's metrics.
pub fn register_cache(metrics: &mut Metrics, cache: &Arc<Cache>) {
    let read = |metrics: &mut Metrics, definition, pick: fn(&CacheStatsSnapshot) -> u64| {
        let cache = Arc::clone(cache);
        metrics.value(definition, move || pick(&cache.stats()) as f64);
    };
    read(metrics, metric::CACHE_SERVED, |now| now.served_bytes);
    read(metrics, metric::CACHE_LOADED, |now| now.loaded_bytes);
    read(metrics, metric::CACHE_LOADS, |now| now.loads);
    read(metrics, metric::CACHE_READAHEAD, |now| now.readahead_loads);
    read(metrics, metric::CACHE_LOAD_FAILURES, |now| now.load_failures);
    read(metrics, metric::CACHE_EVICTIONS, |now| now.evictions);
    read(metrics, metric::CACHE_HELD, |now| now.held_bytes);
    let of_lookups = Arc::clone(cache);
    metrics.gather(metric::CACHE_LOOKUPS, move || {
        let now = of_lookups.stats();
        labelled(vec![("hit", now.hits), ("miss", now.misses)])
    });
}
